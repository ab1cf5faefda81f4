"""Rotary positions, half-split as in Hugging Face's Llama: element i turns together with i + head_dim / 2."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from seedlm.host.models._fields import Fields

__all__ = ["Rope", "frequencies", "rotate", "tables"]

# What each kind of scaling takes beside theta.
KINDS: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}
WITHOUT_KIND = ("rope_type", "type", "rope_theta", "partial_rotary_factor")
ORIGINAL = "original_max_position_embeddings"


@dataclass(frozen=True)
class Rope:
    """Rotary positions: `kind` default, linear or llama3, with the parameters of Hugging Face's names."""

    kind: str = "default"
    theta: float = 10000.0
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: int = 8192

    @classmethod
    def from_json(cls, fields: Fields) -> Rope:
        """From a config.json, in the form of transformers 5 (rope_parameters) or the older one (rope_scaling).

        Of the two rope_scaling wins where both say something, as in transformers; what neither says of theta, the
        partial factor and the original length stands beside them.

        Raises
        ------
        SeedLMError
            Another kind of scaling or settings by kinds of layers, a value that is missing or invalid.
        """
        key = "rope_scaling" if fields.get("rope_scaling") else "rope_parameters"
        given = fields.get(key, {})
        if not isinstance(given, dict):
            fields.refuse(f"{key} must be an object, not {given!r}")
        nested = [name for name, value in given.items() if isinstance(value, dict)]
        if nested:
            fields.refuse(f"{key} has settings of its own for {', '.join(nested)}: expected the same for all layers")
        kind = given.get("rope_type", given.get("type"))
        if kind is None and (odd := [name for name in given if name not in WITHOUT_KIND]):
            fields.refuse(f"{key} has {', '.join(odd)} but no rope_type: expected {', '.join(KINDS)}")
        if (kind := kind or "default") not in KINDS:
            fields.refuse(f"unsupported rotary scaling {kind!r}: expected {', '.join(KINDS)}")
        if given.get("partial_rotary_factor", fields.get("partial_rotary_factor", 1.0)) not in (None, 1, 1.0):
            fields.refuse("unsupported partial_rotary_factor: expected whole heads to be turned")
        return cls(kind, **_values(fields, kind, given))



def _values(fields: Fields, kind: str, given: dict[str, Any]) -> dict[str, float]:
    """The parameters of a kind of scaling."""
    values = {name: given.get(name) for name in KINDS[kind]}
    if ORIGINAL in values:
        fallback = given.get(ORIGINAL, fields.get("max_position_embeddings", 2048))
        values[ORIGINAL] = fields.get(ORIGINAL, fallback)
    values["theta"] = given.get("rope_theta", fields.get("rope_theta", 10000.0))
    for name, value in values.items():
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < math.inf:
            fields.refuse(f"{name} of rotary scaling {kind!r} must be a positive number, not {value!r}")
    if kind == "llama3" and not values["low_freq_factor"] < values["high_freq_factor"]:
        fields.refuse("low_freq_factor must be less than high_freq_factor")
    return values


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
