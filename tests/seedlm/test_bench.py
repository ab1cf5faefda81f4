"""seedlm bench: rows, speed-ups, targets, tables and pictures; the measurements on a small accelerator."""

from __future__ import annotations

import json

import pytest

import seedlm.bench
from seedlm.cli import main
from seedlm.sim.pictures import draw
from seedlm.sim.report import add_speedups, check_targets, markdown

SMALL = {"lanes": 4, "bus_bits": 128, "max_cols": 2048, "burst_beats": 32, "queue_depth": 16}


def row(rows=4096, cols=4096, codec="seedlm4", memory="ideal", cycles=1000, efficiency=0.99, products=1):
    return {
        "rows": rows, "cols": cols, "codec": codec, "memory": memory, "products": products, "cycles": cycles,
        "data_beats": 990, "efficiency": efficiency, "relative_efficiency": 0.995, "speedup_vs_fp16": None,
        "where": {"streaming": 980, "wait_memory": 5, "load_activations": 4, "draining": 5, "writing": 4, "control": 2},
        "microseconds": 5.0, "gigabytes_per_second": 12.7, "outputs_checked": 4096, "outputs_equal": 4096,
    }  # fmt: skip


def test_speedups_are_over_the_same_shape_and_memory():
    rows = [row(), row(codec="fp16", cycles=3990), row(codec="fp16", cycles=9000, memory="ddr3"), row(rows=8192)]
    add_speedups(rows)
    assert [r["speedup_vs_fp16"] for r in rows] == [3.99, 1, 1, None]


def test_targets():
    rows = [row(efficiency=0.9951), row(codec="fp16", cycles=3979, efficiency=0.9949)]
    add_speedups(rows)
    targets = {v["what"]: v for v in check_targets(rows)}
    assert len(targets) == 2
    speed = targets["speed-up of seedlm4, 4096x4096, ideal"]
    assert (speed["measured"], speed["met"]) == (3.979, False)
    # the worst of both
    efficiency = targets["efficiency, 4096x4096 and larger, all codecs, ideal"]
    assert (efficiency["measured"], efficiency["rows"], efficiency["met"]) == (0.9949, 2, False)
    rows[1] |= {"cycles": 3981, "efficiency": 0.9950}
    add_speedups(rows)
    assert all(v["met"] for v in check_targets(rows))
    queued = check_targets([row(512, 192, products=10, efficiency=0.949)])
    assert [v["met"] for v in queued] == [False]


@pytest.fixture
def small(monkeypatch, tmp_path):
    """The command on a small accelerator, with seedlm4 for the baseline (one build less); returns the directory."""
    monkeypatch.setattr(seedlm.bench, "OPTIONS", SMALL)
    monkeypatch.setattr(seedlm.bench, "COMPARED", "seedlm4")
    monkeypatch.setattr("seedlm.sim.report.COMPARED", "seedlm4")
    return tmp_path / "new" / "bench"


def test_run(small, capsys):
    arguments = ["bench", "--shape", "24x64", "--shape", "9x40", "--codec", "int8", "--out", str(small)]
    assert main([*arguments, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert json.loads((small / "bench.json").read_text()) == report
    assert report["command"] == "seedlm bench --shape 24x64 --shape 9x40 --codec int8"
    assert (report["status"], report["source"]) == ("ok", "simulation")
    rows = report["rows"]
    assert [(r["rows"], r["cols"], r["memory"], r["codec"]) for r in rows] == [
        (*shape, memory, codec)
        for shape in ((24, 64), (9, 40)) for memory in ("ideal", "ddr3") for codec in ("seedlm4", "int8")
    ]  # fmt: skip
    for r in rows:
        assert r["outputs_checked"] == r["outputs_equal"] == r["rows"]
        assert r["efficiency"] == pytest.approx(r["data_beats"] / r["cycles"])
        assert r["relative_efficiency"] > r["efficiency"]
        assert sum(r["where"].values()) == r["cycles"]
    for base, other in zip(rows[::2], rows[1::2], strict=True):
        assert base["speedup_vs_fp16"] == 1
        assert other["speedup_vs_fp16"] == base["cycles"] / other["cycles"]
    names = {f"{name}.{kind}" for name in ("speedup", "efficiency", "cycles") for kind in ("png", "svg")}
    assert {path.name for path in small.iterdir()} == names | {"bench.json", "bench.md"}
    page = (small / "bench.md").read_text()
    assert "From simulation" in page
    assert f"| 24x64 | ideal | seedlm4 | {rows[0]['cycles']:,} |" in page


def test_queued_products(small, capsys, monkeypatch):
    monkeypatch.setattr(seedlm.bench, "QUICK_SHAPES", ((8, 8),))
    monkeypatch.setattr(seedlm.bench, "QUICK_CODECS", ("seedlm4",))
    monkeypatch.setattr(seedlm.bench, "QUEUED_SHAPE", (32, 64))
    speeds = {"what": "cycles per second", "cycles_per_second": {"here": 250_000, "there": 20_000}}
    monkeypatch.setattr("seedlm.sim.speed.speed", lambda seed: speeds)
    assert main(["bench", "--quick", "--memory", "ideal", "--out", str(small)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["32x64", "x", "10"]
    assert lines[-1].endswith("cycles.svg")
    assert "    250,000  here" in lines
    report = json.loads((small / "bench.json").read_text())
    assert report["simulation_speed"] == speeds
    assert "| there | 20,000 |" in (small / "bench.md").read_text()
    (queued,) = report["queued"]
    assert (queued["products"], queued["outputs_equal"]) == (10, 320)
    assert "10 queued products" in (small / "bench.md").read_text()
    # queued at once: far fewer cycles than one after the other
    (single,) = report["rows"]
    assert queued["cycles"] < 10 * single["cycles"]


def test_different_outputs_are_an_error(small, capsys, monkeypatch):
    import seedlm.sim.benchmark

    def wrong(matrix, x, group):
        return -golden(matrix, x, group=group)

    golden = seedlm.sim.benchmark.product
    monkeypatch.setattr(seedlm.sim.benchmark, "product", wrong)
    assert main(["bench", "--shape", "9x40", "--memory", "ideal", "--codec", "seedlm4", "--out", str(small)]) == 1
    assert capsys.readouterr().err == "seedlm: error: outputs differ from the reference\n"
    assert json.loads((small / "bench.json").read_text())["status"] == "different"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--shape", "4096"], "expected ROWSxCOLS"),
        (["--shape", "0x8"], "expected ROWSxCOLS"),
        (["--shape", "8x65536"], "up to 1048576x32768"),
        (["--codec", "seedlm5"], "unknown codec 'seedlm5'"),
        (["--memory", "sram"], "invalid choice: 'sram'"),
    ],
)
def test_usage(flags, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["bench", *flags])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_a_file_in_the_way(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["bench", "--out", str(tmp_path / "file")]) == 1
    assert "file: cannot make this directory" in capsys.readouterr().err


def test_pictures_are_the_same_each_time(tmp_path):
    rows = [row(), row(codec="fp16", cycles=3990), row(codec="c8p4k16b4", cycles=1125)]
    add_speedups(rows)
    files = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        files.append([(n, (tmp_path / name / n).read_bytes()) for n in draw(rows, tmp_path / name)])
    assert files[0] == files[1]
    assert len(files[0]) == 6
    text = dict(files[0])["speedup.svg"].decode()
    assert "limit 4<" in text
    assert "limit 5.33<" in text
    assert "limit 3.56<" in text  # of 4.5 bits


def test_markdown_without_targets():
    report = {"rows": [row()], "queued": [], "targets": [], "command": "seedlm bench", "machine": "m", "date": "d"}
    page = markdown(report)
    assert "## Targets" not in page
    assert "| 4096x4096 | ideal | seedlm4 | 1,000 | 99.00 % | 99.50 % |  | 12.70 | 5.0 | 4,096 of 4,096 |" in page
