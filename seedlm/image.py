"""``seedlm image``: memory images of one product, for a board."""

from __future__ import annotations

import argparse
from pathlib import Path

from seedlm.arguments import PACKED_HELP, add_build_arguments, build_config, scale_argument
from seedlm.console import Console, by, human_bytes

NAME = "image"
SUMMARY = "write the memory images of one product, for a board"
DESCRIPTION = """\
Write what a board's memory must hold for Y = W X with one tensor, and what must come out:

  weights.bin, scales.bin (row scales), activations.bin   to load at the addresses of the manifest
  expected.bin    the results region afterwards, up to the last row, bit for bit
  manifest.json   addresses, sizes, checksums, the registers to check and to write, in order
"""
EXAMPLES = """\
examples:
  seedlm image packed.safetensors --tensor model.layers.0.mlp.up_proj.weight --out out/image
  seedlm image packed.safetensors --tensor NAME --x x.npy --base 0x10000000 --out out/image
"""


def _address(text: str) -> int:
    try:
        value = int(text, 0)
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected an address such as 0x10000000, not {text!r}")
    return value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help=PACKED_HELP)
    parser.add_argument("--tensor", metavar="NAME", required=True, help="compressed tensor (see seedlm info)")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="directory; made if missing")
    parser.add_argument(
        "--x", metavar="X.npy", type=Path,
        help="activations, float16 [cols] (default: normally distributed numbers from --seed)",
    )  # fmt: skip
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="seed of X where no --x is given (default: 0)")
    parser.add_argument(
        "--scale", metavar="S", type=scale_argument,
        help="scale of the product, rounded to binary32 (default: the tensor's own; none with row scales)",
    )  # fmt: skip
    parser.add_argument("--base", metavar="ADDRESS", type=_address, default=0, help="first address (default: 0)")
    board = parser.add_argument_group("sizes of the build on the board")
    add_build_arguments(board, codec=False)


def run(args: argparse.Namespace, console: Console) -> int:
    import numpy as np

    from seedlm.build.bringup import MANIFEST, write_images
    from seedlm.golden.files.npy import load_npy
    from seedlm.golden.files.sources import open_packed_source

    matrix = open_packed_source(args.file).matrix(args.tensor)
    config = build_config(args, matrix.codec)
    if args.x is None:
        x = np.random.default_rng(args.seed).standard_normal(matrix.cols).astype(np.float16)
    else:
        x = load_npy(args.x, np.float16, matrix.cols)
    manifest = write_images(args.out, config, matrix, x, scale=args.scale, base=args.base, name=args.tensor)
    console.table(
        ("<region", "<file", "address", "size", "CRC-32"),
        [
            (region, entry["file"], entry["address"], human_bytes(entry["bytes"]), entry["crc32"])
            for region, entry in manifest["regions"].items()
        ],
    )
    console.print()
    console.print(f"{args.out / MANIFEST}: {args.tensor} ({by(matrix.shape)}, {matrix.codec}), {config.lanes} lanes;"
                  f" {len(manifest['registers'])} register writes")  # fmt: skip
    console.json({"out": str(args.out), "manifest": manifest, "status": "ok"})
    return 0
