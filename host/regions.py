"""Where a product lies in the accelerator's memory, and the registers that say so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from seedlm.golden.build import Config
from seedlm.golden.codecs import Codec
from seedlm.golden.errors import SeedLMError
from seedlm.hdl.registers import register

__all__ = ["PAGE", "Allocator", "ProductRegions", "region_sizes"]

PAGE = 4096  # regions start at multiples of it
REGIONS = ("weights", "activations", "results", "scales")  # in the order of their registers


def region_sizes(config: Config, rows: int, cols: int) -> dict[str, int]:
    """Bytes of the regions of a product, whole beats, in the order in which they are placed; 0: it has none."""
    beats = {
        "weights": config.image_beats(rows, cols),
        "scales": config.scale_beats(rows),
        "activations": config.activation_beats(cols),
        "results": config.result_beats(rows),
    }
    return {name: n * config.beat_bytes for name, n in beats.items()}


class Allocator:
    """Gives out the regions of a memory one after the other, each at a 4 KiB boundary.

    Parameters
    ----------
    first, end : int
        First address of the memory, and the one behind its last byte.

    Attributes
    ----------
    next : int
        Where the next region begins. Setting it back frees what was given out since.
    end : int
    """

    def __init__(self, first: int, end: int) -> None:
        self.next = -(-first // PAGE) * PAGE
        self.end = end

    def __call__(self, nbytes: int) -> int:
        """Address of a free region of `nbytes`.

        Raises
        ------
        SeedLMError
            There is not that much left.
        """
        address = self.next
        if address + nbytes > self.end:
            raise SeedLMError(f"the accelerator's memory has {max(0, self.end - address)} bytes left, not {nbytes}")
        self.next = address + -(-nbytes // PAGE) * PAGE
        return address


@dataclass(frozen=True, kw_only=True)
class ProductRegions:
    """A product as the accelerator knows it: the shape of its matrix and the addresses of its regions.

    Nothing is checked here: the accelerator ends a product that it cannot run with the code DESCRIPTOR.

    Attributes
    ----------
    rows, cols : int
        Shape of the weight matrix.
    weights, activations, results : int
        Addresses.
    scales : int
        Address of the row scales, not looked at by codecs without.
    codec : int or None
        Which of the codecs of the build; None in a build of one, which has no register for it.
    """

    rows: int
    cols: int
    weights: int
    activations: int
    results: int
    scales: int = 0
    codec: int | None = None

    @classmethod
    def place(
        cls, config: Config, rows: int, cols: int, allocate: Callable[[int], int], *, codec: Codec | None = None,
        **placed: int,
    ) -> ProductRegions:  # fmt: skip
        """Regions for a product of `rows` x `cols` weights.

        Parameters
        ----------
        allocate : callable
            Gives the address of a region of so many bytes: an `Allocator`, `host.driver.Accelerator.allocate`.
        codec : Codec, optional
            Of the weights; by default the build's first.
        **placed : int
            Addresses of regions that exist already, by name: a matrix that is loaded, activations that are shared.
        """
        codec = codec or config.codec
        sizes = region_sizes(config.of(codec), rows, cols)
        number = config.number(codec) if config.more else None
        addresses = {name: allocate(size) for name, size in sizes.items() if size and name not in placed}
        return cls(rows=rows, cols=cols, codec=number, **addresses, **placed)

    def words(self, *, scale: float = 1.0, same: bool = False) -> dict[str, int]:
        """The registers that describe the product to the accelerator, by name, in the order of their addresses.

        Parameters
        ----------
        scale : float
            The product's scale, rounded to binary32; not looked at by codecs with row scales.
        same : bool
            The activations are those that were loaded last; the address of the activations is not looked at.

        Raises
        ------
        SeedLMError
            A value that its register cannot hold.
        """
        words = {}
        for name in REGIONS:
            address = getattr(self, name)
            if not 0 <= address < 1 << 64:
                raise SeedLMError(f"the address of the {name} must have 64 bits, not be {address:#x}")
            words[f"{name.upper()}_LO"] = address & 0xFFFFFFFF
            words[f"{name.upper()}_HI"] = address >> 32
        for name in ("rows", "cols"):
            size = getattr(self, name)
            if not 0 <= size < 1 << 32:
                raise SeedLMError(f"{name} must have 32 bits, not be {size}")
            words[name.upper()] = size
        with np.errstate(over="ignore", under="ignore"):
            words["SCALE"] = int(np.float32(scale).view(np.uint32))
        words["FLAGS"] = register("FLAGS").pack(same=int(same))
        if self.codec is not None:
            words["WEIGHT_CODEC"] = self.codec
        return words
