"""Mixtral: metadata call it a Llama with experts, whose matrices stand in one tensor for all of a layer."""

from __future__ import annotations

from seedlm.host.gguf.architectures._base import DECODER, DECODER_CONFIG, GgufArchitecture, experts
from seedlm.host.gguf.architectures.llama import CHANGES, more

__all__ = ["GGUF"]

EXPERT = "model.layers.{}.block_sparse_moe.experts.{}."

GGUF = GgufArchitecture(
    "llama",
    "MixtralForCausalLM",
    "mixtral",
    config=DECODER_CONFIG | {"num_local_experts": "expert_count", "num_experts_per_tok": "expert_used_count"},
    tensors=DECODER | {"blk.{}.ffn_gate_inp": "model.layers.{}.block_sparse_moe.gate"},
    constants={"hidden_act": "silu"},
    more=more,
    changes=CHANGES,
    stacks={
        "blk.{}.ffn_gate_exps": f"{EXPERT}w1",
        "blk.{}.ffn_down_exps": f"{EXPERT}w2",
        "blk.{}.ffn_up_exps": f"{EXPERT}w3",
    },
    applies=lambda header: experts(header, "llama") > 0,
)
