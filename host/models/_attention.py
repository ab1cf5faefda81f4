"""Causal attention, in FP32: heads that share keys and values, fused or separate matrices, kinds of positions."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from seedlm.host.models._cache import Cache
from seedlm.host.models._fields import Fields
from seedlm.host.models._linear import Layer, Linear
from seedlm.host.models._norms import RmsNorm
from seedlm.host.models._rotary import Rope, rotate, tables

__all__ = ["Attention", "Heads", "Step", "alibi_slopes", "layer_windows", "one_window", "soft_cap", "split_qkv",
           "upper_windows"]  # fmt: skip


class Step:
    """Some positions that go through a model together: `count` of them, after those in `cache`."""

    def __init__(self, cache: Cache, count: int):
        self.cache, self.count = cache, count
        self._tables: dict[tuple[Rope, int], tuple[np.ndarray, np.ndarray]] = {}

    def turn(self, rope: Rope, head_dim: int) -> tuple[np.ndarray, np.ndarray]:
        """Cosines and sines of the positions; made once for all layers."""
        if (rope, head_dim) not in self._tables:
            self._tables[rope, head_dim] = tables(rope, head_dim, self.cache.length, self.count)
        return self._tables[rope, head_dim]


@dataclass(frozen=True)
class Heads:
    """`count` heads of `size` elements; `shared` of keys and values, each for count / shared heads."""

    count: int
    shared: int
    size: int

    @classmethod
    def from_json(cls, fields: Fields, hidden: int, size: int | None = None) -> Heads:
        """From a config.json; `size` where it names none, by default what divides `hidden`.

        Raises
        ------
        SeedLMError
            A value that is missing or invalid, numbers that do not divide.
        """
        count = fields.number("num_attention_heads")
        shared = fields.number("num_key_value_heads", count)
        if fields.get("head_dim", size) is None and hidden % count:
            fields.refuse(f"hidden_size {hidden} is not a multiple of num_attention_heads {count}, and there is no"
                          " head_dim")  # fmt: skip
        if count % shared:
            fields.refuse(f"num_attention_heads {count} is not a multiple of num_key_value_heads {shared}")
        return cls(count, shared, fields.number("head_dim", size or hidden // count))

    @property
    def q(self) -> int:
        """Elements of all queries."""
        return self.count * self.size

    @property
    def kv(self) -> int:
        """Elements of all keys, or of all values."""
        return self.shared * self.size


def split_qkv(names: str, hidden: int, heads: Heads, *, bias: bool = False) -> tuple[Linear, ...]:
    """Three matrices of an `Attention`; `names` with {} in the place of q, k and v."""
    rows = {"q": heads.q, "k": heads.kv, "v": heads.kv}
    return tuple(Linear(names.format(part), n, hidden, bias) for part, n in rows.items())


def one_window(fields: Fields, default: int | None = None) -> int | None:
    """The sliding window that all layers have, or None; `default` if config.json does not name it.

    Raises
    ------
    SeedLMError
        Not a positive number; a list of kinds of layers, which these architectures do not look at.
    """
    fields.expect("layer_types", None)
    return fields.optional("sliding_window", default)


def layer_windows(
    fields: Fields, layers: int, window: int | None, slides: Callable[[int], bool]
) -> list[int | None]:
    """The sliding window of each layer, None for those that see everything.

    Parameters
    ----------
    fields : Fields
    layers : int
    window : int or None
        Of those that have one.
    slides : callable
        Whether a layer has it, by its number, where config.json has no list ``layer_types``.

    Raises
    ------
    SeedLMError
        A list that is not valid.
    """
    full, sliding = "full_attention", "sliding_attention"
    kinds = fields.get("layer_types", [sliding if slides(i) else full for i in range(layers)])
    if not isinstance(kinds, list) or len(kinds) != layers or not all(kind in (full, sliding) for kind in kinds):
        fields.refuse(f"layer_types must be {layers} of {full} or {sliding}, not {kinds!r}")
    return [window if kind == sliding else None for kind in kinds]


def upper_windows(fields: Fields, layers: int) -> list[int | None]:
    """As `layer_windows` of models whose upper layers slide, if config.json wants any to.

    Raises
    ------
    SeedLMError
        A value that is invalid.
    """
    full = fields.count("max_window_layers", 28)
    window = fields.optional("sliding_window", 4096) if fields.flag("use_sliding_window") else None
    return layer_windows(fields, layers, window, lambda i: i >= full)


@dataclass(frozen=True, kw_only=True)
class Attention:
    """Causal attention; query heads 0..n-1 share key/value head 0, the next n share head 1, and so on.

    Parameters
    ----------
    heads : Heads
    qkv : tuple of Linear
        Queries, keys and values, or one matrix with all rows in this order.
    out : Linear
    interleaved : bool
        The one matrix has q, k and v of the first head, then those of the second, as in BLOOM.
    rope : Rope or None
        Rotary positions.
    alibi : bool
        Scores fall with the distance, by head, see `alibi_slopes`.
    window : int or None
        A position sees itself and window - 1 before it.
    scale : float or None
        Of the scores; by default 1 / sqrt(head size).
    cap : float or None
        Scores are bent to stay below it (`soft_cap`).
    q_norm, k_norm : RmsNorm or None
        Of every head, before it is turned.
    """

    heads: Heads
    qkv: tuple[Linear, ...]
    out: Linear
    interleaved: bool = False
    rope: Rope | None = None
    alibi: bool = False
    window: int | None = None
    scale: float | None = None
    cap: float | None = None
    q_norm: RmsNorm | None = None
    k_norm: RmsNorm | None = None

    def linears(self) -> list[Linear]:
        """All matrices, in the order of their use."""
        return [*self.qkv, self.out]

    def kinds(self) -> list[str]:
        """What each of `linears` is."""
        return [*(("q", "k", "v") if len(self.qkv) == 3 else ("qkv",)), "o"]

    def vectors(self) -> dict[str, tuple[int, ...]]:
        """Shapes of its other tensors but biases."""
        return {name: shape for norm in (self.q_norm, self.k_norm) if norm for name, shape in norm.vectors().items()}

    def groups(self) -> list[tuple[Sequence[Linear], int]]:
        """Matrices that are multiplied with one vector, and how often for a token."""
        return [(self.qkv, 1), ((self.out,), 1)]

    def __call__(self, layer: Layer, x: np.ndarray, step: Step) -> np.ndarray:
        n, heads = len(x), self.heads
        q, k, v = self._split(layer.products(self.qkv, x), n)
        if self.q_norm is not None:
            q = self.q_norm(layer, q)
        if self.k_norm is not None:
            k = self.k_norm(layer, k)
        if self.rope is not None:
            turn = step.turn(self.rope, heads.size)
            q, k = rotate(q, *turn), rotate(k, *turn)
        keys, values = step.cache.extend(layer.index, k, v)
        q = q.reshape(heads.shared, heads.count // heads.shared, n, heads.size)
        scale = heads.size**-0.5 if self.scale is None else self.scale
        scores = q @ keys[:, None].transpose(0, 1, 3, 2) * np.float32(scale)
        if self.cap is not None:
            scores = soft_cap(scores, self.cap)
        scores = self._positioned(scores, step.cache.length)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
        mixed = (scores @ values[:, None]).reshape(heads.count, n, heads.size).transpose(1, 0, 2).reshape(n, -1)
        return layer.products([self.out], mixed)[0]

    def _split(self, products: list[np.ndarray], n: int) -> list[np.ndarray]:
        """Queries, keys and values, [heads, n, size] each."""
        size = self.heads.size
        if self.interleaved:
            return list(products[0].reshape(n, -1, 3, size).transpose(2, 1, 0, 3))
        if len(products) == 1:
            products = np.split(products[0], [self.heads.q, self.heads.q + self.heads.kv], axis=1)
        return [y.reshape(n, -1, size).transpose(1, 0, 2) for y in products]

    def _positioned(self, scores: np.ndarray, first: int) -> np.ndarray:
        """Scores [shared, count / shared, n, keys] with what positions do to them; the queries' begin at `first`."""
        n, keys = scores.shape[-2:]
        distance = np.arange(keys) - (first + np.arange(n)[:, None])
        if self.alibi:
            slopes = alibi_slopes(self.heads.count).reshape(*scores.shape[:2], 1, 1)
            scores = scores + slopes * distance.astype(np.float32)
        hidden = distance > 0
        if self.window is not None:
            hidden |= distance <= -self.window
        if hidden.any():
            scores[..., hidden] = -np.inf
        return scores


def soft_cap(x: np.ndarray, cap: float) -> np.ndarray:
    """x where it is small, never beyond `cap`."""
    return np.tanh(x / np.float32(cap)) * np.float32(cap)


@functools.cache
def alibi_slopes(count: int) -> np.ndarray:
    """By how much each head's scores fall per position, float32 [count].

    2^(-8/n), 2^(-16/n) and so on for n heads, a power of two; for another number, those of the power below it and then
    every second one of the power above.
    """
    below = 2 ** math.floor(math.log2(count))
    above = [2 ** (-8 * (2 * i + 1) / (2 * below)) for i in range(count - below)]
    return np.array([2 ** (-8 * (i + 1) / below) for i in range(below)] + above, np.float32)
