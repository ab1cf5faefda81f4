"""Rotated rows: W' = W D H, made once when a matrix is compressed, and x' = H D x for every vector that meets it.

D is a diagonal of signs and H the orthonormal Hadamard matrix in blocks of b columns, b the largest power of two that
divides the columns; H is symmetric and its own inverse, so W' x' = W x. A row of real weights has a few outliers; a
rotated one is as good as Gaussian, which is what codecs with one scale per row want.

The sign of column c is minus where the lowest bit of state c is set, of the K = 16 register that starts with state 0
= 1 (`seedlm.golden.lfsr`). Vectors are turned in binary32, in a fixed order of operations, so that every engine has
the same bits: butterflies of stride 1, 2, 4, ... (sum, then difference), one multiplication by fl32(b**-0.5).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from seedlm.golden.errors import SeedLMError
from seedlm.golden.lfsr import states

__all__ = ["LEAST_BLOCK", "Rotation", "rotation_for"]

KIND = "hadamard"
LEAST_BLOCK = 16  # blocks of 8 columns and less spread an outlier over too few weights to be worth it
REGISTER = 16


@lru_cache(maxsize=8)
def _signs(cols: int) -> np.ndarray:
    """+-1 of every column, float32 [cols]."""
    period = (1 << REGISTER) - 1
    bits = np.array([1, *states(1, REGISTER, min(cols, period) - 1)], dtype=np.int64) & 1
    signs = np.resize(np.where(bits == 1, -1, 1).astype(np.float32), cols)
    signs.flags.writeable = False
    return signs


@dataclass(frozen=True)
class Rotation:
    """The rotation of a matrix's rows.

    Parameters
    ----------
    block : int
        b: columns that are mixed with one another; a power of two.
    """

    block: int

    def __post_init__(self) -> None:
        if self.block < 2 or self.block & (self.block - 1):
            raise SeedLMError(f"the block of a rotation must be a power of two, not {self.block}")

    def check(self, cols: int) -> None:
        """Raise `SeedLMError` if this is not a rotation of rows of `cols` columns."""
        if cols % self.block:
            raise SeedLMError(f"a rotation in blocks of {self.block} does not fit {cols} columns")

    def metadata(self) -> dict[str, Any]:
        """What a packed file says of it."""
        return {"kind": KIND, "block": self.block}

    @classmethod
    def from_metadata(cls, entry: Any) -> Rotation:
        """The inverse of `metadata`; raises `SeedLMError` for what is not a rotation that this version knows."""
        if not isinstance(entry, dict) or set(entry) != {"kind", "block"} or type(entry["block"]) is not int:
            raise SeedLMError(f"rotation must have exactly kind and block, not {entry!r}")
        if entry["kind"] != KIND:
            raise SeedLMError(f"unknown rotation {entry['kind']!r}: expected {KIND!r}")
        return cls(entry["block"])

    def vectors(self, x: np.ndarray) -> np.ndarray:
        """x' = H D x of activations, float16 or float32 [..., cols], as float32; not yet rounded to binary16."""
        self.check(x.shape[-1])
        with np.errstate(over="ignore", invalid="ignore"):
            turned = self._mix(x.astype(np.float32) * _signs(x.shape[-1]))
            return turned * np.float32(self.block**-0.5)

    def half(self, x: np.ndarray) -> np.ndarray:
        """`vectors`, rounded to binary16; what does not fit becomes an infinity."""
        with np.errstate(over="ignore"):
            return self.vectors(x).astype(np.float16)

    def weights(self, w: np.ndarray) -> np.ndarray:
        """W' = W D H of rows, float64 [rows, cols]."""
        self.check(w.shape[-1])
        return self._mix(w.astype(np.float64) * _signs(w.shape[-1])) * self.block**-0.5

    def restore(self, w: np.ndarray) -> np.ndarray:
        """W = W' H D, float64 [rows, cols]."""
        self.check(w.shape[-1])
        return self._mix(w.astype(np.float64)) * self.block**-0.5 * _signs(w.shape[-1])

    def _mix(self, x: np.ndarray) -> np.ndarray:
        """The butterflies, without the factor."""
        shape, stride = x.shape, 1
        while stride < self.block:
            pairs = x.reshape(-1, 2, stride)
            x = np.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], axis=1)
            stride *= 2
        return x.reshape(shape)


def rotation_for(cols: int) -> Rotation | None:
    """The rotation of rows of `cols` columns; None where no power of two of at least `LEAST_BLOCK` divides them."""
    block = cols & -cols
    return Rotation(block) if block >= LEAST_BLOCK else None
