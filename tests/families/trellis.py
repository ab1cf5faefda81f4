"""Paths through a trellis. The tables are data of the contract, read anew."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np

from seedlm.golden.codecs import Codec, codec

NAMES = ("trellis4", "trellis3", "trellis2", "trellis5", "trellis6", "trellis4x16", "trellis3x8")
CODECS = [codec(name) for name in NAMES]
FRACTION_BITS = 30
_TABLES = json.loads((Path(__file__).parents[2] / "golden" / "codecs" / "trellis.json").read_text())


def level(name: str, window: int) -> int:
    """N of a window, by the letter: parities, most significant first, and the mirrored half."""
    table = _TABLES[name]
    y = 0
    for mask in table["masks_msb_first"]:
        y = 2 * y + bin(window & mask).count("1") % 2
    upper = table["levels_upper_half"]
    half = len(upper)
    return upper[y - half] if y >= half else -upper[half - 1 - y]


def corner_words(kind: Codec) -> np.ndarray:
    return np.array([0, 1, (1 << kind.k) - 1, 1 << (kind.k - 1)], dtype=np.uint8)


def largest_row(kind: Codec, count: int) -> list[int]:
    """The window of the largest level again and again, as often as it fits."""
    k, L = _TABLES[kind.table]["bits"], _TABLES[kind.table]["window"]
    best = max(range(1 << L), key=lambda window: level(kind.table, window))
    length = -(-L // k)  # symbols that have a say; of the first perhaps its upper bits only
    symbols = [best << (k * length - L) >> (k * j) & ((1 << k) - 1) for j in range(length)]
    return (symbols * count)[-count:]


def terms(kind: Codec, row: list[int]) -> list[tuple[int, int]]:
    k, L = _TABLES[kind.table]["bits"], _TABLES[kind.table]["window"]
    stream = sum(symbol << k * j for j, symbol in enumerate(row)) << L  # L zero bits before the row
    return [(level(kind.table, stream >> (k * (j + 1)) & ((1 << L) - 1)), 0) for j in range(len(row))]


def weights(kind: Codec, row: list[int], bias: int = 0) -> list[Fraction]:
    return [Fraction(n) for n, _ in terms(kind, row)]


def default_scale(kind: Codec, bias: int = 0) -> int:
    raise AssertionError("has row scales")
