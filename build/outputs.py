"""Writing generated files."""

from __future__ import annotations

from pathlib import Path

from seedlm.golden.files.atomic import atomic_path

__all__ = ["write_if_changed"]

CHUNK = 1 << 20


def write_if_changed(path: Path, data: str | bytes | memoryview) -> bool:
    """Write `data` (text as UTF-8), atomically, unless the file holds it already (its time then tells make that
    nothing is new). Returns whether it was written.

    Raises
    ------
    SeedLMError
        The file cannot be written.
    """
    data = memoryview(data.encode() if isinstance(data, str) else data)
    if path.is_file() and _holds(path, data):
        return False
    with atomic_path(path) as temporary:
        Path(temporary).write_bytes(data)
    return True


def _holds(path: Path, data: memoryview) -> bool:
    """Whether a file holds just this; large ones are not read as a whole."""
    with path.open("rb") as file:
        parts = (data[start : start + CHUNK] for start in range(0, len(data), CHUNK))
        return all(file.read(len(part)) == part for part in parts) and not file.read(1)
