"""The unit of work: a slice of a tensor's rows, encoded by a pure function.

A tensor is cut by its size and the codec alone, never by the number of workers, so that the same input
gives the same bytes wherever and in whatever order the units are encoded. A unit carries its weights
with it: a worker needs no access to the files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from seedlm.encoder.matrix import LARGEST_WEIGHT, SLICE, WEIGHTED_ROWS, exponent_bias, to_half
from seedlm.encoder.seed.rows import encode_rows
from seedlm.golden.build import Codec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.cache import source_digest
from seedlm.golden.files.tensors import RawTensor
from seedlm.golden.matrix import PackedMatrix
from seedlm.golden.packing import to_bytes

__all__ = ["Encoded", "Unit", "code_digest", "encode_unit", "prepare", "slices"]

FP16_LIMIT = 65520.0  # the smallest magnitude that rounds to infinity in binary16
SCAN = 1 << 20  # weights looked at together


@dataclass(frozen=True, eq=False)
class Unit:
    """Rows to encode, with everything that decides on the result, and hints that do not.

    Parameters
    ----------
    rows : RawTensor
        [n, cols] of F16, BF16 or F32, finite.
    codec : Codec
    encoder : str
    bias : int
        The tensor's exponent bias; 0 with row scales and for ``fp16``.
    importance : np.ndarray or None
        float64 [cols], see `encode_rows`.
    engine, threads
        See `encoder.engines`.
    code : str
        If given, `code_digest` where the unit was made: another version of the encoder refuses it.
    """

    rows: RawTensor
    codec: Codec
    encoder: str
    bias: int = 0
    importance: np.ndarray | None = None
    engine: str = "auto"
    threads: int | None = None
    code: str = ""


@dataclass(frozen=True, eq=False)
class Encoded:
    """What became of a unit.

    Parameters
    ----------
    data : np.ndarray
        uint8 [n, stride], the words as they are stored; for ``fp16`` the bytes of the binary16 weights.
    scales : np.ndarray or None
        float32 [n] with row scales.
    err, norm : float
        Squared error and squares of the weights, summed over the rows.
    """

    data: np.ndarray
    scales: np.ndarray | None
    err: float
    norm: float


def slices(codec: Codec, shape: tuple[int, int], weighted: bool = False) -> Iterator[tuple[int, int]]:
    """First row and row after the last of each unit of a tensor; the same as in `compress_matrix`."""
    rows, cols = shape
    step = max(1, SLICE // codec.blocks(cols)) if codec.is_fp16 or not weighted else WEIGHTED_ROWS
    for start in range(0, rows, step):
        yield start, min(start + step, rows)


def encode_unit(unit: Unit) -> Encoded:
    """Encode a unit: a pure function, the same anywhere.

    Raises
    ------
    SeedLMError
        The unit was made by another version of the encoder.
    """
    if unit.code and unit.code != code_digest():
        raise SeedLMError("a worker has another version of the encoder: install the same on all")
    w = unit.rows.array()
    codec = unit.codec
    if codec.is_fp16:
        half = to_half(w)
        packed = PackedMatrix(codec, half.shape, half.view(np.uint16))
        data = half.astype("<f2", copy=False).view(np.uint8)
    else:
        words, scales = encode_rows(
            w, codec, unit.encoder, bias=unit.bias, importance=unit.importance, engine=unit.engine,
            threads=unit.threads,
        )  # fmt: skip
        packed = PackedMatrix(codec, w.shape, words, scales, unit.bias)
        data = to_bytes(words, codec.word_bits)
    packed.check("encoder")  # a mistake of the encoder would else be found by the reader of the file
    err = norm = 0.0
    step = max(1, SCAN // w.shape[1])
    for start in range(0, len(w), step):
        x = w[start : start + step].astype(np.float64)
        rest = x - packed.row_slice(start, start + len(x)).decode(np.float64)
        err += float(np.square(rest).sum())
        norm += float(np.square(x).sum())
    return Encoded(data, packed.scales, err, norm)


class _Rows:
    """A stored matrix as an array whose rows are widened as they are read."""

    def __init__(self, tensor: RawTensor) -> None:
        self.tensor = tensor
        self.size = tensor.shape[0] * tensor.shape[1]

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        start, stop, _ = rows.indices(len(self))
        return self.tensor.rows(start, stop).array()


def prepare(tensor: RawTensor, codec: Codec, exp_bias: int | str = "auto", name: str = "matrix",
            progress: Callable[[int], None] | None = None) -> tuple[int, str]:  # fmt: skip
    """What must be known of a whole tensor before its rows can be encoded: (exponent bias, digest of its bytes).

    Parameters
    ----------
    tensor : RawTensor
        A matrix of F16, BF16 or F32.
    codec : Codec
    exp_bias : int or str
        b, or ``auto``. Codecs with row scales and ``fp16`` have none.
    name : str
        For messages.
    progress : callable or None
        Called with the number of weights looked at since the last call.

    Raises
    ------
    SeedLMError
        A weight is NaN or infinite, or too large for the codec.
    """
    rows, cols = tensor.shape
    digest = hashlib.blake2b(digest_size=16)
    largest = 0.0
    step = max(1, SCAN // cols)
    for start in range(0, rows, step):
        part = tensor.rows(start, start + step)
        digest.update(part.data)
        w = part.array()
        high = float(np.maximum(w.max(), -w.min()))  # NaN if there is one
        if not np.isfinite(high) or (codec.is_fp16 and high >= FP16_LIMIT):
            good = np.isfinite(w)
            if good.all():
                row, column = np.argwhere(np.abs(w) >= FP16_LIMIT)[0]
                what = "is too large for binary16"
            else:
                row, column = np.argwhere(~good)[0]
                what = "is not finite"
            raise SeedLMError(f"{name}: the weight {w[row, column]} in row {start + row}, column {column} {what}:"
                              " expected finite weights")  # fmt: skip
        largest = max(largest, float(high))
        if progress:
            progress(w.size)
    bias = 0
    if not (codec.is_fp16 or codec.row_scales):
        bias = exponent_bias(_Rows(tensor)) if exp_bias == "auto" else int(exp_bias)
        if largest > LARGEST_WEIGHT * 2.0**bias:
            raise SeedLMError(f"{name}: the exponent bias {bias} is too small for the weight {largest:g}:"
                              " expected auto or a larger one")  # fmt: skip
    return bias, digest.hexdigest()


@lru_cache(maxsize=1)
def code_digest() -> str:
    """A digest of the sources that decide on the words: units of one version must not be mixed with another's."""
    from seedlm import encoder, golden  # here: the package is only complete when this module is loaded

    return source_digest(encoder, golden)
