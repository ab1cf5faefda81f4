"""``seedlm image``: memory images of one product, for a board."""

from __future__ import annotations

import argparse
from pathlib import Path

from golden.errors import SeedLMError
from golden.params import Config
from seedlm.arguments import PACKED_HELP, positive, scale_argument
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
    default = Config()
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
    for flag, field, what in (
        ("--lanes", "lanes", "lanes of the build on the board"),
        ("--bus-bits", "bus_bits", "width of its memory bus"),
        ("--addr-bits", "addr_bits", "width of its addresses"),
        ("--max-cols", "max_cols", "its longest activation vector"),
        ("--queue-depth", "queue_depth", "products that can wait in it"),
    ):
        value = getattr(default, field)
        parser.add_argument(
            flag, dest=field, metavar="N", type=positive, default=value, help=f"{what} (default: {value})"
        )


def run(args: argparse.Namespace, console: Console) -> int:
    import numpy as np

    from build.bringup import MANIFEST, write_images
    from golden.files import load_npy
    from seedlm.sources import open_packed_source

    matrix = open_packed_source(args.file).matrix(args.tensor)
    try:
        config = Config(
            codec=matrix.codec,
            lanes=args.lanes,
            bus_bits=args.bus_bits,
            addr_bits=args.addr_bits,
            max_cols=args.max_cols,
            queue_depth=args.queue_depth,
        )
    except ValueError as error:
        raise SeedLMError(str(error)) from error
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
