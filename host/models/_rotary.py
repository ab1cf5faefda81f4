"""Rotary positions, half-split as in Hugging Face's Llama: element i turns together with i + head_dim / 2."""

from __future__ import annotations

import functools
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
    "yarn": ("factor", "original_max_position_embeddings", "beta_fast", "beta_slow"),
}
OPTIONAL = {"beta_fast": 32.0, "beta_slow": 1.0}
WITHOUT_KIND = ("rope_type", "type", "rope_theta", "partial_rotary_factor")
ORIGINAL = "original_max_position_embeddings"


@dataclass(frozen=True)
class Rope:
    """Rotary positions: `kind` default, linear, llama3 or yarn, with the parameters of Hugging Face's names.

    `attention_factor` lengthens what is turned, `truncate` rounds the borders of yarn's range to whole pairs.
    """

    kind: str = "default"
    theta: float = 10000.0
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: int = 8192
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float = 1.0
    truncate: bool = True

    @classmethod
    def from_json(cls, fields: Fields, head_dim: int, theta: float = 10000.0) -> Rope:
        """From a config.json, in the form of transformers 5 (rope_parameters) or the older one (rope_scaling).

        Of the two rope_scaling wins where both say something, as in transformers; what neither says of theta, the
        partial factor and the original length stands beside them. `theta` is that of a file without.

        Raises
        ------
        SeedLMError
            Another kind of scaling or settings by kinds of layers, a value that is missing or invalid.
        """
        if head_dim % 2:
            fields.refuse(f"head_dim must be even for rotary positions, not {head_dim}")
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
        values = _values(fields, kind, given, theta)
        return cls(kind, **values, **(_yarn(fields, given, values["factor"]) if kind == "yarn" else {}))


def _values(fields: Fields, kind: str, given: dict[str, Any], theta: float) -> dict[str, float]:
    """The parameters of a kind of scaling; `theta` where none is given."""
    values = {name: given.get(name) or OPTIONAL.get(name) for name in KINDS[kind]}
    if ORIGINAL in values:
        fallback = given.get(ORIGINAL, fields.get("max_position_embeddings", 2048))
        values[ORIGINAL] = fields.get(ORIGINAL, fallback)
    values["theta"] = given.get("rope_theta", fields.get("rope_theta", theta))
    for name, value in values.items():
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < math.inf:
            fields.refuse(f"{name} of rotary scaling {kind!r} must be a positive number, not {value!r}")
    if kind == "llama3" and not values["low_freq_factor"] < values["high_freq_factor"]:
        fields.refuse("low_freq_factor must be less than high_freq_factor")
    return values


def _yarn(fields: Fields, given: dict[str, Any], factor: float) -> dict[str, Any]:
    """What yarn has beside numbers that must be there: by how much longer what is turned becomes."""
    names = ("attention_factor", "mscale", "mscale_all_dim")
    for name in names:
        value = 1.0 if given.get(name) is None else given[name]
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < math.inf:
            fields.refuse(f"{name} of rotary scaling 'yarn' must be a positive number, not {value!r}")
    if fields.get("rope_theta", given.get("rope_theta", 10000.0)) == 1:
        fields.refuse("rope_theta of rotary scaling 'yarn' must not be 1")
    longer, all_dim, over_all = map(given.get, names)

    def growth(scale: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0

    if longer is None:
        longer = growth(all_dim) / growth(over_all) if all_dim and over_all else growth(1.0)
    return {"attention_factor": longer, "truncate": bool(given.get("truncate", True))}


@functools.cache
def frequencies(rope: Rope, head_dim: int) -> np.ndarray:
    """Radians per position of each pair, float32 [head_dim / 2].

    ``llama3``: wavelengths beyond original / low_freq_factor are stretched by `factor`, those below
    original / high_freq_factor stay, between them it goes over smoothly. ``linear``: all are stretched. ``yarn``:
    pairs that turn less than beta_slow times in the original length are stretched, those that turn more than beta_fast
    times stay, between them it goes over in a straight line.
    """
    turn = (1.0 / rope.theta ** (np.arange(0, head_dim, 2) / head_dim)).astype(np.float32)
    if rope.kind == "default":
        return turn
    if rope.kind == "linear":
        return turn / np.float32(rope.factor)
    original = rope.original_max_position_embeddings
    if rope.kind == "yarn":
        low, high = (head_dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(rope.theta))
                     for turns in (rope.beta_fast, rope.beta_slow))  # fmt: skip
        if rope.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, head_dim - 1)
        stretched = np.clip((np.arange(head_dim // 2) - low) / (high - low or 0.001), 0, 1)
        return ((stretched / rope.factor + 1 - stretched) * turn).astype(np.float32)
    wavelength = 2 * math.pi / turn.astype(np.float64)
    low, high = rope.low_freq_factor, rope.high_freq_factor
    kept = np.clip((original / wavelength - low) / (high - low), 0, 1)  # the share that is not stretched
    return (((1 - kept) / rope.factor + kept) * turn).astype(np.float32)


def tables(rope: Rope, head_dim: int, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines, float32 [count, head_dim / 2], of positions `first` and on."""
    angles = np.arange(first, first + count, dtype=np.float32)[:, None] * frequencies(rope, head_dim)
    cos, sin = np.cos(angles), np.sin(angles)
    if rope.attention_factor != 1:
        cos, sin = cos * np.float32(rope.attention_factor), sin * np.float32(rope.attention_factor)
    return cos, sin


def rotate(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    """Turn the heads of `x`, float32 [heads, positions, head_dim]."""
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
