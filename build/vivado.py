"""Vivado: complete scripts for three flows, and running them.

`write_project` needs no Vivado. The same arguments give the same bytes; no path of the machine is in them: the
scripts find their files beside themselves. ``ooc`` implements the accelerator alone, ``ip`` packages it, ``system``
builds a design for a board around it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from seedlm.build.export import NAME, describe
from seedlm.build.outputs import write_if_changed
from seedlm.build.parts import DEFAULT_PART, Part, part
from seedlm.build.rewrite import modules
from seedlm.build.templates import SCRIPTS, fill, tcl_settings
from seedlm.build.verilog import TOP, accelerator_verilog
from seedlm.golden.build import Config
from seedlm.golden.errors import SeedLMError
from seedlm.hdl.registers import ADDRESS_BITS

__all__ = [
    "DEFAULT_BOARD",
    "DEFAULT_PERIOD_NS",
    "FLOWS",
    "MANIFEST",
    "VERSION",
    "Project",
    "Run",
    "read_project",
    "reports_are_old",
    "run",
    "write_project",
]

FLOWS = ("ooc", "ip", "system")
VERSION = "2024.1"  # the Vivado whose documentation the scripts were written from
DEFAULT_PERIOD_NS = 4.286  # 233.33 MHz: the user clock at DDR3-1866
DEFAULT_BOARD = "vc707"
MANIFEST = "vivado.json"
LOG = "vivado.log"
CONSOLE = "vivado_console.log"  # what Vivado printed, should it not have come to a log
REPORTS = Path("reports", "routed")
JOBS = 4  # runs that Vivado may have at work at the same time

VERSION_SECONDS = 120  # for Vivado to say which one it is
GRACE_SECONDS = 10  # for Vivado to end when it is told to

IO_PERCENT = 30  # of a period, for the other side of a port
IP = {"vendor": "seedlm", "library": "ip", "name": NAME, "version": "1.0"}
MIG_MODULE = "system_mig_0"  # as Vivado names cell mig of block design system
LOW_REGISTER_BASE = 0x8000_0000

_SCRIPT_FILES = {
    "ooc": ("common.tcl", "ooc.tcl"),
    "ip": ("common.tcl", "package.tcl", "ip.tcl"),
    "system": ("common.tcl", "package.tcl", "system.tcl"),
}


@dataclass(frozen=True)
class Project:
    """What `write_project` put into a directory.

    Attributes
    ----------
    out : Path
    flow : str
    script : str
        The Tcl script to run, in `out`.
    part : str
    period_ns : float
        Of the accelerator's clock.
    board : str or None
        Of the ``system`` flow.
    version : str
        The Vivado that the scripts ask for.
    files : tuple of str
        All files, in `out`.
    changed : bool
        False if all of them were there already with these contents.
    fill_in : tuple of str
        What the board's definition still lacks; the flow cannot run before it is empty.
    """

    out: Path
    flow: str
    script: str
    part: str
    period_ns: float
    board: str | None
    version: str
    files: tuple[str, ...]
    changed: bool
    fill_in: tuple[str, ...]


def _core_constraints(name: str, part_name: str, period_ns: float) -> str:
    values: dict[str, object] = {"period": f"{period_ns:.3f}"}
    if name == "core.xdc":
        values |= {
            "part": part_name,
            "mhz": f"{1000 / period_ns:.2f}",
            "io_percent": IO_PERCENT,
            "io_delay": f"{period_ns * IO_PERCENT / 100:.3f}",
        }
    return fill(f"{name}.in", **values)


def _ip_settings(config: Config, verilog: str) -> dict[str, object]:
    ports = sorted(next(module.ports for module in modules(verilog) if module.name == TOP))
    return {
        **{f"ip_{key}": value for key, value in IP.items()},
        "ip_description": f"Matrix-vector product with weights stored as {config.name}, {config.lanes} lanes",
        "ip_families": {"virtex7": "Production", "kintex7": "Production", "artix7": "Production", "zynq": "Production"},
        "m_axi_ports": [name for name in ports if name.startswith("m_axi_")],
        "s_axi_ports": [name for name in ports if name.startswith("s_axi_")],
        "m_axi_range": f"{1 << config.addr_bits:#x}",
        "m_axi_data_bits": config.bus_bits,
        "register_bytes": 1 << ADDRESS_BITS,
        "parameters": {
            "CODEC": config.name,
            "LANES": config.lanes,
            "MEMORY_DATA_BITS": config.bus_bits,
            "MEMORY_ADDRESS_BITS": config.addr_bits,
            "MAX_COLUMNS": config.max_cols,
            "MAX_ROWS": config.max_rows,
            "QUEUE_DEPTH": config.queue_depth,
        },
    }


def _board_constraints(board: type) -> str:
    lines = []
    for port, name, number in (("sys_rst", "sys_rst", 0), ("led_calibrated", "led", 0), ("led_irq", "led", 1)):
        pins, attrs, _ = board.pins(name, number)[""]
        lines.append(f"set_property PACKAGE_PIN {pins[0]} [get_ports {port}]")
        lines += [f"set_property {key} {value} [get_ports {port}]" for key, value in attrs.items()]
    configuration = (f"set_property {key} {value} [current_design]" for key, value in board.configuration.items())
    return fill(
        "board.xdc.in",
        title=board.title,
        part=board.part(),
        configuration="\n".join(configuration),
        pins="\n".join(lines),
    )


def _system(board: type) -> tuple[dict[str, object], dict[str, str]]:
    """Settings and files that only the ``system`` flow has."""
    from seedlm.build import mig

    size = board.ddr3.bytes or LOW_REGISTER_BASE
    # Above the memory, whatever its size; JTAG then needs wider addresses.
    base = max(LOW_REGISTER_BASE, 1 << (size - 1).bit_length())
    settings = {
        "fill_in": board.to_fill_in(),
        "memory_bytes": f"{size:#x}",
        "register_base": f"{base:#x}",
        "jtag_address_bits": 32 if base < 1 << 32 else 64,
        "sys_clk_hz": int(board.ddr3.input_mhz * 1_000_000),
        "sys_rst_polarity": "ACTIVE_LOW" if board.pins("sys_rst")[""][2] else "ACTIVE_HIGH",
    }
    return settings, {"mig.prj": mig.project(board, MIG_MODULE), "board.xdc": _board_constraints(board)}


def _board(name: str | None, part_name: str | None) -> type:
    try:
        from seedlm.build import boards
    except ModuleNotFoundError as error:
        raise SeedLMError(f"the system flow needs the package amaranth-boards: {error}") from error
    if name is None and part_name is not None:
        return boards.board_for_part(part_name)
    board = boards.board(name or DEFAULT_BOARD)
    if part_name is not None and part(part_name) != board.part():
        raise SeedLMError(f"board {name} has the part {board.part()}, not {part_name}")
    return board


def _manifest(out: Path) -> dict:
    """What the manifest in `out` says; nothing if it cannot be read."""
    try:
        found = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _project(out: Path, description: dict, *, changed: bool) -> Project:
    """The project that a manifest describes."""
    return Project(
        out=out,
        flow=description["flow"],
        script=description["script"],
        part=description["part"],
        period_ns=float(description["period_ns"]),
        board=description["board"],
        version=description["vivado"],
        files=tuple(sorted([MANIFEST, *description["sha256"]])),
        changed=changed,
        fill_in=tuple(description["to_fill_in"]),
    )


def read_project(flow: str, out: Path | str) -> Project:
    """The project of `flow` that is in `out`; nothing is written.

    Raises
    ------
    SeedLMError
        There is none, or one of another flow.
    """
    out = Path(out)
    try:
        project = _project(out, _manifest(out), changed=False)
    except (KeyError, TypeError, ValueError):
        raise SeedLMError(f"{out}: holds no project: no readable {MANIFEST}") from None
    if project.flow != flow:
        raise SeedLMError(f"{out}: holds a project of the flow {project.flow}, not {flow}")
    return project


def reports_are_old(project: Project) -> bool:
    """Whether the project was written anew after the reports that it holds."""
    reports = project.out / REPORTS / "utilization.rpt"
    return reports.is_file() and reports.stat().st_mtime_ns < (project.out / MANIFEST).stat().st_mtime_ns


def write_project(
    flow: str, config: Config, out: Path | str, *, part_name: str | None = None, period_ns: float | None = None,
    board: str | None = None, version: str = VERSION,
) -> Project:  # fmt: skip
    """Write everything that a flow needs to `out` (made if missing).

    Parameters
    ----------
    flow : str
        One of `FLOWS`.
    config : Config
        What is built. The ``system`` flow needs a 512-bit bus, and addresses for the board's memory.
    out : path
        Must not hold a project of another flow.
    part_name : str, optional
        Default: `DEFAULT_PART`; for ``system`` the board's.
    period_ns : float, optional
        Default: `DEFAULT_PERIOD_NS`; for ``system`` the memory controller's user clock, and no other.
    board : str, optional
        For ``system``: a name of `build.boards.BOARDS` or a Python file. Default: the one with the part, else
        `DEFAULT_BOARD`.
    version : str
        The Vivado that the scripts accept.

    Raises
    ------
    SeedLMError
        Arguments that contradict each other; `out` cannot be written.
    """
    out = Path(out)
    if flow not in FLOWS:
        raise SeedLMError(f"unknown flow {flow!r}: expected {', '.join(FLOWS)}")
    if re.fullmatch(r"\d{4}\.\d+(\.\d+)?", version) is None:
        raise SeedLMError(f"not a version of Vivado: {version!r}, expected one such as {VERSION}")
    target = _target(flow, config, part_name, period_ns, board)
    if (out / MANIFEST).is_file() and (there := _manifest(out).get("flow", "unknown")) != flow:
        raise SeedLMError(f"{out}: holds a project of the flow {there}: choose another directory for {flow}")

    texts = _texts(flow, config, target, version)
    description = {
        "flow": flow,
        "script": f"{flow}.tcl",
        "vivado": version,
        "part": target.part.name,
        "period_ns": target.period_ns,
        "board": None if target.board is None else target.board.title,
        "to_fill_in": [] if target.board is None else target.board.to_fill_in(),
        "sha256": {name: hashlib.sha256(text.encode()).hexdigest() for name, text in sorted(texts.items())},
    }
    texts[MANIFEST] = json.dumps(description, indent=2) + "\n"

    if out.exists() and not out.is_dir():
        raise SeedLMError(f"{out}: is not a directory")
    out.mkdir(parents=True, exist_ok=True)
    changed = [write_if_changed(out / name, text) for name, text in texts.items()]
    return _project(out, description, changed=any(changed))


@dataclass(frozen=True)
class _Target:
    """What a flow builds for; `board` of the ``system`` flow."""

    part: Part
    period_ns: float
    board: type | None = None


def _target(
    flow: str, config: Config, part_name: str | None, period_ns: float | None, board: str | None
) -> _Target:  # fmt: skip
    if flow == "system":
        target = _board_target(config, part_name, period_ns, board)
    elif board is not None:
        raise SeedLMError(f"the flow {flow} needs no board")
    else:
        target = _Target(part(part_name or DEFAULT_PART), period_ns or DEFAULT_PERIOD_NS)
    if not 1 <= target.period_ns <= 1000:
        raise SeedLMError(f"the period must be 1 to 1000 ns, not {target.period_ns:g}")
    return target


def _board_target(config: Config, part_name: str | None, period_ns: float | None, board: str | None) -> _Target:
    chosen = _board(board, part_name)
    clock = chosen.ddr3.user_period_ns
    if period_ns is not None and abs(period_ns - clock) > 1e-3:
        raise SeedLMError(f"the memory of board {chosen.__name__} gives a clock of {clock:g} ns, not {period_ns:g}")
    if config.bus_bits != 512:
        raise SeedLMError(f"the system flow needs a memory bus of 512 bits, not {config.bus_bits}")
    if (chosen.ddr3.bytes or 0) > 1 << config.addr_bits:
        raise SeedLMError(f"{config.addr_bits} address bits do not reach all of the board's memory")
    return _Target(chosen.part(), clock, chosen)


def _texts(flow: str, config: Config, target: _Target, version: str) -> dict[str, str]:
    """The files of a project but its manifest: name to contents."""
    verilog = accelerator_verilog(config)
    settings: dict[str, object] = {"vivado_version": version, "verilog": f"{NAME}.v", "top": TOP}
    texts: dict[str, str] = {}
    if target.board is not None:
        more, texts = _system(target.board)
        settings |= more
    settings |= {"part": target.part.name, "jobs": JOBS}
    if flow != "ooc":
        settings |= _ip_settings(config, verilog)
    constraints = "core.xdc" if flow == "ooc" else "core_ooc.xdc"
    texts |= {
        constraints: _core_constraints(constraints, target.part.name, target.period_ns),
        "settings.tcl": tcl_settings(settings),
        f"{NAME}.v": verilog,
        f"{NAME}.json": json.dumps(describe(config, verilog), indent=2) + "\n",
    }
    return texts | {name: (SCRIPTS / name).read_text(encoding="utf-8") for name in _SCRIPT_FILES[flow]}


# --- running ---------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Run:
    """How a run of Vivado went.

    Attributes
    ----------
    exit_code : int
        Vivado's.
    version : str
        As Vivado gives it.
    log : Path
        Vivado's; what it printed if it has not come to one.
    critical_warnings, errors : tuple of str
        The lines of the log that start so, each warning once, with those of the runs of a project. Without a log the
        error is the last line that Vivado printed.
    """

    exit_code: int
    version: str
    log: Path
    critical_warnings: tuple[str, ...]
    errors: tuple[str, ...]


def _executable() -> str:
    found = shutil.which("vivado")
    if found is None:
        raise SeedLMError("vivado is not on the PATH: run the settings64 script of its installation first,"
                          " or take the directory to a machine that has it")  # fmt: skip
    return found


@contextmanager
def _started(command: list[str], **options: object) -> Iterator[subprocess.Popen]:
    """The running command. If the block fails or is interrupted, it is ended, with all that it started."""
    try:
        # A session of its own: vivado is a script that starts others, and they must end with it.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT, start_new_session=True, **options
        )  # fmt: skip
    except OSError as error:
        raise SeedLMError(f"{command[0]}: cannot be started: {error.strerror}") from None
    try:
        yield process
    except BaseException:
        _end(process)
        raise


def _end(process: subprocess.Popen) -> None:
    """End a process and its group: asked first, and then not."""
    try:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(GRACE_SECONDS)
    except (ProcessLookupError, subprocess.TimeoutExpired):
        pass
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()


def _version(executable: str) -> str:
    try:
        with _started([executable, "-version"], stdout=subprocess.PIPE, text=True, errors="replace") as process:
            text, _ = process.communicate(timeout=VERSION_SECONDS)
    except subprocess.TimeoutExpired:
        raise SeedLMError(f"vivado -version does not answer within {VERSION_SECONDS} s: {executable}") from None
    match = re.search(r"vivado v(\d{4}\.\d+(?:\.\d+)?)", text, re.IGNORECASE)
    if process.returncode != 0 or match is None:
        raise SeedLMError(f"vivado -version does not give a version (exit code {process.returncode}):"
                          f" {text.strip()[:200]!r}")  # fmt: skip
    return match[1]


def _lines(log: Path, start: str) -> tuple[str, ...]:
    if not log.is_file():
        return ()
    text = log.read_text(encoding="utf-8", errors="replace")
    return tuple(line.rstrip() for line in text.splitlines() if line.startswith(start))


def run(project: Project) -> Run:
    """Run a project's script in Vivado and wait for it: minutes for ``ip``, an hour or more for the others.

    Reports and the log of an earlier run are removed first. Vivado's own output is in ``vivado.log`` of the directory.
    If the wait is interrupted, Vivado and all it started are ended.

    Raises
    ------
    SeedLMError
        Vivado is missing or of another version; the board has blanks. A failed run does not raise: see `Run`.
    """
    if project.fill_in:
        raise SeedLMError(
            f"{project.out}: the board is not complete, {len(project.fill_in)} values are to be filled in:"
            f" {', '.join(project.fill_in[:6])}{', ...' if len(project.fill_in) > 6 else ''}"
        )
    executable = _executable()
    version = _version(executable)
    if version != project.version and not version.startswith(project.version + "."):
        raise SeedLMError(
            f"this project is for Vivado {project.version}, the one on the PATH is {version}:"
            f" --vivado-version {version} makes it for that one"
        )
    log, console = project.out / LOG, project.out / CONSOLE
    log.unlink(missing_ok=True)
    shutil.rmtree(project.out / "reports", ignore_errors=True)
    command = [executable, "-mode", "batch", "-nojournal", "-notrace", "-log", LOG, "-source", project.script]
    # The log begins once Vivado is up: a library that is missing is told to the console alone.
    try:
        with console.open("wb") as output, _started(command, cwd=project.out, stdout=output) as process:
            code = process.wait()
    finally:
        if log.is_file():
            console.unlink()
    if not log.is_file():
        log = console
    errors = _lines(log, "ERROR:")
    if code != 0 and not errors:
        errors = tuple(line for line in _lines(log, "") if line)[-1:]
    # Runs of a project (synthesis of its blocks, implementation) have logs of their own.
    logs = [log, *sorted(project.out.rglob("runme.log"))]
    critical = dict.fromkeys(line for one in logs for line in _lines(one, "CRITICAL WARNING:"))
    return Run(code, version, log, tuple(critical), errors)
