"""Numba's decorator for the compiled searches; what it compiles is kept in the project's cache."""

from __future__ import annotations

from pathlib import Path

from numba import config, njit

from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.cache import cache_folder, source_digest, writable

__all__ = ["compiled"]


def _keeps() -> bool:
    """True if there is a place for compiled code, which is then set.

    Numba's own choice, beside the sources, belongs to the installer; and it looks at the file of a function only, not
    at those that the function was compiled with: here the place has a digest of all of them.
    """
    try:
        if not config.CACHE_DIR:  # else NUMBA_CACHE_DIR names one
            config.CACHE_DIR = str(cache_folder() / "numba" / source_digest(Path(__file__).parent))
        return writable(Path(config.CACHE_DIR))
    except SeedLMError:  # nothing can be written: each run compiles anew
        return False


compiled = njit(nogil=True, cache=_keeps())
