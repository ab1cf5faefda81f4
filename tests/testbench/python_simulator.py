"""Run testbenches of small components in Amaranth's own simulator, where compiling a model would take longer.

A test drives and checks in one coroutine that gets the simulation's context::

    async def adds_one(sim): ...

    def test_adder():
        simulate(Adder(8), adds_one)
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

from amaranth.sim import Simulator

from tests.testbench.runner import run_seed

__all__ = ["seeded", "simulate"]


def seeded(name: str) -> random.Random:
    """A generator that depends on `name` and on the run's seed, which is printed.

    The seed is `run_seed`, as for `run_testbench`.
    """
    seed = run_seed()
    print(f"{name}: rerun with COCOTB_RANDOM_SEED={seed}")
    return random.Random(f"{seed}/{name}")


def simulate(component: Any, testbench: Callable[[Any], Awaitable[None]], *, clocks: int = 100_000) -> None:
    """Run `testbench` with `component` and a clock, if it has one.

    Raises
    ------
    AssertionError
        The testbench is not done after `clocks` clocks, or failed.
    """
    simulator = Simulator(component)
    simulator.add_clock(1e-8, if_exists=True)
    simulator.add_testbench(testbench)
    for _ in range(2 * clocks):  # one edge each
        if not simulator.advance():
            return
    raise AssertionError(f"the testbench is not done after {clocks} clocks")
