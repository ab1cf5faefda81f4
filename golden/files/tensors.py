"""Safetensors files: tensors as they are stored, read lazily, written atomically.

Opening a file reads its header; the data of a tensor is a memory map until it is used.
"""

from __future__ import annotations

import json
import math
import mmap
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, TensorSpec, safe_open, serialize_file

from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.atomic import atomic_path

__all__ = [
    "SOURCE_DTYPES",
    "LazyTensor",
    "RawTensor",
    "TensorFile",
    "TransposedTensor",
    "can_write",
    "release",
    "some_names",
    "write_tensors",
]

SOURCE_DTYPES = ("F16", "BF16", "F32")  # what a weight tensor may be before compression

# Names of dtypes: in a safetensors header, and for the library's writer.
_DTYPES = {
    "BOOL": "bool", "I8": "int8", "U8": "uint8", "I16": "int16", "U16": "uint16", "I32": "int32", "U32": "uint32",
    "I64": "int64", "U64": "uint64", "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64",
    "F8_E4M3": "float8_e4m3fn", "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2": "float8_e5m2",
    "F8_E5M2FNUZ": "float8_e5m2fnuz", "F8_E8M0": "float8_e8m0fnu", "C64": "complex64",
}  # fmt: skip
_NUMPY = {name: np.dtype(library) for name, library in _DTYPES.items() if "float8" not in library and name != "BF16"}


@dataclass(frozen=True, eq=False)
class RawTensor:
    """A tensor as a safetensors file holds it.

    Parameters
    ----------
    dtype : str
        Safetensors name, such as BF16.
    shape : tuple of int
    data : np.ndarray
        uint8, one-dimensional, little endian; often a memory map.
    """

    dtype: str
    shape: tuple[int, ...]
    data: np.ndarray

    @property
    def is_float(self) -> bool:
        """True for the dtypes that can be compressed: F16, BF16 and F32."""
        return self.dtype in SOURCE_DTYPES

    @property
    def nbytes(self) -> int:
        """How many bytes the data have."""
        return self.data.nbytes

    @classmethod
    def from_array(cls, array: np.ndarray, dtype: str | None = None) -> RawTensor:
        """`array` as `dtype` (default: its own). Floats are rounded to nearest, ties to even; BF16 too."""
        array = np.asarray(array)
        if dtype == "BF16":
            values = array.astype(np.float32)
            bits = values.view(np.uint32)
            rounded = (bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) >> np.uint32(16)
            quiet = bits >> np.uint32(16) | np.uint32(0x40)  # a NaN must not round to infinity
            stored = np.where(np.isnan(values), quiet, rounded).astype("<u2")
        else:
            if dtype is None:
                dtype = next((name for name, kind in _NUMPY.items() if kind == array.dtype.newbyteorder("=")), "")
            if dtype not in _NUMPY:
                raise SeedLMError(f"cannot store {array.dtype} as {dtype or 'a safetensors dtype'}")
            with np.errstate(over="ignore", under="ignore"):
                stored = array.astype(_NUMPY[dtype].newbyteorder("<"))
        data = np.ascontiguousarray(stored).reshape(-1).view(np.uint8)
        return cls(dtype, array.shape, data)

    def rows(self, start: int, stop: int) -> RawTensor:
        """Rows start to stop - 1 of a tensor with at least one dimension, sharing the data."""
        start, stop, _ = slice(start, stop).indices(self.shape[0])
        stride = self.data.nbytes // max(1, self.shape[0])
        data = self.data[start * stride : stop * stride]
        return RawTensor(self.dtype, (max(0, stop - start), *self.shape[1:]), data)

    def take(self, indices: np.ndarray) -> RawTensor:
        """The rows of these numbers, in an array of any shape; only they are read."""
        indices = np.asarray(indices)
        data = np.asarray(self.data.reshape(self.shape[0], -1)[indices])
        return RawTensor(self.dtype, (*indices.shape, *self.shape[1:]), data.reshape(-1))

    def transposed(self) -> TransposedTensor:
        """A matrix with rows and columns exchanged, sharing the data."""
        return TransposedTensor(self)

    def array(self) -> np.ndarray:
        """The values: a view where NumPy has the dtype; BF16 widened to float32, exactly."""
        if self.dtype == "BF16":
            bits = self.data.view("<u2").astype(np.uint32) << np.uint32(16)
            return bits.view(np.float32).reshape(self.shape)
        if self.dtype not in _NUMPY:
            raise SeedLMError(f"dtype {self.dtype} has no NumPy form")
        return self.data.view(_NUMPY[self.dtype].newbyteorder("<")).reshape(self.shape)


@dataclass(frozen=True, eq=False)
class TransposedTensor:
    """A matrix that its file has as [cols, rows], as a `RawTensor` [rows, cols]; its bytes are put in order when asked.

    Parameters
    ----------
    stored : RawTensor
    upright : RawTensor, optional
        The matrix itself, where what is stored was made from it.
    """

    stored: RawTensor
    upright: RawTensor | None = None

    @property
    def nbytes(self) -> int:
        return self.stored.nbytes

    @property
    def dtype(self) -> str:
        return self.stored.dtype

    @property
    def is_float(self) -> bool:
        return self.stored.is_float

    @property
    def shape(self) -> tuple[int, ...]:
        return self.stored.shape[::-1]

    @property
    def data(self) -> np.ndarray:
        """Bytes of the matrix, row by row; a copy."""
        return self.rows(0, self.shape[0]).data

    def rows(self, start: int, stop: int) -> RawTensor:
        """Rows start to stop - 1, a copy."""
        if self.upright is not None:
            return self.upright.rows(start, stop)
        cols, rows = self.stored.shape
        columns = self.stored.data.reshape(cols, rows, -1)[:, start:stop]
        data = np.ascontiguousarray(columns.transpose(1, 0, 2))
        return RawTensor(self.dtype, (data.shape[0], cols), data.reshape(-1))

    def array(self) -> np.ndarray:
        """The values, see `RawTensor.array`."""
        return self.stored.array().T if self.upright is None else self.upright.array()


class LazyTensor(RawTensor):
    """A tensor whose data are made when they are asked for, some rows at a time: a file holds them in another form.

    Nothing is kept: `data` makes the whole tensor each time, `rows` only those rows.

    Parameters
    ----------
    dtype : str
        Safetensors name of what `read` gives, such as F32.
    shape : tuple of int
        With at least one dimension.
    read : callable
        Called with (first row, row after the last) gives their data, uint8, one-dimensional. A row is all that has
        one index along the first dimension.
    upright : RawTensor, optional
        The same matrix with rows and columns exchanged, if that is how the file has it.
    """

    def __init__(self, dtype: str, shape: tuple[int, ...], read: Callable[[int, int], np.ndarray],
                 upright: RawTensor | None = None):  # fmt: skip
        for name, value in (("dtype", dtype), ("shape", shape), ("_read", read), ("_upright", upright)):
            object.__setattr__(self, name, value)  # the class is frozen

    @property
    def data(self) -> np.ndarray:
        return self._read(0, self.shape[0])

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * _width(self.dtype)

    def rows(self, start: int, stop: int) -> RawTensor:
        """Rows start to stop - 1, made now."""
        start, stop, _ = slice(start, stop).indices(self.shape[0])
        return RawTensor(self.dtype, (max(0, stop - start), *self.shape[1:]), self._read(start, max(start, stop)))

    def transposed(self) -> TransposedTensor:
        """A matrix with rows and columns exchanged."""
        return TransposedTensor(self, self._upright)

    def take(self, indices: np.ndarray) -> RawTensor:
        """The rows of these numbers, each made once."""
        chosen, places = np.unique(indices, return_inverse=True)
        made = np.stack([self._read(int(row), int(row) + 1) for row in chosen])
        return RawTensor(self.dtype, (*np.shape(indices), *self.shape[1:]), made[places.reshape(-1)].reshape(-1))


def _width(dtype: str) -> int:
    """Bytes of an element."""
    return 2 if dtype == "BF16" else _NUMPY[dtype].itemsize


def release(data: np.ndarray) -> None:
    """Give back the memory of a contiguous part of a memory map that has been read; other arrays stay as they are.

    The system may take it back itself when memory is short; until then a process that has read a large file looks as
    if it needed all of it. What is read again comes from the file.
    """
    mapped = getattr(data, "_mmap", None)
    if mapped is not None and data.size and hasattr(mmap, "MADV_DONTNEED"):
        start = data.ctypes.data - np.frombuffer(mapped, dtype=np.uint8).ctypes.data
        page = start % mmap.PAGESIZE
        mapped.madvise(mmap.MADV_DONTNEED, start - page, data.nbytes + page)


def can_write(dtype: str) -> bool:
    """Whether `write_tensors` takes a tensor of this dtype; files may hold others."""
    return dtype in _DTYPES


def write_tensors(
    path: str | os.PathLike, tensors: Mapping[str, RawTensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file, atomically; the same input gives the same bytes.

    Raises
    ------
    SeedLMError
        The file cannot be written, or a tensor's dtype is not one that the library writes.
    """
    keep = []  # the library takes addresses: the arrays must live until it is done
    specs = {}
    for name, tensor in tensors.items():
        if not can_write(tensor.dtype):
            raise SeedLMError(f"{path}: tensor {name!r} has dtype {tensor.dtype}, which cannot be written")
        data = np.ascontiguousarray(tensor.data)
        keep.append(data)
        specs[name] = TensorSpec(
            dtype=_DTYPES[tensor.dtype], shape=list(tensor.shape), data_ptr=data.ctypes.data, data_len=data.nbytes
        )
    with atomic_path(path) as temporary:
        try:
            serialize_file(specs, temporary, metadata=dict(metadata or {}))
        except SafetensorError as error:
            raise SeedLMError(f"{path}: cannot write: {error}") from error
        _sort_metadata(temporary)


def _sort_metadata(path: Path) -> None:
    """Put the metadata in order: the library writes it in the random order of a hash table."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        if "__metadata__" not in header:
            return
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) > size:
            return  # escaped otherwise than the library does; the order is only a convenience
        file.seek(8)
        file.write(text.ljust(size))


class TensorFile:
    """A safetensors file, opened lazily.

    Attributes
    ----------
    path : Path
    metadata : dict of str to str
    tensors : dict of str to RawTensor
        In the order of the file. The data are memory maps.

    Raises
    ------
    SeedLMError
        No such file, not a safetensors file, or a truncated one.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        try:
            with self.path.open("rb") as file:
                # The library checks everything: header, dtypes, shapes, offsets against the size of the file.
                with safe_open(self.path, framework="numpy"):
                    pass
                size = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(size))
        except OSError as error:
            raise SeedLMError(f"{path}: cannot read: {error.strerror or error}") from error
        except (SafetensorError, ValueError) as error:
            reason = str(error).removeprefix("Error while deserializing header: ").splitlines()[0]
            raise SeedLMError(f"{path}: not a complete safetensors file: {reason}") from error
        self.metadata: dict[str, str] = header.pop("__metadata__", None) or {}
        data = np.zeros(0, dtype=np.uint8)
        if self.path.stat().st_size > 8 + size:
            data = np.memmap(self.path, dtype=np.uint8, mode="r", offset=8 + size)
        self.tensors: dict[str, RawTensor] = {}
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            start, end = entry["data_offsets"]
            self.tensors[name] = RawTensor(entry["dtype"], tuple(entry["shape"]), data[start:end])

    def raw(self, name: str) -> RawTensor:
        """A tensor as it is stored; raises `SeedLMError` if there is none of that name."""
        if name not in self.tensors:
            raise SeedLMError(f"{self.path}: no tensor {name!r}: {some_names(self.tensors)}")
        return self.tensors[name]

    def array(self, name: str) -> np.ndarray:
        """The values of a tensor, see `RawTensor.array`."""
        tensor = self.raw(name)
        try:
            return tensor.array()
        except SeedLMError as error:
            raise SeedLMError(f"{self.path}: tensor {name!r}: {error}") from error


def some_names(names: Any) -> str:
    """Which names there are, for a message about one that is not there."""
    names = list(names)
    if not names:
        return "it has none"
    return "expected one of " + ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
