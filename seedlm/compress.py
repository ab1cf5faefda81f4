"""``seedlm compress``: a safetensors file to a packed file."""

from __future__ import annotations

import argparse
import time
from fnmatch import fnmatchcase
from pathlib import Path

from golden.errors import SeedLMError
from seedlm.arguments import CODEC_HELP, codec_argument, exp_bias_argument, require_new, require_writable
from seedlm.console import Console, by, human_bytes

NAME = "compress"
SUMMARY = "compress the matrices of a safetensors file"
DESCRIPTION = """\
Compress every 2-D floating tensor (F16, BF16, F32) of IN into OUT, a safetensors file again; all
other tensors are copied as they are. Each block of weights becomes the seed, exponent and
coefficients that reproduce it best. Ends with each tensor's relative error (Frobenius) and stored
bits per weight.
"""
EXAMPLES = """\
examples:
  seedlm compress model.safetensors packed.safetensors
  seedlm compress model.safetensors packed.safetensors --codec seedlm3 --exclude '*embed*' --exclude lm_head.weight
  seedlm compress model.safetensors one.safetensors --include '*layers.0*' --json

A pattern matches a tensor's whole name; * and ? match any characters, dots too.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", metavar="IN", type=Path, help="safetensors file with the weights")
    parser.add_argument("output", metavar="OUT", type=Path, help="packed file to write")
    parser.add_argument("--codec", type=codec_argument, default="seedlm4", help=f"{CODEC_HELP} (default: seedlm4)")
    parser.add_argument(
        "--encoder", choices=["paper"], default="paper",
        help="how blocks are searched: paper is Algorithm 3, exhaustive over all seeds (default)",
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
        help="the tensors' exponent bias b, weights are N 2^(e+b) / (2^(K-1)-1): an integer, or auto (default)",
    )  # fmt: skip


def _chosen(args: argparse.Namespace, file) -> list[str]:
    """Names of the tensors to compress, in the order of the file."""
    possible = [name for name, t in file.tensors.items() if t.is_float and len(t.shape) == 2 and all(t.shape)]
    if not possible:
        raise SeedLMError(f"{file.path}: nothing to compress: it has no 2-D tensor of F16, BF16 or F32")
    for pattern in args.include:
        if not any(fnmatchcase(name, pattern) for name in possible):
            raise SeedLMError(
                f"{file.path}: --include {pattern!r} matches no 2-D floating tensor; one is {possible[0]!r}"
            )
    included = [n for n in possible if not args.include or any(fnmatchcase(n, p) for p in args.include)]
    chosen = [n for n in included if not any(fnmatchcase(n, p) for p in args.exclude)]
    if not chosen:
        raise SeedLMError(f"{file.path}: nothing to compress: --exclude leaves none of {len(included)} tensors")
    return chosen


def run(args: argparse.Namespace, console: Console) -> int:
    require_new(args.output, args.input)
    require_writable(args.output)

    from encoder import compress_matrix, relative_error
    from encoder.matrix import row_energy
    from golden.files import FORMAT, TensorFile, write_packed

    started = time.perf_counter()
    file = TensorFile(args.input)
    if file.metadata.get("format") == FORMAT:
        raise SeedLMError(f"{args.input}: is a packed file already: expected weights as F16, BF16 or F32")
    chosen = _chosen(args, file)
    shapes = {name: file.tensors[name].shape for name in chosen}
    weights = sum(rows * cols for rows, cols in shapes.values())

    matrices, reports = {}, {}
    error_energy = energy = 0.0
    with console.progress("compressing", weights, "{:,.0f} weights".format) as advance:
        for name in chosen:
            rows, cols = shapes[name]
            seen = 0

            def step(done: int, total: int, size: int = rows * cols) -> None:
                nonlocal seen
                now = size * done // total
                advance(now - seen)
                seen = now

            w = file.array(name)
            matrix = compress_matrix(
                w, args.codec, args.encoder, args.exp_bias,
                dtype=file.tensors[name].dtype, name=f"{args.input}: tensor {name!r}", progress=step,
            )  # fmt: skip
            step(1, 1)
            rel_error = relative_error(w, matrix)
            norm = float(row_energy(w).sum())
            energy += norm
            error_energy += norm * rel_error**2
            matrices[name] = matrix
            reports[name] = {
                "codec": matrix.codec.name,
                "shape": [rows, cols],
                "rel_error": rel_error,
                "bits_per_weight": matrix.stored_bits / (rows * cols),
                "exp_bias": matrix.exp_bias,
            }
    other = {name: tensor for name, tensor in file.tensors.items() if name not in matrices}
    write_packed(args.output, matrices, other)

    report = {
        "input": str(args.input),
        "output": str(args.output),
        "codec": args.codec.name,
        "encoder": args.encoder,
        "tensors": reports,
        "copied": list(other),
        "weights": weights,
        "rel_error": (error_energy / energy) ** 0.5 if energy else 0.0,
        "bits_per_weight": sum(m.stored_bits for m in matrices.values()) / weights,
        "input_bytes": args.input.stat().st_size,
        "output_bytes": args.output.stat().st_size,
        "seconds": round(time.perf_counter() - started, 3),
        "status": "ok",
    }
    console.json(report)
    _print(report, console)
    return 0


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
    console.print(f"{before} -> {after}; {len(report['copied'])} other tensors copied; {report['seconds']:.1f} s")
