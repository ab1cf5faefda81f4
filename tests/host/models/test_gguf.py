"""Every architecture that GGUF files have: written as its converter does, read back as the directory it is from."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from seedlm.golden.files.tensors import RawTensor, write_tensors
from seedlm.host.checkpoint import Checkpoint
from seedlm.host.engines import FloatEngine
from seedlm.host.gguf.architectures import ARCHITECTURES
from seedlm.host.models import language_model, model_config
from tests.host.models.cases import CASES, tensors, text
from tests.host.tiny_gguf import add_tensor, finish, gguf, stored

# The name that GGUF has for an architecture, by model_type where it is another.
NAMES = {"mixtral": "llama", "qwen2_moe": "qwen2moe"}
# What GGUF cannot say is left out of the cases.
TESTED = {name: CASES[name] for name in (
    "llama", "llama-biases-tied", "llama-linear", "llama-yarn", "qwen2", "qwen3", "gemma", "phi3", "phi3-full", "gpt2",
    "gpt2-untied", "bloom", "bloom-six-heads", "mixtral", "qwen2-moe",
)} | {"gemma2": CASES["gemma2"] | {"query_pre_attn_scalar": 8}}  # fmt: skip
KEYS = {
    "block_count": ("num_hidden_layers", "n_layer"),
    "embedding_length": ("hidden_size", "n_embd"),
    "feed_forward_length": ("intermediate_size", "n_inner"),
    "attention.head_count": ("num_attention_heads", "n_head"),
    "attention.head_count_kv": ("num_key_value_heads",),
    "attention.key_length": ("head_dim",),
    "attention.layer_norm_rms_epsilon": ("rms_norm_eps",),
    "attention.layer_norm_epsilon": ("layer_norm_epsilon",),
    "attention.sliding_window": ("sliding_window",),
    "attn_logit_softcapping": ("attn_logit_softcapping",),
    "final_logit_softcapping": ("final_logit_softcapping",),
    "rope.freq_base": ("rope_theta",),
    "expert_count": ("num_local_experts", "num_experts"),
    "expert_used_count": ("num_experts_per_tok",),
    "expert_feed_forward_length": ("moe_intermediate_size",),
    "expert_shared_feed_forward_length": ("shared_expert_intermediate_size",),
}


def fused_by_kind(array: np.ndarray, heads: int) -> np.ndarray:
    """BLOOM's rows, head by head its queries, keys and values: all queries, all keys, all values."""
    width = len(array) // heads // 3
    places = [(h * 3 + kind) * width + i for kind in range(3) for h in range(heads) for i in range(width)]
    return array[places]


def converted(config: dict, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Tensors as a converter changes them, experts in stacks; still under Hugging Face's names."""
    kind, out, experts = config["model_type"], {}, defaultdict(dict)
    for name, array in values.items():
        if found := re.fullmatch(r"(.*\.experts)\.(\d+)\.(.*)", name):
            experts[f"{found[1]}.{found[3]}"][int(found[2])] = array
            continue
        if kind in ("llama", "mixtral"):
            array = stored(name, array, config)
        if kind in ("gemma", "gemma2") and name.endswith("norm.weight"):
            array = array + np.float32(1)
        if kind == "gpt2" and re.search(r"\.(c_attn|c_proj|c_fc)\.weight", name):
            array = np.ascontiguousarray(array.T)
        if kind == "bloom" and "query_key_value" in name:
            array = fused_by_kind(array, config["n_head"])
        if name.endswith("shared_expert_gate.weight"):
            array = array.reshape(-1)
        out[name] = array
    return out | {name: np.stack([m for _, m in sorted(some.items())]) for name, some in experts.items()}


def write_gguf_case(path: Path, config: dict, values: dict[str, np.ndarray], kind: str = "F32") -> Path:
    name = NAMES.get(config["model_type"], config["model_type"])
    writer = gguf.GGUFWriter(path, name)
    writer.add_uint32(f"{name}.context_length", model_config(config, "here").context)
    for key, entries in KEYS.items():
        for value in filter(None, map(config.get, entries)):
            (writer.add_uint32 if isinstance(value, int) else writer.add_float32)(f"{name}.{key}", value)
    scaling = config.get("rope_scaling") or {}
    if scaling:
        writer.add_string(f"{name}.rope.scaling.type", scaling.get("rope_type", scaling.get("type")))
        writer.add_float32(f"{name}.rope.scaling.factor", scaling["factor"])
        if "original_max_position_embeddings" in scaling:
            writer.add_uint32(f"{name}.rope.scaling.original_context_length", 64)
            writer.add_float32(f"{name}.rope.scaling.yarn_beta_fast", scaling["beta_fast"])
    (number,) = (n for n, known in gguf.MODEL_ARCH_NAMES.items() if known == name)
    table = gguf.get_tensor_name_map(number, model_config(config, "here").layers)
    for theirs, array in converted(config, values).items():
        short = theirs.removeprefix("transformer.")
        mine = table.get_name(theirs, (".weight", ".bias")) or table.get_name(short, (".weight", ".bias"))
        add_tensor(writer, mine, array, kind)
    finish(writer)
    return path


def logits(path: Path) -> np.ndarray:
    checkpoint = Checkpoint(path)
    return language_model(checkpoint, FloatEngine(checkpoint.linear)).logits(text())


def test_every_architecture_is_tested():
    assert {kind.architecture for kind in ARCHITECTURES} == {c["architectures"][0] for c in TESTED.values()}


@pytest.mark.parametrize("case", TESTED)
def test_same_model(tmp_path, case):
    """The same tensors bit for bit and the same logits.

    But for the rounding of norms with 1 added, and of sums over matrices that lie transposed in memory.
    """
    config = TESTED[case]
    values = tensors(model_config(config, "here"))
    (tmp_path / "config.json").write_text(json.dumps(config))
    write_tensors(tmp_path / "model.safetensors", {n: RawTensor.from_array(a) for n, a in values.items()})
    path = write_gguf_case(tmp_path / "m.gguf", config, values)
    mine, theirs = Checkpoint(path)._tensors, Checkpoint(tmp_path)._tensors
    assert mine.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert mine[name].shape == tensor.shape, name
        if case.startswith("gemma") and name.endswith("norm.weight"):
            assert np.abs(mine[name].array() - tensor.array()).max() <= 2.0**-23, name
        else:
            assert np.array_equal(mine[name].array(), tensor.array()), name
            assert np.array_equal(mine[name].rows(1, 3).data, tensor.rows(1, 3).data), name
    found, expected = logits(path), logits(tmp_path)
    if case.startswith(("gemma", "gpt2")):
        assert np.abs(found - expected).max() <= 1e-5 * expected.std()
    else:
        assert np.array_equal(found, expected)


def test_quantised_and_transposed(tmp_path):
    """GPT-2 in Q8_0: what is compressed is the upright matrix of the file, of which no other rows are widened."""
    config = CASES["gpt2"] | {"n_embd": 64}
    path = write_gguf_case(tmp_path / "m.gguf", config, tensors(model_config(config, "here")), "Q8_0")
    name = "transformer.h.1.mlp.c_proj.weight"
    matrix = Checkpoint(path).linear[name]
    assert matrix.shape == (64, 256)
    assert matrix.nbytes == 4 * 64 * 256
    reader = gguf.GGUFReader(path)
    tensor = next(t for t in reader.tensors if t.name == "blk.1.ffn_down.weight")
    expected = gguf.dequantize(tensor.data, tensor.tensor_type)
    assert np.array_equal(matrix.array(), expected)
    assert np.array_equal(matrix.rows(5, 9).array(), expected[5:9])
    assert matrix.upright is not None
