"""``seedlm reference``: the product that the accelerator must reproduce, from the NumPy reference."""

from __future__ import annotations

import argparse
from pathlib import Path

from seedlm.arguments import PACKED_HELP, require_writable, scale_argument
from seedlm.console import Console

NAME = "reference"
SUMMARY = "multiply with the NumPy reference"
DESCRIPTION = """\
Compute Y = W X for one tensor with the bit-exact NumPy reference: X float16 [cols], Y float32
[rows]. If an element of X is NaN or infinite, every output is the quiet NaN 0x7FC00000.
"""
EXAMPLES = """\
examples:
  python3 -c "import numpy as np; np.save('x.npy', np.ones(192, np.float16))"
  seedlm reference packed.safetensors --tensor model.layers.0.mlp.up_proj.weight --x x.npy --out y.npy
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help=PACKED_HELP)
    parser.add_argument("--tensor", metavar="NAME", required=True, help="compressed tensor (see seedlm info)")
    parser.add_argument("--x", metavar="X.npy", type=Path, required=True, help="activations, float16 [cols]")
    parser.add_argument("--out", metavar="Y.npy", type=Path, required=True, help="result to write, float32 [rows]")
    parser.add_argument(
        "--scale", metavar="S", type=scale_argument,
        help="scale of the product, rounded to binary32 (default: the tensor's own; none with row scales)",
    )  # fmt: skip


def run(args: argparse.Namespace, console: Console) -> int:
    require_writable(args.out)

    import numpy as np

    from seedlm.golden.files.npy import load_npy, save_npy
    from seedlm.golden.files.sources import open_packed_source
    from seedlm.golden.product import product

    matrix = open_packed_source(args.file).matrix(args.tensor)
    x = load_npy(args.x, np.float16, matrix.cols)
    y = product(matrix, x, args.scale)
    save_npy(args.out, y)

    finite = bool(np.isfinite(x).all())
    scale = None if matrix.codec.row_scales else float(np.float32(matrix.scale if args.scale is None else args.scale))
    console.json(
        {
            "file": str(args.file),
            "tensor": args.tensor,
            "codec": matrix.codec.name,
            "rows": matrix.rows,
            "cols": matrix.cols,
            "scale": scale,
            "x_finite": finite,
            "out": str(args.out),
            "status": "ok",
        }
    )
    console.print(f"{args.out}: {matrix.rows} outputs of {args.tensor} ({matrix.rows} x {matrix.cols}, {matrix.codec})")
    if not finite:
        console.print(f"{args.x} has a NaN or an infinity: every output is NaN")
    return 0
