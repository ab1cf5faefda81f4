"""Every architecture and variant against logits of transformers in float64, stored by `transformers_logits`."""

from __future__ import annotations

import json

import numpy as np
import pytest

from seedlm.golden.codecs import codec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.packed import TensorInfo, stored_parts, write_packed, write_stored
from seedlm.golden.files.tensors import RawTensor, TensorFile, write_tensors
from seedlm.golden.matrix import PackedMatrix
from seedlm.host.checkpoint import Checkpoint
from seedlm.host.engines import FloatEngine
from seedlm.host.models import ARCHITECTURES, language_model, model_config
from seedlm.host.models._attention import alibi_slopes
from tests.host.models.cases import CASES, EXPECTED, LENGTH, LLAMA3, VOCAB, YARN, text, write_case

# FP32 against float64, of the logits' standard deviation; what was found is 1e-6 to 2e-6.
TOLERANCE = 1e-5


@pytest.fixture(params=CASES)
def case(request, tmp_path):
    return write_case(tmp_path / request.param, request.param)


def float_model(folder):
    checkpoint = Checkpoint(folder)
    return language_model(checkpoint, FloatEngine(checkpoint.linear))


def expected(name) -> np.ndarray:
    logits = np.load(EXPECTED / f"{name}.npy")
    assert logits.shape == (LENGTH, VOCAB)
    return logits


def off(found, wanted) -> float:
    """The largest difference, in standard deviations."""
    assert found.shape == wanted.shape
    assert found.dtype == np.float32
    return float(np.abs(found - wanted).max() / wanted.std())


def complaint(call, *args) -> str:
    with pytest.raises(SeedLMError) as caught:
        call(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_architecture_has_a_case():
    assert {config["architectures"][0] for config in CASES.values()} == set(ARCHITECTURES)
    assert {path.stem for path in EXPECTED.glob("*.npy")} == set(CASES)


def test_logits(case):
    assert off(float_model(case).logits(text()), expected(case.name)) < TOLERANCE


def test_cache(case):
    """A text in parts, single tokens among them, gives the logits of the whole."""
    model, tokens = float_model(case), text()
    cache, done = model.cache(), []
    for count in (9, 1, 1, LENGTH - 12, 1):
        at = cache.length
        done.append(model.logits(tokens[at : at + count], cache))
    assert off(np.concatenate(done), expected(case.name)) < TOLERANCE


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("llama", {"rope_theta": 101.0}),
        ("llama", {"hidden_act": "gelu_pytorch_tanh"}),
        ("llama-llama3", {"rope_scaling": LLAMA3 | {"low_freq_factor": 2.0}}),
        ("llama-linear", {"rope_scaling": {"type": "linear", "factor": 4.1}}),
        ("llama-yarn", {"rope_scaling": YARN | {"beta_fast": 8.0}}),
        ("llama-yarn", {"rope_scaling": YARN | {"attention_factor": 1.1}}),
        ("llama-yarn", {"rope_scaling": YARN | {"truncate": False}}),
        ("llama-yarn-mscale", {"rope_scaling": YARN | {"truncate": False}}),
        ("mistral", {"sliding_window": 6}),
        ("mistral", {"sliding_window": None}),
        ("qwen2-sliding", {"use_sliding_window": False}),
        ("qwen2-sliding", {"max_window_layers": 0}),
        ("qwen3-biases-sliding", {"layer_types": ["full_attention", "full_attention"]}),
        ("gemma", {"hidden_act": "silu"}),
        ("gemma2", {"attn_logit_softcapping": None}),
        ("gemma2", {"final_logit_softcapping": None}),
        ("gemma2", {"query_pre_attn_scalar": 8}),
        ("gemma2", {"layer_types": ["full_attention"] * 3}),
        ("phi3", {"sliding_window": None}),
        ("gpt2", {"layer_norm_epsilon": 1e-3}),
        ("gpt2", {"activation_function": "relu"}),
        ("mixtral", {"num_experts_per_tok": 3}),
        ("mixtral-sliding", {"sliding_window": None}),
        ("qwen2-moe", {"norm_topk_prob": True}),
    ],
    ids=str,
)
def test_the_tolerance_notices(tmp_path, name, change):
    """What config.json says matters, far beyond the tolerance."""
    folder = write_case(tmp_path / name, name)
    (folder / "config.json").write_text(json.dumps(CASES[name] | change))
    assert off(float_model(folder).logits(text()), expected(name)) > 20 * TOLERANCE


def test_a_window_for_every_layer_by_name(tmp_path):
    """The list of newer files says the same as the older numbers."""
    folder = write_case(tmp_path, "qwen2-sliding")
    kinds = {"layer_types": ["full_attention", "sliding_attention"], "max_window_layers": 28}
    (folder / "config.json").write_text(json.dumps(CASES["qwen2-sliding"] | kinds))
    assert off(float_model(folder).logits(text()), expected("qwen2-sliding")) < TOLERANCE


def test_alibi_slopes():
    """The paper's: for 8 heads 1/2, 1/4 ... 1/256; for 12 some of those of 16 heads follow."""
    assert alibi_slopes(8).tolist() == [2.0**-i for i in range(1, 9)]
    assert np.allclose(alibi_slopes(12), [2.0**-i for i in range(1, 9)] + [2.0**-i for i in (0.5, 1.5, 2.5, 3.5)])


# --- names and orientation of tensors ------------------------------------------------------------------------
def change_tensors(folder, change) -> None:
    """Write a folder's tensors anew: `change` gives name and tensor, or None for one that goes."""
    file = TensorFile(folder / "model.safetensors")
    changed = [change(name, tensor) for name, tensor in file.tensors.items()]
    write_tensors(folder / "model.safetensors", dict(pair for pair in changed if pair), {"format": "pt"})


@pytest.mark.parametrize("name", ["gpt2", "gpt2-untied", "bloom", "opt", "llama"])
def test_names_without_what_all_begin_with(tmp_path, name):
    folder = write_case(tmp_path, name)
    config = model_config(CASES[name], name)
    change_tensors(folder, lambda n, t: (n.removeprefix(config.prefix), t))
    assert off(float_model(folder).logits(text()), expected(name)) < TOLERANCE


def test_masks_of_gpt2(tmp_path):
    folder = write_case(tmp_path, "gpt2")
    file = TensorFile(folder / "model.safetensors")
    ones = RawTensor.from_array(np.ones((1, 1, 64, 64), np.float32))
    masks = {f"transformer.h.0.attn.{name}": ones for name in ("bias", "masked_bias")}
    write_tensors(folder / "model.safetensors", dict(file.tensors) | masks)
    Checkpoint(folder)
    write_tensors(folder / "model.safetensors", dict(file.tensors) | {"transformer.h.0.attn.scale": ones})
    assert "does not have: 'transformer.h.0.attn.scale'" in complaint(Checkpoint, folder)


def test_wrong_shape_of_a_transposed_tensor(tmp_path):
    """Told as the file has it."""
    folder, name = write_case(tmp_path, "gpt2"), "transformer.h.1.attn.c_attn.weight"
    turned = RawTensor.from_array(np.zeros((72, 24), np.float32))
    change_tensors(folder, lambda n, t: (n, turned if n == name else t))
    assert f"tensor {name!r} is F32 [72, 24]: expected F16, BF16 or F32 [24, 72]" in complaint(Checkpoint, folder)


def write_turned(path, name, matrix, rest) -> None:
    """A packed file with one matrix that its source had with rows and columns exchanged."""
    info = TensorInfo(matrix.codec, matrix.shape, 0, "F32", transposed=True)
    write_stored(path, {name: info}, {name: stored_parts(info, matrix.stored, matrix.scales)}, rest)


def test_a_transposed_tensor_that_was_packed_as_it_lay(tmp_path):
    """Square ones would pass for what they are not."""
    folder, name = write_case(tmp_path, "gpt2"), "transformer.h.1.attn.c_proj.weight"
    path = folder / "model.safetensors"
    file = TensorFile(path)
    matrix = PackedMatrix.random(codec("int8"), 24, 24, np.random.default_rng(1))
    rest = {n: t for n, t in file.tensors.items() if n != name}
    write_packed(path, {name: matrix}, rest)
    assert f"tensor {name!r} was compressed as it is stored" in complaint(Checkpoint, folder)
    write_turned(path, name, matrix, rest)
    weights = Checkpoint(folder).linear[name]
    assert np.array_equal(weights.array(), matrix.decode())
    assert np.array_equal(weights.matrix().decode(), matrix.decode())


def test_a_tensor_that_was_transposed_for_nothing(tmp_path):
    folder, name = write_case(tmp_path, "opt"), "model.decoder.layers.0.self_attn.q_proj.weight"
    file = TensorFile(folder / "model.safetensors")
    matrix = PackedMatrix.random(codec("int8"), 24, 24, np.random.default_rng(1))
    write_turned(folder / "model.safetensors", name, matrix, {n: t for n, t in file.tensors.items() if n != name})
    assert f"tensor {name!r} was compressed with rows and columns exchanged" in complaint(Checkpoint, folder)


# --- what is multiplied ----------------------------------------------------------------------------------------
class Recording(FloatEngine):
    """Remembers which matrices were multiplied with how many vectors."""

    def __init__(self, tensors):
        super().__init__(tensors)
        self.seen: dict[str, int] = {}

    def products(self, names, x):
        for name in names:
            self.seen[name] = self.seen.get(name, 0) + len(x)
        return super().products(names, x)


def test_every_matrix_is_in_the_list(case):
    """A token is multiplied with what `groups` says, as often; of experts only with those that are chosen."""
    checkpoint = Checkpoint(case)
    config, engine = checkpoint.config, Recording(checkpoint.linear)
    language_model(checkpoint, engine).logits(text())
    shapes = config.linears()
    assert set(engine.seen) <= set(shapes)
    weights = sum(group.count * sum(shapes[m][0] * shapes[m][1] for m in group.matrices) for group in config.groups())
    done = sum(count * shapes[name][0] * shapes[name][1] for name, count in engine.seen.items())
    assert done == LENGTH * weights
    experts = "num_experts_per_tok" in CASES[case.name]
    assert (weights < sum(rows * cols for rows, cols in shapes.values())) == experts
    if not experts:
        assert set(engine.seen) == set(shapes)


# --- what is not supported -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("opt", {"do_layer_norm_before": False}, "unsupported do_layer_norm_before False: expected True"),
        ("opt", {"word_embed_proj_dim": 12}, "unsupported word_embed_proj_dim 12: expected 24"),
        ("opt", {"activation_function": "gelu"}, "unsupported activation_function 'gelu': expected 'silu', "),
        ("bloom", {"apply_residual_connection_post_layernorm": True}, "unsupported apply_residual"),
        ("bloom", {"n_head": 5}, "hidden_size 24 is not a multiple of num_attention_heads 5"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "unsupported scale_attn_by_inverse_layer_idx True"),
        ("gpt2", {"n_embd": "24"}, "n_embd must be a positive integer, not '24'"),
        ("gpt2", {"n_layer": None}, "n_layer must be a positive integer, not None"),
        ("phi3", {"rope_scaling": YARN}, "unsupported rotary scaling 'yarn' of Phi-3"),
        ("phi3", {"rope_scaling": {"type": "longrope"}}, "unsupported rotary scaling 'longrope'"),
        ("phi3", {"partial_rotary_factor": 0.5}, "unsupported partial_rotary_factor"),
        ("mistral", {"sliding_window": 0}, "sliding_window must be a positive integer, not 0"),
        ("mistral", {"layer_types": ["full_attention"] * 2}, "unsupported layer_types"),
        ("qwen2", {"layer_types": ["full_attention"]}, "layer_types must be 2 of full_attention or sliding_attention"),
        ("qwen3", {"layer_types": ["linear_attention"] * 2}, "layer_types must be 2 of "),
        ("qwen2", {"max_window_layers": -1}, "max_window_layers must be an integer of 0 or more, not -1"),
        ("gemma", {"use_bidirectional_attention": True}, "unsupported use_bidirectional_attention True"),
        ("mixtral", {"num_experts_per_tok": 6}, "num_experts_per_tok 6 is more than the 5 experts"),
        ("qwen2-moe", {"use_sliding_window": True}, "unsupported use_sliding_window True"),
        ("qwen2-moe", {"mlp_only_layers": 3}, "mlp_only_layers must be integers of 0 or more, not 3"),
        ("llama-yarn", {"rope_scaling": YARN | {"factor": None}}, "factor of rotary scaling 'yarn' must be a positive"),
        ("llama-yarn", {"rope_scaling": YARN | {"mscale": "1"}}, "mscale of rotary scaling 'yarn' must be a positive"),
    ],
    ids=str,
)
def test_unsupported(name, change, says):
    message = complaint(model_config, CASES[name] | change, "here")
    assert message.startswith(f"here: {says}")
