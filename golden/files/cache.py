"""A folder of build results, each named by a hash of everything that went into it.

An entry is made in a temporary folder and renamed into place, under a lock of its own: processes that
want the same entry wait for the first one instead of building it again, and nobody sees half of it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

__all__ = ["cache_folder", "cached", "digest", "source_digest", "source_files"]


def cache_folder() -> Path:
    """``$SEEDLM_CACHE``, or ``.cache`` at the top of the checkout. Created if missing."""
    chosen = os.environ.get("SEEDLM_CACHE")
    folder = Path(chosen) if chosen else Path(__file__).resolve().parents[2] / ".cache"
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


def digest(*parts: object) -> str:
    """A short hash of the parts' text; the boundaries between the parts count."""
    h = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        h.update(len(data).to_bytes(8, "little"))
        h.update(data)
    return h.hexdigest()[:24]


def _folder(place: ModuleType | Path) -> Path:
    return place if isinstance(place, Path) else Path(place.__path__[0])


def source_files(*places: ModuleType | Path, suffixes: tuple[str, ...] = (".py",)) -> list[Path]:
    """The source files of some packages or folders, with all below them, in a fixed order."""
    found = (path for place in places for path in sorted(_folder(place).rglob("*")))
    return [path for path in found if path.suffix in suffixes and path.is_file()]


def source_digest(*places: ModuleType | Path, suffixes: tuple[str, ...] = (".py",)) -> str:
    """A hash of the sources of some packages: what one version made must not be taken for another's."""
    parts: list[object] = []
    for place in places:
        for path in source_files(place, suffixes=suffixes):
            parts += [path.relative_to(_folder(place)), path.read_bytes()]
        parts.append("|")
    return digest(*parts)


def cached(kind: str, name: str, key: str, make: Callable[[Path], None]) -> Path:
    """The folder of the entry `key`, made by ``make(folder)`` the first time.

    Parameters
    ----------
    kind, name : str
        For people who look into the cache: sub-folder and prefix of the entry.
    key : str
        Hash of all inputs (`digest`).
    make : callable
        Fills the (temporary) folder it is given. Whatever it raises leaves nothing behind.
    """
    parent = cache_folder() / kind
    entry = parent / f"{name}-{key}"
    if entry.is_dir():
        return entry
    parent.mkdir(parents=True, exist_ok=True)
    with open(parent / f".{entry.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if entry.is_dir():  # somebody else made it while we waited
            return entry
        temporary = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=parent))
        try:
            make(temporary)
            temporary.chmod(0o755)
            try:
                temporary.rename(entry)
            except OSError:
                if not entry.is_dir():  # after a failure two may build at once: the first one's stays
                    raise
                shutil.rmtree(temporary, ignore_errors=True)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        finally:
            Path(lock.name).unlink(missing_ok=True)
    return entry
