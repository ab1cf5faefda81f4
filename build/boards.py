"""Boards as data: Amaranth platform classes that also say what the memory controller must know.

A board is a class derived from `Board`. Its resources (pins) are those of any Amaranth platform; `ddr3`
describes the memory. What only the designer of a board can know is `FILL_IN`: it may be generated, but
not built (`to_fill_in` lists what is missing).
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from amaranth.build import Attrs, Clock, DiffPairs, Pins, Resource, Subsignal
from amaranth.vendor import XilinxPlatform
from amaranth_boards.resources import DDR3Resource, LEDResources

from seedlm.build.parts import Part
from seedlm.build.parts import part as parse_part
from seedlm.golden.errors import SeedLMError

__all__ = ["BOARDS", "FILL_IN", "Board", "Ddr3", "VC707", "Xc7v585tTemplate", "board", "board_for_part"]

FILL_IN = "FILL_IN"  # start of every value that the user must supply
DATA_BITS = 64
BYTES_PER_WORD = DATA_BITS // 8


def _blank(name: str, count: int) -> str:
    """`count` pins to be filled in, each with a name of its own."""
    return " ".join(f"{FILL_IN}_{name}{i if count > 1 else ''}" for i in range(count))


@dataclass(frozen=True, kw_only=True)
class Ddr3:
    """A DDR3 memory on 64 data lines, as the memory interface generator (MIG) wants it described.

    Any value may be `FILL_IN`.

    Parameters
    ----------
    device : str
        Name in MIG's catalogue.
    period_ps : int
        Period of the memory clock: 1250 at DDR3-1600, 1071 at DDR3-1866. The user clock is four times as slow.
    input_mhz : int
        Frequency of the clock ``sys_clk``. Must be 200: it is the reference clock of the I/O delays too.
    sys_clk_bank : int
        The I/O bank of ``sys_clk``.
    vccaux_io : str
        ``2.0V`` or ``1.8V``.
    row_bits, bank_bits, column_bits : int
        Geometry of one rank.
    cas_latency, cas_write_latency : int
        In memory clocks.
    timing : dict of str to str
        MIG's timing parameters, in ns (tREFI in us).
    rtt : str
        Nominal on-die termination.
    """

    device: str
    period_ps: int
    input_mhz: int | str
    sys_clk_bank: int | str
    vccaux_io: str
    row_bits: int | str
    bank_bits: int = 3
    column_bits: int = 10
    cas_latency: int | str
    cas_write_latency: int | str
    timing: dict[str, str]
    rtt: str = "RZQ/6"

    @property
    def user_period_ns(self) -> float:
        """Period of the user clock, which the accelerator runs at."""
        return self.period_ps * 4 / 1000

    @property
    def bytes(self) -> int | None:
        """Size of the memory; None while it is not filled in."""
        bits = (self.row_bits, self.bank_bits, self.column_bits)
        return BYTES_PER_WORD << sum(bits) if all(isinstance(b, int) for b in bits) else None


class Board(XilinxPlatform):
    """A board with one DDR3 interface.

    Needs the resources ``sys_clk`` (differential, drives the memory controller), ``sys_rst``, ``led`` 0 and 1 and
    ``ddr3``; others are left alone.

    Attributes
    ----------
    title : str
        For a reader.
    ddr3 : Ddr3
    configuration : dict of str to str
        Properties of the design that depend on the supply of the configuration bank: ``CFGBVS``, ``CONFIG_VOLTAGE``.
    sources : str
        Where pins and values come from.
    """

    title: ClassVar[str]
    ddr3: ClassVar[Ddr3]
    configuration: ClassVar[dict[str, str]]
    sources: ClassVar[str]
    default_clk = "sys_clk"
    connectors: ClassVar[list] = []

    @classmethod
    def part(cls) -> Part:
        return parse_part(f"{cls.device}{cls.package}-{cls.speed}")

    @classmethod
    def resource(cls, name: str, number: int = 0) -> Resource:
        """The resource called `name`; raises `SeedLMError` if there is none."""
        for resource in cls.resources:
            if (resource.name, resource.number) == (name, number):
                return resource
        raise SeedLMError(f"board {cls.__name__}: no resource {name} {number}: a board needs"
                          " sys_clk, sys_rst, led 0, led 1 and ddr3")  # fmt: skip

    @classmethod
    def pins(cls, name: str, number: int = 0) -> dict[str, tuple[list[str], dict[str, str], bool]]:
        """Pins of a resource: part of it ("" for one without parts; pairs end in ``p`` and ``n``) -> pins, attributes,
        whether active low."""
        found: dict[str, tuple[list[str], dict[str, str], bool]] = {}

        def add(signal: Subsignal, prefix: str, attrs: dict[str, str]) -> None:
            attrs = attrs | dict(signal.attrs)
            for io in signal.ios:
                if isinstance(io, Subsignal):
                    add(io, io.name, attrs)
                elif isinstance(io, DiffPairs):
                    found[f"{prefix}_p".lstrip("_")] = (list(io.p.names), attrs, io.invert)
                    found[f"{prefix}_n".lstrip("_")] = (list(io.n.names), attrs, io.invert)
                else:
                    found[prefix] = (list(io.names), attrs, io.invert)

        add(cls.resource(name, number), "", {})
        return found

    @classmethod
    def to_fill_in(cls) -> list[str]:
        """What is still marked `FILL_IN`: names of values and pins."""
        def values() -> Iterator[tuple[str, Any]]:
            for field in fields(cls.ddr3):
                value = getattr(cls.ddr3, field.name)
                if isinstance(value, dict):
                    yield from ((f"ddr3.{field.name}.{key}", item) for key, item in value.items())
                else:
                    yield f"ddr3.{field.name}", value
            yield from ((f"configuration.{key}", item) for key, item in cls.configuration.items())
            for resource in cls.resources:
                for signal, (pins, attrs, _) in cls.pins(resource.name, resource.number).items():
                    name = f"{resource.name} {resource.number} {signal}".rstrip()
                    yield from ((f"pin {name}[{i}]", pin) for i, pin in enumerate(pins))
                    yield from ((f"{name} {key}", value) for key, value in attrs.items())

        return [name for name, value in values() if str(value).startswith(FILL_IN)]


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
        Resource("sys_clk", 0, DiffPairs(_blank("sys_clk_p", 1), _blank("sys_clk_n", 1), dir="i"), Clock(200e6),
                 Attrs(IOSTANDARD=f"{FILL_IN}_sys_clk_iostandard")),
        # PinsN where the reset is active low.
        Resource("sys_rst", 0, Pins(_blank("sys_rst", 1), dir="i"), Attrs(IOSTANDARD=f"{FILL_IN}_sys_rst_iostandard")),
        *LEDResources(pins=_blank("led", 2), attrs=Attrs(IOSTANDARD=f"{FILL_IN}_led_iostandard")),
        DDR3Resource(0,
            **{f"{name}_n": _blank(f"{name}_n", 1) for name in ("rst", "cs", "we", "ras", "cas")},
            clk_p=_blank("clk_p", 1), clk_n=_blank("clk_n", 1), clk_en=_blank("clk_en", 1), odt=_blank("odt", 1),
            a=_blank("a", 16), ba=_blank("ba", 3),
            dqs_p=_blank("dqs_p", 8), dqs_n=_blank("dqs_n", 8), dq=_blank("dq", 64), dm=_blank("dm", 8),
            attrs=Attrs(IOSTANDARD="SSTL15", SLEW="FAST", VCCAUX_IO="HIGH"),
            diff_attrs=Attrs(IOSTANDARD="DIFF_SSTL15"),
        ),
    ]  # fmt: skip


BOARDS: dict[str, type[Board]] = {"vc707": VC707, "xc7v585t": Xc7v585tTemplate}


def board_for_part(name: str) -> type[Board]:
    """The shipped board with this part; raises `SeedLMError` if there is none."""
    wanted = parse_part(name)
    for candidate in BOARDS.values():
        if candidate.part() == wanted:
            return candidate
    raise SeedLMError(f"no board with the part {wanted}: choose one of {', '.join(BOARDS)}"
                      " or the Python file of your own with --board")  # fmt: skip


def board(name: str) -> type[Board]:
    """A board by its name, or the one `Board` that a Python file (``*.py``) defines.

    Raises
    ------
    SeedLMError
        No such board; a file that does not define exactly one.
    """
    if name in BOARDS:
        return BOARDS[name]
    if not name.endswith(".py"):
        raise SeedLMError(f"no board {name!r}: expected {', '.join(BOARDS)} or a Python file that defines one")
    path = Path(name)
    if not path.is_file():
        raise SeedLMError(f"{name}: no such file: expected a Python file that defines a board")
    module = types.ModuleType(f"seedlm_board_{path.stem}")
    try:
        # not imported: that could leave compiled files beside the user's
        exec(compile(path.read_text(encoding="utf-8"), name, "exec"), vars(module))
    except Exception as error:
        raise SeedLMError(f"{name}: cannot be loaded: {type(error).__name__}: {error}") from error
    found = [
        item for item in vars(module).values()
        if isinstance(item, type) and issubclass(item, Board) and item.__module__ == module.__name__
    ]  # fmt: skip
    if len(found) != 1:
        raise SeedLMError(f"{name}: expected one class derived from build.boards.Board, found {len(found)}")
    return found[0]
