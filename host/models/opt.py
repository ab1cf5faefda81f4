"""OPT: layer norms, learned positions, biases, a plain MLP with ReLU."""

from __future__ import annotations

from functools import partial

from seedlm.host.models._attention import Attention, Heads, split_qkv
from seedlm.host.models._base import Architecture
from seedlm.host.models._decoder import Decoder, DecoderConfig, Positions, Residual, dimensions
from seedlm.host.models._fields import Fields
from seedlm.host.models._linear import Linear
from seedlm.host.models._mlp import ACTIVATIONS, Mlp
from seedlm.host.models._norms import LayerNorm

__all__ = ["ARCHITECTURE"]


def config(fields: Fields) -> DecoderConfig:
    """From a config.json."""
    for name in ("do_layer_norm_before", "layer_norm_elementwise_affine"):
        fields.expect(name, True)
    fields.expect("_remove_final_layer_norm", False)
    size = dimensions(fields, tied=True)
    hidden, inner = size["hidden"], fields.number("ffn_dim")
    fields.expect("word_embed_proj_dim", hidden)
    heads = Heads.from_json(fields, hidden)
    norm = partial(LayerNorm, size=hidden, eps=1e-5)
    bias = fields.flag("enable_bias", True)
    attention = Attention(
        heads=heads,
        qkv=split_qkv("self_attn.{}_proj", hidden, heads, bias=bias),
        out=Linear("self_attn.out_proj", hidden, heads.q, bias),
    )
    mlp = Mlp(
        up=(Linear("fc1", inner, hidden, bias),),
        down=Linear("fc2", hidden, inner, bias),
        activation=fields.choice("activation_function", "relu", ACTIVATIONS),
        gated=False,
    )
    layer = Residual(norm("self_attn_layer_norm"), attention), Residual(norm("final_layer_norm"), mlp)
    return DecoderConfig(
        **size,
        body=(layer,) * fields.number("num_hidden_layers"),
        norm=norm("model.decoder.final_layer_norm"),
        embedding="model.decoder.embed_tokens.weight",
        # The first two rows were for padding.
        positions=Positions("model.decoder.embed_positions.weight", size["context"] + 2, offset=2),
        layer="model.decoder.layers.{}.",
    )


ARCHITECTURE = Architecture("OPTForCausalLM", "opt", config, Decoder)
