"""A language model of layers, each a few parts with norms around them; everything but the products in FP32 with NumPy.

The products go to an engine (`host.engines`). Whatever the engine, the arithmetic here is the same, in the same order
and shapes: engines whose products have the same bits give logits with the same bits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import ThreadpoolController

from seedlm.golden.errors import SeedLMError
from seedlm.host.models._attention import Attention, Step, soft_cap
from seedlm.host.models._base import EMBEDDING, HEAD, Engine, Group
from seedlm.host.models._cache import Cache
from seedlm.host.models._fields import Fields
from seedlm.host.models._linear import Layer, Linear
from seedlm.host.models._mlp import Experts, Mlp
from seedlm.host.models._norms import Norm

if TYPE_CHECKING:
    from seedlm.host.checkpoint import Checkpoint

__all__ = ["Decoder", "DecoderConfig", "Positions", "Residual", "dimensions"]

# Below this many weights several threads of the BLAS cost more than they give.
SMALL = 200_000_000
# Frequencies that older programs stored; they follow from config.json.
ROTARY = re.compile(r"(.*\.)?rotary_emb\.inv_freq")


@dataclass(frozen=True)
class Residual:
    """A part with its norms: x + after(part(before(x)))."""

    before: Norm
    part: Attention | Mlp | Experts
    after: Norm | None = None

    @property
    def norms(self) -> list[Norm]:
        return [self.before] if self.after is None else [self.before, self.after]


@dataclass(frozen=True)
class Positions:
    """Learned positions: rows of a matrix [count, hidden], added to the embedding; position 0 is row `offset`."""

    name: str
    count: int
    offset: int = 0


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """What a model is: dimensions, names, and the parts of its layers.

    Parameters
    ----------
    vocab, hidden, context : int
        Tokens, elements of a position, positions the model was made for.
    body : tuple
        For each layer its parts, in their order.
    norm : Norm
        Before the output matrix.
    tied : bool
        The output matrix is the embedding.
    bos : int or None
        Begins every text.
    eos : tuple of int
        Any of these ends it.
    embedding, head : str
        Names of the embedding and of the output matrix.
    prefix, layer : str
        What all names but the output matrix begin with; what those of a layer begin with, {} for its number.
    ignored : re.Pattern
        Names of tensors that may be there and say nothing that config.json does not say.
    embedding_scale : float
        The embedding is multiplied by it.
    embedding_norm : Norm or None
        Of the embedding.
    positions : Positions or None
        Learned ones.
    logit_cap : float or None
        Logits are bent to stay below it.
    """

    vocab: int
    hidden: int
    context: int
    body: tuple[tuple[Residual, ...], ...]
    norm: Norm
    tied: bool = False
    bos: int | None = None
    eos: tuple[int, ...] = ()
    embedding: str = "model.embed_tokens.weight"
    head: str = "lm_head.weight"
    prefix: str = "model."
    layer: str = "model.layers.{}."
    ignored: re.Pattern[str] = ROTARY
    embedding_scale: float = 1.0
    embedding_norm: Norm | None = None
    positions: Positions | None = None
    logit_cap: float | None = None

    @property
    def layers(self) -> int:
        """How many."""
        return len(self.body)

    @property
    def attention(self) -> Attention:
        """Of the first layer; heads are the same in all."""
        return next(block.part for block in self.body[0] if isinstance(block.part, Attention))

    @property
    def heads(self) -> int:
        """Of queries."""
        return self.attention.heads.count

    @property
    def kv_heads(self) -> int:
        """Of keys and values."""
        return self.attention.heads.shared

    @property
    def head_dim(self) -> int:
        """Elements of a head."""
        return self.attention.heads.size

    def _blocks(self) -> Iterator[tuple[str, Residual]]:
        """(prefix of its names, part with norms) in their order."""
        for i, blocks in enumerate(self.body):
            for block in blocks:
                yield self.layer.format(i), block

    def _linears(self) -> Iterator[tuple[str, Linear]]:
        for prefix, block in self._blocks():
            for linear in block.part.linears():
                yield prefix, linear

    def linears(self) -> dict[str, tuple[int, int]]:
        """See `ModelConfig.linears`; the output matrix has its own name with tied embeddings too."""
        out = {f"{prefix}{linear.name}.weight": (linear.rows, linear.cols) for prefix, linear in self._linears()}
        return out | {self.head: (self.vocab, self.hidden)}

    def kinds(self) -> dict[str, str]:
        """See `ModelConfig.kinds`."""
        out = {self.embedding: EMBEDDING}
        for prefix, block in self._blocks():
            for linear, kind in zip(block.part.linears(), block.part.kinds(), strict=True):
                out[f"{prefix}{linear.name}.weight"] = kind
        return out | {self.head: HEAD}

    @property
    def transposed(self) -> frozenset[str]:
        """See `ModelConfig`."""
        return frozenset(f"{prefix}{linear.name}.weight" for prefix, linear in self._linears() if linear.transposed)

    def vectors(self) -> dict[str, tuple[int, ...]]:
        """See `ModelConfig.vectors`."""
        out: dict[str, tuple[int, ...]] = {}
        if self.positions is not None:
            out[self.positions.name] = (self.positions.count, self.hidden)
        if self.embedding_norm is not None:
            out |= self.embedding_norm.vectors()
        for prefix, block in self._blocks():
            for part in (*block.norms, block.part):
                out |= {prefix + name: shape for name, shape in part.vectors().items()}
        out |= {f"{prefix}{linear.name}.bias": (linear.rows,) for prefix, linear in self._linears() if linear.bias}
        return out | self.norm.vectors()

    def groups(self) -> list[Group]:
        """See `ModelConfig.groups`."""
        found: dict[tuple[Linear, ...], Group] = {}
        for prefix, block in self._blocks():
            for linears, often in block.part.groups():
                names = tuple(f"{prefix}{linear.name}.weight" for linear in linears)
                first = found.setdefault(tuple(linears), Group(_label(linears), names, 0))
                found[tuple(linears)] = Group(first.name, first.matrices, first.count + often)
        return [*found.values(), Group("lm_head", (self.head,))]

    def canonical(self, names: Iterable[str]) -> dict[str, str]:
        """See `ModelConfig.canonical`."""
        names = list(names)
        whole = any(name.startswith(self.prefix) for name in names)
        return {name: name if whole or name == self.head else self.prefix + name for name in names}


def _label(linears: Sequence[Linear]) -> str:
    """What people call a group of matrices: ``q, k, v``."""
    return ", ".join(linear.name.rpartition(".")[2].removesuffix("_proj") for linear in linears)


def dimensions(fields: Fields, *, tied: bool = False) -> dict[str, Any]:
    """What every config.json says, as `DecoderConfig` takes it; `tied` where it says nothing of that.

    Raises
    ------
    SeedLMError
        A value that is missing or invalid.
    """
    vocab = fields.number("vocab_size")
    return {
        "vocab": vocab,
        "hidden": fields.number("hidden_size"),
        "context": fields.number("max_position_embeddings", 2048),
        "tied": fields.flag("tie_word_embeddings", tied),
        "bos": next(iter(fields.tokens("bos_token_id", vocab)), None),
        "eos": fields.tokens("eos_token_id", vocab),
    }


class Decoder:
    """A model that continues token sequences.

    Parameters
    ----------
    checkpoint : Checkpoint
        What it is (a `DecoderConfig`), its embedding and vectors.
    engine : Engine
        Multiplies by the matrices of the linear layers.
    """

    def __init__(self, checkpoint: Checkpoint, engine: Engine):
        self.config: DecoderConfig = checkpoint.config
        self.engine = engine
        self._checkpoint = checkpoint
        self._vectors = {name: checkpoint.vector(name) for name in self.config.vectors()}
        for name, vector in self._vectors.items():
            if not np.isfinite(vector).all():
                raise SeedLMError(f"{checkpoint.folder}: tensor {name!r} has NaN or infinity: expected finite weights")
        self._outside = Layer(engine, self._vectors)
        names = (self.config.layer.format(i) for i in range(self.config.layers))
        self._layers = [Layer(engine, self._vectors, name, i) for i, name in enumerate(names)]
        weights = sum(rows * cols for rows, cols in self.config.linears().values())
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
        x = self._embedded(tokens, cache.length)
        step = Step(cache, len(tokens))
        for layer, blocks in zip(self._layers, config.body, strict=True):
            for block in blocks:
                y = block.part(layer, block.before(layer, x), step)
                x = x + (y if block.after is None else block.after(layer, y))
        cache.length += len(tokens)
        x = config.norm(self._outside, x[-1:] if last else x)
        (logits,) = self.engine.products([config.head], x)
        return logits if config.logit_cap is None else soft_cap(logits, config.logit_cap)

    def _embedded(self, tokens: np.ndarray, first: int) -> np.ndarray:
        """What goes into the first layer for tokens at positions `first` and on."""
        config = self.config
        x = self._checkpoint.embedding(tokens)
        if not np.isfinite(x).all():
            raise SeedLMError(f"tensor {config.embedding!r} has NaN or infinity: expected finite weights")
        if config.embedding_scale != 1:
            x = x * np.float32(config.embedding_scale)
        if config.positions is not None:
            at = first + config.positions.offset
            x = x + self._vectors[config.positions.name][at : at + len(tokens)]
        return x if config.embedding_norm is None else config.embedding_norm(self._outside, x)
