"""Seeds, exponents and coefficients."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from seedlm.golden.codecs import codec
from seedlm.golden.codecs.seed import SeedCodec, pack
from tests import oracle

CODECS = [
    codec(name)
    for name in ("seedlm4", "seedlm3", "seedlm4r", "seedlm3r", "c8p4k16b4", "c8p3k20b0", "c5p3k7b2r", "c3p2k2b1",
                 "c64p8k24b4", "c16p8k24b4r", "c1p1k24b3")
]  # fmt: skip
FRACTION_BITS = 38


def corner_words(kind: SeedCodec) -> np.ndarray:
    """Extreme fields; seed 0 with coefficients, the zero word and the word of ones are among them."""
    out = [0, (1 << kind.word_bits) - 1]
    for seed in (0, 1, 1 << (kind.K - 1), kind.seeds, 0x5555555 & kind.seeds):
        for exponent in {kind.exponent_min, 0, kind.exponent_max}:
            for q in ([-8] * kind.P, [7] * kind.P, [(-8, 7)[p % 2] for p in range(kind.P)], [0] * kind.P):
                out.append(int(pack(kind, seed, exponent, q)))
    return np.array(out, dtype=np.uint64)


def largest_row(kind: SeedCodec, count: int) -> list[int]:
    """Seed 0 makes V = 0; all coefficients -8, the largest exponent."""
    word = (0x88888888 << (kind.K + kind.B)) & ((1 << kind.word_bits) - 1)
    return [word | (kind.exponent_max & ((1 << kind.B) - 1)) << kind.K] * count


def terms(kind: SeedCodec, row: list[int]) -> list[tuple[int, int]]:
    blocks = [oracle.block(word, kind.C, kind.P, kind.K, kind.B) for word in row]
    return [(n, e + 8) for weights, e in blocks for n in weights]


def weights(kind: SeedCodec, row: list[int], bias: int = 0) -> list[Fraction]:
    if not kind.row_scales:
        return [w for word in row for w in oracle.block_weights(word, kind.C, kind.P, kind.K, kind.B, bias)]
    one = 0x3F800000
    return [w for word in row for w in oracle.scaled_block_weights(word, kind.C, kind.P, kind.K, kind.B, one)]


def default_scale(kind: SeedCodec, bias: int = 0) -> int:
    return oracle.default_scale(kind.K, bias)
