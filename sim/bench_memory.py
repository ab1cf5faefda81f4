"""What a bare reader gets from the DDR3 model, beside the figures the model is validated against.

Run it as ``python -m seedlm.sim.bench_memory``.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, field

from seedlm.sim.memories import MEMORIES
from seedlm.sim.memory import Memory
from seedlm.sim.simulation import Simulation, reader_verilog

__all__ = ["CASES", "LITEDRAM_CASES", "Case", "Reader", "Reading", "run_case"]

DDR3, IDEAL, LITEDRAM = (MEMORIES[name] for name in ("ddr3", "ideal", "litedram"))


@dataclass(frozen=True)
class Reading:
    """What one run of the reader saw; `latency` is from the first address handshake to the first beat."""

    beats: int
    cycles: int
    latency: int
    checksum: int
    failed: bool

    @property
    def efficiency(self) -> float:
        """Beats per cycle, from the first request to the last beat."""
        return self.beats / self.cycles


class Reader:
    """The bare sequential reader in place of the accelerator, on a memory of choice."""

    def __init__(self, *, memory: str | Memory = DDR3, bus_bits: int = 512, **options: object) -> None:
        self.bus_bits = bus_bits
        self.simulation = Simulation(
            reader_verilog(), dut="SequentialReader", memory=memory, bus_bits=bus_bits, **options  # type: ignore[arg-type]
        )

    def start(
        self, *, base: int = 0, bursts: int, beats: int = 64, stride: int | None = None, outstanding: int = 8
    ) -> None:
        """Begin to read `bursts` bursts of `beats` beats, `stride` bytes apart (default: back to back)."""
        s = self.simulation
        stride = beats * self.bus_bits // 8 if stride is None else stride
        values = (base & 0xFFFFFFFF, base >> 32, bursts, beats, stride, outstanding)
        for offset, value in zip((0x04, 0x08, 0x0C, 0x10, 0x14, 0x18), values, strict=True):
            s.reg_write(offset, value)
        s.reg_write(0, 1)

    def read(self, **what: int) -> Reading:
        """Start as `start` does, wait for the end, and tell."""
        s = self.simulation
        self.start(**what)
        s.wait_irq(1000 + what["bursts"] * (what.get("beats", 64) + 400))
        low_high = [s.reg_read(offset) for offset in (0x20, 0x24, 0x28, 0x2C)]
        return Reading(
            cycles=low_high[0] | low_high[1] << 32,
            beats=low_high[2] | low_high[3] << 32,
            checksum=s.reg_read(0x30),
            latency=s.reg_read(0x34),
            failed=bool(s.reg_read(0) & 4),
        )


@dataclass(frozen=True)
class Case:
    """A pattern, the memory it runs on, and the efficiency it should have (percent; None: not stated)."""

    name: str
    memory: Memory
    expected: float | None
    pattern: dict[str, int] = field(default_factory=dict)


CASES = (
    Case("sequential, 64-beat bursts", DDR3, 96.2),
    Case("the same, address map bank-row-column", DDR3.but(bank_row_column=True), 91.2),
    Case("the same, tRFC 350 ns", DDR3.but(rfc=350.0), 95.0),
    Case("the same, one burst outstanding", DDR3, 67.7, {"outstanding": 1}),
    Case("1 KiB bursts at a stride of 64 KiB", DDR3, 66.9, {"beats": 16, "stride": 65536, "outstanding": 16}),
    Case("sequential, ideal memory", IDEAL, None),
    Case("sequential, DDR3-1866", DDR3.but(clock_mhz=1866.667 / 8), None),
)
LITEDRAM_CASES = (Case("sequential, LiteDRAM", LITEDRAM, 88.6),)


def run_case(case: Case, beats: int = 200_000) -> tuple[Reading, float]:
    """Run a case over about `beats` beats; what it saw, and simulated cycles per second."""
    pattern = {"beats": 64, **case.pattern}
    reader = Reader(memory=case.memory)
    with reader.simulation as s:
        begin, cycles = time.perf_counter(), s.cycles
        reading = reader.read(bursts=max(1, beats // pattern["beats"]), **pattern)
        return reading, (s.cycles - cycles) / (time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m seedlm.sim.bench_memory", description=__doc__.splitlines()[0])
    parser.add_argument("--beats", type=int, default=500_000, help="beats to read in each case (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--litedram", action="store_true", help="LiteDRAM's controller instead of the model")
    options = parser.parse_args()
    rows = []
    for case in LITEDRAM_CASES if options.litedram else CASES:
        reading, speed = run_case(case, options.beats)
        rows.append(
            {
                "case": case.name, "efficiency": reading.efficiency, "expected": case.expected, "beats": reading.beats,
                "cycles": reading.cycles, "latency": reading.latency, "cycles_per_second": round(speed),
            }
        )  # fmt: skip
        if not options.json:
            expected = f"{case.expected:6.1f} %" if case.expected else "        "
            measured = f"{100 * reading.efficiency:6.2f} %"
            print(f"{case.name:40} {measured}  expected {expected}  {speed / 1e6:5.2f} M cycles/s")
    if options.json:
        print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
