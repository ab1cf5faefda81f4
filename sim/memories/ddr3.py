"""DDR3-1600 behind a controller like Xilinx's MIG."""

from __future__ import annotations

from seedlm.sim.memory import Memory

__all__ = ["MEMORY"]

ORDER = 1
MEMORY = Memory(name="ddr3", summary="DDR3-1600 with refresh")
