"""Models of other architectures than Llama through the commands: compress, info, decompress, project, and back."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from seedlm.console import Console
from seedlm.encoder.packed_model import open_packed
from seedlm.golden.build import Config
from seedlm.golden.codecs import codec
from seedlm.golden.files.tensors import TensorFile
from seedlm.hdl.registers import COUNTERS
from seedlm.host.checkpoint import Checkpoint
from seedlm.host.engines import FloatEngine, ReferenceEngine
from seedlm.host.models import ARCHITECTURES, language_model, model_config
from seedlm.project import memory_bytes
from seedlm.sim.timing import Timer
from tests.host.models.cases import CASES, EXPECTED, text, write_case

PAGE = Path(__file__).resolve().parents[2] / "docs" / "models.md"


def test_the_page_lists_all():
    listed = re.findall(r"^\| `(\w+)` \| `host/models/(\w+).py`", PAGE.read_text(), re.M)
    assert sorted(listed) == sorted((a.name, a.config.__module__.rpartition(".")[2]) for a in ARCHITECTURES.values())
    assert f"{len(CASES)} of them" in PAGE.read_text()


@pytest.mark.parametrize("name", ["gpt2", "bloom", "mixtral"])
def test_packed_and_back(seedlm, tmp_path, name):
    """A packed model runs, close to the original; what is expanded again is as the original lay."""
    model, packed, again = write_case(tmp_path / "in", name), tmp_path / "packed", tmp_path / "again"
    report = seedlm("compress", model, packed, "--codec", "int8", "--no-rotate", "--json").report()
    config = model_config(CASES[name], name)
    assert set(report["transposed"]) == config.transposed
    assert set(report["kept"]) == {n for n, shape in config.vectors().items() if len(shape) == 2}
    plan = seedlm("compress", model, tmp_path / "none", "--codec", "int8", "--plan", "--json").report()
    assert plan["transposed"] == report["transposed"]
    info = seedlm("info", packed, "--json").report()
    assert {n for n, t in info["tensors"].items() if t["transposed"]} == config.transposed
    seedlm("decompress", packed, again, "--json").report()
    originals = TensorFile(model / "model.safetensors").tensors
    for tensor, found in TensorFile(again / "model.safetensors").tensors.items():
        wanted = originals[tensor].array()
        assert found.shape == wanted.shape
        assert np.abs(found.array() - wanted).max() <= np.abs(wanted).max() / 127
    expected = np.load(EXPECTED / f"{name}.npy")
    checkpoint = Checkpoint(packed)
    matrices = open_packed(checkpoint.linear, "here")
    models = [
        language_model(checkpoint, ReferenceEngine(matrices.__getitem__)),
        language_model(checkpoint, FloatEngine(checkpoint.linear)),
        language_model(Checkpoint(again), FloatEngine(Checkpoint(again).linear)),
    ]
    for other in models:
        assert np.abs(other.logits(text()) - expected).max() < 0.1 * expected.std()


def test_a_plain_transposed_model_is_compressed_alike(tmp_path, monkeypatch):
    """What `run` compresses for itself is what `compress` writes."""
    from seedlm.cli import main
    from seedlm.encoder.plan import Options

    monkeypatch.setenv("SEEDLM_CACHE", str(tmp_path / "cache"))
    model, packed = write_case(tmp_path / "in", "gpt2"), tmp_path / "packed"
    assert main(["compress", str(model), str(packed), "--codec", "int8", "--quiet"]) == 0
    mine = open_packed(Checkpoint(model).linear, "here", Options(codec=codec("int8")))
    written = open_packed(Checkpoint(packed).linear, "here")
    assert set(mine) == set(written)
    for name in mine:
        assert mine[name].shape == written[name].shape
        assert np.array_equal(mine[name].stored, written[name].stored)


def test_projection_of_a_mixture(tmp_path, monkeypatch):
    """All experts lie in the memory; a token costs the chosen ones."""
    from seedlm.cli import main

    def made_up(self, rows, cols):
        weights = sum(rows) * cols
        return dict.fromkeys(COUNTERS, 0) | {"cycles": weights, "weight_beats": weights}

    monkeypatch.setenv("SEEDLM_CACHE", str(tmp_path))
    monkeypatch.setattr(Timer, "_run", made_up)
    (tmp_path / "config.json").write_text(json.dumps(CASES["mixtral"]))
    report = {}
    monkeypatch.setattr(Console, "json", lambda self, found: report.update(found))
    assert main(["project", str(tmp_path / "config.json"), "--codec", "int8", "--quiet"]) == 0
    linears = model_config(CASES["mixtral"], "here").linears()
    experts = sum(rows * cols for name, (rows, cols) in linears.items() if ".experts." in name)
    rest = sum(rows * cols for rows, cols in linears.values()) - experts
    assert report["weights"] == rest + experts
    assert report["weights_per_token"] == rest + experts * 2 // 5
    for row in report["rows"]:
        assert row["cycles"] == rest + experts * 2 // 5
        assert row["memory_bytes"] == memory_bytes(Config(codec=codec(row["codec"])), linears.values())
