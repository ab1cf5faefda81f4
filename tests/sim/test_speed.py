"""The simulation's speed beside a memory in Python: both give the right outputs (the measurements check that)."""

import importlib.util

import pytest

from sim.speed import speed


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("cocotbext"), reason="cocotbext-axi is not installed")
def test_python_is_slower():
    here, there = speed()["cycles_per_second"].values()
    print(f"{here:,} and {there:,} cycles per second of processor time")
    assert here > 5 * there > 0
