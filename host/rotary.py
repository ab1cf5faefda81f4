"""Rotary positions, half-split as in Hugging Face's Llama: element i turns together with i + head_dim / 2."""

from __future__ import annotations

import math

import numpy as np

from seedlm.host.checkpoint import Rope

__all__ = ["frequencies", "rotate", "tables"]


def frequencies(rope: Rope, head_dim: int) -> np.ndarray:
    """Radians per position of each pair, float32 [head_dim / 2].

    ``llama3``: wavelengths beyond original / low_freq_factor are stretched by `factor`, those below
    original / high_freq_factor stay, between them it goes over smoothly. ``linear``: all are stretched.
    """
    turn = (1.0 / rope.theta ** (np.arange(0, head_dim, 2) / head_dim)).astype(np.float32)
    if rope.kind == "default":
        return turn
    if rope.kind == "linear":
        return turn / np.float32(rope.factor)
    original = rope.original_max_position_embeddings
    wavelength = 2 * math.pi / turn.astype(np.float64)
    low, high = rope.low_freq_factor, rope.high_freq_factor
    kept = np.clip((original / wavelength - low) / (high - low), 0, 1)  # the share that is not stretched
    return (((1 - kept) / rope.factor + kept) * turn).astype(np.float32)


def tables(turn: np.ndarray, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines, float32 [count, head_dim / 2], of positions `first` and on."""
    angles = np.arange(first, first + count, dtype=np.float32)[:, None] * turn
    return np.cos(angles), np.sin(angles)


def rotate(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    """Turn the heads of `x`, float32 [heads, positions, head_dim]."""
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
