"""The elements of the grouped formats: what a code of a few bits stands for, as a table of integers.

The one place that knows them. The value of a code is ``integers[code] * 2**-fraction_bits`` times its group's scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

__all__ = ["E2M1", "E2M3", "E3M2", "E4M3", "E5M2", "FIXED8", "INT8", "OFFSET4", "SIGNED3", "SIGNED5", "SIGNED8",
           "UINT4", "Element"]  # fmt: skip


@dataclass(frozen=True)
class Element:
    """A code of few bits.

    Parameters
    ----------
    name : str
        For people.
    bits : int
        3 to 8.
    table : tuple of int or None
        The integer of every code; None for one that stands for NaN or an infinity.
    fraction_bits : int
        Binary places of the integers.
    mantissa_bits : int or None
        Of a floating point number: integers with more bits are not all there. None: they are.
    """

    name: str
    bits: int
    table: tuple[int | None, ...]
    fraction_bits: int = 0
    mantissa_bits: int | None = None

    @cached_property
    def integers(self) -> np.ndarray:
        """The table as int64 [2**bits]; 0 for what is not a number."""
        return np.array([n or 0 for n in self.table], dtype=np.int64)

    @cached_property
    def finite(self) -> np.ndarray:
        """Which codes are numbers, bool [2**bits]."""
        return np.array([n is not None for n in self.table])

    @cached_property
    def magnitude(self) -> int:
        """The largest |N|."""
        return int(np.abs(self.integers).max())

    @property
    def safe(self) -> int:
        """A mask that makes any code a number: without the lowest bit of the exponent or of the mantissa."""
        tries = ((1 << self.bits) - 1 & ~(1 << bit) for bit in range(self.bits))
        codes = np.arange(1 << self.bits)
        return (1 << self.bits) - 1 if self.finite.all() else next(m for m in tries if self.finite[codes & m].all())


def _minifloat(exponent_bits: int, mantissa_bits: int, bias: int, nonfinite: tuple[int, ...] = ()) -> Element:
    """Sign, exponent, mantissa from the top, with subnormal numbers; `nonfinite`: codes without their sign."""
    sign, table = 1 << exponent_bits + mantissa_bits, []
    for code in range(2 * sign):
        field, mantissa = code % sign >> mantissa_bits, code % (1 << mantissa_bits)
        magnitude = (mantissa + (field > 0) * (1 << mantissa_bits)) << max(field, 1) - 1
        table.append(None if code % sign in nonfinite else -magnitude if code & sign else magnitude)
    name = f"e{exponent_bits}m{mantissa_bits}"
    return Element(name, 1 + exponent_bits + mantissa_bits, tuple(table), bias - 1 + mantissa_bits, mantissa_bits)


def _sign_magnitude(bits: int) -> Element:
    """The sign on top; a binary place more than the mantissa has, since a microexponent halves pairs."""
    half = 1 << bits - 1
    return Element(f"sign and {bits - 1} bits", bits, (*range(half), *(-n for n in range(half))), bits - 1)


UINT4 = Element("unsigned", 4, tuple(range(16)))  # less the group's zero point
OFFSET4 = Element("code - 8", 4, tuple(range(-8, 8)))
INT8 = Element("two's complement", 8, (*range(128), *range(-128, 0)))
FIXED8 = Element("two's complement, 6 binary places", 8, INT8.table, 6)
E4M3 = _minifloat(4, 3, 7, nonfinite=(0x7F,))
E5M2 = _minifloat(5, 2, 15, nonfinite=(0x7C, 0x7D, 0x7E, 0x7F))
E2M3 = _minifloat(2, 3, 1)
E3M2 = _minifloat(3, 2, 3)
E2M1 = _minifloat(2, 1, 1)
SIGNED8, SIGNED5, SIGNED3 = (_sign_magnitude(bits) for bits in (8, 5, 3))
