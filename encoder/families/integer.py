"""The encoder of the family `integer`: rows rounded to multiples of one scale."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from seedlm.encoder.families._base import Encoder
from seedlm.encoder.feedback.factor import Feedback
from seedlm.encoder.feedback.rows import code_blocks
from seedlm.golden.codecs import Codec

__all__ = ["ENCODER"]

LIMIT = 127
# The scales that are tried, in parts of the one with which the row's largest weight is 127. With smaller ones that
# weight is clipped, which pays where it stands alone; and among many some suit the row better by chance.
FACTORS = tuple(k / 32 for k in range(32, 7, -1))
HOPELESS = 4  # times the best error: clipping more will not make up for it
SMALLEST_SCALE = 2.0**-149  # of binary32


class IntegerEncoder(Encoder):
    """The best of a few scales for each row, each followed by the one that suits its integers best."""

    family: ClassVar[str] = "integer"

    def limit(self, codec: Codec, bias: int) -> float:
        return np.inf

    def feedback_block(self, codec: Codec) -> int:
        return 1

    def encode(self, w, codec, method, *, bias=0, importance=None, feedback=None, engine="auto", threads=None):
        words, scales = np.zeros(w.shape, np.int8), np.ones(len(w), np.float32)
        importance = self.check_importance(importance, w.shape[1])
        counts = slice(None) if importance is None else importance > 0
        for r, row in enumerate(w):
            row = row.astype(np.float64)
            largest = np.abs(row[counts]).max(initial=0)
            if largest > 0:
                words[r], scales[r] = _encode_row(row, largest / LIMIT, importance)
        return (words if feedback is None else _fed_words(w, scales, feedback, engine)), scales


def _encode_row(row: np.ndarray, scale: float, importance: np.ndarray | None) -> tuple[np.ndarray, np.float32]:
    """The integers, float64 [cols], and the scale of one row, for `scale` and the smaller ones of `FACTORS`."""
    best, result = np.inf, (row, np.float32(1))
    near_1 = -int(np.frexp(scale)[1])  # a power of two with which no square leaves the range of binary64
    row = np.ldexp(row, near_1)
    for factor in FACTORS:
        wanted = scale * factor
        for _ in range(2):
            binary32 = np.float32(max(wanted, SMALLEST_SCALE))
            unit = np.ldexp(np.float64(binary32), near_1)
            n = np.clip(np.rint(row / unit), -LIMIT, LIMIT)
            error = _product(row - n * unit, row - n * unit, importance)
            if error < best:
                best, result = error, (n, binary32)
            energy = _product(n, n, importance)
            if error > HOPELESS * best or not energy > 0:
                break
            wanted = np.ldexp(_product(n, row, importance) / energy, -near_1)  # least squares for these integers
        if error > HOPELESS * best:
            break
    return result


def _fed_words(w: np.ndarray, scales: np.ndarray, feedback: Feedback, engine: str) -> np.ndarray:
    """The integers for scales that stay, int8 [rows, cols]; every column takes the errors of those before it."""
    words, units = np.empty(w.shape, np.int8), scales.astype(np.float64)[:, None]

    def code(first: int, last: int, targets: np.ndarray) -> np.ndarray:
        words[:, first:last] = np.clip(np.rint(targets / units), -LIMIT, LIMIT)
        return words[:, first:last] * units

    code_blocks(w.astype(np.float64), feedback, code, engine)
    return words


def _product(a: np.ndarray, b: np.ndarray, importance: np.ndarray | None) -> float:
    return np.add.reduce(a * b if importance is None else a * b * importance)


ENCODER = IntegerEncoder()
