"""What a model's files say of how it was quantised: config.json, or a file of its own that older programs wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.json_files import read_json
from seedlm.golden.files.quantised import KEYS
from seedlm.golden.files.sources import CONFIG

__all__ = ["Settings", "settings_of"]


@dataclass(frozen=True)
class Settings:
    """How a model was quantised, as a file says it.

    Parameters
    ----------
    path : Path
        The file.
    key : str
        The entry of config.json; empty in a file of its own.
    method : str
        Empty if it names none.
    values : mapping
    """

    path: Path
    key: str
    method: str
    values: Mapping[str, Any]

    def refuse(self, message: str) -> NoReturn:
        """Raise `SeedLMError`."""
        raise SeedLMError(f"{self.path}: {message}")

    def get(self, *names: str, default: Any = None) -> Any:
        """The first of these entries that is there and says something."""
        return next((self.values[name] for name in names if self.values.get(name) is not None), default)

    def number(self, *names: str) -> int:
        """An integer under one of these names."""
        value = self.get(*names)
        if type(value) is not int:
            self.refuse(f"{names[0]!r} is {value!r}: expected an integer")
        return value

    def group(self, *names: str) -> int:
        """Columns that share a scale; -1: a row."""
        value = self.number(*names)
        if value < 1 and value != -1:
            self.refuse(f"{names[0]!r} is {value}: expected columns of a group, or -1 for whole rows")
        return value

    def word(self, *names: str, default: str = "") -> str:
        """A word under one of these names, in small letters."""
        return str(self.get(*names, default=default)).lower()


def settings_of(path: Path, older: str = "", method: str = "") -> Settings | None:
    """What stands beside the weights of a model; None if nothing says that it is quantised.

    Parameters
    ----------
    path : Path
        A folder or a file.
    older, method : str
        A file in which older programs said it, and whose it is.

    Raises
    ------
    SeedLMError
        A file that cannot be read, or is not what it should be.
    """
    folder = path if path.is_dir() else path.parent
    place = folder / CONFIG
    config = read_json(place) if place.is_file() else {}
    for key in KEYS:
        if said := config.get(key):
            if not isinstance(said, dict):
                raise SeedLMError(f"{place}: {key!r} is not an object: expected how the model was quantised")
            return Settings(place, key, str(said.get("quant_method") or "").lower(), said)
    if older and (folder / older).is_file():
        return Settings(folder / older, "", method, read_json(folder / older))
    return None
