"""What a codec tells the rest of the project, whatever its family.

A codec says what the bits of a row of weights mean. Everything that works on codecs - files, images, the product, the
lanes, the driver, estimates, the command line - asks only what stands here.

Every family sees a row as one string of bits. In a packed file it is filled with zero bits to whole bytes; a lane
takes `word_bits` of it per step and makes `step_columns` weights of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from seedlm.golden.errors import SeedLMError

__all__ = ["Codec", "Fault", "require", "signed_bits"]


def require(condition: bool, message: str) -> None:
    """Raise `SeedLMError` with `message` unless `condition` holds."""
    if not condition:
        raise SeedLMError(message)


def signed_bits(magnitude: int) -> int:
    """Bits of the smallest two's complement integer that holds -magnitude..magnitude."""
    return magnitude.bit_length() + 1


@dataclass(frozen=True, eq=False)
class Fault:
    """Words that a checker refuses.

    Parameters
    ----------
    bad : np.ndarray
        bool [rows, n]: for every word, or whatever of a row can be refused.
    what : str
        What they are, in the plural.
    unit : str
        What the second index counts: ``block``, ``column`` or ``group``.
    """

    bad: np.ndarray
    what: str
    unit: str


@dataclass(frozen=True, kw_only=True)
class Codec(ABC):
    """How weights are stored.

    The weight in column c of row r is ``N * M * 2**e * factor``: an integer N, an integer M and a power of two that the
    word may give, and one factor for the row (a finite binary32 in `row_scales`) or for the product (`default_scale`).

    Parameters
    ----------
    name : str
        What it is called on the command line and in files.

    Attributes
    ----------
    family : str
        Name of the family; the module in golden, encoder and hdl that belongs to it.
    family_number : int
        0 to 15, in the accelerator's identity register; never given twice.
    row_scales : bool
        One binary32 scale per row instead of one per product.
    has_exp_bias : bool
        The tensor has an exponent bias b: all weights have the factor 2**b, which goes into the product's scale.
    established : bool
        A format of other people, which stands here for comparison and for models that have it.
    fraction_bits : int
        Binary places of the exact product A_r: y = A_r * 2**-fraction_bits * factor.
    """

    name: str

    family: ClassVar[str]
    family_number: ClassVar[int]
    row_scales: bool = True
    has_exp_bias: ClassVar[bool] = False
    established: ClassVar[bool] = False
    fraction_bits: ClassVar[int]

    # --- the family -----------------------------------------------------------------------------------
    @classmethod
    @abstractmethod
    def presets(cls) -> tuple[Codec, ...]:
        """The family's codecs that have a name of their own, in the order in which they are listed."""

    @classmethod
    def parse(cls, name: str) -> Codec | None:
        """The codec that a name with parameters stands for, None if the name is not of this family's form."""
        return None

    @classmethod
    def example(cls) -> str:
        """How such names look, for messages; empty if there are none."""
        return ""

    def same_format(self, other: Codec) -> bool:
        """Whether two codecs differ in name at most."""
        return type(self) is type(other) and replace(self, name=other.name) == other

    def in_groups_of(self, group: int) -> Codec:
        """The same format for a build with activation groups of so many columns, where something is left to choose."""
        return self

    # --- sizes ----------------------------------------------------------------------------------------
    @property
    @abstractmethod
    def word_bits(self) -> int:
        """Bits that one lane takes per step, at most 64."""

    @property
    @abstractmethod
    def step_columns(self) -> int:
        """Columns that one lane covers per step."""

    @property
    def group(self) -> int:
        """G: columns that share an activation exponent; a multiple of `step_columns`."""
        return self.step_columns

    @property
    def steps_per_group(self) -> int:
        """Steps that use the same activation group."""
        return self.group // self.step_columns

    @property
    def header_steps(self) -> int:
        """Steps in front of every `chunk` columns that bring no weights and take no activations."""
        return 0

    @property
    def chunk(self) -> int:
        """Columns that stand behind a header, a power of two; 0 where there are none."""
        return 0

    @property
    def bits_per_weight(self) -> float:
        """Stored bits per weight, without row scales and padding."""
        return self.word_bits / self.step_columns

    def blocks(self, cols: int) -> int:
        """Words, and so steps, of a row of `cols` columns."""
        return -(-cols // self.step_columns)

    def groups(self, cols: int) -> int:
        """Activation groups of a vector of `cols` elements."""
        return -(-cols // self.group)

    @abstractmethod
    def row_bytes(self, cols: int) -> int:
        """Bytes of a stored row, without its scale."""

    def stored_bits(self, rows: int, cols: int) -> int:
        """Bits of a stored matrix, row scales included."""
        return rows * (8 * self.row_bytes(cols) + 32 * self.row_scales)

    # --- numbers --------------------------------------------------------------------------------------
    @property
    @abstractmethod
    def weight_max(self) -> int:
        """Largest |N|."""

    @property
    def weight_bits(self) -> int:
        """Signed width of N."""
        return signed_bits(self.weight_max)

    @property
    def factor_max(self) -> int:
        """Largest |M|, a factor that a step's weights share: its sum of products is multiplied with it. 1: none."""
        return 1

    @property
    def step_shift_max(self) -> int:
        """Largest shift that a word asks for the sum of its step."""
        return 0

    @property
    def column_shift_max(self) -> int:
        """Largest shift that a word asks for a single product before the sum."""
        return 0

    @property
    def acc_fraction_bits(self) -> int:
        """Binary places of the sums in hardware, which need not have the zeros that no word can fill."""
        return self.fraction_bits

    @property
    def rotates(self) -> bool:
        """Rows are rotated before they are coded (`seedlm.golden.rotation`) unless something else is asked for.

        A row with one scale suffers from its outliers, which a rotation spreads.
        """
        return self.row_scales

    def largest(self, exp_bias: int = 0) -> float:
        """The largest magnitude of a weight, where its row's scale is 1."""
        return float(self.weight_max)

    def default_scale(self, exp_bias: int = 0) -> np.float32:
        """The binary32 by which a product is multiplied where nothing else is said."""
        return np.float32(1)

    # --- words ----------------------------------------------------------------------------------------
    @abstractmethod
    def words_layout(self, rows: int, cols: int) -> tuple[type, tuple[int, int]]:
        """dtype and shape of the words of a matrix in memory."""

    @abstractmethod
    def words_to_rows(self, words: np.ndarray, cols: int) -> np.ndarray:
        """Words to stored rows, uint8 [rows, row_bytes]."""

    @abstractmethod
    def rows_to_words(self, data: np.ndarray, cols: int) -> np.ndarray:
        """Stored rows, uint8 [rows, row_bytes], to words."""

    def check_rows(self, data: np.ndarray, cols: int) -> None:  # noqa: B027, most families have no such bits
        """Raise `SeedLMError` if bits after a row's last word are not zero."""

    def fault(self, words: np.ndarray) -> Fault | None:
        """The words that an encoder never gives and a checker refuses, None where any is valid."""
        return None

    @abstractmethod
    def integers(self, words: np.ndarray, cols: int) -> tuple[np.ndarray, int]:
        """W int64 [rows, cols] and a shift: a weight's term in the exact product is ``W << shift``.

        Raises
        ------
        SeedLMError
            Weights that are not finite.
        """

    @abstractmethod
    def values(self, words: np.ndarray, cols: int, exp_bias: int) -> np.ndarray:
        """The weights without row scales, float64 [rows, cols]."""

    @abstractmethod
    def random_words(self, rows: int, cols: int, rng: np.random.Generator) -> np.ndarray:
        """Random bits in every word; what `fault` refuses is mended."""

    def mend(self, data: np.ndarray) -> None:  # noqa: B027, in most families any byte does
        """Change random bytes, uint8 [n] on a word's boundary, in place, so that all stand for finite weights."""

    # --- the outside ----------------------------------------------------------------------------------
    def stored_name(self, name: str) -> str:
        """What the words of tensor `name` are called in a packed file."""
        return f"{name}.blocks"

    @property
    def stored_dtype(self) -> str:
        """Safetensors dtype of the words."""
        return "U8"

    def stored_shape(self, rows: int, cols: int) -> tuple[int, int]:
        """Shape of the words in a packed file."""
        return rows, self.row_bytes(cols)

    def register_fields(self) -> dict[str, int]:
        """Fields of the CODEC register (`seedlm.hdl.registers`) beside ``family`` and ``row_scales``; others are 0."""
        return {}

    @classmethod
    @abstractmethod
    def from_register(cls, fields: Mapping[str, int]) -> Codec:
        """The codec that the fields of the CODEC register describe.

        Raises
        ------
        SeedLMError
            There is none.
        """

    def describe(self) -> dict[str, object]:
        """Parameters and derived values for people and programs, plain values by name."""
        names = ("word_bits", "step_columns", "group", "bits_per_weight", "weight_max", "weight_bits", "fraction_bits")
        return {"name": self.name, "family": self.family, "row_scales": self.row_scales} | {
            name: getattr(self, name) for name in names
        }

    def __str__(self) -> str:
        return self.name
