"""sweep: the design space, its figures, the yardstick, the picture."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from seedlm.encoder import compress_matrix, relative_error
from seedlm.encoder.block_float import block_float
from seedlm.golden.codecs import codec
from seedlm.golden.files.tensors import TensorFile
from seedlm.sweep import designs, mark_frontier

SMALL = ["--registers", 8, 9, "--blocks", 64]


def test_designs_are_the_whole_space():
    found = designs([3, 4], 8, 20)
    names = {c.name for c in found}
    assert len(names) == len(found)
    presets = [codec(name) for name in ("seedlm4", "seedlm3", "seedlm4r", "seedlm3r")]
    space = {(c.C, c.P, c.K, c.B, c.row_scales) for c in found}
    assert {(c.C, c.P, c.K, c.B, c.row_scales) for c in presets} <= space
    assert all(c.word_bits in (3 * c.C, 4 * c.C) and 8 <= c.K <= 20 for c in found)
    assert {(8, 5, 12, 0, True), (8, 6, 8, 0, True), (8, 3, 20, 0, True), (12, 4, 20, 0, True)} <= space
    assert [c for c in found if c.K <= 9] == designs([3, 4], 8, 9)


def test_frontier():
    points = [(4, 0.10), (4, 0.09), (3, 0.20), (3.5, 0.21), (4.5, 0.09), (5, 0.08)]
    rows = [{"bits_per_weight": b, "rel_error": e} for b, e in points]
    mark_frontier(rows)
    assert [r["frontier"] for r in rows] == [False, True, True, False, False, True]


def test_gaussian(seedlm):
    report = seedlm("sweep", *SMALL, "--json").report()
    rows = {r["codec"]: r for r in report["rows"]}
    floats = {"block float 3", "block float 4"}
    assert set(rows) == {c.name for c in designs([3, 4], 8, 9)} | floats
    for name in set(rows) - floats:
        row = rows[name]
        expected = codec(name).word_bits / row["C"] + (32 / 4096 if row["row_scales"] else 0)
        assert row["bits_per_weight"] == pytest.approx(expected, abs=0.01)  # a row is whole bytes and blocks
        assert 0.05 < row["rel_error"] < 0.5
    assert rows["block float 4"]["bits_per_weight"] == 4.125
    assert 0.09 < rows["block float 4"]["rel_error"] < 0.105
    assert 0.18 < rows["block float 3"]["rel_error"] < 0.22
    assert rows["c8p6k8b0r"]["rel_error"] < rows["c8p5k8b4"]["rel_error"], "row scales are worth it"


@pytest.mark.slow
def test_tensors_of_a_model(seedlm, source):
    report = seedlm(
        "sweep", "--codec", "c8p3k8b4", "--codec", "c8p4k8b0r", "--model", source, "--tensor", "*e.weight",
        "--tensor", "half*", "--json",
    ).report()  # fmt: skip
    rows = {(r["weights"], r["codec"]): r for r in report["rows"]}
    assert {name for name, _ in rows} == {"half.weight", "single.weight"}
    for name in ("half.weight", "single.weight"):
        w = TensorFile(source).array(name).astype("f4")
        for kind in ("c8p3k8b4", "c8p4k8b0r"):
            packed = compress_matrix(w, codec(kind))
            assert rows[name, kind]["rel_error"] == relative_error(w, packed)
            assert rows[name, kind]["bits_per_weight"] == packed.stored_bits / w.size
        rest = w - block_float(w, 3)
        assert rows[name, "block float 3"]["rel_error"] == pytest.approx(((rest**2).sum() / (w**2.0).sum()) ** 0.5)
    assert len({r["weights"] for r in seedlm("sweep", *SMALL, "--model", source, "--json").report()["rows"]}) == 3


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="matplotlib is not installed")
@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_picture(seedlm, tmp_path, suffix):
    pictures = [tmp_path / f"{name}.{suffix}" for name in "ab"]
    for picture in pictures:
        ran = seedlm("sweep", "--codec", "c8p3k8b4", "--codec", "c8p4k8b0r", "--blocks", 8, "--picture", picture)
        assert ran.code == 0, ran
        assert str(picture) in ran.out
        assert "*" in ran.out
    data = pictures[0].read_bytes()
    assert data.startswith(b"\x89PNG" if suffix == "png" else b"<?xml")
    assert data == pictures[1].read_bytes()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--registers", 25, 30], "no codec has 3 or 4 bits"),
        (["--codec", "fp16"], "fp16"),
        (["--tensor", "*"], "needs --model"),
        (["--picture", "a.jpeg"], "expected a name that ends with"),
    ],
)
def test_wrong_options(seedlm, flags, message):
    assert message in seedlm("sweep", *flags).complaint()
