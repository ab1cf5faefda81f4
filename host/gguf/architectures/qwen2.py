"""Qwen 2 and 2.5: as Llama with rows as they were, and biases for queries, keys and values."""

from __future__ import annotations

from seedlm.host.gguf.architectures._base import GgufArchitecture, rope_scaling

__all__ = ["GGUF"]

GGUF = GgufArchitecture(
    "qwen2",
    "Qwen2ForCausalLM",
    "qwen2",
    constants={"hidden_act": "silu"},
    more=lambda header, config: rope_scaling(header, "qwen2"),
)
