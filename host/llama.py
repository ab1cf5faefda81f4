"""A Llama model: everything but the matrix products, in FP32 with NumPy.

The products go to an engine (`host.engines`). Whatever the engine, the arithmetic here is the same, in the same order
and shapes: engines whose products have the same bits give logits with the same bits.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from threadpoolctl import ThreadpoolController

from seedlm.golden.errors import SeedLMError
from seedlm.host.checkpoint import EMBEDDING, HEAD, NORM, Checkpoint
from seedlm.host.rotary import frequencies, rotate, tables

__all__ = ["Cache", "Engine", "Llama"]

# Below this many weights several threads of the BLAS cost more than they give.
SMALL = 200_000_000


class Engine(Protocol):
    """What multiplies."""

    def products(self, names: list[str], x: np.ndarray) -> list[np.ndarray]:
        """Products of several matrices with the same vectors: float32 [n, rows] each, from float32 [n, cols]."""
        ...


class Cache:
    """Keys and values of the positions seen so far, float32, for every layer."""

    def __init__(self, layers: int, kv_heads: int, head_dim: int):
        self.length = 0
        empty = np.zeros((kv_heads, 0, head_dim), np.float32)
        self._keys, self._values = [empty] * layers, [empty] * layers

    def extend(self, layer: int, keys: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Add [kv_heads, n, head_dim] after `length` positions; all of them. The caller then moves `length`."""
        end = self.length + keys.shape[1]
        if self._keys[layer].shape[1] < end:
            room = ((0, 0), (0, max(64, 2 * end) - self._keys[layer].shape[1]), (0, 0))
            self._keys[layer] = np.pad(self._keys[layer], room)
            self._values[layer] = np.pad(self._values[layer], room)
        self._keys[layer][:, self.length : end] = keys
        self._values[layer][:, self.length : end] = values
        return self._keys[layer][:, :end], self._values[layer][:, :end]


class Llama:
    """A model that continues token sequences.

    Parameters
    ----------
    checkpoint : Checkpoint
        Dimensions, embedding and norms.
    engine : Engine
        Multiplies by the matrices of the linear layers.
    """

    def __init__(self, checkpoint: Checkpoint, engine: Engine):
        self.config = checkpoint.config
        self.engine = engine
        self._checkpoint = checkpoint
        self._vectors = {name: checkpoint.vector(name) for name in self.config.vectors()}
        for name, vector in self._vectors.items():
            if not np.isfinite(vector).all():
                raise SeedLMError(f"{checkpoint.folder}: tensor {name!r} has NaN or infinity: expected finite weights")
        self._turn = frequencies(self.config.rope, self.config.head_dim)
        weights = sum(rows * cols for rows, cols in self.config.shapes().values())
        self._threads = ThreadpoolController()
        self._limit = 1 if weights < SMALL else None

    def cache(self) -> Cache:
        """An empty cache, for a new text."""
        return Cache(self.config.layers, self.config.kv_heads, self.config.head_dim)

    def logits(self, tokens: np.ndarray, cache: Cache | None = None, *, last: bool = False) -> np.ndarray:
        """Logits of what follows each token, float32 [n, vocab].

        Parameters
        ----------
        tokens : np.ndarray
            Integers [n], n > 0: the next ones after those in the cache.
        cache : Cache, optional
            What came before; they are added to it.
        last : bool
            Only the last token's logits, [1, vocab].

        Raises
        ------
        SeedLMError
            A token outside of the vocabulary, more positions than the model's context, an activation that is not
            finite.
        """
        with self._threads.limit(limits=self._limit):
            return self._logits(np.asarray(tokens, dtype=np.int64), self.cache() if cache is None else cache, last)

    def _logits(self, tokens: np.ndarray, cache: Cache, last: bool) -> np.ndarray:
        config = self.config
        if tokens.ndim != 1 or not len(tokens) or tokens.min() < 0 or tokens.max() >= config.vocab:
            raise SeedLMError(f"expected at least one token, from 0 to {config.vocab - 1}")
        if cache.length + len(tokens) > config.context:
            raise SeedLMError(f"{cache.length + len(tokens)} tokens do not fit the model's context of {config.context}")
        x = self._checkpoint.embedding(tokens)
        if not np.isfinite(x).all():
            raise SeedLMError(f"tensor {EMBEDDING!r} has NaN or infinity: expected finite weights")
        turn = tables(self._turn, cache.length, len(tokens))
        for i in range(config.layers):
            layer = f"model.layers.{i}."
            x = x + self._attention(i, self._norm(layer + "input_layernorm.weight", x), turn, cache)
            x = x + self._feed_forward(layer + "mlp.", self._norm(layer + "post_attention_layernorm.weight", x))
        cache.length += len(tokens)
        (logits,) = self._linear([HEAD], self._norm(NORM, x[-1:] if last else x))
        return logits

    def _norm(self, name: str, x: np.ndarray) -> np.ndarray:
        mean = np.mean(x * x, axis=-1, keepdims=True, dtype=np.float32)
        return x / np.sqrt(mean + np.float32(self.config.eps)) * self._vectors[name]

    def _linear(self, names: list[str], x: np.ndarray) -> list[np.ndarray]:
        out = self.engine.products(names, x)
        for i, name in enumerate(names):
            bias = self._vectors.get(name.removesuffix("weight") + "bias")
            if bias is not None:
                out[i] = out[i] + bias
        return out

    def _attention(self, i: int, x: np.ndarray, turn: tuple[np.ndarray, np.ndarray], cache: Cache) -> np.ndarray:
        """Causal attention; query heads 0..n-1 share key/value head 0, the next n share head 1, and so on."""
        c, n, layer = self.config, len(x), f"model.layers.{i}.self_attn."

        def heads(y: np.ndarray) -> np.ndarray:
            return y.reshape(n, -1, c.head_dim).transpose(1, 0, 2)

        q, k, v = map(heads, self._linear([f"{layer}{name}_proj.weight" for name in "qkv"], x))
        q = rotate(q, *turn)
        keys, values = cache.extend(i, rotate(k, *turn), v)
        q = q.reshape(c.kv_heads, c.heads // c.kv_heads, n, c.head_dim)
        scores = q @ keys[:, None].transpose(0, 1, 3, 2) * np.float32(c.head_dim**-0.5)
        if n > 1:
            hidden = np.arange(keys.shape[1]) > cache.length + np.arange(n)[:, None]
            scores[..., hidden] = -np.inf
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
        mixed = (scores @ values[:, None]).reshape(c.heads, n, c.head_dim).transpose(1, 0, 2).reshape(n, -1)
        return self._linear([layer + "o_proj.weight"], mixed)[0]

    def _feed_forward(self, layer: str, x: np.ndarray) -> np.ndarray:
        gate, up = self._linear([layer + "gate_proj.weight", layer + "up_proj.weight"], x)
        with np.errstate(over="ignore"):  # exp(-gate) may be infinite: the limit is right
            silu = gate / (1 + np.exp(-gate))
        return self._linear([layer + "down_proj.weight"], silu * up)[0]
