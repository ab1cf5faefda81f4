"""seedlm sim: figures that must agree with each other, the result, and what happens when the RTL is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import seedlm.simulate
from seedlm.cli import main
from seedlm.golden.build import Config
from seedlm.golden.codecs import codec
from seedlm.golden.files.packed import write_packed
from seedlm.golden.matrix import PackedMatrix
from seedlm.golden.product import product
from seedlm.hdl.registers import COUNTERS, ErrorCode
from seedlm.sim.measure import Measurement
from seedlm.sim.memories import MEMORIES
from tests.seedlm.conftest import SEED

ROWS, COLS = 37, 200  # neither a multiple of the lanes nor of a beat of activations


@pytest.fixture(scope="module")
def matrix() -> PackedMatrix:
    return PackedMatrix.random(codec("seedlm4"), ROWS, COLS, np.random.default_rng(SEED))


@pytest.fixture(scope="module")
def file(matrix, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("sim") / "packed.safetensors"
    write_packed(path, {"w": matrix})
    return path


@pytest.mark.parametrize("memory", ["ddr3", "ideal"])
def test_a_product_equals_the_reference(seedlm, matrix, file, tmp_path, memory):
    x = np.random.default_rng(SEED + 1).standard_normal(COLS).astype(np.float16)
    np.save(tmp_path / "x.npy", x)
    report = seedlm(
        "sim", file, "--tensor", "w", "--x", tmp_path / "x.npy", "--out", tmp_path / "y.npy", "--scale", "0.3",
        "--memory", memory, "--json",
    ).report()  # fmt: skip
    y = np.load(tmp_path / "y.npy")
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y.view(np.uint32), product(matrix, x, 0.3).view(np.uint32))
    assert report["status"] == "ok"
    assert (report["outputs_equal"], report["outputs_total"]) == (ROWS, ROWS)
    assert (report["tensor"], report["codec"], report["memory"]) == ("w", "seedlm4", memory)
    assert (report["rows"], report["cols"]) == (ROWS, COLS)
    # 3 row groups of 25 blocks, a beat each; 200 halves; 37 results
    assert report["beats"] == {"weight": 75, "activation": 7, "scale": 0, "result": 3}
    assert report["data_beats"] == 85
    assert report["bytes"] == 85 * 64
    assert report["efficiency"] == pytest.approx(85 / report["cycles"])
    # every cycle is a step or has a cause
    assert sum(report["stalls"].values()) + 75 == report["cycles"]
    assert report["microseconds"] == pytest.approx(report["cycles"] / 200)
    assert report["cycles"] < report["simulated_cycles"]
    assert report["cycles_per_second"] > 0


def test_text(seedlm, file):
    ran = seedlm("sim", file, "--tensor", "w")
    assert ran.code == 0
    assert ran.err == ""
    assert ran.out.splitlines()[-1] == f"{ROWS}/{ROWS} outputs equal to the reference"
    for word in ("cycles", "data beats", "stalled: writing", "share of the memory's peak", "at 200 MHz", "per second"):
        assert word in ran.out


def test_activations_that_are_not_finite(seedlm, file, tmp_path):
    x = np.zeros(COLS, np.float16)
    x[-1] = -np.inf
    np.save(tmp_path / "x.npy", x)
    report = seedlm(
        "sim", file, "--tensor", "w", "--x", tmp_path / "x.npy", "--out", tmp_path / "y.npy", "--json"
    ).report()
    assert report["status"] == "nonfinite"
    assert report["outputs_equal"] == ROWS
    assert (np.load(tmp_path / "y.npy").view(np.uint32) == 0x7FC00000).all()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--tensor", "nope"], "'nope'"),
        (["--tensor", "w", "--x", "X"], f"{COLS} elements"),
        (["--tensor", "w", "--x", "missing.npy"], "missing.npy: cannot read"),
        (["--tensor", "w", "--out", "nowhere/y.npy"], "nowhere/y.npy: cannot write"),
        (["--tensor", "w", "--wave", "nowhere/w.fst"], "nowhere/w.fst: cannot write"),
        (["--tensor", "w", "--scale", "1e39"], "finite binary32"),
    ],
)
def test_errors_come_before_the_simulation(seedlm, file, tmp_path, flags, message):
    np.save(tmp_path / "x.npy", np.zeros(COLS + 1, np.float16))
    flags = [str(tmp_path / "x.npy") if f == "X" else f for f in flags]
    # an empty cache: a simulation would have to be compiled there first
    ran = seedlm("sim", file, *flags, SEEDLM_CACHE=str(tmp_path / "cache"))
    assert message in ran.complaint()
    assert not (tmp_path / "cache").exists()


@pytest.fixture
def wrong(monkeypatch):
    """An accelerator whose results have one wrong bit, or one that has failed."""

    def install(**changes: object) -> None:
        def measure(matrix, x, scale, *, memory, wave, console):
            y = product(matrix, x, scale)
            y.view(np.uint32)[5] ^= 1
            values = {"codes": (ErrorCode.NONE,), "counters": dict.fromkeys(COUNTERS, 7)} | changes
            y = values.pop("y", y)
            return Measurement(
                config=Config(), memory=MEMORIES[memory], shapes=(matrix.shape,), simulated=100, seconds=0.1, **values
            ), y

        monkeypatch.setattr(seedlm.simulate, "measure", measure)

    return install


def test_one_wrong_bit_is_an_error(wrong, file, capsys):
    wrong()
    assert main(["sim", str(file), "--tensor", "w", "--json"]) == 1
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert report["status"] == "different"
    assert report["outputs_equal"] == ROWS - 1
    assert err == f"seedlm: error: w: 1 of {ROWS} outputs differ; the product ended as different\n"
    assert main(["sim", str(file), "--tensor", "w"]) == 1
    assert f"{ROWS - 1}/{ROWS} outputs equal" in capsys.readouterr().out


def test_an_error_code_is_an_error(wrong, file, matrix, capsys):
    x = np.random.default_rng(0).standard_normal(COLS).astype(np.float16)
    wrong(codes=(ErrorCode.READ_WEIGHTS,), y=product(matrix, x))
    assert main(["sim", str(file), "--tensor", "w", "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["status"] == "read_weights"
    assert err.count("\n") == 1


@pytest.mark.slow
def test_waves(seedlm, file, tmp_path):
    report = seedlm("sim", file, "--tensor", "w", "--wave", tmp_path / "run.fst", "--json").report()
    assert report["status"] == "ok"
    assert [p.name for p in tmp_path.iterdir()] == ["run.fst"]
    assert (tmp_path / "run.fst").stat().st_size > 10_000
