"""Writing generated files."""

from __future__ import annotations

from pathlib import Path

from seedlm.golden.files.atomic import atomic_path

__all__ = ["write_if_changed"]


def write_if_changed(path: Path, data: str | bytes) -> bool:
    """Write `data` (text as UTF-8), atomically, unless the file holds it already (its time then tells make that
    nothing is new). Returns whether it was written.

    Raises
    ------
    SeedLMError
        The file cannot be written.
    """
    data = data.encode() if isinstance(data, str) else data
    if path.is_file() and path.read_bytes() == data:
        return False
    with atomic_path(path) as temporary:
        Path(temporary).write_bytes(data)
    return True
