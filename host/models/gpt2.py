"""GPT-2: layer norms, learned positions, biases everywhere, a plain MLP; matrices are stored with inputs first."""

from __future__ import annotations

import re
from functools import partial

from seedlm.host.models._attention import Attention, Heads
from seedlm.host.models._base import Architecture
from seedlm.host.models._decoder import Decoder, DecoderConfig, Positions, Residual, dimensions
from seedlm.host.models._fields import Fields
from seedlm.host.models._linear import Linear
from seedlm.host.models._mlp import ACTIVATIONS, Mlp
from seedlm.host.models._norms import LayerNorm

__all__ = ["ARCHITECTURE"]

# The causal mask and what stands for minus infinity, which older programs stored.
MASKS = re.compile(r"(.*\.)?attn\.(bias|masked_bias)")


def config(fields: Fields) -> DecoderConfig:
    """From a config.json."""
    fields = fields.called(
        hidden_size="n_embd",
        num_attention_heads="n_head",
        num_hidden_layers="n_layer",
        max_position_embeddings="n_positions",
    )
    for name, value in (("scale_attn_weights", True), ("scale_attn_by_inverse_layer_idx", False)):
        fields.expect(name, value)
    fields.expect("add_cross_attention", False)
    size = dimensions(fields, tied=True)
    hidden = size["hidden"]
    inner = fields.number("n_inner", 4 * hidden)
    heads = Heads.from_json(fields, hidden)
    norm = partial(LayerNorm, size=hidden, eps=fields.number("layer_norm_epsilon", 1e-5, float))
    conv = partial(Linear, bias=True, transposed=True)
    attention = Attention(
        heads=heads,
        qkv=(conv("attn.c_attn", heads.q + 2 * heads.kv, hidden),),
        out=conv("attn.c_proj", hidden, heads.q),
    )
    mlp = Mlp(
        up=(conv("mlp.c_fc", inner, hidden),),
        down=conv("mlp.c_proj", hidden, inner),
        activation=fields.choice("activation_function", "gelu_new", ACTIVATIONS),
        gated=False,
    )
    layer = Residual(norm("ln_1"), attention), Residual(norm("ln_2"), mlp)
    return DecoderConfig(
        **size,
        body=(layer,) * fields.number("num_hidden_layers"),
        norm=norm("transformer.ln_f"),
        embedding="transformer.wte.weight",
        positions=Positions("transformer.wpe.weight", size["context"]),
        prefix="transformer.",
        layer="transformer.h.{}.",
        ignored=MASKS,
    )


ARCHITECTURE = Architecture("GPT2LMHeadModel", "gpt2", config, Decoder)
