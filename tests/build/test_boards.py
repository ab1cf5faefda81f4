"""Boards as data, and the memory controller's description made from them."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from seedlm.build.boards import BOARDS, FILL_IN, board, board_for_part
from seedlm.build.boards.vc707 import VC707
from seedlm.build.boards.xc7v585t import Xc7v585tTemplate
from seedlm.build.mig import project
from seedlm.build.parts import PARTS, part
from seedlm.golden.errors import SeedLMError

PIN = re.compile(r"[A-Z]{1,2}\d{1,2}")


def controller(chosen) -> ET.Element:
    return ET.fromstring(project(chosen, "system_mig_0")).find("Controller")


def all_pins(chosen) -> list[str]:
    return [
        pin
        for resource in chosen.resources
        for pins, _, _ in chosen.pins(resource.name, resource.number).values()
        for pin in pins
    ]


def test_parts():
    paper = part("XC7V585TFFG1761-3")
    assert (paper.device, paper.package, paper.speed) == ("xc7v585t", "ffg1761", "3")
    assert (paper.name, paper.mig_name) == ("xc7v585tffg1761-3", "xc7v585t-ffg1761/-3")
    assert paper.capacity == PARTS["xc7v585t"]
    assert part("xc7vx485tffg1761-2").capacity.dsps == 2800
    assert part("xc7s50csga324-1").capacity is None
    low = part("XC7K325TFFG900-2l")  # Vivado tells capitals from small letters
    assert (low.name, low.mig_name) == ("xc7k325tffg900-2L", "xc7k325t-ffg900/-2L")
    for name in ("", "xc7v585t", "xc7v585tffg1761", "xcvu9p-flga2104-2-i", "xc7v585tffg1761-3;exit"):
        with pytest.raises(SeedLMError, match="not a 7-series part"):
            part(name)


@pytest.mark.parametrize("name", BOARDS)
def test_every_board_is_a_platform_with_pins_of_its_own(name):
    chosen = board(name)
    chosen()  # Amaranth checks device, resources and connectors
    pins = all_pins(chosen)
    assert len(pins) == len(set(pins))
    sizes = {signal: len(found) for signal, (found, _, _) in chosen.pins("ddr3").items()}
    assert (sizes["dq"], sizes["dm"], sizes["dqs_p"], sizes["dqs_n"], sizes["ba"]) == (64, 8, 8, 8, 3)


def test_the_vc707_is_complete():
    assert VC707.to_fill_in() == []
    assert VC707.part().name == "xc7vx485tffg1761-2"
    assert all(PIN.fullmatch(pin) for pin in all_pins(VC707))
    assert VC707.ddr3.bytes == 1 << 30
    assert VC707.ddr3.user_period_ns == 5.0


def test_nothing_is_invented_for_the_template():
    pins = all_pins(Xc7v585tTemplate)
    assert all(pin.startswith(FILL_IN) for pin in pins)
    missing = Xc7v585tTemplate.to_fill_in()
    assert len([name for name in missing if name.startswith("pin ")]) == len(pins)
    assert {"ddr3.device", "ddr3.row_bits", "ddr3.timing.trfc", "configuration.CFGBVS"} <= set(missing)
    assert Xc7v585tTemplate.part().name == "xc7v585tffg1761-3"
    assert Xc7v585tTemplate.ddr3.bytes is None


def test_description_of_the_vc707_memory():
    found = controller(VC707)
    expected = {
        "MemoryDevice": "DDR3_SDRAM/SODIMMs/MT8JTF12864HZ-1G6", "TimePeriod": "1250", "PHYRatio": "4:1",
        "InputClkFreq": "200", "DataWidth": "64", "RowAddress": "14", "ColAddress": "10", "BankAddress": "3",
        "C0_MEM_SIZE": "1073741824", "UserMemoryAddressMap": "ROW_BANK_COLUMN", "PortInterface": "AXI",
        "AXIParameters/C0_S_AXI_DATA_WIDTH": "512", "AXIParameters/C0_S_AXI_ADDR_WIDTH": "30",
        "AXIParameters/C0_S_AXI_SUPPORTS_NARROW_BURST": "0",
    }  # fmt: skip
    assert {name: found.find(name).text for name in expected} == expected
    root = ET.fromstring(project(VC707, "system_mig_0"))
    assert root.find("TargetFPGA").text == "xc7vx485t-ffg1761/-2"
    assert root.find("SysResetPolarity").text == "ACTIVE HIGH"
    assert root.find("ModuleName").text == "system_mig_0"
    assert found.find("System_Clock/Pin").attrib["PADName"] == "E19/E18(CC_P/N)"


def test_pins_of_the_vc707_memory():
    found = {pin.attrib["name"]: pin.attrib for pin in controller(VC707).findall("PinSelection/Pin")}
    # 14 address, 3 bank, 64 data, 8 mask, 16 strobe, 2 clock; cas, ras, we, cs, cke, odt, reset.
    assert len(found) == 14 + 3 + 64 + 8 + 16 + 2 + 7
    # One of each kind, from the public files that vc707.py names.
    for name, pad, standard in (
        ("ddr3_addr[13]", "A21", "SSTL15"), ("ddr3_ba[1]", "C21", "SSTL15"), ("ddr3_dq[0]", "N14", "SSTL15_T_DCI"),
        ("ddr3_dq[32]", "A24", "SSTL15_T_DCI"), ("ddr3_dq[63]", "D30", "SSTL15_T_DCI"),
        ("ddr3_dqs_p[7]", "E27", "DIFF_SSTL15_T_DCI"), ("ddr3_dqs_n[4]", "A27", "DIFF_SSTL15_T_DCI"),
        ("ddr3_dm[6]", "C31", "SSTL15"), ("ddr3_ck_p[0]", "H19", "DIFF_SSTL15"), ("ddr3_cke[0]", "K19", "SSTL15"),
        ("ddr3_cs_n[0]", "J17", "SSTL15"), ("ddr3_ras_n", "E20", "SSTL15"), ("ddr3_cas_n", "K17", "SSTL15"),
        ("ddr3_we_n", "F20", "SSTL15"), ("ddr3_odt[0]", "H20", "SSTL15"), ("ddr3_reset_n", "C29", "LVCMOS15"),
    ):  # fmt: skip
        assert (found[name]["PADName"], found[name]["IOSTANDARD"]) == (pad, standard), name


def test_blanks_stay_visible():
    text = project(Xc7v585tTemplate, "system_mig_0")
    assert "xc7v585t-ffg1761/-3" in text
    assert "<TimePeriod>1071</TimePeriod>" in text
    assert text.count(FILL_IN) > 120


def test_choosing_a_board(tmp_path):
    assert board("vc707") is VC707
    assert board_for_part("xc7v585tffg1761-3") is Xc7v585tTemplate
    for call, argument, message in (
        (board, "zc702", "no board 'zc702': expected vc707"),
        (board, str(tmp_path / "mine.py"), "no such file"),
        (board_for_part, "xc7k325tffg900-2", "no board with the part"),
    ):
        with pytest.raises(SeedLMError, match=message):
            call(argument)


def test_a_board_of_ones_own(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("from seedlm.build.boards.vc707 import VC707\nclass Mine(VC707):\n    title = 'mine'\n")
    assert board(str(path)).title == "mine"
    path.write_text("from seedlm.build.boards.vc707 import VC707\n")
    with pytest.raises(SeedLMError, match="one class derived from"):
        board(str(path))
    path.write_text("class\n")
    with pytest.raises(SeedLMError, match="cannot be loaded: SyntaxError"):
        board(str(path))
