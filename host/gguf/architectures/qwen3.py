"""Qwen 3: as Llama with rows as they were, and norms of queries and keys."""

from __future__ import annotations

from seedlm.host.gguf.architectures._base import DECODER, GgufArchitecture, rope_scaling

__all__ = ["GGUF"]

GGUF = GgufArchitecture(
    "qwen3",
    "Qwen3ForCausalLM",
    "qwen3",
    tensors=DECODER
    | {
        "blk.{}.attn_q_norm": "model.layers.{}.self_attn.q_norm",
        "blk.{}.attn_k_norm": "model.layers.{}.self_attn.k_norm",
    },
    constants={"hidden_act": "silu", "attention_bias": False},
    more=lambda header, config: rope_scaling(header, "qwen3"),
)
