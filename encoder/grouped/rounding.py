"""Numbers to the nearest elements of a kind."""

from __future__ import annotations

import numpy as np

from seedlm.golden.codecs._elements import Element

__all__ = ["codes_of", "largest_exponent", "reach", "rounded"]

BINARY64_BIAS, BINARY64_FRACTION = 1023, 52


def reach(element: Element) -> tuple[int, int]:
    """The smallest and largest integer that are used; without -2**(n-1) of n bits, which has no counterpart, where
    there are 8 (OCP leaves it open, GGUF never has it)."""
    low, high = int(element.integers.min()), int(element.integers.max())
    return (-high if element.bits == 8 else low), high


def largest_exponent(element: Element) -> int:
    """floor(log2) of the largest value: what OCP subtracts from the exponent of a block's largest weight."""
    return int(element.integers.max()).bit_length() - 1 - element.fraction_bits


def rounded(x: np.ndarray, element: Element, low: np.ndarray | int | None = None,
            high: np.ndarray | int | None = None) -> np.ndarray:  # fmt: skip
    """The element's integers nearest to float64 `x`, ties to even, and the last one for all beyond; float64.

    Parameters
    ----------
    x : np.ndarray
        In units of the element's integers.
    element : Element
    low, high : np.ndarray or int, optional
        The integers at either end; by default as `reach` says.
    """
    ends = reach(element)
    x = np.clip(x, ends[0] if low is None else low, ends[1] if high is None else high)
    if element.mantissa_bits is None:
        return np.rint(x)
    # The distance of neighbours is 2**(exponent - mantissa bits), and 1 among the smallest.
    exponent = (np.abs(x).view(np.int64) >> BINARY64_FRACTION) - BINARY64_BIAS
    place = np.maximum(exponent - element.mantissa_bits, 0) + BINARY64_BIAS
    unit = (place << BINARY64_FRACTION).view(np.float64)
    return np.rint(x / unit) * unit


def codes_of(integers: np.ndarray, element: Element) -> np.ndarray:
    """The codes of integers that `rounded` gave, uint8."""
    values, first = np.unique(np.where(element.finite, element.integers, 0), return_index=True)
    return first.astype(np.uint8)[np.searchsorted(values, integers)]
