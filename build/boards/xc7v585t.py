"""A template for a board with the paper's FPGA."""

from __future__ import annotations

from typing import ClassVar

from amaranth.build import Attrs, Clock, DiffPairs, Pins, Resource
from amaranth_boards.resources import DDR3Resource, LEDResources

from seedlm.build.boards._base import FILL_IN, Board, Ddr3, blank

__all__ = ["BOARD", "Xc7v585tTemplate"]


class Xc7v585tTemplate(Board):
    """A board with the paper's FPGA and 64 bits of DDR3-1866: copy it and fill in what is marked.

    The DDR3 pins take three adjacent HP banks of one column; MIG's pin planner, or its check of a fixed pin-out,
    is the authority on what may go where.
    """

    title = "template: XC7V585T-FFG1761-3, 64-bit DDR3-1866, pins to be filled in"
    sources = "None: no board with this part has public pins. Nothing is invented here."
    device = "xc7v585t"
    package = "ffg1761"
    speed = "3"
    configuration: ClassVar = {"CFGBVS": f"{FILL_IN}_CFGBVS", "CONFIG_VOLTAGE": f"{FILL_IN}_CONFIG_VOLTAGE"}
    ddr3 = Ddr3(
        device=f"{FILL_IN}_memory_device",
        period_ps=1071,
        input_mhz=200,
        sys_clk_bank=f"{FILL_IN}_sys_clk_bank",
        vccaux_io="2.0V",
        row_bits=f"{FILL_IN}_row_bits",
        cas_latency=f"{FILL_IN}_cas_latency",
        cas_write_latency=f"{FILL_IN}_cas_write_latency",
        timing={name: f"{FILL_IN}_{name}" for name in
                ("tcke", "tfaw", "tras", "trcd", "trefi", "trfc", "trp", "trrd", "trtp", "twtr")},
    )  # fmt: skip
    resources: ClassVar = [
        Resource("sys_clk", 0, DiffPairs(blank("sys_clk_p", 1), blank("sys_clk_n", 1), dir="i"), Clock(200e6),
                 Attrs(IOSTANDARD=f"{FILL_IN}_sys_clk_iostandard")),
        # PinsN where the reset is active low.
        Resource("sys_rst", 0, Pins(blank("sys_rst", 1), dir="i"), Attrs(IOSTANDARD=f"{FILL_IN}_sys_rst_iostandard")),
        *LEDResources(pins=blank("led", 2), attrs=Attrs(IOSTANDARD=f"{FILL_IN}_led_iostandard")),
        DDR3Resource(0,
            **{f"{name}_n": blank(f"{name}_n", 1) for name in ("rst", "cs", "we", "ras", "cas")},
            clk_p=blank("clk_p", 1), clk_n=blank("clk_n", 1), clk_en=blank("clk_en", 1), odt=blank("odt", 1),
            a=blank("a", 16), ba=blank("ba", 3),
            dqs_p=blank("dqs_p", 8), dqs_n=blank("dqs_n", 8), dq=blank("dq", 64), dm=blank("dm", 8),
            attrs=Attrs(IOSTANDARD="SSTL15", SLEW="FAST", VCCAUX_IO="HIGH"),
            diff_attrs=Attrs(IOSTANDARD="DIFF_SSTL15"),
        ),
    ]  # fmt: skip


BOARD = Xc7v585tTemplate
