"""Products of given shapes on the simulated accelerator, timed by its own counters and checked against the reference.

Weight images are random bits: any word is a valid block. They come piece by piece out of a counter-based generator,
straight into the simulated memory, so that a matrix never exists as a whole on the Python side and the reference
needs no more than the rows that are checked.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from seedlm.golden.build import Config
from seedlm.golden.images import parse_results, scale_image
from seedlm.golden.matrix import PackedMatrix
from seedlm.golden.packing import from_bytes
from seedlm.golden.product import product
from seedlm.hdl.registers import CATEGORIES, ErrorCode
from seedlm.host.driver import Matrix
from seedlm.host.regions import ProductRegions, region_sizes
from seedlm.host.traffic import Counted
from seedlm.sim.accelerator import Accelerator
from seedlm.sim.bench_memory import Reader
from seedlm.sim.memory import memory as named_memory

__all__ = [
    "CHECK_ALL", "SAMPLE", "Measurement", "RandomMatrix", "Readers", "measure", "product_beats", "sample",
]  # fmt: skip

PIECE_BYTES = 1 << 20
STEP_CYCLES = 200_000  # cycles between two reports of progress
CHECK_ALL = 4096 * 4096  # every output is checked up to this many weights,
SAMPLE = 256  # and at least so many of them beyond
GARBAGE = 0xA5  # what lies in the result region before a product

Advance = Callable[[int], None]


class RandomMatrix:
    """A weight image of random bits that can be made again, piece by piece.

    Parameters
    ----------
    config : Config
        The build: codec, lanes and bus.
    rows, cols : int
        The matrix. Words past its last row and halves past its last column are random, too.
    seed : int
        Equal seeds make equal matrices.
    """

    def __init__(self, config: Config, rows: int, cols: int, seed: int) -> None:
        self.config, self.rows, self.cols, self.seed = config, rows, cols, seed
        codec = config.codec
        group_bits = codec.blocks(cols) * config.step_bits
        # A unit: the fewest row groups that end at a byte.
        self._unit_groups = 8 // math.gcd(8, group_bits)
        self._unit_bytes = self._unit_groups * group_bits // 8
        self._units = -(-config.row_groups(rows) // self._unit_groups)
        self._piece_units = max(1, PIECE_BYTES // self._unit_bytes)
        self.image_bytes = config.image_beats(rows, cols) * config.beat_bytes
        self.scales = None
        if codec.row_scales:
            rng = np.random.Generator(np.random.Philox(key=[seed, 1 << 63]))
            self.scales = np.ldexp(rng.standard_normal(rows), -17).astype(np.float32)

    def _piece(self, number: int) -> np.ndarray:
        """Bytes of a piece: whole units, perhaps past the image's end; uint8 [units, bytes]."""
        units = min(self._piece_units, self._units - number * self._piece_units)
        rng = np.random.Generator(np.random.Philox(key=[self.seed, number]))
        data = np.frombuffer(bytearray(rng.bytes(units * self._unit_bytes)), np.uint8)
        if self.config.codec.is_fp16:
            halves = data.view(np.uint16)
            halves[halves & 0x7C00 == 0x7C00] ^= 0x4000
        return data.reshape(units, self._unit_bytes)

    def image(self) -> Iterator[tuple[int, np.ndarray]]:
        """The image as (offset, uint8 [bytes]), in order; the last beat is filled with zeros."""
        offset = 0
        for number in range(-(-self._units // self._piece_units)):
            piece = self._piece(number).ravel()[: self.image_bytes - offset]
            yield offset, piece
            offset += piece.size
        if offset < self.image_bytes:
            yield offset, np.zeros(self.image_bytes - offset, np.uint8)

    def matrix(self, rows: np.ndarray) -> PackedMatrix:
        """The matrix made of the given rows (ascending) alone."""
        config, codec = self.config, self.config.codec
        lanes, blocks = config.lanes, codec.blocks(self.cols)
        out = np.empty((len(rows), blocks), np.uint64)
        unit_rows = self._unit_groups * lanes
        piece_rows = self._piece_units * unit_rows
        for number in np.unique(rows // piece_rows):
            wanted = np.flatnonzero(rows // piece_rows == number)
            inside = rows[wanted] - number * piece_rows
            units, which = np.unique(inside // unit_rows, return_inverse=True)
            words = from_bytes(self._piece(int(number))[units], codec.word_bits, self._unit_groups * blocks * lanes)
            words = words.reshape(len(units), self._unit_groups, blocks, lanes).transpose(0, 1, 3, 2)
            out[wanted] = words.reshape(len(units), unit_rows, blocks)[which, inside % unit_rows]
        if codec.is_fp16:
            out = out.astype(np.uint32).view(np.uint16).reshape(len(rows), -1)[:, : self.cols]
        scales = None if self.scales is None else self.scales[rows]
        return PackedMatrix(codec, (len(rows), self.cols), out, scales)

    def store(self, device: Accelerator) -> Matrix:
        """Put it into the accelerator's memory."""
        address = device.allocate(self.image_bytes)
        for offset, piece in self.image():
            device.simulation.mem_write(address + offset, piece)
        scales = None
        if self.scales is not None:
            image = scale_image(self.config, self.scales)
            scales = device.allocate(image.size)
            device.simulation.mem_write(scales, image)
        return Matrix(
            rows=self.rows, cols=self.cols, address=address, scale=self.config.codec.default_scale(), scales=scales
        )


def sample(rows: int, cols: int, seed: int) -> np.ndarray:
    """The rows whose outputs are checked, ascending: all up to `CHECK_ALL` weights; beyond, `SAMPLE` random ones and
    the first and the last."""
    if rows * cols <= CHECK_ALL or rows <= SAMPLE:
        return np.arange(rows)
    chosen = np.random.default_rng(seed).choice(rows, SAMPLE, replace=False)
    return np.unique(np.concatenate([chosen, [0, rows - 1]]))


@dataclass(frozen=True)
class Measurement(Counted):
    """A batch of equal products.

    Attributes
    ----------
    counters : dict
        The accelerator's own (`hdl.registers.COUNTERS`), over the whole batch.
    checked, equal : int
        Outputs compared with the reference, and how many of them have its bits.
    simulated : int
        Clock cycles of the simulation between submission and end.
    seconds : float
        Processor time that these took on this machine: other programs do not count.
    """

    config: Config
    memory: str
    clock_mhz: float
    rows: int
    cols: int
    products: int
    counters: dict[str, int]
    checked: int
    equal: int
    simulated: int
    seconds: float

    def record(self, reader: float | None = None) -> dict:
        """The figures by name; `reader` is a bare reader's efficiency over as many beats."""
        seconds = self.cycles / self.clock_mhz * 1e-6
        return {
            "rows": self.rows,
            "cols": self.cols,
            "codec": self.config.codec.name,
            "memory": self.memory,
            "products": self.products,
            "cycles": self.cycles,
            "data_beats": self.data_beats,
            "beats": self.beats,
            "efficiency": self.efficiency,
            "reader_efficiency": reader,
            "relative_efficiency": None if reader is None else self.efficiency / reader,
            "speedup_vs_fp16": None,
            "where": {name: self.counters[name] for name in CATEGORIES},
            "microseconds": seconds * 1e6,
            "gigabytes_per_second": self.data_beats * self.config.beat_bytes / seconds / 1e9,
            "outputs_checked": self.checked,
            "outputs_equal": self.equal,
            "simulated_cycles": self.simulated,
            "seconds": round(self.seconds, 3),
            "cycles_per_second": round(self.simulated / self.seconds) if self.seconds else 0,
        }


def _run(
    device: Accelerator, jobs: list[tuple[Matrix, ProductRegions]], beats: int, advance: Advance
) -> tuple[int, float]:
    """Run the queued products; simulated cycles and seconds."""
    simulation = device.simulation
    with device.paused():
        for matrix, regions in jobs:
            device.submit(regions, scale=matrix.scale)
        started, begin = time.process_time(), simulation.cycles
    # They take a cycle for every beat at least: so many pass before there is any use in waiting.
    while beats:
        n = min(beats, STEP_CYCLES)
        simulation.step(n)
        advance(n)
        beats -= n
    codes = device.wait(on_error="continue")
    seconds = time.process_time() - started
    for code in codes:
        if code is not ErrorCode.NONE:
            raise RuntimeError(f"a product ended with {code.name}: {code.doc}")
    return simulation.cycles - begin, seconds


def product_beats(config: Config, rows: int, cols: int) -> int:
    """Beats that a product moves at least, both directions."""
    return sum(region_sizes(config, rows, cols).values()) // config.beat_bytes


def measure(
    device: Accelerator, rows: int, cols: int, *, seed: int, products: int = 1, advance: Advance = lambda n: None
) -> Measurement:
    """Run `products` products of random matrices and vectors, queued at once, and check the outputs.

    The matrices and the vectors are all different.

    Parameters
    ----------
    device : Accelerator
        Idle; its memory is used again for the next measurement.
    products : int
        At most ``config.queue_depth``.
    advance : callable
        Called with the beats that were moved since the last call (about `product_beats` in total).
    """
    config, simulation = device.config, device.simulation
    rng = np.random.default_rng(seed)
    matrices = [RandomMatrix(config, rows, cols, seed + i) for i in range(products)]
    vectors = [rng.standard_normal(cols).astype(np.float16) for _ in matrices]
    size = region_sizes(config, rows, cols)["results"]
    with device.scratch():
        jobs = []
        for matrix, x in zip(matrices, vectors, strict=True):
            stored = matrix.store(device)
            regions = device.place(stored, device.load_activations(x).address)
            simulation.mem_write(regions.results, np.full(size, GARBAGE, np.uint8))
            jobs.append((stored, regions))
        device.clear_counters()
        simulated, seconds = _run(device, jobs, products * product_beats(config, rows, cols), advance)
        results = [parse_results(config, simulation.mem_read(r.results, 4 * rows), rows) for _, r in jobs]
    counters = device.counters()
    checked = equal = 0
    for matrix, x, y in zip(matrices, vectors, results, strict=True):
        chosen = sample(rows, cols, seed)
        with np.errstate(over="ignore", under="ignore"):
            expected = product(matrix.matrix(chosen), x)
        checked += chosen.size
        equal += int((y[chosen].view(np.uint32) == expected.view(np.uint32)).sum())
    name, clock = simulation.memory.name, simulation.memory.clock_mhz
    return Measurement(config, name, clock, rows, cols, products, counters, checked, equal, simulated, seconds)


class Readers:
    """What a bare sequential reader gets from a memory, measured once for each number of beats."""

    def __init__(self, bus_bits: int = 512, burst_beats: int = 64) -> None:
        self.bus_bits, self.burst_beats = bus_bits, burst_beats
        self._known: dict[tuple[str, int], float] = {}

    def efficiency(self, memory: str, beats: int) -> float:
        """Beats per cycle of a reader of `beats` beats, rounded up to whole bursts."""
        bursts = -(-beats // self.burst_beats)
        key = named_memory(memory).name, bursts
        if key not in self._known:
            reader = Reader(memory=memory, bus_bits=self.bus_bits)
            with reader.simulation:
                self._known[key] = reader.read(bursts=bursts, beats=self.burst_beats).efficiency
        return self._known[key]
