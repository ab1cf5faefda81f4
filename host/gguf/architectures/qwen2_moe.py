"""Qwen 2 with a mixture of experts in every layer, and one that every position gets."""

from __future__ import annotations

from typing import Any

from seedlm.host.gguf.architectures._base import DECODER, DECODER_CONFIG, GgufArchitecture, rope_scaling
from seedlm.host.gguf.header import Header
from seedlm.host.gguf.tensors import Change

__all__ = ["GGUF"]

MLP = "model.layers.{}.mlp."
SHARED_GATE = "blk.{}.ffn_gate_inp_shexp"


def _more(header: Header, config: dict[str, Any]) -> dict[str, Any]:
    biases = any(tensor.name == "blk.0.attn_q.bias" for tensor in header.tensors)
    return rope_scaling(header, "qwen2moe") | {"qkv_bias": biases}


GGUF = GgufArchitecture(
    "qwen2moe",
    "Qwen2MoeForCausalLM",
    "qwen2_moe",
    config=DECODER_CONFIG
    | {
        "num_experts": "expert_count",
        "num_experts_per_tok": "expert_used_count",
        "moe_intermediate_size": "expert_feed_forward_length",
        "shared_expert_intermediate_size": "expert_shared_feed_forward_length",
    },
    tensors=DECODER
    | {
        "blk.{}.ffn_gate_inp": f"{MLP}gate",
        "blk.{}.ffn_gate_shexp": f"{MLP}shared_expert.gate_proj",
        "blk.{}.ffn_up_shexp": f"{MLP}shared_expert.up_proj",
        "blk.{}.ffn_down_shexp": f"{MLP}shared_expert.down_proj",
        SHARED_GATE: f"{MLP}shared_expert_gate",
    },
    constants={"hidden_act": "silu", "decoder_sparse_step": 1, "norm_topk_prob": False},
    more=_more,
    changes={SHARED_GATE: lambda config: Change(row=True)},
    stacks={f"blk.{{}}.ffn_{part}_exps": f"{MLP}experts.{{}}.{part}_proj" for part in ("gate", "up", "down")},
)
