"""Block floating point, the yardstick: small integers with one binary16 scale per group of columns.

Data-free, or with errors fed back: then it is what GPTQ does, column by column from left to right. Nothing here is
part of a packed file; a matrix comes back as the weights that the format can hold.
"""

from __future__ import annotations

import numpy as np

from seedlm.encoder.feedback.factor import Feedback
from seedlm.encoder.feedback.rows import code_blocks
from seedlm.golden.errors import SeedLMError

__all__ = ["block_float", "block_float_bits", "block_float_fed"]

CHUNK = 1 << 16  # weights worked on at a time: each has up to 2**(bits-1) breakpoints of 8 bytes in several arrays


def block_float_bits(cols: int, bits: int = 4, group: int = 128) -> float:
    """Stored bits per weight of rows of `cols` columns."""
    return bits + 16 * -(-cols // group) / cols


def block_float(w: np.ndarray, bits: int = 4, group: int = 128) -> np.ndarray:
    """The nearest weights q * s, q an integer of `bits` bits in two's complement, s a binary16 per group.

    The scale of each group (up to `group` consecutive columns of a row) is the one with the least squared error:
    clipping the largest weights is allowed, and a negative scale gives the longer side to the positive weights. Found
    exactly for real s, then rounded to binary16, and q is rounded anew.

    Parameters
    ----------
    w : np.ndarray
        Float [rows, cols], finite.
    bits : int
        2 to 8.
    group : int

    Returns
    -------
    np.ndarray
        float64 [rows, cols].
    """
    w = _checked(w, bits, group)
    out = np.empty_like(w)
    step = max(1, CHUNK // group)
    for start in range(0, w.shape[1], group):
        for row in range(0, len(w), step):
            part = np.s_[row : row + step, start : start + group]
            out[part] = _rounded(w[part], _scales(w[part], bits), bits)
    return out


def block_float_fed(w: np.ndarray, feedback: Feedback, bits: int = 4, group: int = 128,
                    engine: str = "auto") -> np.ndarray:  # fmt: skip
    """The same format, each column for what the errors on its left have left to it.

    The scale of a group is the one with the least squared error for what its columns would best be when its first has
    its turn, and stays.

    Parameters
    ----------
    w : np.ndarray
        Float [rows, cols], finite.
    feedback : Feedback
        In blocks of one column, its parts of whole groups.
    bits, group : int
        See `block_float`.
    engine : str
        See `spread` of `seedlm.encoder.feedback.rows`; the same bits.

    Returns
    -------
    np.ndarray
        float64 [rows, cols].
    """
    w = _checked(w, bits, group)
    if feedback.block != 1 or any(part.start % group for part in feedback.parts):
        raise SeedLMError(f"expected feedback in blocks of 1 column and in parts of whole groups of {group}")
    out = np.empty_like(w)
    step = max(1, CHUNK // group)
    for row in range(0, len(w), step):
        _code(out[row : row + step], w[row : row + step], feedback, bits, group, engine)
    return out


def _code(out: np.ndarray, w: np.ndarray, feedback: Feedback, bits: int, group: int, engine: str) -> None:
    scales = np.zeros(len(w))

    def look(first: int, last: int, targets: np.ndarray) -> None:
        # Targets count on no error in the columns between: what a column becomes if those before it do their part.
        part = next(part for part in feedback.parts if first < part.stop)
        own = slice(first - part.start, last - part.start)
        inner = np.eye(last - first) + part.matrix[own, own]
        kept = w[:, first:last]
        scales[:] = _scales(kept + np.linalg.solve(inner, (targets - kept).T).T, bits)

    def code(first: int, last: int, targets: np.ndarray) -> np.ndarray:
        out[:, first:last] = _rounded(targets, scales, bits)
        return out[:, first:last]

    code_blocks(w, feedback, code, engine, panel=group, look=look)


def _checked(w: np.ndarray, bits: int, group: int) -> np.ndarray:
    if not 2 <= bits <= 8 or group < 1:
        raise SeedLMError(f"block floating point of 2 to 8 bits in groups of at least 1, not {bits} and {group}")
    w = np.asarray(w, dtype=np.float64)
    if w.ndim != 2 or not np.isfinite(w).all():
        raise SeedLMError("expected a matrix of finite weights")
    return w


def _rounded(w: np.ndarray, scales: np.ndarray, bits: int) -> np.ndarray:
    """What weights [n, columns] become with scales [n]."""
    some = np.where(scales == 0, 1, scales)[:, None]
    return np.clip(np.rint(w / some), -(1 << bits - 1), (1 << bits - 1) - 1) * scales[:, None]


def _scales(w: np.ndarray, bits: int) -> np.ndarray:
    """The scales of groups [n, columns], binary16 numbers in float64."""
    best, error = np.zeros(len(w)), np.square(w).sum(axis=1)
    for sign in (1.0, -1.0):
        with np.errstate(over="ignore"):  # too large for binary16: the largest
            scale = np.clip(sign * _scale(sign * w, bits), -65504, 65504).astype(np.float16).astype(np.float64)
        distance = np.square(_rounded(w, scale, bits) - w).sum(axis=1)
        better = distance < error
        best[better], error[better] = scale[better], distance[better]
    return best


def _scale(w: np.ndarray, bits: int) -> np.ndarray:
    """The positive scale of least squared error for each group, 0 where nothing is gained by one.

    As s falls, |q| of a weight grows by one at |w| / s = 1/2, 3/2, ... up to its limit. Between two such points q is
    constant, and the best s = <q, w> / <q, q> lowers the squared error by <q, w>**2 / <q, q>. So: sort the points,
    add up both products along the way, take the largest gain.
    """
    magnitude = np.abs(w)
    limit = np.where(w < 0, 1 << bits - 1, (1 << bits - 1) - 1)
    k = np.arange(1 << bits - 1)
    reached = np.where(k < limit[..., None], magnitude[..., None] / (k + 0.5), 0).reshape(len(w), -1)
    order = np.argsort(-reached, axis=1)  # where points are equal the gain is largest after the last, in any order
    qw = np.repeat(magnitude, len(k), axis=1)  # each point adds |w| to <q, w>, and 2 k + 1 to <q, q>
    qq = np.broadcast_to(2.0 * k + 1, (*w.shape, len(k))).reshape(len(w), -1)
    qw = np.cumsum(np.take_along_axis(qw, order, axis=1), axis=1)
    qq = np.cumsum(np.take_along_axis(qq, order, axis=1), axis=1)
    gain = np.where(np.take_along_axis(reached, order, axis=1) > 0, qw * qw / qq, 0)
    at = gain.argmax(axis=1)[:, None]
    scale = np.take_along_axis(qw, at, axis=1) / np.take_along_axis(qq, at, axis=1)
    return np.where(np.take_along_axis(gain, at, axis=1) > 0, scale, 0)[:, 0]
