"""Bytes with one scale per row: for embeddings and output layers, and the worked example of docs/extending.md.

A weight is N * scale_r, N a two's complement byte, -127 to 127; A_r = sum over groups of (sum of N m) << (E_g + 14).
A byte of -128 never comes out of the encoder and a checker reports it; decoding, reference and RTL take it as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from seedlm.golden.codecs._base import Codec, Fault

__all__ = ["FAMILY", "IntegerCodec"]

ORDER = 20


@dataclass(frozen=True, kw_only=True)
class IntegerCodec(Codec):
    """Four weights to a word, the lowest column in the lowest byte; in memory int8 [rows, cols]."""

    family: ClassVar[str] = "integer"
    family_number: ClassVar[int] = 1
    established: ClassVar[bool] = True
    fraction_bits: ClassVar[int] = 30

    @classmethod
    def presets(cls) -> tuple[Codec, ...]:
        return (cls(name="int8"),)

    @property
    def word_bits(self) -> int:
        return 32

    @property
    def step_columns(self) -> int:
        return 4

    @property
    def group(self) -> int:
        return 8

    def row_bytes(self, cols: int) -> int:
        return cols

    @property
    def weight_max(self) -> int:
        """128: what a byte can hold, though 127 is the largest that is used."""
        return 128

    @property
    def weight_bits(self) -> int:
        return 8

    def largest(self, exp_bias: int = 0) -> float:
        return 127.0

    # --- words ----------------------------------------------------------------------------------------
    def words_layout(self, rows: int, cols: int) -> tuple[type, tuple[int, int]]:
        return np.int8, (rows, cols)

    def words_to_rows(self, words: np.ndarray, cols: int) -> np.ndarray:
        return np.ascontiguousarray(words).view(np.uint8)

    def rows_to_words(self, data: np.ndarray, cols: int) -> np.ndarray:
        return np.ascontiguousarray(data).view(np.int8)

    def fault(self, words: np.ndarray) -> Fault | None:
        return Fault(words == -128, "weights are -128", "column")

    def integers(self, words: np.ndarray, cols: int) -> tuple[np.ndarray, int]:
        return words.astype(np.int64), 0

    def values(self, words: np.ndarray, cols: int, exp_bias: int) -> np.ndarray:
        return words.astype(np.float64)

    def random_words(self, rows: int, cols: int, rng: np.random.Generator) -> np.ndarray:
        return rng.integers(-127, 128, (rows, cols), dtype=np.int8)

    @classmethod
    def from_register(cls, fields: Mapping[str, int]) -> Codec:
        return cls.presets()[0]


FAMILY = IntegerCodec
