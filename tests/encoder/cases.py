"""Blocks that searches are compared on: ordinary ones and those that break shortcuts."""

from __future__ import annotations

import numpy as np

from encoder.geometry import centred
from golden.params import Codec


def bfloat16(x: np.ndarray) -> np.ndarray:
    """Round towards zero to the BF16 grid."""
    return (x.astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)


def mixed_blocks(codec: Codec, count: int, rng: np.random.Generator) -> np.ndarray:
    """float64 [about count, C]: Gaussian at several sigmas, heavy tails, coarse grids, lattice points, extremes."""
    n, C = max(1, count // 20), codec.C
    normal = rng.standard_normal

    def lattice(scale: float) -> np.ndarray:
        a = centred(codec, rng.integers(1, codec.seeds + 1, n))
        q = rng.integers(-8, 8, (codec.P, 1, n))
        e = rng.integers(codec.exponent_min, codec.exponent_max + 1, n)
        return scale * ((a * q).sum(axis=0) * 2.0**e / codec.denominator).T

    one_hot = np.zeros((C, C))
    np.fill_diagonal(one_hot, np.resize([1.0, -0.02, 300.0], C))
    sparse = normal((n, C)) * (rng.random((n, C)) < 0.3)
    return np.concatenate([
        0.02 * normal((7 * n, C)),
        1.28 * normal((4 * n, C)),
        0.001 * normal((n, C)),
        100.0 * normal((n, C)),
        0.02 * rng.standard_t(3, (2 * n, C)),
        (0.02 * normal((n, C))).astype(np.float16).astype(np.float64),
        bfloat16(0.02 * normal((n, C))).astype(np.float64),
        rng.integers(-2, 3, (n, C)).astype(np.float64),
        lattice(1.0),
        lattice(1.0 + 1e-9),
        sparse,
        one_hot,
        np.zeros((2, C)),
        np.full((1, C), 1e-30), np.full((1, C), 300.0), np.full((1, C), -300.0), np.full((1, C), 2.0**-9),
        300.0 * normal((2, C)), 1e-30 * normal((2, C)), 2.0**-8 * normal((2, C)), np.full((1, C), 1e5),
    ])  # fmt: skip


def literal_quantise(t, low, high):
    """The quantiser in plain Python: (e, q)."""
    top = max(abs(x) for x in t)
    e = low
    while e < high and 2.0 ** (e + 3) <= top:
        e += 1
    return e, [min(7, max(-8, round(x / 2.0**e))) for x in t]  # Python's round: ties to even
