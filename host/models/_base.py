"""What an entry of the registry is: an architecture, with its configuration and its model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from seedlm.host.models._cache import Cache
from seedlm.host.models._fields import Fields

__all__ = ["Architecture", "Engine", "Group", "Model", "ModelConfig"]


@dataclass(frozen=True)
class Group:
    """Matrices that are multiplied with one vector.

    Parameters
    ----------
    name : str
        For people.
    matrices : tuple of str
        Of one occurrence, by the names of `ModelConfig.shapes`.
    count : int
        How often this happens for a token.
    """

    name: str
    matrices: tuple[str, ...]
    count: int = 1


class ModelConfig(Protocol):
    """The dimensions of a model and the names of its tensors.

    Attributes
    ----------
    vocab, hidden, layers, kv_heads, head_dim, context : int
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
    kv_heads: int
    head_dim: int
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

    def groups(self) -> list[Group]:
        """The products of a token: all matrices, those of a layer once with the number of layers."""
        ...


class Engine(Protocol):
    """What multiplies."""

    def products(self, names: list[str], x: np.ndarray) -> list[np.ndarray]:
        """Products of several matrices with the same vectors: float32 [n, rows] each, from float32 [n, cols]."""
        ...


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


@dataclass(frozen=True)
class Architecture:
    """A kind of model.

    Parameters
    ----------
    name : str
        What config.json calls it under "architectures".
    model_type : str
        What config.json calls it where it names no architecture.
    config : type
        Read from a config.json by ``config.from_json(fields)``.
    model : type
        Made by ``model(checkpoint, engine)``.
    """

    name: str
    model_type: str
    config: type[ModelConfig]
    model: type[Model]
