"""Phi-3: Llama's parts with fused matrices: one for queries, keys and values, one for gate and up."""

from __future__ import annotations

from functools import partial

from seedlm.host.models._attention import Attention, Heads, one_window
from seedlm.host.models._base import Architecture
from seedlm.host.models._decoder import Decoder, DecoderConfig, Residual, dimensions
from seedlm.host.models._fields import Fields
from seedlm.host.models._linear import Linear
from seedlm.host.models._mlp import ACTIVATIONS, Mlp
from seedlm.host.models._norms import RmsNorm
from seedlm.host.models._rotary import Rope

__all__ = ["ARCHITECTURE"]


def config(fields: Fields) -> DecoderConfig:
    """From a config.json."""
    size = dimensions(fields)
    hidden, inner = size["hidden"], fields.number("intermediate_size")
    heads = Heads.from_json(fields, hidden)
    norm = partial(RmsNorm, size=hidden, eps=fields.number("rms_norm_eps", 1e-5, float))
    rope = Rope.from_json(fields, heads.size)
    if rope.kind != "default":
        fields.refuse(f"unsupported rotary scaling {rope.kind!r} of Phi-3: expected 'default'")
    attention = Attention(
        heads=heads,
        qkv=(Linear("self_attn.qkv_proj", heads.q + 2 * heads.kv, hidden),),
        out=Linear("self_attn.o_proj", hidden, heads.q),
        rope=rope,
        window=one_window(fields),
    )
    mlp = Mlp(
        up=(Linear("mlp.gate_up_proj", 2 * inner, hidden),),
        down=Linear("mlp.down_proj", hidden, inner),
        activation=fields.choice("hidden_act", "silu", ACTIVATIONS),
    )
    layer = Residual(norm("input_layernorm"), attention), Residual(norm("post_attention_layernorm"), mlp)
    return DecoderConfig(**size, body=(layer,) * fields.number("num_hidden_layers"), norm=norm("model.norm"))


ARCHITECTURE = Architecture("Phi3ForCausalLM", "phi3", config, Decoder)
