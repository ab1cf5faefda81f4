"""What the driver needs of the way to an accelerator: registers, memory, the interrupt."""

from __future__ import annotations

from typing import Protocol

import numpy as np

__all__ = ["Transport"]


class Transport(Protocol):
    """A way to one accelerator and its memory. A simulation is one, a memory-mapped device file another.

    Every method raises an exception of the transport's own choice if it fails, a register access also if the
    accelerator answers it with an error.

    Attributes
    ----------
    memory_range : tuple of int or None
        First address and bytes of the accelerator's memory; None if that is not known.
    """

    memory_range: tuple[int, int] | None

    def read32(self, offset: int) -> int:
        """The register at byte `offset`."""

    def write32(self, offset: int, value: int) -> None:
        """Write the register at byte `offset`."""

    def mem_write(self, address: int, data: np.ndarray) -> None:
        """Put the bytes of `data` (uint8) into the accelerator's memory."""

    def mem_read(self, address: int, n: int) -> np.ndarray:
        """`n` bytes of the accelerator's memory, uint8."""

    def wait_irq(self, timeout: float | None) -> object:
        """Return when the interrupt is high, at once if it is.

        `timeout` is in the unit of the transport's own clock (cycles in simulation, seconds on a board), None is its
        default. Raises an exception if the interrupt does not come.
        """
