"""The scales of the grouped formats: what the field of a group stands for, and how it is made of the format's own.

The one place that knows them. A group's scale is M * 2**e times the row's binary32.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from seedlm.golden.codecs._elements import E4M3
from seedlm.golden.errors import SeedLMError

__all__ = [
    "BINARY16", "BINARY16_ZERO", "E4M3_SCALE", "E8M0_BIAS", "EXPONENT", "EXPONENT_FEW", "EXPONENT_MICRO", "NORMAL",
    "ZERO_MAX", "Binary16", "Binary16Zero", "E4M3Scale", "RelativeExponent", "Scale", "refuse",
]  # fmt: skip

NAN_EXPONENT = 0xFF  # of an E8M0 scale
E8M0_BIAS = 127
ZERO_MAX = 16
NORMAL = -126, 127  # exponents of the binary32 that are powers of two and normal


def refuse(bad: np.ndarray, what: str, unit: str, first_row: int = 0) -> None:
    """Raise `SeedLMError` with the place of the first True of `bad`, bool [rows, n], if there is one."""
    if bad.any():
        row, n = (int(i) for i in np.argwhere(bad)[0])
        raise SeedLMError(f"{int(np.count_nonzero(bad))} of {bad.size} {what}, the first in row {first_row + row},"
                          f" {unit} {n}")  # fmt: skip


def _half(fields: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A finite binary16 as M * 2**e * 2**-24: M with its sign, e = 0 to 29."""
    exponent = (fields >> 10 & 31).astype(np.int64)
    magnitude = (fields & 1023).astype(np.int64) + 1024 * (exponent > 0)
    return np.where(fields & 0x8000, -magnitude, magnitude), np.maximum(exponent, 1) - 1


class Scale(ABC):
    """A kind of scale.

    Attributes
    ----------
    name : str
        For people.
    field_bits : int
        Of a group's field in the row.
    micro : bool
        A bit for every two columns halves them.
    significand : int
        The largest |M|.
    signed : bool
        M may be negative.
    fraction_bits, exponent_bits : int
        From the lowest bit of the field, of one that is a floating point number; then comes the sign, if there is one.
    shift_max : int
        The largest e.
    safe : int
        A mask that makes any field a valid one.
    """

    name: ClassVar[str]
    field_bits: ClassVar[int]
    micro: ClassVar[bool] = False
    significand: ClassVar[int] = 1
    signed: ClassVar[bool] = False
    fraction_bits: ClassVar[int] = 0
    exponent_bits: ClassVar[int] = 0
    shift_max: int
    safe: int

    @abstractmethod
    def split(self, fields: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """M and e of valid fields, int64."""

    def zero_points(self, fields: np.ndarray) -> np.ndarray | None:
        """What is subtracted from a group's elements, int64; None where nothing is."""
        return None

    @abstractmethod
    def bad(self, fields: np.ndarray) -> tuple[np.ndarray, str]:
        """Which fields are refused, and what they are, in the plural."""

    @abstractmethod
    def random(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        """Any valid fields, uint32."""

    @abstractmethod
    def store(self, scales: np.ndarray, zeros: np.ndarray | None, empty: np.ndarray, fraction_bits: int,
              tensor_scale: float, first_row: int) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """Fields uint32 and row scales float32 of the format's own scales [rows, groups].

        Parameters
        ----------
        scales : np.ndarray
            As the format has them: float16, or uint8.
        zeros : np.ndarray or None
            Zero points, where the format has them.
        empty : np.ndarray
            bool: groups that are nothing but zeros.
        fraction_bits : int
            Binary places of the elements: goes into the row scales.
        tensor_scale : float
            What all weights are multiplied with, a binary32.
        first_row : int
            For messages.

        Raises
        ------
        SeedLMError
            What has no field, or a row scale that is not exact.
        """


def _power_of_two(exponents: np.ndarray, tensor_scale: float, first_row: int) -> np.ndarray:
    """tensor_scale * 2**exponents, float32 [rows]; refused unless exact and normal."""
    if not np.isfinite(tensor_scale) or float(np.float32(tensor_scale)) != tensor_scale:
        raise SeedLMError(f"the tensor's scale must be a finite binary32, not {tensor_scale}")
    place = exponents + np.frexp(tensor_scale)[1] - 1
    outside = (place < NORMAL[0]) | (place > NORMAL[1]) if tensor_scale else np.zeros(len(exponents), bool)
    if outside.any():
        row = int(outside.argmax())
        raise SeedLMError(f"row {first_row + row}: the row's scale would be {tensor_scale} * 2**{int(exponents[row])}:"
                          " expected a normal binary32")  # fmt: skip
    return np.ldexp(np.float64(tensor_scale), exponents).astype(np.float32)


class Binary16(Scale):
    """A binary16 of either sign; M has its 11 bits, and 2**-24 is the row scale's."""

    name = "binary16"
    field_bits = 16
    significand = 2047
    signed, fraction_bits, exponent_bits = True, 10, 5
    shift_max = 29
    safe = 0x3FFF

    def split(self, fields: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return _half(fields & 0xFFFF)

    def bad(self, fields: np.ndarray) -> tuple[np.ndarray, str]:
        return fields & 0x7C00 == 0x7C00, "scales are NaN or infinite"

    def random(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        fields = rng.integers(0, 1 << 16, shape, dtype=np.uint32)
        return np.where(fields & 0x7C00 == 0x7C00, fields ^ 0x4000, fields).astype(np.uint32)

    def store(self, scales, zeros, empty, fraction_bits, tensor_scale, first_row):
        if scales.dtype != np.float16:
            raise SeedLMError(f"scales must be float16, not {scales.dtype}")
        fields = np.ascontiguousarray(scales).view(np.uint16).astype(np.uint32)
        refuse(*self.bad(fields), "group", first_row)
        return fields, _power_of_two(np.full(len(scales), -24 - fraction_bits), tensor_scale, first_row)


class Binary16Zero(Binary16):
    """A binary16 and, in the eight bits above it, the zero point: 0 to 16."""

    name = "binary16, zero point"
    field_bits = 24
    zero_at = 16
    safe = 0x0F3FFF

    def zero_points(self, fields: np.ndarray) -> np.ndarray:
        return (fields >> 16).astype(np.int64)

    def bad(self, fields: np.ndarray) -> tuple[np.ndarray, str]:
        above = fields >> 16 > ZERO_MAX
        return (above, f"zero points are above {ZERO_MAX}") if above.any() else super().bad(fields)

    def random(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        return super().random(shape, rng) | rng.integers(0, ZERO_MAX + 1, shape, dtype=np.uint32) << 16

    def store(self, scales, zeros, empty, fraction_bits, tensor_scale, first_row):
        fields, rows = super().store(scales, zeros, empty, fraction_bits, tensor_scale, first_row)
        outside = (zeros < 0) | (zeros > ZERO_MAX)
        refuse(outside, f"zero points are not 0 to {ZERO_MAX}", "group", first_row)
        return fields | zeros.astype(np.uint32) << 16, rows


class E4M3Scale(Scale):
    """An e4m3 without sign (NVFP4): M has 4 bits, and the row scale the tensor's binary32 times 2**-9."""

    name = "e4m3"
    field_bits = 8
    significand = 15
    fraction_bits, exponent_bits = 3, 4
    shift_max = 14
    safe = 0x3F

    def split(self, fields: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        exponent = (fields >> 3).astype(np.int64)
        return (fields & 7).astype(np.int64) + 8 * (exponent > 0), np.maximum(exponent, 1) - 1

    def bad(self, fields: np.ndarray) -> tuple[np.ndarray, str]:
        return fields >= 0x7F, "scales are NaN or negative"

    def random(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        return rng.integers(0, 0x7F, shape, dtype=np.uint32)

    def store(self, scales, zeros, empty, fraction_bits, tensor_scale, first_row):
        fields = _bytes(scales).astype(np.uint32)
        refuse(*self.bad(fields), "group", first_row)
        exponents = np.full(len(scales), -E4M3.fraction_bits - fraction_bits)
        return fields, _power_of_two(exponents, tensor_scale, first_row)


@dataclass(frozen=True)
class RelativeExponent(Scale):
    """A power of two (E8M0, or the exponent of shared microexponents), relative to the row's largest.

    Parameters
    ----------
    kept : int
        Exponents that a row can have; kept - 1 is the field of the largest.
    micro : bool
        See `Scale`.
    """

    kept: int = 40
    micro: bool = False  # type: ignore[misc]

    name = "exponent"
    field_bits = 6

    @property
    def shift_max(self) -> int:  # type: ignore[override]
        return self.kept - 1

    @property
    def safe(self) -> int:  # type: ignore[override]
        return (1 << (self.kept.bit_length() - 1)) - 1

    def split(self, fields: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.ones(fields.shape, np.int64), fields.astype(np.int64)

    def bad(self, fields: np.ndarray) -> tuple[np.ndarray, str]:
        return fields >= self.kept, f"block exponents are above {self.kept - 1}"

    def random(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        return rng.integers(0, self.kept, shape, dtype=np.uint32)

    def store(self, scales, zeros, empty, fraction_bits, tensor_scale, first_row):
        bytes_ = _bytes(scales)
        refuse(bytes_ == NAN_EXPONENT, "block exponents are 255, which is NaN", "group", first_row)
        exponents = bytes_.astype(np.int64)
        largest = np.where(empty, -1, exponents).max(axis=1, initial=-1)
        smallest = np.where(empty, largest[:, None], exponents).min(axis=1, initial=NAN_EXPONENT)
        spread = largest - smallest + 1
        if (spread > self.kept).any():
            row = int((spread > self.kept).argmax())
            raise SeedLMError(f"row {first_row + row}: block exponents spread over {int(spread[row])} powers of two:"
                              f" this format keeps {self.kept}")  # fmt: skip
        # What the field 0 stands for: the row's scale has it, and is a normal binary32. A row of zeros takes any: 1.
        least = E8M0_BIAS + NORMAL[0] + fraction_bits
        lowest = np.where(largest < 0, E8M0_BIAS + fraction_bits, np.maximum(largest - (self.kept - 1), least))
        small = (largest >= 0) & (smallest < lowest)
        if small.any():
            row = int(small.argmax())
            raise SeedLMError(f"row {first_row + row}: a block exponent of {int(smallest[row])} is too small: expected"
                              f" {least} or more")  # fmt: skip
        fields = np.where(empty, 0, exponents - lowest[:, None]).astype(np.uint32)
        return fields, _power_of_two(lowest - E8M0_BIAS - fraction_bits, tensor_scale, first_row)


def _bytes(scales: np.ndarray) -> np.ndarray:
    if scales.dtype != np.uint8:
        raise SeedLMError(f"scales must be uint8, not {scales.dtype}")
    return scales


BINARY16, BINARY16_ZERO, E4M3_SCALE = Binary16(), Binary16Zero(), E4M3Scale()
EXPONENT, EXPONENT_MICRO = RelativeExponent(), RelativeExponent(micro=True)
EXPONENT_FEW = RelativeExponent(kept=26)  # beside e5m2, which spans 32 powers of two itself: all still fits int64
