"""``seedlm verilog``: the accelerator's Verilog for one configuration."""

from __future__ import annotations

import argparse

from golden.errors import SeedLMError
from golden.params import Config
from seedlm.arguments import codec_argument, positive
from seedlm.console import Console

NAME = "verilog"
SUMMARY = "generate the accelerator's Verilog"
DESCRIPTION = """\
Write the accelerator's Verilog, seedlm_accelerator.v, and seedlm_accelerator.json with the
configuration, every derived width and the versions of the tools. The same arguments give the same
bytes; files that already hold them are left alone.
"""
EXAMPLES = """\
examples:
  seedlm verilog --out out/rtl
  seedlm verilog --out out/rtl --codec seedlm3 --lanes 8
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    default = Config()
    parser.add_argument("--out", metavar="DIR", required=True, help="directory for the two files; made if missing")
    parser.add_argument(
        "--codec", type=codec_argument, default=default.codec, help=f"how weights are stored (default: {default.codec})"
    )
    for flag, field, what in (
        ("--lanes", "lanes", "rows worked on at once"),
        ("--bus-bits", "bus_bits", "width of the memory's AXI4 data bus"),
        ("--addr-bits", "addr_bits", "width of AXI4 addresses"),
        ("--max-cols", "max_cols", "longest activation vector"),
        ("--queue-depth", "queue_depth", "products that can wait"),
    ):
        value = getattr(default, field)
        what = f"{what} (default: {value})"
        parser.add_argument(flag, dest=field, metavar="N", type=positive, default=value, help=what)


def run(args: argparse.Namespace, console: Console) -> int:
    try:
        config = Config(
            codec=args.codec,
            lanes=args.lanes,
            bus_bits=args.bus_bits,
            addr_bits=args.addr_bits,
            max_cols=args.max_cols,
            queue_depth=args.queue_depth,
        )
    except ValueError as error:
        raise SeedLMError(str(error)) from error

    # after the checks: the hardware takes a moment to import
    from build.verilog import generate

    generated = generate(config, args.out)
    lines = generated.verilog.read_text().count("\n")
    console.print(f"{generated.verilog}: {lines:,} lines, {'written' if generated.changed else 'unchanged'}")
    console.print(f"{generated.config}: {config.codec}, {config.lanes} lanes, {config.bus_bits}-bit memory bus")
    console.json(
        {
            "verilog": str(generated.verilog),
            "config": str(generated.config),
            "changed": generated.changed,
            "lines": lines,
            "description": generated.description,
            "status": "ok",
        }
    )
    return 0
