"""Tiny models of every architecture and variant: their config.json, weights drawn by the names of tensors, a text.

Weights are the same wherever they are drawn, so that logits that were computed once can be stored without them.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np

from seedlm.golden.files.tensors import RawTensor, write_tensors
from seedlm.host.models import ModelConfig, model_config

VOCAB, LENGTH = 40, 24
EXPECTED = Path(__file__).resolve().parent / "logits"


def llama_like(name: str, kind: str, **more) -> dict:
    return {
        "architectures": [name], "model_type": kind, "vocab_size": VOCAB, "hidden_size": 24, "intermediate_size": 36,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": False, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0,
        "rope_theta": 100.0,
    } | more  # fmt: skip


LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "beta_fast": 4.0}
LLAMA, MISTRAL = ("LlamaForCausalLM", "llama"), ("MistralForCausalLM", "mistral")
QWEN2, QWEN3 = ("Qwen2ForCausalLM", "qwen2"), ("Qwen3ForCausalLM", "qwen3")
GEMMA, GEMMA2 = ("GemmaForCausalLM", "gemma"), ("Gemma2ForCausalLM", "gemma2")
MOE = {"num_experts_per_tok": 2, "moe_intermediate_size": 20, "shared_expert_intermediate_size": 28, "num_experts": 5}
SLIDING = {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}
NO_WINDOW = {"use_sliding_window": False}
GPT2 = {
    "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": VOCAB, "n_embd": 24, "n_layer": 2,
    "n_head": 4, "n_positions": 64, "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip
OPT = {
    "architectures": ["OPTForCausalLM"], "model_type": "opt", "vocab_size": VOCAB, "hidden_size": 24, "ffn_dim": 40,
    "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64, "word_embed_proj_dim": 24,
    "do_layer_norm_before": True, "activation_function": "relu", "bos_token_id": 2, "eos_token_id": 2,
    "pad_token_id": 1,
}  # fmt: skip
BLOOM = {
    "architectures": ["BloomForCausalLM"], "model_type": "bloom", "vocab_size": VOCAB, "hidden_size": 24, "n_layer": 2,
    "n_head": 4, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3,
}  # fmt: skip

# Every feature of every architecture at least once, windows shorter than the text.
CASES: dict[str, dict] = {
    "llama": llama_like(*LLAMA),
    "llama-biases-tied": llama_like(*LLAMA, attention_bias=True, mlp_bias=True, tie_word_embeddings=True, head_dim=8),
    "llama-llama3": llama_like(*LLAMA, rope_scaling=LLAMA3, num_key_value_heads=4, head_dim=16),
    "llama-linear": llama_like(*LLAMA, rope_scaling={"type": "linear", "factor": 4.0}, num_key_value_heads=1),
    "llama-yarn": llama_like(*LLAMA, rope_scaling=YARN, head_dim=16),
    "llama-yarn-mscale": llama_like(
        *LLAMA, rope_scaling=YARN | {"mscale": 0.5, "mscale_all_dim": 0.8, "truncate": False}, head_dim=16
    ),
    "mistral": llama_like(*MISTRAL, sliding_window=5),
    "mistral-full": llama_like(*MISTRAL, sliding_window=None, head_dim=8, num_key_value_heads=1),
    "qwen2": llama_like(*QWEN2, **NO_WINDOW, tie_word_embeddings=True),
    "qwen2-sliding": llama_like(*QWEN2, **SLIDING, rope_scaling=YARN),
    "qwen3": llama_like(*QWEN3, **NO_WINDOW, head_dim=8),
    "qwen3-biases-sliding": llama_like(*QWEN3, **SLIDING, head_dim=8, attention_bias=True, tie_word_embeddings=True),
    "gemma": llama_like(
        *GEMMA, head_dim=8, num_key_value_heads=1, hidden_act="gelu_pytorch_tanh", tie_word_embeddings=True
    ),
    "gemma-untied": llama_like(*GEMMA, head_dim=10, hidden_act="gelu", attention_bias=True),
    "gemma2": llama_like(
        *GEMMA2, head_dim=8, sliding_window=5, tie_word_embeddings=True, query_pre_attn_scalar=12,
        attn_logit_softcapping=3.0, final_logit_softcapping=4.0, num_hidden_layers=3,
    ),
    "phi3": llama_like("Phi3ForCausalLM", "phi3", sliding_window=5),
    "phi3-full": llama_like("Phi3ForCausalLM", "phi3", sliding_window=None, num_key_value_heads=4),
    "gpt2": GPT2,
    "gpt2-untied": GPT2 | {"n_inner": 40, "tie_word_embeddings": False, "layer_norm_epsilon": 1e-3},
    "opt": OPT,
    "opt-untied": OPT | {"enable_bias": False, "tie_word_embeddings": False},
    "bloom": BLOOM,
    "bloom-six-heads": BLOOM | {"n_head": 6, "tie_word_embeddings": False, "layer_norm_epsilon": 1e-3},
    "mixtral": llama_like("MixtralForCausalLM", "mixtral", num_local_experts=5, num_experts_per_tok=2),
    "mixtral-sliding": llama_like(
        "MixtralForCausalLM", "mixtral", num_local_experts=4, num_experts_per_tok=3, sliding_window=5
    ),
    "qwen2-moe": llama_like("Qwen2MoeForCausalLM", "qwen2_moe", **NO_WINDOW, **MOE),
    "qwen2-moe-some-layers": llama_like(
        "Qwen2MoeForCausalLM", "qwen2_moe", **NO_WINDOW, **MOE, norm_topk_prob=True, decoder_sparse_step=2,
        num_hidden_layers=4, mlp_only_layers=[3], qkv_bias=False,
    ),
}


def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The weights of a tensor of this name, float32; larger than trained ones, to show every detail."""
    rng = np.random.default_rng([zlib.crc32(name.encode()), *shape])
    values = rng.uniform(-1, 1, shape)
    if len(shape) == 1:
        return (0.3 * values + (0.9 if name.endswith("weight") else 0)).astype(np.float32)
    return (values * (1.0 if "embed" in name or ".wte." in name or "gate.weight" in name else 0.3)).astype(np.float32)


def tensors(config: ModelConfig) -> dict[str, np.ndarray]:
    """All tensors of a model's file, as a checkpoint has them."""
    shapes: dict[str, tuple[int, ...]] = {config.embedding: (config.vocab, config.hidden), **config.vectors()}
    for name, (rows, cols) in config.linears().items():
        if name != config.head or not config.tied:
            shapes[name] = (cols, rows) if name in config.transposed else (rows, cols)
    return {name: draw(name, shape) for name, shape in shapes.items()}


def write_case(folder: Path, name: str) -> Path:
    """Write the directory of a case."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CASES[name]))
    stored = {n: RawTensor.from_array(a) for n, a in tensors(model_config(CASES[name], name)).items()}
    write_tensors(folder / "model.safetensors", stored, {"format": "pt"})
    return folder


def text() -> np.ndarray:
    """Tokens that begin with the padding token of none of the cases."""
    return np.random.default_rng(11).integers(4, VOCAB, LENGTH)
