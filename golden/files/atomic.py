"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seedlm.golden.errors import SeedLMError

__all__ = ["atomic_folder", "atomic_path", "require_new", "require_writable"]


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary file in the folder of `path` that takes its place when the block ends well.

    Yields the path of an empty new file with the same suffix. If the block raises, the file is
    removed and what was at `path` stays as it was. A new file has the permissions that the umask
    leaves, also where the block replaces the temporary file by one of its own; a file that was
    there keeps its permissions.

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
        mode = temporary.stat().st_mode & 0o777
    except OSError as error:
        raise SeedLMError(f"{path}: cannot write: {error.strerror}") from error
    try:
        try:
            yield temporary
            temporary.chmod(mode)
            _put(temporary, target)
        except OSError as error:
            if error.filename not in (None, str(temporary)):
                raise  # about another file
            raise SeedLMError(f"{path}: cannot write: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(output: Path, last: str = "") -> Iterator[Path]:
    """A folder to write into, whose files are in `output` afterwards; none of them is if an exception ends it.

    Parameters
    ----------
    output : Path
        Made if missing; other files that are in it stay.
    last : str
        End of the names of files that are put last: until they are there, readers take the folder for what it was.

    Raises
    ------
    SeedLMError
        The folder cannot be written.
    """
    target = Path(os.path.realpath(output))
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.mkdir()
    except OSError as error:
        raise SeedLMError(f"{output}: cannot write: {error.strerror}") from error
    try:
        yield temporary
        if not target.exists():
            temporary.rename(target)
            return
        made = [path for path in temporary.rglob("*") if path.is_file()]
        for path in sorted(made, key=lambda p: (bool(last) and p.name.endswith(last), p)):
            place = target / path.relative_to(temporary)
            place.parent.mkdir(parents=True, exist_ok=True)
            _put(path, place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _put(made: Path, target: Path) -> None:
    """Move a file to its place; one that was there gives it its permissions."""
    if target.exists():
        made.chmod(target.stat().st_mode & 0o777)
    made.replace(os.path.realpath(target))


def require_writable(path: Path) -> None:
    """Raise `SeedLMError` now if a file could not be put at `path` later, after long work.

    Leaves nothing behind.
    """
    if path.exists() and not path.is_file():
        raise SeedLMError(f"{path}: cannot write: not a regular file")
    try:
        # resolved: through a symbolic link the file that it points to is replaced
        tempfile.TemporaryFile(dir=path.resolve().parent).close()
    except OSError as error:
        raise SeedLMError(f"{path}: cannot write: {error.strerror}") from error


def require_new(output: Path, source: Path) -> None:
    """Raise `SeedLMError` if the output would replace the input."""
    if output.exists() and source.exists() and output.samefile(source):
        raise SeedLMError(f"{output}: is the input: choose another output")
