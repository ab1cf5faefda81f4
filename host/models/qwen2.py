"""Qwen2: Llama's parts with biases of queries, keys and values; the upper layers may have a sliding window."""

from __future__ import annotations

from functools import partial

from seedlm.host.models._attention import Attention, Heads, split_qkv, upper_windows
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
    size, layers = dimensions(fields), fields.number("num_hidden_layers")
    hidden = size["hidden"]
    heads = Heads.from_json(fields, hidden)
    norm = partial(RmsNorm, size=hidden, eps=fields.number("rms_norm_eps", 1e-6, float))
    attention = partial(
        Attention,
        heads=heads,
        qkv=split_qkv("self_attn.{}_proj", hidden, heads, bias=True),
        out=Linear("self_attn.o_proj", hidden, heads.q),
        rope=Rope.from_json(fields, heads.size),
    )
    mlp = gated_mlp(
        "mlp.{}_proj",
        hidden,
        fields.number("intermediate_size"),
        fields.choice("hidden_act", "silu", ACTIVATIONS),
    )
    body = [
        (Residual(norm("input_layernorm"), attention(window=window)), Residual(norm("post_attention_layernorm"), mlp))
        for window in upper_windows(fields, layers)
    ]
    return DecoderConfig(**size, body=tuple(body), norm=norm("model.norm"))


ARCHITECTURE = Architecture("Qwen2ForCausalLM", "qwen2", config, Decoder)
