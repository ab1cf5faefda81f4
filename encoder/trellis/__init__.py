"""The encoder of trellis codecs: the best path by the Viterbi algorithm, and the row scale around it.

- `problem`: targets and costs as integers, what every engine computes
- `numpy_engine`: the reference
- `vectors`, `kernels`, `numba_engine`: the same compiled, 16 rows in the lanes of a vector register
- `rows`: the row scale
"""
