"""What an entry of the registry is: an architecture, with its configuration and its model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from seedlm.host.models._cache import Cache
from seedlm.host.models._fields import Fields

__all__ = ["EMBEDDING", "HEAD", "Architecture", "Engine", "Group", "Model", "ModelConfig"]


EMBEDDING, HEAD = "embedding", "head"  # kinds of matrices outside of the layers


@dataclass(frozen=True)
class Group:
    """Matrices that are multiplied with one vector.

    Parameters
    ----------
    name : str
        For people.
    matrices : tuple of str
        Of one occurrence, by the names of `ModelConfig.linears`.
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
    prefix : str
        What all names but the output matrix begin with; files may leave it out.
    ignored : re.Pattern
        Names of tensors that may be there and say nothing that config.json does not say.
    transposed : frozenset of str
        The linear layers' matrices that a checkpoint has with the inputs first, [cols, rows].
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
    prefix: str
    ignored: re.Pattern[str]
    transposed: frozenset[str]

    def linears(self) -> dict[str, tuple[int, int]]:
        """Rows (outputs) and columns (inputs) of every matrix of the linear layers, the output matrix last.

        All that an engine multiplies with, and what is run, compressed, timed and projected.
        """
        ...

    def kinds(self) -> dict[str, str]:
        """What the embedding and every matrix of `linears` is in its layer.

        ``q``, ``k``, ``v`` or ``qkv`` in one; ``o``; ``gate``, ``up`` or ``gate_up`` in one; ``down``; ``embedding``
        and ``head``. The same in every expert of a mixture.
        """
        ...

    def vectors(self) -> dict[str, tuple[int, ...]]:
        """Shapes of all other tensors but the embedding, which stay in FP32: norms, biases, positions, routers."""
        ...

    def groups(self) -> list[Group]:
        """The products of a token: those of equal layers once, with their number; of experts the chosen ones."""
        ...

    def canonical(self, names: Iterable[str]) -> dict[str, str]:
        """The names of a file's tensors as they are called here."""
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
    config : callable
        Reads a config.json: ``config(fields)``; raises `SeedLMError` for what is not supported, missing or invalid.
    model : type
        Made by ``model(checkpoint, engine)``.
    """

    name: str
    model_type: str
    config: Callable[[Fields], ModelConfig]
    model: type[Model]
