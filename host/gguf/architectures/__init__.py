"""Architectures as GGUF files write them, one module each, found by itself; the rest of the project names none.

A module's ``GGUF`` says which entries of the metadata are which of config.json, what the tensors are called in Hugging
Face's files and what was done to them. See docs/extending.md.

- `_base`: what an entry is, and what architectures share
"""

from __future__ import annotations

from seedlm.golden.registry import modules
from seedlm.host.gguf.architectures._base import GgufArchitecture
from seedlm.host.gguf.header import Header

__all__ = ["ARCHITECTURES", "GgufArchitecture", "architecture_of"]

ARCHITECTURES: list[GgufArchitecture] = [module.GGUF for module in modules(__name__)]


def architecture_of(header: Header) -> GgufArchitecture:
    """The architecture of a file.

    Raises
    ------
    SeedLMError
        None that is there.
    """
    name = header.get("general.architecture", str)
    for kind in ARCHITECTURES:
        if kind.name == name and kind.applies(header):
            return kind
    found = "no architecture" if name is None else f"unsupported architecture {name!r}"
    header.refuse(f"{found}: expected {', '.join(dict.fromkeys(kind.name for kind in ARCHITECTURES))}")
