"""bench-encoder: every engine with its figures, and a search that differs is found."""

from importlib.util import find_spec

import pytest

from seedlm.bench_encoder import measure
from seedlm.console import Console
from seedlm.golden.codecs import codec
from seedlm.golden.errors import SeedLMError

ENGINES = {"numpy", "numba"} if find_spec("numba") else {"numpy"}


def test_rows_and_figures(seedlm):
    report = seedlm(
        "bench-encoder", "--codec", "c8p3k8b4", "--codec", "c8p4k8b0r", "--blocks", 64, "--rounds", 2, "--json"
    ).report()
    for name in ("c8p3k8b4", "c8p4k8b0r"):
        rows = {(r["engine"], r["encoder"]): r for r in report["rows"] if r["codec"] == name}
        expected = {(engine, encoder) for engine in ENGINES for encoder in ("paper", "optimal")}
        assert set(rows) == expected | {("plain", "paper")}
        plain = rows["plain", "paper"]
        assert plain["speedup"] == 1
        for row in rows.values():
            assert row["blocks_per_second"] == pytest.approx(1e6 / row["microseconds_per_block"])
            assert row["speedup"] == pytest.approx(plain["microseconds_per_block"] / row["microseconds_per_block"])
            assert 0 < row["rel_error"] < 0.6
        assert rows["numpy", "optimal"]["rel_error"] < rows["numpy", "paper"]["rel_error"]


def test_engines_that_differ_are_found(monkeypatch):
    from seedlm.encoder.seed.numpy_engine import NumpyEngine

    right = NumpyEngine.run

    def wrong(self, problem, best=None):
        out = right(self, problem, best)
        out.q[0, 0] ^= 1
        return out

    monkeypatch.setattr(NumpyEngine, "run", wrong)
    with pytest.raises(SeedLMError, match="differ"):
        measure(codec("c8p3k8b4"), 16, 1, 1, Console(quiet=True))


def test_fp16_has_nothing_to_time(seedlm):
    assert "fp16 has no seeds" in seedlm("bench-encoder", "--codec", "fp16").complaint()
