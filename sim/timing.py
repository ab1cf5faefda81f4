"""Cycles of the products of a decoding step, measured on the simulated accelerator and kept.

How long a product takes depends on its shape, the build and the memory, not on the values: the memory may be empty.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import amaranth

from seedlm import build, golden, hdl, sim
from seedlm.golden.build import Config
from seedlm.golden.files.atomic import atomic_path
from seedlm.golden.files.cache import cache_folder, digest, source_digest
from seedlm.hdl.registers import COUNTERS
from seedlm.host.models import ModelConfig
from seedlm.host.regions import ProductRegions, region_sizes
from seedlm.sim.measure import Advance, Job, Measurement, run
from seedlm.sim.memory import Memory

__all__ = ["Products", "Step", "Timed", "decode_step", "layer_products", "weight_beats"]

KIND = "timings"
QUICK_BEATS = 60_000  # a quick measurement moves about this many beats of weights, and twice as many
# What is shorter than SHORT refresh intervals is measured PHASES times, begun at even distances within an interval:
# otherwise it would see a refresh more or less than its share, or none.
SHORT, PHASES = 32, 16


@dataclass(frozen=True)
class Products:
    """Products that share their activations and are queued together, and how often they occur in a decoding step."""

    name: str
    rows: tuple[int, ...]
    cols: int
    count: int = 1

    @property
    def weights(self) -> int:
        """Of one occurrence."""
        return sum(self.rows) * self.cols


def layer_products(config: ModelConfig) -> list[Products]:
    """What a token costs: the products of every layer, then the output matrix."""
    shapes = config.linears()
    return [
        Products(group.name, tuple(shapes[m][0] for m in group.matrices), shapes[group.matrices[0]][1], group.count)
        for group in config.groups()
    ]


@dataclass(frozen=True)
class Timed:
    """The measured cost of some products.

    Attributes
    ----------
    products : Products
    measured : Measurement
        One occurrence.
    extrapolated : bool
        Measured on fewer rows, twice, and continued in a straight line.
    """

    products: Products
    measured: Measurement
    extrapolated: bool = False


@dataclass(frozen=True)
class Step:
    """The measured cost of one token's linear layers."""

    parts: list[Timed]

    @property
    def cycles(self) -> int:
        return sum(part.measured.cycles * part.products.count for part in self.parts)

    @property
    def data_beats(self) -> int:
        return sum(part.measured.data_beats * part.products.count for part in self.parts)

    @property
    def efficiency(self) -> float:
        return self.data_beats / self.cycles


@cache
def _sources() -> str:
    """Hash of everything that decides how many cycles something takes."""
    sources = source_digest(golden, hdl), source_digest(sim, build, suffixes=(".py", ".sv", ".cpp", ".h"))
    return digest(amaranth.__version__, *sources)


class Timer:
    """Measures products on one build, with results kept in the cache; a context manager.

    The simulation is made when the first product is not in the cache.
    """

    def __init__(self, config: Config, memory: Memory):
        self.config, self.memory = config, memory
        self._accelerator = None

    def __enter__(self) -> Timer:
        return self

    def __exit__(self, *error: object) -> None:
        if self._accelerator:
            self._accelerator.close()

    def measure(self, rows: Sequence[int], cols: int) -> Measurement:
        """Products that share their activations, from the first read to the last write."""
        key = digest(_sources(), SHORT, PHASES, self.config, self.memory, list(rows), cols)
        path = cache_folder() / KIND / f"{self.config.codec.name}-{key}.json"
        try:
            counters = json.loads(path.read_text())
            if set(counters) == set(COUNTERS) and all(type(n) is int and n >= 0 for n in counters.values()):
                return self._measurement(rows, cols, counters)
        except (OSError, ValueError, TypeError):
            pass  # not measured yet, or damaged: measure
        counters = self._run(rows, cols)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(counters))
        return self._measurement(rows, cols, counters)

    def _measurement(self, rows: Sequence[int], cols: int, counters: dict[str, int]) -> Measurement:
        shapes = tuple((n, cols) for n in rows)
        return Measurement(config=self.config, memory=self.memory, shapes=shapes, counters=counters)

    def _run(self, rows: Sequence[int], cols: int) -> dict[str, int]:
        """The counters, where the refresh has a say the mean of `PHASES` measurements."""
        interval = self.memory.settings()["t_refi"]  # 0: no refresh
        beats = sum(self.config.image_beats(n, cols) for n in rows)
        phases = PHASES if beats < SHORT * interval else 1
        found = [self._once(rows, cols, interval * i // phases) for i in range(phases)]
        return {name: round(sum(some[name] for some in found) / phases) for name in COUNTERS}

    def _once(self, rows: Sequence[int], cols: int, wait: int) -> dict[str, int]:
        """Counters of products that begin about `wait` cycles after a reset, which starts the refresh timer, too."""
        from seedlm.sim.accelerator import Accelerator

        if self._accelerator is None:
            self._accelerator = Accelerator(self.config, memory=self.memory)
        device, config = self._accelerator, self.config
        device.reset()
        with device.scratch():
            activations = device.allocate(config.activation_beats(cols) * config.beat_bytes)
            jobs = []
            for n in rows:
                sizes = region_sizes(config, n, cols)
                # The order of the regions decides what the DRAM's banks hold, and so the cycles.
                placed = {name: device.allocate(sizes[name]) for name in ("weights", "results", "scales")}
                regions = ProductRegions(rows=n, cols=cols, activations=activations, **placed)
                jobs.append(Job(regions, same=bool(jobs)))
            return run(device, jobs, delay=wait).counters


def weight_beats(config: Config, products: Sequence[Products]) -> int:
    """Beats of all their weights, which is what `decode_step` tells of its progress."""
    return sum(config.image_beats(n, part.cols) for part in products for n in part.rows)


def decode_step(
    products: Sequence[Products], config: Config, memory: Memory, *, quick: bool = False,
    advance: Advance = lambda n: None,
) -> Step:  # fmt: skip
    """Measure all products of a decoding step.

    Parameters
    ----------
    products : sequence of Products
    config : Config
        The build.
    memory : Memory
    quick : bool
        Large products are measured on fewer rows, twice, and continued in a straight line.
    advance : callable
        Called with the beats of weights of what was measured since the last call (`weight_beats` in total).
    """
    parts = []
    with Timer(config, memory) as timer:
        for part in products:
            beats = weight_beats(config, [part])
            if quick and beats > 4 * QUICK_BEATS:
                parts.append(Timed(part, _extrapolate(timer, part, beats), extrapolated=True))
            else:
                parts.append(Timed(part, timer.measure(part.rows, part.cols)))
            advance(beats)
    return Step(parts)


def _extrapolate(timer: Timer, part: Products, beats: int) -> Measurement:
    """Cost of `part` from two measurements with fewer rows, each matrix cut in the same ratio."""

    def cut(target: int) -> list[int]:
        lanes = timer.config.lanes
        return [min(n, max(1, round(n * target / beats / lanes)) * lanes) for n in part.rows]

    few, more = cut(QUICK_BEATS), cut(2 * QUICK_BEATS)
    measured = timer.measure(few, part.cols)
    low, high = measured.counters, timer.measure(more, part.cols).counters
    ratio = (sum(part.rows) - sum(few)) / (sum(more) - sum(few))
    counters = {name: round(low[name] + (high[name] - low[name]) * ratio) for name in COUNTERS}
    return replace(measured, shapes=tuple((n, part.cols) for n in part.rows), counters=counters)
