"""Gemma, the first: norms are stored with 1 added, and the output matrix is the embedding."""

from __future__ import annotations

from seedlm.host.gguf.architectures._base import GgufArchitecture, rope_scaling
from seedlm.host.gguf.tensors import Change

__all__ = ["GGUF"]

GGUF = GgufArchitecture(
    "gemma",
    "GemmaForCausalLM",
    "gemma",
    constants={"hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh"},
    more=lambda header, config: rope_scaling(header, "gemma"),
    changes={name: lambda config: Change(added=1.0) for name in ("output_norm", "blk.{}.attn_norm", "blk.{}.ffn_norm")},
)
