"""Integers less a zero point, times a scale per group of columns: (q - z) * s, as several programs have them.

Where a group is larger than a codec's, its scale and zero point are repeated: the weights stay the same.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from seedlm.golden.codecs import codec
from seedlm.golden.files.tensors import RawTensor
from seedlm.host.imports._base import Inexact, Matrix, Parts

__all__ = ["fields", "halves", "integer_matrix", "scale_groups"]

# Codecs by the bits of a code, the one with the largest groups first.
CODECS = {4: {128: "int4g128", 64: "int4g64", 32: "int4g32"}, 8: {32: "q8_0"}}
CHECKED = 1 << 22  # scales looked at together

Rows = Callable[[int, int], np.ndarray]  # called with (first row, row after the last)


def fields(words: np.ndarray, bits: int) -> np.ndarray:
    """The fields of 32-bit words along the last axis, the lowest bits first: uint8, 32 / bits for each word."""
    data = np.ascontiguousarray(words).view(np.uint8)
    if bits == 8:
        return data
    out = np.empty((*data.shape[:-1], 2 * data.shape[-1]), np.uint8)
    out[..., ::2], out[..., 1::2] = data & 15, data >> 4
    return out


def halves(values: np.ndarray) -> np.ndarray:
    """Scales as binary16; raises `Inexact` unless all are finite and exactly that."""
    if not np.isfinite(values).all():
        raise Inexact(f"{np.count_nonzero(~np.isfinite(values))} of {values.size} scales are NaN or infinite")
    if values.dtype == np.float16:
        return values
    with np.errstate(over="ignore", under="ignore"):
        out = values.astype(np.float16)
    lost = out.astype(np.float32) != values
    if lost.any():
        raise Inexact(f"{np.count_nonzero(lost)} of {lost.size} scales have no exact binary16, such as"
                          f" {values[lost][0]:.9g}")  # fmt: skip
    return out


def scale_groups(cols: int, group: int) -> int:
    """Scales of a row in groups of `group` columns; -1: one for the row."""
    return 1 if group == -1 else -(-cols // group)


def integer_matrix(where: str, shape: tuple[int, int], scales: RawTensor, *, bits: int, group: int, codes: Rows,
                   scale_rows: Rows, zero_rows: Rows | None) -> Matrix:  # fmt: skip
    """A matrix of (q - z) * s; scales and zero points are checked at once, all of them.

    Parameters
    ----------
    where : str
        File and tensor, for messages.
    shape : tuple of int
        rows (outputs), cols (inputs).
    scales : RawTensor
        As stored: its dtype is the weights'.
    bits : int
        Of a code, 4 or 8.
    group : int
        Columns that share a scale; -1: a row.
    codes : callable
        q, uint8 [rows, cols], of some rows.
    scale_rows : callable
        s, floating [rows, `scale_groups`], of some rows.
    zero_rows : callable or None
        z, integers [rows, `scale_groups`], of some rows; None: half of what a code can count, everywhere.

    Raises
    ------
    Inexact
        Groups, scales or zero points that no codec expresses.
    """
    rows, cols = shape
    middle = 1 << bits - 1
    whole = scale_groups(cols, group) == 1
    size = next((size for size in CODECS[bits] if whole or group % size == 0), None)
    if size is None:
        raise Inexact(f"groups of {group} columns: expected a multiple of {min(CODECS[bits])}")
    chosen = np.zeros(-(-cols // size), int) if whole else np.arange(-(-cols // size)) * size // group

    def zeros(start: int, stop: int) -> np.ndarray:
        if zero_rows is None:
            return np.full((stop - start, scale_groups(cols, group)), middle, np.uint8)
        return zero_rows(start, stop)

    def parts(start: int, stop: int) -> Parts:
        s, z, q = halves(scale_rows(start, stop))[:, chosen], zeros(start, stop)[:, chosen], codes(start, stop)
        return (q ^ np.uint8(middle), s, None) if bits == 8 else (q, s, z)

    step = max(1, CHECKED // scale_groups(cols, group))
    for start in range(0, rows, step):
        stop = min(rows, start + step)
        halves(scale_rows(start, stop))
        if bits == 8 and zero_rows is not None and (zero_rows(start, stop) != middle).any():
            raise Inexact(f"8 bits less zero points other than {middle} are more than a byte with its sign holds")
    return Matrix(where, codec(CODECS[bits][size]), shape, scales.dtype, parts)
