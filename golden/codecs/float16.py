"""The baseline: weights as IEEE binary16, on the same engine.

A weight is M * 2**z with an integer M (|M| < 2**11) and -24 <= z <= 5; A_r = sum of (M m) << (z + 24 + E_g + 14).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from seedlm.golden.codecs._base import Codec, Fault
from seedlm.golden.errors import SeedLMError

__all__ = ["FAMILY", "Float16Codec"]

ORDER = 10
EXPONENT = 0x7C00  # the exponent's bits; all set: an infinity or a NaN


@dataclass(frozen=True, kw_only=True)
class Float16Codec(Codec):
    """Two binary16 weights to a word, the lower column in the lower half; in memory uint16 [rows, cols]."""

    row_scales: bool = False

    family: ClassVar[str] = "float16"
    family_number: ClassVar[int] = 8
    established: ClassVar[bool] = True
    fraction_bits: ClassVar[int] = 54

    @classmethod
    def presets(cls) -> tuple[Codec, ...]:
        return (cls(name="fp16"),)

    @property
    def word_bits(self) -> int:
        return 32

    @property
    def step_columns(self) -> int:
        return 2

    @property
    def group(self) -> int:
        return 8

    def row_bytes(self, cols: int) -> int:
        return 2 * cols

    @property
    def weight_max(self) -> int:
        return (1 << 11) - 1

    @property
    def column_shift_max(self) -> int:
        """z + 24; the field 31 never comes from a checked file, and is one more exponent so that nothing overflows."""
        return 30

    def largest(self, exp_bias: int = 0) -> float:
        return 65504.0

    # --- words ----------------------------------------------------------------------------------------
    def words_layout(self, rows: int, cols: int) -> tuple[type, tuple[int, int]]:
        return np.uint16, (rows, cols)

    def words_to_rows(self, words: np.ndarray, cols: int) -> np.ndarray:
        return np.ascontiguousarray(words).astype("<u2", copy=False).view(np.uint8).reshape(len(words), -1)

    def rows_to_words(self, data: np.ndarray, cols: int) -> np.ndarray:
        return np.ascontiguousarray(data).view("<u2").astype(np.uint16, copy=False)

    def fault(self, words: np.ndarray) -> Fault | None:
        return Fault(words & EXPONENT == EXPONENT, "weights are NaN or infinite", "column")

    def integers(self, words: np.ndarray, cols: int) -> tuple[np.ndarray, int]:
        if (words & EXPONENT == EXPONENT).any():
            raise SeedLMError("binary16 weights must be finite, found NaN or infinity")
        return _half_integers()[words], 0

    def values(self, words: np.ndarray, cols: int, exp_bias: int) -> np.ndarray:
        return np.ascontiguousarray(words).view(np.float16).astype(np.float64)

    def random_words(self, rows: int, cols: int, rng: np.random.Generator) -> np.ndarray:
        words = rng.integers(0, 1 << 16, (rows, cols), dtype=np.uint16)
        self.mend(words.view(np.uint8))
        return words

    def mend(self, data: np.ndarray) -> None:
        halves = data.view(np.uint16)
        halves[halves & EXPONENT == EXPONENT] ^= 0x4000

    # --- the outside ----------------------------------------------------------------------------------
    def stored_name(self, name: str) -> str:
        """The tensor itself, as in any safetensors file."""
        return name

    @property
    def stored_dtype(self) -> str:
        return "F16"

    def stored_shape(self, rows: int, cols: int) -> tuple[int, int]:
        return rows, cols

    @classmethod
    def from_register(cls, fields: Mapping[str, int]) -> Codec:
        return cls.presets()[0]


FAMILY = Float16Codec


@lru_cache(maxsize=1)
def _half_integers() -> np.ndarray:
    """M << (z + 24) of every finite binary16, int64 [65536]: its value in units of 2**-24."""
    bits = np.arange(1 << 16)
    field = bits >> 10 & 31
    magnitude = (bits & 1023) + np.where(field > 0, 1024, 0) << np.maximum(field, 1) - 1
    return np.where(bits & 0x8000, -magnitude, magnitude)
