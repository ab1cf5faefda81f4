"""What the engines of all families share: their names, whether to take the compiled one, its lanes and threads."""

from __future__ import annotations

import os
from importlib.util import find_spec

from seedlm.golden.errors import SeedLMError

__all__ = ["ENGINES", "LANES", "cores", "is_compiled"]

ENGINES = ("auto", "numba", "numpy")
LANES = 16  # numbers of a vector register, as compiled searches take them (`seedlm.encoder.vectors`)


def is_compiled(engine: str) -> bool:
    """Whether `engine` means the compiled one; ``auto`` does where numba is installed.

    Raises
    ------
    SeedLMError
        An unknown engine; ``numba`` where it is not installed.
    """
    if engine not in ENGINES:
        raise SeedLMError(f"unknown engine {engine!r}: expected one of {', '.join(ENGINES)}")
    installed = find_spec("numba") is not None
    if engine == "numba" and not installed:
        raise SeedLMError("engine numba needs the package numba, which is not installed")
    return installed and engine != "numpy"


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
