"""Trellis codecs: the stored bits themselves are shifted through a register, and a weight is a function of the last L.

A row's weights are k bits each, packed back to back, little endian: symbol j stands in bits [k j, k (j+1)) of the row.
Its window W_j is the L bits [k (j+1) - L, k (j+1)); bits before the row's start are 0. Of the window m parities are
taken, most significant first, y_j = parities of (W_j AND mask), and N_j = level[y_j], an odd integer with
level[2**m - 1 - y] = -level[y]. The weight is N_j * scale_r; A_r = sum over groups of (sum of N m) << (E_g + 14).

Every sequence of weights is a path through a trellis of 2**(L-k) states. The tables (masks and levels) are data:
`trellis.json`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np

from seedlm.golden.codecs._base import Codec, require
from seedlm.golden.errors import SeedLMError
from seedlm.golden.packing import from_bytes, row_bytes, to_bytes

__all__ = ["FAMILY", "TABLES", "Table", "TrellisCodec", "entries"]

ORDER = 5
COLUMNS = (8, 12, 16)  # that a build may take per step
_NAME = re.compile(r"(trellis\d)x(\d{1,2})")


@dataclass(frozen=True)
class Table:
    """What a window stands for.

    Parameters
    ----------
    bits : int
        k: stored bits of a weight.
    window : int
        L: bits that decide on a weight.
    masks : tuple of int
        The window's bits whose parities are the bits of y, most significant first.
    levels : tuple of int
        N for y in the upper half, 2**(m-1) .. 2**m - 1; the lower half is its negative, mirrored.
    unit : int
        N of one standard deviation, for which the levels were made; the encoder's business.
    """

    bits: int
    window: int
    masks: tuple[int, ...]
    levels: tuple[int, ...]
    unit: int = 64

    @property
    def states(self) -> int:
        """2**(L-k): what a path knows of its past."""
        return 1 << (self.window - self.bits)

    @property
    def all_levels(self) -> tuple[int, ...]:
        """N for every y."""
        return tuple(-level for level in reversed(self.levels)) + self.levels

    @property
    def outputs(self) -> np.ndarray:
        """y of every window, int64 [2**L]."""
        windows = np.arange(1 << self.window)
        y = np.zeros_like(windows)
        for mask in self.masks:
            parity = np.zeros_like(windows)
            for bit in range(self.window):
                if mask >> bit & 1:
                    parity ^= windows >> bit & 1
            y = y << 1 | parity
        return y

    def windows(self, symbols: np.ndarray) -> np.ndarray:
        """The window of every symbol of rows, uint8 [rows, cols] to int64."""
        symbols = symbols.astype(np.int64)
        out = symbols << self.window - self.bits
        for back in range(1, -(-self.window // self.bits)):
            shift = self.window - self.bits * (back + 1)
            before = symbols[:, :-back]
            out[:, back:] |= before << shift if shift >= 0 else before >> -shift
        return out

    @property
    def weights(self) -> np.ndarray:
        """N of every window, int64 [2**L]."""
        return _weights(self)


@lru_cache(maxsize=16)
def _weights(table: Table) -> np.ndarray:
    out = np.array(table.all_levels, dtype=np.int64)[table.outputs]
    out.flags.writeable = False
    return out


def entries() -> dict[str, dict]:
    """What `trellis.json` says of each table, the errors that were measured included."""
    return json.loads(Path(__file__).with_name("trellis.json").read_text(encoding="utf-8"))


TABLES: dict[str, Table] = {
    name: Table(e["bits"], e["window"], tuple(e["masks_msb_first"]), tuple(e["levels_upper_half"]), e["unit"])
    for name, e in entries().items()
}


@dataclass(frozen=True, kw_only=True)
class TrellisCodec(Codec):
    """k bits a weight through a table; in memory one symbol per weight, uint8 [rows, cols].

    Parameters
    ----------
    table : str
        Name in `TABLES`.
    columns : int
        C: columns that a lane takes per step. A choice of the build, not of the file; G is the same.
    """

    table: str
    columns: int

    family: ClassVar[str] = "trellis"
    family_number: ClassVar[int] = 2
    fraction_bits: ClassVar[int] = 30

    def __post_init__(self) -> None:
        require(self.columns in COLUMNS, f"columns of a step must be 8, 12 or 16, not {self.columns}")
        require(self.word_bits <= 64, f"a word may have 64 bits at most, not {self.word_bits}"
                f" ({self.columns} columns x {self.k} bits)")  # fmt: skip

    # --- the family -----------------------------------------------------------------------------------
    @classmethod
    def presets(cls) -> tuple[Codec, ...]:
        # So many columns that a step takes the memory at least a clock, and the multipliers are busy.
        columns = {4: 8, 3: 12, 2: 16}
        return tuple(
            cls(name=name, table=name, columns=columns.get(table.bits, 8)) for name, table in TABLES.items()
        )

    @classmethod
    def parse(cls, name: str) -> Codec | None:
        match = _NAME.fullmatch(name)
        if match is None or match[1] not in TABLES:
            return None
        return cls(name=name, table=match[1], columns=int(match[2]))

    def same_format(self, other: Codec) -> bool:
        """The columns of a step are the build's business."""
        return isinstance(other, TrellisCodec) and self.table == other.table

    def with_columns(self, columns: int) -> TrellisCodec:
        """The same format in a build that takes another number of columns per step."""
        return replace(self, columns=columns)

    def in_groups_of(self, group: int) -> TrellisCodec:
        """With as many columns per step as divide the group, if its own do not."""
        if group % self.columns == 0:
            return self
        fitting = [n for n in COLUMNS if group % n == 0 and n * self.k <= 64]
        return replace(self, name=f"{self.table}x{fitting[-1]}", columns=fitting[-1]) if fitting else self

    # --- sizes and numbers ----------------------------------------------------------------------------
    @property
    def definition(self) -> Table:
        return TABLES[self.table]

    @property
    def k(self) -> int:
        return self.definition.bits

    @property
    def word_bits(self) -> int:
        return self.columns * self.k

    @property
    def step_columns(self) -> int:
        return self.columns

    def row_bytes(self, cols: int) -> int:
        return row_bytes(cols, self.k)

    @property
    def weight_max(self) -> int:
        return max(self.definition.levels)

    # --- words ----------------------------------------------------------------------------------------
    def words_layout(self, rows: int, cols: int) -> tuple[type, tuple[int, int]]:
        return np.uint8, (rows, cols)

    def words_to_rows(self, words: np.ndarray, cols: int) -> np.ndarray:
        return to_bytes(words, self.k)

    def rows_to_words(self, data: np.ndarray, cols: int) -> np.ndarray:
        return from_bytes(data, self.k, cols, np.uint8)

    def check_rows(self, data: np.ndarray, cols: int) -> None:
        used = cols * self.k % 8
        if used and (data[:, -1] >> used).any():
            raise SeedLMError("bits after the last weight of a row are not zero")

    def fault(self, words: np.ndarray) -> None:
        """Any symbol of k bits is a valid one."""
        count = int(np.count_nonzero(words >> self.k))
        require(count == 0, f"{count} words have more than {self.k} bits")

    def integers(self, words: np.ndarray, cols: int) -> tuple[np.ndarray, int]:
        return self.definition.weights[self.definition.windows(words)], 0

    def values(self, words: np.ndarray, cols: int, exp_bias: int) -> np.ndarray:
        return self.integers(words, cols)[0].astype(np.float64)

    def random_words(self, rows: int, cols: int, rng: np.random.Generator) -> np.ndarray:
        return rng.integers(0, 1 << self.k, (rows, cols), dtype=np.uint8)

    # --- the outside ----------------------------------------------------------------------------------
    def register_fields(self) -> dict[str, int]:
        return {"C": self.columns, "P": self.k}

    @classmethod
    def from_register(cls, fields: Mapping[str, int]) -> Codec:
        for preset in cls.presets():
            if preset.k == fields["P"]:
                if preset.columns == fields["C"]:
                    return preset
                return replace(preset, name=f"{preset.table}x{fields['C']}", columns=fields["C"])
        raise SeedLMError(f"no trellis codec has {fields['P']} bits per weight")

    def describe(self) -> dict[str, object]:
        table = self.definition
        return super().describe() | {"table": self.table, "window": table.window, "states": table.states}


FAMILY = TrellisCodec
