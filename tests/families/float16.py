"""Binary16 weights."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from seedlm.golden.codecs import Codec, codec
from tests import oracle

CODECS = [codec("fp16")]
FRACTION_BITS = 54

# +-0, the smallest and largest subnormal numbers, the smallest normal one, 1 and its neighbours, the largest.
_HALVES = [0x0000, 0x0001, 0x0002, 0x03FF, 0x0400, 0x0401, 0x3BFF, 0x3C00, 0x3C01, 0x7BFF]


def corner_words(kind: Codec) -> np.ndarray:
    return np.array(_HALVES + [h | 0x8000 for h in _HALVES], dtype=np.uint16)


def largest_row(kind: Codec, count: int) -> list[int]:
    return [0x7BFF] * count


def terms(kind: Codec, row: list[int]) -> list[tuple[int, int]]:
    return [oracle.half_term(bits) for bits in row]


def weights(kind: Codec, row: list[int], bias: int = 0) -> list[Fraction]:
    return [oracle.binary16(bits) for bits in row]


def default_scale(kind: Codec, bias: int = 0) -> int:
    return 0x3F800000
