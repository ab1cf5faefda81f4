"""Area and logic depth against the baselines in the repository, and what every DSP48E1 must be."""

from __future__ import annotations

import re

import pytest

from seedlm.build import baselines, synthesis
from seedlm.build.baselines import NAMES, TOLERANCE, differences, load
from seedlm.build.estimate import CANNOT_KNOW, estimate
from seedlm.golden.build import Config
from seedlm.golden.codecs import codec
from seedlm.golden.errors import SeedLMError
from tests.seedlm.conftest import Ran

FAST = ("lane:seedlm4", "lane:seedlm4r")  # about 15 s of processor time each, also for the netlist's simulation
names = [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]

# What one channel of 16 lanes may cost.
LIMITS = {"luts": 18_000, "ffs": 24_000, "dsps": 264, "ramb36": 64, "levels": 6, "carry_bits": 48}
WIDE = {"luts": 21_000, "ffs": 32_000}  # of 16 columns a step

# What is not yet as it should be in lanes that multiply a step's sum with its group's scale; this only ever shrinks.
DSP_FAULTS = {
    "lane:int4g128": ["top: B is fed by CARRY4, not by a register"],
    "lane:q8_0": ["top: PREG is 0"],
}


def config(name):
    return Config(codec=codec(name.split(":")[1]))


@pytest.mark.parametrize("name", names)
def test_against_the_baseline(name):
    """No more and no less than before; `python -m seedlm.build.baselines NAME` accepts a change."""
    expected = load()
    assert expected["yosys"] == synthesis.version(), "the baselines are of another Yosys: write them anew"
    assert differences(baselines.figures(name), expected["figures"][name]) == []


@pytest.mark.parametrize("name", ["all:seedlm4", "all:seedlm4r", "all:trellis4", "all:trellis2"])
def test_the_baseline_is_within_the_limits(name):
    found = load()["figures"][name]
    limits = LIMITS | (WIDE if config(name).codec.step_columns == 16 else {})
    assert {key: found[key] for key, limit in limits.items() if found[key] > limit} == {}


def test_baselines_are_complete():
    figures = load()["figures"]
    assert tuple(figures) == NAMES
    assert all(set(values) == {*LIMITS, "chains"} for values in figures.values())
    assert set(TOLERANCE) < set(LIMITS)


def test_differences():
    before = {"luts": 1000, "levels": 4}
    assert differences({"luts": 1030, "levels": 4}, before) == []
    assert differences({"luts": 970, "levels": 4}, before) == []
    assert differences({"luts": 1031, "levels": 5}, before) == ["luts: 1031, more than 1000", "levels: 5, more than 4"]
    assert differences({"luts": 969, "levels": 3}, before) == ["luts: 969, less than 1000", "levels: 3, less than 4"]


LANES = [n for n in NAMES if n.startswith("lane")]


@pytest.mark.parametrize("name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in LANES])
def test_the_registers_of_a_lane_are_in_its_dsps(name):
    kind = codec(name.split(":")[1])
    columns = kind.step_columns
    dsps = estimate("lane", config(name)).dsps
    assert len(dsps) == load()["figures"][name]["dsps"]
    # A product for every column, and what makes its weight; and the sum of a step times its group's scale.
    scaling = len(dsps) % columns
    assert (scaling > 0) == (kind.factor_max > 1)
    for dsp in dsps:
        assert min(dsp.registers.values()) >= 1 or name in DSP_FAULTS, dsp.faults
        assert {"AREG", "BREG", "MREG", "PREG"} <= set(dsp.registers)
    assert sum("CREG" in dsp.registers for dsp in dsps) == len(dsps) - columns - scaling


@pytest.mark.parametrize("name", names)
def test_nothing_but_registers_feeds_a_dsp(name):
    faults = estimate(name.split(":")[0], config(name)).dsp_faults
    assert [re.sub(r"line \d+: ", "", fault) for fault in faults] == DSP_FAULTS.get(name, [])


def test_the_command():
    ran = Ran(("estimate", "--module", "lane"))
    assert ran.code == 0, ran
    expected = estimate("lane", Config())
    assert f"{expected.total.luts:,}" in ran.out
    assert CANNOT_KNOW in ran.out
    assert "xc7v585t" in ran.out
    report = Ran(("estimate", "--module", "lane", "--json", "--part", "xc7vx485tffg1761-2")).report()
    assert report["total"] == {"luts": expected.total.luts, "ffs": expected.total.ffs, "dsps": 8, "ramb36": 0}
    assert report["deepest"]["depth"]["luts"] == expected.deepest.depth.luts
    assert report["capacity"]["dsps"] == 2800
    assert report["estimate"] == CANNOT_KNOW


def test_what_cannot_be():
    assert "lanes must be 1 to 64, not 65" in Ran(("estimate", "--lanes", "65")).complaint()
    assert "not a 7-series part: 'xcku040'" in Ran(("estimate", "--part", "xcku040")).complaint()


def test_verilog_that_yosys_refuses(tmp_path, monkeypatch):
    monkeypatch.setenv("SEEDLM_CACHE", str(tmp_path))
    with pytest.raises(SeedLMError, match=r"Yosys failed on top: .*ERROR: .*syntax error"):
        synthesis.synthesise("module top(; endmodule\n", "top")
    assert list((tmp_path / "synthesis").glob("top*")) == []
    monkeypatch.setattr(synthesis, "_PACKAGE", "no-such-yosys")
    with pytest.raises(SeedLMError, match="Yosys is missing: pip install"):
        synthesis.synthesise("module top; endmodule\n", "top")


def test_units():
    tree = {"top": ["a", "mac"], "a": ["inside"], "inside": [], "mac": ["lane12"], "lane12": ["inside"], "other": ["b"]}
    text = "".join(
        f"module {name}(x);\n" + "".join(f"  {part} {part} (\n  );\n" for part in parts) + "endmodule\n"
        for name, parts in tree.items()
    )
    assert synthesis.units(text, "top") == ["a", "mac", "lane12"]
