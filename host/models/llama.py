"""A Llama model: its configuration, its tensors, and everything but the matrix products, in FP32 with NumPy.

The products go to an engine (`host.engines`). Whatever the engine, the arithmetic here is the same, in the same order
and shapes: engines whose products have the same bits give logits with the same bits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import ThreadpoolController

from seedlm.golden.errors import SeedLMError
from seedlm.host.models._base import Architecture, Engine, Group
from seedlm.host.models._cache import Cache
from seedlm.host.models._fields import Fields
from seedlm.host.models._rotary import Rope, frequencies, rotate, tables

if TYPE_CHECKING:
    from seedlm.host.checkpoint import Checkpoint

__all__ = ["ARCHITECTURE", "Llama", "LlamaConfig"]

# Below this many weights several threads of the BLAS cost more than they give.
SMALL = 200_000_000
HEAD, NORM = "lm_head.weight", "model.norm.weight"
# Frequencies that older programs stored; they follow from config.json.
IGNORED = re.compile(r"(.*\.)?rotary_emb\.inv_freq")
# The linear layers of a layer, in the order of their use.
PROJECTIONS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
               "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class LlamaConfig:
    """The dimensions of a Llama model.

    Parameters
    ----------
    vocab, hidden, intermediate, layers, heads, kv_heads, head_dim : int
    context : int
        Positions the model was made for.
    eps : float
        Of the RMS norms.
    rope : Rope
    tied : bool
        The output matrix is the embedding.
    attention_bias, mlp_bias : bool
        The projections have biases; they are added on the host.
    bos : int or None
        Begins every text.
    eos : tuple of int
        Any of these ends it.
    """

    vocab: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    context: int = 2048
    eps: float = 1e-6
    rope: Rope = field(default_factory=Rope)
    tied: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    bos: int | None = None
    eos: tuple[int, ...] = ()

    embedding, head, ignored = "model.embed_tokens.weight", HEAD, IGNORED

    @classmethod
    def from_json(cls, fields: Fields) -> LlamaConfig:
        """From a config.json.

        Raises
        ------
        SeedLMError
            Something of Llama that is not supported, a value that is missing or invalid.
        """
        if fields.get("hidden_act", "silu") != "silu":
            fields.refuse(f"unsupported hidden_act {fields.get('hidden_act')!r}: expected 'silu'")
        number = fields.number
        vocab, hidden, heads = number("vocab_size"), number("hidden_size"), number("num_attention_heads")
        kv_heads = number("num_key_value_heads", heads)
        if fields.get("head_dim") is None and hidden % heads:
            fields.refuse(f"hidden_size {hidden} is not a multiple of num_attention_heads {heads}, and there is no"
                          " head_dim")  # fmt: skip
        head_dim = number("head_dim", hidden // heads)
        if heads % kv_heads:
            fields.refuse(f"num_attention_heads {heads} is not a multiple of num_key_value_heads {kv_heads}")
        if head_dim % 2:
            fields.refuse(f"head_dim must be even for rotary positions, not {head_dim}")
        return cls(
            vocab=vocab,
            hidden=hidden,
            intermediate=number("intermediate_size"),
            layers=number("num_hidden_layers"),
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            context=number("max_position_embeddings", 2048),
            eps=number("rms_norm_eps", 1e-6, float),
            rope=Rope.from_json(fields),
            tied=fields.flag("tie_word_embeddings"),
            attention_bias=fields.flag("attention_bias"),
            mlp_bias=fields.flag("mlp_bias"),
            bos=next(iter(fields.tokens("bos_token_id", vocab)), None),
            eos=fields.tokens("eos_token_id", vocab),
        )

    def shapes(self) -> dict[str, tuple[int, int]]:
        """Rows (outputs) and columns (inputs) of every matrix of the linear layers, the output matrix last.

        Its name is ``lm_head.weight``, with tied embeddings too.
        """
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        sizes = {
            "self_attn.q_proj": (q, self.hidden),
            "self_attn.k_proj": (kv, self.hidden),
            "self_attn.v_proj": (kv, self.hidden),
            "self_attn.o_proj": (self.hidden, q),
            "mlp.gate_proj": (self.intermediate, self.hidden),
            "mlp.up_proj": (self.intermediate, self.hidden),
            "mlp.down_proj": (self.hidden, self.intermediate),
        }
        out = {f"model.layers.{i}.{p}.weight": sizes[p] for i in range(self.layers) for p in PROJECTIONS}
        out[HEAD] = (self.vocab, self.hidden)
        return out

    def vectors(self) -> dict[str, int]:
        """Lengths of the norms' weights and the biases."""
        out = {}
        for i in range(self.layers):
            for name in ("input_layernorm", "post_attention_layernorm"):
                out[f"model.layers.{i}.{name}.weight"] = self.hidden
        for name, (rows, _) in self.shapes().items():
            if (self.attention_bias and ".self_attn." in name) or (self.mlp_bias and ".mlp." in name):
                out[name.removesuffix("weight") + "bias"] = rows
        out[NORM] = self.hidden
        return out

    def groups(self) -> list[Group]:
        """The products of a token: all matrices, those of a layer once with the number of layers."""
        matrices = [f"model.layers.0.{p}.weight" for p in PROJECTIONS]
        return [
            Group("q, k, v", tuple(matrices[:3]), self.layers),
            Group("o", tuple(matrices[3:4]), self.layers),
            Group("gate, up", tuple(matrices[4:6]), self.layers),
            Group("down", tuple(matrices[6:]), self.layers),
            Group("lm_head", (HEAD,)),
        ]


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
            raise SeedLMError(f"tensor {self.config.embedding!r} has NaN or infinity: expected finite weights")
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


ARCHITECTURE = Architecture("LlamaForCausalLM", "llama", LlamaConfig, Llama)
