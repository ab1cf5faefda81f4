"""JSON objects in files that others wrote."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from seedlm.golden.errors import SeedLMError

__all__ = ["dumps", "parse_json", "read_json"]


def read_json(path: str | os.PathLike) -> dict:
    """The JSON object in a file: UTF-8, UTF-16 or UTF-32, with a byte order mark or without.

    Raises
    ------
    SeedLMError
        No such file, not JSON, or another value than an object.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise SeedLMError(f"{path}: cannot read: {error.strerror or error}") from error
    return parse_json(content, str(path))


def parse_json(content: bytes, where: str) -> dict:
    """The JSON object in the content of a file, see `read_json`; `where` begins the messages."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise SeedLMError(f"{where}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise SeedLMError(f"{where}: expected a JSON object")
    return value


def dumps(value: dict[str, Any]) -> bytes:
    """An object as files have it."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
