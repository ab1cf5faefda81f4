"""Bytes with one scale per row."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from seedlm.golden.codecs import Codec, codec

CODECS = [codec("int8")]
FRACTION_BITS = 30


def corner_words(kind: Codec) -> np.ndarray:
    """-128 never comes out of the encoder; it is computed like any other byte."""
    return np.array([0, 1, -1, 63, 64, -64, 126, 127, -127, -128], dtype=np.int8)


def largest_row(kind: Codec, count: int) -> list[int]:
    return [-128] * count


def terms(kind: Codec, row: list[int]) -> list[tuple[int, int]]:
    return [(n, 0) for n in row]


def weights(kind: Codec, row: list[int], bias: int = 0) -> list[Fraction]:
    return [Fraction(n) for n in row]


def default_scale(kind: Codec, bias: int = 0) -> int:
    raise AssertionError("has row scales")
