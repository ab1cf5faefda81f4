"""Tensors of a GGUF file as `RawTensor`: weights that are quantised are widened to FP32, some rows at a time."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.tensors import LazyTensor, RawTensor
from seedlm.host.gguf.header import Header, Stored

__all__ = ["PLAIN", "Change", "library", "matrices", "open_tensor", "order_of", "stored_rows", "type_name"]

# Types whose bytes are those of a safetensors file, and the names there.
PLAIN = {
    "F32": "F32", "F16": "F16", "BF16": "BF16", "F64": "F64", "I8": "I8", "I16": "I16", "I32": "I32", "I64": "I64",
}  # fmt: skip
READ_WEIGHTS = 1 << 22  # widened at a time


@dataclass(frozen=True)
class Change:
    """What was done to a tensor when the file was made, to be undone.

    Parameters
    ----------
    rows : callable or None
        From the number of rows to the places in the file of the rows 0, 1, ... of the original.
    transposed : bool
        The file has a matrix with rows and columns exchanged.
    added : float
        What was added to all values of a vector.
    row : bool
        A vector is the one row of a matrix.
    """

    rows: Callable[[int], np.ndarray] | None = None
    transposed: bool = False
    added: float = 0.0
    row: bool = False


def library(where: object):
    """The package gguf; raises `SeedLMError` if it is not installed."""
    try:
        import gguf
    except ImportError as error:
        raise SeedLMError(f"{where}: needs the package gguf: pip install 'seedlm[gguf]'") from error
    return gguf


def type_name(header: Header, tensor: Stored) -> str:
    """The name of a tensor's type; raises `SeedLMError` for one that cannot be read."""
    gguf = library(header.path)
    try:
        name = gguf.GGMLQuantizationType(tensor.kind).name
    except ValueError:
        name = f"number {tensor.kind}"
    if name not in readable():
        header.refuse(f"tensor {tensor.name!r} has type {name}, which cannot be read: expected {', '.join(readable())}")
    return name


@functools.cache
def readable() -> list[str]:
    """The types that can be read: plain ones, and those that the library widens."""
    import gguf

    def widens(kind: gguf.GGMLQuantizationType) -> bool:
        try:
            with np.errstate(all="ignore"):
                gguf.dequantize(np.zeros((1, gguf.GGML_QUANT_SIZES[kind][1]), dtype=np.uint8), kind)
        except NotImplementedError:
            return False
        return True

    return [kind.name for kind in gguf.GGMLQuantizationType if kind.name in PLAIN or widens(kind)]


def matrices(header: Header, tensor: Stored) -> list[Stored]:
    """The matrices of a stack [n, rows, columns], each as a tensor."""
    gguf = library(header.path)
    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[type_name(header, tensor)]]
    length = math.prod(tensor.shape[1:]) // block * size
    if not length or tensor.shape[0] * length > len(header.data):
        return [tensor]  # which is refused
    return [replace(tensor, shape=tensor.shape[1:], offset=tensor.offset + i * length) for i in range(tensor.shape[0])]


def stored_rows(header: Header, tensor: Stored) -> np.ndarray:
    """The bytes of a tensor, uint8 [rows, bytes of a row]; a memory map. A vector is one row.

    Raises
    ------
    SeedLMError
        Data beyond the end of the file, a type that cannot be read, rows that are not whole blocks.
    """
    name = type_name(header, tensor)
    block, size = _block(header, name)
    if not all(tensor.shape) or tensor.shape[-1] % block:
        header.refuse(f"tensor {tensor.name!r} of type {name} has shape {list(tensor.shape)}:"
                      f" expected rows of a multiple of {block}")  # fmt: skip
    length = math.prod(tensor.shape) // block * size
    if tensor.offset + length > len(header.data):
        header.refuse(f"not a complete GGUF file: tensor {tensor.name!r} ends {tensor.offset + length} bytes after the"
                      f" beginning of the data, the file {len(header.data)}")  # fmt: skip
    return header.data[tensor.offset : tensor.offset + length].reshape(-1, tensor.shape[-1] // block * size)


def _block(header: Header, name: str) -> tuple[int, int]:
    """Values and bytes of a type's blocks."""
    gguf = library(header.path)
    return gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]


def open_tensor(header: Header, tensor: Stored, change: Change = Change()) -> RawTensor:
    """A tensor as it was before the file was made but for the quantisation: F32 if it is quantised, else as it is.

    Raises
    ------
    SeedLMError
        What `stored_rows` refuses, a shape that does not fit the change.
    """
    data = stored_rows(header, tensor)
    name = type_name(header, tensor)
    shape = tensor.shape[::-1] if change.transposed else tensor.shape
    order = order_of(header, tensor, shape[0], change)
    if change.row and len(tensor.shape) == 1:
        return open_tensor(header, replace(tensor, shape=(1, *tensor.shape)))
    if len(tensor.shape) == 1:
        return _vector(data.reshape(-1), shape[0], name, change, order)
    if len(tensor.shape) > 2 or change.added:
        header.refuse(f"tensor {tensor.name!r} has shape {list(tensor.shape)}, which this architecture does not have")
    if name in PLAIN and order is None and not change.transposed:
        return RawTensor(PLAIN[name], tensor.shape, data.reshape(-1))
    stored = _Matrix(data, name, *_block(header, name))

    def read(start: int, stop: int) -> np.ndarray:
        chosen = slice(start, stop) if order is None else order[start:stop]
        values = stored.columns(start, stop).T if change.transposed else stored.rows(chosen)
        return np.ascontiguousarray(values).reshape(-1).view(np.uint8)

    upright = open_tensor(header, tensor) if change.transposed else None
    return LazyTensor(stored.dtype, shape, read, upright)


def order_of(header: Header, tensor: Stored, rows: int, change: Change) -> np.ndarray | None:
    """Where the rows of the original are; None: where they were."""
    if change.rows is None:
        return None
    try:
        return change.rows(rows)
    except ValueError:
        header.refuse(f"tensor {tensor.name!r} has shape {list(tensor.shape)}, which the numbers of heads in the"
                      " metadata do not divide")  # fmt: skip


def _vector(data: np.ndarray, length: int, name: str, change: Change, order: np.ndarray | None) -> RawTensor:
    """A vector, which is small: made at once if it is not as it was."""
    if name not in PLAIN:
        data, name = _dequantize(data.reshape(1, -1), name).reshape(-1).view(np.uint8), "F32"
    vector = RawTensor(PLAIN[name], (length,), data)
    if order is not None:
        vector = vector.take(order)
    if change.added:
        vector = RawTensor.from_array(vector.array() - np.float32(change.added), vector.dtype)
    return vector


class _Matrix:
    """The rows of a matrix in the file.

    Parameters
    ----------
    data : np.ndarray
        uint8 [rows, bytes of a row].
    name : str
        Of its type, whose blocks of `block` values have `size` bytes.
    """

    def __init__(self, data: np.ndarray, name: str, block: int, size: int):
        self.data, self.name, self.block, self.size = data, name, block, size
        self.dtype = PLAIN.get(name, "F32")

    def rows(self, chosen: slice | np.ndarray) -> np.ndarray:
        """Some rows: float32 [n, columns], or of the type's own."""
        return self._values(self.data[chosen])

    def columns(self, start: int, stop: int) -> np.ndarray:
        """Columns start to stop - 1 of all rows."""
        first = start // self.block
        part = self.data[:, first * self.size : -(-stop // self.block) * self.size]
        return self._values(np.ascontiguousarray(part))[:, start - first * self.block : stop - first * self.block]

    def _values(self, data: np.ndarray) -> np.ndarray:
        if self.name == "BF16":  # NumPy has no such type: as it is stored
            return np.ascontiguousarray(data).view(np.uint16)
        if self.name in PLAIN:
            return RawTensor(self.dtype, (len(data), data.shape[1] // self.size), data.reshape(-1)).array()
        if not len(data):
            return np.zeros((0, data.shape[1] // self.size * self.block), dtype=np.float32)
        step = max(1, READ_WEIGHTS * self.size // (self.block * data.shape[1]))
        parts = [_dequantize(data[start : start + step], self.name) for start in range(0, len(data), step)]
        return np.concatenate(parts)


def _dequantize(data: np.ndarray, name: str) -> np.ndarray:
    import gguf

    with np.errstate(all="ignore"):  # scales that are not finite show in the values, and are found there
        return gguf.dequantize(np.ascontiguousarray(data), gguf.GGMLQuantizationType[name])
