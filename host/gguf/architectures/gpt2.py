"""GPT-2, whose matrices Hugging Face's files have with rows and columns exchanged."""

from __future__ import annotations

from seedlm.host.gguf.architectures._base import GgufArchitecture
from seedlm.host.gguf.tensors import Change

__all__ = ["GGUF"]

MATRICES = {
    "blk.{}.attn_qkv": "transformer.h.{}.attn.c_attn",
    "blk.{}.attn_output": "transformer.h.{}.attn.c_proj",
    "blk.{}.ffn_up": "transformer.h.{}.mlp.c_fc",
    "blk.{}.ffn_down": "transformer.h.{}.mlp.c_proj",
}

GGUF = GgufArchitecture(
    "gpt2",
    "GPT2LMHeadModel",
    "gpt2",
    config={
        "n_layer": "block_count",
        "n_positions": "context_length",
        "n_embd": "embedding_length",
        "n_inner": "feed_forward_length",
        "n_head": "attention.head_count",
        "layer_norm_epsilon": "attention.layer_norm_epsilon",
    },
    tensors={
        "token_embd": "transformer.wte",
        "position_embd": "transformer.wpe",
        "blk.{}.attn_norm": "transformer.h.{}.ln_1",
        "blk.{}.ffn_norm": "transformer.h.{}.ln_2",
        "output_norm": "transformer.ln_f",
        "output": "lm_head",
        **MATRICES,
    },
    constants={"activation_function": "gelu_new"},
    changes={f"{name}.weight": lambda config: Change(transposed=True) for name in MATRICES},
)
