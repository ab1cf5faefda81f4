"""A quantised model as a user takes it over: imported, listed, run, expanded; and what is refused."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from seedlm.cli import main
from seedlm.golden.files.packed import PackedFile
from seedlm.golden.files.tensors import RawTensor, TensorFile, write_tensors
from seedlm.host.checkpoint import Checkpoint
from seedlm.host.engines import FloatEngine, ReferenceEngine
from seedlm.host.models import language_model
from tests.host.imports.packers import SIZES, awq, compressed, gptq, write_model
from tests.host.tiny_gguf import gguf, write_gguf
from tests.host.tiny_llama import CONFIG, tensors

FORMS = {
    "awq": (awq, {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm"}, (1, 15), "int4g32"),
    "gptq": (gptq, {"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": False}, (1, 15), "int4g32"),
    "gptq_v2": (partial(gptq, less=0), {"quant_method": "gptq", "bits": 4, "group_size": 32,
                                        "checkpoint_format": "gptq_v2"}, (0, 15), "int4g32"),
    "compressed": (partial(compressed, bits=8), {"quant_method": "compressed-tensors", "format": "pack-quantized",
        "config_groups": {"group_0": {"weights": {"num_bits": 8, "group_size": 32, "symmetric": False}}}}, (128, 128),
        "q8_0"),
}  # fmt: skip
KINDS = {"Q4_0": "q4_0", "Q8_0": "q8_0", "MXFP4": "mxfp4"}


def make(folder: Path, form: str) -> tuple[Path, dict[str, np.ndarray], str]:
    """A tiny quantised Llama, its weights, and the codec they are expected in."""
    rng = np.random.default_rng(61)
    folder.mkdir(exist_ok=True)
    if form in KINDS:
        config = CONFIG | SIZES
        number = gguf.GGMLQuantizationType[form]
        values = {name: array.astype(np.float16).astype(np.float32) for name, array in tensors(config, rng).items()}
        path = write_gguf(folder / "m.gguf", config, values, lambda name: form if name.startswith("blk") else "F16")
        for name, array in values.items():
            if "proj" in name:
                values[name] = gguf.dequantize(gguf.quantize(array, number), number)
        return path, values, KINDS[form]
    pack, said, zeros, codec = FORMS[form]
    path, values = write_model(folder / "m", rng, pack, said, 32, zeros=zeros, bits=8 if codec == "q8_0" else 4)
    return path, values, codec


def plain(folder: Path, values: dict[str, np.ndarray]) -> Path:
    """The same model with its weights as they are, which binary32 holds."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG | SIZES))
    write_tensors(folder / "model.safetensors", {n: RawTensor.from_array(a, "F32") for n, a in values.items()})
    return folder


@pytest.mark.parametrize("form", [*FORMS, *KINDS])
def test_import_and_run(tmp_path, form):
    """The logits of the packed model on the reference are those of its weights in FP32, but for what FP16 activations
    do; and all weights are equal."""
    path, values, codec = make(tmp_path, form)
    assert main(["import", str(path), str(tmp_path / "out"), "--quiet"]) == 0
    packed, original = Checkpoint(tmp_path / "out"), Checkpoint(plain(tmp_path / "plain", values))
    quantised = {name for name in packed.linear if "proj" in name}
    assert len(quantised) == 7
    for name in quantised:
        matrix = packed.linear[name].matrix()
        assert matrix.codec.name == codec
        assert np.array_equal(matrix.decode(), values[name]), name
    assert packed.config == original.config or form in KINDS
    tokens = np.arange(24) * 11 % 256
    engine = ReferenceEngine(lambda name: matrix_of(packed, name))
    found = language_model(packed, engine).logits(tokens)
    expected = language_model(original, FloatEngine(original.linear)).logits(tokens)
    assert np.abs(found - expected).max() < 0.01 * expected.std()


def matrix_of(checkpoint: Checkpoint, name: str):
    """As `seedlm run` has it: a plain matrix beside packed ones is rounded to FP16, which these weights are."""
    from seedlm.encoder.packed_model import open_packed

    return open_packed(checkpoint.linear, "here")[name]


def test_verbs(seedlm, tmp_path):
    """Reports, and the other verbs on what was written: the weights expanded again, the same tokens."""
    path, values, _ = make(tmp_path, "awq")
    (path / "tokenizer_config.json").write_text("{}")
    report = seedlm("import", path, tmp_path / "out", "--json").report()
    assert report["form"] == "AWQ"
    assert report["codecs"] == ["int4g32"]
    assert report["weights"] == sum(values[name].size for name in report["tensors"])
    assert report["files_copied"] == ["tokenizer_config.json", "config.json"]
    assert report["tensors"]["model.layers.0.mlp.up_proj.weight"]["shape"] == [160, 64]
    assert report["output_bytes"] == (tmp_path / "out" / "model.safetensors").stat().st_size
    info = seedlm("info", tmp_path / "out", "--json").report()
    assert {t["codec"] for t in info["tensors"].values()} == {"int4g32"}
    assert set(info["tensors"]) == set(report["tensors"])
    assert set(info["other"]) == set(report["copied"])
    seedlm("decompress", tmp_path / "out", tmp_path / "again", "--json").report()
    again = TensorFile(tmp_path / "again" / "model.safetensors")
    assert all(np.array_equal(again.array(name), values[name]) for name in report["tensors"])
    options = ("--prompt", "def f(", "--tokens", 6, "--json")
    mine = seedlm("run", tmp_path / "out", "--engine", "reference", *options).report()
    theirs = seedlm("run", plain(tmp_path / "plain", values), "--engine", "float32", *options).report()
    assert mine["tokens"] == theirs["tokens"]


def test_what_is_told(seedlm, tmp_path):
    """A table, a summary, and what was not as the file says; nothing with --quiet."""
    path, _ = write_model(tmp_path / "m", np.random.default_rng(62), gptq,
                          FORMS["gptq_v2"][1], 32, zeros=(8, 8))  # fmt: skip
    (path / "quantize_config.json").write_text("{}")
    ran = seedlm("import", path, tmp_path / "out")
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[0].split() == ["tensor", "shape", "codec", "bits/weight"]
    assert any("7 tensors, " in line and "in int4g32: " in line and "none rounded" in line for line in lines)
    assert any("config.json says gptq_v2, but all zero points are stored as 7, as gptq has them" in s for s in lines)
    assert any(line.startswith("not copied: quantize_config.json") for line in lines)
    ran = seedlm("import", path, tmp_path / "out", "--quiet")  # again, over what is there
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    text = seedlm("import", "--help").out
    assert all(word in text for word in ("AWQ", "GPTQ", "compressed-tensors", "MXFP4", "examples:"))


def test_one_file(tmp_path):
    """A safetensors file beside its config.json becomes a packed file."""
    path, values, _ = make(tmp_path, "awq")
    assert main(["import", str(path / "model.safetensors"), str(tmp_path / "one.safetensors"), "--quiet"]) == 0
    file = PackedFile(tmp_path / "one.safetensors")
    assert set(file.tensors) | set(file.other) == set(values)


def test_errors(tmp_path, capsys):
    """One line, and nothing is left."""

    def complaint(source: Path, target: Path = tmp_path / "out") -> str:
        assert main(["import", str(source), str(target)]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("seedlm: error: ")
        assert err.count("\n") == 1
        return err.removeprefix("seedlm: error: ")

    path, values, _ = make(tmp_path, "awq")
    before = sorted(tmp_path.iterdir())
    assert "is the input" in complaint(path, path)
    assert "cannot write" in complaint(path, tmp_path / "none" / "out")
    other = plain(tmp_path / "plain", values)
    assert "nothing says that it is quantised" in complaint(other)
    assert "has another model's" in complaint(make(tmp_path / "second", "Q8_0")[0], shards(tmp_path / "shards"))
    config = json.loads((path / "config.json").read_text())
    config["quantization_config"]["version"] = "gemv_fast"
    (path / "config.json").write_text(json.dumps(config))
    assert complaint(path).startswith(f"{path}/config.json: AWQ of version 'gemv_fast'")
    assert "no such file or directory" in complaint(tmp_path / "none")
    assert sorted(tmp_path.iterdir()) == sorted([*before, other, tmp_path / "second", tmp_path / "shards"])


def shards(folder: Path) -> Path:
    """A folder with a part of another model."""
    folder.mkdir()
    (folder / "model-00001-of-00002.safetensors").touch()
    return folder
