"""seedlm calibrate, and seedlm compress with what it writes."""

from __future__ import annotations

import numpy as np
import pytest

from seedlm.golden.files.calibration import CalibrationFile
from seedlm.golden.files.tensors import TensorFile
from tests.host.models.cases import write_case
from tests.host.models.test_architectures import change_tensors
from tests.host.tiny_llama import write_model

ATTENTION = [f"model.layers.0.self_attn.{c}_proj.weight" for c in "qkv"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    print("seed 21")
    write_model(path, np.random.default_rng(21), max_position_embeddings=32)
    (path / "text.txt").write_text("größe = 1\nfor i in range(3):\n    print(i)\n" * 4)
    return path


@pytest.fixture(scope="module")
def made(folder, seedlm):
    """A calibration with importances, and the report."""
    files = "--out", folder / "made" / "c.st", "--importance-out", folder / "made" / "i.st"
    (folder / "made").mkdir()
    tokens = "--text", folder / "text.txt", "--tokens", 100, "--self", 2
    return folder / "made", seedlm("calibrate", folder, *tokens, *files, "--json").report()


def test_what_is_recorded(made):
    path, report = made
    assert (report["text_tokens"], report["samples_tokens"], report["tokens"]) == (100, 64, 164)
    assert report["windows"] == 4 + 2
    assert (report["left_out"], report["unused"]) == ({}, [])
    file = CalibrationFile(path / "c.st")
    assert report["matrices"] == len(file.matrices) == 15
    assert report["moments"] == len(file.file.tensors) == 9
    assert {file.matrices[name].moments for name in ATTENTION} == {file.matrices[ATTENTION[0]].moments}
    assert {entry.tokens for entry in file.matrices.values()} == {164}
    importance = TensorFile(path / "i.st")
    assert set(importance.tensors) == set(file.matrices)
    for name in file.matrices:
        (h,) = file.arrays(name)
        assert np.allclose(h, h.T, rtol=1e-5, atol=1e-3)
        assert np.allclose(importance.array(name), np.diag(h) / 164, rtol=1e-5)


def test_compress_takes_it(made, folder, seedlm, tmp_path):
    path, _ = made
    common = ("compress", folder / "model.safetensors", "--include", "*layers.0.self*", "--include", "*embed*")
    fed = ("--calibration", path / "c.st", "--set", "*v_proj*=int8")
    report = seedlm(*common, tmp_path / "one", *fed, "--jobs", 1, "--json").report()
    assert report["calibration"] == {"file": str(path / "c.st"), "damping": 0.1, "without": [
        "model.embed_tokens.weight"]}  # fmt: skip
    assert report["tensors"][ATTENTION[0]]["feedback"]
    assert not report["tensors"]["model.embed_tokens.weight"]["feedback"]
    two = seedlm(*common, tmp_path / "two", *fed, "--jobs", 2, "--damping", 0.1)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert "without feedback: model.embed_tokens.weight: not in " in two.out
    weighted = seedlm(*common, tmp_path / "three", "--importance", path / "i.st", "--json").report()
    assert weighted["calibration"] is None
    assert weighted["tensors"][ATTENTION[0]]["rotation"] is None


def test_tensors_under_the_names_of_the_file(seedlm, tmp_path):
    """GPT-2's lie transposed, and their names may lack what all begin with."""
    folder = write_case(tmp_path / "model", "gpt2")
    change_tensors(folder, lambda name, tensor: (name.removeprefix("transformer."), tensor))
    report = seedlm("calibrate", folder, "--self", 2, "--context", 16, "--out", tmp_path / "c", "--json").report()
    assert (report["matrices"], report["tokens"]) == (8, 32)
    tensors = seedlm("compress", folder, tmp_path / "p", "--calibration", tmp_path / "c", "--json").report()["tensors"]
    fed = {name for name, tensor in tensors.items() if tensor["feedback"]}
    parts = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    assert fed == {f"h.{i}.{part}.weight" for i in range(2) for part in parts}


@pytest.mark.parametrize(("arguments", "message"), [
    (("calibrate", "{m}", "--out", "{t}/c"), "nothing to calibrate with: expected --self N, --text FILE, or both"),
    (("calibrate", "{m}", "--out", "{t}/c", "--self", "1", "--tokens", "5"), "--tokens needs --text FILE"),
    (("calibrate", "{m}", "--out", "{m}/model.safetensors", "--self", "1"), "is the input: choose another output"),
    (("calibrate", "{m}", "--out", "{t}/c", "--text", "{m}/no.txt"), "no.txt: cannot read: No such file"),
    (("compress", "{m}", "{t}/p", "--damping", "0.3"), "--damping needs --calibration FILE"),
    (("compress", "{m}", "{t}/p", "--calibration", "{m}/model.safetensors"), "not a calibration"),
])  # fmt: skip
def test_errors(folder, seedlm, tmp_path, arguments, message):
    complaint = seedlm(*(str(a).format(m=folder, t=tmp_path) for a in arguments)).complaint()
    assert message in complaint
    assert not list(tmp_path.iterdir())


def test_a_damping_that_is_too_small(folder, seedlm, tmp_path):
    options = ("--calibration", tmp_path / "c", "--damping", "0")
    complaint = seedlm("compress", folder, tmp_path / "p", *options).complaint(2)
    assert "expected a number of 0.0001 or more, such as 0.1, not '0'" in complaint
