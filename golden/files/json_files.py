"""JSON objects in files that others wrote."""

from __future__ import annotations

import json
import os
from pathlib import Path

from seedlm.golden.errors import SeedLMError

__all__ = ["read_json"]


def read_json(path: str | os.PathLike) -> dict:
    """The JSON object in a file: UTF-8, UTF-16 or UTF-32, with a byte order mark or without.

    Raises
    ------
    SeedLMError
        No such file, not JSON, or another value than an object.
    """
    try:
        value = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise SeedLMError(f"{path}: cannot read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise SeedLMError(f"{path}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise SeedLMError(f"{path}: expected a JSON object")
    return value
