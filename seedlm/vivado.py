"""``seedlm vivado``: scripts for Vivado, and running them."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from seedlm.arguments import add_build_arguments, build_config
from seedlm.console import Console, complain
from seedlm.golden.errors import SeedLMError

NAME = "vivado"
SUMMARY = "write (and run) a Vivado flow: out-of-context, IP core, or a system for a board"
DESCRIPTION = """\
Write everything a Vivado flow needs to a directory: Verilog, constraints, Tcl. Vivado is needed only
to run it (--run, or vivado -mode batch -source FLOW.tcl in the directory, on any machine).

  ooc      synthesis, placement and routing of the accelerator alone; all reports
  ip       the accelerator packaged as IP-XACT for Vivado's catalogue
  system   a design for a board: DDR3 controller, accelerator, JTAG as the host; bitstream and reports
"""
EXAMPLES = """\
examples:
  seedlm vivado --flow ooc --out out/ooc
  seedlm vivado --flow ooc --out out/ooc --codec seedlm4r --run
  seedlm vivado --flow ip --out out/ip
  seedlm vivado --flow system --board vc707 --out out/vc707
  seedlm vivado --flow system --board my_board.py --out out/my_board --run
  seedlm vivado --flow ooc --out out/ooc --report     the table of an earlier run; writes nothing
"""


def _period(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1 <= value <= 1000:
        raise argparse.ArgumentTypeError(f"expected a period of 1 to 1000 ns, not {text!r}")
    return value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--flow", choices=("ooc", "ip", "system"), required=True, help="what to build (see above)")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="directory of the flow; made if missing")
    parser.add_argument(
        "--part", metavar="PART", help="7-series part (default: xc7v585tffg1761-3; for system the board's)"
    )
    parser.add_argument(
        "--period", metavar="NS", type=_period,
        help="period of the clock (default: 4.286, which is 233.33 MHz; for system the memory controller's)",
    )  # fmt: skip
    parser.add_argument(
        "--board", metavar="BOARD",
        help="for system: vc707 (default), xc7v585t (a template to fill in), or a Python file that defines a board",
    )  # fmt: skip
    add_build_arguments(parser)
    parser.add_argument(
        "--vivado-version", metavar="V", default="2024.1",
        help="the Vivado that the scripts accept (default: 2024.1, whose documentation they were written from)",
    )  # fmt: skip
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--run", dest="execute", action="store_true", help="run Vivado, then report")
    action.add_argument("--report", action="store_true", help="report what an earlier run left in the directory")


def _report(project, console: Console) -> dict:
    """Print and return the reports of the last stage; empty for the flow that has none."""
    from seedlm.build import parts, reports, vivado

    if project.flow == "ip":
        return {}
    found = reports.read(project.out / vivado.REPORTS)
    timing = found.timing
    capacity = parts.part(project.part).capacity
    console.table(("<resource", "used", "available", ""), reports.rows(found.resources, capacity))
    console.print()
    slack = "none" if timing.wns_ns is None else f"{timing.wns_ns:+.3f} ns"
    if timing.constrained:
        verdict = "met" if timing.met else f"NOT met, {timing.failing:,} end points fail"
    else:
        verdict = "NOT checked, the design has no clock"
    console.print(f"timing {verdict}: worst setup slack {slack}")
    if timing.worst is not None:
        path = timing.worst
        console.print(f"worst path: {path.delay_ns:g} ns, {path.levels} levels, {path.source} -> {path.destination}")
    for title, counts in (("DRC", found.drc), ("methodology", found.methodology)):
        if counts is not None:
            named = [f"{count} {severity.lower()}" for severity, count in counts.items() if count]
            console.print(f"{title}: {', '.join(named) or 'no violations'}")
    if found.power is not None:
        console.print(f"power (estimated by Vivado): {found.power['total_w']:g} W")
    for reason in found.unread:
        console.print(f"not understood: {reason}")
    return found.as_dict()


def _earlier(args: argparse.Namespace, console: Console) -> int:
    """Report what is in the directory, made with whatever arguments."""
    from seedlm.build import vivado

    if args.flow == "ip":
        raise SeedLMError("the flow ip has no reports")
    project = vivado.read_project(args.flow, args.out)
    console.print(f"{project.out}: flow {project.flow}, {project.board or project.part},"
                  f" {1000 / project.period_ns:.2f} MHz")  # fmt: skip
    report = _described(project) | {"reports_are_old": vivado.reports_are_old(project)}
    if report["reports_are_old"]:
        console.print("these reports are OLDER than the design in the directory: run it again")
    console.print()
    report["reports"] = _report(project, console)
    console.json(report)
    return 0


def _described(project) -> dict:
    return {
        "out": str(project.out),
        "flow": project.flow,
        "script": project.script,
        "part": project.part,
        "board": project.board,
        "period_ns": project.period_ns,
        "vivado": project.version,
        "files": list(project.files),
        "changed": project.changed,
        "to_fill_in": list(project.fill_in),
        "status": "ok",
    }


def run(args: argparse.Namespace, console: Console) -> int:
    if args.report:
        return _earlier(args, console)
    config = build_config(args)

    # after the checks: the hardware takes a moment to import
    from seedlm.build import vivado

    project = vivado.write_project(
        args.flow, config, args.out, part_name=args.part, period_ns=args.period, board=args.board,
        version=args.vivado_version,
    )  # fmt: skip
    clock = f"{1000 / project.period_ns:.2f} MHz"
    console.print(f"{project.out}: flow {project.flow}, {len(project.files)} files,"
                  f" {'written' if project.changed else 'unchanged'}")  # fmt: skip
    console.print(f"{config.name}, {config.lanes} lanes on {project.board or project.part}, {clock}")
    if project.fill_in:
        console.print(f"to be filled in before it can run: {len(project.fill_in)} values (listed in vivado.json)")
    report = _described(project)
    if args.execute:
        return _run(project, report, console)
    if not project.fill_in:
        console.print(f"to run it: cd {shlex.quote(str(project.out))} && vivado -mode batch -source {project.script}")
    console.json(report)
    return 0


def _run(project, report: dict, console: Console) -> int:
    from seedlm.build import vivado

    console.hint(f"running Vivado, its output is in {project.out / vivado.LOG}")
    done = vivado.run(project)
    console.print(f"Vivado {done.version}: exit code {done.exit_code}, {len(done.critical_warnings)} critical warnings")
    for line in done.critical_warnings:
        console.print(f"  {line}")
    report["run"] = {
        "exit_code": done.exit_code,
        "version": done.version,
        "log": str(done.log),
        "critical_warnings": list(done.critical_warnings),
        "errors": list(done.errors),
    }
    if done.exit_code != 0:
        reason = done.errors[0] if done.errors else "it says nothing"
        report["status"] = "error"
        report["error"] = f"Vivado ended with exit code {done.exit_code}: {reason} (see {done.log})"
        complain(report["error"])
        console.json(report)
        return 1
    report["reports"] = _report(project, console)
    met = not report["reports"] or report["reports"]["timing"]["met"]
    report["status"] = "ok" if met else "timing not met"
    console.json(report)
    return 0 if met else 1
