"""GGUF files with blocks of 32 weights: Q4_0, Q8_0 and MXFP4."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seedlm.golden.codecs import codec
from seedlm.golden.files.tensors import RawTensor
from seedlm.host.formats import format_of
from seedlm.host.gguf.header import Header, Stored
from seedlm.host.gguf.model import read_gguf
from seedlm.host.gguf.tensors import PLAIN, Change, order_of, stored_rows, type_name
from seedlm.host.imports._base import Form, Matrix, Parts, Quantised, refuse_all

__all__ = ["FORM"]

BLOCK = 32
HALF = 2  # bytes of a binary16


@dataclass(frozen=True)
class Type:
    """A type of blocks.

    Parameters
    ----------
    codec : str
    scale_bytes : int
        In front of a block's codes.
    scale : callable
        The scales, from their bytes [rows, groups, scale_bytes].
    codes : callable
        The codes in the order of the columns, from the bytes behind the scales.
    """

    codec: str
    scale_bytes: int
    scale: Callable[[np.ndarray], np.ndarray]
    codes: Callable[[np.ndarray], np.ndarray]


def _half(data: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(data).view("<f2")[..., 0]


def _nibbles(data: np.ndarray) -> np.ndarray:
    """The low halves of all bytes of a block, then the high ones."""
    return np.concatenate([data & 15, data >> 4], axis=-1)


TYPES = {
    "Q4_0": Type("q4_0", HALF, _half, _nibbles),
    "Q8_0": Type("q8_0", HALF, _half, np.ascontiguousarray),
    "MXFP4": Type("mxfp4", 1, lambda data: data[..., 0], _nibbles),
}
NAME, KINDS = "GGUF", ", ".join(TYPES)


def _takes(path: Path) -> bool:
    form = format_of(path)
    return form is not None and form.name == NAME


def _open(path: Path) -> Quantised:
    model = read_gguf(path)
    (shard,) = model.source.shards
    tensors = model.source.shards[shard].tensors
    matrices: dict[str, Matrix] = {}
    other: dict[str, RawTensor] = {}
    reasons: dict[str, str] = {}
    for name, (stored, change) in model.places.items():
        kind = type_name(model.header, stored)
        if kind in PLAIN:
            other[name] = tensors[name]
        elif kind not in TYPES:
            reasons[f"{stored.name} ({kind})"] = f"no codec expresses these types: expected {KINDS}"
        elif len(tensors[name].shape) != 2 or change.row:
            reasons[f"{stored.name} ({kind})"] = "not a matrix: expected it without quantisation"
        else:
            matrices[name] = _matrix(model.header, stored, change, TYPES[kind])
    refuse_all(path, reasons)
    if not matrices:
        model.header.refuse(f"no tensor is quantised: expected {KINDS}; seedlm compress takes models that"
                            " are not")  # fmt: skip
    return Quantised(NAME, model.source, {shard: matrices}, {shard: other})


def _matrix(header: Header, stored: Stored, change: Change, kind: Type) -> Matrix:
    data = stored_rows(header, stored)
    rows, cols = stored.shape
    order = order_of(header, stored, rows, change)

    def parts(start: int, stop: int) -> Parts:
        blocks = np.asarray(data[slice(start, stop) if order is None else order[start:stop]])
        blocks = blocks.reshape(stop - start, cols // BLOCK, -1)
        codes = kind.codes(blocks[..., kind.scale_bytes :]).reshape(stop - start, cols)
        return codes, kind.scale(blocks[..., : kind.scale_bytes]), None

    where = f"{header.path}: {stored.name}"
    return Matrix(where, codec(kind.codec), (rows, cols), "F32", parts, transposed=change.transposed)


FORM = Form(NAME, KINDS, _takes, _open)
