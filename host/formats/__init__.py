"""Forms in which models come beside safetensors, one module each, found by itself; no other module names them.

A module's ``FORMAT`` says which files are its own and opens them as what safetensors would be: a `Source`, with
tensors under Hugging Face's names and the files that stand beside them. See docs/extending.md.

- `_base`: what an entry is
"""

from __future__ import annotations

from pathlib import Path

from seedlm.golden.files.sources import Source, open_source
from seedlm.golden.registry import modules
from seedlm.host.formats._base import Format

__all__ = ["FORMATS", "Format", "format_of", "open_plain"]

FORMATS: list[Format] = [m.FORMAT for m in modules(__name__)]


def format_of(path: Path) -> Format | None:
    """The form of a model that is not safetensors; None for those, and for what is not there."""
    return next((form for form in FORMATS if form.takes(path)), None) if path.is_file() else None


def open_plain(path: Path) -> Source:
    """Open a model that is not packed: what `seedlm.golden.files.sources.open_source` takes, or another form."""
    form = format_of(path)
    return form.open(path) if form else open_source(path)
