"""GGUF: one file with metadata, tokenizer and tensors, mostly quantised."""

from __future__ import annotations

from pathlib import Path

from seedlm.golden.files.sources import Source
from seedlm.host.formats._base import Format

__all__ = ["FORMAT"]

MAGIC = b"GGUF"


def _takes(path: Path) -> bool:
    if path.suffix.lower() == ".gguf":
        return True
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False  # who opens it will say so


def _open(path: Path) -> Source:
    from seedlm.host.gguf.model import open_gguf  # here: most models are not of this form

    return open_gguf(path)


FORMAT = Format("GGUF", _takes, _open)
