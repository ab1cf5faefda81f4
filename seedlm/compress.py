"""``seedlm compress``: a model's weights to packed files."""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from seedlm.arguments import CODEC_HELP, codec_argument, exp_bias_argument, positive, require_new, require_writable
from seedlm.console import Console, by, human_bytes, human_time
from seedlm.golden.build import DEFAULT_CODEC, Codec
from seedlm.golden.errors import SeedLMError

if TYPE_CHECKING:
    import numpy as np

    from seedlm.encoder.workspace import Workspace
    from seedlm.golden.files.sources import Source
    from seedlm.golden.files.tensors import RawTensor

DEFAULT_ENCODER = "optimal"
# Fewer blocks than this are done before the processes of a pool have started.
WORTH_PROCESSES = 1 << 17

NAME = "compress"
SUMMARY = "compress the matrices of a model"
DESCRIPTION = """\
Compress every 2-D floating tensor (F16, BF16, F32) of IN into OUT; all other tensors are copied as
they are. Each block of weights becomes the seed, exponent and coefficients that reproduce it best.
Ends with each tensor's relative error (Frobenius) and stored bits per weight.

IN is a safetensors file, the index of a sharded one, or a Hugging Face folder with either. OUT is a
packed file, or for an index or a folder a folder of packed files under the same names.

An interrupted run can be continued: the same command takes up the units that were finished, which
wait in a folder next to OUT, and ends with the same bytes as an uninterrupted one.
"""
EXAMPLES = """\
examples:
  seedlm compress model.safetensors packed.safetensors
  seedlm compress model.safetensors packed.safetensors --codec seedlm3r --exclude '*embed*' --exclude lm_head.weight
  seedlm compress model.safetensors one.safetensors --include '*layers.0*' --json
  seedlm compress Llama-2-7b-hf packed --plan
  seedlm compress Llama-2-7b-hf packed --jobs 16
  seedlm compress Llama-2-7b-hf packed --cluster dask --scheduler tcp://10.0.0.1:8786

A pattern matches a tensor's whole name; * and ? match any characters, dots too, all others
themselves.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", metavar="IN", type=Path, help="safetensors file, *.index.json, or folder with either")
    parser.add_argument("output", metavar="OUT", type=Path, help="packed file, or folder of packed files, to write")
    parser.add_argument(
        "--codec", metavar="CODEC", type=codec_argument, default=DEFAULT_CODEC,
        help=f"{CODEC_HELP} (default: {DEFAULT_CODEC})",
    )  # fmt: skip
    parser.add_argument(
        "--encoder", choices=["optimal", "paper"], default=DEFAULT_ENCODER,
        help="how blocks are searched, over all seeds: optimal finds the best of all words, paper is Algorithm 3"
        f" (default: {DEFAULT_ENCODER})",
    )  # fmt: skip
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
        " how much the squared error of a column counts",
    )  # fmt: skip
    parser.add_argument(
        "--jobs", metavar="N", type=positive, help="processors to use (default: all); does not change the result"
    )
    parser.add_argument("--plan", action="store_true", help="say what would be done, with sizes and time, and stop")
    parser.add_argument("--cluster", choices=["dask"], help="encode on an existing cluster instead of this machine")
    parser.add_argument(
        "--scheduler", metavar="ADDRESS", help="the cluster's scheduler (default: what Dask is configured for)"
    )


@dataclass(eq=False)
class Task:
    """A tensor to compress."""

    number: int
    shard: str
    name: str
    label: str  # for messages
    tensor: RawTensor
    codec: Codec
    importance: np.ndarray | None
    bias: int = 0
    slices: list[tuple[int, int]] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, int]:
        return self.tensor.shape[0], self.tensor.shape[1]

    @property
    def weights(self) -> int:
        return self.shape[0] * self.shape[1]

    @property
    def row_blocks(self) -> int:
        return self.codec.blocks(self.shape[1])

    @property
    def row_bytes(self) -> int:
        """Bytes of a stored row without its scale."""
        return self.codec.row_bytes(self.shape[1])

    @property
    def stored_bits(self) -> int:
        return self.codec.stored_bits(*self.shape)


def _chosen(args: argparse.Namespace, source: Source) -> list[tuple[str, str, RawTensor]]:
    """The tensors to compress, in the order of the files."""
    from seedlm.golden.files.sources import matches

    possible = [x for x in source.tensors() if x[2].is_float and len(x[2].shape) == 2 and all(x[2].shape)]
    if not possible:
        raise SeedLMError(f"{source.path}: nothing to compress: it has no 2-D tensor of F16, BF16 or F32")
    for pattern in args.include:
        if not any(matches(name, pattern) for _, name, _ in possible):
            raise SeedLMError(
                f"{source.path}: --include {pattern!r} matches no 2-D floating tensor; one is {possible[0][1]!r}"
            )
    included = [x for x in possible if not args.include or any(matches(x[1], p) for p in args.include)]
    chosen = [x for x in included if not any(matches(x[1], p) for p in args.exclude)]
    if not chosen:
        raise SeedLMError(f"{source.path}: nothing to compress: --exclude leaves none of {len(included)} tensors")
    return chosen


def _importance(path: Path | None, codec: Codec, source: Source) -> dict[str, np.ndarray]:
    """The vectors of an importance file, checked: float64 by tensor name."""
    import numpy as np

    from seedlm.encoder.families import encoder_of
    from seedlm.golden.files.tensors import TensorFile

    if path is None:
        return {}
    if not encoder_of(codec).uses_importance:
        raise SeedLMError(f"{path}: codec {codec} rounds every weight: --importance has no meaning for it")
    file = TensorFile(path)
    matrices = {name: tensor.shape for _, name, tensor in source.tensors() if len(tensor.shape) == 2}
    out = {}
    for name in file.tensors:
        if name not in matrices:
            raise SeedLMError(f"{path}: {name!r} is not a 2-D tensor of {source.path}")
        vector = file.array(name)
        cols = matrices[name][1]
        if vector.shape != (cols,) or vector.dtype.kind != "f":
            raise SeedLMError(f"{path}: {name!r}: expected a floating vector of {cols} elements, one per column,"
                              f" found {vector.dtype} {list(vector.shape)}")  # fmt: skip
        vector = vector.astype(np.float64)
        if not (np.isfinite(vector) & (vector >= 0)).all():
            raise SeedLMError(f"{path}: {name!r}: expected finite non-negative numbers")
        out[name] = vector
    if not out:
        raise SeedLMError(f"{path}: has no tensor: expected a vector for each tensor that has an importance")
    return out


def tasks(args: argparse.Namespace, source: Source) -> list[Task]:
    """What is to be done, without having looked at any weight."""
    from seedlm.encoder.matrix import slices

    importance = _importance(args.importance, args.codec, source)
    out = []
    for number, (shard, name, tensor) in enumerate(_chosen(args, source)):
        label = f"{source.label(shard)}: tensor {name!r}"
        weights = importance.get(name)
        cut = list(slices(args.codec, tensor.shape, weights is not None))
        out.append(Task(number, shard, name, label, tensor, args.codec, weights, slices=cut))
    return out


def _prepare(args: argparse.Namespace, plan: list[Task], console: Console) -> str:
    """Look at all weights: sets each task's exponent bias; the digest of all that decides on the result."""
    from seedlm.encoder.units import code_digest, prepare

    digest = hashlib.blake2b(digest_size=16)

    def add(*what: object) -> None:
        digest.update(repr(what).encode())

    add(code_digest(), args.codec.name, args.encoder)
    with console.progress("checking", sum(t.weights for t in plan), "{:,.0f} weights".format) as advance:
        for task in plan:
            task.bias, content = prepare(task.tensor, task.codec, args.exp_bias, task.label, advance)
            weighted = None if task.importance is None else hashlib.blake2b(task.importance.tobytes()).hexdigest()
            add(task.shard, task.name, task.tensor.dtype, task.shape, content, task.bias, weighted)
    return digest.hexdigest()


def _encode(args: argparse.Namespace, plan: list[Task], work: Workspace, console: Console) -> tuple[int, int]:
    """Encode what is not finished yet; (units, blocks) that were."""
    import numpy as np

    from seedlm.encoder.pool import cores, encode_here, encode_in_processes
    from seedlm.encoder.units import Unit, code_digest
    from seedlm.golden.files.tensors import RawTensor

    todo = []
    found = found_blocks = 0
    for task in plan:
        for start, stop in task.slices:
            if work.get(task.number, start, (stop - start, task.row_bytes), task.codec.row_scales) is None:
                todo.append((task, start, stop))
            else:
                found += 1
                found_blocks += (stop - start) * task.row_blocks
    blocks = sum((stop - start) * task.row_blocks for task, start, stop in todo)
    if found:
        console.hint(f"{found} of {found + len(todo)} units were finished by an earlier run")

    def make(task: Task, start: int, stop: int) -> Unit:
        rows = task.tensor.rows(start, stop)
        rows = RawTensor(rows.dtype, rows.shape, np.array(rows.data, subok=False))  # read now, not mapped
        code = code_digest() if args.cluster else ""
        return Unit(rows, task.codec, args.encoder, task.bias, task.importance, code=code)

    queue = (((task, start, stop), lambda x=(task, start, stop): make(*x)) for task, start, stop in todo)
    jobs = args.jobs or cores()
    if not todo:
        results: Iterator = iter(())
    elif args.cluster == "dask":
        from seedlm.encoder.cluster import encode_on_dask

        results = encode_on_dask(queue, args.scheduler)
    elif jobs > 1 and len(todo) > 1 and (args.jobs or blocks >= WORTH_PROCESSES):
        results = encode_in_processes(queue, min(jobs, len(todo)))
    else:
        results = encode_here(queue, jobs)
    with console.progress("compressing", blocks, "{:,.0f} blocks".format) as advance:
        try:
            for (task, start, stop), unit in results:
                work.put(task.number, start, unit)
                advance((stop - start) * task.row_blocks)
        finally:
            if hasattr(results, "close"):
                results.close()
    return found, found_blocks


def _write(args: argparse.Namespace, source: Source, plan: list[Task], work: Workspace) -> dict[str, dict]:
    """Put the finished units together: shards, index, other files. Returns the tensors' reports."""
    import numpy as np

    from seedlm.golden.files.packed import TensorInfo, stored_parts, write_stored
    from seedlm.golden.files.sources import write_index

    if source.folder:
        args.output.mkdir(exist_ok=True)
    reports = {}
    for shard, file in source.shards.items():
        infos, stored = {}, {}
        for task in (t for t in plan if t.shard == shard):
            units = []
            for start, stop in task.slices:
                unit = work.get(task.number, start, (stop - start, task.row_bytes), task.codec.row_scales)
                if unit is None:
                    raise SeedLMError(f"{work.path}: a finished unit of {task.name!r} has gone: run the command again")
                units.append(unit)
            data = work.joined(f"{task.number:06d}", [u.data for u in units])
            scales = np.concatenate([u.scales for u in units]) if task.codec.row_scales else None
            infos[task.name] = TensorInfo(task.codec, task.shape, task.bias, task.tensor.dtype)
            stored[task.name] = stored_parts(infos[task.name], data, scales)
            err, norm = (sum(getattr(u, k) for u in units) for k in ("err", "norm"))
            reports[task.name] = {
                "codec": task.codec.name,
                "shape": list(task.shape),
                "rel_error": (err / norm) ** 0.5 if norm else float(err > 0),
                "bits_per_weight": task.stored_bits / task.weights,
                "exp_bias": task.bias,
                "shard": shard,
                "err": err,
                "norm": norm,
            }
        other = {name: tensor for name, tensor in file.tensors.items() if name not in infos}
        target = args.output / shard if source.folder else args.output
        write_stored(target, infos, stored, other, file.metadata)
        work.clear_joined()
    if source.folder:
        write_index(args.output, source)
    return reports


def run(args: argparse.Namespace, console: Console) -> int:
    from seedlm.golden.files.sources import open_source, require_output

    if args.scheduler and not args.cluster:
        raise SeedLMError("--scheduler needs --cluster dask")
    if args.plan:
        return _plan(args, console)
    if not args.input.is_dir() and not args.input.name.endswith(".index.json"):
        require_new(args.output, args.input)
        require_writable(args.output)
    source = open_source(args.input)
    require_output(args.output, source)
    require_writable(args.output.parent / f".{args.output.name}.tmp")  # the work folder goes here

    from seedlm.encoder.workspace import Workspace

    started = time.perf_counter()
    plan = tasks(args, source)
    work = Workspace(args.output, _prepare(args, plan, console))
    for path in work.strangers:
        console.hint(f"{path} has units of another input or other options; remove it if it is not needed")
    with work:
        try:
            encoding = time.perf_counter()
            found, found_blocks = _encode(args, plan, work, console)
            encoding = time.perf_counter() - encoding
        except KeyboardInterrupt:
            finished = work.finished()
            if finished:
                units = sum(len(t.slices) for t in plan)
                console.warn(f"{finished} of {units} units are in {work.path}; the same command continues")
            raise
        reports = _write(args, source, plan, work)
        work.remove()

    error, energy = (sum(r.pop(k) for r in reports.values()) for k in ("err", "norm"))
    weights = sum(t.weights for t in plan)
    blocks = sum(t.shape[0] * t.row_blocks for t in plan)
    report = {
        "input": str(args.input),
        "output": str(args.output),
        "codec": args.codec.name,
        "encoder": args.encoder,
        "tensors": reports,
        "copied": [name for _, name, _ in source.tensors() if name not in reports],
        "shards": list(source.shards),
        "files_copied": source.copied,
        "files_left_out": [path.name for path in source.left_out],
        "weights": weights,
        "rel_error": (error / energy) ** 0.5 if energy else 0.0,
        "bits_per_weight": sum(t.stored_bits for t in plan) / weights,
        "input_bytes": source.bytes,
        "output_bytes": _size(args.output, source),
        "units": sum(len(t.slices) for t in plan),
        "units_resumed": found,
        "blocks": blocks,
        "blocks_per_second": round((blocks - found_blocks) / encoding) if encoding else 0,
        "seconds": round(time.perf_counter() - started, 3),
        "status": "ok",
    }
    console.json(report)
    _print(report, console)
    if source.remark:
        console.print(source.remark)
    return 0


def _size(output: Path, source: Source) -> int:
    return sum((output / shard if source.folder else output).stat().st_size for shard in source.shards)


def _print(report: dict, console: Console) -> None:
    rows = [
        (name, by(t["shape"]), f"{t['rel_error']:.4f}", f"{t['bits_per_weight']:.3f}", str(t["exp_bias"]))
        for name, t in report["tensors"].items()
    ]
    console.table(("<tensor", "shape", "rel. error", "bits/weight", "exp. bias"), rows)
    console.print()
    console.print(
        f"{report['output']}: {len(rows)} tensors, {report['weights']:,} weights in codec {report['codec']}:"
        f" {report['bits_per_weight']:.3f} bits per weight, relative error {report['rel_error']:.4f}"
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


# --- plan ------------------------------------------------------------------------------------------
def _speed(args: argparse.Namespace, plan: list[Task], weighted: bool) -> float:
    """Seconds of one processor per block, measured on a few rows of the largest tensor."""
    from dataclasses import replace

    from seedlm.encoder.matrix import largest_weight, settle
    from seedlm.encoder.units import Unit, encode_unit
    from seedlm.golden.files.tensors import RawTensor

    some = [t for t in plan if (t.importance is not None) == weighted]
    task = max(some, key=lambda t: t.weights)
    rows, cols, C = *task.shape, task.codec.C
    if weighted:  # most of the work is done per column, for all rows of a unit
        rows, cols = min(rows, task.slices[0][1]), min(cols, 2 * C)
    else:
        rows = min(rows, max(1, 2048 // task.row_blocks))
    w = task.tensor.rows(0, rows).array()[:, :cols]
    importance = None if task.importance is None else task.importance[:cols]
    bias = settle(w, task.codec, args.exp_bias, largest_weight([w], task.label), task.label)
    unit = Unit(RawTensor.from_array(w), task.codec, args.encoder, bias, importance, threads=1)
    encode_unit(replace(unit, rows=unit.rows.rows(0, 1)))  # compiles, makes tables
    started = time.perf_counter()
    encode_unit(unit)
    return (time.perf_counter() - started) / (rows * task.codec.blocks(cols))


def _plan(args: argparse.Namespace, console: Console) -> int:
    """Say what would be done."""
    from seedlm.encoder.pool import cores
    from seedlm.golden.files.sources import open_source

    source = open_source(args.input)
    plan = tasks(args, source)
    jobs = args.jobs or cores()
    speeds = {w: _speed(args, plan, w) for w in {t.importance is not None for t in plan}}
    reports = {}
    for task in plan:
        blocks = task.shape[0] * task.row_blocks
        reports[task.name] = {
            "shard": task.shard,
            "dtype": task.tensor.dtype,
            "shape": list(task.shape),
            "blocks": blocks,
            "units": len(task.slices),
            "weighted": task.importance is not None,
            "input_bytes": task.tensor.data.nbytes,
            "output_bytes": task.stored_bits // 8,
            "seconds": blocks * speeds[task.importance is not None] / min(jobs, max(1, blocks // 64)),
        }
    copied = {name: tensor.data.nbytes for _, name, tensor in source.tensors() if name not in reports}

    def total(key: str) -> float:
        return sum(t[key] for t in reports.values())

    report = {
        "input": str(args.input),
        "output": str(args.output),
        "codec": args.codec.name,
        "encoder": args.encoder,
        "jobs": jobs,
        "shards": list(source.shards),
        "tensors": reports,
        "copied": copied,
        "files_copied": source.copied,
        "files_left_out": [path.name for path in source.left_out],
        "weights": sum(t.weights for t in plan),
        "blocks": total("blocks"),
        "units": total("units"),
        "input_bytes": source.bytes,
        "output_bytes": total("output_bytes") + sum(copied.values()),
        "bits_per_weight": sum(t.stored_bits for t in plan) / sum(t.weights for t in plan),
        "microseconds_per_block": {("weighted" if w else "plain"): 1e6 * s for w, s in speeds.items()},
        "seconds": total("seconds"),
        "status": "ok",
    }
    console.json(report)
    console.table(
        ("<tensor", "shape", "<dtype", "blocks", "before", "after", "time"),
        [
            (name, by(t["shape"]), t["dtype"], f"{t['blocks']:,}", human_bytes(t["input_bytes"]),
             human_bytes(t["output_bytes"]), human_time(t["seconds"]))
            for name, t in reports.items()
        ],
    )  # fmt: skip
    console.print()
    console.print(
        f"{len(reports)} tensors, {report['weights']:,} weights to codec {args.codec} with encoder {args.encoder}"
        f" at {report['bits_per_weight']:.3f} bits per weight, {report['units']} units of work"
    )
    console.print(
        f"{len(copied)} other tensors copied ({human_bytes(sum(copied.values()))});"
        f" {human_bytes(report['input_bytes'])} -> {human_bytes(report['output_bytes'])}"
    )
    where = "a cluster's time depends on its size; here " if args.cluster else ""
    console.print(
        f"{where}about {human_time(report['seconds'])} with {jobs} {'process' if jobs == 1 else 'processes'},"
        " measured on a few blocks; nothing was written"
    )
    return 0
