"""A simulated memory: DDR3 timing in nanoseconds, what it is in cycles of the controller, and the controller.

The memories themselves are entries of the registry `seedlm.sim.memories`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

__all__ = ["Memory"]

CLOCKS_PER_CYCLE = 4  # DRAM clocks in a cycle of the controller (4:1)
BURST_CLOCKS = 4  # BL8


@dataclass(frozen=True, kw_only=True)
class Memory:
    """A DDR3 rank and its controller, as `ddr3.sv` models them. Times are in nanoseconds.

    Defaults: DDR3-1600 11-11-11, 4 Gbit chips with 8 data pins, 1 KiB pages (JEDEC JESD79-3F), which makes
    8 banks with rows of 8 KiB on a 64-bit bus.

    Parameters
    ----------
    name : str
        What it is called on the command line and in reports.
    summary : str
        For the help of ``--memory``.
    refresh : bool
        Off makes the ideal memory.
    bank_row_column : bool
        Address map with the bank on top; otherwise row, bank, column from the top.
    clock_mhz : float
        The controller's clock: an eighth of the data rate.

    Attributes
    ----------
    controller : str
        Memories with the same one share a compiled model and differ in `settings` alone.
    """

    controller: ClassVar[str] = "ddr3"

    name: str = "ddr3"
    summary: str = ""
    refresh: bool = True
    bank_row_column: bool = False
    clock_mhz: float = 200.0
    refi: float = 7800.0
    rfc: float = 260.0
    rcd: float = 13.91
    rp: float = 13.91
    ras: float = 34.0
    rrd: float = 6.0
    faw: float = 30.0
    rtp: float = 7.5
    wr: float = 15.0
    wtr: float = 7.5
    read_latency: int = 11  # DRAM clocks (CL)
    write_latency: int = 8  # DRAM clocks (CWL)

    def verilog(self, bus_bits: int) -> dict[str, str]:
        """The controller with its memory: files by name, with a module ``ddr3`` that has the ports of ddr3.sv.

        Raises
        ------
        SeedLMError
            There is none for a bus of that width, or a tool that generates it is missing.
        """
        return {"ddr3.sv": (Path(__file__).resolve().parent / "ddr3.sv").read_text()}

    def cycles(self, nanoseconds: float) -> int:
        """Whole cycles of the controller that take at least this long."""
        return math.ceil(nanoseconds * self.clock_mhz / 1000 - 1e-9)

    @property
    def period_ps(self) -> int:
        return round(1e6 / self.clock_mhz)

    def settings(self) -> dict[str, int]:
        """Values of the inputs of `ddr3.sv`."""
        clock = 1000 / self.clock_mhz / CLOCKS_PER_CYCLE
        written = (self.write_latency + BURST_CLOCKS) * clock  # from a write command to the end of its data
        return {
            "bank_row_column": int(self.bank_row_column),
            # Refreshes may not come late: round down.
            "t_refi": math.floor(self.refi * self.clock_mhz / 1000 + 1e-9) if self.refresh else 0,
            "t_rfc": self.cycles(self.rfc),
            "t_rcd": self.cycles(self.rcd),
            "t_rp": self.cycles(self.rp),
            "t_ras": self.cycles(self.ras),
            "t_rrd": self.cycles(max(self.rrd, 4 * clock)),
            "t_faw": self.cycles(self.faw),
            "t_rtp": self.cycles(max(self.rtp, 4 * clock)),
            "t_wtp": self.cycles(written + self.wr),
            "t_wtr": self.cycles(written + max(self.wtr, 4 * clock)),
            "t_rtw": self.cycles((self.read_latency + BURST_CLOCKS + 2 - self.write_latency) * clock),
        }

    def but(self, **changes: object) -> Memory:
        """A copy with some values changed."""
        return replace(self, **changes)  # type: ignore[arg-type]
