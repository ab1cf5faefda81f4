"""Codec families that exist in tests only: they use what no family of the project uses (yet).

``enter`` puts their decoders into the registry; a simulator's process needs the codecs alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from amaranth.hdl import Cat, Module, Signal

from seedlm.golden.codecs.integer import IntegerCodec
from seedlm.hdl import decoders
from seedlm.hdl.decoders import WeightDecoder
from seedlm.hdl.decoders._base import WordPart
from seedlm.hdl.delay import delay, register

__all__ = ["DelayedCodec", "ShiftedCodec", "dummy", "enter", "terms"]


@dataclass(frozen=True, kw_only=True)
class DelayedCodec(IntegerCodec):
    """A weight is its byte XOR the byte four columns before, 0 in the row's first word."""

    family: ClassVar[str] = "delayed"
    row_scales: bool = False
    latency: int

    def integers(self, words: np.ndarray, cols: int) -> tuple[np.ndarray, int]:
        before = np.zeros_like(words)
        before[:, 4:] = words[:, :-4]
        return (words ^ before).astype(np.int64), 0


class DelayedDecoder(WeightDecoder):
    """Any latency; the upper half of the word comes later; keeps the word before."""

    columns = 4
    weight_bits = 8
    keeps_state = True

    @property
    def latency(self) -> int:
        return self.codec.latency

    @property
    def word_parts(self) -> tuple[WordPart, ...]:
        return WordPart("low", slice(0, 16)), WordPart("high", slice(16, 32), min(3, self.latency - 1))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        valid, first = self.valid, self.first
        weights = []
        for n, part in enumerate(self.word_parts):
            now = getattr(self, part.name)
            late_valid = delay(m, valid, part.phase, f"valid{n}")
            late_first = delay(m, first, part.phase, f"first{n}")
            before = Signal(16, name=f"before{n}")
            with m.If(late_valid):
                m.d.sync += before.eq(now)
            weights.append(delay(m, now ^ (before & ~late_first.replicate(16)), self.latency - part.phase, f"w{n}"))
        m.d.comb += self.weights.as_value().eq(Cat(weights))
        return m


@dataclass(frozen=True, kw_only=True)
class ShiftedCodec(IntegerCodec):
    """A byte is an integer of five bits and, above it, a shift of three."""

    family: ClassVar[str] = "shifted"
    row_scales: bool = False
    columns: int = 4

    @property
    def word_bits(self) -> int:
        return 8 * self.columns

    @property
    def step_columns(self) -> int:
        return self.columns

    @property
    def group(self) -> int:
        return self.columns

    @property
    def weight_max(self) -> int:
        return 16

    @property
    def weight_bits(self) -> int:
        return 5

    @property
    def column_shift_max(self) -> int:
        return 7


class ShiftedDecoder(WeightDecoder):
    latency = 2
    weight_bits = 5
    max_shift = 7
    shift_per_column = True

    @property
    def columns(self) -> int:
        return self.codec.columns

    def elaborate(self, platform: object) -> Module:
        m = Module()
        word = register(m, register(m, self.word, "word1"), "word2")
        for n in range(self.columns):
            m.d.comb += [self.weights[n].eq(word[8 * n : 8 * n + 5]), self.shift[n].eq(word[8 * n + 5 : 8 * n + 8])]
        return m


def dummy(name: str) -> DelayedCodec | ShiftedCodec | None:
    """The codec called ``delayed<latency>`` or ``shifted<columns>``, None for other names."""
    for kind, field in ((DelayedCodec, "latency"), (ShiftedCodec, "columns")):
        if name.startswith(kind.family):
            return kind(name=name, **{field: int(name.removeprefix(kind.family))})
    return None


def terms(kind: DelayedCodec | ShiftedCodec, row: list[int]) -> list[tuple[int, int]]:
    """(N, shift) of every weight of a row, as in `tests.families`."""
    if isinstance(kind, ShiftedCodec):
        return [((n & 31) - 2 * (n & 16), n >> 5 & 7) for n in row]
    return [(n ^ before, 0) for n, before in zip(row, [0] * 4 + row, strict=False)]


def enter() -> None:
    """Enter the decoders, for the rest of this process."""
    decoders.DECODERS |= {"delayed": DelayedDecoder, "shifted": ShiftedDecoder}
