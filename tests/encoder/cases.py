"""Blocks that searches are compared on: ordinary ones and those that break shortcuts."""

from __future__ import annotations

import math

import numpy as np

from seedlm.encoder.seed.geometry import centred
from seedlm.encoder.seed.problem import Problem
from seedlm.golden.codecs import CODECS, Codec, codec

# One codec or more of every family; those of `seed` with a register of 8 bits, so that a search takes no time.
EVERY = ["c8p3k8b4", "c8p4k8b0r", *(name for name, kind in CODECS.items() if kind.family != "seed")]


def bfloat16(x: np.ndarray) -> np.ndarray:
    """Round towards zero to the BF16 grid."""
    return (x.astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)


def lattice(codec: Codec, unit: np.ndarray, q: np.ndarray, e: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """float64 [n, C]: weights that words with random seeds stand for, in the decoder's own operations."""
    n = (centred(codec, rng.integers(1, codec.seeds + 1, len(unit))) * q[:, None, :]).sum(axis=0)
    return (n * 2.0**e * unit / (1 if codec.row_scales else codec.denominator)).T


def mixed_blocks(codec: Codec, count: int, rng: np.random.Generator) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By kind: blocks float64 [n, C] and units float64 [n] (1 without row scales); `count` or a few more in all.

    With row scales the units suit the blocks well or not so well, which is what exponents do elsewhere.
    """
    C, P, low, high = codec.C, codec.P, codec.exponent_min, codec.exponent_max
    normal, kinds = rng.standard_normal, {}

    def add(share: float, name: str, make) -> None:
        n = math.ceil(share * count)
        blocks = np.ascontiguousarray(make(n), np.float64)
        unit = np.ones(n)
        if codec.row_scales:
            rms = np.maximum(np.sqrt((blocks**2).mean(axis=1)), 1e-3)
            unit = np.resize([0.15, 0.28, 0.5], n) * rms / codec.denominator
        kinds[name] = blocks, unit.astype(np.float32).astype(np.float64)

    def add_lattice(share: float, name: str, q, e, scale: float = 1.0) -> None:
        n = math.ceil(share * count)
        unit = (2.0 ** rng.uniform(-12, 4, n)).astype(np.float32).astype(np.float64)
        unit = unit if codec.row_scales else np.ones(n)
        kinds[name] = scale * lattice(codec, unit, q(n), e(n), rng), unit

    def any_q(n: int) -> np.ndarray:
        return rng.integers(-8, 8, (P, n))

    one_hot = np.array([1.0, -0.02, 300.0, 1e-30])
    add(0.25, "Gaussian, sigma 0.02", lambda n: 0.02 * normal((n, C)))
    add(0.14, "Gaussian, sigma 1.28", lambda n: 1.28 * normal((n, C)))
    add(0.04, "Gaussian, sigma 0.2", lambda n: 0.2 * normal((n, C)))
    add(0.04, "Gaussian, sigma 0.001", lambda n: 0.001 * normal((n, C)))
    add(0.04, "Gaussian, sigma 100", lambda n: 100.0 * normal((n, C)))
    add(0.08, "Student's t, 3 degrees", lambda n: 0.02 * rng.standard_t(3, (n, C)))
    add(0.04, "Student's t, 2 degrees", lambda n: 0.5 * rng.standard_t(2, (n, C)))
    add(0.05, "binary16", lambda n: (0.02 * normal((n, C))).astype(np.float16))
    add(0.05, "BF16", lambda n: bfloat16(0.02 * normal((n, C))))
    add(0.04, "small integers", lambda n: rng.integers(-2, 3, (n, C)))
    add_lattice(0.05, "lattice", any_q, lambda n: rng.integers(low, high + 1, n))
    add_lattice(0.03, "near the lattice", any_q, lambda n: rng.integers(low, high + 1, n), 1 + 1e-9)
    add_lattice(0.01, "lattice, least exponent", any_q, lambda n: np.full(n, low))
    add_lattice(0.01, "lattice, greatest exponent", any_q, lambda n: np.full(n, high))
    add_lattice(0.01, "the largest words", lambda n: rng.choice([-8, 7], (P, n)), lambda n: np.full(n, high))
    add(0.03, "sparse", lambda n: normal((n, C)) * (rng.random((n, C)) < 0.3))
    add(0.02, "one-hot", lambda n: np.eye(C)[rng.integers(0, C, n)] * rng.choice(one_hot, (n, 1)))
    add(0.02, "near the smallest words", lambda n: 2.0 ** rng.uniform(-20, -8, (n, 1)) * normal((n, C)))
    add(0.005, "2**-9", lambda n: np.full((n, C), 2.0**-9))
    add(0.005, "zeros", lambda n: np.zeros((n, C)))
    add(0.005, "1e-30", lambda n: np.full((n, C), 1e-30))
    add(0.005, "Gaussian, sigma 1e-30", lambda n: 1e-30 * normal((n, C)))
    add(0.005, "300", lambda n: rng.choice([-300.0, 300.0], (n, 1)) * np.ones(C))
    add(0.02, "Gaussian, sigma 300", lambda n: 300.0 * normal((n, C)))
    add(0.01, "1e5", lambda n: np.full((n, C), 1e5))
    return kinds


def mixed_problem(name: str, count: int, rng: np.random.Generator, encoder: str = "paper", **kwargs) -> Problem:
    """A problem of `count` mixed blocks, in random order."""
    kinds = mixed_blocks(codec(name), count, rng)
    if encoder == "optimal":
        # Far beyond the largest words all leaves of the tree are alike: correct, but slow in NumPy.
        kinds["1e5"] = kinds["Gaussian, sigma 0.02"]
    order = rng.permutation(sum(len(unit) for _, unit in kinds.values()))[:count]
    blocks = np.concatenate([b for b, _ in kinds.values()])[order]
    unit = np.concatenate([u for _, u in kinds.values()])[order]
    return Problem(codec(name), np.ascontiguousarray(blocks.T), encoder, unit, **kwargs)


def literal_quantise(t, low, high):
    """The quantiser in plain Python: (e, q)."""
    top = max(abs(x) for x in t)
    e = low
    while e < high and 2.0 ** (e + 3) <= top:
        e += 1
    return e, [min(7, max(-8, round(x / 2.0**e))) for x in t]  # Python's round: ties to even
