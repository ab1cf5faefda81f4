"""Llama: RMS norms, rotary positions, key/value heads that are shared, a gated MLP."""

from __future__ import annotations

from functools import partial

from seedlm.host.models._attention import Attention, Heads, split_qkv
from seedlm.host.models._base import Architecture
from seedlm.host.models._decoder import Decoder, DecoderConfig, Residual, dimensions
from seedlm.host.models._fields import Fields
from seedlm.host.models._linear import Linear
from seedlm.host.models._mlp import ACTIVATIONS, gated_mlp
from seedlm.host.models._norms import RmsNorm
from seedlm.host.models._rotary import Rope

__all__ = ["ARCHITECTURE"]


def config(fields: Fields) -> DecoderConfig:
    """From a config.json."""
    size = dimensions(fields)
    hidden = size["hidden"]
    heads = Heads.from_json(fields, hidden)
    norm = partial(RmsNorm, size=hidden, eps=fields.number("rms_norm_eps", 1e-6, float))
    bias = fields.flag("attention_bias")
    attention = Attention(
        heads=heads,
        qkv=split_qkv("self_attn.{}_proj", hidden, heads, bias=bias),
        out=Linear("self_attn.o_proj", hidden, heads.q, bias),
        rope=Rope.from_json(fields, heads.size),
    )
    mlp = gated_mlp(
        "mlp.{}_proj",
        hidden,
        fields.number("intermediate_size"),
        fields.choice("hidden_act", "silu", ACTIVATIONS),
        bias=fields.flag("mlp_bias"),
    )
    layer = Residual(norm("input_layernorm"), attention), Residual(norm("post_attention_layernorm"), mlp)
    return DecoderConfig(**size, body=(layer,) * fields.number("num_hidden_layers"), norm=norm("model.norm"))


ARCHITECTURE = Architecture("LlamaForCausalLM", "llama", config, Decoder)
