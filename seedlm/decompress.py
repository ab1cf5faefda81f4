"""``seedlm decompress``: a packed file back to plain tensors."""

from __future__ import annotations

import argparse
from pathlib import Path

from golden.errors import SeedLMError
from seedlm.arguments import DTYPES, dtype_argument, require_new, require_writable
from seedlm.console import Console, human_bytes

NAME = "decompress"
SUMMARY = "expand a packed file to plain tensors"
DESCRIPTION = """\
Write the weights that a packed file stands for, as a plain safetensors file that other programs
read. Tensors that were not compressed are copied as they are.
"""
EXAMPLES = """\
examples:
  seedlm decompress packed.safetensors weights.safetensors
  seedlm decompress packed.safetensors weights.safetensors --dtype original
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="packed file")
    parser.add_argument("output", metavar="OUT", type=Path, help="safetensors file to write")
    parser.add_argument(
        "--dtype", metavar="DTYPE", type=dtype_argument, default="F32",
        help=f"dtype of the expanded tensors: {', '.join(DTYPES)} (what each was before compression); default F32",
    )  # fmt: skip


def run(args: argparse.Namespace, console: Console) -> int:
    require_new(args.output, args.file)
    require_writable(args.output)

    import numpy as np

    from golden.files import PackedFile, RawTensor, write_tensors

    file = PackedFile(args.file)
    expanded: dict[str, RawTensor] = {}
    with console.progress("expanding", sum(i.shape[0] * i.shape[1] for i in file.tensors.values())) as advance:
        for name, info in file.tensors.items():
            dtype = info.dtype if args.dtype == "original" else args.dtype
            # F16 from float64, so that the weights are rounded once
            tensor = RawTensor.from_array(file.matrix(name).decode(np.float64 if dtype == "F16" else np.float32), dtype)
            if not np.isfinite(tensor.array()).all():
                raise SeedLMError(f"{args.file}: tensor {name!r}: a weight is too large for {dtype}: try --dtype F32")
            expanded[name] = tensor
            advance(info.shape[0] * info.shape[1])
    # as other programs name the layout of tensors written by PyTorch; some refuse a file without it
    write_tensors(args.output, expanded | {name: file.raw(name) for name in file.other}, {"format": "pt"})

    console.json(
        {
            "file": str(args.file),
            "output": str(args.output),
            "tensors": {name: {"dtype": t.dtype, "shape": list(t.shape)} for name, t in expanded.items()},
            "copied": file.other,
            "output_bytes": args.output.stat().st_size,
            "status": "ok",
        }
    )
    console.print(
        f"{args.output}: {len(expanded)} tensors expanded to {args.dtype}, {len(file.other)} copied,"
        f" {human_bytes(args.output.stat().st_size)}"
    )
    return 0
