"""How fast the simulation is (`tests.testbench.speed` has the same product with a memory in Python beside it)."""

from __future__ import annotations

from seedlm.golden.build import Config
from seedlm.golden.codecs import codec
from seedlm.sim.accelerator import Accelerator
from seedlm.sim.benchmark import measure

__all__ = ["CONFIG", "SHAPE", "speed", "system_speed"]

CONFIG = Config(codec=codec("seedlm4"))
SHAPE = (2048, 2048)
TRIES = 3  # the fastest counts: other programs may be at work


def system_speed(*, memory: str = "ddr3", seed: int = 0) -> int:
    """Simulated cycles per second of processor time: the whole system with ``seedlm4`` on `memory`, in one thread."""
    with Accelerator(CONFIG, memory=memory) as device:
        runs = [measure(device, *SHAPE, seed=seed) for _ in range(TRIES)]
    assert all(run.equal == run.checked for run in runs)
    return round(max(run.simulated / run.seconds for run in runs))


def speed(*, seed: int = 0) -> dict:
    """The same for a report: ``what`` and ``cycles_per_second`` by system."""
    return {
        "what": "Simulated cycles per second of processor time, seedlm4, a product of {}x{}".format(*SHAPE),
        "cycles_per_second": {"seedlm, ddr3 model": system_speed(seed=seed)},
    }
