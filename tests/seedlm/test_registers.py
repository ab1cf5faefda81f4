"""`seedlm registers`, and the committed page: all from the one table (what the table says is tested in tests/hdl)."""

from __future__ import annotations

from pathlib import Path

from seedlm.hdl import registers
from tests.seedlm.conftest import Ran

PAGE = Path(__file__).resolve().parents[2] / "docs" / "registers.md"


def test_the_page_of_the_documentation_is_up_to_date():
    assert PAGE.read_text() == registers.markdown(), f"seedlm registers --format markdown --out {PAGE.name} writes it"


def test_standard_output():
    for name, text in (("c", registers.c_header()), ("markdown", registers.markdown())):
        ran = Ran(("registers", "--format", name))
        assert (ran.code, ran.out, ran.err) == (0, text, "")
    assert Ran(("registers",)).out == registers.c_header()


def test_a_file(tmp_path):
    out = tmp_path / "seedlm_registers.h"
    assert Ran(("registers", "--out", out, "--json")).report()["changed"]
    assert out.read_text() == registers.c_header()
    before = out.stat().st_mtime_ns
    assert not Ran(("registers", "--out", out, "--json")).report()["changed"]
    assert out.stat().st_mtime_ns == before
    out.write_text("old")
    assert Ran(("registers", "--out", out, "--json")).report()["changed"]
    assert out.read_text() == registers.c_header()
    assert str(tmp_path / "no" / "x.h") in Ran(("registers", "--out", tmp_path / "no" / "x.h")).complaint()


def test_json():
    report = Ran(("registers", "--json")).report()
    found = {r["name"]: r for r in report["registers"]}
    assert list(found) == [r.name for r in registers.REGISTERS]
    for r in registers.REGISTERS:
        entry = found[r.name]
        assert (entry["offset"], entry["access"], entry["reset"]) == (r.offset, r.access.value, r.reset)
        fields = [(f["name"], f["lsb"], f["width"]) for f in entry["fields"]]
        assert fields == [(f.name, f.lsb, f.width) for f in r.fields]
    assert report["error_codes"] == {code.name: int(code) for code in registers.ErrorCode}
