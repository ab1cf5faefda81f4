"""BLOOM: positions by ALiBi, one matrix for q, k and v head by head, layer norms, one of the embedding too."""

from __future__ import annotations

from functools import partial

from seedlm.host.models._attention import Attention, Heads
from seedlm.host.models._base import Architecture
from seedlm.host.models._decoder import Decoder, DecoderConfig, Residual, dimensions
from seedlm.host.models._fields import Fields
from seedlm.host.models._linear import Linear
from seedlm.host.models._mlp import Mlp
from seedlm.host.models._norms import LayerNorm

__all__ = ["ARCHITECTURE"]


def config(fields: Fields) -> DecoderConfig:
    """From a config.json."""
    fields = fields.called(
        hidden_size="n_embed",
        num_attention_heads="n_head",
        num_hidden_layers="n_layer",
        max_position_embeddings="seq_length",
    )
    fields.expect("apply_residual_connection_post_layernorm", False)
    size = dimensions(fields, tied=True)
    hidden = size["hidden"]
    heads = Heads.from_json(fields, hidden)
    norm = partial(LayerNorm, size=hidden, eps=fields.number("layer_norm_epsilon", 1e-5, float))
    attention = Attention(
        heads=heads,
        qkv=(Linear("self_attention.query_key_value", 3 * heads.q, hidden, bias=True),),
        out=Linear("self_attention.dense", hidden, heads.q, bias=True),
        interleaved=True,
        alibi=True,
    )
    mlp = Mlp(
        up=(Linear("mlp.dense_h_to_4h", 4 * hidden, hidden, bias=True),),
        down=Linear("mlp.dense_4h_to_h", hidden, 4 * hidden, bias=True),
        activation="gelu_pytorch_tanh",
        gated=False,
    )
    layer = Residual(norm("input_layernorm"), attention), Residual(norm("post_attention_layernorm"), mlp)
    return DecoderConfig(
        **size,
        body=(layer,) * fields.number("num_hidden_layers"),
        norm=norm("transformer.ln_f"),
        embedding="transformer.word_embeddings.weight",
        embedding_norm=norm("transformer.word_embeddings_layernorm"),
        prefix="transformer.",
        layer="transformer.h.{}.",
    )


ARCHITECTURE = Architecture("BloomForCausalLM", "bloom", config, Decoder)
