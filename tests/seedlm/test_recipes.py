"""Recipes: every kind of matrix of every architecture gets the codec that the recipe says, as `--set` would give it."""

import pytest

from seedlm.golden.codecs import codec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.sources import open_model
from seedlm.golden.recipes import KINDS, RECIPES, recipe
from seedlm.host.checkpoint import Checkpoint
from seedlm.host.models import model_config
from tests.host.models.cases import CASES, write_case


@pytest.mark.parametrize("name", CASES)
def test_every_matrix_has_a_kind(name):
    config = model_config(CASES[name], name)
    kinds = config.kinds()
    assert set(kinds) == {*config.linears(), config.embedding}
    assert set(kinds.values()) <= set(KINDS)
    assert kinds[config.head] == "head"
    for matrix, kind in kinds.items():
        last = matrix.split(".")[-2]
        for part in ("q", "k", "v", "o", "gate", "up", "down"):
            if last == f"{part}_proj":
                assert kind == part, matrix


def test_names_of_matrices_that_are_called_otherwise():
    kinds = model_config(CASES["gpt2"], "gpt2").kinds()
    layer = {name.removeprefix("transformer.h.0."): kind for name, kind in kinds.items() if ".h.0." in name}
    assert layer == {"attn.c_attn.weight": "qkv", "attn.c_proj.weight": "o", "mlp.c_fc.weight": "up",
                     "mlp.c_proj.weight": "down"}  # fmt: skip
    kinds = model_config(CASES["mixtral"], "mixtral").kinds()
    one = "layers.0.block_sparse_moe.experts.1."
    expert = {name.rpartition(one)[2]: kind for name, kind in kinds.items() if one in name}
    assert expert == {"w1.weight": "gate", "w3.weight": "up", "w2.weight": "down"}


def test_recipes_name_codecs_that_there_are():
    for name, made in RECIPES.items():
        assert recipe(name) is made
        assert set(made.codecs) <= set(KINDS)
        kinds = {kind: kind for kind in KINDS}
        assert made.codecs_of(kinds) == {kind: codec(made.codecs.get(kind, made.rest)) for kind in KINDS}
        assert all(kind in made.describe() for kind in made.codecs)
    with pytest.raises(SeedLMError, match="unknown recipe 'best': expected mixed4, "):
        recipe("best")


def test_the_command(seedlm, tmp_path):
    """A folder gets the recipe that is the default, a pattern comes before it, a codec for all takes its place."""
    model = write_case(tmp_path / "in", "llama")

    def codecs(*options):
        report = seedlm("compress", model, tmp_path / "out", *options, "--plan", "--json").report()
        return report, {name: t["codec"] for name, t in report["tensors"].items()}

    report, found = codecs()
    assert report["recipe"] == "mixed4"
    assert found["model.layers.0.self_attn.v_proj.weight"] == "trellis6"
    assert found["model.layers.1.mlp.up_proj.weight"] == "trellis4"
    assert found["model.embed_tokens.weight"] == "int8"
    report, same = codecs("--set", "*.v_proj.*=fp16")
    assert same == found | {name: "fp16" for name in found if ".v_proj." in name}
    report, found = codecs("--recipe", "mixed3")
    assert (report["recipe"], found["model.layers.1.mlp.up_proj.weight"]) == ("mixed3", "trellis3")
    report, found = codecs("--codec", "trellis2")
    assert (report["recipe"], set(found.values())) == (None, {"trellis2"})
    told = seedlm("compress", model, tmp_path / "out", "--plan").out
    assert "to recipe mixed4, codec " in told
    both = seedlm("compress", model, tmp_path / "out", "--codec", "int8", "--recipe", "mixed4")
    assert "expected one of the two" in both.complaint()
    file = model / "model.safetensors"
    report = seedlm("compress", file, tmp_path / "one", "--plan", "--json").report()
    assert report["recipe"] is None, "a file alone is not a whole model"
    (model / "config.json").unlink()
    assert "--recipe mixed4: expected a model whose architecture is known" in seedlm(
        "compress", model, tmp_path / "out", "--recipe", "mixed4"
    ).complaint()


def test_run_and_compress_choose_the_same(seedlm, tmp_path):
    model = write_case(tmp_path / "in", "llama")
    seedlm("compress", model, tmp_path / "out", "--recipe", "mixed3.6", "--json").report()
    packed = {name: str(tensor.codec) for name, tensor in open_model(tmp_path / "out").packed.items()}
    kinds = Checkpoint(model).config.kinds()
    assert packed == {name: str(RECIPES["mixed3.6"].codec_of(kind)) for name, kind in kinds.items() if name in packed}
    assert len(packed) > 10
