"""Packed files: compressed tensors one by one, the others as they are; every complaint names file and tensor."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from seedlm.golden.codecs import Codec, codec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.tensors import SOURCE_DTYPES, RawTensor, TensorFile, some_names, write_tensors
from seedlm.golden.matrix import PackedMatrix
from seedlm.golden.rotation import Rotation

__all__ = [
    "FORMAT",
    "VERSION",
    "PackedFile",
    "PackedTensor",
    "TensorInfo",
    "foreign_seeds",
    "stored_layout",
    "stored_parts",
    "write_packed",
    "write_stored",
]

FORMAT = "seedlm"
VERSION = "1"

# What other programs call the seeds of a tensor, and words of metadata that name a convention.
_SEEDS = {"seeds", "lfsr_seed", "lfsr_seeds", "seed_offset", "seed_offsets"}
_CONVENTION = ("lfsr", "seed", "shift", "offset", "taps")  # in our own format; elsewhere only the first is a sure sign
_OURS = ("format", "version", "tensors", "stacks")
# Before a key of the source's metadata that would be taken for a convention.
_SOURCE = "source."


def foreign_seeds(file: TensorFile) -> str:
    """Why a file's seeds cannot be ours: it says so, or it has seeds and does not name this format. Else empty."""
    ours = file.metadata.get("format") == FORMAT
    keys = [key for key in file.metadata if key not in _OURS and not (ours and key.startswith(_SOURCE))]
    named = [key for key in keys if _names_convention(key, ours)]
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


def _names_convention(key: str, ours: bool) -> bool:
    return any(word in key.lower() for word in _CONVENTION[: None if ours else 1])


def _keep(metadata: Mapping[str, str]) -> dict[str, str]:
    """A source's metadata as a packed file has it beside its own."""
    return {
        _SOURCE * (key.startswith(_SOURCE) or _names_convention(key, ours=True)) + key: value
        for key, value in metadata.items()
        if key not in _OURS
    }


@dataclass(frozen=True)
class TensorInfo:
    """What a packed file says of a compressed tensor.

    A stack of matrices [n, rows, cols] is stored as one matrix [n * rows, cols]; `stack` is then its own shape. A
    matrix that the checkpoint has with the inputs first is stored with the outputs first; it is then `transposed`.
    """

    codec: Codec
    shape: tuple[int, int]
    exp_bias: int
    dtype: str
    stack: tuple[int, ...] | None = None
    rotation: Rotation | None = None
    transposed: bool = False

    @property
    def plain_shape(self) -> tuple[int, ...]:
        """The shape of the tensor before compression."""
        return self.shape[::-1] if self.transposed else self.stack or self.shape

    def plain(self, weights: np.ndarray) -> np.ndarray:
        """The weights of the stored matrix as the tensor had them before compression."""
        return weights.T if self.transposed else weights.reshape(self.plain_shape)


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
        infos = {name: self._info(name, entry) for name, entry in self._object("tensors").items()}
        stacks = self._object("stacks") if "stacks" in metadata else {}
        for name, shape in stacks.items():
            infos[name] = self._stacked(name, infos.get(name), shape)
        parts = set()
        for name, info in infos.items():
            for stored, dtype, shape in stored_layout(name, info):
                self._expect(name, stored, dtype, shape)
                parts.add(stored)
        self.tensors: dict[str, TensorInfo] = infos
        self.other: list[str] = [name for name in self.file.tensors if name not in parts]

    def _object(self, key: str) -> dict[str, Any]:
        try:
            entries = json.loads(self.file.metadata.get(key, ""))
            if not isinstance(entries, dict):
                raise ValueError("not an object")
        except (ValueError, RecursionError) as error:
            raise SeedLMError(f"{self.path}: metadata {key!r} must be a JSON object: {error}") from error
        return entries

    def _stacked(self, name: str, info: TensorInfo | None, shape: Any) -> TensorInfo:
        good = isinstance(shape, list) and len(shape) == 3 and all(type(n) is int and n > 0 for n in shape)
        if info is None or info.transposed or not good or (shape[0] * shape[1], shape[2]) != info.shape:
            expected = f"n, rows, cols of {info.shape[0]} x {info.shape[1]} weights" if info else "a compressed tensor"
            raise SeedLMError(f"{self.path}: tensor {name!r}: in 'stacks': expected {expected}, found {shape!r}")
        return replace(info, stack=tuple(shape))

    def _info(self, name: str, entry: Any) -> TensorInfo:
        def require(condition: bool, message: str) -> None:
            if not condition:
                raise SeedLMError(f"{self.path}: tensor {name!r}: {message}")

        keys = {"shape", "codec", "exp_bias", "dtype"}
        require(
            isinstance(entry, dict) and set(entry) - {"rotation", "transposed"} == keys,
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
        require(entry.get("transposed", True) is True, f"transposed must be true, not {entry.get('transposed')!r}")
        require(isinstance(entry["codec"], str), f"codec must be a name, not {entry['codec']!r}")
        try:
            kind = codec(entry["codec"])
            rotation = Rotation.from_metadata(entry["rotation"]) if "rotation" in entry else None
            if rotation is not None:
                rotation.check(shape[1])
        except SeedLMError as error:
            raise SeedLMError(f"{self.path}: tensor {name!r}: {error}") from error
        turned = "transposed" in entry
        return TensorInfo(kind, (shape[0], shape[1]), bias, entry["dtype"], rotation=rotation, transposed=turned)

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
            raise SeedLMError(f"{self.path}: no compressed tensor {name!r}: {some_names(self.tensors)}")
        info = self.tensors[name]
        rows, cols = info.shape
        stored = self.file.raw(info.codec.stored_name(name)).data.reshape(rows, info.codec.row_bytes(cols))
        scales = self.file.array(f"{name}.scales").astype(np.float32) if info.codec.row_scales else None
        matrix = PackedMatrix(
            info.codec, info.shape, None, scales, info.exp_bias, info.dtype, stored=stored, rotation=info.rotation
        )
        if check:
            matrix.check(f"{self.path}: tensor {name!r}")
        return matrix

    @property
    def source_metadata(self) -> dict[str, str]:
        """The metadata of the file that was compressed, but for the keys that a packed file has itself."""
        metadata = self.file.metadata
        return {key.removeprefix(_SOURCE): value for key, value in metadata.items() if key not in _OURS}

    def raw(self, name: str) -> RawTensor:
        """A stored tensor as it is, see `TensorFile.raw`."""
        return self.file.raw(name)

    def array(self, name: str) -> np.ndarray:
        """The values of a tensor that is not compressed, see `TensorFile.array`."""
        return self.file.array(name)


@dataclass(frozen=True, eq=False)
class PackedTensor:
    """A compressed tensor that offers what a `RawTensor` of its weights would; they are decoded when asked for."""

    file: PackedFile
    name: str
    turned: bool = False
    is_float = True

    @property
    def info(self) -> TensorInfo:
        return self.file.tensors[self.name]

    @property
    def codec(self) -> Codec:
        return self.info.codec

    @property
    def dtype(self) -> str:
        """What the weights were before compression."""
        return self.info.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.info.plain_shape[:: -1 if self.turned else 1]

    def transposed(self) -> PackedTensor:
        """The tensor with rows and columns exchanged; `matrix` is the same."""
        return replace(self, turned=not self.turned)

    def matrix(self) -> PackedMatrix:
        """The tensor, checked; see `PackedFile.matrix`."""
        return self.file.matrix(self.name)

    def array(self) -> np.ndarray:
        """The weights, float32."""
        weights = self.info.plain(self.matrix().decode())
        return weights.T if self.turned else weights


def stored_layout(name: str, info: TensorInfo) -> list[tuple[str, str, tuple[int, ...]]]:
    """Name, dtype and shape of the stored tensors of a compressed one."""
    rows, cols = info.shape
    codec = info.codec
    words = (codec.stored_name(name), codec.stored_dtype, codec.stored_shape(rows, cols))
    return [words, (f"{name}.scales", "F32", (rows,))] if codec.row_scales else [words]


def stored_parts(info: TensorInfo, rows: np.ndarray, scales: np.ndarray | None) -> list[RawTensor]:
    """The stored tensors of a compressed one, from its rows (uint8 [rows, row_bytes]) and row scales."""
    words = RawTensor(info.codec.stored_dtype, info.codec.stored_shape(*info.shape), rows.reshape(-1))
    return [words] if scales is None else [words, RawTensor.from_array(scales)]


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
        bias, rotation = int(matrix.exp_bias), matrix.rotation
        infos[name] = TensorInfo(matrix.codec, matrix.shape, bias, matrix.dtype, rotation=rotation)
        stored[name] = stored_parts(infos[name], matrix.stored, matrix.scales)
    write_stored(path, infos, stored, other)


def write_stored(
    path: str | os.PathLike,
    infos: Mapping[str, TensorInfo],
    stored: Mapping[str, Sequence[RawTensor]],
    other: Mapping[str, RawTensor] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a packed file from tensors in their stored form, which may be memory maps; atomically.

    Parameters
    ----------
    path : path
        Replaced if it exists.
    infos : mapping of str to TensorInfo
        What the compressed tensors are.
    stored : mapping of str to sequence of RawTensor
        For each of them the rows of words and, with row scales, the F32 scales (`stored_parts`).
        The words are not checked.
    other : mapping of str to RawTensor, optional
        Tensors to copy as they are.
    metadata : mapping of str to str, optional
        Of the source: kept beside the file's own, which win.

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
        for (part, dtype, shape), tensor in zip(stored_layout(name, info), stored[name], strict=True):
            assert (tensor.dtype, tensor.shape) == (dtype, shape)
            add(part, tensor)
        entries[name] = {
            "shape": list(info.shape),
            "codec": info.codec.name,
            "exp_bias": info.exp_bias,
            "dtype": info.dtype,
        }
        if info.rotation is not None:
            entries[name]["rotation"] = info.rotation.metadata()
        if info.transposed:
            entries[name]["transposed"] = True
    for name, tensor in (other or {}).items():
        if name in entries:
            raise SeedLMError(f"{path}: two tensors would be called {name!r}")
        add(name, tensor)
    own = {"format": FORMAT, "version": VERSION, "tensors": json.dumps(entries, ensure_ascii=False)}
    stacks = {name: list(info.stack) for name, info in infos.items() if info.stack}
    if stacks:
        own["stacks"] = json.dumps(stacks, ensure_ascii=False)
    write_tensors(path, tensors, _keep(metadata or {}) | own)
