"""The two roundings of a product: exact integer to binary32, and one binary32 multiplication.

Both are IEEE 754 round to nearest, ties to even, with gradual underflow and signed zeros.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["QUIET_NAN", "fl32_from_int", "fl32_from_pair", "fl32_from_ratio", "fl32_mul", "split"]

QUIET_NAN = np.uint32(0x7FC00000).view(np.float32)  # what every output is if an activation is not finite

PAIR_BITS = 56  # A = high * 2**56 + low: both fit in int64 for every |A| < 2**119


def _fl32(mantissa: np.ndarray, exponent: np.ndarray | int) -> np.ndarray:
    """float32(mantissa * 2**exponent) of float64 integers: `ldexp` is exact here, the cast rounds once."""
    with np.errstate(over="ignore", under="ignore"):
        return np.ldexp(mantissa, exponent).astype(np.float32)


def fl32_from_int(A: Any, fraction_bits: int) -> np.ndarray:
    """fl32(A * 2**-fraction_bits) of exact integers of any size.

    Parameters
    ----------
    A : int or array_like of int
        Python integers or an integer array.
    fraction_bits : int
        Binary places of A.

    Returns
    -------
    np.ndarray or np.float32
        float32, shaped like A. The result for 0 is +0.
    """
    A = np.asarray(A, dtype=object)
    mantissas = np.empty(A.size, dtype=np.float64)
    exponents = np.empty(A.size, dtype=np.int64)
    for i, value in enumerate(A.ravel()):
        magnitude = abs(int(value))
        drop = max(0, magnitude.bit_length() - 53)
        # What is dropped only matters as "not zero"; that is 29 bits below the last bit of the result.
        kept = magnitude >> drop | (magnitude & ((1 << drop) - 1) != 0)
        mantissas[i] = kept if value >= 0 else -kept
        exponents[i] = drop - fraction_bits
    return _fl32(mantissas, exponents).reshape(A.shape)[()]


def split(A: Any) -> tuple[np.ndarray, np.ndarray]:
    """(high, low) int64 with A = high * 2**56 + low and 0 <= low < 2**56, for |A| < 2**119."""
    A = np.asarray(A, dtype=object)
    return (A >> PAIR_BITS).astype(np.int64), (A & ((1 << PAIR_BITS) - 1)).astype(np.int64)


def fl32_from_pair(high: np.ndarray, low: np.ndarray, fraction_bits: int) -> np.ndarray:
    """`fl32_from_int` of A = high * 2**56 + low without Python integers.

    Parameters
    ----------
    high, low : np.ndarray of int64, same shape
        0 <= low < 2**56; -2**63 < high.
    fraction_bits : int
        Binary places of A.

    Returns
    -------
    np.ndarray
        float32, same shape.
    """
    mask = (1 << PAIR_BITS) - 1
    negative = high < 0
    # -(high * 2**56 + low) = (-high - (low > 0)) * 2**56 + (-low mod 2**56)
    high, low = np.where(negative, -high - (low != 0), high), np.where(negative, -low & mask, low)
    # Three ranges, each with at least 30 bits in front of the ones that only count as "not zero".
    large, medium = high >= 1 << 30, high >= 1 << 4
    mantissa = np.where(medium, high << 30 | low >> 26, high << PAIR_BITS | low)
    mantissa = np.where(large, high, mantissa)
    rest = np.where(large, low, np.where(medium, low & ((1 << 26) - 1), 0))
    exponent = np.where(large, PAIR_BITS, np.where(medium, 26, 0))
    mantissa |= rest != 0
    # int64 to float64 must not round: keep 53 bits.
    wide = mantissa >= 1 << 53
    mantissa = np.where(wide, mantissa >> 10 | (mantissa & 1023 != 0), mantissa)
    exponent += np.where(wide, 10, 0) - fraction_bits
    return _fl32(np.where(negative, -mantissa, mantissa).astype(np.float64), exponent)


def fl32_from_ratio(numerator: int, denominator: int) -> np.float32:
    """The binary32 nearest to numerator / denominator (denominator > 0)."""
    shift = max(0, 64 + denominator.bit_length() - abs(numerator).bit_length())
    quotient, rest = divmod(abs(numerator) << shift, denominator)
    quotient = 2 * quotient + (rest != 0)
    return fl32_from_int(quotient if numerator >= 0 else -quotient, shift + 1)


def fl32_mul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """fl32(a * b) of binary32 values; they broadcast.

    The product of two binary32 is exact in binary64, so the cast is the only rounding.
    """
    wide = np.asarray(a, dtype=np.float32).astype(np.float64) * np.asarray(b, dtype=np.float32).astype(np.float64)
    with np.errstate(over="ignore", under="ignore"):
        return wide.astype(np.float32)
