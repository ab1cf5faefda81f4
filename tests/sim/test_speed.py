"""The simulation's speed beside a memory in Python: both give the right outputs (the measurements check that)."""

from __future__ import annotations

import pytest

from seedlm.sim.speed import system_speed
from tests.testbench.speed import python_memory_speed


@pytest.mark.slow
def test_speed():
    here, there = system_speed(), python_memory_speed()
    assert here > 5 * there > 0
