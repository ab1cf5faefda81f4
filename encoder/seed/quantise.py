"""The quantiser of the `paper` encoder: one shared power of two, integer mantissas of four bits."""

from __future__ import annotations

import numpy as np

from seedlm.golden.codecs.seed import SeedCodec

__all__ = ["quantise"]


# 2**i at index i, for i in -15..15: negative indices count from the end.
POWERS = np.ldexp(1.0, np.r_[np.arange(16), np.arange(-16, 0)])


def quantise(codec: SeedCodec, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Exponent and coefficients nearest to `t` under the exponent rule.

    e = max over p of floor(log2 |t_p|), minus 2, clipped to the codec's exponents; then
    q_p = t_p * 2**-e rounded to nearest, ties to even, clipped to -8..7.

    Parameters
    ----------
    codec : SeedCodec
        Gives the range of e (0 only, if B = 0).
    t : np.ndarray
        float64 [P, n], finite.

    Returns
    -------
    e : np.ndarray
        int64 [n].
    q : np.ndarray
        int64 [P, n].
    """
    top = np.abs(t).max(axis=0)
    # frexp gives floor(log2) + 1 exactly; log2 itself may round up just below a power of two.
    e = np.frexp(top)[1].astype(np.int64) - 3
    e = np.where(top > 0, np.clip(e, codec.exponent_min, codec.exponent_max), codec.exponent_min)
    q = np.clip(np.rint(t * POWERS[-e]), -8, 7).astype(np.int64)
    return e, q
