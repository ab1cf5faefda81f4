"""Block words: the fields of a word, rows of words as bytes, and the integer weights.

A word is K + B + 4 P bits, little endian: the seed, the exponent (two's complement, absent if B = 0)
and P coefficients of four bits (two's complement). In memory every word is a uint64, whatever its
width; only `to_bytes` packs them. For ``fp16`` a word is a pair of binary16 halves, the lower column
in the lower half.
"""

from __future__ import annotations

import math

import numpy as np

from seedlm.golden.build import COEFFICIENT_BITS, Codec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.lfsr import windows

__all__ = ["from_bytes", "pack", "to_bytes", "unpack", "weights_int"]

CHUNK = 8192  # words decoded at a time: the working arrays then stay in the cache


def _seed_codec(codec: Codec) -> None:
    if codec.is_fp16:
        raise SeedLMError("codec fp16 has no block words: expected a codec with seeds")


def _check_range(name: str, values: np.ndarray, low: int, high: int) -> None:
    if values.size and (values.min() < low or values.max() > high):
        raise SeedLMError(f"{name} must be {low} to {high}, found {values.min()} to {values.max()}")


def pack(codec: Codec, seed: np.ndarray, exponent: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """Words from their fields.

    Parameters
    ----------
    codec : Codec
        A codec with seeds.
    seed, exponent : array_like of int, shape [...]
        Register states below 2**K; exponents that B bits hold (0 if B = 0). They broadcast.
    coefficients : array_like of int, shape [..., P]
        -8 to 7.

    Returns
    -------
    np.ndarray
        uint64 [...].

    Raises
    ------
    SeedLMError
        A field out of range, or not P coefficients.
    """
    _seed_codec(codec)
    seed, exponent, q = (np.asarray(a).astype(np.int64, copy=False) for a in (seed, exponent, coefficients))
    if q.ndim == 0 or q.shape[-1] != codec.P:
        raise SeedLMError(f"codec {codec} has {codec.P} coefficients per block, not an array of shape {list(q.shape)}")
    _check_range("seed", seed, 0, codec.seeds)
    _check_range("exponent", exponent, codec.exponent_min, codec.exponent_max)
    _check_range("coefficient", q, -8, 7)
    word = seed | (exponent & ((1 << codec.B) - 1)) << codec.K
    for p in range(codec.P):
        word = word | (q[..., p] & 15) << (codec.K + codec.B + COEFFICIENT_BITS * p)
    return np.asarray(word).view(np.uint64)


def _signed(field: np.ndarray, bits: int) -> np.ndarray:
    half = 1 << bits >> 1
    return (field + half & (1 << bits) - 1) - half


def unpack(codec: Codec, words: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fields of words: seed int64 [...], exponent int64 [...], coefficients int64 [..., P].

    Any bit pattern of the word's width is a valid word; bits above it are ignored.
    """
    _seed_codec(codec)
    w = np.ascontiguousarray(words, dtype=np.uint64).view(np.int64).reshape(np.shape(words))
    exponent = _signed(w >> codec.K, codec.B)
    shifts = codec.K + codec.B + COEFFICIENT_BITS * np.arange(codec.P)
    return w & codec.seeds, exponent, _signed(w[..., None] >> shifts, COEFFICIENT_BITS)


def weights_int(codec: Codec, words: np.ndarray) -> np.ndarray:
    """The integer weights N_c = sum_p q_p (V_{c,p} - 2**(K-1)) of blocks: int64 [..., C].

    The exponent is not in N. A seed of 0 gives V = 0, by the same formula.
    """
    _seed_codec(codec)
    words = np.asarray(words)
    flat = words.ravel()
    out = np.empty((flat.size, codec.C), dtype=np.int64)
    for start in range(0, flat.size, CHUNK):
        seed, _, q = unpack(codec, flat[start : start + CHUNK])
        q = np.ascontiguousarray(q.T)
        offset = q.sum(axis=0) << (codec.K - 1)
        states = windows(seed, codec.K, codec.C * codec.P)
        for c in range(codec.C):
            acc = -offset
            for p in range(codec.P):
                acc += q[p] * next(states)
            out[start : start + CHUNK, c] = acc
    return out.reshape(*words.shape, codec.C)


def _period(codec: Codec) -> tuple[int, int]:
    """Words and bytes after which words are byte-aligned again."""
    g = math.gcd(codec.word_bits, 8)
    return 8 // g, codec.word_bits // g


def to_bytes(codec: Codec, words: np.ndarray) -> np.ndarray:
    """Rows of words, packed back to back: uint64 [rows, nb] to uint8 [rows, stride].

    Bit 0 of the first word is bit 0 of the first byte; a row is filled with zero bits to whole bytes.
    Bits of a word above its width are ignored.
    """
    bits = codec.word_bits
    words = np.asarray(words, dtype=np.uint64)
    rows, nb = words.shape
    per, size = _period(codec)
    periods = -(-nb // per)
    if nb != periods * per:
        words = np.concatenate([words, np.zeros((rows, periods * per - nb), np.uint64)], axis=1)
    words = words.reshape(rows, periods, per)
    if bits < 64:
        words = words & np.uint64((1 << bits) - 1)
    out = np.zeros((rows, periods, size), dtype=np.uint8)
    for i in range(per):
        for byte in range(i * bits // 8, -(-(i + 1) * bits // 8)):
            shift = byte * 8 - i * bits  # bits of the word below this byte; negative: it starts inside the byte
            part = words[:, :, i] >> np.uint64(shift) if shift >= 0 else words[:, :, i] << np.uint64(-shift)
            out[:, :, byte] |= part.astype(np.uint8)
    return np.ascontiguousarray(out.reshape(rows, -1)[:, : -(-nb * bits // 8)])


def from_bytes(codec: Codec, data: np.ndarray, blocks: int) -> np.ndarray:
    """The inverse of `to_bytes`: uint8 [rows, stride] to uint64 [rows, blocks].

    Raises
    ------
    SeedLMError
        The stride is not that of `blocks` words.
    """
    bits = codec.word_bits
    data = np.asarray(data, dtype=np.uint8)
    if data.ndim != 2 or data.shape[1] != -(-blocks * bits // 8):
        raise SeedLMError(
            f"{blocks} words of {bits} bits take {-(-blocks * bits // 8)} bytes per row,"
            f" not an array of shape {list(data.shape)}"
        )
    rows = data.shape[0]
    per, size = _period(codec)
    periods = -(-blocks // per)
    if data.shape[1] != periods * size:
        data = np.concatenate([data, np.zeros((rows, periods * size - data.shape[1]), np.uint8)], axis=1)
    data = data.reshape(rows, periods, size)
    out = np.zeros((rows, periods, per), dtype=np.uint64)
    for i in range(per):
        for byte in range(i * bits // 8, -(-(i + 1) * bits // 8)):
            shift = byte * 8 - i * bits
            part = data[:, :, byte].astype(np.uint64)
            out[:, :, i] |= part << np.uint64(shift) if shift >= 0 else part >> np.uint64(-shift)
    if bits < 64:
        out &= np.uint64((1 << bits) - 1)
    return out.reshape(rows, -1)[:, :blocks]
