"""The entries of a config.json, checked one by one; every message names the file and the entry."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NoReturn

from seedlm.golden.errors import SeedLMError

__all__ = ["Fields"]


class Fields:
    """The content of a config.json.

    Parameters
    ----------
    config : mapping
    where : str
        Begins the messages.
    """

    def __init__(self, config: Mapping[str, Any], where: str):
        self.config, self.where = config, where

    def refuse(self, message: str) -> NoReturn:
        """Raise `SeedLMError`."""
        raise SeedLMError(f"{self.where}: {message}")

    def get(self, name: str, default: Any = None) -> Any:
        """An entry as it is; null counts as missing."""
        value = self.config.get(name)
        return default if value is None else value

    def number(self, name: str, default: object = None, kind: type = int) -> Any:
        """A positive finite number; raises `SeedLMError` for anything else."""
        value = self.get(name, default)
        good = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not (good and math.isfinite(value) and value > 0 and value == kind(value)):
            self.refuse(f"{name} must be a positive {'integer' if kind is int else 'number'}, not {value!r}")
        return kind(value)

    def tokens(self, name: str, vocab: int) -> tuple[int, ...]:
        """A token, a list of them, or none; raises `SeedLMError` for one outside of the vocabulary."""
        value = self.get(name, [])
        values = value if isinstance(value, list) else [value]
        if not all(type(v) is int and 0 <= v < vocab for v in values):
            self.refuse(f"{name} must be tokens from 0 to {vocab - 1}, not {value!r}")
        return tuple(values)

    def flag(self, name: str) -> bool:
        """True if the entry is there and true."""
        return bool(self.get(name, False))
