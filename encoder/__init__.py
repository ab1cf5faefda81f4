"""The encoder: from weights to words, exactly and fast.

Package map:

- `plan`, `job`: whole models: what is compressed with which codec; survey, encode, write
- `packed_model`: a model compressed once, for those that want one to run
- `families`: one encoder per codec family, found by itself
- `matrix`: whole matrices; checks, slices of rows
- `units`, `pool`, `cluster`: slices of rows as units of work, here, in processes, on a Dask cluster
- `calibration`: a file of second moments, tensor by tensor
- `feedback`: errors that later columns make good for: `factor` (M and D of second moments), `rows` (blocks from left to
  right), `vectors`, `kernels` (compiled)
- `loss`: what coding rows has cost: errors, weights beyond the range, rows that outliers spoil
- `workspace`: where finished units wait
- `engines`: names of the engines, whether the compiled one is meant, its lanes, processors
- `compiled`, `vectors`: what compiled searches share: the decorator, numbers in vector registers
- `seed`: the engines of the family `seed`
  - `geometry`: the matrices A(s), their orthonormal bases, least squares
  - `quantise`: exponent and coefficients from a least-squares solution
  - `problem`: what is searched and what was found; the reference error; the order of candidates
  - `lattice`: the globally best exponent and coefficients of a seed
  - `exhaustive`: the plain search, oracle and yardstick
  - `numpy_engine`: the exact search with a bound, NumPy only
  - `structure`, `vectors`, `kernels`, `numba_engine`: the exact search compiled, where numba is installed
  - `engines`: the engines behind one function
  - `rows`: rows of a matrix, importance, the search for row scales
- `trellis`: the engines of the family `trellis`: `problem` (integer costs), `numpy_engine` (the reference),
  `vectors`, `kernels`, `numba_engine` (compiled), `rows` (scales), `train` (searches and checks tables), `pictures`
- `grouped`: the family `grouped`: `rounding` to elements, `search` for the scales of groups
- `block_float`: block floating point, a yardstick
"""

from seedlm.encoder.engines import ENGINES
from seedlm.encoder.families import METHODS
from seedlm.encoder.matrix import compress_matrix, relative_error
from seedlm.encoder.seed.rows import encode_blocks, encode_rows

__all__ = ["ENGINES", "METHODS", "compress_matrix", "encode_blocks", "encode_rows", "relative_error"]
