"""Qwen2-MoE: Qwen2's attention; a mixture of experts, and one that every position gets, in all or some layers."""

from __future__ import annotations

from functools import partial

from seedlm.host.models._attention import Attention, Heads, split_qkv
from seedlm.host.models._base import Architecture
from seedlm.host.models._decoder import Decoder, DecoderConfig, Residual, dimensions
from seedlm.host.models._fields import Fields
from seedlm.host.models._linear import Linear
from seedlm.host.models._mlp import ACTIVATIONS, Experts, gated_mlp
from seedlm.host.models._norms import RmsNorm
from seedlm.host.models._rotary import Rope

__all__ = ["ARCHITECTURE"]


def config(fields: Fields) -> DecoderConfig:
    """From a config.json."""
    fields.expect("use_sliding_window", False)
    size, layers = dimensions(fields), fields.number("num_hidden_layers")
    hidden = size["hidden"]
    heads = Heads.from_json(fields, hidden)
    norm = partial(RmsNorm, size=hidden, eps=fields.number("rms_norm_eps", 1e-6, float))
    attention = Attention(
        heads=heads,
        qkv=split_qkv("self_attn.{}_proj", hidden, heads, bias=fields.flag("qkv_bias", True)),
        out=Linear("self_attn.o_proj", hidden, heads.q),
        rope=Rope.from_json(fields, heads.size),
    )
    mlp = partial(gated_mlp, hidden=hidden, activation=fields.choice("hidden_act", "silu", ACTIVATIONS))
    inner = fields.number("moe_intermediate_size", 1408)
    experts = Experts(
        router="mlp.gate",
        hidden=hidden,
        experts=tuple(
            mlp(f"mlp.experts.{n}.{{}}_proj", inner=inner) for n in range(fields.number("num_experts", 60))
        ),
        chosen=fields.number("num_experts_per_tok", 4),
        normalised=fields.flag("norm_topk_prob"),
        shared=mlp("mlp.shared_expert.{}_proj", inner=fields.number("shared_expert_intermediate_size", 5632)),
        shared_gate="mlp.shared_expert_gate",
    )
    plain = mlp("mlp.{}_proj", inner=fields.number("intermediate_size"))
    every, only = fields.number("decoder_sparse_step", 1), fields.numbers("mlp_only_layers")
    parts = [plain if i in only or (i + 1) % every else experts.check(fields) for i in range(layers)]
    body = [
        (Residual(norm("input_layernorm"), attention), Residual(norm("post_attention_layernorm"), part))
        for part in parts
    ]
    return DecoderConfig(**size, body=tuple(body), norm=norm("model.norm"))


ARCHITECTURE = Architecture("Qwen2MoeForCausalLM", "qwen2_moe", config, Decoder)
