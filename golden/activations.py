"""Binary16 activations to groups of 18-bit mantissas with a shared exponent."""

from __future__ import annotations

import numpy as np

from seedlm.golden.errors import SeedLMError

__all__ = ["check_vector", "finite", "groups"]

MANTISSA_SHIFT = 6  # an element that has the group's exponent: its 11-bit significand, 6 places up


def check_vector(x: np.ndarray, cols: int | None = None) -> np.ndarray:
    """`x` as an array; raises `SeedLMError` unless it is float16 [..., cols]."""
    x = np.asarray(x)
    if x.dtype != np.float16:
        raise SeedLMError(f"activations must be float16, not {x.dtype}")
    if x.ndim == 0 or (cols is not None and x.shape[-1] != cols):
        raise SeedLMError(f"activations must have {cols} elements, not shape {list(x.shape)}")
    return x


def finite(x: np.ndarray) -> bool:
    """True if no activation is NaN or infinite."""
    return bool(np.isfinite(x).all())


def groups(x: np.ndarray, group: int) -> tuple[np.ndarray, np.ndarray]:
    """Mantissas and exponents of the activation groups.

    The value of a mantissa is m * 2**(E - 16), x rounded to nearest, ties to even; E is the group's
    largest floor(log2|x|), at least -14. Elements past the end count as 0.

    Parameters
    ----------
    x : np.ndarray
        float16 [..., cols].
    group : int
        G: columns that share an exponent.

    Returns
    -------
    m : np.ndarray
        int32 [..., groups, G], |m| < 2**17.
    E : np.ndarray
        int32 [..., groups], -14 to 15.

    Raises
    ------
    SeedLMError
        `x` is not float16, or holds a NaN or an infinity.
    """
    x = check_vector(x)
    if not finite(x):
        raise SeedLMError("activations must be finite, found NaN or infinity")
    cols, G = x.shape[-1], group
    count = -(-cols // G)
    bits = np.zeros((*x.shape[:-1], count * G), dtype=np.int32)
    bits[..., :cols] = np.ascontiguousarray(x).view(np.uint16)
    bits = bits.reshape(*x.shape[:-1], count, G)
    field = bits >> 10 & 31
    significand = (bits & 1023) + np.where(field > 0, 1024, 0)
    exponent = np.maximum(field, 1)  # subnormal numbers have the exponent of the smallest normal ones
    largest = exponent.max(axis=-1, keepdims=True)
    # Align to the group's exponent, then round: add half a unit less one, plus the bit that breaks ties to even.
    shift = largest - exponent
    aligned = significand << MANTISSA_SHIFT
    m = aligned + ((1 << shift >> 1) - 1 + (aligned >> shift & 1)) * (shift > 0) >> shift
    return np.where(bits & 0x8000, -m, m).astype(np.int32), (largest[..., 0] - 15).astype(np.int32)
