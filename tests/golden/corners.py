"""Random and corner inputs for every codec, shared by the tests of `golden`."""

import numpy as np

from seedlm.golden.codecs import Codec
from seedlm.golden.matrix import PackedMatrix
from tests.families import corner_rows, float16


def corner_matrix(kind: Codec, rows: int, cols: int, rng: np.random.Generator) -> PackedMatrix:
    """A matrix of corner words; the scales include zeros, subnormal numbers and the largest."""
    matrix = PackedMatrix.random(kind, rows, cols, rng)
    matrix.words = corner_rows(kind, rows, cols, rng)
    if kind.row_scales:
        bits = [0x00000000, 0x80000000, 0x00000001, 0x807FFFFF, 0x00800000, 0x3F800001, 0xBF7FFFFF, 0x7F7FFFFF]
        matrix.scales = np.resize(np.array(bits, dtype=np.uint32), rows).view(np.float32)
    return matrix


def random_halves(n: int, rng: np.random.Generator) -> np.ndarray:
    """Finite binary16 of any exponent, as float16 [n]."""
    bits = rng.integers(0, 1 << 16, n, dtype=np.uint16)
    bits[bits & 0x7C00 == 0x7C00] ^= 0x4000
    return bits.view(np.float16)


def corner_vectors(n: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Activation vectors, float16 [n]."""
    ulp_ties = np.array([0x7800, 0x3C01, 0x3C03, 0x3801, 0x3803, 0x0001, 0x03FF, 0xBC01], dtype=np.uint16)
    vectors = [
        np.zeros(n, dtype=np.uint16),
        np.full(n, 0x8000, dtype=np.uint16),
        np.full(n, 0x0001, dtype=np.uint16),
        np.full(n, 0x7BFF, dtype=np.uint16),
        np.full(n, 0xFBFF, dtype=np.uint16),
        np.resize(ulp_ties, n),
        rng.choice(float16.corner_words(None), n),
        rng.standard_normal(n).astype(np.float16).view(np.uint16),
        random_halves(n, rng).view(np.uint16),
    ]
    return [v.view(np.float16) for v in vectors]


def bits32(values: np.ndarray) -> list[int]:
    """Binary32 values as unsigned integers, for comparisons that see the sign of a zero."""
    values = np.ascontiguousarray(values)
    assert values.dtype == np.float32
    return values.view(np.uint32).tolist()
