"""Builds of the accelerator that have a name; `presets.json` says which."""

from __future__ import annotations

import json
from pathlib import Path

from seedlm.golden.build import Config
from seedlm.golden.codecs import CODECS
from seedlm.golden.errors import SeedLMError

__all__ = ["PRESETS", "preset"]


def _config(entry: dict) -> Config:
    first, *more = (CODECS[name] for name in entry["codecs"])
    return Config(codec=first, more=tuple(more), **entry["sizes"])


PRESETS: dict[str, Config] = {
    name: _config(entry)
    for name, entry in json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8")).items()
}


def preset(name: str) -> Config:
    """The build of that name.

    Raises
    ------
    SeedLMError
        There is none.
    """
    if name not in PRESETS:
        raise SeedLMError(f"unknown preset {name!r}: expected {', '.join(PRESETS)}")
    return PRESETS[name]
