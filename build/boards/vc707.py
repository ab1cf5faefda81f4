"""Xilinx VC707: the board with the most public designs."""

from __future__ import annotations

from typing import ClassVar

from amaranth.build import Attrs, Clock, DiffPairs, Pins, Resource
from amaranth_boards.resources import DDR3Resource, LEDResources

from seedlm.build.boards._base import Board, Ddr3

__all__ = ["BOARD", "VC707"]


class VC707(Board):
    """Xilinx VC707 evaluation board with the 1 GB DDR3-1600 SODIMM it is sold with."""

    title = "Xilinx VC707 (XC7VX485T, 1 GB DDR3-1600 SODIMM)"
    sources = """\
User guide UG885. The 64-bit memory pins are those that these public designs agree on: vivado-risc-v
(board/vc707/DDR3-1Rx64-1GB.prj, top.xdc) and SatCat5 (vc707_ptp block design); clock, reset and LEDs also
LiteX-Boards (litex_boards/platforms/xilinx_vc707.py), which uses the lower 32 bits of the memory."""
    device = "xc7vx485t"
    package = "ffg1761"
    speed = "2"
    configuration: ClassVar = {"CFGBVS": "GND", "CONFIG_VOLTAGE": "1.8"}
    ddr3 = Ddr3(
        device="DDR3_SDRAM/SODIMMs/MT8JTF12864HZ-1G6",
        period_ps=1250,
        input_mhz=200,
        sys_clk_bank=38,
        vccaux_io="2.0V",
        row_bits=14,
        cas_latency=11,
        cas_write_latency=8,
        timing={"tcke": "5", "tfaw": "30", "tras": "35", "trcd": "13.125", "trefi": "7.8", "trfc": "110",
                "trp": "13.125", "trrd": "6", "trtp": "7.5", "twtr": "7.5"},
    )  # fmt: skip
    resources: ClassVar = [
        Resource("sys_clk", 0, DiffPairs("E19", "E18", dir="i"), Clock(200e6), Attrs(IOSTANDARD="LVDS")),
        Resource("sys_rst", 0, Pins("AV40", dir="i"), Attrs(IOSTANDARD="LVCMOS18")),
        *LEDResources(pins="AM39 AN39 AR37 AT37 AR35 AP41 AP42 AU39", attrs=Attrs(IOSTANDARD="LVCMOS18")),
        DDR3Resource(0,
            rst_n="C29", clk_p="H19", clk_n="G18", clk_en="K19", cs_n="J17", we_n="F20", ras_n="E20", cas_n="K17",
            a="A20 B19 C20 A19 A17 A16 D20 C18 D17 C19 B21 B17 A15 A21",
            ba="D21 C21 D18",
            dqs_p="N16 K12 H16 C15 A26 F25 B28 E27",
            dqs_n="M16 J12 G16 C14 A27 E25 B29 E28",
            dq="N14 N13 L14 M14 M12 N15 M11 L12 K14 K13 H13 J13 L16 L15 H14 J15"
               " E15 E13 F15 E14 G13 G12 F14 G14 B14 C13 B16 D15 D13 E12 C16 D16"
               " A24 B23 B27 B26 A22 B22 A25 C24 E24 D23 D26 C25 E23 D22 F22 E22"
               " A30 D27 A29 C28 D28 B31 A31 A32 E30 F29 F30 F27 C30 E29 F26 D30",
            dm="M13 K15 F12 A14 C23 D25 C31 F31",
            odt="H20",
            attrs=Attrs(IOSTANDARD="SSTL15", SLEW="FAST", VCCAUX_IO="HIGH"),
            diff_attrs=Attrs(IOSTANDARD="DIFF_SSTL15"),
        ),
    ]  # fmt: skip


BOARD = VC707
