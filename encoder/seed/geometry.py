"""The geometry of a block: integer matrices A(s) = V(s) - 2**(K-1), their bases, and least squares.

Everything here is elementary float64 arithmetic in a stated order, element by element over many
seeds at once: sums run over ascending indices and no library routine chooses an order of its own.
The results are therefore the same bits on every machine and in every engine.

Arrays have the seed (or the pair of a block and a seed) as their last axis: A and Q are [P, C, n],
R is [P, P, n], blocks are [C, n].
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from seedlm.golden.codecs.seed import SeedCodec
from seedlm.golden.lfsr import v_matrix, windows

__all__ = ["DEPENDENT", "FEW", "centred", "fit", "ordered_dot", "orthonormal", "project", "ranks"]

# A column whose part outside the span of the columns before it is smaller than this, relative to the
# column, counts as dependent: rounding leaves nothing of its direction.
DEPENDENT = 1e-10

# A column that keeps this share of its energy when the columns before it are taken out is orthogonal to
# them well enough; another is orthogonalised again.
ONCE = 0.01


# A block so short that fewer than one seed in this many can beat the zero block at all is evaluated for these
# alone: the energy share is no bound where every word is too long.
FEW = 16


def centred(codec: SeedCodec, seeds: np.ndarray) -> np.ndarray:
    """A(s) = V(s) - 2**(K-1) for n seeds: exact integers as float64 [P, C, n]."""
    out = np.empty((codec.P, codec.C, len(seeds)))
    states = windows(seeds, codec.K, codec.C * codec.P)
    for c in range(codec.C):
        for p in range(codec.P):
            out[p, c] = next(states) - (1 << (codec.K - 1))
    return out


def ordered_dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Sum over the first axis in ascending order."""
    total = a[0] * b[0]
    for c in range(1, len(a)):
        total += a[c] * b[c]
    return total


def orthonormal(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """QR decomposition of n matrices by modified Gram-Schmidt, columns orthogonalised again where it matters.

    Parameters
    ----------
    a : np.ndarray
        float64 [P, C, n]: column p of matrix i is ``a[p, :, i]``.

    Returns
    -------
    q : np.ndarray
        float64 [P, C, n], orthonormal columns; a dependent column (`DEPENDENT`) is 0.
    r : np.ndarray
        float64 [P, P, n], upper triangular; the diagonal of a dependent column is 0.
    """
    P, _, n = a.shape
    q = np.empty_like(a)
    r = np.zeros((P, P, n))
    for p in range(P):
        v = a[p].copy()
        own = ordered_dot(v, v)
        rest = own
        for again in range(2 if p else 0):
            doubtful = rest < ONCE * own if again else np.ones(n, bool)
            if not doubtful.any():
                break
            for k in range(p):
                part = ordered_dot(q[k], v) * doubtful
                v -= part * q[k]
                r[k, p] += part
            rest = ordered_dot(v, v)
        length = np.sqrt(rest)
        independent = length > DEPENDENT * np.sqrt(own)
        r[p, p] = np.where(independent, length, 0.0)
        np.divide(v, np.where(independent, length, 1.0), out=q[p])
        q[p] *= independent
    return q, r


def project(q: np.ndarray, w: np.ndarray) -> np.ndarray:
    """y = Q^T w: float64 [P, n]."""
    return np.stack([ordered_dot(q[p], w) for p in range(len(q))])


def fit(r: np.ndarray, y: np.ndarray) -> np.ndarray:
    """t with R t = y, by back-substitution: float64 [P, n]. A dependent column gets t = 0."""
    P = len(y)
    t = np.zeros_like(y)
    for p in range(P - 1, -1, -1):
        rest = y[p].copy()
        for k in range(p + 1, P):
            rest -= r[p, k] * t[k]
        independent = r[p, p] > 0
        np.divide(rest, r[p, p], out=t[p], where=independent)
    return t


def ranks(codec: SeedCodec, seeds: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The exact ranks of A(s), restricted to some of its rows: int64 [n].

    In integers, for the few seeds where float64 finds dependent columns: a basis with as many vectors as the
    exact rank spans the whole range, one with fewer lost a direction to rounding.

    Parameters
    ----------
    codec : SeedCodec
    seeds : np.ndarray
        int [n].
    rows : np.ndarray
        bool [C].
    """
    kept = tuple(np.flatnonzero(rows).tolist())
    return np.array([_rank(codec.C, codec.P, codec.K, int(s), kept) for s in seeds], dtype=np.int64)


@lru_cache(maxsize=1 << 16)
def _rank(C: int, P: int, K: int, seed: int, rows: tuple[int, ...]) -> int:
    v = v_matrix(seed, C, P, K) - (1 << (K - 1))
    matrix = [[int(x) for x in v[c]] for c in rows]
    rank = 0
    for p in range(P):
        pivot = next((i for i in range(rank, len(matrix)) if matrix[i][p]), None)
        if pivot is None:
            continue
        matrix[rank], matrix[pivot] = matrix[pivot], matrix[rank]
        top = matrix[rank]
        for i in range(rank + 1, len(matrix)):
            factor = matrix[i][p]
            matrix[i] = [x * top[p] - factor * y for x, y in zip(matrix[i], top, strict=True)]
        rank += 1
    return rank
