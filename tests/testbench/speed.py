"""The simulation's speed beside a memory in Python, for the same accelerator and product.

``python -m tests.testbench.speed`` prints both in cycles per second of processor time.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from pathlib import Path

from seedlm.build.verilog import verilog_text
from seedlm.hdl.top import SeedLMAccelerator
from seedlm.sim.speed import CONFIG, SHAPE, system_speed
from tests.testbench.runner import run_testbench

__all__ = ["python_memory_speed"]


def python_memory_speed(*, seed: int = 0) -> int:
    """Simulated cycles per second of `sim.speed`'s accelerator and product with cocotbext-axi's memory."""
    text = verilog_text(SeedLMAccelerator(config=CONFIG), "SeedLMAccelerator")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        job = {"rows": SHAPE[0], "cols": SHAPE[1], "seed": seed, "report": str(report)}
        with contextlib.redirect_stdout(io.StringIO()):  # the log; what matters of it is in the error, if there is one
            run_testbench(
                text, "tests.testbench.python_memory", name="SeedLMAccelerator", env={"SEEDLM_JOB": json.dumps(job)},
                seed=seed, optimise="-O3 -march=native",
            )  # fmt: skip
        result = json.loads(report.read_text())
    assert result["equal"] == SHAPE[0], result
    return round(result["cycles"] / result["seconds"])


if __name__ == "__main__":
    print(f"compiled model: {system_speed():,} cycles/s; memory in Python: {python_memory_speed():,} cycles/s")
