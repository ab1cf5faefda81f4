"""Run cocotb tests on an Amaranth component or on Verilog text, in a Verilated model from the cache.

A test file holds the cocotb coroutines and the pytest function that runs them::

    @cocotb.test()
    async def adds_one(dut): ...

    def test_adder():
        run_testbench(Adder(8), __name__, name="adder")

Name the coroutines without ``test_`` in front, or pytest collects them too.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from seedlm.golden.files.cache import cache_folder
from seedlm.sim import verilator

__all__ = ["TestbenchError", "build_testbench", "run_seed", "run_testbench"]

MAIN = "cocotb_main.cpp"


class TestbenchError(AssertionError):
    """At least one cocotb test failed, or the simulation ended abnormally. The message ends with the log's end."""

    __test__ = False


def run_seed() -> str:
    """The seed of this run: ``COCOTB_RANDOM_SEED`` of the environment, a number or ``random``, else always the same.

    A test that was green yesterday then fails for a change, not for a number drawn; `make test-seeds` draws.
    """
    seed = os.environ.get("COCOTB_RANDOM_SEED", "1")
    return str(random.randrange(1 << 31)) if seed == "random" else seed


def run_testbench(
    component: object,
    test_module: str,
    *,
    name: str,
    testcase: str | Sequence[str] | None = None,
    parameters: Mapping[str, object] | None = None,
    env: Mapping[str, object] | None = None,
    seed: int | None = None,
    waves: bool = False,
    optimise: str = "-O1",
    timeout: float = 600.0,
    extra_verilog: Mapping[str, str] | None = None,
) -> str:
    """Build `component` (or take it from the cache), run the cocotb tests of `test_module` on it, raise if one fails.

    Parameters
    ----------
    component : Amaranth component, str or Path
        What is tested. A string is Verilog text with a module called `name`, a path a file with it.
        A component becomes a module called `name`; its clock is ``clk`` and its reset ``rst`` unless it
        brings domains of its own; nested ports are ``stream__payload``.
    test_module : str
        Importable name of the module with the ``@cocotb.test()`` coroutines; usually ``__name__``.
    name : str
        Name of the top module.
    testcase : str or sequence of str, optional
        Only these coroutines (exact names).
    parameters : mapping, optional
        Parameters of the top module (Verilog text only).
    env : mapping, optional
        Environment variables for the tests, the way to hand them a configuration.
    seed : int, optional
        Seed of Python's `random` in the tests and of `tests.testbench.streams.rng`, else `run_seed`; always printed.
    waves : bool
        Write ``dump.vcd`` (also with WAVES=1 in the environment); where it is, is printed.
    optimise : str
        Compiler flags for the model; "-O2" pays off for long runs of large modules.
    timeout : float
        Seconds after which the simulation is killed.

    Returns
    -------
    str
        The simulator's log.

    Raises
    ------
    TestbenchError
        A test failed, none was found, or the simulation ended abnormally.
    ToolError
        The model could not be built.
    """
    waves = waves or os.environ.get("WAVES", "0") not in ("", "0")
    program = build_testbench(
        component, name=name, parameters=parameters, waves=waves, optimise=optimise, extra_verilog=extra_verilog
    )
    return _run(program, name, _environment(test_module, name, env or {}, seed, testcase), waves, timeout)


def _run(program: Path, name: str, variables: dict[str, str], waves: bool, timeout: float) -> str:
    """Run the program in a folder of its own, which is kept for the waves only; the log, or what is wrong with it."""
    runs = cache_folder() / "runs"
    runs.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=runs))
    variables = {**variables, "COCOTB_RESULTS_FILE": str(folder / "results.xml")}
    try:
        log, ending = _log([str(program), *(["--trace"] if waves else [])], folder, variables, timeout)
        rerun = f"COCOTB_RANDOM_SEED={variables['COCOTB_RANDOM_SEED']}"
        log += f"rerun with {rerun}\n"
        print(log)
        if waves:
            print(f"waves: {folder / 'dump.vcd'}")
        problem = _problem(folder / "results.xml", ending)
        if problem:
            raise TestbenchError(f"{name}: {problem} ({rerun})\n{_tail(log)}")
        return log
    finally:
        if not waves:
            shutil.rmtree(folder, ignore_errors=True)


def _log(command: list[str], folder: Path, variables: dict[str, str], timeout: float) -> tuple[str, str]:
    """What the command wrote, and how it ended."""
    try:
        done = subprocess.run(
            command, cwd=folder, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout
        )
        return done.stdout.decode(errors="replace"), f"status {done.returncode}"
    except subprocess.TimeoutExpired as e:
        return (e.stdout or b"").decode(errors="replace"), f"killed after {timeout:g} s"


def build_testbench(
    component: object,
    *,
    name: str,
    parameters: Mapping[str, object] | None = None,
    waves: bool = False,
    optimise: str = "-O1",
    extra_verilog: Mapping[str, str] | None = None,
) -> Path:
    """The program that `run_testbench` runs: the Verilated component with cocotb linked in."""
    import cocotb_tools.config

    if isinstance(component, Path):
        component = component.read_text()
    if isinstance(component, str):
        text, file = component, f"{name}.sv"
    else:
        from seedlm.build.verilog import verilog_text

        text, file = verilog_text(component, name), f"{name}.v"
    libraries = cocotb_tools.config.libs_dir
    main = (cocotb_tools.config.share_dir / "lib" / "verilator" / "verilator.cpp").read_text()
    spec = verilator.Spec(
        top=name,
        # Only the top's ports are visible to the tests: making everything public costs most of the speed.
        verilog={"public.vlt": _public(name, text), **(extra_verilog or {}), file: text},
        cxx={MAIN: main},
        parameters=parameters or {},
        optimise=optimise,
        vpi=True,
        trace=waves,
        trace_format="vcd",
        link_flags=(f"-Wl,-rpath,{libraries}", f"-L{libraries}", "-lcocotbvpi_verilator"),
    )
    return verilator.build(spec)


def _public(name: str, text: str) -> str:
    """Verilator configuration that lets the VPI see the top's ports (all of its signals if it is SystemVerilog)."""
    header = re.search(rf"^module {re.escape(name)}\(([^)#]*)\);", text, re.MULTILINE)
    plain = header and re.fullmatch(r"[\w\s,$]*", header[1])
    ports = [port.strip() for port in header[1].split(",")] if plain else ["*"]
    lines = [f'public_flat_rw -module "{name}" -var "{port}"' for port in ports if port]
    return "\n".join(["`verilator_config", *lines, ""])


def _environment(
    test_module: str, top: str, extra: Mapping[str, object], seed: int | None,
    testcase: str | Sequence[str] | None,
) -> dict[str, str]:  # fmt: skip
    """Environment of the simulator: cocotb's own settings and what the tests are given."""
    import cocotb_tools.config
    import find_libpython

    library = os.environ.get("LIBPYTHON_LOC") or find_libpython.find_libpython()
    if library is None:
        raise verilator.ToolError("cocotb needs Python as a shared library and found none")
    checkout = str(Path(__file__).resolve().parents[2])
    variables = {
        **os.environ,
        "GPI_USERS": f"{library};{cocotb_tools.config.pygpi_entry_point()}",
        "PYTHONPATH": os.pathsep.join([checkout, *(p for p in sys.path if p and p != checkout)]),
        "PYGPI_PYTHON_BIN": sys.executable,
        "COCOTB_TRUST_INERTIAL_WRITES": "1",
        "COCOTB_TOPLEVEL": top,
        "COCOTB_TEST_MODULES": test_module,
        "COCOTB_ANSI_OUTPUT": "0",
        "TOPLEVEL_LANG": "verilog",
        "PYTHONDONTWRITEBYTECODE": "1",
        **{key: str(value) for key, value in extra.items()},
    }
    variables.pop("PYTEST_CURRENT_TEST", None)
    if seed is not None:
        variables["COCOTB_RANDOM_SEED"] = str(seed)
    else:
        variables["COCOTB_RANDOM_SEED"] = run_seed()
    if testcase is not None:
        names = [testcase] if isinstance(testcase, str) else list(testcase)
        variables["COCOTB_TEST_FILTER"] = r"(^|\.)(" + "|".join(map(re.escape, names)) + ")$"
    return variables


def _problem(results: Path, ending: str) -> str | None:
    """What went wrong according to cocotb's result file, or None."""
    from cocotb_tools.check_results import get_results

    try:
        tests, failed = get_results(results)
    except (RuntimeError, OSError, SyntaxError):
        return f"the simulation ended abnormally ({ending})"
    if tests == 0:
        return "no cocotb test was found"
    if failed:
        return f"{failed} of {tests} cocotb tests failed"
    return None if ending == "status 0" else f"the simulation ended abnormally ({ending})"


def _tail(log: str, lines: int = 60) -> str:
    return "\n".join(log.splitlines()[-lines:])
