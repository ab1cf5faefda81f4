"""Small GGUF files, written by the gguf library from models under Hugging Face's names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

gguf = pytest.importorskip("gguf", reason="writes GGUF files, and gguf is not installed")

# A model whose rows are whole blocks of 32.
EVEN = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}


def stored(name: str, array: np.ndarray, config: dict) -> np.ndarray:
    """A Llama's tensor as a file has it: of queries and keys the rows i and i + d/2 of a head stand together."""
    heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}.get(name.split(".")[-2])
    if heads is None:
        return array
    split = array.reshape(config[heads], 2, -1, *array.shape[1:])
    return np.ascontiguousarray(np.swapaxes(split, 1, 2)).reshape(array.shape)


def llama3_factors(scaling: dict, config: dict) -> np.ndarray:
    """What stretches each pair's wavelength, by Llama 3.1's published code."""
    out = []
    for i in range(0, config["head_dim"], 2):
        wavelength = 2 * np.pi * config["rope_theta"] ** (i / config["head_dim"])
        turns = scaling["original_max_position_embeddings"] / wavelength
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        if turns < low:
            out.append(scaling["factor"])
        elif turns > high:
            out.append(1.0)
        else:
            smooth = (turns - low) / (high - low)
            out.append(1 / ((1 - smooth) / scaling["factor"] + smooth))
    return np.array(out, dtype=np.float32)


def write_gguf(path: Path, config: dict, tensors: dict[str, np.ndarray], kind="F32", tokenizer=None, **more) -> Path:
    """A Llama in a GGUF file.

    `kind` is the type of all matrices, or a function of a name that gives it; `tokenizer` adds to the writer what it
    wants; `more` goes into the metadata as it is, with its types.
    """
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    scaling = config.get("rope_scaling") or {}
    if scaling.get("type") == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(scaling["factor"])
    if scaling.get("rope_type") == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_factors(scaling, config))
    if tokenizer:
        tokenizer(writer)
    else:
        writer.add_tokenizer_model("none")
    for key, value in more.items():
        writer.add_key_value(key.replace("__", "."), *value)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    for name, array in tensors.items():
        add_tensor(writer, names.get_name(name, (".weight", ".bias")), stored(name, array, config), kind)
    finish(writer)
    return path


def add_tensor(writer, name: str, array: np.ndarray, kind="F32") -> None:
    """A tensor in a type; vectors in F32, as all files have them."""
    chosen = "F32" if array.ndim == 1 else kind if isinstance(kind, str) else kind(name)
    number = gguf.GGMLQuantizationType[chosen]
    plain = chosen in ("F32", "F16")
    writer.add_tensor(name, gguf.quantize(array, number), raw_dtype=None if plain else number)


def finish(writer) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
