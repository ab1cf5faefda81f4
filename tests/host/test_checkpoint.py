"""Model directories: shards, dtypes, and one line for everything that cannot be read."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from seedlm.golden.codecs import codec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.packed import write_packed
from seedlm.golden.files.sources import open_source
from seedlm.golden.files.tensors import RawTensor, TensorFile, write_tensors
from seedlm.golden.matrix import PackedMatrix
from seedlm.host.checkpoint import Checkpoint
from seedlm.host.engines import FloatEngine
from seedlm.host.models import ARCHITECTURES, Architecture, language_model, model_config
from seedlm.host.models._decoder import Decoder
from seedlm.host.models._rotary import Rope
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
    for name, shape in checkpoint.config.vectors().items():
        assert checkpoint.vector(name).shape == shape
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
    assert sum(rows * cols for rows, cols in config.linears().values()) == 2_015_232


def test_new_form_of_the_rotary_settings():
    """As transformers 5 writes them."""
    old = model_config({**CONFIG, "rope_scaling": SCALED}, "here")
    new = {k: v for k, v in CONFIG.items() if k not in ("rope_theta", "rope_scaling")}
    new["rope_parameters"] = {**SCALED, "rope_theta": 500000.0}
    assert model_config(new, "here") == old
    new["rope_parameters"] = {"rope_type": "default", "rope_theta": 500000.0}
    assert model_config(new, "here") == model_config(CONFIG, "here")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"architectures": ["FalconForCausalLM"]}, "unsupported architecture FalconForCausalLM: expected one of Bloom"),
        ({"architectures": None, "model_type": "falcon"}, "unsupported architecture falcon: expected"),
        ({"architectures": [], "model_type": None}, "no architecture: expected"),
        ({"hidden_act": "gelu"}, "unsupported hidden_act 'gelu'"),
        ({"quantization_config": {"bits": 4}}, "quantised already"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "unsupported rotary scaling 'dynamic'"),
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
    assert complaint(tmp_path / "b") == (
        "DIR: expected model.safetensors.index.json or model.safetensors in the folder, found no safetensors file"
    )


def test_wrong_tensors(tmp_path, rng):
    write_model(tmp_path, rng)
    path, name = tmp_path / "model.safetensors", "model.layers.1.mlp.up_proj.weight"
    good = dict(TensorFile(path).tensors)
    write_tensors(path, {n: t for n, t in good.items() if n != name})
    assert complaint(tmp_path) == f"DIR: tensor {name!r} is missing"
    write_tensors(path, good | {name: RawTensor.from_array(np.zeros((72, 47), np.float16))})
    assert "is F16 [72, 47]: expected F16, BF16 or F32 [72, 48]" in complaint(tmp_path)
    write_tensors(path, good | {name: RawTensor.from_array(np.zeros((72, 48), np.float64))})
    assert "is F64 [72, 48]" in complaint(tmp_path)
    write_tensors(path, good | {name: RawTensor.from_array(np.zeros((72, 48), np.int8))})
    assert f"quantised already by numbers of type I8 (tensor {name!r})" in complaint(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    assert "not a complete safetensors file" in complaint(tmp_path)
    write_packed(path, {name: PackedMatrix.random(codec("seedlm4"), 72, 48, rng)})
    assert "tensor 'model.embed_tokens.weight' is missing" in complaint(tmp_path)  # packed, but not the whole model


def test_wrong_shards(tmp_path, rng):
    write_model(tmp_path, rng, shards=2)
    index = tmp_path / "model.safetensors.index.json"
    good = json.loads(index.read_text())
    (tmp_path / "model-00002-of-00002.safetensors").rename(tmp_path / "away")
    assert "the shard 'model-00002-of-00002.safetensors' is missing" in complaint(tmp_path)
    (tmp_path / "away").rename(tmp_path / "model-00002-of-00002.safetensors")
    first = next(iter(good["weight_map"]))
    index.write_text(json.dumps({"weight_map": good["weight_map"] | {first: "model-00002-of-00002.safetensors"}}))
    assert f"tensor {first!r} is not in model-00002-of-00002.safetensors" in complaint(tmp_path)
    index.write_text(json.dumps({"weight_map": {first: "../x.safetensors"}}))
    assert "must be a file in the same folder" in complaint(tmp_path)
    for bad in ({}, {"weight_map": []}, {"weight_map": {first: 3}}):
        index.write_text(json.dumps(bad))
        assert "not an index of a sharded model: expected JSON with 'weight_map'" in complaint(tmp_path)


def test_same_files_as_compress(tmp_path, rng):
    """A single file beside other shards: `compress` read the one and `run` the other."""
    write_model(tmp_path, rng, shards=2)
    shutil.copy(tmp_path / "model-00001-of-00002.safetensors", tmp_path / "model.safetensors")
    found = complaint(tmp_path)
    assert found.startswith("DIR: has both model.safetensors and model.safetensors.index.json: expected one model")
    with pytest.raises(SeedLMError) as caught:
        open_source(tmp_path)
    assert str(caught.value).replace(str(tmp_path), "DIR") == found
    (tmp_path / "model.safetensors").unlink()
    index = tmp_path / "model.safetensors.index.json"
    index.write_bytes(b"\xef\xbb\xbf" + index.read_bytes())  # a byte order mark
    Checkpoint(tmp_path)


# --- tensors that a model does not have ----------------------------------------------------------------
def add(folder, *names: str) -> None:
    """More tensors in a model's file."""
    file = TensorFile(folder / "model.safetensors")
    more = {name: RawTensor.from_array(np.ones(48, np.float16)) for name in names}
    write_tensors(folder / "model.safetensors", dict(file.tensors) | more)


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.self_attn.q_proj.bias",  # config.json says nothing of biases
        "model.layers.1.mlp.down_proj.bias",
        "model.layers.0.self_attn.q_norm.weight",
        "model.layers.2.input_layernorm.weight",  # of two layers
        "model.layers.0.post_feedforward_layernorm.weight",
        "lm_head.bias",
        "score.weight",
        "layers.0.inv_freq",
    ],
)
def test_unknown_tensors(tmp_path, rng, name):
    """Without them it would be another model."""
    write_model(tmp_path, rng)
    add(tmp_path, name)
    assert complaint(tmp_path) == f"DIR: tensors that a model of this config.json does not have: {name!r}"


def test_many_unknown_tensors(tmp_path, rng):
    write_model(tmp_path, rng)
    add(tmp_path, *(f"x{i}" for i in range(6)))
    assert complaint(tmp_path).endswith("does not have: 'x0', 'x1', 'x2', 'x3' and 2 more")


def test_harmless_tensors(tmp_path, rng):
    """Frequencies that follow from config.json, as older programs stored them."""
    write_model(tmp_path, rng)
    add(tmp_path, "model.layers.0.self_attn.rotary_emb.inv_freq", "model.rotary_emb.inv_freq", "rotary_emb.inv_freq")
    Checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("flags", "biases"),
    [({"attention_bias": True}, ".self_attn."), ({"mlp_bias": True}, ".mlp.")],
)
def test_biases_that_config_json_tells_of(tmp_path, rng, flags, biases):
    write_model(tmp_path, rng, attention_bias=True, mlp_bias=True)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | flags))
    other = {".self_attn.": ".mlp.", ".mlp.": ".self_attn."}[biases]
    assert other in (found := complaint(tmp_path))
    assert biases not in found


# --- rotary positions ------------------------------------------------------------------------------------
def rope(**changes) -> Rope:
    return model_config(CONFIG | changes, "here").attention.rope


LINEAR = Rope("linear", 500000.0, factor=4.0)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Rope("default", 500000.0)),
        ({"rope_scaling": {}}, Rope("default", 500000.0)),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, LINEAR),
        ({"rope_parameters": {"rope_type": "linear", "factor": 4.0}}, LINEAR),
        # Where both say something the older one wins.
        ({"rope_scaling": {"rope_type": "linear", "factor": 4.0}, "rope_parameters": {"rope_type": "default"}}, LINEAR),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}, "rope_parameters": SCALED | {"rope_theta": 7.0}}, LINEAR),
        ({"rope_scaling": {}, "rope_parameters": {"rope_type": "linear", "factor": 4.0}}, LINEAR),
        ({"rope_parameters": {"rope_theta": 7.0}}, Rope("default", 7.0)),
        ({"rope_scaling": {"type": "linear", "rope_type": "default", "factor": 4.0}}, Rope("default", 500000.0)),
        # The original length: beside the settings, in them, or the length that the model was made for.
        ({"rope_scaling": SCALED}, Rope("llama3", 500000.0, 8.0, 1.0, 4.0, 32)),
        ({"rope_scaling": SCALED, "original_max_position_embeddings": 64}, Rope("llama3", 5e5, 8.0, 1.0, 4.0, 64)),
        (
            {"rope_scaling": {k: v for k, v in SCALED.items() if not k.startswith("original")}},
            Rope("llama3", 500000.0, 8.0, 1.0, 4.0, 128),
        ),
    ],
    ids=str,
)
def test_rotary_settings(changes, expected):
    """As transformers 5 reads them (`RotaryEmbeddingConfigMixin.convert_rope_params_to_dict`)."""
    assert rope(**changes) == expected


@pytest.mark.parametrize("key", ["rope_scaling", "rope_parameters"])
@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"factor": 8.0}, "has factor but no rope_type: expected default, linear, llama3"),
        ({"rope_theta": 7.0, "factor": 8.0, "beta": 1}, "has factor, beta but no rope_type"),
        ({"full_attention": {"rope_type": "default"}, "sliding_attention": {"rope_type": "linear", "factor": 2.0}},
         "has settings of its own for full_attention, sliding_attention: expected the same for all layers"),
        ("linear", "must be an object, not 'linear'"),
    ],
)  # fmt: skip
def test_rotary_settings_that_are_refused(key, given, says):
    """What has no type would be taken for no scaling at all."""
    with pytest.raises(SeedLMError, match=rf"^here: {key} {says}"):
        rope(**{key: given})


# --- architectures ---------------------------------------------------------------------------------------
def test_registry(tmp_path, rng, monkeypatch):
    """An entry is all that an architecture needs to be found; one that is not there is refused with those that are."""

    class Other(Decoder):
        pass

    def config(fields):
        return replace(model_config(CONFIG, "here"), context=77)

    write_model(tmp_path, rng, architectures=["OtherForCausalLM"])
    assert "unsupported architecture OtherForCausalLM: expected one of BloomForCausalLM, " in complaint(tmp_path)
    other = Architecture("OtherForCausalLM", "other", config, Other)
    monkeypatch.setitem(ARCHITECTURES, other.name, other)
    checkpoint = Checkpoint(tmp_path)
    assert checkpoint.config.context == 77
    assert type(language_model(checkpoint, FloatEngine(checkpoint.linear))) is Other
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"architectures": None, "model_type": "other"}))
    assert Checkpoint(tmp_path).config.context == 77
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    assert type(language_model(Checkpoint(tmp_path), FloatEngine({}))) is Decoder
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"architectures": ["Gpt"]}))
    message = complaint(tmp_path)
    assert "unsupported architecture Gpt: expected one of " in message
    assert all(name in message for name in ARCHITECTURES)
