"""``seedlm decompress``: a packed model back to plain tensors."""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from seedlm.arguments import DTYPES, PACKED_HELP, dtype_argument
from seedlm.console import Console, human_bytes
from seedlm.golden.errors import SeedLMError

if TYPE_CHECKING:
    from seedlm.golden.files.packed import PackedFile
    from seedlm.golden.files.tensors import RawTensor

NAME = "decompress"
SUMMARY = "expand a packed model to plain tensors"
DESCRIPTION = """\
Write the weights that a packed file stands for, as a plain safetensors file that other programs
read. Tensors that were not compressed are copied as they are.

FILE is a packed file, the index of several, or a folder with either; for an index or a folder OUT is
a folder too, with the same file names and copies of the other files.
"""
EXAMPLES = """\
examples:
  seedlm decompress packed.safetensors weights.safetensors
  seedlm decompress packed.safetensors weights.safetensors --dtype original
  seedlm decompress packed Llama-2-7b-again --dtype F16
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help=PACKED_HELP)
    parser.add_argument("output", metavar="OUT", type=Path, help="safetensors file, or folder of such files, to write")
    parser.add_argument(
        "--dtype", metavar="DTYPE", type=dtype_argument, default="F32",
        help=f"dtype of the expanded tensors: {', '.join(DTYPES)} (what each was before compression); default F32",
    )  # fmt: skip


def _expand(file: PackedFile, dtype: str, advance) -> dict[str, RawTensor]:
    """The compressed tensors of a file as plain ones."""
    import numpy as np

    from seedlm.golden.files.tensors import RawTensor

    out = {}
    for name, info in file.tensors.items():
        kind = info.dtype if dtype == "original" else dtype
        # F16 from float64, so that the weights are rounded once
        weights = file.matrix(name).decode(np.float64 if kind == "F16" else np.float32)
        out[name] = RawTensor.from_array(info.plain(weights), kind)
        if not np.isfinite(out[name].array()).all():
            raise SeedLMError(f"{file.path}: tensor {name!r}: a weight is too large for {kind}: try --dtype F32")
        advance(info.shape[0] * info.shape[1])
    return out


def run(args: argparse.Namespace, console: Console) -> int:
    from seedlm.golden.files.atomic import atomic_folder
    from seedlm.golden.files.sources import open_packed_source, require_output, write_index
    from seedlm.golden.files.tensors import write_tensors

    model = open_packed_source(args.file)
    folder = model.source.folder
    require_output(args.output, model.source)
    tensors, size = {}, 0
    with (
        atomic_folder(args.output, last=".index.json") if folder else nullcontext() as parent,
        console.progress("expanding", sum(i.shape[0] * i.shape[1] for i in model.tensors.values())) as advance,
    ):
        for shard, file in model.files.items():
            expanded = _expand(file, args.dtype, advance)
            target = parent / shard if folder else args.output
            # "pt": as other programs name the layout of tensors written by PyTorch; some refuse a file without it
            metadata = file.source_metadata | {"format": "pt"}
            write_tensors(target, expanded | {name: file.raw(name) for name in file.other}, metadata)
            tensors |= {name: {"dtype": t.dtype, "shape": list(t.shape)} for name, t in expanded.items()}
            size += target.stat().st_size
        if folder:
            write_index(parent, model.source)

    console.json(
        {
            "file": str(args.file),
            "output": str(args.output),
            "shards": list(model.files),
            "tensors": tensors,
            "copied": list(model.other),
            "files_copied": model.source.copied,
            "files_left_out": [path.name for path in model.source.left_out],
            "output_bytes": size,
            "status": "ok",
        }
    )
    files = f" in {len(model.files)} files" if len(model.files) > 1 else ""
    console.print(
        f"{args.output}: {len(tensors)} tensors expanded to {args.dtype}, {len(model.other)} copied,"
        f" {human_bytes(size)}{files}"
    )
    if model.source.remark:
        console.print(model.source.remark)
    return 0
