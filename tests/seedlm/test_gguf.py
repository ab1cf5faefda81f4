"""GGUF files, chat, prompts from a file and generation_config.json as a user meets them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from seedlm.golden.files.tensors import TensorFile
from seedlm.project import model_config
from tests.host.tiny_gguf import EVEN, write_gguf
from tests.host.tiny_llama import write_model

TEMPLATE = "{% for m in messages %}[{{ m.content }}]{% endfor %}{% if add_generation_prompt %}>{% endif %}"


def tokenizer(writer) -> None:
    """A byte-level tokenizer without merges whose tokens are in the order of the bytes."""
    shown = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    others = iter(range(256, 512))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([chr(byte if byte in shown else next(others)) for byte in range(256)])
    writer.add_token_types([1] * 256)
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_chat_template(TEMPLATE)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> tuple[Path, Path]:
    """The same random model as a directory and as a GGUF file, both in F32."""
    folder = tmp_path_factory.mktemp("gguf") / "folder"
    print("seed 31")
    config = write_model(folder, np.random.default_rng(31), dtype="F32", **EVEN)
    values = {name: tensor.array() for name, tensor in TensorFile(folder / "model.safetensors").tensors.items()}
    write_gguf(folder.parent / "q.gguf", config, values, "Q8_0", tokenizer)
    return folder, write_gguf(folder.parent / "model.gguf", config, values, "F32", tokenizer)


def test_compress(seedlm, models, tmp_path):
    """The packed file of the directory, byte for byte, in a folder that says what the model is; it runs."""
    folder, path = models
    seedlm("compress", folder, tmp_path / "a", "--codec", "int8", "--json").report()
    report = seedlm("compress", path, tmp_path / "b", "--codec", "int8", "--json").report()
    made = ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"]
    assert report["files_copied"] == made
    assert report["quantised_before"] == {}
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == sorted([*made, "model.safetensors"])
    mine, theirs = (TensorFile(tmp_path / name / "model.safetensors").tensors for name in "ba")
    assert mine.keys() == theirs.keys()
    assert all(np.array_equal(mine[name].data, theirs[name].data) for name in mine)
    options = ("--prompt", "x = ", "--tokens", 6, "--json")
    runs = [seedlm("run", tmp_path / name, *options).report() for name in "ab"]
    assert runs[0]["tokens"] == runs[1]["tokens"]
    complaint = seedlm("compress", path, path.parent).complaint()
    assert "is the input" in complaint


def test_run_and_evaluate(seedlm, models, tmp_path):
    """The same tokens and the same figures from both; a quantised file says so in one line."""
    folder, path = models
    options = ("--engine", "float32", "--prompt", "größer ", "--tokens", 12, "--temperature", 1, "--json")
    runs = [seedlm("run", model, *options).report() for model in (folder, path)]
    for key in ("tokens", "prompt_tokens", "text"):
        assert runs[0][key] == runs[1][key], key
    (tmp_path / "text").write_text("def main(x):\n" * 4)
    options = ("--text", tmp_path / "text", "--codec", "int8", "--json")
    rows = [seedlm("evaluate", model, *options).report()["rows"] for model in (folder, path)]
    for row in (*rows[0], *rows[1]):
        del row["encode_seconds"]  # no two times are the same
    assert rows[0] == rows[1]
    ran = seedlm("run", path.parent / "q.gguf", "--engine", "float32", "--prompt", "a", "--tokens", 2)
    assert ran.out.startswith("the weights were quantised before: 16 tensors Q8_0\n")
    assert ran.err == ""


def test_info_and_project(seedlm, models):
    folder, path = models
    report = seedlm("info", path.parent / "q.gguf", "--json").report()
    assert report["format"] == "GGUF"
    assert report["quantised_before"] == {"Q8_0": 16}
    config = json.loads((folder / "config.json").read_text())
    for key in ("hidden_size", "num_key_value_heads", "head_dim", "vocab_size", "rope_theta", "rms_norm_eps"):
        assert report["config"][key] == config[key], key
    assert report["tensors"]["model.layers.1.mlp.up_proj.weight"] == {"dtype": "F32", "shape": [96, 64]}
    assert "16 tensors Q8_0" in seedlm("info", path.parent / "q.gguf").out
    assert model_config(str(path)) == model_config(str(folder))  # what `seedlm project` measures


def test_errors(seedlm, models, tmp_path):
    """One line from every verb."""
    (tmp_path / "cut.gguf").write_bytes(models[1].read_bytes()[:5000])
    for words in (("run",), ("info",), ("project",), ("compress", "OUT")):
        arguments = [tmp_path / "out" if word == "OUT" else word for word in words]
        line = seedlm(arguments[0], tmp_path / "cut.gguf", *arguments[1:]).complaint()
        assert "cut.gguf: not a complete GGUF file" in line, words


def test_prompts(seedlm, models, tmp_path):
    """A text for each line, each as if it were alone."""
    (tmp_path / "prompts").write_text("a = \n\n  \nnaïve\r\na = ")
    common = ("--engine", "float32", "--tokens", 5, "--temperature", 1, "--seed", 3)
    report = seedlm("run", models[0], "--prompts", tmp_path / "prompts", *common, "--json").report()
    assert [text["prompt"] for text in report["texts"]] == ["a = ", "naïve", "a = "]
    alone = seedlm("run", models[0], "--prompt", "naïve", *common, "--json").report()
    first, second, third = ((text["tokens"], text["text"]) for text in report["texts"])
    assert second == (alone["tokens"], alone["text"])
    assert first == third
    out = seedlm("run", models[0], "--prompts", tmp_path / "prompts", *common).out
    assert out.count("original weights, float32: 5 tokens in ") == 3
    (tmp_path / "prompts").write_text("\n\n")
    assert "has no prompt" in seedlm("run", models[0], "--prompts", tmp_path / "prompts").complaint()
    assert "not allowed with" in seedlm("run", models[0], "--prompts", "x", "--prompt", "y").complaint(2)


def test_chat(seedlm, models):
    """The template of the file is what the model reads, without a first token of its own."""
    folder, path = models
    common = ("--engine", "float32", "--tokens", 5, "--json")
    report = seedlm("run", path, "--chat", "--prompt", "How?", *common).report()
    assert report["prompt_tokens"] == len("[How?]>")
    bare = json.loads((folder / "config.json").read_text()) | {"bos_token_id": None}
    other = folder.parent / "bare"
    other.mkdir()
    (other / "config.json").write_text(json.dumps(bare))
    (other / "model.safetensors").symlink_to(folder / "model.safetensors")
    assert seedlm("run", other, "--prompt", "[How?]>", *common).report()["tokens"] == report["tokens"]
    assert "has no chat template" in seedlm("run", folder, "--chat", "--prompt", "How?").complaint()


def test_generation_config(seedlm, models, tmp_path):
    """What the file says holds where no option says otherwise."""
    folder = tmp_path / "m"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).symlink_to(models[0] / name)
    common = ("run", folder, "--engine", "float32", "--prompt", "ab", "--tokens", 12, "--json")
    said = {"temperature": 2.0, "top_k": 40, "top_p": 0.9}
    flags = ("--temperature", 2, "--top-k", 40, "--top-p", 0.9)
    greedy, wanted = seedlm(*common).report(), seedlm(*common, *flags).report()
    assert wanted["tokens"] != greedy["tokens"]
    (folder / "generation_config.json").write_text(json.dumps(said | {"do_sample": True, "pad_token_id": 4000}))
    found = seedlm(*common).report()
    assert found["tokens"] == wanted["tokens"]
    assert said.items() <= found.items()
    assert seedlm(*common, "--temperature", 0).report()["tokens"] == greedy["tokens"]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [greedy["tokens"][3], 4000]}))
    ended = seedlm(*common).report()
    assert (ended["stopped"], ended["tokens"]) == (
        "end",
        greedy["tokens"][: greedy["tokens"].index(greedy["tokens"][3])],
    )
