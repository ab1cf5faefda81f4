"""``seedlm registers``: the register map for programs and people."""

from __future__ import annotations

import argparse
from pathlib import Path

from seedlm.arguments import require_writable
from seedlm.console import Console

NAME = "registers"
SUMMARY = "write the register map as a C header or as a page of documentation"
DESCRIPTION = """\
Write the accelerator's registers as a C header (offsets, fields, error codes; also for C++) or as the page that is in
the documentation, to standard output or to a file. Both come from the table that the hardware is made from, so they
are the same for every configuration.
"""
EXAMPLES = """\
examples:
  seedlm registers --out seedlm_registers.h
  seedlm registers --format markdown --out docs/registers.md
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=("c", "markdown"), default="c", help="what to write (default: c)")
    parser.add_argument("--out", metavar="FILE", type=Path, help="file to write (default: standard output)")


def run(args: argparse.Namespace, console: Console) -> int:
    # after parsing: the hardware takes a moment to import
    from seedlm.build.outputs import write_if_changed
    from seedlm.hdl import registers

    text = registers.c_header() if args.format == "c" else registers.markdown()
    changed = None
    if args.out is None:
        console.print(text.removesuffix("\n"))
    else:
        require_writable(args.out)
        changed = write_if_changed(args.out, text)
        console.print(f"{args.out}: {len(registers.REGISTERS)} registers, {'written' if changed else 'unchanged'}")
    table = [
        {
            "name": r.name, "offset": r.offset, "access": r.access.value, "reset": r.reset, "doc": r.doc,
            "fields": [vars(field) for field in r.fields],
        }
        for r in registers.REGISTERS
    ]  # fmt: skip
    console.json(
        {
            "out": None if args.out is None else str(args.out),
            "changed": changed,
            "registers": table,
            "error_codes": {code.name: code.value for code in registers.ErrorCode},
            "status": "ok",
        }
    )
    return 0
