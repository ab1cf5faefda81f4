"""DDR3-1600 behind LiteDRAM: its controller, its AXI frontend and its model of the PHY and the chips.

Another controller than `ddr3.sv` models, with other habits: it opens no row early. Needs the packages of the extra
``litedram``; nothing is downloaded and no LiteX system is built around the core. The model's banks keep their contents
in the sparse store (`litedram_bank` in litedram.sv) in place of Verilog memories of 512 MB each.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.cache import cached, digest
from seedlm.sim.memory import Memory

__all__ = ["MEMORY", "PACKAGES", "litedram_verilog"]

PACKAGES = ("litedram", "litex", "migen")
MODULE = "MT8KTF51264"  # 4 GB, 64 bits, eight 4 Gbit chips with 8 data pins
SPEED_GRADE = "1600"
CLOCK_HZ = 200e6
DATA_PINS = 64
BUS_BITS = 512
CORE = "litedram_core"


def _bank(store: object, clock: object) -> type:
    """The class that takes the place of `litedram.phy.model.BankModel`: the same ports, the contents in the store."""
    from migen import Instance, Module, Signal

    class Bank(Module):
        count = 0

        def __init__(self, data_width, nrows, ncols, burst_length, nphases, we_granularity, init):
            number, Bank.count = Bank.count, Bank.count + 1
            ports = {"activate": 1, "activate_row": (nrows - 1).bit_length(), "precharge": 1, "write": 1,
                     "write_col": (ncols - 1).bit_length(), "write_data": data_width, "write_mask": data_width // 8,
                     "read": 1, "read_col": (ncols - 1).bit_length()}  # fmt: skip
            for name, width in ports.items():
                setattr(self, name, Signal(width, name=f"bank{number}_{name}"))
            self.read_data = Signal(data_width, name=f"bank{number}_read_data")
            self.specials += Instance(
                "litedram_bank", name=f"bank{number}", p_BANK=number, p_ROW_BITS=ports["activate_row"],
                p_COLUMN_BITS=ports["read_col"], p_DATA_BITS=data_width, i_clk=clock, i_store=store,
                o_read_data=self.read_data, **{f"i_{name}": getattr(self, name) for name in ports},
            )  # fmt: skip

    return Bank


def _generate() -> str:
    """Text of the module `CORE`: AXI4 slave without the signals that the accelerator does not use, and `store`."""
    from unittest import mock

    from litedram import modules
    from litedram.core.controller import ControllerSettings, LiteDRAMController
    from litedram.core.crossbar import LiteDRAMCrossbar
    from litedram.frontend.axi import LiteDRAMAXI2Native, LiteDRAMAXIPort
    from litedram.phy import model
    from litex.gen.fhdl.verilog import convert
    from migen import ClockDomain, Module, Signal

    store = Signal(64, name="store")
    sys = ClockDomain("sys")

    class Core(Module):
        def __init__(self):
            self.clock_domains.sys = sys
            chips = getattr(modules, MODULE)(CLOCK_HZ, "1:4", speedgrade=SPEED_GRADE)
            with mock.patch.object(model, "BankModel", _bank(store, sys.clk)):
                self.submodules.phy = phy = model.SDRAMPHYModel(chips, data_width=DATA_PINS, clk_freq=CLOCK_HZ)
            self.submodules.controller = controller = LiteDRAMController(
                phy.settings, chips.geom_settings, chips.timing_settings, CLOCK_HZ, ControllerSettings()
            )
            self.comb += controller.dfi.connect(phy.dfi)
            self.submodules.crossbar = crossbar = LiteDRAMCrossbar(controller.interface)
            port = crossbar.get_port()
            self.axi = LiteDRAMAXIPort(
                data_width=port.data_width, address_width=port.address_width + (port.data_width // 8).bit_length() - 1,
                id_width=1,
            )  # fmt: skip
            self.submodules.frontend = LiteDRAMAXI2Native(self.axi, port)

    core = Core()
    ios = {sys.clk, sys.rst, store}
    for channel in ("aw", "w", "b", "ar", "r"):
        endpoint = getattr(core.axi, channel)
        for name in ("valid", "ready", *_PORTS[channel]):
            signal = getattr(endpoint, name)
            signal.name_override = f"axi_{channel}{name}"
            ios.add(signal)
    sys.clk.name_override, sys.rst.name_override = "clk", "rst"
    text = convert(core, ios, name=CORE, regular_comb=False).main_source
    # No dates. The order of some statements is another each time, since Migen keeps them in sets.
    return re.sub(r"^//.*\n", "", text, flags=re.MULTILINE)


_PORTS = {
    "aw": ("addr", "burst", "len", "size", "id"), "w": ("data", "strb", "last"), "b": ("resp", "id"),
    "ar": ("addr", "burst", "len", "size", "id"), "r": ("data", "resp", "last", "id"),
}  # fmt: skip


def litedram_verilog() -> str:
    """The module `CORE`, from the cache or generated now.

    Raises
    ------
    ToolError
        LiteDRAM is not installed.
    """
    # here, as above: the registry is loaded for every --help
    from importlib.metadata import PackageNotFoundError, version

    from seedlm.sim.verilator import ToolError

    try:
        versions = [version(name) for name in PACKAGES]
    except PackageNotFoundError as error:
        raise ToolError(
            f"the memory litedram needs the Python package {error.name}: run make litedram, or pip install"
            " 'seedlm[litedram]'"
        ) from error

    def make(folder: Path) -> None:
        (folder / "core.v").write_text(_generate())

    key = digest(*versions, Path(__file__).read_text())
    return (cached("verilog", CORE, key, make) / "core.v").read_text()


@dataclass(frozen=True, kw_only=True)
class LiteDram(Memory):
    """LiteDRAM has a clock, chips and an address map of its own: no timing of `Memory` has an effect on it."""

    controller: ClassVar[str] = "litedram"

    def verilog(self, bus_bits: int) -> dict[str, str]:
        if bus_bits != BUS_BITS:
            raise SeedLMError(f"LiteDRAM is generated with a bus of {BUS_BITS} bits, not {bus_bits}")
        wrapper = Path(__file__).resolve().parent.parent / "litedram.sv"
        return {"core.v": litedram_verilog(), "litedram.sv": wrapper.read_text()}


MEMORY = LiteDram(name="litedram", summary="DDR3-1600 behind LiteDRAM's controller (needs make litedram)")
