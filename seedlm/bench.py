"""``seedlm bench``: what the accelerator makes of the memory, on the shapes of real models, beside FP16 weights."""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import os
import platform
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from seedlm.arguments import CODEC_HELP, add_preset_argument, codec_argument
from seedlm.console import Console, Progress, complain
from seedlm.golden.build import Config
from seedlm.golden.codecs import CODECS, Codec, codec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.presets import PRESETS
from seedlm.sim.memories import MEMORIES, memory_help
from seedlm.sim.report import COMPARED, add_speedups, check_targets, markdown, shape_name

if TYPE_CHECKING:
    from seedlm.sim.benchmark import Readers

NAME = "bench"
SUMMARY = "time the simulated accelerator on layer shapes, beside FP16"
DESCRIPTION = """\
Run products of random weights on the simulated accelerator, for layer shapes of Llama-2-7B,
Llama-3-70B and the bundled model, every codec, on the ideal memory and on DDR3. Outputs are
compared with the reference bit for bit: all of them up to 4096x4096, at least 256 beyond.

Writes bench.json, bench.md, and the pictures speedup, efficiency and cycles (PNG and SVG).
fp16 is always measured along: the speed-up is over it. A run of everything takes about ten
minutes on one core, compilation included (once for each codec, then kept).
"""
EXAMPLES = """\
examples:
  seedlm bench --quick
  seedlm bench --shape 4096x4096 --codec seedlm4 --memory ddr3
  seedlm bench --preset universal --shape 4096x4096
  seedlm bench --out out/bench

What it prints:
  efficiency  data beats over cycles, from the first request to the interrupt
  relative    the same over the efficiency of a bare sequential reader of as many beats
  speed-up    cycles of fp16 over cycles, same shape and memory
"""

SHAPES = (
    (192, 192), (512, 192), (192, 512),  # the bundled model
    (4096, 4096), (11008, 4096), (4096, 11008),  # Llama-2-7B
    (8192, 8192), (1024, 8192), (28672, 8192), (8192, 28672),  # Llama-3-70B
)  # fmt: skip
QUICK_SHAPES = ((192, 512), (1024, 1024), (4096, 4096))
QUICK_CODECS = ("fp16", "seedlm4")
DEFAULT_MEMORIES = ("ideal", "ddr3")
OPTIONS: dict[str, int] = {}  # of every build, besides the codec
QUEUED_SHAPE = (512, 192)
QUEUED_PRODUCTS = 10


def shape_argument(text: str) -> tuple[int, int]:
    """ROWSxCOLS."""
    match = re.fullmatch(r"([1-9]\d{0,7})x([1-9]\d{0,7})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected ROWSxCOLS such as 4096x4096, not {text!r}")
    rows, cols = int(match[1]), int(match[2])
    limits = Config()
    if rows > limits.max_rows or cols > limits.max_cols:
        raise argparse.ArgumentTypeError(f"the accelerator takes up to {limits.max_rows}x{limits.max_cols}, not {text}")
    return rows, cols


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="a minute's run: few shapes, codecs fp16 and seedlm4")
    parser.add_argument(
        "--shape", metavar="ROWSxCOLS", type=shape_argument, action="append", help="this shape only (may be repeated)"
    )
    parser.add_argument(
        "--codec", metavar="NAME", type=codec_argument, action="append",
        help=f"this codec and fp16 only (may be repeated): {CODEC_HELP}",
    )  # fmt: skip
    add_preset_argument(parser)
    parser.add_argument(
        "--memory", choices=list(MEMORIES), action="append",
        help=f"this memory only (may be repeated; default: {' and '.join(DEFAULT_MEMORIES)}); {memory_help()}",
    )  # fmt: skip
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="seed of weights and activations (default: 0)")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, default=Path("out/bench"), help="where the files go (default: out/bench)"
    )


def machine() -> str:
    """The machine for a reader: processor and number of cores."""
    name = platform.processor() or platform.machine()
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        name = found[1] if found else name
    except OSError:
        pass
    return f"{name}, {os.cpu_count()} cores"


def _command(args: argparse.Namespace) -> str:
    """The command that does the same."""
    words = ["seedlm", NAME]
    words += ["--quick"] if args.quick else []
    words += ["--preset", next(name for name, c in PRESETS.items() if c == args.preset)] if args.preset else []
    for shape in args.shape or ():
        words += ["--shape", "{}x{}".format(*shape)]
    for kind in args.codec or ():
        words += ["--codec", kind.name]
    for name in args.memory or ():
        words += ["--memory", name]
    words += ["--seed", str(args.seed)] if args.seed else []
    return shlex.join(words)


class Bench:
    """A run of the benchmark.

    Parameters
    ----------
    shapes, codecs, memories
        What to measure; `COMPARED` comes first among the codecs.
    queued : bool
        Measure the queued products of the bundled model, too.
    options : dict
        Of `Config`, besides the codec.
    build : Config, optional
        One build that has all codecs, instead of one for each.
    """

    def __init__(
        self, shapes: list[tuple[int, int]], codecs: list[Codec], memories: list[str], *, queued: bool, seed: int,
        console: Console, build: Config | None = None, **options: int,
    ) -> None:  # fmt: skip
        self.shapes, self.memories, self.seed, self.console = shapes, memories, seed, console
        if build is None:
            baseline = codec(COMPARED)
            codecs = [baseline, *(c for c in codecs if c.name != COMPARED)]
            self.builds = [(Config(codec=c, **options), [c]) for c in codecs]
        else:
            self.builds = [(build, [build.of(c).codec for c in codecs])]
        self.jobs = [(rows, cols, 1) for rows, cols in shapes]
        if queued:
            self.jobs.insert(0, (*QUEUED_SHAPE, QUEUED_PRODUCTS))
        self.rows: list[dict] = []

    def _tasks(self, config: Config, codecs: list[Codec]) -> list[tuple[tuple[Codec, ...], tuple[int, int, int]]]:
        """What is measured on a build: codecs in turn, and a job; queued products also with all codecs in turn."""
        tasks = [((codec,), job) for job in self.jobs for codec in codecs]
        if len(codecs) > 1:
            tasks += [(tuple(codecs), (*shape, QUEUED_PRODUCTS)) for *shape, products in self.jobs if products > 1]
        return tasks

    def run(self, save: Progress) -> None:
        """Measure everything into `rows`; `save(n)` is called with their number after each."""
        from seedlm.sim.accelerator import Accelerator
        from seedlm.sim.benchmark import Readers
        from seedlm.sim.measure import product_beats

        def beats(config: Config, codecs: tuple[Codec, ...], job: tuple[int, int, int]) -> int:
            rows, cols, products = job
            return sum(product_beats(config.of(codecs[i % len(codecs)]), rows, cols) for i in range(products))

        first = self.builds[0][0]
        readers = Readers(first.bus_bits, first.burst_beats)
        work = [(config, self._tasks(config, codecs)) for config, codecs in self.builds]
        total = len(self.memories) * sum(beats(config, *task) for config, tasks in work for task in tasks)
        with self.console.progress("cycles", total) as advance:
            for config, tasks in work:
                self.console.hint(f"{config.name}: preparing the simulation (compiled once, then kept)")
                for memories in self._by_controller():
                    with Accelerator(config, memory=memories[0]) as device:
                        for memory, (codecs, job) in itertools.product(memories, tasks):
                            # From reset: every row finds the refresh timer in the same state as its reader does.
                            device.simulation.configure(memory)
                            device.reset()
                            self._one(device, readers, codecs, job, advance)
                            save(len(self.rows))

    def _by_controller(self) -> list[list[str]]:
        """The memories that one build serves, build by build."""
        groups = itertools.groupby(self.memories, lambda name: MEMORIES[name].controller)
        return [list(group) for _, group in groups]

    def _one(self, device, readers: Readers, codecs: tuple[Codec, ...], job: tuple[int, int, int],
             advance: Progress) -> None:  # fmt: skip
        from seedlm.sim.benchmark import measure, record

        rows, cols, products = job
        m = measure(device, rows, cols, seed=self.seed, products=products, codecs=codecs, advance=advance)
        row = record(m, readers.efficiency(m.memory, m.data_beats))
        self.rows.append(row)
        add_speedups(self.rows)
        speedup = row["speedup_vs_fp16"]
        self.console.print(
            f"{shape_name(row):>11}{f' x {products}' if products > 1 else '':5} {row['codec']:10} {row['memory']:8}"
            f" {row['cycles']:>11,} cycles  {row['efficiency']:7.2%}  relative {row['relative_efficiency']:7.2%}"
            f"  speed-up {'   -  ' if speedup is None else f'{speedup:6.3f}'}"
            f"  {row['outputs_equal']}/{row['outputs_checked']} outputs equal"
        )


def _report(bench: Bench, command: str) -> dict:
    """The JSON object."""
    add_speedups(bench.rows)
    order = {shape: i for i, shape in enumerate(bench.shapes)}
    codecs = {c.name: i for i, c in enumerate(c for _, codecs in bench.builds for c in codecs)}
    memories = {m: i for i, m in enumerate(bench.memories)}
    rows = sorted(
        (row for row in bench.rows if row["products"] == 1),
        key=lambda r: (order[r["rows"], r["cols"]], memories[r["memory"]], codecs[r["codec"]]),
    )
    queued = [row for row in bench.rows if row["products"] > 1]
    wrong = sum(row["outputs_checked"] - row["outputs_equal"] for row in bench.rows)
    return {
        "source": "simulation",
        "command": command,
        "machine": machine(),
        "date": datetime.date.today().isoformat(),
        "seed": bench.seed,
        "rows": rows,
        "queued": queued,
        "targets": check_targets(bench.rows),
        "status": "different" if wrong else "ok",
    }


def run(args: argparse.Namespace, console: Console) -> int:
    from seedlm.golden.files.atomic import atomic_path
    from seedlm.sim.pictures import draw

    shapes = args.shape or list(QUICK_SHAPES if args.quick else SHAPES)
    if args.preset:
        codecs = args.codec or list(args.preset.codecs)
    else:
        codecs = args.codec or [CODECS[name] for name in (QUICK_CODECS if args.quick else CODECS)]
    memories = [name for name in MEMORIES if name in (args.memory or DEFAULT_MEMORIES)]
    bench = Bench(
        list(dict.fromkeys(shapes)), list(dict.fromkeys(codecs)), memories, queued=not args.shape, seed=args.seed,
        console=console, build=args.preset, **OPTIONS,
    )  # fmt: skip
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SeedLMError(f"{args.out}: cannot make this directory: {error.strerror}") from error

    report: dict = {}

    def save(_: int) -> None:
        report.update(_report(bench, _command(args)))
        for name, text in (("bench.json", json.dumps(report, indent=1) + "\n"), ("bench.md", markdown(report))):
            with atomic_path(args.out / name) as path:
                path.write_text(text)

    bench.run(save)
    if not args.shape:
        from seedlm.sim.speed import speed

        console.hint("simulation speed")
        report["simulation_speed"] = speed(seed=args.seed)
        save(0)
    console.json(report)
    for target in report["targets"]:
        number = "{:.4f}" if target["at_least"] > 1 else "{:.2%}"
        console.print(
            f"{'met   ' if target['met'] else 'MISSED'}  {target['what']}: {number.format(target['measured'])}"
            f" (at least {number.format(target['at_least'])})"
        )
    if "simulation_speed" in report:
        console.print(f"{report['simulation_speed']['what']}:")
        for name, figure in report["simulation_speed"]["cycles_per_second"].items():
            console.print(f"{figure:>11,}  {name}")
    files = ["bench.json", "bench.md"]
    try:
        files += draw(report["rows"], args.out)
    except SeedLMError as error:
        console.hint(str(error))
    console.print(f"{args.out}: {', '.join(files)}")
    if report["status"] == "ok":
        return 0
    complain("outputs differ from the reference")
    return 1
