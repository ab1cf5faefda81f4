"""Codec families: one module each, found by itself; the rest of the project names none of them.

A family's module has one subclass of `Codec` called ``FAMILY``; the modules of the same name in
`seedlm.encoder.families` and `seedlm.hdl.decoders` are its encoder and its decoder. See docs/extending.md.
"""

from __future__ import annotations

from seedlm.golden.codecs._base import Codec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.registry import modules

__all__ = ["BASELINE", "CODECS", "DEFAULT_CODEC", "FAMILIES", "Codec", "codec", "codec_help"]

FAMILIES: dict[str, type[Codec]] = {m.FAMILY.family: m.FAMILY for m in modules(__name__)}
CODECS: dict[str, Codec] = {preset.name: preset for family in FAMILIES.values() for preset in family.presets()}

DEFAULT_CODEC = "trellis4"  # the smallest error and divergence at 4 bits per weight, see docs/quality.md
BASELINE = "fp16"  # what speed-ups are over


def _examples() -> str:
    return ", ".join(family.example() for family in FAMILIES.values() if family.example())


def codec_help() -> str:
    """The names that `codec` takes."""
    return f"{', '.join(CODECS)}, or a custom one such as {_examples()}"


def codec(name: str) -> Codec:
    """The codec called `name`: a preset, or one of a family's names with parameters.

    Raises
    ------
    SeedLMError
        Unknown name, or parameters outside the limits.
    """
    if name in CODECS:
        return CODECS[name]
    for family in FAMILIES.values():
        found = family.parse(name)
        if found is not None:
            return found
    raise SeedLMError(f"unknown codec {name!r}: expected {', '.join(CODECS)} or a custom one such as {_examples()}")
