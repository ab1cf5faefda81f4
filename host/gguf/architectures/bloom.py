"""BLOOM: queries, keys and values in one matrix, head by head in Hugging Face's files."""

from __future__ import annotations

from seedlm.host.gguf.architectures._base import GgufArchitecture, fused_heads

__all__ = ["GGUF"]

GGUF = GgufArchitecture(
    "bloom",
    "BloomForCausalLM",
    "bloom",
    config={
        "n_layer": "block_count",
        "seq_length": "context_length",
        "hidden_size": "embedding_length",
        "n_head": "attention.head_count",
        "layer_norm_epsilon": "attention.layer_norm_epsilon",
    },
    tensors={
        "token_embd": "transformer.word_embeddings",
        "token_embd_norm": "transformer.word_embeddings_layernorm",
        "output_norm": "transformer.ln_f",
        "output": "lm_head",
        "blk.{}.attn_norm": "transformer.h.{}.input_layernorm",
        "blk.{}.attn_qkv": "transformer.h.{}.self_attention.query_key_value",
        "blk.{}.attn_output": "transformer.h.{}.self_attention.dense",
        "blk.{}.ffn_norm": "transformer.h.{}.post_attention_layernorm",
        "blk.{}.ffn_up": "transformer.h.{}.mlp.dense_h_to_4h",
        "blk.{}.ffn_down": "transformer.h.{}.mlp.dense_4h_to_h",
    },
    changes={"blk.{}.attn_qkv": fused_heads("n_head")},
)
