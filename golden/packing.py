"""Rows of equal words, packed back to back without gaps, little endian, and cut up again."""

from __future__ import annotations

import math

import numpy as np

from seedlm.golden.errors import SeedLMError

__all__ = ["from_bytes", "regroup", "row_bytes", "to_bytes", "ungroup"]


def row_bytes(count: int, bits: int) -> int:
    """Bytes of a row of `count` words of `bits` bits."""
    return -(-count * bits // 8)


def _period(bits: int) -> tuple[int, int]:
    """Words and bytes after which words are byte-aligned again."""
    g = math.gcd(bits, 8)
    return 8 // g, bits // g


def to_bytes(words: np.ndarray, bits: int) -> np.ndarray:
    """Rows of words, packed back to back: uint64 [rows, n] to uint8 [rows, ceil(n * bits / 8)].

    Bit 0 of the first word is bit 0 of the first byte; a row is filled with zero bits to whole bytes.
    Bits of a word above its width are ignored.
    """
    words = np.asarray(words, dtype=np.uint64)
    rows, n = words.shape
    per, size = _period(bits)
    periods = -(-n // per)
    if n != periods * per:
        words = np.concatenate([words, np.zeros((rows, periods * per - n), np.uint64)], axis=1)
    words = words.reshape(rows, periods, per)
    if bits < 64:
        words = words & np.uint64((1 << bits) - 1)
    out = np.zeros((rows, periods, size), dtype=np.uint8)
    for i in range(per):
        for byte in range(i * bits // 8, -(-(i + 1) * bits // 8)):
            shift = byte * 8 - i * bits  # bits of the word below this byte; negative: it starts inside the byte
            part = words[:, :, i] >> np.uint64(shift) if shift >= 0 else words[:, :, i] << np.uint64(-shift)
            out[:, :, byte] |= part.astype(np.uint8)
    return np.ascontiguousarray(out.reshape(rows, -1)[:, : row_bytes(n, bits)])


def from_bytes(data: np.ndarray, bits: int, count: int, dtype: type = np.uint64) -> np.ndarray:
    """The inverse of `to_bytes`: uint8 [rows, bytes] to `dtype`, which must have room for a word, [rows, count].

    Raises
    ------
    SeedLMError
        A row has not the bytes of `count` words.
    """
    data = np.asarray(data, dtype=np.uint8)
    if data.ndim != 2 or data.shape[1] != row_bytes(count, bits):
        raise SeedLMError(
            f"{count} words of {bits} bits take {row_bytes(count, bits)} bytes per row,"
            f" not an array of shape {list(data.shape)}"
        )
    rows = data.shape[0]
    per, size = _period(bits)
    periods = -(-count // per)
    if data.shape[1] != periods * size:
        data = np.concatenate([data, np.zeros((rows, periods * size - data.shape[1]), np.uint8)], axis=1)
    data = data.reshape(rows, periods, size)
    out = np.zeros((rows, periods, per), dtype=dtype)
    for i in range(per):
        for byte in range(i * bits // 8, -(-(i + 1) * bits // 8)):
            shift = byte * 8 - i * bits
            part = data[:, :, byte].astype(dtype)
            out[:, :, i] |= part << dtype(shift) if shift >= 0 else part >> dtype(-shift)
    if bits < 64:
        out &= dtype((1 << bits) - 1)
    return out.reshape(rows, -1)[:, :count]


# --- the order of words, without a look at what they are --------------------------------------------
def _units(data: np.ndarray, bits: int) -> np.ndarray:
    """Bytes uint8 [rows, n] as units of `bits` bits (1, 2, 4 or 8), uint8 [rows, n * 8 / bits]."""
    if bits == 8:
        return data
    places = np.arange(0, 8, bits, dtype=np.uint8)
    return (data[..., None] >> places & np.uint8((1 << bits) - 1)).reshape(len(data), -1)


def _bytes(units: np.ndarray, bits: int) -> np.ndarray:
    """The inverse of `_units` for a flat array, filled with zero bits to whole bytes."""
    if bits == 8:
        return units
    units = np.pad(units, (0, -units.size % (8 // bits))).reshape(-1, 8 // bits)
    return (units << np.arange(0, 8, bits, dtype=np.uint8)).sum(axis=1, dtype=np.uint8)


def regroup(rows: np.ndarray, bits: int, count: int, lanes: int) -> np.ndarray:
    """Words of rows in the order in which lanes take them: one bit stream, uint8.

    Rows are taken in groups of `lanes`; word j of all rows of a group stands before word j + 1 of any. The last
    group is filled with zero words. The words are moved in units of gcd(bits, 8) bits and never made into numbers.

    Parameters
    ----------
    rows : np.ndarray
        uint8 [rows, row bytes]; a row shorter than its words counts as filled with zeros.
    bits : int
        Of a word.
    count : int
        Words of a row.
    lanes : int
    """
    unit = math.gcd(bits, 8)
    per_word = bits // unit
    units = _units(np.ascontiguousarray(rows), unit)
    groups = -(-len(units) // lanes)
    out = np.zeros((groups * lanes, count * per_word), np.uint8)
    used = min(units.shape[1], out.shape[1])
    out[: len(units), :used] = units[:, :used]
    steps = out.reshape(groups, lanes, count, per_word).transpose(0, 2, 1, 3)
    return _bytes(np.ascontiguousarray(steps).reshape(-1), unit)


def ungroup(stream: np.ndarray, bits: int, count: int, lanes: int, groups: int) -> np.ndarray:
    """The inverse of `regroup`: uint8 [groups * lanes, row bytes of `count` words]."""
    unit = math.gcd(bits, 8)
    per_word = bits // unit
    units = _units(np.asarray(stream)[None], unit)[0, : groups * lanes * count * per_word]
    rows = units.reshape(groups, count, lanes, per_word).transpose(0, 2, 1, 3).reshape(groups * lanes, -1)
    rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % (8 // unit))))
    return _bytes(rows.reshape(-1), unit).reshape(len(rows), -1)
