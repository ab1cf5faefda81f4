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

from seedlm.encoder.families import encoder_of
from seedlm.encoder.feedback.factor import Feedback
from seedlm.encoder.loss import Loss
from seedlm.encoder.matrix import largest_weight, settle
from seedlm.golden.codecs import Codec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.cache import source_digest
from seedlm.golden.files.tensors import RawTensor, release
from seedlm.golden.matrix import PackedMatrix
from seedlm.golden.rotation import Rotation

__all__ = ["Encoded", "Unit", "code_digest", "encode_unit", "prepare"]

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
        The tensor's exponent bias; 0 where the codec has none.
    importance : np.ndarray or None
        float64 [cols], see `Encoder.encode`.
    rotation : Rotation or None
        What the rows are multiplied with before they are coded.
    feedback : Feedback or None
        See `Encoder.encode`.
    engine, threads
        See `Encoder.encode`.
    code : str
        If given, `code_digest` where the unit was made: another version of the encoder refuses it.
    """

    rows: RawTensor
    codec: Codec
    encoder: str
    bias: int = 0
    importance: np.ndarray | None = None
    rotation: Rotation | None = None
    feedback: Feedback | None = None
    engine: str = "auto"
    threads: int | None = None
    code: str = ""


@dataclass(frozen=True, eq=False)
class Encoded:
    """What became of a unit.

    Parameters
    ----------
    data : np.ndarray
        uint8 [n, row_bytes], the words as they are stored.
    scales : np.ndarray or None
        float32 [n] with row scales.
    loss : Loss
    """

    data: np.ndarray
    scales: np.ndarray | None
    loss: Loss


def encode_unit(unit: Unit) -> Encoded:
    """Encode a unit: a pure function, the same anywhere.

    Raises
    ------
    SeedLMError
        The unit was made by another version of the encoder.
    """
    if unit.code and unit.code != code_digest():
        raise SeedLMError("a worker has another version of the encoder: install the same on all")
    w, codec = unit.rows.array(), unit.codec
    rows = w if unit.rotation is None else unit.rotation.weights(w)
    words, scales = encoder_of(codec).encode(
        rows, codec, unit.encoder, bias=unit.bias, importance=unit.importance, feedback=unit.feedback,
        engine=unit.engine, threads=unit.threads,
    )  # fmt: skip
    packed = PackedMatrix(codec, w.shape, words, scales, unit.bias)
    packed.check("encoder")  # a mistake of the encoder would else be found by the reader of the file
    loss, step = Loss(), max(1, SCAN // w.shape[1])
    for start in range(0, len(w), step):
        # Of the rows as they were coded: rotations change no sum of squares, and ranges are of coded rows.
        x = rows[start : start + step].astype(np.float64)
        part = packed.row_slice(start, start + len(x))
        loss += Loss.of(x, part.decode(np.float64), codec, unit.encoder, part.scales, unit.bias)
    return Encoded(packed.stored, packed.scales, loss)


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
        b, or ``auto``: see `settle`.
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
    step = max(1, SCAN // cols)

    def parts() -> Iterator[np.ndarray]:
        for start in range(0, rows, step):
            part = tensor.rows(start, start + step)
            digest.update(part.data)
            yield part.array()
            release(part.data)
            if progress:
                progress(part.shape[0] * cols)

    largest = largest_weight(parts(), name)
    return settle(_Rows(tensor), codec, exp_bias, largest, name), digest.hexdigest()


@lru_cache(maxsize=1)
def code_digest() -> str:
    """A digest of the sources that decide on the words: units of one version must not be mixed with another's."""
    from seedlm import encoder, golden  # here: the package is only complete when this module is loaded

    return source_digest(encoder, golden)
