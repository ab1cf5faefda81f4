"""seedlm compare: rows from its parts, tables and pictures; nothing is compiled or synthesised."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

import seedlm.compare
from seedlm.build import pages
from seedlm.cli import main
from seedlm.golden.build import Config
from seedlm.golden.codecs import CODECS, codec
from seedlm.sim.measure import product_beats
from seedlm.sim.memories import memory
from seedlm.sim.timing import Products, decode_step
from tests.host.tiny_llama import write_model

CONTEXT = 24
SMALL = {"lanes": 4, "bus_bits": 128, "max_cols": 2048, "burst_beats": 32}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    write_model(path, np.random.default_rng(14), max_position_embeddings=CONTEXT)
    (path / "heldout.txt").write_text("for i in range(3):\n    print(i)\n" * 4)
    return path


@pytest.fixture
def compare(folder, tmp_path, monkeypatch, capsys):
    """Run the verb; (exit code, its report, the folder it wrote)."""
    monkeypatch.setenv("SEEDLM_CACHE", str(tmp_path / "cache"))

    def run(*arguments):
        out = tmp_path / "new" / "out"
        code = main(["compare", str(folder), "--bytes", "48", "--out", str(out), "--json", *arguments])
        return code, json.loads(capsys.readouterr().out), out

    return run


def test_quality_is_what_evaluate_says(compare, folder, capsys):
    code, report, out = compare("--codec", "int8", "--codec", "mxfp4", "--no-sim", "--no-estimate")
    assert (code, report["status"]) == (0, "ok")
    assert json.loads((out / "compare.json").read_text()) == report
    same_codecs = ["--codec", "int8", "--codec", "mxfp4", "--encoder", "optimal"]
    assert main(["evaluate", str(folder), "--bytes", "48", *same_codecs, "--json"]) == 0
    expected = {row["name"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert [row["codec"] for row in report["rows"]] == ["fp16", "int8", "mxfp4"]
    assert report["original_bits_per_byte"] == expected["original"]["bits_per_byte"]
    for row in report["rows"]:
        same = expected[row["codec"]]
        assert row["bits_in_model"] == same["bits_per_weight"]
        for key in ("rel_error", "bits_per_byte", "kl_bits_per_token", "agreement", "encoder"):
            assert row[key] == same[key], key
    assert [row["bits_per_weight"] for row in report["rows"]] == [16, 8, 4.25]
    table = (out / "compare.md").read_text()
    assert "| codec | bits | in model | rel. error | bits/byte | KL |" in table
    assert f"| `mxfp4` | 4.25 | {report['rows'][2]['bits_in_model']:.3f} |" in table
    assert " LUT " not in table
    assert "--codec int8 --codec mxfp4 --bytes 48 --no-sim --no-estimate" in table
    assert (out / "compare.png").read_bytes().startswith(b"\x89PNG")
    picture = (out / "compare.svg").read_text()
    assert ">mxfp4<" in picture
    assert "LUTs of a lane" not in picture


def test_every_part_in_its_row(compare, monkeypatch):
    """The parts that take long, replaced: cycles and areas go to their codecs, and what differs is an error."""
    cycles = {"fp16": 1000, "int8": 520, "mxfp4": 260}
    equal = {"fp16": 64, "int8": 64, "mxfp4": 63}
    seen = []

    def timing(config, shape, where):
        seen.append((config.codec.name, shape, where.name))
        return {"cycles": cycles[config.codec.name], "data_beats": 250, "efficiency": 250 / cycles[config.codec.name],
                "outputs_checked": 64, "outputs_equal": equal[config.codec.name]}  # fmt: skip

    def estimate(module, config):
        assert module == "lane"
        return SimpleNamespace(
            total=SimpleNamespace(luts=100 + config.codec.word_bits, ffs=7.5, dsps=config.codec.group)
        )

    monkeypatch.setattr(type(CODECS["mxfp4"]), "established", False)
    monkeypatch.setattr(seedlm.compare, "timing", timing)
    monkeypatch.setattr("seedlm.build.estimate.estimate", estimate)
    code, report, out = compare("--codec", "int8", "--codec", "mxfp4", "--shape", "64x96", "--memory", "ideal")
    assert (code, report["status"]) == (1, "different")
    assert seen == [(name, (64, 96), "ideal") for name in cycles]
    assert [row["speedup_vs_fp16"] for row in report["rows"]] == [1, 1000 / 520, 1000 / 260]
    assert [(row["luts"], row["ffs"], row["dsps"]) for row in report["rows"]] == [
        (132, 7.5, 8),
        (132, 7.5, 8),
        (132, 7.5, 16),
    ]
    assert [row["established"] for row in report["rows"]] == [True, True, False]
    table = (out / "compare.md").read_text()
    assert "| 520 | 48.08 % | 1.923 | 132 | 7.5 | 8 | 4 |" in table
    assert "--shape 64x96 --memory ideal" in table
    assert "LUTs of a lane" in (out / "compare.svg").read_text()


def test_a_timing_is_measured_once(tmp_path, monkeypatch):
    monkeypatch.setenv("SEEDLM_CACHE", str(tmp_path))
    runs = []

    class Device:
        def __init__(self, config, memory):
            runs.append((config.codec.name, memory.name))

        __enter__ = lambda self: self  # noqa: E731
        __exit__ = lambda *_: None  # noqa: E731

    figures = {"cycles": 9, "data_beats": 8, "efficiency": 8 / 9, "outputs_equal": 3, "more": 0}
    monkeypatch.setattr("seedlm.build.verilog.accelerator_verilog", str)
    monkeypatch.setattr("seedlm.sim.accelerator.Accelerator", Device)
    monkeypatch.setattr("seedlm.sim.benchmark.measure", lambda device, rows, cols, seed: SimpleNamespace(
        figures=lambda: figures | {"cycles": rows}, checked=4))  # fmt: skip
    config = Config(codec=codec("mx4"))
    found = [seedlm.compare.timing(config, shape, memory("ideal")) for shape in ((5, 6), (5, 6), (7, 6))]
    assert runs == [("mx4", "ideal")] * 2
    assert [f["cycles"] for f in found] == [5, 5, 7]
    assert found[0] == {"cycles": 5, "data_beats": 8, "efficiency": 8 / 9, "outputs_checked": 4, "outputs_equal": 3}


@pytest.mark.slow
@pytest.mark.parametrize("name", CODECS)
def test_every_codec_is_timed(name):
    """On a small accelerator of its own, also with nothing in its memory, as seedlm project has it."""
    config, ideal, shape = Config(codec=codec(name), **SMALL), memory("ideal"), (9, 200)
    found = seedlm.compare.timing(config, shape, ideal)
    assert found["outputs_equal"] == found["outputs_checked"] == 9
    assert found["data_beats"] == product_beats(config, *shape)
    step = decode_step([Products("alone", (9,), 200)], config, ideal)
    assert step.data_beats == found["data_beats"]
    assert abs(step.cycles - found["cycles"]) <= 32  # regions lie elsewhere


def test_refused(folder, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["compare", str(folder), "--shape", "12"])
    assert "expected ROWSxCOLS such as 4096x4096, not '12'" in capsys.readouterr().err
    assert main(["compare", str(folder), "--codec", "mxfp8e5m2", "--no-sim", "--out", str(tmp_path / "out")]) == 1
    assert "a weight of codec mxfp8e5m2 has 33 bits" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []
    (tmp_path / "file").write_text("")
    assert main(["compare", str(folder), "--out", str(tmp_path / "file" / "out")]) == 1
    assert "cannot make this directory" in capsys.readouterr().err


def test_the_page_has_every_codec():
    """What is published: all presets, outputs equal, and every figure there."""
    report = json.loads((pages.ROOT / "docs" / "comparison" / "compare.json").read_text(encoding="utf-8"))
    names = [row["codec"] for row in report["rows"]]
    assert names[0] == "fp16"
    assert sorted(names) == sorted(CODECS)
    assert all(row["outputs_equal"] == row["outputs_checked"] > 0 for row in report["rows"])
    assert all(key in row for row in report["rows"] for _, key, _ in pages.COMPARED)
    text = " ".join((pages.ROOT / "docs" / "formats-compared.md").read_text(encoding="utf-8").split())
    assert report["command"] in text
    assert report["date"] in text
