"""Small random Llama directories, and a Llama written out literally: float64, one position at a time, no cache."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

from seedlm.golden.files.tensors import RawTensor, TensorFile, write_tensors

BUNDLED = Path(__file__).resolve().parents[2] / "models" / "tiny-python"

SCALED = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "vocab_size": 256,
    "hidden_size": 48, "intermediate_size": 72, "num_hidden_layers": 2, "num_attention_heads": 6,
    "num_key_value_heads": 2, "head_dim": 12, "max_position_embeddings": 128, "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0, "rope_scaling": None, "tie_word_embeddings": False, "bos_token_id": 0, "eos_token_id": 0,
    "attention_bias": False, "mlp_bias": False, "torch_dtype": "float16",
}  # fmt: skip
# Every feature at least once: scaled rotary positions of both kinds, shared key/value heads (or none), tied
# embeddings, heads that are not hidden / count wide, biases.
VARIANTS = {
    "plain": {},
    # One pair of elements turns fast, one in the range that is blended, the others slowly.
    "llama3": {"rope_scaling": SCALED, "tie_word_embeddings": True, "rope_theta": 500.0},
    "linear": {"rope_scaling": {"type": "linear", "factor": 4.0}, "num_key_value_heads": 6, "rope_theta": 10000.0},
    "biases": {"attention_bias": True, "mlp_bias": True, "head_dim": 16, "num_key_value_heads": 1},
}


def tensors(config: dict, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Random float32 tensors of a model, under Hugging Face's names; larger than trained ones, to show every detail."""
    hidden, inner, d = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    q, kv = config["num_attention_heads"] * d, config["num_key_value_heads"] * d

    def normal(*shape: int, scale: float = 0.15) -> np.ndarray:
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    out = {"model.embed_tokens.weight": normal(config["vocab_size"], hidden, scale=1.0)}
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        shapes = {
            "self_attn.q_proj": (q, hidden), "self_attn.k_proj": (kv, hidden), "self_attn.v_proj": (kv, hidden),
            "self_attn.o_proj": (hidden, q), "mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden),
            "mlp.down_proj": (hidden, inner),
        }  # fmt: skip
        for name, shape in shapes.items():
            out[f"{layer}{name}.weight"] = normal(*shape)
            if config["attention_bias" if "attn" in name else "mlp_bias"]:
                out[f"{layer}{name}.bias"] = normal(shape[0])
        for name in ("input_layernorm", "post_attention_layernorm"):
            out[f"{layer}{name}.weight"] = 1 + normal(hidden)
    out["model.norm.weight"] = 1 + normal(hidden)
    if not config["tie_word_embeddings"]:
        out["lm_head.weight"] = normal(config["vocab_size"], hidden)
    return out


def write_model(folder: Path, rng: np.random.Generator, *, dtype: str = "F16", shards: int = 1, **changes) -> dict:
    """Write a model directory; its config."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {**CONFIG, **changes}
    (folder / "config.json").write_text(json.dumps(config))
    stored = {name: RawTensor.from_array(array, dtype) for name, array in tensors(config, rng).items()}
    if shards == 1:
        write_tensors(folder / "model.safetensors", stored, {"format": "pt"})
        return config
    files = [f"model-{i + 1:05}-of-{shards:05}.safetensors" for i in range(shards)]
    where = {name: files[i % shards] for i, name in enumerate(stored)}
    for file in files:
        some = {name: tensor for name, tensor in stored.items() if where[name] == file}
        write_tensors(folder / file, some, {"format": "pt"})
    index = {"metadata": {"total_size": sum(t.data.nbytes for t in stored.values())}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return config


def stored_tensors(folder: Path) -> dict[str, np.ndarray]:
    """All tensors of a directory, float64."""
    return {
        name: tensor.array().astype(np.float64)
        for path in sorted(folder.glob("*.safetensors"))
        for name, tensor in TensorFile(path).tensors.items()
    }


def literal_logits(config: dict, t: dict[str, np.ndarray], tokens: list[int]) -> np.ndarray:
    """Logits [n, vocab] in float64, by the formulas, with loops."""
    heads, kv_heads, d = config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]
    turn = literal_frequencies(config)

    def norm(v: np.ndarray, weight: np.ndarray) -> np.ndarray:
        return v / math.sqrt(float(v @ v) / len(v) + config["rms_norm_eps"]) * weight

    def linear(name: str, v: np.ndarray) -> np.ndarray:
        return t[name + ".weight"] @ v + t.get(name + ".bias", 0.0)

    def turned(head: np.ndarray, position: int) -> np.ndarray:
        out = head.copy()
        for i, f in enumerate(turn):
            cos, sin = math.cos(position * f), math.sin(position * f)
            out[i] = head[i] * cos - head[i + d // 2] * sin
            out[i + d // 2] = head[i + d // 2] * cos + head[i] * sin
        return out

    xs = [t["model.embed_tokens.weight"][token].copy() for token in tokens]
    for layer in range(config["num_hidden_layers"]):
        p = f"model.layers.{layer}."
        queries, keys, values = [], [], []
        for position, x in enumerate(xs):
            y = norm(x, t[p + "input_layernorm.weight"])
            split = {c: linear(f"{p}self_attn.{c}_proj", y).reshape(-1, d) for c in "qkv"}
            queries.append([turned(head, position) for head in split["q"]])
            keys.append([turned(head, position) for head in split["k"]])
            values.append(split["v"])
        for position in range(len(xs)):
            mixed = []
            for h in range(heads):
                shared = h // (heads // kv_heads)
                scores = [queries[position][h] @ keys[j][shared] / math.sqrt(d) for j in range(position + 1)]
                chances = [math.exp(s - max(scores)) for s in scores]
                mixed.append(sum(c * values[j][shared] for j, c in enumerate(chances)) / sum(chances))
            xs[position] = xs[position] + linear(p + "self_attn.o_proj", np.concatenate(mixed))
        for position, x in enumerate(xs):
            y = norm(x, t[p + "post_attention_layernorm.weight"])
            gate, up = linear(p + "mlp.gate_proj", y), linear(p + "mlp.up_proj", y)
            xs[position] = x + linear(p + "mlp.down_proj", gate / (1 + np.exp(-gate)) * up)
    head = t["model.embed_tokens.weight" if config["tie_word_embeddings"] else "lm_head.weight"]
    return np.stack([head @ norm(x, t["model.norm.weight"]) for x in xs])


def literal_frequencies(config: dict) -> list[float]:
    """Radians per position of each pair of elements, from the published code for Llama 3.1, in float64."""
    d, scaling = config["head_dim"], config.get("rope_scaling") or {}
    out = []
    for i in range(d // 2):
        f = 1.0 / config["rope_theta"] ** (2 * i / d)
        if scaling.get("type") == "linear":
            f /= scaling["factor"]
        elif scaling.get("rope_type") == "llama3":
            original = scaling["original_max_position_embeddings"]
            low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
            wavelength = 2 * math.pi / f
            if wavelength > original / low:
                f /= scaling["factor"]
            elif wavelength >= original / high:
                smooth = (original / wavelength - low) / (high - low)
                f = (1 - smooth) * f / scaling["factor"] + smooth * f
        out.append(f)
    return out
