"""What architectures share: how a model is asked, what multiplies for it, what it remembers."""

from __future__ import annotations

import re
from typing import Protocol, Self

import numpy as np

from seedlm.host.models.fields import Fields

__all__ = ["Cache", "Engine", "Model", "ModelConfig"]


class ModelConfig(Protocol):
    """The dimensions of a model and the names of its tensors.

    Attributes
    ----------
    vocab, hidden, layers, context : int
    tied : bool
        The output matrix is the embedding.
    bos : int or None
        Begins every text.
    eos : tuple of int
        Any of these ends it.
    embedding, head : str
        Names of the embedding and of the output matrix.
    ignored : re.Pattern
        Names of tensors that may be there and say nothing that config.json does not say.
    """

    vocab: int
    hidden: int
    layers: int
    context: int
    tied: bool
    bos: int | None
    eos: tuple[int, ...]
    embedding: str
    head: str
    ignored: re.Pattern[str]

    @classmethod
    def from_json(cls, fields: Fields) -> Self:
        """From a config.json; raises `SeedLMError` for what is not supported, missing or invalid."""
        ...

    def shapes(self) -> dict[str, tuple[int, int]]:
        """Rows and columns of every matrix of the linear layers, the output matrix last."""
        ...

    def vectors(self) -> dict[str, int]:
        """Lengths of all other tensors but the embedding."""
        ...


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


class Model(Protocol):
    """A model that continues token sequences.

    Attributes
    ----------
    config : ModelConfig
    engine : Engine
    """

    config: ModelConfig
    engine: Engine

    def cache(self) -> Cache:
        """An empty cache, for a new text."""
        ...

    def logits(self, tokens: np.ndarray, cache: Cache | None = None, *, last: bool = False) -> np.ndarray:
        """Logits of what follows each token, float32 [n, vocab]; with `last` of the last token only."""
        ...
