"""The DDR3 model without refresh: what the accelerator itself loses shows."""

from __future__ import annotations

from seedlm.sim.memory import Memory

__all__ = ["MEMORY"]

ORDER = 0
MEMORY = Memory(name="ideal", summary="DDR3-1600 without refresh", refresh=False)
