"""Phi 3: queries, keys and values in one matrix, gate and up in another, and rotary positions with two lists."""

from __future__ import annotations

from typing import Any

from seedlm.host.gguf.architectures._base import DECODER, ORIGINAL, GgufArchitecture, rope_scaling
from seedlm.host.gguf.header import Header
from seedlm.host.gguf.tensors import open_tensor

__all__ = ["GGUF"]

LISTS = {"long_factor": "rope_factors_long.weight", "short_factor": "rope_factors_short.weight"}


def _more(header: Header, config: dict[str, Any]) -> dict[str, Any]:
    stored = {tensor.name: tensor for tensor in header.tensors}
    window = {"sliding_window": header.get("phi3.attention.sliding_window", int) or None}  # 0: none
    said = header.get("phi3.rope.scaling.original_context_length", int, config["max_position_embeddings"])
    if not all(name in stored for name in LISTS.values()):
        return window | rope_scaling(header, "phi3") | {ORIGINAL: said}
    lists = {key: open_tensor(header, stored[name]).array().tolist() for key, name in LISTS.items()}
    return window | {"rope_scaling": {"rope_type": "longrope", **lists}, ORIGINAL: said}


GGUF = GgufArchitecture(
    "phi3",
    "Phi3ForCausalLM",
    "phi3",
    tensors=DECODER
    | {
        "blk.{}.attn_qkv": "model.layers.{}.self_attn.qkv_proj",
        "blk.{}.ffn_up": "model.layers.{}.mlp.gate_up_proj",
    },
    constants={"hidden_act": "silu"},
    more=_more,
    said=tuple(LISTS.values()),
)
