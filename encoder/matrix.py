"""From a weight matrix to a packed matrix."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from seedlm.encoder.seed.engines import make_engine
from seedlm.encoder.seed.problem import Problem
from seedlm.encoder.seed.rows import encode_rows, squares
from seedlm.golden.build import Codec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.matrix import PackedMatrix

__all__ = ["compress_matrix", "encode_blocks", "exponent_bias", "relative_error", "to_half"]

SLICE = 1 << 16  # blocks of the rows that are encoded together: bounds the working memory
WEIGHTED_ROWS = 4096  # with an importance tables are made for every column: for many rows at once
# Far above anything a word can stand for; beyond it all words are equally bad and the search has no bound.
LARGEST_WEIGHT = 2.0**20
BIAS_LIMIT = 100  # 2**b and its product with any weight stay normal binary32 numbers

Progress = Callable[[int, int], None]


def check_finite(w: np.ndarray, name: str = "matrix") -> None:
    """Raise `SeedLMError` naming the first weight that is NaN or infinite."""
    for row in range(len(w)):
        finite = np.isfinite(w[row])
        if not finite.all():
            column = int(np.argmin(finite))
            raise SeedLMError(f"{name}: the weight in row {row}, column {column} is {w[row, column]}:"
                              " expected finite weights")  # fmt: skip


def exponent_bias(w: np.ndarray) -> int:
    """b = floor(log2 of the root mean square), limited to +-100; 0 for a matrix of zeros."""
    energy = np.concatenate([squares(w[r : r + 64].astype(np.float64)) for r in range(0, len(w), 64)])
    mean = float(np.add.reduce(energy)) / w.size
    if mean == 0:
        return 0
    return int(np.clip(np.frexp(np.sqrt(mean))[1] - 1, -BIAS_LIMIT, BIAS_LIMIT))


def encode_blocks(w: np.ndarray, codec: Codec, encoder: str = "optimal", *, scales: np.ndarray | None = None,
                  engine: str = "auto") -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Best words of single blocks.

    Parameters
    ----------
    w : np.ndarray
        Float [n, C], finite.
    codec : Codec
        A codec with seeds.
    encoder : str
        ``optimal``: the global minimum over seed, exponent and coefficients; ``paper``: Algorithm 3 with the exponent
        rule of the design.
    scales : np.ndarray or None
        float32 [n], the row scale of each block, for codecs with row scales.
    engine : str
        See `encoder.engines`.

    Returns
    -------
    words : np.ndarray
        uint64 [n].
    err : np.ndarray
        float64 [n], squared errors.
    """
    blocks = np.ascontiguousarray(np.asarray(w, dtype=np.float64).T)
    problem = Problem(codec, blocks, encoder, None if scales is None else np.asarray(scales, np.float64))
    best = make_engine(problem, engine).run(problem)
    return best.words(codec), best.err


def compress_matrix(w: np.ndarray, codec: Codec, encoder: str = "optimal", exp_bias: int | str = "auto", *,
                    importance: np.ndarray | None = None, engine: str = "auto", threads: int | None = None,
                    dtype: str = "F32", name: str = "matrix",
                    progress: Progress | None = None) -> PackedMatrix:  # fmt: skip
    """Compress a weight matrix.

    Parameters
    ----------
    w : np.ndarray
        Float [rows, cols]; a row is an output.
    codec : Codec
    encoder : str
        ``optimal``: the global minimum over seed, exponent and coefficients; ``paper``: Algorithm 3.
    exp_bias : int or str
        b, or ``auto`` for `exponent_bias`. Codecs with row scales and ``fp16`` have none.
    importance : np.ndarray or None
        float64 [cols], non-negative: how much the squared error of each column counts. Not for ``fp16``.
    engine, threads
        See `encoder.engines`; they do not change the result.
    dtype, name : str
        The source's dtype, kept in the result, and its name, for messages.
    progress : callable or None
        Called with (blocks done, blocks in all).

    Raises
    ------
    SeedLMError
        Weights that are not finite or, for ``fp16``, too large; unknown options.
    """
    if w.ndim != 2 or w.size == 0:
        raise SeedLMError(f"{name}: expected a matrix, not an array of shape {list(w.shape)}")
    if exp_bias != "auto" and not (isinstance(exp_bias, int) and abs(exp_bias) <= BIAS_LIMIT):
        raise SeedLMError(f"exponent bias must be auto or -{BIAS_LIMIT} to {BIAS_LIMIT}, not {exp_bias!r}")
    check_finite(w, name)
    if codec.is_fp16:
        return PackedMatrix(codec, w.shape, to_half(w, name).view(np.uint16), dtype=dtype)

    bias = 0
    if not codec.row_scales:
        bias = exponent_bias(w) if exp_bias == "auto" else int(exp_bias)
        largest = float(np.abs(w).max())
        if largest > LARGEST_WEIGHT * 2.0**bias:
            raise SeedLMError(f"{name}: the exponent bias {bias} is too small for the weight {largest:g}:"
                              " expected auto or a larger one")  # fmt: skip
    nb = codec.blocks(w.shape[1])
    words = np.empty((len(w), nb), np.uint64)
    scales = np.empty(len(w), np.float32) if codec.row_scales else None
    step = max(1, SLICE // nb) if importance is None else WEIGHTED_ROWS
    for start in range(0, len(w), step):
        part = slice(start, min(start + step, len(w)))
        words[part], found = encode_rows(
            w[part], codec, encoder, bias=bias, importance=importance, engine=engine, threads=threads
        )
        if scales is not None:
            scales[part] = found
        if progress:
            progress(part.stop * nb, words.size)
    return PackedMatrix(codec, w.shape, words, scales, bias, dtype)


def to_half(w: np.ndarray, name: str = "matrix") -> np.ndarray:
    """The weights rounded to binary16, to nearest with ties to even; one too large for it is an error."""
    with np.errstate(over="ignore"):
        half = np.ascontiguousarray(w, dtype=np.float16)
    bad = ~np.isfinite(half)
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        raise SeedLMError(f"{name}: the weight {w[row, column]} in row {row}, column {column}"
                          " is too large for binary16")  # fmt: skip
    return half


def relative_error(w: np.ndarray, packed: PackedMatrix) -> float:
    """Relative Frobenius error of a packed matrix; 0 for a matrix of zeros that is kept exactly."""
    err = norm = 0.0
    step = max(1, (1 << 20) // w.shape[1])
    for start in range(0, len(w), step):
        x = np.asarray(w[start : start + step], dtype=np.float64)
        y = packed.row_slice(start, start + len(x)).decode(np.float64)
        err += float(((x - y) ** 2).sum())
        norm += float((x**2).sum())
    return (err / norm) ** 0.5 if norm else float(err > 0)
