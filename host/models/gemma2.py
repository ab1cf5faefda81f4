"""Gemma 2: Gemma's parts with norms after them too, every second layer with a window, scores and logits with a cap."""

from __future__ import annotations

from functools import partial

from seedlm.host.models._attention import Attention, Heads, layer_windows, split_qkv
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
    size, layers = dimensions(fields, tied=True), fields.number("num_hidden_layers")
    hidden = size["hidden"]
    heads = Heads.from_json(fields, hidden, 256)
    norm = partial(RmsNorm, size=hidden, eps=fields.number("rms_norm_eps", 1e-6, float), plus_one=True)
    bias = fields.flag("attention_bias")
    attention = partial(
        Attention,
        heads=heads,
        qkv=split_qkv("self_attn.{}_proj", hidden, heads, bias=bias),
        out=Linear("self_attn.o_proj", hidden, heads.q, bias),
        rope=Rope.from_json(fields, heads.size),
        scale=fields.number("query_pre_attn_scalar", 256, float) ** -0.5,
        cap=fields.optional("attn_logit_softcapping", 50.0, float),
    )
    fields.expect("use_bidirectional_attention", False)
    mlp = gated_mlp(
        "mlp.{}_proj",
        hidden,
        fields.number("intermediate_size"),
        fields.choice("hidden_activation", "gelu_pytorch_tanh", ACTIVATIONS),
    )
    windows = layer_windows(fields, layers, fields.optional("sliding_window", 4096), lambda i: i % 2 == 0)
    body = [
        (
            Residual(norm("input_layernorm"), attention(window=window), norm("post_attention_layernorm")),
            Residual(norm("pre_feedforward_layernorm"), mlp, norm("post_feedforward_layernorm")),
        )
        for window in windows
    ]
    return DecoderConfig(
        **size,
        body=tuple(body),
        norm=norm("model.norm"),
        embedding_scale=hidden**0.5,
        logit_cap=fields.optional("final_logit_softcapping", 30.0, float),
    )


ARCHITECTURE = Architecture("Gemma2ForCausalLM", "gemma2", config, Decoder)
