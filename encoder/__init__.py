"""The encoder: from weights to block words, exactly and fast.

Package map:

- `geometry`: the matrices A(s), their orthonormal bases, least squares
- `quantise`: exponent and coefficients from a least-squares solution
- `problem`: what is searched and what was found; the reference error; the order of candidates
- `lattice`: the globally best exponent and coefficients of a seed
- `exhaustive`: the plain search, oracle and yardstick
- `numpy_engine`: the exact search with a bound, NumPy only
- `structure`, `vectors`, `compiled`, `kernels`, `numba_engine`: the exact search compiled, where numba is installed
- `engines`: the engines behind one function
- `rows`: rows of a matrix, importance, the search for row scales
- `matrix`: whole matrices, exponent bias, binary16
"""

from seedlm.encoder.matrix import compress_matrix, encode_blocks, relative_error
from seedlm.encoder.seed.engines import ENGINES
from seedlm.encoder.seed.problem import ENCODERS
from seedlm.encoder.seed.rows import encode_rows

__all__ = ["ENCODERS", "ENGINES", "compress_matrix", "encode_blocks", "encode_rows", "relative_error"]
