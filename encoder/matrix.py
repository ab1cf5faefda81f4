"""From a weight matrix to a packed matrix, whatever the codec."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NoReturn

import numpy as np

from seedlm.encoder.families import encoder_of, method_of
from seedlm.encoder.families._base import BIAS_LIMIT
from seedlm.encoder.feedback.factor import Feedback
from seedlm.encoder.loss import Loss
from seedlm.golden.codecs import Codec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.matrix import PackedMatrix
from seedlm.golden.rotation import Rotation

__all__ = ["compress_matrix", "largest_weight", "relative_error", "settle", "slices"]

Progress = Callable[[int, int], None]


def largest_weight(parts: Iterable[np.ndarray], name: str = "matrix") -> float:
    """The largest magnitude of a matrix that comes in slices of rows.

    Raises
    ------
    SeedLMError
        A weight is NaN or infinite: the message names the first.
    """
    largest, above = 0.0, 0
    for w in parts:
        high = float(np.maximum(w.max(), -w.min()))  # NaN if there is one
        if not np.isfinite(high):
            row, column = (int(i) for i in np.argwhere(~np.isfinite(w))[0])
            _refuse(name, w[row, column], above + row, column, "is not finite: expected finite weights")
        largest, above = max(largest, high), above + len(w)
    return largest


def settle(w: np.ndarray, codec: Codec, exp_bias: int | str, largest: float, name: str = "matrix") -> int:
    """The exponent bias of a whole tensor, checked with its weights.

    Parameters
    ----------
    w : np.ndarray
        Float [rows, cols], finite; anything whose slices of rows are such arrays.
    codec : Codec
    exp_bias : int or str
        b, or ``auto`` for the encoder's choice. Codecs without exponent bias get 0.
    largest : float
        The largest magnitude in `w`.
    name : str
        For messages.

    Raises
    ------
    SeedLMError
        A bias out of range, or one with which a weight is too large for the codec.
    """
    if exp_bias != "auto" and not (isinstance(exp_bias, int) and abs(exp_bias) <= BIAS_LIMIT):
        raise SeedLMError(f"exponent bias must be auto or -{BIAS_LIMIT} to {BIAS_LIMIT}, not {exp_bias!r}")
    encoder, bias = encoder_of(codec), 0
    if codec.has_exp_bias:
        bias = encoder.exp_bias(codec, w) if exp_bias == "auto" else exp_bias
    limit = encoder.limit(codec, bias)
    if largest >= limit:
        what = f"is too large for codec {codec}"
        if codec.has_exp_bias and exp_bias != "auto":
            what += f" with exponent bias {bias}: expected auto or a larger one"
        for row in range(len(w)):
            beyond = np.abs(w[row : row + 1][0]) >= limit
            if beyond.any():
                column = int(beyond.argmax())
                _refuse(name, w[row : row + 1][0, column], row, column, f"{what} (it takes less than {limit:.5g})")
    return bias


def _refuse(name: str, weight: float, row: int, column: int, what: str) -> NoReturn:
    raise SeedLMError(f"{name}: the weight {weight} in row {row}, column {column} {what}")


def slices(codec: Codec, shape: tuple[int, int], weighted: bool = False,
           fed: bool = False) -> Iterator[tuple[int, int]]:  # fmt: skip
    """First row and row after the last of each unit of a matrix; with an importance (weighted), with feedback (fed)."""
    rows, cols = shape
    step = encoder_of(codec).unit_rows(codec, cols, weighted, fed)
    for start in range(0, rows, step):
        yield start, min(start + step, rows)


def compress_matrix(w: np.ndarray, codec: Codec, encoder: str = "optimal", exp_bias: int | str = "auto", *,
                    importance: np.ndarray | None = None, feedback: Feedback | None = None, engine: str = "auto",
                    threads: int | None = None, dtype: str = "F32", name: str = "matrix",
                    rotation: Rotation | None = None, progress: Progress | None = None) -> PackedMatrix:  # fmt: skip
    """Compress a weight matrix.

    Parameters
    ----------
    w : np.ndarray
        Float [rows, cols]; a row is an output.
    codec : Codec
    encoder : str
        How words are searched, where the codec's family has several methods (`method_of`).
    exp_bias : int or str
        b, or ``auto``: see `settle`.
    importance : np.ndarray or None
        float64 [cols], non-negative: how much the squared error of each column counts, where the family can tell.
    feedback : Feedback or None
        What errors in a column ask of the columns behind it, from the second moments of rotated vectors if the rows
        are rotated; instead of an importance, in blocks of `Encoder.feedback_block` columns.
    engine, threads
        See `Encoder.encode`; they do not change the result.
    dtype, name : str
        The source's dtype, kept in the result, and its name, for messages.
    rotation : Rotation or None
        What the rows are multiplied with before they are coded.
    progress : callable or None
        Called with (words done, words in all).

    Raises
    ------
    SeedLMError
        Weights that are not finite or too large for the codec; unknown options; an importance of rotated columns.
    """
    if importance is not None and feedback is not None:
        raise SeedLMError(f"{name}: feedback knows how much a column counts: expected no importance beside it")
    if importance is not None and rotation is not None:
        raise SeedLMError(f"{name}: an importance is of columns, which a rotation mixes: expected one of the two")
    if w.ndim != 2 or w.size == 0:
        raise SeedLMError(f"{name}: expected a matrix, not an array of shape {list(w.shape)}")
    family, method = encoder_of(codec), method_of(codec, encoder) or encoder
    bias = settle(w, codec, exp_bias, largest_weight([w], name), name)
    parts = []
    options = {"bias": bias, "importance": importance, "feedback": feedback, "engine": engine, "threads": threads}
    for start, stop in slices(codec, w.shape, importance is not None, feedback is not None):
        rows = w[start:stop] if rotation is None else rotation.weights(w[start:stop])
        parts.append(family.encode(rows, codec, method, **options))
        if progress:
            progress(stop * codec.blocks(w.shape[1]), len(w) * codec.blocks(w.shape[1]))
    words, scales = zip(*parts, strict=True)
    scales = np.concatenate(scales) if codec.row_scales else None
    return PackedMatrix(codec, w.shape, np.concatenate(words), scales, bias, dtype, rotation=rotation)


def relative_error(w: np.ndarray, packed: PackedMatrix) -> float:
    """Relative Frobenius error of a packed matrix; 0 for a matrix of zeros that is kept exactly."""
    loss, step = Loss(), max(1, (1 << 20) // w.shape[1])
    for start in range(0, len(w), step):
        part = packed.row_slice(start, start + step)
        loss += Loss.between(w[start : start + step], part.decode(np.float64))
    return loss.relative
