"""How fast the simulation is: the whole system here, and the same product with a memory in Python."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import tempfile
from pathlib import Path

from golden.params import Config, codec
from hdl.top import SeedLMAccelerator

from .accelerator import Accelerator
from .benchmark import measure
from .convert import verilog_text

__all__ = ["python_memory_speed", "speed", "system_speed"]

CONFIG = Config(codec=codec("seedlm4"))
SHAPE = (2048, 2048)
TRIES = 3  # the fastest counts: other programs may be at work


def system_speed(*, memory: str = "ddr3", seed: int = 0) -> int:
    """Simulated cycles per second of processor time: the whole system with ``seedlm4`` on `memory`, in one thread."""
    with Accelerator(CONFIG, memory=memory) as device:
        runs = [measure(device, *SHAPE, seed=seed) for _ in range(TRIES)]
    assert all(run.equal == run.checked for run in runs)
    return round(max(run.simulated / run.seconds for run in runs))


def python_memory_speed(*, seed: int = 0) -> int | None:
    """The same accelerator and product with cocotbext-axi's memory; None where that is not installed."""
    if not all(importlib.util.find_spec(name) for name in ("cocotb", "cocotbext")):
        return None
    from .cocotb_runner import run_testbench

    text = verilog_text(SeedLMAccelerator(CONFIG), "SeedLMAccelerator")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        job = {"rows": SHAPE[0], "cols": SHAPE[1], "seed": seed, "report": str(report)}
        with contextlib.redirect_stdout(io.StringIO()):  # the log; what matters of it is in the error, if there is one
            run_testbench(
                text, "sim.python_memory", name="SeedLMAccelerator", env={"SEEDLM_JOB": json.dumps(job)}, seed=seed,
                optimise="-O3 -march=native",
            )  # fmt: skip
        result = json.loads(report.read_text())
    assert result["equal"] == SHAPE[0], result
    return round(result["cycles"] / result["seconds"])


def speed(*, seed: int = 0) -> dict:
    """Both, for a report: ``what`` and ``cycles_per_second`` by system."""
    figures = {"seedlm, ddr3 model": system_speed(seed=seed)}
    other = python_memory_speed(seed=seed)
    if other is not None:
        figures["cocotb, cocotbext-axi's memory in Python"] = other
    return {
        "what": "Simulated cycles per second of processor time, seedlm4, a product of {}x{}".format(*SHAPE),
        "cycles_per_second": figures,
    }
