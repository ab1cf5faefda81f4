"""What an entry of the registry is: a form in which models come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from seedlm.golden.files.sources import Source

__all__ = ["Format"]


@dataclass(frozen=True)
class Format:
    """A form of files.

    Parameters
    ----------
    name : str
        For people.
    takes : callable
        Whether a file, which is there, has this form.
    open : callable
        Opens it; raises `SeedLMError` for what it cannot.
    """

    name: str
    takes: Callable[[Path], bool]
    open: Callable[[Path], Source]
