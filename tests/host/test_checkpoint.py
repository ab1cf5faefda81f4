"""Model directories: shards, dtypes, and one line for everything that cannot be read."""

import json

import numpy as np
import pytest

from seedlm.golden.build import codec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.packed import write_packed
from seedlm.golden.files.tensors import RawTensor, TensorFile, write_tensors
from seedlm.golden.matrix import PackedMatrix
from seedlm.host.checkpoint import Checkpoint, LlamaConfig
from tests.host.tiny_llama import BUNDLED, CONFIG, SCALED, stored_tensors, write_model


@pytest.fixture
def rng():
    print("seed 3")
    return np.random.default_rng(3)


def complaint(folder) -> str:
    with pytest.raises(SeedLMError) as caught:
        Checkpoint(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message.replace(str(folder), "DIR")


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
@pytest.mark.parametrize("shards", [1, 3])
def test_same_values_however_stored(tmp_path, rng, dtype, shards):
    write_model(tmp_path, rng, dtype=dtype, shards=shards)
    checkpoint, expected = Checkpoint(tmp_path), stored_tensors(tmp_path)
    assert set(checkpoint.linear) == {n for n in expected if n.endswith(("proj.weight", "lm_head.weight"))}
    for name, tensor in checkpoint.linear.items():
        assert np.array_equal(tensor.array(), expected[name])
    tokens = np.array([3, 255, 0, 3])
    rows = checkpoint.embedding(tokens)
    assert rows.dtype == np.float32
    assert np.array_equal(rows, expected["model.embed_tokens.weight"][tokens])
    for name, length in checkpoint.config.vectors().items():
        assert checkpoint.vector(name).shape == (length,)
        assert np.array_equal(checkpoint.vector(name), expected[name])


def test_tied(tmp_path, rng):
    """The output matrix is the embedding, whether or not there is one of its own."""
    write_model(tmp_path, rng, tie_word_embeddings=True)
    embedding = stored_tensors(tmp_path)["model.embed_tokens.weight"]
    assert np.array_equal(Checkpoint(tmp_path).linear["lm_head.weight"].array(), embedding)
    file = TensorFile(tmp_path / "model.safetensors")
    own = dict(file.tensors) | {"lm_head.weight": RawTensor.from_array(np.zeros((256, 48), np.float16))}
    write_tensors(tmp_path / "model.safetensors", own)
    assert np.array_equal(Checkpoint(tmp_path).linear["lm_head.weight"].array(), embedding)


def test_bundled():
    config = Checkpoint(BUNDLED).config
    assert (config.vocab, config.hidden, config.layers, config.heads, config.kv_heads) == (256, 192, 5, 6, 2)
    assert (config.bos, config.eos, config.context) == (0, (0,), 256)
    assert sum(rows * cols for rows, cols in config.shapes().values()) == 2_015_232


def test_new_form_of_the_rotary_settings():
    """As transformers 5 writes them."""
    old = LlamaConfig.from_json({**CONFIG, "rope_scaling": SCALED}, "here")
    new = {k: v for k, v in CONFIG.items() if k not in ("rope_theta", "rope_scaling")}
    new["rope_parameters"] = {**SCALED, "rope_theta": 500000.0}
    assert LlamaConfig.from_json(new, "here") == old
    new["rope_parameters"] = {"rope_type": "default", "rope_theta": 500000.0}
    assert LlamaConfig.from_json(new, "here") == LlamaConfig.from_json(CONFIG, "here")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"architectures": ["MixtralForCausalLM"]}, "unsupported architecture MixtralForCausalLM: expected Llama"),
        ({"architectures": None, "model_type": "gpt2"}, "unsupported architecture gpt2: expected"),
        ({"architectures": [], "model_type": None}, "no architecture: expected"),
        ({"hidden_act": "gelu"}, "unsupported hidden_act 'gelu'"),
        ({"quantization_config": {"bits": 4}}, "quantised already"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "unsupported rotary scaling 'yarn'"),
        ({"rope_scaling": {"type": "linear"}}, "factor of rotary scaling 'linear' must be a positive number, not None"),
        ({"rope_scaling": SCALED | {"low_freq_factor": 4.0}}, "low_freq_factor must be less"),
        ({"rope_scaling": [1]}, "rope_scaling must be an object"),
        ({"rope_theta": 0}, "rope_theta|theta"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"hidden_size": 0}, "hidden_size must be a positive integer, not 0"),
        ({"hidden_size": "48"}, "hidden_size must be a positive integer, not '48'"),
        ({"vocab_size": None}, "vocab_size must be a positive integer, not None"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps must be a positive number"),
        ({"num_key_value_heads": 4}, "not a multiple of num_key_value_heads 4"),
        ({"head_dim": 11}, "head_dim must be even"),
        ({"num_attention_heads": 5, "num_key_value_heads": 5, "head_dim": None}, "there is no head_dim"),
        ({"eos_token_id": [0, 256]}, "eos_token_id must be tokens from 0 to 255"),
    ],
    ids=str,
)
def test_unsupported(tmp_path, rng, change, says):
    write_model(tmp_path, rng)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | change))
    message = complaint(tmp_path)
    assert message.startswith("DIR/config.json: ")
    assert any(part in message for part in says.split("|")), message


def test_missing(tmp_path, rng):
    assert "no such directory" in complaint(tmp_path / "nothing")
    (tmp_path / "a").mkdir()
    assert "config.json: cannot read" in complaint(tmp_path / "a")
    (tmp_path / "a" / "config.json").write_text("{")
    assert "not JSON" in complaint(tmp_path / "a")
    (tmp_path / "a" / "config.json").write_text("[]")
    assert "expected a JSON object" in complaint(tmp_path / "a")
    write_model(tmp_path / "b", rng)
    (tmp_path / "b" / "model.safetensors").unlink()
    assert complaint(tmp_path / "b") == "DIR: no weights: expected model.safetensors or model.safetensors.index.json"


def test_wrong_tensors(tmp_path, rng):
    write_model(tmp_path, rng)
    path, name = tmp_path / "model.safetensors", "model.layers.1.mlp.up_proj.weight"
    good = dict(TensorFile(path).tensors)
    write_tensors(path, {n: t for n, t in good.items() if n != name})
    assert complaint(tmp_path) == f"DIR: tensor {name!r} is missing"
    write_tensors(path, good | {name: RawTensor.from_array(np.zeros((72, 47), np.float16))})
    assert "is F16 [72, 47]: expected F16, BF16 or F32 [72, 48]" in complaint(tmp_path)
    write_tensors(path, good | {name: RawTensor.from_array(np.zeros((72, 48), np.int8))})
    assert "is I8 [72, 48]" in complaint(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    assert "not a complete safetensors file" in complaint(tmp_path)
    write_packed(path, {name: PackedMatrix.random(codec("seedlm4"), 72, 48, rng)})
    assert "is a packed file" in complaint(tmp_path)


def test_wrong_shards(tmp_path, rng):
    write_model(tmp_path, rng, shards=2)
    index = tmp_path / "model.safetensors.index.json"
    good = json.loads(index.read_text())
    (tmp_path / "model-00002-of-00002.safetensors").rename(tmp_path / "away")
    assert "model-00002-of-00002.safetensors: cannot read" in complaint(tmp_path)
    (tmp_path / "away").rename(tmp_path / "model-00002-of-00002.safetensors")
    first = next(iter(good["weight_map"]))
    index.write_text(json.dumps({"weight_map": good["weight_map"] | {first: "model-00002-of-00002.safetensors"}}))
    assert f"no tensor {first!r}" in complaint(tmp_path)
    for bad in ({}, {"weight_map": []}, {"weight_map": {first: "../x.safetensors"}}, {"weight_map": {first: 3}}):
        index.write_text(json.dumps(bad))
        assert "'weight_map' must name a file of the same directory" in complaint(tmp_path)
