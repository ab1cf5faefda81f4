"""The model in FP32 against Hugging Face's, against a trained checkpoint's PyTorch, and against formulas in float64."""

import importlib.util
import json
import sys

import numpy as np
import pytest

from seedlm.golden.codecs import codec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.matrix import PackedMatrix
from seedlm.golden.product import product
from seedlm.host.checkpoint import Checkpoint
from seedlm.host.engines import ApproximateEngine, FloatEngine, ReferenceEngine
from seedlm.host.models import language_model, model_config
from seedlm.host.models._rotary import frequencies
from tests.host.tiny_llama import (
    BUNDLED,
    CONFIG,
    SCALED,
    VARIANTS,
    literal_frequencies,
    literal_logits,
    stored_tensors,
    tensors,
    write_model,
)

# FP32 against other orders of summation, or float64: some units in the last place of the largest logit.
TOLERANCE = 3e-5


@pytest.fixture(scope="module", params=VARIANTS)
def folder(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("llama") / request.param
    print("seed 5")
    write_model(path, np.random.default_rng(5), dtype="BF16" if request.param == "linear" else "F16",
                shards=3 if request.param == "llama3" else 1, **VARIANTS[request.param])  # fmt: skip
    return path


def float_model(folder):
    checkpoint = Checkpoint(folder)
    return language_model(checkpoint, FloatEngine(checkpoint.linear))


def text(vocab, count=90):
    return np.random.default_rng(6).integers(0, vocab, count)


def assert_close(logits, expected):
    assert logits.shape == expected.shape
    assert logits.dtype == np.float32
    assert np.abs(logits - expected).max() <= TOLERANCE * np.abs(expected).max()


def test_literal(folder):
    """Every variant against formulas in float64; long enough for the scaled rotary positions to matter."""
    config = json.loads((folder / "config.json").read_text())
    tokens = text(256)
    assert_close(float_model(folder).logits(tokens), literal_logits(config, stored_tensors(folder), tokens.tolist()))


def test_the_tolerance_notices():
    """Wrong positions, other scaling, shared heads in another order: each is far beyond the tolerance."""
    rng = np.random.default_rng(5)
    config = {**CONFIG, **VARIANTS["llama3"]}
    t = {name: array.astype(np.float64) for name, array in tensors(config, rng).items()}
    tokens = text(256, 40).tolist()
    expected = literal_logits(config, t, tokens)
    for change in (
        {"rope_scaling": None}, {"rope_scaling": SCALED | {"low_freq_factor": 2.0}}, {"rms_norm_eps": 1e-2},
        {"rope_theta": 501.0},
    ):  # fmt: skip
        other = literal_logits({**config, **change}, t, tokens)
        assert np.abs(other - expected).max() > 10 * TOLERANCE * np.abs(expected).max(), change


@pytest.mark.parametrize("name", [*VARIANTS, "bundled"])
def test_transformers(name, tmp_path):
    """Logits of Hugging Face's LlamaForCausalLM on the same directory, in FP32."""
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    transformers = pytest.importorskip("transformers", reason="compares with transformers, which is not installed")
    folder = BUNDLED
    if name != "bundled":
        folder = tmp_path / name
        write_model(folder, np.random.default_rng(8), shards=2, **VARIANTS[name])
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        folder, torch_dtype=torch.float32, attn_implementation="eager"
    ).eval()
    tokens = text(256, 100)
    with torch.no_grad():
        expected = theirs(torch.tensor(tokens[None]))["logits"][0].numpy()
    assert_close(float_model(folder).logits(tokens), expected)


def test_pytorch():
    """Logits of the model that trained the bundled weights."""
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    spec = importlib.util.spec_from_file_location("train", BUNDLED.parent / "train.py")
    train = importlib.util.module_from_spec(spec)
    # Its dataclasses look themselves up there.
    sys.modules["train"] = train
    try:
        spec.loader.exec_module(train)
    finally:
        del sys.modules["train"]
    theirs = train.Llama(train.Shape())
    theirs.load_state_dict({n: torch.tensor(a).float() for n, a in stored_tensors(BUNDLED).items()})
    tokens = text(256, 256)
    with torch.no_grad():
        expected = theirs(torch.tensor(tokens[None]))[0].numpy()
    assert_close(float_model(BUNDLED).logits(tokens), expected)


def test_held_out_text():
    """The bits per byte that the bundled model's page states, on its first windows."""
    model, data = float_model(BUNDLED), (BUNDLED / "heldout.txt").read_bytes()
    bits = 0.0
    for start in (0, 256):
        window = list(data[start : start + 256])
        logits = model.logits(np.array([0, *window[:-1]])).astype(np.float64)
        chances = np.exp(logits - logits.max(axis=1, keepdims=True))
        chances /= chances.sum(axis=1, keepdims=True)
        bits -= float(np.log2(chances[np.arange(256), window]).sum())
    assert 0.5 < bits / 512 < 4  # a model with wrong positions or norms is above 5


@pytest.mark.parametrize("parts", [[1] * 90, [40, 1, 1, 48], [89, 1]], ids=str)
def test_cache(folder, parts):
    """A text in parts gives the logits of the whole."""
    model, tokens = float_model(folder), text(256)
    cache, done = model.cache(), []
    for count in parts:
        at = cache.length
        done.append(model.logits(tokens[at : at + count], cache))
    assert_close(np.concatenate(done), model.logits(tokens))
    assert cache.length == 90


def test_last_only(folder):
    model, tokens = float_model(folder), text(256)
    assert_close(model.logits(tokens, last=True), model.logits(tokens)[-1:])


@pytest.mark.parametrize("name", VARIANTS)
def test_frequencies(name):
    config = {**CONFIG, **VARIANTS[name]}
    rope = model_config(config, "here").attention.rope
    assert np.allclose(frequencies(rope, config["head_dim"]), literal_frequencies(config), rtol=2e-7, atol=0)


@pytest.mark.parametrize("original", [32, 8192])
def test_llama3_frequencies_of_a_real_head(original):
    """Llama 3.1's head size: the fast ones stay, the slow ones are stretched, some are between."""
    config = {
        **CONFIG, "head_dim": 128,
        "rope_scaling": SCALED | {"original_max_position_embeddings": original},
    }  # fmt: skip
    got = frequencies(model_config(config, "here").attention.rope, 128)
    expected = literal_frequencies(config)
    plain = literal_frequencies({**config, "rope_scaling": None})
    ratio = np.array(plain) / got
    assert np.allclose(got, expected, rtol=2e-7, atol=0)
    assert np.isclose(ratio, 1).any()
    assert np.isclose(ratio, 8).any()
    assert ((ratio > 1.01) & (ratio < 7.9)).any()


# --- engines -----------------------------------------------------------------------------------------


def packed(checkpoint, name, rng):
    """Random words whose weights have about the size of the checkpoint's."""
    out = {}
    for tensor, raw in checkpoint.linear.items():
        matrix = PackedMatrix.random(codec(name), *raw.shape, rng)
        if name == "fp16":
            matrix.words = (0.1 * rng.standard_normal(raw.shape)).astype(np.float16).view(np.uint16)
        elif matrix.scales is not None:
            matrix.scales = (rng.uniform(0.5, 1.5, raw.shape[0]) * 2.0**-22).astype(np.float32)
        else:
            matrix.exp_bias = -10
        out[tensor] = matrix
    return out


@pytest.mark.parametrize("name", ["seedlm4", "seedlm3r", "fp16"])
def test_reference_engine(folder, name):
    """Its products are golden products of activations rounded once; FP32 sums come close."""
    checkpoint = Checkpoint(folder)
    matrices = packed(checkpoint, name, np.random.default_rng(9))
    reference = ReferenceEngine(matrices.__getitem__)
    x = np.random.default_rng(10).standard_normal((3, 48)).astype(np.float32)
    names = [f"model.layers.1.self_attn.{c}_proj.weight" for c in "qkv"]
    for tensor, y in zip(names, reference.products(names, x), strict=True):
        expected = np.stack([product(matrices[tensor], row.astype(np.float16)) for row in x])
        assert np.array_equal(y.view(np.uint32), expected.view(np.uint32))
    one = reference.decoded_bytes // 2  # of the first and largest, not of the other two
    for room in (0, one, one - 1):  # decoded matrices are kept while there is room for them
        huge = ReferenceEngine(matrices.__getitem__, room)
        for _ in range(2):
            for y, other in zip(reference.products(names, x), huge.products(names, x), strict=True):
                assert np.array_equal(y.view(np.uint32), other.view(np.uint32))
        assert huge.decoded_bytes <= room
    assert reference.decoded_bytes <= 8 * sum(np.prod(checkpoint.linear[name].shape) for name in names)
    near = ApproximateEngine(lambda n: matrices[n].decode(), lambda n: codec(name))
    for y, other in zip(reference.products(names, x), near.products(names, x), strict=True):
        assert np.abs(y - other).max() <= 1e-5 * np.abs(y).max()


def test_activations_beyond_fp16(folder):
    """Clipped and counted, for every engine alike; NaN and infinity are errors."""
    checkpoint = Checkpoint(folder)
    matrices = packed(checkpoint, "seedlm4", np.random.default_rng(9))
    name = "model.layers.0.self_attn.q_proj.weight"
    x = np.random.default_rng(10).standard_normal((2, 48)).astype(np.float32)
    x[1, 7], x[1, 8], x[0, 0], x[0, 1] = 1e6, -65520, 65504, 65519
    clipped = np.clip(x, -65504, 65504).astype(np.float16)
    engines = [
        ReferenceEngine(matrices.__getitem__),
        ApproximateEngine(lambda n: matrices[n].decode(), lambda n: codec("seedlm4")),
    ]
    for engine in engines:
        (y,) = engine.products([name], x)
        assert engine.activations.clipped == 3
        expected = product(matrices[name], clipped)
        assert np.abs(y - expected).max() <= 1e-5 * np.abs(expected).max()
        for bad in (np.nan, np.inf, -np.inf):
            with pytest.raises(SeedLMError, match="activation is NaN or infinite"):
                engine.products([name], np.full((1, 48), bad, np.float32))


# --- what cannot be ----------------------------------------------------------------------------------


def test_wrong_tokens(folder):
    model = float_model(folder)
    for tokens in ([], [256], [-1], [[1, 2]]):
        with pytest.raises(SeedLMError, match="expected at least one token, from 0 to 255"):
            model.logits(np.array(tokens, dtype=int))
    with pytest.raises(SeedLMError, match="129 tokens do not fit the model's context of 128"):
        model.logits(np.zeros(129, dtype=int))
    cache = model.cache()
    model.logits(np.zeros(128, dtype=int), cache)
    with pytest.raises(SeedLMError, match="do not fit"):
        model.logits(np.zeros(1, dtype=int), cache)
