"""Vivado's reports as data, on samples written by hand (see the first line of each)."""

from __future__ import annotations

from pathlib import Path

import pytest

from seedlm.build import reports
from seedlm.build.parts import PARTS
from seedlm.golden.errors import SeedLMError

SAMPLES = Path(__file__).parent / "reports"


def sample(name: str) -> str:
    return (SAMPLES / f"{name}.rpt").read_text()


def test_samples_say_what_they_are():
    names = sorted(SAMPLES.glob("*.rpt"))
    assert len(names) == 7
    for path in names:
        assert path.read_text().startswith("Written by hand for the tests of this project"), path


def test_utilisation():
    found = reports.utilisation(sample("utilization"))
    assert {name: (r.used, r.available) for name, r in found.items()} == {
        "luts": (12345, 364200), "ffs": (21098, 728400), "dsps": (264, 1260), "ramb36": (40.5, 795),
    }  # fmt: skip
    assert found["dsps"].percent == pytest.approx(100 * 264 / 1260)


def test_estimates_of_synthesis_are_marked_with_an_asterisk():
    text = sample("utilization").replace("| Slice LUTs  ", "| Slice LUTs* ")
    assert reports.utilisation(text)["luts"].used == 12345


def test_hierarchy():
    blocks = reports.hierarchy(sample("utilization_hierarchical"))
    assert [(b.instance, b.depth) for b in blocks] == [
        ("SeedLMAccelerator", 0), ("mac_array", 1), ("lane_0", 2), ("weight_streamer", 1),
    ]  # fmt: skip
    older = sample("utilization_hierarchical").replace(" DSP Blocks ", " DSP48 Blocks ")
    assert reports.hierarchy(older) == blocks
    lane = blocks[2]
    assert (lane.module, lane.luts, lane.ffs, lane.ramb36, lane.ramb18, lane.dsps) == ("lane_0", 562, 937, 0, 0, 16)


def test_timing_that_is_met():
    found = reports.timing(sample("timing_summary"))
    assert found.met
    assert (found.wns_ns, found.tns_ns, found.whs_ns, found.wpws_ns, found.failing) == (0.286, 0.0, 0.021, 1.643, 0)
    assert found.clocks == {"aclk": 4.286}
    assert found.fmax_mhz("aclk") == pytest.approx(250)
    assert found.fmax_mhz("other") is None
    worst = found.worst
    assert (worst.slack_ns, worst.delay_ns, worst.levels, worst.cells) == (0.286, 3.921, 10, "CARRY4=9 LUT2=1")
    assert worst.source == "mac_array/lane_3/shifted_reg[7]/C"
    assert worst.destination == "mac_array/lane_3/accumulator_reg[33]/D"


def test_timing_that_is_not_met():
    found = reports.timing(sample("timing_summary_failed"))
    assert not found.met
    assert (found.wns_ns, found.tns_ns, found.failing) == (-0.333, -13.146, 58)
    assert found.worst.slack_ns == -0.333


def test_no_hold_paths():
    hold = "0.021        0.000                      0                56780"
    text = sample("timing_summary").replace(hold, "NA NA NA NA")
    assert reports.timing(text).whs_ns is None


def test_the_worst_path_may_be_of_any_clock():
    """Sections are in the order of the clocks; unconstrained paths have an infinite slack and the last word."""
    text = sample("timing_summary_failed")
    first = text[text.index("From Clock:") : text.index("Min Delay Paths")]
    better = first.replace("-0.333ns", "0.100ns").replace("VIOLATED", "MET").replace("mac_array", "jtag")
    none = first[first.index("Max Delay Paths") :].replace("Slack (VIOLATED) :        -0.333ns", "Slack:   inf")
    assert "Slack:   inf" in none
    found = reports.timing(text.replace(first, better + "\n" + first + "\n" + none))
    assert (found.worst.slack_ns, found.worst.source) == (-0.333, "mac_array/lane_3/shifted_reg[7]/C")
    assert (found.worst.delay_ns, found.worst.levels) == (4.540, 10)


def test_a_design_without_a_clock():
    text = sample("timing_summary")
    row = next(line for line in text.splitlines() if "56789" in line)
    text = text[: text.index("Max Delay Paths")]
    text = text.replace("All user specified timing constraints are met",
                        "There are no user specified timing constraints")  # fmt: skip
    for values in ("NA  " * 12, "inf 0.000 0 99 inf 0.000 0 99 NA NA NA NA"):
        found = reports.timing(text.replace(row, values, 1))
        assert (found.met, found.constrained, found.wns_ns, found.failing, found.worst) == (False, False, None, 0, None)
    assert reports.timing(sample("timing_summary_failed")).constrained


def test_power_may_come_with_a_remark():
    text = sample("power").replace("| 2.345        |", "| 45.1 (Junction temp exceeded!) |").replace("0.444", "<0.001")
    assert reports.power(text) == {"total_w": 45.1, "dynamic_w": 1.901, "static_w": 0.001}


def test_checks_and_power():
    assert reports.checks(sample("drc")) == {"Error": 0, "Critical Warning": 1, "Warning": 3, "Advisory": 1}
    assert reports.checks(sample("methodology")) == {"Error": 0, "Critical Warning": 0, "Warning": 0, "Advisory": 0}
    assert reports.power(sample("power")) == {"total_w": 2.345, "dynamic_w": 1.901, "static_w": 0.444}


@pytest.mark.parametrize(
    "parse", [reports.utilisation, reports.hierarchy, reports.timing, reports.checks, reports.power]
)
def test_another_text_is_refused(parse):
    for text in ("", "nothing", sample("utilization")[:900]):
        with pytest.raises(SeedLMError):
            parse(text)


def test_a_summary_without_a_verdict_is_refused():
    text = sample("timing_summary").replace("All user specified timing constraints are met.", "")
    with pytest.raises(SeedLMError, match="no verdict"):
        reports.timing(text)


def test_one_table():
    found = reports.utilisation(sample("utilization"))
    assert reports.rows(found) == [
        ("LUTs", "12,345", "364,200", "3.4 %"),
        ("flip-flops", "21,098", "728,400", "2.9 %"),
        ("DSP48E1", "264", "1,260", "21.0 %"),
        ("RAMB36", "40.5", "795", "5.1 %"),
    ]


def test_the_part_tells_what_a_report_does_not():
    found = {name: reports.Resource(r.used, None) for name, r in reports.utilisation(sample("utilization")).items()}
    assert [row[2] for row in reports.rows(found)] == ["?"] * 4
    assert [row[2:] for row in reports.rows(found, PARTS["xc7v585t"])][2] == ("1,260", "21.0 %")


def test_a_folder(tmp_path):
    for name in ("utilization", "timing_summary"):
        (tmp_path / f"{name}.rpt").write_text(sample(name))
    found = reports.read(tmp_path)
    assert found.timing.met
    assert found.power is None
    assert found.as_dict()["resources"]["ramb36"] == {"used": 40.5, "available": 795}
    assert found.unread == ()
    # What is not needed for a verdict does not take it away.
    (tmp_path / "power.rpt").write_text("nothing")
    (tmp_path / "drc.rpt").write_text("nothing")
    found = reports.read(tmp_path)
    assert found.timing.met
    assert (found.power, found.drc) == (None, None)
    assert [Path(line.partition(": ")[0]).name for line in found.unread] == ["drc.rpt", "power.rpt"]
    assert "not a power report" in found.unread[1]
    (tmp_path / "timing_summary.rpt").write_text("nothing")
    with pytest.raises(SeedLMError, match=r"timing_summary\.rpt: "):
        reports.read(tmp_path)
    (tmp_path / "utilization.rpt").unlink()
    with pytest.raises(SeedLMError, match=r"utilization\.rpt: no such report"):
        reports.read(tmp_path)
