"""Simulated memories, one module each, found by itself; every ``--memory`` offers them by name.

A module has one `Memory` called ``MEMORY``. See docs/extending.md.
"""

from __future__ import annotations

from seedlm.golden.errors import SeedLMError
from seedlm.golden.registry import modules
from seedlm.sim.memory import Memory

__all__ = ["DEFAULT_MEMORY", "MEMORIES", "memory", "memory_help"]

MEMORIES: dict[str, Memory] = {m.MEMORY.name: m.MEMORY for m in modules(__name__)}
DEFAULT_MEMORY = "ddr3"


def memory_help() -> str:
    """The memories by name, for the help of ``--memory``."""
    return "; ".join(f"{name}: {entry.summary}" for name, entry in MEMORIES.items())


def memory(which: str | Memory) -> Memory:
    """The memory of that name, or the one given.

    Raises
    ------
    SeedLMError
        Unknown name.
    """
    if isinstance(which, Memory):
        return which
    if which not in MEMORIES:
        raise SeedLMError(f"unknown memory {which!r}: expected {', '.join(MEMORIES)}")
    return MEMORIES[which]
