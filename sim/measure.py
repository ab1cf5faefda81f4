"""Products on the simulated accelerator, measured by its own counters: the one runner and the one report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from seedlm.golden.build import Config
from seedlm.golden.errors import SeedLMError
from seedlm.golden.images import parse_results
from seedlm.hdl.registers import CATEGORIES, ErrorCode
from seedlm.host.regions import ProductRegions, region_sizes
from seedlm.host.traffic import Counted
from seedlm.sim.memory import Memory

if TYPE_CHECKING:
    from seedlm.golden.matrix import PackedMatrix
    from seedlm.sim.accelerator import Accelerator

__all__ = ["Advance", "Job", "Measurement", "equal_bits", "product_beats", "run", "run_matrix"]

STEP_CYCLES = 200_000  # cycles between two reports of progress

Advance = Callable[[int], None]


def product_beats(config: Config, rows: int, cols: int) -> int:
    """Beats that a product moves at least, both directions, in a build of one codec."""
    return sum(region_sizes(config, rows, cols).values()) // config.beat_bytes


def equal_bits(a: np.ndarray, b: np.ndarray) -> int:
    """How many binary32 values have the same bits."""
    return int((a.view(np.uint32) == b.view(np.uint32)).sum())


@dataclass(frozen=True)
class Job:
    """A product to be queued: arguments of `host.driver.Accelerator.submit`."""

    regions: ProductRegions
    scale: float = 1.0
    same: bool = False


@dataclass(frozen=True, kw_only=True)
class Measurement(Counted):
    """A product, or several that were queued together.

    Attributes
    ----------
    config : Config
        The build.
    memory : Memory
    shapes : tuple of (int, int)
        Rows and columns of each product.
    counters : dict of str to int
        The accelerator's own over all of them (`hdl.registers.COUNTERS`).
    codecs : tuple of str
        Of the products, where the build has several.
    codes : tuple of ErrorCode
        How each ended.
    checked, equal : int
        Outputs compared with the reference, and how many of them have its bits.
    simulated : int
        Clock cycles of the simulation between submission and end, register accesses included.
    seconds : float
        Processor time that these took on this machine: other programs do not count.
    """

    config: Config
    memory: Memory
    shapes: tuple[tuple[int, int], ...]
    counters: dict[str, int]
    codecs: tuple[str, ...] = ()
    codes: tuple[ErrorCode, ...] = ()
    checked: int = 0
    equal: int = 0
    simulated: int = 0
    seconds: float = 0.0

    @property
    def microseconds(self) -> float:
        """Time of the accelerator."""
        return self.cycles / self.memory.clock_mhz

    @property
    def where(self) -> dict[str, int]:
        """All cycles, by what happened in them."""
        return {name: self.counters[name] for name in CATEGORIES}

    @property
    def status(self) -> str:
        """``ok``, ``nonfinite`` (an activation is), ``different`` (from the reference), or the name of an error."""
        for code in self.codes:
            if code not in (ErrorCode.NONE, ErrorCode.NONFINITE):
                return code.name.lower()
        if self.equal != self.checked:
            return "different"
        return "nonfinite" if ErrorCode.NONFINITE in self.codes else "ok"

    def compared(self, pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> Measurement:
        """The same with ``checked`` and ``equal`` from pairs of results and references, float32."""
        checked = equal = 0
        for found, expected in pairs:
            checked += expected.size
            equal += equal_bits(found, expected)
        return replace(self, checked=checked, equal=equal)

    def figures(self) -> dict:
        """What every report says of a product (all have the shape of the first), plain values by name."""
        rows, cols = self.shapes[0]
        return {
            "rows": rows,
            "cols": cols,
            "codec": "+".join(self.codecs) or self.config.name,
            "memory": self.memory.name,
            "cycles": self.cycles,
            "data_beats": self.data_beats,
            "beats": self.beats,
            "efficiency": self.efficiency,
            "microseconds": self.microseconds,
            "outputs_equal": self.equal,
            "simulated_cycles": self.simulated,
            "seconds": round(self.seconds, 4),
            "cycles_per_second": round(self.simulated / self.seconds) if self.seconds else 0,
        }


def run(
    device: Accelerator, jobs: Sequence[Job], *, together: bool = True, delay: int = 0, advance: Advance | None = None
) -> Measurement:
    """Run products on an idle accelerator. The counters go on from where they are.

    Parameters
    ----------
    jobs : sequence of Job
    together : bool
        The first one starts when all are queued: cycles then do not depend on how fast registers are written.
    delay : int
        It starts so many cycles later.
    advance : callable, optional
        Called with the beats that were moved since the last call (`product_beats` in total).

    Raises
    ------
    SeedLMError
        More products than the queue holds.
    """
    simulation, config = device.simulation, device.config
    if together and len(jobs) > config.queue_depth:
        raise SeedLMError(f"{len(jobs)} products do not fit the queue of {config.queue_depth}")
    started, begin = time.process_time(), simulation.cycles

    def submit() -> None:
        for job in jobs:
            device.submit(job.regions, scale=job.scale, same=job.same, on_error="continue")

    if together:
        with device.paused():
            submit()
            simulation.step(delay)
            started, begin = time.process_time(), simulation.cycles
    else:
        submit()
    shapes = tuple((job.regions.rows, job.regions.cols) for job in jobs)
    if advance:
        # They take a cycle for every beat at least: so many pass before there is any use in waiting.
        beats = sum(_beats(config, job.regions) for job in jobs)
        while beats:
            n = min(beats, STEP_CYCLES)
            simulation.step(n)
            advance(n)
            beats -= n
    codes = tuple(device.wait(on_error="continue"))
    return Measurement(
        config=config, memory=simulation.memory, shapes=shapes, codes=codes, simulated=simulation.cycles - begin,
        seconds=time.process_time() - started, counters=device.counters(),
    )  # fmt: skip


def _beats(config: Config, regions: ProductRegions) -> int:
    return product_beats(config.of(config.codecs[regions.codec or 0]), regions.rows, regions.cols)


def run_matrix(
    device: Accelerator, matrix: PackedMatrix, x: np.ndarray, scale: float | None = None
) -> tuple[Measurement, np.ndarray]:
    """Run one product of a matrix; what it cost, and its result, float32 [rows].

    Parameters
    ----------
    matrix, x, scale
        As for `golden.product.product`, which also checks them.
    """
    with device.scratch():
        loaded = device.load_matrix(matrix)
        regions = device.place(loaded, device.load_activations(x, loaded.rotation).address)
        job = Job(regions, loaded.scale if scale is None else scale)
        measurement = run(device, [job], together=False)
        data = device.simulation.mem_read(regions.results, 4 * matrix.rows)
    return measurement, parse_results(device.config, data, matrix.rows)
