"""Mixtral: Mistral's attention, and a mixture of gated experts instead of one MLP."""

from __future__ import annotations

from functools import partial

from seedlm.host.models._attention import Attention, Heads, one_window, split_qkv
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
    size = dimensions(fields)
    hidden, inner = size["hidden"], fields.number("intermediate_size")
    heads = Heads.from_json(fields, hidden)
    norm = partial(RmsNorm, size=hidden, eps=fields.number("rms_norm_eps", 1e-5, float))
    attention = Attention(
        heads=heads,
        qkv=split_qkv("self_attn.{}_proj", hidden, heads),
        out=Linear("self_attn.o_proj", hidden, heads.q),
        rope=Rope.from_json(fields, heads.size, theta=1e6),
        window=one_window(fields),
    )
    activation = fields.choice("hidden_act", "silu", ACTIVATIONS)
    experts = Experts(
        router="block_sparse_moe.gate",
        hidden=hidden,
        experts=tuple(
            gated_mlp(f"block_sparse_moe.experts.{n}.{{}}", hidden, inner, activation, parts=("w1", "w3", "w2"))
            for n in range(fields.number("num_local_experts", 8))
        ),
        chosen=fields.number("num_experts_per_tok", 2),
        normalised=True,
    )
    layer = (
        Residual(norm("input_layernorm"), attention),
        Residual(norm("post_attention_layernorm"), experts.check(fields)),
    )
    return DecoderConfig(**size, body=(layer,) * fields.number("num_hidden_layers"), norm=norm("model.norm"))


ARCHITECTURE = Architecture("MixtralForCausalLM", "mixtral", config, Decoder)
