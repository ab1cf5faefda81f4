"""``seedlm info``: what is in a packed model, every word checked."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from seedlm.arguments import PACKED_HELP
from seedlm.console import Console, by, human_bytes

if TYPE_CHECKING:
    from seedlm.host.formats import Format

NAME = "info"
SUMMARY = "list and check a packed model, or list a GGUF file"
DESCRIPTION = """\
List the tensors of a packed file and check every word: sizes, a seed of 0 with non-zero
coefficients, row scales and binary16 weights that are not finite, another format or version.
Anything found is an error (exit code 1).

FILE is a packed file, the index of several, or a folder with either. Of a model in another form (a
GGUF file) it lists what config.json would say and the tensors, as seedlm compress would take them.
"""
EXAMPLES = """\
examples:
  seedlm info packed.safetensors
  seedlm info packed.safetensors --json
  seedlm info packed
  seedlm info model.gguf
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help=f"{PACKED_HELP}; or a GGUF file")


def run(args: argparse.Namespace, console: Console) -> int:
    from seedlm.host.formats import format_of

    form = format_of(args.file)
    return _foreign(args, console, form) if form else _packed(args, console)


def _packed(args: argparse.Namespace, console: Console) -> int:
    """A packed model: every word checked."""
    import numpy as np

    from seedlm.golden.files.packed import FORMAT, VERSION
    from seedlm.golden.files.sources import open_packed_source

    model = open_packed_source(args.file)
    tensors: dict[str, dict] = {}
    words = 0
    with console.progress("checking", sum(i.shape[0] * i.shape[1] for i in model.tensors.values())) as advance:
        for name, info in model.tensors.items():
            matrix = model.matrix(name)
            size, count = matrix.rows * matrix.cols, math.prod(info.codec.words_layout(*matrix.shape)[1])
            words += count
            tensors[name] = {
                "codec": info.codec.name,
                "shape": list(info.plain_shape),
                "transposed": info.transposed,
                "exp_bias": info.exp_bias,
                "rotation": info.rotation and info.rotation.block,
                "dtype": info.dtype,
                "words": count,
                "zero_words": sum(int(np.count_nonzero(part.words == 0)) for part in matrix.parts()),
                "bits_per_weight": matrix.stored_bits / size,
            }
            advance(size)
    other = {name: {"dtype": t.dtype, "shape": list(t.shape)} for name, t in model.other.items()}
    size = model.source.bytes
    console.json(
        {
            "file": str(args.file),
            "format": FORMAT,
            "version": VERSION,
            "shards": list(model.files),
            "bytes": size,
            "tensors": tensors,
            "other": other,
            "words_checked": words,
            "status": "ok",
        }
    )
    _print_tensors(tensors, other, console)
    console.print()
    files = f" in {len(model.files)} files" if len(model.files) > 1 else ""
    console.print(
        f"{args.file}: {human_bytes(size)}{files}, version {VERSION}, {len(tensors)} compressed tensors,"
        f" {len(other)} copied; {words:,} words checked, all good"
    )
    return 0


def _print_tensors(tensors: dict[str, dict], other: dict[str, dict], console: Console) -> None:
    console.table(
        ("<tensor", "<codec", "shape", "bits/weight", "exp. bias", "rotation", "<source"),
        [
            (name, t["codec"], by(t["shape"]), f"{t['bits_per_weight']:.3f}", str(t["exp_bias"]),
             str(t["rotation"] or "-"), t["dtype"])
            for name, t in tensors.items()
        ],
    )  # fmt: skip
    if other:
        console.print()
        console.table(
            ("<copied tensor", "<dtype", "shape"),
            [(name, t["dtype"], by(t["shape"])) for name, t in other.items()],
        )
    if turned := sum(t["transposed"] for t in tensors.values()):
        console.print()
        console.print(f"compressed transposed, rows are outputs: {turned} of the tensors")


def _foreign(args: argparse.Namespace, console: Console, form: Format) -> int:
    """A model in another form: what it is, and its tensors."""
    from seedlm.golden.files.sources import CONFIG

    source = form.open(args.file)
    config = source.json(CONFIG) or {}
    tensors = {name: {"dtype": t.dtype, "shape": list(t.shape)} for _, name, t in source.tensors()}
    console.json(
        {
            "file": str(args.file),
            "format": form.name,
            "bytes": source.bytes,
            "config": config,
            "quantised_before": dict(source.quantised),
            "files_made": source.copied,
            "tensors": tensors,
            "status": "ok",
        }
    )
    console.table(("<config.json", "<"), [(name, str(value)) for name, value in config.items()])
    console.print()
    console.table(("<tensor", "<dtype", "shape"), [(n, t["dtype"], by(t["shape"])) for n, t in tensors.items()])
    console.print()
    console.print(f"{args.file}: {form.name}, {human_bytes(source.bytes)}, {len(tensors)} tensors")
    if source.history:
        console.print(source.history)
    return 0
