"""``seedlm verilog``: the accelerator's Verilog for one configuration."""

from __future__ import annotations

import argparse

from seedlm.arguments import add_build_arguments, build_config
from seedlm.console import Console

NAME = "verilog"
SUMMARY = "generate the accelerator's Verilog"
DESCRIPTION = """\
Write the accelerator's Verilog, seedlm_accelerator.v, and seedlm_accelerator.json with the
configuration, every derived width and the versions of the tools. It is plain Verilog-2005 that
starts the same way where a tool reads it as SystemVerilog. The same arguments give the same bytes;
files that already hold them are left alone.
"""
EXAMPLES = """\
examples:
  seedlm verilog --out out/rtl
  seedlm verilog --out out/rtl --codec seedlm3 --lanes 8
  seedlm verilog --out out/rtl --codec trellis4 --codec trellis2 --codec fp16
  seedlm verilog --out out/rtl --preset universal
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", metavar="DIR", required=True, help="directory for the two files; made if missing")
    add_build_arguments(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    config = build_config(args)

    # after the checks: the hardware takes a moment to import
    from seedlm.build.export import generate

    generated = generate(config, args.out)
    lines = generated.verilog.read_text().count("\n")
    console.print(f"{generated.verilog}: {lines:,} lines, {'written' if generated.changed else 'unchanged'}")
    console.print(f"{generated.config}: {config.name}, {config.lanes} lanes, {config.bus_bits}-bit memory bus")
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
