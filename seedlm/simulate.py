"""``seedlm sim``: one product on the RTL, compared with the reference bit for bit."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from seedlm.arguments import PACKED_HELP, add_memory_argument, require_writable, scale_argument
from seedlm.console import Console, by, complain, human_bytes, stacked_bar

if TYPE_CHECKING:
    import numpy as np

    from seedlm.golden.matrix import PackedMatrix
    from seedlm.sim.measure import Measurement

NAME = "sim"
SUMMARY = "multiply on the simulated accelerator, compare with the reference"
DESCRIPTION = """\
Run Y = W X for one tensor on the accelerator's Verilog, cycle by cycle, with the weights in a
simulated DDR3 memory, and compare every output with the NumPy reference, bit for bit. Any
difference is an error (exit code 1).

The first run for a codec compiles the simulation (a minute or two); later runs find it in the
cache (see seedlm --help).
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
    add_memory_argument(parser)
    parser.add_argument(
        "--wave", metavar="OUT.fst", type=Path, help="write waves of the whole run (another, slower build)"
    )


def measure(
    matrix: PackedMatrix, x: np.ndarray, scale: float | None, *, memory: str, wave: Path | None, console: Console
) -> tuple[Measurement, np.ndarray]:
    """Run one product in a fresh simulation; what it cost, and its result.

    Parameters
    ----------
    matrix, x, scale
        As for `golden.product.product`.
    memory : str
        One of `seedlm.sim.memories`.
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
    from seedlm.sim.measure import run_matrix

    console.hint("preparing the simulation (compiled once for each codec, then kept)")
    with Accelerator(Config(codec=matrix.codec), memory=memory, trace=wave is not None) as accelerator:
        if wave is None:
            return run_matrix(accelerator, matrix, x, scale)
        with atomic_path(wave) as temporary:
            accelerator.simulation.trace_open(temporary)
            found = run_matrix(accelerator, matrix, x, scale)
            accelerator.simulation.trace_close()
            return found


def figures(measured: Measurement) -> dict:
    """What the report says of a product."""
    where = measured.where
    return measured.figures() | {
        "lanes": measured.config.lanes,
        "bytes": measured.data_beats * measured.config.beat_bytes,
        "stalls": {cause: count for cause, count in where.items() if cause != "streaming"},
        "clock_mhz": measured.memory.clock_mhz,
        "outputs_total": measured.checked,
        "status": measured.status,
    }


def print_report(name: str, report: dict, console: Console) -> None:
    """The `figures` of a product for a reader."""
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
    measured, y = measure(matrix, x, args.scale, memory=args.memory, wave=args.wave, console=console)
    if args.out is not None:
        save_npy(args.out, y)
    report = {
        "file": str(args.file),
        "tensor": args.tensor,
        "x": str(args.x) if args.x else f"standard normal, seed {args.seed}",
        "out": str(args.out) if args.out else None,
        "wave": str(args.wave) if args.wave else None,
        **figures(measured.compared([(y, expected)])),
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
