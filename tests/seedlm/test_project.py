"""seedlm project: cycles measured on the RTL, added up."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import seedlm.project as project
from seedlm.console import Console
from seedlm.golden.build import Config
from seedlm.golden.codecs import CODECS, codec
from seedlm.golden.matrix import PackedMatrix
from seedlm.hdl.registers import COUNTERS
from seedlm.host.models import model_config
from seedlm.sim.memories import memory
from seedlm.sim.timing import Products, Timer, decode_step, layer_products
from tests.host.tiny_llama import BUNDLED, CONFIG

SMALL = {"lanes": 4, "bus_bits": 128, "max_cols": 2048, "burst_beats": 32, "queue_depth": 8}


@pytest.fixture
def timings(tmp_path, monkeypatch) -> Path:
    """A cache of its own for the measurements; the compiled simulations stay shared."""
    from seedlm.golden.files.cache import cache_folder

    common = cache_folder()
    mine = tmp_path / "cache"
    mine.mkdir()
    for name in ("models", "verilog", "runtime"):
        (common / name).mkdir(exist_ok=True)
        os.symlink(common / name, mine / name)
    monkeypatch.setenv("SEEDLM_CACHE", str(mine))
    return mine / "timings"


def timer(name="seedlm4", which="ddr3"):
    return Timer(Config(codec=codec(name), **SMALL), memory(which))


def test_known_models():
    """Weights in the linear layers, from the published sizes less embedding and norms."""
    for name, weights in {
        "Llama-2-7B": 6_738_415_616 - 32000 * 4096 - 65 * 4096,
        "Llama-3-8B": 8_030_261_248 - 128256 * 4096 - 65 * 4096,
        "Llama-3-70B": 70_553_706_496 - 128256 * 8192 - 161 * 8192,
    }.items():
        config = project.model_config(name)
        assert sum(p.weights * p.count for p in layer_products(config)) == weights
        assert sum(rows * cols for rows, cols in config.linears().values()) == weights
        assert project.model_config(name.lower()) == config
    assert project.model_config(str(BUNDLED)).hidden == 192
    assert project.model_config(str(BUNDLED / "config.json")).hidden == 192


def test_products_cover_all_matrices():
    config = model_config(CONFIG | {"head_dim": 16}, "here")
    matrices = sorted(config.linears().values())
    counted = sorted((r, p.cols) for p in layer_products(config) for r in p.rows for _ in range(p.count))
    assert counted == matrices


def test_memory_bytes():
    """The images as the driver puts them into memory."""
    from seedlm.host.driver import Accelerator
    from tests.host.fake_transport import FakeAccelerator

    for name in ("seedlm4", "seedlm3r", "fp16"):
        build = Config(codec=codec(name))
        driver = Accelerator(FakeAccelerator(build), build)
        rng = np.random.default_rng(1)
        shapes = [(100, 200), (17, 30), (17, 30)]
        for rows, cols in shapes:
            driver.load_matrix(PackedMatrix.random(codec(name), rows, cols, rng))
        assert driver.allocate(1) == project.memory_bytes(build, shapes)


def test_values_do_not_matter(timings):
    """Empty memory takes as long as random words: cycle counts may be measured without weights."""
    from seedlm.sim.accelerator import Accelerator

    config = Config(codec=codec("seedlm4"), **SMALL)
    with timer() as measuring:
        empty = measuring.measure([60, 20], 130)
    with Accelerator(config, memory="ddr3", timeout=2_000_000) as device:
        rng = np.random.default_rng(2)
        matrices = [PackedMatrix.random(config.codec, rows, 130, rng) for rows in (60, 20)]
        x = device.load_activations(rng.standard_normal(130).astype(np.float16))
        loaded = [device.load_matrix(m) for m in matrices]
        device.reset()
        with device.paused():
            for i, matrix in enumerate(loaded):
                device.submit(device.place(matrix, x.address), same=i > 0)
        device.wait()
        full = device.counters()
    for name in COUNTERS:
        if name.endswith("_beats") or name == "steps":
            assert empty.counters[name] == full[name]
    # Other addresses, so other banks: some cycles may differ.
    assert abs(empty.cycles - full["cycles"]) <= 0.05 * full["cycles"]


def test_refreshes_have_their_share(timings):
    """A product much shorter than a refresh interval takes 2 to 5 percent longer than without refresh, on average."""
    found = {}
    for which in ("ideal", "ddr3"):
        with timer(which=which) as measuring:
            found[which] = measuring.measure([60, 20], 130)
    ideal, ddr3 = found["ideal"], found["ddr3"]
    assert ideal.cycles < memory("ddr3").settings()["t_refi"]
    assert 1.02 < ddr3.cycles / ideal.cycles < 1.05
    assert ddr3.data_beats == ideal.data_beats


def test_measured_once(timings, monkeypatch):
    with timer() as measuring:
        first = measuring.measure([8, 4], 64)
    assert len(list(timings.iterdir())) == 1
    monkeypatch.setattr("seedlm.sim.accelerator.Accelerator", None)
    with timer() as measuring:
        assert measuring.measure([8, 4], 64) == first
    monkeypatch.undo()


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"cycles": 3}', "\x00" * 40])
def test_damaged_measurement(timings, content, monkeypatch):
    monkeypatch.setattr(Timer, "_run", lambda self, rows, cols: dict.fromkeys(COUNTERS, sum(rows) * cols))
    with timer() as measuring:
        first = measuring.measure([8, 4], 64)
        (file,) = timings.iterdir()
        good = file.read_text()
        file.write_text(content)
        assert measuring.measure([8, 4], 64) == first
        assert file.read_text() == good
        assert measuring.measure([8, 5], 64) != first
        assert measuring.measure([8, 4], 65) != first


def test_quick_is_near(timings, monkeypatch):
    """Two measurements with fewer rows, continued: within a percent of the whole.

    On the ideal memory: with so few beats a refresh more or less would count.
    """
    monkeypatch.setattr("seedlm.sim.timing.QUICK_BEATS", 500)
    products = [Products("big", (600, 400), 160), Products("small", (40,), 160)]
    config = Config(codec=codec("seedlm4"), **SMALL)
    quick, whole = (
        decode_step(products, config, memory("ideal"), quick=q)
        for q in (True, False)
    )
    assert [p.extrapolated for p in quick.parts] == [True, False]
    assert not any(p.extrapolated for p in whole.parts)
    assert abs(quick.cycles / whole.cycles - 1) < 0.01
    assert abs(quick.data_beats / whole.data_beats - 1) < 0.01
    assert whole.parts[0].measured.counters["weight_beats"] == 1000 // 4 * 20


def test_report(seedlm, tmp_path, monkeypatch):
    """Sums, speed-up and memory from the parts, for measurements that are made up."""

    # beats of weights, and 10 cycles for every batch
    def made_up(self, rows, cols):
        beats = sum(self.config.image_beats(n, cols) for n in rows)
        return dict.fromkeys(COUNTERS, 0) | {"cycles": beats + 10, "weight_beats": beats}

    monkeypatch.setenv("SEEDLM_CACHE", str(tmp_path))
    monkeypatch.setattr(Timer, "_run", made_up)
    from seedlm.cli import main

    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG))
    console = {}
    monkeypatch.setattr(Console, "json", lambda self, report: console.update(report))
    assert main(["project", str(path), "--quiet"]) == 0
    rows = {row["codec"]: row for row in console["rows"]}
    assert list(rows) == ["fp16", *(name for name in CODECS if name != "fp16")]
    shapes = model_config(CONFIG, "here").linears()
    for name, row in rows.items():
        build = Config(codec=CODECS[name])
        beats = sum(build.image_beats(*shape) for shape in shapes.values())
        assert row["cycles"] == beats + 10 * (2 * 4 + 1)
        assert row["efficiency"] == beats / row["cycles"]
        assert row["tokens_per_second"] == 200e6 / row["cycles"]
        assert row["speedup"] == rows["fp16"]["cycles"] / row["cycles"]
        assert row["channels_needed"] == 1


def test_complaints(seedlm, tmp_path):
    line = seedlm("project", tmp_path / "none.json").complaint()
    assert line.endswith("expected a config.json or one of Llama-2-7B, Llama-3-8B, Llama-3-70B")
    shutil.copy(BUNDLED / "model.safetensors", tmp_path / "config.json")
    assert "not JSON" in seedlm("project", tmp_path / "config.json").complaint()
