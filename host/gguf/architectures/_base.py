"""What an entry of the registry is: how a GGUF file writes what an architecture's config.json and tensors say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from seedlm.host.gguf.header import Header
from seedlm.host.gguf.tensors import Change

__all__ = [
    "DECODER",
    "DECODER_CONFIG",
    "ORIGINAL",
    "GgufArchitecture",
    "experts",
    "fused_heads",
    "interleaved",
    "rope_scaling",
    "uniform",
]

# Entries of config.json that most decoders have, and the keys of the metadata, without the architecture's name.
DECODER_CONFIG = {
    "num_hidden_layers": "block_count",
    "max_position_embeddings": "context_length",
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "rope_theta": "rope.freq_base",
}
ORIGINAL = "original_max_position_embeddings"
# Tensors that most decoders have; {} is the number of a layer.
DECODER = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "blk.{}.attn_norm": "model.layers.{}.input_layernorm",
    "blk.{}.attn_q": "model.layers.{}.self_attn.q_proj",
    "blk.{}.attn_k": "model.layers.{}.self_attn.k_proj",
    "blk.{}.attn_v": "model.layers.{}.self_attn.v_proj",
    "blk.{}.attn_output": "model.layers.{}.self_attn.o_proj",
    "blk.{}.ffn_norm": "model.layers.{}.post_attention_layernorm",
    "blk.{}.ffn_gate": "model.layers.{}.mlp.gate_proj",
    "blk.{}.ffn_up": "model.layers.{}.mlp.up_proj",
    "blk.{}.ffn_down": "model.layers.{}.mlp.down_proj",
}


def nothing(header: Header, config: dict[str, Any]) -> dict[str, Any]:
    """No entries of its own."""
    return {}


@dataclass(frozen=True)
class GgufArchitecture:
    """An architecture as GGUF files have it.

    Parameters
    ----------
    name : str
        What metadata call it, and how their keys for it begin.
    architecture, model_type : str
        What config.json calls it.
    config : mapping of str to str
        Entries of config.json that are entries of the metadata, by the keys of these without `name`.
    tensors : mapping of str to str
        Names here and in Hugging Face's files, without the part after the last dot (weight, bias).
    constants : mapping
        Entries of config.json that all such files have.
    more : callable
        Called with (header, config.json so far) gives further entries.
    changes : mapping of str to callable
        By names here, with the part after the last dot (weight) or without: called with config.json gives what was
        done to the tensor.
    stacks : mapping of str to str
        Tensors that are the matrices of all experts, by names here, and the names of these: the first {} is the number
        of the layer, the second that of the expert.
    said : tuple of str
        Tensors that hold what goes into config.json.
    applies : callable
        Whether a file that has the name is of this architecture: several may share a name.
    """

    name: str
    architecture: str
    model_type: str
    config: Mapping[str, str] = field(default_factory=lambda: DECODER_CONFIG)
    tensors: Mapping[str, str] = field(default_factory=lambda: DECODER)
    constants: Mapping[str, Any] = field(default_factory=dict)
    more: Callable[[Header, dict[str, Any]], dict[str, Any]] = nothing
    changes: Mapping[str, Callable[[Mapping[str, Any]], Change]] = field(default_factory=dict)
    stacks: Mapping[str, str] = field(default_factory=dict)
    said: tuple[str, ...] = ()
    applies: Callable[[Header], bool] = lambda header: True


def uniform(header: Header, key: str) -> Any:
    """An entry that may be a list with one value for each layer: the value, if all are the same."""
    value = header.metadata.get(key)
    if not isinstance(value, list):
        return value
    if len(set(value)) != 1:
        header.refuse(f"metadata {key!r} differs from layer to layer, which is not supported")
    return value[0]


def experts(header: Header, name: str) -> int:
    """How many experts a layer has; 0 if it is no mixture."""
    return header.get(f"{name}.expert_count", int, 0)


def rope_scaling(header: Header, name: str) -> dict[str, Any]:
    """The entry for linear scaling of rotary positions or yarn, if metadata have it; others are refused."""
    begin = f"{name}.rope.scaling."
    number = (int, float)
    kind = header.get(f"{begin}type", str, "none")
    factor = header.get(f"{begin}factor", number, header.metadata.get(f"{name}.rope.scale_linear"))
    if kind == "none" and factor in (None, 0, 1):
        return {}
    scaling = {"rope_type": "linear" if kind == "none" else kind, "factor": factor}
    if kind == "yarn":
        entries = {ORIGINAL: "original_context_length", "beta_fast": "yarn_beta_fast", "beta_slow": "yarn_beta_slow"}
        given = {entry: header.get(begin + key, number) for entry, key in entries.items()}
        scaling |= {entry: value for entry, value in given.items() if value is not None}
    elif kind not in ("none", "linear"):
        header.refuse(f"rotary scaling {kind!r} is not supported: expected none, linear or yarn")
    return {"rope_scaling": scaling}


def interleaved(heads: str) -> Callable[[Mapping[str, Any]], Change]:
    """Rows of each head as pairs that turn together (0, d/2, 1, d/2 + 1, ...); `heads` names config.json's number."""

    def change(config: Mapping[str, Any]) -> Change:
        def rows(count: int) -> np.ndarray:
            return np.arange(count).reshape(config[heads], -1, 2).swapaxes(1, 2).reshape(-1)

        return Change(rows)

    return change


def fused_heads(heads: str) -> Callable[[Mapping[str, Any]], Change]:
    """Queries of all heads, then keys, then values; the original has the three of each head together."""

    def change(config: Mapping[str, Any]) -> Change:
        def rows(count: int) -> np.ndarray:
            return np.arange(count).reshape(3, config[heads], -1).swapaxes(0, 1).reshape(-1)

        return Change(rows)

    return change
