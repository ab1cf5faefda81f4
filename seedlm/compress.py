"""``seedlm compress``: a model's weights to packed files."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from seedlm.arguments import (
    add_codec_arguments,
    compress_options,
    damping_argument,
    exp_bias_argument,
    positive,
    require_new,
    require_writable,
)
from seedlm.console import Console, by, human_bytes, human_time
from seedlm.golden.errors import SeedLMError
from seedlm.golden.rotation import LEAST_BLOCK

if TYPE_CHECKING:
    from seedlm.encoder.job import Result
    from seedlm.encoder.plan import Layout, Options, Plan
    from seedlm.encoder.workspace import Workspace
    from seedlm.golden.files.sources import Source

NAME = "compress"
SUMMARY = "compress the matrices of a model"
DESCRIPTION = """\
Compress every 2-D floating tensor (F16, BF16, F32) of IN into OUT, and every 3-D one as a stack of
matrices; all other tensors are copied as they are, and so are the routers of mixtures of experts,
learned positions and matrices that would grow. Matrices that the architecture of the model's
config.json has with their inputs first (GPT-2) are compressed with the outputs first, as they are
multiplied. Each block of weights becomes the word that reproduces it best. Ends with each tensor's
relative error (Frobenius), the share of its energy in weights beyond the codec's range, and stored
bits per weight; warns of tensors whose outliers are clipped or cost the other weights of their rows
dearly.

IN is a safetensors file, the index of a sharded one, a Hugging Face folder with either, or a GGUF
file. OUT is a packed file, or for an index or a folder a folder of packed files under the same names;
for a GGUF file a folder with the configuration and the tokenizer that it holds.

An interrupted run can be continued: the same command takes up the units that were finished, which
wait in a folder next to OUT, and ends with the same bytes as an uninterrupted one.
"""
EXAMPLES = """\
examples:
  seedlm compress model.safetensors packed.safetensors
  seedlm compress model.safetensors packed.safetensors --codec seedlm3r --exclude '*embed*' --exclude lm_head.weight
  seedlm compress model.safetensors one.safetensors --include '*layers.0*' --json
  seedlm compress model.safetensors packed.safetensors --set '*embed*=int8' --set 'lm_head.weight=int8'
  seedlm compress model.gguf packed
  seedlm compress Llama-2-7b-hf packed --calibration calibration.safetensors --exclude '*embed*'
  seedlm compress Llama-2-7b-hf packed --plan
  seedlm compress Llama-2-7b-hf packed --jobs 16
  seedlm compress Llama-2-7b-hf packed --cluster dask --scheduler tcp://10.0.0.1:8786

A pattern matches a tensor's whole name; * and ? match any characters, dots too, all others
themselves.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "input", metavar="IN", type=Path, help="safetensors file, *.index.json, folder with either, or GGUF file"
    )
    parser.add_argument("output", metavar="OUT", type=Path, help="packed file, or folder of packed files, to write")
    add_codec_arguments(parser)
    parser.add_argument(
        "--include", metavar="GLOB", action="append", default=[],
        help="compress only tensors whose name matches; may be given several times",
    )  # fmt: skip
    parser.add_argument(
        "--exclude", metavar="GLOB", action="append", default=[],
        help="copy tensors whose name matches; may be given several times",
    )  # fmt: skip
    parser.add_argument(
        "--exp-bias", metavar="B", type=exp_bias_argument, default="auto",
        help="the tensors' exponent bias b, weights are N 2^(e+b) / (2^(K-1)-1): an integer, or auto (default);"
        " not for codecs with row scales",
    )  # fmt: skip
    parser.add_argument(
        "--importance", metavar="FILE", type=Path,
        help="safetensors file with a vector [columns] for each tensor that has one, under the tensor's name:"
        " how much the squared error of a column counts; such a tensor is not rotated",
    )  # fmt: skip
    parser.add_argument(
        "--calibration", metavar="FILE", type=Path,
        help="second moments of the layers' inputs, from seedlm calibrate: what the columns on the left of a row have"
        " lost is made good on the right, for the inputs that really come; no stored bit (see docs/calibration.md)",
    )  # fmt: skip
    parser.add_argument(
        "--damping", metavar="D", type=damping_argument,
        help="of --calibration: D times the mean of the diagonal is added to it, 1e-4 or more (default: 0.1);"
        " less trusts the calibration's tokens more",
    )  # fmt: skip
    parser.add_argument(
        "--jobs", metavar="N", type=positive, help="processors to use (default: all); does not change the result"
    )
    parser.add_argument("--plan", action="store_true", help="say what would be done, with sizes and time, and stop")
    parser.add_argument("--cluster", choices=["dask"], help="encode on an existing cluster instead of this machine")
    parser.add_argument(
        "--scheduler", metavar="ADDRESS", help="the cluster's scheduler (default: what Dask is configured for)"
    )


def run(args: argparse.Namespace, console: Console) -> int:
    from seedlm.golden.files.sources import require_output
    from seedlm.host.formats import format_of, open_plain

    if args.damping is not None and args.calibration is None:
        raise SeedLMError("--damping needs --calibration FILE")
    if args.scheduler and not args.cluster:
        raise SeedLMError("--scheduler needs --cluster dask")
    started = time.perf_counter()
    if args.plan:
        return _plan(args, console)
    if not (args.input.is_dir() or args.input.name.endswith(".index.json") or format_of(args.input)):
        require_new(args.output, args.input)
        require_writable(args.output)
    source = open_plain(args.input)
    require_output(args.output, source)
    require_writable(args.output.parent / f".{args.output.name}.tmp")  # the work folder goes here
    report = _compress(args, console, source)
    report |= {"seconds": round(time.perf_counter() - started, 3), "status": "ok"}
    console.json(report)
    _print(report, console)
    _print_source(source, console)
    return 0


def _compress(args: argparse.Namespace, console: Console, source: Source) -> dict:
    from seedlm.encoder.job import survey, write
    from seedlm.encoder.workspace import Workspace

    options, plan = _planned(args, source)
    with console.progress("checking", plan.weights, "{:,.0f} weights".format) as advance:
        key = survey(plan, options.exp_bias, advance)
    work = Workspace(args.output, key)
    for path in work.leftovers:
        console.hint(f"{path} has units of another input or other options; remove it if it is not needed")
    with work:
        encoding = time.perf_counter()
        resumed, blocks = _encode(args, console, plan, work)
        encoding = time.perf_counter() - encoding
        results = write(plan, work, source, args.output)
        work.remove()
    what = _what(options, source, plan)
    return {
        "input": str(args.input),
        "output": str(args.output),
        **what,
        "copied": list(what["copied"]),
        "unrotated": plan.unrotated(options),
        "calibration": options.calibration and {
            "file": str(options.calibration), "damping": options.damping,
            "without": plan.without_feedback(options),
        },
        **_outcome(results),
        "input_bytes": source.bytes,
        "output_bytes": _size(args.output, source),
        "units": len(plan.pieces),
        "units_resumed": resumed,
        "blocks": plan.blocks,
        "blocks_per_second": round(blocks / encoding) if encoding else 0,
        "leftovers": [str(path) for path in work.leftovers],
    }


def _planned(args: argparse.Namespace, source: Source) -> tuple[Options, Plan]:
    """What is asked for, and what that means for this model."""
    from seedlm.encoder.plan import make_plan

    layout, kinds = _architecture(source)
    options = compress_options(args, kinds=kinds if source.folder or args.recipe else None)
    return options, make_plan(source, options, layout)


def _architecture(source: Source) -> tuple[Layout, dict[str, str] | None]:
    """What the architecture of the model's config.json says of its tensors, and of what kinds its matrices are.

    Nothing and None if there is no architecture that we have.
    """
    from seedlm.encoder.plan import Layout
    from seedlm.golden.files.sources import CONFIG
    from seedlm.host.models import model_config

    content = source.json(CONFIG)
    if content is None:
        return Layout(), None
    try:
        config = model_config(content, str(source.place(CONFIG)))
    except SeedLMError:
        return Layout(), None
    names = config.canonical(name for _, name, _ in source.tensors())
    transposed, vectors = config.transposed, config.vectors()
    layout = Layout(
        transposed=frozenset(name for name, known in names.items() if known in transposed),
        looked_up=frozenset(name for name, known in names.items() if known in vectors),
    )
    kinds = config.kinds()
    return layout, {name: kinds[known] for name, known in names.items() if known in kinds}


def _encode(args: argparse.Namespace, console: Console, plan: Plan, work: Workspace) -> tuple[int, int]:
    """Encode what is not finished yet: (units that were, blocks that were not)."""
    from seedlm.encoder.job import encode, unfinished

    todo, units = unfinished(plan, work), len(plan.pieces)
    blocks = sum(piece.blocks for piece in todo)
    if len(todo) < units:
        console.hint(f"{units - len(todo)} of {units} units were finished by an earlier run")
    try:
        with console.progress("compressing", blocks, "{:,.0f} blocks".format) as advance:
            encode(todo, work, jobs=args.jobs, cluster=bool(args.cluster), scheduler=args.scheduler, advance=advance)
    except KeyboardInterrupt:
        if finished := work.finished():
            console.warn(f"{finished} of {units} units are in {work.path}; the same command continues")
        raise
    return units - len(todo), blocks


# --- reports ---------------------------------------------------------------------------------------
def _what(options: Options, source: Source, plan: Plan) -> dict:
    """What a plan and a finished run say alike."""
    names = {task.name for task in plan.tasks}
    return {
        "codec": options.codec.name,
        "recipe": options.recipe_name or None,
        "codecs": [kind.name for kind in plan.codecs],
        "encoder": options.encoder,
        "copied": {name: t.nbytes for _, name, t in source.tensors() if name not in names},
        "kept": plan.kept,
        "transposed": [task.name for task in plan.tasks if task.transposed],
        "shards": list(source.shards),
        "files_copied": source.copied,
        "files_left_out": [path.name for path in source.left_out],
        "quantised_before": dict(source.quantised),
        "weights": plan.weights,
        "bits_per_weight": plan.bits_per_weight,
    }


def _outcome(results: list[Result]) -> dict:
    """What became of each tensor, and of all of them."""
    from seedlm.encoder.loss import Loss

    total = sum((r.loss for r in results), Loss())
    return {
        "tensors": {
            r.task.name: {
                "codec": r.task.codec.name,
                "shape": list(r.task.info.plain_shape),
                "rel_error": r.loss.relative,
                "beyond_range": r.loss.beyond_share,
                "spoilt_rows": r.loss.spoilt,
                "bits_per_weight": r.task.stored_bits / r.task.weights,
                "exp_bias": r.task.bias,
                "rotation": r.task.rotation and r.task.rotation.block,
                "feedback": r.task.calibration is not None,
                "shard": r.task.shard,
            }
            for r in results
        },
        "rel_error": total.relative,
        "beyond_range": total.beyond_share,
        "warnings": [warning for r in results for warning in r.warnings],
    }


def _size(output: Path, source: Source) -> int:
    return sum((output / shard if source.folder else output).stat().st_size for shard in source.shards)


def _print(report: dict, console: Console) -> None:
    rows = [
        (name, by(t["shape"]), t["codec"], f"{t['rel_error']:.4f}", f"{t['beyond_range']:.3%}",
         f"{t['bits_per_weight']:.3f}", str(t["exp_bias"]))
        for name, t in report["tensors"].items()
    ]  # fmt: skip
    console.table(("<tensor", "shape", "<codec", "rel. error", "beyond range", "bits/weight", "exp. bias"), rows)
    console.print()
    console.print(
        f"{report['output']}: {len(rows)} tensors, {report['weights']:,} weights in {_codecs(report)}:"
        f" {report['bits_per_weight']:.3f} bits per weight,"
        f" relative error {report['rel_error']:.4f}"
    )
    before, after = human_bytes(report["input_bytes"]), human_bytes(report["output_bytes"])
    if report["files_copied"]:
        shards = f"{len(report['shards'])} shard{'s' if len(report['shards']) > 1 else ''}"
        console.print(f"{shards}; copied: {', '.join(report['files_copied'])}")
    resumed = f"; {report['units_resumed']} of {report['units']} units from before" if report["units_resumed"] else ""
    console.print(
        f"{before} -> {after}; {len(report['copied'])} other tensors copied;"
        f" {human_time(report['seconds'])}, {report['blocks_per_second']:,} blocks/s{resumed}"
    )
    _print_kept(report, console)
    for name in report["unrotated"]:
        console.print(f"not rotated: {name}: no power of two of {LEAST_BLOCK} or more divides its columns")
    if report["calibration"] and (names := report["calibration"]["without"]):
        some = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        console.print(f"without feedback: {some}: not in {report['calibration']['file']}, or the codec gains nothing")
    for warning in report["warnings"]:
        console.print(f"warning: {warning}")


def _print_source(source: Source, console: Console) -> None:
    for line in filter(None, (source.remark, source.history)):
        console.print(line)


def _codecs(report: dict) -> str:
    recipe = f"recipe {report['recipe']}, " if report["recipe"] else ""
    return f"{recipe}codec {', '.join(report['codecs'])}"


def _print_kept(report: dict, console: Console) -> None:
    for name, why in report["kept"].items():
        console.print(f"kept as it is: {name} {why}")
    if turned := report["transposed"]:
        more = f" and {len(turned) - 1} more" if len(turned) > 1 else ""
        console.print(f"transposed, rows are outputs: {turned[0]}{more}")


# --- plan ------------------------------------------------------------------------------------------
def _plan(args: argparse.Namespace, console: Console) -> int:
    """Say what would be done."""
    from seedlm.encoder.engines import cores
    from seedlm.encoder.job import seconds_per_block
    from seedlm.host.formats import open_plain

    source = open_plain(args.input)
    options, plan = _planned(args, source)
    jobs = args.jobs or cores()
    speeds = seconds_per_block(plan, options.exp_bias)
    tensors = {
        task.name: {
            "shard": task.shard,
            "codec": task.codec.name,
            "dtype": task.tensor.dtype,
            "shape": list(task.info.plain_shape),
            "blocks": task.blocks,
            "units": len(task.pieces),
            "weighted": task.importance is not None,
            "feedback": task.calibration is not None,
            "input_bytes": task.tensor.nbytes,
            "output_bytes": task.stored_bits // 8,
            "seconds": task.blocks
            * speeds[task.codec.name, task.manner]
            / min(jobs, max(1, task.blocks // 64)),
        }
        for task in plan.tasks
    }
    what = _what(options, source, plan)
    report = {
        "input": str(args.input),
        "output": str(args.output),
        **what,
        "jobs": jobs,
        "tensors": tensors,
        "blocks": plan.blocks,
        "units": len(plan.pieces),
        "input_bytes": source.bytes,
        "output_bytes": sum(t["output_bytes"] for t in tensors.values()) + sum(what["copied"].values()),
        "microseconds_per_block": {
            f"{name}, {manner}" if manner else name: 1e6 * seconds for (name, manner), seconds in speeds.items()
        },
        "seconds": sum(t["seconds"] for t in tensors.values()),
        "status": "ok",
    }
    console.json(report)
    _print_plan(args, report, console)
    _print_source(source, console)
    return 0


def _print_plan(args: argparse.Namespace, report: dict, console: Console) -> None:
    console.table(
        ("<tensor", "shape", "<dtype", "<codec", "blocks", "before", "after", "time"),
        [
            (name, by(t["shape"]), t["dtype"], t["codec"], f"{t['blocks']:,}", human_bytes(t["input_bytes"]),
             human_bytes(t["output_bytes"]), human_time(t["seconds"]))
            for name, t in report["tensors"].items()
        ],
    )  # fmt: skip
    console.print()
    console.print(
        f"{len(report['tensors'])} tensors, {report['weights']:,} weights to {_codecs(report)} with"
        f" encoder {report['encoder']} at {report['bits_per_weight']:.3f} bits per weight,"
        f" {report['units']} units of work"
    )
    console.print(
        f"{len(report['copied'])} other tensors copied ({human_bytes(sum(report['copied'].values()))});"
        f" {human_bytes(report['input_bytes'])} -> {human_bytes(report['output_bytes'])}"
    )
    _print_kept(report, console)
    where = "a cluster's time depends on its size; here " if args.cluster else ""
    jobs = report["jobs"]
    console.print(
        f"{where}about {human_time(report['seconds'])} with {jobs} {'process' if jobs == 1 else 'processes'},"
        " measured on a few blocks; nothing was written"
    )
