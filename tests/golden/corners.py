"""Random and corner inputs for every codec, shared by the tests of `golden`."""

import numpy as np

from seedlm.golden.build import Codec, codec
from seedlm.golden.codecs.seed import pack
from seedlm.golden.matrix import PackedMatrix

SEED_CODECS = [
    codec(name)
    for name in ("seedlm4", "seedlm3", "seedlm4r", "seedlm3r", "c8p4k16b4", "c8p3k20b0", "c5p3k7b2r", "c3p2k2b1",
                 "c64p8k24b4", "c16p8k24b4r", "c1p1k24b3")
]  # fmt: skip
CODECS = [*SEED_CODECS, codec("fp16")]

# +-0, the smallest and largest subnormal numbers, the smallest normal one, 1 and its neighbours, the largest.
CORNER_HALVES = [0x0000, 0x0001, 0x0002, 0x03FF, 0x0400, 0x0401, 0x3BFF, 0x3C00, 0x3C01, 0x7BFF]
CORNER_HALVES = np.array(CORNER_HALVES + [h | 0x8000 for h in CORNER_HALVES], dtype=np.uint16)


def corner_words(kind: Codec) -> np.ndarray:
    """Words of every combination of extreme fields, seed 0 with coefficients and the zero word included."""
    out = [0, (1 << kind.word_bits) - 1]
    for seed in (0, 1, 1 << (kind.K - 1), kind.seeds, 0x5555555 & kind.seeds):
        for exponent in {kind.exponent_min, 0, kind.exponent_max}:
            for q in ([-8] * kind.P, [7] * kind.P, [(-8, 7)[p % 2] for p in range(kind.P)], [0] * kind.P):
                out.append(int(pack(kind, seed, exponent, q)))
    return np.array(out, dtype=np.uint64)


def corner_matrix(kind: Codec, rows: int, cols: int, rng: np.random.Generator) -> PackedMatrix:
    """A matrix of corner words (or halves); the scales include zeros, subnormal numbers and the largest."""
    matrix = PackedMatrix.random(kind, rows, cols, rng)
    choice = CORNER_HALVES if kind.is_fp16 else corner_words(kind)
    matrix.words = rng.choice(choice, matrix.words.shape)
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
        rng.choice(CORNER_HALVES, n),
        rng.standard_normal(n).astype(np.float16).view(np.uint16),
        random_halves(n, rng).view(np.uint16),
    ]
    return [v.view(np.float16) for v in vectors]


def bits32(values: np.ndarray) -> list[int]:
    """Binary32 values as unsigned integers, for comparisons that see the sign of a zero."""
    values = np.ascontiguousarray(values)
    assert values.dtype == np.float32
    return values.view(np.uint32).tolist()
