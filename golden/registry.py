"""Registries whose entries are modules: a new one is a new file, and no other file names it."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

__all__ = ["modules"]


def modules(package: str) -> list[ModuleType]:
    """The modules of a package that do not begin with an underscore, in the order of their ``ORDER``, then name."""
    path = importlib.import_module(package).__path__
    names = [m.name for m in pkgutil.iter_modules(path) if not m.name.startswith("_")]
    found = [importlib.import_module(f"{package}.{name}") for name in names]
    return sorted(found, key=lambda module: (getattr(module, "ORDER", 100), module.__name__))
