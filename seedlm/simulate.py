"""``seedlm sim``: one product on the RTL, compared with the reference bit for bit."""

from __future__ import annotations

import argparse
import math
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from seedlm.arguments import PACKED_HELP, require_writable, scale_argument
from seedlm.console import Console, by, complain, human_bytes, stacked_bar
from seedlm.host.traffic import Counted

if TYPE_CHECKING:
    import numpy as np

    from seedlm.golden.build import Config
    from seedlm.golden.matrix import PackedMatrix
    from seedlm.hdl.registers import ErrorCode
    from seedlm.sim.memory import Memory

NAME = "sim"
SUMMARY = "multiply on the simulated accelerator, compare with the reference"
DESCRIPTION = """\
Run Y = W X for one tensor on the accelerator's Verilog, cycle by cycle, with the weights in a
simulated DDR3 memory, and compare every output with the NumPy reference, bit for bit. Any
difference is an error (exit code 1).

The first run for a codec compiles the simulation (a minute or two); later runs find it in .cache,
or in the directory that SEEDLM_CACHE names.
"""
# How the bar draws them.
KEYS = {
    "streaming": "#", "wait_memory": "m", "load_activations": "a", "draining": "d", "writing": "w", "control": "c",
}  # fmt: skip
EXAMPLES = """\
examples:
  seedlm sim packed.safetensors --tensor model.layers.0.mlp.up_proj.weight
  seedlm sim packed.safetensors --tensor model.layers.0.mlp.up_proj.weight --memory ideal --json
  seedlm sim packed.safetensors --tensor model.layers.0.mlp.up_proj.weight --x x.npy --out y.npy --wave run.fst

What it prints:
  cycles    from the first read request to the moment when the last result is written
  stalls    cycles in which no step entered the lanes, by cause; the bar shows all cycles, in shares
            and not in order: # streaming, the others by the letter in front of their line
  efficiency  beats moved over the data bus, per cycle: the share of the memory's peak
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help=PACKED_HELP)
    parser.add_argument("--tensor", metavar="NAME", required=True, help="compressed tensor (see seedlm info)")
    parser.add_argument(
        "--x", metavar="X.npy", type=Path,
        help="activations, float16 [cols] (default: normally distributed numbers from --seed)",
    )  # fmt: skip
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="seed of X where no --x is given (default: 0)")
    parser.add_argument("--out", metavar="Y.npy", type=Path, help="write the accelerator's result, float32 [rows]")
    parser.add_argument(
        "--scale", metavar="S", type=scale_argument,
        help="scale of the product, rounded to binary32 (default: the tensor's own; none with row scales)",
    )  # fmt: skip
    parser.add_argument(
        "--memory", choices=["ddr3", "ideal", "litedram"], default="ddr3",
        help="ddr3: DDR3-1600 with refresh (default); ideal: the same without refresh; litedram: DDR3-1600 behind"
        " LiteDRAM's controller (needs make litedram)",
    )  # fmt: skip
    parser.add_argument(
        "--wave", metavar="OUT.fst", type=Path, help="write waves of the whole run (another, slower build)"
    )


@dataclass(frozen=True)
class Measured(Counted):
    """One product on the simulated accelerator.

    Attributes
    ----------
    config : Config
        The build.
    memory : Memory
    rows, cols : int
    y : np.ndarray
        float32 [rows].
    code : ErrorCode
        How the product ended.
    counters : dict
        The accelerator's own, see `hdl.registers.COUNTERS`.
    simulated : int
        All clock cycles of the simulation, register accesses and reset included.
    seconds : float
        Time of the whole run on this machine, memory images included, compilation not.
    """

    config: Config
    memory: Memory
    rows: int
    cols: int
    y: np.ndarray
    code: ErrorCode
    counters: dict[str, int]
    simulated: int
    seconds: float

    def report(self, expected: np.ndarray) -> dict:
        """The figures by name, and how many of the outputs have the bits of `expected`."""
        from seedlm.hdl.registers import CATEGORIES, ErrorCode

        equal = int((self.y.view("u4") == expected.view("u4")).sum())
        if self.code not in (ErrorCode.NONE, ErrorCode.NONFINITE):
            status = self.code.name.lower()
        elif equal != self.rows:
            status = "different"
        else:
            status = "ok" if self.code is ErrorCode.NONE else "nonfinite"
        return {
            "codec": self.config.codec.name,
            "rows": self.rows,
            "cols": self.cols,
            "lanes": self.config.lanes,
            "memory": self.memory.name,
            "cycles": self.cycles,
            "data_beats": self.data_beats,
            "beats": self.beats,
            "bytes": self.data_beats * self.config.beat_bytes,
            "efficiency": self.efficiency,
            "stalls": {cause: self.counters[cause] for cause in CATEGORIES if cause != "streaming"},
            "clock_mhz": self.memory.clock_mhz,
            "microseconds": self.cycles / self.memory.clock_mhz,
            "simulated_cycles": self.simulated,
            "seconds": round(self.seconds, 4),
            "cycles_per_second": round(self.simulated / self.seconds),
            "outputs_equal": equal,
            "outputs_total": self.rows,
            "status": status,
        }


def measure(
    matrix: PackedMatrix, x: np.ndarray, scale: float | None, *, memory: str, wave: Path | None, console: Console
) -> Measured:
    """Run one product in a fresh simulation.

    Parameters
    ----------
    matrix, x, scale
        As for `golden.product.product`.
    memory : str
        ``ddr3``, ``ideal`` or ``litedram``.
    wave : Path, optional
        Write waves there.

    Raises
    ------
    SeedLMError
        The simulation cannot be built, or the accelerator broke a rule of its bus.
    """
    from seedlm.golden.build import Config
    from seedlm.golden.files.atomic import atomic_path
    from seedlm.sim.accelerator import Accelerator

    config = Config(codec=matrix.codec)
    console.hint("preparing the simulation (compiled once for each codec, then kept)")
    with Accelerator(config, memory=memory, trace=wave is not None) as accelerator:
        simulation = accelerator.simulation
        started, before = time.perf_counter(), simulation.cycles
        with atomic_path(wave) if wave else nullcontext() as temporary:
            if wave:
                simulation.trace_open(temporary)
            loaded = accelerator.load_matrix(matrix)
            (outcome,) = accelerator.products([(loaded, x, scale)])
            counters = accelerator.counters()
            if wave:
                simulation.trace_close()
        seconds = time.perf_counter() - started
        return Measured(
            config, simulation.memory, matrix.rows, matrix.cols, outcome.y, outcome.code, counters,
            simulation.cycles - before, seconds,
        )  # fmt: skip


def print_report(name: str, report: dict, console: Console) -> None:
    """The figures of `Measured.report` for a reader."""
    cycles, beats = report["cycles"], report["beats"]
    digits = max(7, math.ceil(math.log10(cycles + 1) * 4 / 3))

    def line(value: int, what: str, detail: str = "", key: str = " ") -> None:
        share = f"{value / cycles:7.1%}" if cycles else ""
        console.print(f"{key} {value:>{digits},}  {what:<25}{share}{'  ' + detail if detail else ''}".rstrip())

    console.print(f"{name}: {by((report['rows'], report['cols']))}, {report['codec']}, {report['memory']} memory")
    line(cycles, "cycles", f"{report['microseconds']:.2f} us at {report['clock_mhz']:g} MHz")
    moved = ", ".join(f"{count:,} {kind}" for kind, count in beats.items() if count)
    line(report["data_beats"], "data beats", f"{human_bytes(report['bytes'])}: {moved}")
    parts = {"streaming": cycles - sum(report["stalls"].values()), **report["stalls"]}
    for cause, count in parts.items():
        if count:
            line(count, ("" if cause == "streaming" else "stalled: ") + cause.replace("_", " "), key=KEYS[cause])
    console.print(f"  [{stacked_bar({KEYS[cause]: count for cause, count in parts.items()})}]")
    console.print(f"share of the memory's peak: {report['efficiency']:.1%}")
    console.print(
        f"simulated {report['simulated_cycles']:,} cycles in {report['seconds']:.2f} s:"
        f" {report['cycles_per_second']:,} cycles per second"
    )
    if report["status"] not in ("ok", "different"):
        console.print(f"the accelerator reports: {report['status']}")
    console.print(f"{report['outputs_equal']}/{report['outputs_total']} outputs equal to the reference")


def run(args: argparse.Namespace, console: Console) -> int:
    for path in (args.out, args.wave):
        if path is not None:
            require_writable(path)

    import numpy as np

    from seedlm.golden.files.npy import load_npy, save_npy
    from seedlm.golden.files.sources import open_packed_source
    from seedlm.golden.product import product

    matrix = open_packed_source(args.file).matrix(args.tensor)
    if args.x is None:
        x = np.random.default_rng(args.seed).standard_normal(matrix.cols).astype(np.float16)
    else:
        x = load_npy(args.x, np.float16, matrix.cols)
    expected = product(matrix, x, args.scale)
    measured = measure(matrix, x, args.scale, memory=args.memory, wave=args.wave, console=console)
    if args.out is not None:
        save_npy(args.out, measured.y)
    report = {
        "file": str(args.file),
        "tensor": args.tensor,
        "x": str(args.x) if args.x else f"standard normal, seed {args.seed}",
        "out": str(args.out) if args.out else None,
        "wave": str(args.wave) if args.wave else None,
        **measured.report(expected),
    }
    console.json(report)
    print_report(args.tensor, report, console)
    if report["status"] in ("ok", "nonfinite"):
        return 0
    wrong = report["outputs_total"] - report["outputs_equal"]
    complain(
        f"{args.tensor}: {wrong} of {report['outputs_total']} outputs differ; the product ended as {report['status']}"
    )
    return 1
