"""Gemma 2: norms before and after each part, all stored with 1 added; caps of scores and logits."""

from __future__ import annotations

from typing import Any

from seedlm.host.gguf.architectures._base import DECODER, DECODER_CONFIG, GgufArchitecture, rope_scaling
from seedlm.host.gguf.header import Header
from seedlm.host.gguf.tensors import Change

__all__ = ["GGUF"]

NORMS = {
    "output_norm": "model.norm",
    "blk.{}.attn_norm": "model.layers.{}.input_layernorm",
    "blk.{}.post_attention_norm": "model.layers.{}.post_attention_layernorm",
    "blk.{}.ffn_norm": "model.layers.{}.pre_feedforward_layernorm",
    "blk.{}.post_ffw_norm": "model.layers.{}.post_feedforward_layernorm",
}
LARGEST = 46  # layers of the one with 27 billion weights


def _more(header: Header, config: dict[str, Any]) -> dict[str, Any]:
    """What scores are divided by is not in the metadata: the elements of a head, but for the largest model."""
    heads = config["num_attention_heads"]
    scalar = config["hidden_size"] // heads if config["num_hidden_layers"] == LARGEST else config["head_dim"]
    return rope_scaling(header, "gemma2") | {"query_pre_attn_scalar": scalar}


GGUF = GgufArchitecture(
    "gemma2",
    "Gemma2ForCausalLM",
    "gemma2",
    config=DECODER_CONFIG
    | {
        "sliding_window": "attention.sliding_window",
        "attn_logit_softcapping": "attn_logit_softcapping",
        "final_logit_softcapping": "final_logit_softcapping",
    },
    tensors=DECODER | NORMS,
    constants={"hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh"},
    more=_more,
    changes={name: lambda config: Change(added=1.0) for name in NORMS},
)
