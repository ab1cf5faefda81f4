"""From a weight matrix to a packed matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from encoder.engines import make_engine
from encoder.problem import Problem
from golden.errors import SeedLMError
from golden.matrix import PackedMatrix
from golden.params import Codec
from golden.words import unpack, weights_int

__all__ = ["compress_matrix", "encode_blocks", "exponent_bias", "relative_error", "to_half"]

CHUNK = 1 << 16  # blocks searched per call of an engine: bounds the working memory
BIAS_LIMIT = 100  # 2**b and its product with any weight stay normal binary32 numbers
SCALE_START = 0.25  # first row scale, relative to the row's rms and the largest |A| entry
SMALLEST_SCALE = 2.0**-126

Progress = Callable[[int, int], None]


def check_finite(w: np.ndarray, name: str = "matrix") -> None:
    """Raise `SeedLMError` naming the first weight that is NaN or infinite."""
    for row in range(len(w)):
        finite = np.isfinite(w[row])
        if not finite.all():
            column = int(np.argmin(finite))
            raise SeedLMError(f"{name}: the weight in row {row}, column {column} is {w[row, column]}:"
                              " expected finite weights")  # fmt: skip


def row_energy(w: np.ndarray) -> np.ndarray:
    """Sum of squares of every row, float64 [rows], in NumPy's own pairwise order: the same on every machine."""
    out = np.empty(len(w))
    for row in range(len(w)):
        x = np.ascontiguousarray(w[row], dtype=np.float64)
        out[row] = np.add.reduce(x * x)
    return out


def exponent_bias(w: np.ndarray) -> int:
    """b = floor(log2 of the root mean square), limited to +-100; 0 for a matrix of zeros."""
    mean = float(np.add.reduce(row_energy(w))) / w.size
    if mean == 0:
        return 0
    return int(np.clip(np.frexp(np.sqrt(mean))[1] - 1, -BIAS_LIMIT, BIAS_LIMIT))


def blocks_of(codec: Codec, w: np.ndarray) -> np.ndarray:
    """float64 [C, rows * nb]: the blocks of some rows, columns past the end as zeros."""
    rows, cols = w.shape
    nb = codec.blocks(cols)
    padded = np.zeros((rows, nb * codec.C))
    padded[:, :cols] = w
    return np.ascontiguousarray(padded.reshape(rows * nb, codec.C).T)


def encode_blocks(w: np.ndarray, codec: Codec, encoder: str = "paper", *, scales: np.ndarray | None = None,
                  engine: str = "auto") -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Best words of single blocks.

    Parameters
    ----------
    w : np.ndarray
        Float [n, C], finite.
    codec : Codec
        A codec with seeds.
    encoder : str
        ``paper``: Algorithm 3 with the exponent rule of the design.
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


def _row_chunks(codec: Codec, shape: tuple[int, int]) -> Iterator[slice]:
    step = max(1, CHUNK // codec.blocks(shape[1]))
    for start in range(0, shape[0], step):
        yield slice(start, min(start + step, shape[0]))


def refit(codec: Codec, w: np.ndarray, words: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """The row scales that suit given words best: <N, w> / <N, N>, float32 [rows].

    A row without a non-zero word keeps its scale.
    """
    out = scales.copy()
    for row in range(len(w)):
        n = np.ldexp(weights_int(codec, words[row]).astype(np.float64), unpack(codec, words[row])[1][:, None])
        n = n.ravel()[: w.shape[1]]
        energy = np.add.reduce(n * n)
        if energy > 0:
            out[row] = np.add.reduce(n * w[row].astype(np.float64)) / energy
    return out


def compress_matrix(w: np.ndarray, codec: Codec, encoder: str = "paper", exp_bias: int | str = "auto", *,
                    engine: str = "auto", dtype: str = "F32", name: str = "matrix",
                    progress: Progress | None = None) -> PackedMatrix:  # fmt: skip
    """Compress a weight matrix.

    Parameters
    ----------
    w : np.ndarray
        Float [rows, cols]; a row is an output.
    codec : Codec
    encoder : str
        ``paper``.
    exp_bias : int or str
        b, or ``auto`` for `exponent_bias`. Codecs with row scales and ``fp16`` have none.
    engine : str
        See `encoder.engines`; does not change the result.
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

    bias, scales = 0, None
    if codec.row_scales:
        rms = np.sqrt(row_energy(w) / w.shape[1])
        start = np.maximum(SCALE_START * rms / codec.denominator, SMALLEST_SCALE)
        scales = np.where(rms > 0, start, 1).astype(np.float32)
    else:
        bias = exponent_bias(w) if exp_bias == "auto" else int(exp_bias)

    nb = codec.blocks(w.shape[1])
    words = np.empty((len(w), nb), np.uint64)
    searcher = None
    for chunk in _row_chunks(codec, w.shape):
        blocks = blocks_of(codec, w[chunk])
        unit = None if scales is None else np.repeat(scales[chunk].astype(np.float64), nb)
        problem = Problem(codec, np.ldexp(blocks, -bias), encoder, unit)
        searcher = searcher or make_engine(problem, engine)
        words[chunk] = searcher.run(problem).words(codec).reshape(-1, nb)
        if progress:
            progress(chunk.stop * nb, words.size)
    if scales is not None:
        scales = refit(codec, w, words, scales)
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
