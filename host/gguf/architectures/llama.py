"""Llama and what is built like it (Mistral, SmolLM2, TinyLlama, Yi): queries and keys have their rows in pairs."""

from __future__ import annotations

from typing import Any

import numpy as np

from seedlm.host.gguf.architectures._base import GgufArchitecture, experts, interleaved, rope_scaling
from seedlm.host.gguf.header import Header
from seedlm.host.gguf.tensors import open_tensor

__all__ = ["CHANGES", "GGUF", "more"]

FACTORS = "rope_freqs.weight"
# What Llama 3.1 and 3.2 have: the factors of each pair of elements follow from these and `factor`.
LOW, HIGH, ORIGINAL = 1.0, 4.0, 8192


def more(header: Header, config: dict[str, Any]) -> dict[str, Any]:
    """Rotary scaling, and which linear layers have biases."""
    names = {tensor.name for tensor in header.tensors}
    stored = next((tensor for tensor in header.tensors if tensor.name == FACTORS), None)
    scaling = rope_scaling(header, "llama")
    if stored is not None:
        scaling = {"rope_scaling": _llama3(header, open_tensor(header, stored).array().astype(np.float64), config)}
    turned = header.get("llama.rope.dimension_count", int)
    partial = {"partial_rotary_factor": turned / config["head_dim"]} if turned not in (None, config["head_dim"]) else {}
    return scaling | partial | {
        "attention_bias": "blk.0.attn_q.bias" in names,
        "mlp_bias": "blk.0.ffn_down.bias" in names,
    }  # fmt: skip


def _llama3(header: Header, factors: np.ndarray, config: dict[str, Any]) -> dict[str, Any]:
    """The settings of Llama 3's scaling, from the factors by which the wavelengths are stretched."""
    wavelengths = 2 * np.pi * config["rope_theta"] ** (np.arange(0, config["head_dim"], 2) / config["head_dim"])
    factor = float(np.round(factors.max(), 3)) if factors.size else 0.0
    kept = np.clip((ORIGINAL / wavelengths - LOW) / (HIGH - LOW), 0, 1)
    if factors.shape != kept.shape or factor < 1 or not np.allclose(factors, 1 / ((1 - kept) / factor + kept), 1e-3):
        header.refuse(f"tensor {FACTORS!r} has factors that are not those of Llama 3.1's rotary scaling")
    return {
        "rope_type": "llama3", "factor": factor, "low_freq_factor": LOW, "high_freq_factor": HIGH,
        "original_max_position_embeddings": ORIGINAL,
    }  # fmt: skip


CHANGES = {"blk.{}.attn_q": interleaved("num_attention_heads"), "blk.{}.attn_k": interleaved("num_key_value_heads")}

GGUF = GgufArchitecture(
    "llama",
    "LlamaForCausalLM",
    "llama",
    constants={"hidden_act": "silu"},
    more=more,
    changes=CHANGES,
    said=(FACTORS,),
    applies=lambda header: not experts(header, "llama"),
)
