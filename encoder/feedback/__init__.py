"""Error feedback: what was lost in the columns on the left of a row is made good on the right.

A layer whose input has the second moments H loses e H e^T of a row's output by the error e of its weights. With H =
M D M^T, M unit upper triangular and D diagonal, in blocks of columns that are coded together,

    e H e^T = sum over the blocks k of a_k D_k a_k^T,    a_k = (e M)_k = e_k + sum over j < k of e_j M_jk.

So block k, coded after those on its left whose errors are known, loses least if its words stand for the target

    w_k + sum over j < k of (w_j - w'_j) M_jk

in the measure D_k: the Schur complement of H, which is what remains of an error when all blocks on the right are free
to make good for it. Within a block only the diagonal of D_k can count.

- `factor`: M and D from H, in an order of operations that is the same everywhere
- `kernels`: the same compiled, and the sums over j
- `rows`: rows whose blocks are searched one after the other, by any function that codes a block
"""
