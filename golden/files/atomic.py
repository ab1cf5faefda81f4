"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seedlm.golden.errors import SeedLMError

__all__ = ["atomic_path"]


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary file in the folder of `path` that takes its place when the block ends well.

    Yields the path of an empty new file with the same suffix. If the block raises, the file is
    removed and what was at `path` stays as it was.

    Raises
    ------
    SeedLMError
        The file cannot be written.
    """
    # Through a symbolic link the file it points to is replaced, not the link.
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.stem[:64]}.{secrets.token_hex(4)}.tmp{target.suffix}")
    try:
        if target.exists() and not target.is_file():
            raise SeedLMError(f"{path}: cannot write: not a regular file")
        temporary.open("xb").close()
    except OSError as error:
        raise SeedLMError(f"{path}: cannot write: {error.strerror}") from error
    try:
        try:
            yield temporary
            if target.exists():
                temporary.chmod(target.stat().st_mode & 0o777)
            temporary.replace(target)
        except OSError as error:
            if error.filename not in (None, str(temporary)):
                raise  # about another file
            raise SeedLMError(f"{path}: cannot write: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
