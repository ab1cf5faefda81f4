"""Files: safetensors models and packed files, NumPy vectors, atomic writing.

Everything is read lazily: opening a file reads its header, the data of a tensor is a memory map until
it is used. Every complaint is one line that names the file, the tensor and what was expected.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, TensorSpec, safe_open, serialize_file

from golden.errors import SeedLMError
from golden.matrix import SOURCE_DTYPES, PackedMatrix
from golden.params import Codec, codec
from golden.words import from_bytes, to_bytes

__all__ = [
    "FORMAT",
    "VERSION",
    "PackedFile",
    "RawTensor",
    "TensorFile",
    "TensorInfo",
    "atomic_path",
    "foreign_seeds",
    "load_npy",
    "save_npy",
    "write_packed",
    "write_stored",
    "write_tensors",
]

FORMAT = "seedlm"
VERSION = "1"

# Names of dtypes: in a safetensors header, and for the library's writer.
_DTYPES = {
    "BOOL": "bool", "I8": "int8", "U8": "uint8", "I16": "int16", "U16": "uint16", "I32": "int32", "U32": "uint32",
    "I64": "int64", "U64": "uint64", "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64",
    "F8_E4M3": "float8_e4m3fn", "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2": "float8_e5m2",
    "F8_E5M2FNUZ": "float8_e5m2fnuz", "F8_E8M0": "float8_e8m0fnu", "C64": "complex64",
}  # fmt: skip
_NUMPY = {name: np.dtype(library) for name, library in _DTYPES.items() if "float8" not in library and name != "BF16"}


# --- writing ---------------------------------------------------------------------------------------
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

    def array(self) -> np.ndarray:
        """The values: a view where NumPy has the dtype; BF16 widened to float32, exactly."""
        if self.dtype == "BF16":
            bits = self.data.view("<u2").astype(np.uint32) << np.uint32(16)
            return bits.view(np.float32).reshape(self.shape)
        if self.dtype not in _NUMPY:
            raise SeedLMError(f"dtype {self.dtype} has no NumPy form")
        return self.data.view(_NUMPY[self.dtype].newbyteorder("<")).reshape(self.shape)


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
        if tensor.dtype not in _DTYPES:
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


# --- reading ---------------------------------------------------------------------------------------
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
            raise SeedLMError(f"{self.path}: no tensor {name!r}: {_names(self.tensors)}")
        return self.tensors[name]

    def array(self, name: str) -> np.ndarray:
        """The values of a tensor, see `RawTensor.array`."""
        tensor = self.raw(name)
        try:
            return tensor.array()
        except SeedLMError as error:
            raise SeedLMError(f"{self.path}: tensor {name!r}: {error}") from error


def _names(names: Any) -> str:
    names = list(names)
    if not names:
        return "it has none"
    return "expected one of " + ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


# What other programs call the seeds of a tensor, and words of metadata that name a convention.
_SEEDS = {"seeds", "lfsr_seed", "lfsr_seeds", "seed_offset", "seed_offsets"}
_CONVENTION = ("lfsr", "seed", "shift", "offset", "taps")  # in our own format; elsewhere only the first is a sure sign


def foreign_seeds(file: TensorFile) -> str:
    """Why a file's seeds cannot be ours: it says so, or it has seeds and does not name this format. Else empty."""
    ours = file.metadata.get("format") == FORMAT
    keys = [key for key in file.metadata if key not in ("format", "version", "tensors")]
    named = [key for key in keys if any(word in key.lower() for word in _CONVENTION[: None if ours else 1])]
    found = []
    if not ours:
        numbers = [name for name, tensor in file.tensors.items() if tensor.dtype[0] in "IU"]
        found = [name for name in numbers if re.split(r"[./]", name)[-1].lower() in _SEEDS]
    if not named and not found:
        return ""
    what = f"metadata {named[0]!r} = {file.metadata[named[0]][:40]!r}" if named else f"tensor {found[0]!r}"
    return (
        f"seeds of another program ({what}): a left-shifting register, several steps per value, or offsets into the"
        f" cycle give other weights for the same number, so only files with metadata 'format' = {FORMAT!r} and no"
        " other convention are read: compress the original weights"
    )


@dataclass(frozen=True)
class TensorInfo:
    """What a packed file says of a compressed tensor."""

    codec: Codec
    shape: tuple[int, int]
    exp_bias: int
    dtype: str


class PackedFile:
    """A packed file, opened lazily: compressed tensors one by one, the others as they are.

    Opening checks format, version, codecs, names, shapes and dtypes; `matrix` reads one tensor and
    checks every word.

    Attributes
    ----------
    path : Path
    tensors : dict of str to TensorInfo
        The compressed tensors, in the order of the metadata.
    other : list of str
        The tensors that are copied as they were.

    Raises
    ------
    SeedLMError
        Not a packed file of this project and version, or one that contradicts itself.
    """

    def __init__(self, path: str | os.PathLike):
        self.file = TensorFile(path)
        self.path = self.file.path
        metadata = self.file.metadata
        # Seeds found under another convention (left shift, K bits per value, offsets into the cycle)
        # would decode to noise without a complaint: only files that name this format are read.
        foreign = foreign_seeds(self.file)
        if foreign:
            raise SeedLMError(f"{path}: {foreign}")
        if metadata.get("format") != FORMAT:
            found = repr(metadata["format"]) if "format" in metadata else "missing"
            raise SeedLMError(f"{path}: not a SeedLM packed file: metadata 'format' is {found}, expected {FORMAT!r}")
        if metadata.get("version") != VERSION:
            found = repr(metadata["version"]) if "version" in metadata else "missing"
            raise SeedLMError(f"{path}: packed file of an unknown version: {found}, expected {VERSION!r}")
        try:
            entries = json.loads(metadata.get("tensors", ""))
            if not isinstance(entries, dict):
                raise ValueError("not an object")
        except (ValueError, RecursionError) as error:
            raise SeedLMError(f"{path}: metadata 'tensors' must be a JSON object: {error}") from error
        infos = {name: self._info(name, entry) for name, entry in entries.items()}
        parts = set()
        for name, info in infos.items():
            for stored, dtype, shape in _stored(name, info):
                self._expect(name, stored, dtype, shape)
                parts.add(stored)
        self.tensors: dict[str, TensorInfo] = infos
        self.other: list[str] = [name for name in self.file.tensors if name not in parts]

    def _info(self, name: str, entry: Any) -> TensorInfo:
        def require(condition: bool, message: str) -> None:
            if not condition:
                raise SeedLMError(f"{self.path}: tensor {name!r}: {message}")

        keys = {"shape", "codec", "exp_bias", "dtype"}
        require(
            isinstance(entry, dict) and set(entry) == keys,
            f"metadata must have exactly {', '.join(sorted(keys))},"
            f" found {', '.join(sorted(entry)) if isinstance(entry, dict) else repr(entry)}",
        )
        shape, bias = entry["shape"], entry["exp_bias"]
        require(
            isinstance(shape, list) and len(shape) == 2 and all(type(n) is int and n > 0 for n in shape),
            f"shape must be two positive integers, not {shape!r}",
        )
        require(type(bias) is int, f"exp_bias must be an integer, not {bias!r}")
        require(
            entry["dtype"] in SOURCE_DTYPES, f"dtype must be one of {', '.join(SOURCE_DTYPES)}, not {entry['dtype']!r}"
        )
        require(isinstance(entry["codec"], str), f"codec must be a name, not {entry['codec']!r}")
        try:
            kind = codec(entry["codec"])
        except SeedLMError as error:
            raise SeedLMError(f"{self.path}: tensor {name!r}: {error}") from error
        return TensorInfo(kind, (shape[0], shape[1]), bias, entry["dtype"])

    def _expect(self, name: str, stored: str, dtype: str, shape: tuple[int, ...]) -> None:
        expected = f"expected {dtype} {list(shape)}"
        if stored not in self.file.tensors:
            raise SeedLMError(f"{self.path}: tensor {name!r}: {stored!r} is missing, {expected}")
        found = self.file.tensors[stored]
        if (found.dtype, found.shape) != (dtype, shape):
            raise SeedLMError(
                f"{self.path}: tensor {name!r}: {stored!r} is {found.dtype} {list(found.shape)}, {expected}"
            )

    def matrix(self, name: str, check: bool = True) -> PackedMatrix:
        """Read one compressed tensor.

        Raises
        ------
        SeedLMError
            No such tensor; with `check`, what `PackedMatrix.check` refuses.
        """
        if name not in self.tensors:
            raise SeedLMError(f"{self.path}: no compressed tensor {name!r}: {_names(self.tensors)}")
        info = self.tensors[name]
        if info.codec.is_fp16:
            words, scales = self.file.array(name).view(np.uint16), None
        else:
            blocks = self.file.array(f"{name}.blocks")
            count = info.codec.blocks(info.shape[1])
            words = from_bytes(info.codec, blocks, count)
            used = count * info.codec.word_bits % 8
            if check and used and (blocks[:, -1] >> used).any():
                raise SeedLMError(f"{self.path}: tensor {name!r}: bits after the last word of a row are not zero")
            scales = self.file.array(f"{name}.scales").astype(np.float32) if info.codec.row_scales else None
        matrix = PackedMatrix(info.codec, info.shape, words, scales, info.exp_bias, info.dtype)
        if check:
            matrix.check(f"{self.path}: tensor {name!r}")
        return matrix

    def raw(self, name: str) -> RawTensor:
        """A stored tensor as it is, see `TensorFile.raw`."""
        return self.file.raw(name)

    def array(self, name: str) -> np.ndarray:
        """The values of a tensor that is not compressed, see `TensorFile.array`."""
        return self.file.array(name)


def _stored(name: str, info: TensorInfo) -> list[tuple[str, str, tuple[int, ...]]]:
    """Name, dtype and shape of the stored tensors of a compressed one."""
    rows, cols = info.shape
    if info.codec.is_fp16:
        return [(name, "F16", (rows, cols))]
    out: list[tuple[str, str, tuple[int, ...]]] = [(f"{name}.blocks", "U8", (rows, info.codec.row_stride(cols)))]
    if info.codec.row_scales:
        out.append((f"{name}.scales", "F32", (rows,)))
    return out


def write_packed(
    path: str | os.PathLike,
    matrices: Mapping[str, PackedMatrix],
    other: Mapping[str, RawTensor] | None = None,
) -> None:
    """Write a packed file, atomically.

    Parameters
    ----------
    path : path
        Replaced if it exists.
    matrices : mapping of str to PackedMatrix
        Compressed tensors; each is checked.
    other : mapping of str to RawTensor, optional
        Tensors to copy as they are.

    Raises
    ------
    SeedLMError
        The file cannot be written, a matrix is not valid, two tensors would have the same name.
    """
    infos, stored = {}, {}
    for name, matrix in matrices.items():
        matrix.check(f"tensor {name!r}")
        infos[name] = TensorInfo(matrix.codec, matrix.shape, int(matrix.exp_bias), matrix.dtype)
        if matrix.codec.is_fp16:
            parts = [matrix.halves()]
        else:
            parts = [to_bytes(matrix.codec, matrix.words), matrix.scales]
        stored[name] = [RawTensor.from_array(part) for part in parts if part is not None]
    write_stored(path, infos, stored, other)


def write_stored(
    path: str | os.PathLike,
    infos: Mapping[str, TensorInfo],
    stored: Mapping[str, Sequence[RawTensor]],
    other: Mapping[str, RawTensor] | None = None,
) -> None:
    """Write a packed file from tensors in their stored form, which may be memory maps; atomically.

    Parameters
    ----------
    path : path
        Replaced if it exists.
    infos : mapping of str to TensorInfo
        What the compressed tensors are.
    stored : mapping of str to sequence of RawTensor
        For each of them the U8 rows of words and, with row scales, the F32 scales; for ``fp16`` the F16 weights.
        The words are not checked.
    other : mapping of str to RawTensor, optional
        Tensors to copy as they are.

    Raises
    ------
    SeedLMError
        The file cannot be written, two tensors would have the same name.
    """
    tensors: dict[str, RawTensor] = {}
    entries = {}

    def add(name: str, tensor: RawTensor) -> None:
        if name in tensors:
            raise SeedLMError(f"{path}: two tensors would be called {name!r}")
        tensors[name] = tensor

    for name, info in infos.items():
        for (part, dtype, shape), tensor in zip(_stored(name, info), stored[name], strict=True):
            assert (tensor.dtype, tensor.shape) == (dtype, shape)
            add(part, tensor)
        entries[name] = {
            "shape": list(info.shape),
            "codec": info.codec.name,
            "exp_bias": info.exp_bias,
            "dtype": info.dtype,
        }
    for name, tensor in (other or {}).items():
        if name in entries:
            raise SeedLMError(f"{path}: two tensors would be called {name!r}")
        add(name, tensor)
    metadata = {"format": FORMAT, "version": VERSION, "tensors": json.dumps(entries, ensure_ascii=False)}
    write_tensors(path, tensors, metadata)


# --- NumPy vectors ---------------------------------------------------------------------------------
def load_npy(path: str | os.PathLike, dtype: Any = None, length: int | None = None) -> np.ndarray:
    """A vector from a .npy file.

    Parameters
    ----------
    path : path
    dtype : dtype, optional
        What it must be.
    length : int, optional
        How many elements it must have.

    Raises
    ------
    SeedLMError
        No such file, not a .npy file, not one-dimensional, another dtype or length.
    """
    try:
        with open(path, "rb") as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
    except OSError as error:
        raise SeedLMError(f"{path}: cannot read: {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        raise SeedLMError(f"{path}: not a complete .npy file: {str(error).splitlines()[0]}") from error
    if dtype is not None and array.dtype != np.dtype(dtype):
        raise SeedLMError(f"{path}: expected {np.dtype(dtype)}, found {array.dtype}")
    if array.ndim != 1 or (length is not None and array.size != length):
        raise SeedLMError(
            f"{path}: expected a vector{'' if length is None else f' of {length} elements'},"
            f" found shape {list(array.shape)}"
        )
    return array


def save_npy(path: str | os.PathLike, array: np.ndarray) -> None:
    """Write an array as a .npy file, atomically; raises `SeedLMError` if it cannot be written."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)
