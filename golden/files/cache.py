"""A folder of build results, each named by a hash of everything that went into it.

An entry is made in a temporary folder and renamed into place, under a lock of its own: processes that
want the same entry wait for the first one instead of building it again, and nobody sees half of it.
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import logging
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from seedlm.golden.errors import SeedLMError

__all__ = ["cache_folder", "cached", "digest", "lend_to_tools", "source_digest", "source_files", "writable"]

NAME = "seedlm"
VARIABLE = "SEEDLM_CACHE"
LOG = logging.getLogger(NAME)


def cache_folder() -> Path:
    """Where everything that is kept between runs goes. Created if missing.

    ``$SEEDLM_CACHE`` if it is set; else ``.cache`` at the top of a checkout, if this user may write there; else the
    user's cache directory; else a temporary directory that goes with this process, after a warning.

    Raises
    ------
    SeedLMError
        ``$SEEDLM_CACHE`` is no directory and cannot be made, or nothing can be written at all.
    """
    chosen = os.environ.get(VARIABLE)
    if chosen:
        try:
            Path(chosen).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SeedLMError(f"{chosen}: cannot be the cache ({VARIABLE}): {error.strerror}") from error
        return Path(chosen).resolve()
    for folder in (_checkout_cache(), _user_cache()):
        if folder is not None and writable(folder):
            return folder.resolve()
    return _temporary_cache()


def writable(folder: Path) -> bool:
    """True if files can be made in a folder, which is made if missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


def lend_to_tools() -> None:
    """Give the tools that this process starts a place in our cache where the user has none.

    Yosys, which is WebAssembly, fails if it cannot keep its compiled form in the user's cache directory.
    """
    user = _user_cache()
    if user is None or not writable(user.parent):
        os.environ["XDG_CACHE_HOME"] = str(cache_folder() / "tools")


def _checkout_cache() -> Path | None:
    """None for an installed package: what is around it belongs to the installer."""
    top = Path(__file__).resolve().parents[2]
    return top / ".cache" if (top / "pyproject.toml").is_file() else None


def _user_cache() -> Path | None:
    """None for a user without a home directory."""
    chosen = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(chosen):  # the XDG specification: a relative path is to be ignored
        return Path(chosen) / NAME
    home = os.path.expanduser("~")
    caches = ("Library", "Caches") if sys.platform == "darwin" else (".cache",)
    return Path(home, *caches, NAME) if os.path.isabs(home) else None


def _temporary_cache() -> Path:
    try:
        folder = tempfile.mkdtemp(prefix=f"{NAME}-cache-")
    except OSError as error:
        raise SeedLMError(f"no place for the cache: {error.strerror}: {VARIABLE} names one") from error
    owner = os.getpid()
    atexit.register(lambda: os.getpid() == owner and shutil.rmtree(folder, ignore_errors=True))
    os.environ[VARIABLE] = folder  # for the rest of this process and for those that it starts
    LOG.warning("no place for the cache, so it is temporary and each run works anew: %s names one", VARIABLE)
    return Path(folder).resolve()


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

    Raises
    ------
    SeedLMError
        There is no such entry, and the cache cannot be written.
    """
    parent = cache_folder() / kind
    entry = parent / f"{name}-{key}"
    if entry.is_dir():
        return entry
    try:
        parent.mkdir(parents=True, exist_ok=True)
        lock = open(parent / f".{entry.name}.lock", "w")
    except OSError as error:
        raise SeedLMError(f"{parent}: cannot write to the cache: {error.strerror}: {VARIABLE} names another") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            if not entry.is_dir():  # else somebody made it while we waited
                _make(entry, make)
        finally:
            Path(lock.name).unlink(missing_ok=True)
    return entry


def _make(entry: Path, make: Callable[[Path], None]) -> None:
    """Make an entry in a temporary folder and put it in its place."""
    temporary = entry.with_name(f".{entry.name}-{secrets.token_hex(4)}")
    temporary.mkdir()
    try:
        make(temporary)
        try:
            temporary.rename(entry)
        except OSError:
            if not entry.is_dir():  # after a failure two may build at once: the first one's stays
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
