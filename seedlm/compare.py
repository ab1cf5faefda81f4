"""``seedlm compare``: what formats of weights do to a model, and what each costs on the same engine, in one table."""

from __future__ import annotations

import argparse
import datetime
import json
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seedlm import evaluate
from seedlm.arguments import CODEC_HELP, add_memory_argument, codec_argument, positive
from seedlm.bench import machine, shape_argument
from seedlm.build.pages import comparison, formats
from seedlm.console import Console, complain
from seedlm.golden.build import Config
from seedlm.golden.codecs import BASELINE, CODECS, Codec
from seedlm.golden.errors import SeedLMError

if TYPE_CHECKING:
    from seedlm.sim.memory import Memory

NAME = "compare"
SUMMARY = "compare all formats of weights: quality, cycles and area on the same engine"
DESCRIPTION = """\
One row for each codec, ours and the formats that others use: what it does to a model (as seedlm
evaluate measures it, with the best encoder, without calibration), how many cycles a product of
random weights takes on an accelerator that is built for this codec alone (as seedlm bench measures
it, all outputs compared with the reference), and what one lane of it costs (as seedlm estimate).

Writes compare.json, compare.md, and a picture of errors, divergences and areas over the bits of a
weight (compare.svg and .png). fp16 is always measured along: the speed-up is over it.

What was encoded, simulated or synthesised before is in the cache. The first time every codec takes
about two minutes of processor time, most of it for the C++ compiler; --no-sim and --no-estimate
leave out what is slow.
"""
EXAMPLES = """\
examples:
  seedlm compare models/tiny-python --bytes 8192
  seedlm compare models/tiny-python --bytes 2048 --no-sim --no-estimate
  seedlm compare models/tiny-python --codec trellis4 --codec mxfp4 --codec nvfp4 --shape 1024x1024
  seedlm compare DIR --text book.txt --context 2048 --out out/book --json

What it prints:
  bits        stored for a weight of a long row, without scales of rows
  in model    bits per weight of this model: its rows' ends and scales, too
  rel. error  of the weights (Frobenius)
  bits/byte   -log2 p of the text, per byte
  KL          divergence from the original's predictions, bits per token
  cycles      of a product of the shape
  efficiency  beats of its own data over cycles: what is left of the memory's speed
  speed-up    cycles of fp16 over cycles
  LUT, FF, DSP48E1 of one lane; lanes may differ in the columns that they take per clock
"""
QUALITY = ("rel_error", "bits_per_byte", "kl_bits_per_token", "agreement", "encoder")
TIMING = ("cycles", "data_beats", "efficiency", "outputs_checked", "outputs_equal")
FIGURES = "figures.json"
OPTIONS: dict[str, int] = {}  # of every build, besides the codec


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL", type=Path, help="Hugging Face directory or GGUF file, as of seedlm evaluate"
    )
    parser.add_argument(
        "--codec", metavar="NAME", type=codec_argument, action="append", default=[],
        help=f"this codec and {BASELINE} only; may be given several times: {CODEC_HELP} (default: all presets)",
    )  # fmt: skip
    parser.add_argument(
        "--text", metavar="FILE", type=Path, help="text in UTF-8 (default: heldout.txt in the directory)"
    )
    parser.add_argument("--bytes", metavar="N", type=positive, help="only the first N bytes of it")
    parser.add_argument(
        "--context", metavar="N", type=positive, help="tokens of a window (default: the model's context)"
    )
    parser.add_argument(
        "--shape", metavar="ROWSxCOLS", type=shape_argument, default=(4096, 4096),
        help="of the product that is simulated (default: 4096x4096)",
    )  # fmt: skip
    add_memory_argument(parser)
    parser.add_argument("--no-sim", action="store_true", help="no cycles: nothing is simulated")
    parser.add_argument("--no-estimate", action="store_true", help="no areas: nothing is synthesised")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, default=Path("out/compare"), help="where the files go (default: out/compare)"
    )


def run(args: argparse.Namespace, console: Console) -> int:
    from seedlm.golden.files.atomic import atomic_path

    started = time.perf_counter()
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SeedLMError(f"{args.out}: cannot make this directory: {error.strerror}") from error
    codecs = list(dict.fromkeys([CODECS[BASELINE], *(args.codec or CODECS.values())]))
    if not (args.no_sim and args.no_estimate):
        for codec in codecs:  # there may be no build with it: refuse before anything is measured
            Config(codec=codec, **OPTIONS)
    report: dict[str, Any] = {}
    for report in _reports(args, codecs, console):  # after each part, so that none of them is lost
        report["seconds"] = round(time.perf_counter() - started, 1)
        for name, text in (("json", json.dumps(report, indent=1) + "\n"), ("md", markdown(report))):
            with atomic_path(args.out / f"{NAME}.{name}") as path:
                path.write_text(text, encoding="utf-8")
    files = [f"{NAME}.json", f"{NAME}.md"]
    try:
        files += draw(report, args.out)
    except SeedLMError as error:
        console.hint(str(error))
    console.json(report)
    headings, *rows = comparison(report["rows"])
    console.table(headings, rows)
    console.print(f"{args.out}: {', '.join(files)}")
    if report["status"] == "ok":
        return 0
    complain("outputs differ from the reference")
    return 1


def _reports(args: argparse.Namespace, codecs: list[Codec], console: Console) -> Iterator[dict]:
    """The report with one part more each time."""
    quality = _quality(args, codecs, console)
    measured = {row["name"]: row for row in quality["rows"]}
    rows = [
        {"codec": codec.name, "family": codec.family, "established": codec.established,
         "bits_per_weight": codec.bits_per_weight, "bits_in_model": measured[codec.name]["bits_per_weight"],
         **{key: measured[codec.name][key] for key in QUALITY}}
        for codec in codecs
    ]  # fmt: skip
    about = ("model", "text", "bytes", "tokens", "context", "weights")
    report = {
        "source": "quality measured, cycles simulated, areas estimated", "command": _command(args),
        "machine": machine(), "date": datetime.date.today().isoformat(),
        **{key: quality[key] for key in about}, "original_bits_per_byte": quality["rows"][0]["bits_per_byte"],
        "shape": "{}x{}".format(*args.shape), "memory": args.memory, "lanes": Config(**OPTIONS).lanes,
        "rows": rows, "status": "ok",
    }  # fmt: skip
    yield report
    if not args.no_estimate:
        for row, areas in zip(rows, _areas(codecs, console), strict=True):
            row |= areas
        yield report
    if not args.no_sim:
        for row, timing in zip(rows, _timings(args, codecs, console), strict=True):
            row |= timing
            row["speedup_vs_fp16"] = rows[0]["cycles"] / row["cycles"]
            if row["outputs_equal"] != row["outputs_checked"]:
                report["status"] = "different"
            yield report


def _quality(args: argparse.Namespace, codecs: list[Codec], console: Console) -> dict:
    """The report of `seedlm evaluate`."""
    from seedlm.host.checkpoint import Checkpoint

    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    wanted = parser.parse_args([str(args.model), "--encoder", "optimal"])
    wanted.codec, wanted.text = codecs, [args.text] if args.text else []
    wanted.bytes, wanted.context = args.bytes, args.context
    checkpoint = Checkpoint(args.model)
    if checkpoint.packed:
        raise SeedLMError(f"{args.model}: is packed: expected the original weights")
    return evaluate.Measurement(checkpoint, checkpoint, wanted, console, time.perf_counter()).run()


def _areas(codecs: list[Codec], console: Console) -> Iterator[dict]:
    """What a lane of each costs."""
    from seedlm.build.estimate import estimate

    with console.progress("synthesising lanes", len(codecs)) as advance:
        for codec in codecs:
            total = estimate("lane", Config(codec=codec, **OPTIONS)).total
            yield {"step_columns": codec.step_columns, "luts": total.luts, "ffs": total.ffs, "dsps": total.dsps}
            advance(1)


def _timings(args: argparse.Namespace, codecs: list[Codec], console: Console) -> Iterator[dict]:
    """Cycles of a product with each, and whether its outputs are the reference's."""
    from seedlm.sim.measure import product_beats
    from seedlm.sim.memories import memory

    builds = [Config(codec=codec, **OPTIONS) for codec in codecs]
    beats = [product_beats(config, *args.shape) for config in builds]
    console.hint("preparing simulations (compiled once for each codec, then kept)")
    with console.progress("simulating", sum(beats)) as advance:
        for config, count in zip(builds, beats, strict=True):
            yield timing(config, args.shape, memory(args.memory))
            advance(count)


def timing(config: Config, shape: tuple[int, int], memory: Memory) -> dict:
    """Cycles and checked outputs of one product of random weights, measured once and kept in the cache."""
    from seedlm import golden, host, sim
    from seedlm.build.verilog import accelerator_verilog
    from seedlm.golden.files.cache import cached, digest, source_digest
    from seedlm.sim.accelerator import Accelerator
    from seedlm.sim.benchmark import measure

    def make(folder: Path) -> None:
        with Accelerator(config, memory=memory) as device:
            measured = measure(device, *shape, seed=0)
        figures = measured.figures() | {"outputs_checked": measured.checked}
        (folder / FIGURES).write_text(json.dumps({key: figures[key] for key in TIMING}), encoding="utf-8")

    # The hardware, what is around it, where the regions lie, and what the outputs are compared with.
    around = source_digest(sim, suffixes=(".sv", ".cpp", ".h")), source_digest(golden, host)
    key = digest(accelerator_verilog(config), *around, memory, shape)
    folder = cached("comparison", config.codec.name, key, make)
    return json.loads((folder / FIGURES).read_text(encoding="utf-8"))


def _command(args: argparse.Namespace) -> str:
    """The command that does the same."""
    words = ["seedlm", NAME, str(args.model)]
    for codec in args.codec:
        words += ["--codec", codec.name]
    for name in ("text", "bytes", "context"):
        if getattr(args, name):
            words += [f"--{name}", str(getattr(args, name))]
    if not args.no_sim:
        words += ["--shape", "{}x{}".format(*args.shape), "--memory", args.memory]
    words += ["--no-sim"] * args.no_sim + ["--no-estimate"] * args.no_estimate
    return shlex.join(words)


def markdown(report: dict) -> str:
    """The page beside the data."""
    model = f"`{report['model']}`, {report['bytes']:,} bytes of `{report['text']}`"
    lines = ["# Formats of weights on the same engine", "", f"Quality measured on {model}"]
    if any("cycles" in row for row in report["rows"]):
        where = f"from simulation, {report['memory']} memory, {report['lanes']} lanes"
        lines[-1] += f"; cycles of {report['shape']} {where}"
    if any("luts" in row for row in report["rows"]):
        lines[-1] += "; areas of one lane as Yosys estimates them"
    lines[-1] += "."
    lines += ["", *formats(report["rows"]), "", f"`{report['command']}`, {report['date']}, {report['machine']}.", ""]
    return "\n".join(lines)


# --- the picture ------------------------------------------------------------------------------------
PANELS = (
    ("bits_in_model", "rel_error", "relative error of the weights", "log"),
    ("bits_in_model", "kl_bits_per_token", "KL divergence, bits per token", "log"),
    ("bits_per_weight", "luts", "LUTs of a lane (estimated)", "linear"),
)
WIDEST = 10  # bits of what is drawn: the baseline is far from all others
PLACES = tuple((dx, dy) for dy in (0, 7, -7, 14, -14, 21, -21) for dx in (6, -6))  # of labels, in points


def draw(report: dict, folder: Path) -> list[str]:
    """Errors, divergences and, where they are there, areas over the bits of a weight; the files' names.

    Raises
    ------
    SeedLMError
        matplotlib is not installed.
    """
    from seedlm.sim.pictures import painting, save

    panels = [panel for panel in PANELS if any(panel[1] in row for row in report["rows"])]
    rows = [row for row in report["rows"] if row["bits_per_weight"] <= WIDEST]
    if not rows:
        return []
    with painting() as new:
        figure = new(figsize=(6.5 * len(panels), 6.5), layout="constrained")
        for axes, (x, y, label, scale) in zip(figure.subplots(1, len(panels)), panels, strict=True):
            for others, name, style in ((False, "this project's and the paper's", "o"), (True, "others'", "s")):
                points = [(row[x], row[y]) for row in rows if row["established"] is others]
                axes.plot(*zip(*points, strict=True) if points else ([], []), style, label=name,
                          color="tab:gray" if others else "tab:red", markersize=5)  # fmt: skip
            axes.set(xlabel="bits per weight" + ", in this model" * (x == "bits_in_model"), ylabel=label, yscale=scale)
            axes.grid(alpha=0.3)
            axes.margins(0.12)
        axes.legend(fontsize=8)
        figure.draw_without_rendering()  # from here on points have their places
        for axes, (x, y, *_) in zip(figure.axes, panels, strict=True):
            _label(axes, [(row["codec"], row[x], row[y], row["established"]) for row in rows])
        return save(figure, folder, NAME)


def _label(axes: Any, points: list[tuple[str, float, float, bool]]) -> None:
    """Write a name at each point, where the fewest others are."""
    size, per_point = 7, axes.figure.dpi / 72
    at = [axes.transData.transform((x, y)) / per_point for _, x, y, _ in points]
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in at]

    def box(place: tuple[int, int], i: int) -> tuple[float, float, float, float]:
        dx, dy = place
        (x, y), width = at[i], 0.66 * size * len(points[i][0])
        left = x + dx if dx > 0 else x + dx - width
        return left, y + dy - size / 2, left + width, y + dy + size / 2

    def hits(place: tuple[int, int], i: int) -> int:
        a = box(place, i)
        return sum(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] for b in taken)

    for i, (name, x, y, others) in enumerate(points):
        place = min(PLACES, key=lambda p, i=i: hits(p, i))
        taken.append(box(place, i))
        axes.annotate(name, (x, y), xytext=place, textcoords="offset points", fontsize=size, va="center",
                      ha="left" if place[0] > 0 else "right", color="dimgray" if others else "tab:red")  # fmt: skip
