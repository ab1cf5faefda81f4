"""The header of a GGUF file: metadata, and where its tensors are. Every length is checked before it is believed.

The file is a memory map; the header is read as far as it goes, whatever its numbers claim.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from seedlm.golden.errors import SeedLMError

__all__ = ["MAGIC", "Header", "Stored", "read_header"]

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT = 32  # of the tensors' data, where the metadata say nothing else
DIMENSIONS = 4
# Codes of the types of values: for struct, and the ones with a length.
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9


@dataclass(frozen=True)
class Stored:
    """A tensor as the header describes it.

    Parameters
    ----------
    name : str
    kind : int
        Number of its type.
    shape : tuple of int
        Rows first, as NumPy has it; the file has it the other way round.
    offset : int
        From the beginning of the data.
    """

    name: str
    kind: int
    shape: tuple[int, ...]
    offset: int


@dataclass(frozen=True)
class Header:
    """What a GGUF file says before its data.

    Parameters
    ----------
    path : Path
    metadata : dict
        Numbers, strings, truth values and lists of them.
    tensors : list of Stored
    data : np.ndarray
        uint8, the part of the file that the tensors' offsets count from; a memory map.
    """

    path: Path
    metadata: dict[str, Any]
    tensors: list[Stored]
    data: np.ndarray

    def refuse(self, message: str) -> NoReturn:
        """Raise `SeedLMError`."""
        raise SeedLMError(f"{self.path}: {message}")

    def get(self, key: str, kind: type | tuple[type, ...], default: Any = None) -> Any:
        """An entry of the metadata; raises `SeedLMError` if it is of another kind."""
        value = self.metadata.get(key, default)
        numeric = kind is not bool and isinstance(value, bool)
        if value is not default and (numeric or not isinstance(value, kind)):
            kinds = kind if isinstance(kind, tuple) else (kind,)
            self.refuse(f"metadata {key!r} is {str(value)[:40]!r}: expected {' or '.join(k.__name__ for k in kinds)}")
        return value


class _Reader:
    """Values one after the other; the end of the file is an error that says where."""

    def __init__(self, path: Path, buffer: memoryview):
        self.path, self.buffer, self.place = path, buffer, 0

    def fail(self, message: str) -> NoReturn:
        raise SeedLMError(f"{self.path}: not a complete GGUF file: {message}")

    def need(self, count: int, size: int, what: str) -> None:
        left = len(self.buffer) - self.place
        if count * size > left:
            self.fail(f"{what} at byte {self.place} needs {count * size} bytes, the file has {left} more")

    def numbers(self, code: str, count: int = 1) -> tuple:
        size = struct.calcsize(f"<{code}")
        self.need(count, size, "a value" if count == 1 else f"a list of {count}")
        values = struct.unpack_from(f"<{count}{code}", self.buffer, self.place)
        self.place += count * size
        return values

    def number(self, code: str) -> Any:
        return self.numbers(code)[0]

    def string(self) -> str:
        length = self.number("Q")
        self.need(length, 1, "a string")
        self.place += length
        try:
            return str(self.buffer[self.place - length : self.place], "utf-8")
        except UnicodeDecodeError:
            self.fail(f"the string at byte {self.place - length} is not UTF-8")

    def value(self, kind: int) -> Any:
        if kind in SCALARS:
            value = self.number(SCALARS[kind])
            # of all numbers that are this one in float32 the shortest to write
            return float(str(np.float32(value))) if SCALARS[kind] == "f" else value
        if kind == STRING:
            return self.string()
        if kind != ARRAY:
            self.fail(f"a value of type {kind} before byte {self.place}: expected 0 to 12")
        kind, count = self.number("I"), self.number("Q")
        if kind in SCALARS:
            return list(self.numbers(SCALARS[kind], count))
        if kind != STRING:
            self.fail(f"a list of values of type {kind} before byte {self.place}: expected numbers or strings")
        self.need(count, 8, f"a list of {count} strings")
        return [self.string() for _ in range(count)]

    def tensor(self) -> Stored:
        name, dimensions = self.string(), self.number("I")
        if not 1 <= dimensions <= DIMENSIONS:
            self.fail(f"tensor {name!r} has {dimensions} dimensions: expected 1 to {DIMENSIONS}")
        shape = self.numbers("Q", dimensions)
        return Stored(name, self.number("I"), shape[::-1], self.number("Q"))


def read_header(path: Path) -> Header:
    """Read the header of a GGUF file.

    Raises
    ------
    SeedLMError
        Not a GGUF file, one of another version or byte order, a truncated or contradictory one.
    """
    try:
        data = np.memmap(path, dtype=np.uint8, mode="r")
    except OSError as error:
        raise SeedLMError(f"{path}: cannot read: {error.strerror or error}") from error
    except ValueError as error:  # an empty file cannot be mapped
        raise SeedLMError(f"{path}: not a GGUF file: it is empty") from error
    reader = _Reader(path, memoryview(data))
    if bytes(data[:4]) != MAGIC:
        raise SeedLMError(f"{path}: not a GGUF file: it begins with {bytes(data[:4])!r}, expected {MAGIC!r}")
    reader.place = 4
    version = reader.number("I")
    if version not in VERSIONS:
        order = " (of the other byte order)" if version & 0xFFFF == 0 else ""
        raise SeedLMError(f"{path}: GGUF version {version}{order}: expected {' or '.join(map(str, VERSIONS))},"
                          " little endian")  # fmt: skip
    tensors, entries = reader.numbers("Q", 2)
    reader.need(entries, 13, f"a list of {entries} metadata")
    metadata: dict[str, Any] = {}
    for _ in range(entries):
        key = reader.string()
        if key in metadata:
            reader.fail(f"metadata {key!r} twice")
        metadata[key] = reader.value(reader.number("I"))
    reader.need(tensors, 32, f"a list of {tensors} tensors")
    stored = [reader.tensor() for _ in range(tensors)]
    names: set[str] = set()
    for tensor in stored:
        if tensor.name in names:
            reader.fail(f"tensor {tensor.name!r} twice")
        names.add(tensor.name)
    alignment = metadata.get("general.alignment", ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        reader.fail(f"general.alignment is {alignment!r}: expected a power of two")
    return Header(path, metadata, stored, data[-(-reader.place // alignment) * alignment :])
