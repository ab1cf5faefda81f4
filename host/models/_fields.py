"""The entries of a config.json, checked one by one; every message names the file and the entry."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
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
    aliases : mapping of str to str, optional
        What this architecture's config.json calls an entry that others have under the first name; both are taken.
    """

    def __init__(self, config: Mapping[str, Any], where: str, aliases: Mapping[str, str] | None = None):
        self.config, self.where, self.aliases = config, where, aliases or {}

    def called(self, **aliases: str) -> Fields:
        """The same entries where some have other names: ``hidden_size="n_embd"``."""
        return Fields(self.config, self.where, aliases)

    def refuse(self, message: str) -> NoReturn:
        """Raise `SeedLMError`."""
        raise SeedLMError(f"{self.where}: {message}")

    def get(self, name: str, default: Any = None) -> Any:
        """An entry as it is; null counts as missing."""
        value = self.config.get(self._name(name))
        return default if value is None else value

    def _name(self, name: str) -> str:
        """The name under which the file has an entry, or should have it."""
        return name if self.config.get(name) is not None else self.aliases.get(name, name)

    def number(self, name: str, default: object = None, kind: type = int) -> Any:
        """A positive finite number; raises `SeedLMError` for anything else."""
        value = self.get(name, default)
        good = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not (good and math.isfinite(value) and value > 0 and value == kind(value)):
            what = f"{self._name(name)} must be a positive {'integer' if kind is int else 'number'}"
            self.refuse(f"{what}, not {value!r}")
        return kind(value)

    def optional(self, name: str, default: Any = None, kind: type = int) -> Any:
        """A positive number, or None if the entry is null; `default` if it is missing."""
        missing = default if name not in self.config else None
        return None if self.get(name, missing) is None else self.number(name, missing, kind)

    def count(self, name: str, default: int) -> int:
        """An integer of 0 or more; raises `SeedLMError` for anything else."""
        value = self.get(name, default)
        if type(value) is not int or value < 0:
            self.refuse(f"{self._name(name)} must be an integer of 0 or more, not {value!r}")
        return value

    def numbers(self, name: str) -> list[int]:
        """A list of integers of 0 or more, empty if it is missing; raises `SeedLMError` for anything else."""
        values = self.get(name, [])
        if not isinstance(values, list) or not all(type(v) is int and v >= 0 for v in values):
            self.refuse(f"{self._name(name)} must be integers of 0 or more, not {values!r}")
        return values

    def tokens(self, name: str, vocab: int) -> tuple[int, ...]:
        """A token, a list of them, or none; raises `SeedLMError` for one outside of the vocabulary."""
        value = self.get(name, [])
        values = value if isinstance(value, list) else [value]
        if not all(type(v) is int and 0 <= v < vocab for v in values):
            self.refuse(f"{name} must be tokens from 0 to {vocab - 1}, not {value!r}")
        return tuple(values)

    def flag(self, name: str, default: bool = False) -> bool:
        """Whether the entry is true; `default` if it is missing."""
        return bool(self.get(name, default))

    def choice(self, name: str, default: str, allowed: Iterable[str]) -> str:
        """One of the allowed strings; raises `SeedLMError` for anything else."""
        value, allowed = self.get(name, default), list(allowed)
        if value not in allowed:
            self.refuse(f"unsupported {self._name(name)} {value!r}: expected {', '.join(map(repr, allowed))}")
        return value

    def expect(self, name: str, value: Any) -> None:
        """Raise `SeedLMError` if the entry is there and not `value`, the only one that is supported."""
        if self.get(name, value) != value:
            self.refuse(f"unsupported {self._name(name)} {self.get(name)!r}: expected {value!r}")
