"""Products of given shapes on the simulated accelerator, timed by its own counters and checked against the reference.

Weight images are random bits: any word is a valid block. They come piece by piece out of a counter-based generator,
straight into the simulated memory, so that a matrix never exists as a whole on the Python side and the reference
needs no more than the rows that are checked.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from seedlm.golden.build import Config
from seedlm.golden.codecs import Codec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.images import parse_results, scale_image
from seedlm.golden.matrix import PackedMatrix
from seedlm.golden.packing import ungroup
from seedlm.golden.product import product
from seedlm.hdl.registers import ErrorCode
from seedlm.host.driver import Matrix
from seedlm.host.regions import region_sizes
from seedlm.sim.accelerator import Accelerator
from seedlm.sim.bench_memory import Reader
from seedlm.sim.measure import Advance, Job, Measurement, run
from seedlm.sim.memories import memory as named_memory
from seedlm.sim.memory import Memory

__all__ = ["CHECK_ALL", "SAMPLE", "RandomMatrix", "Readers", "measure", "record", "sample"]

PIECE_BYTES = 1 << 20
CHECK_ALL = 4096 * 4096  # every output is checked up to this many weights,
SAMPLE = 256  # and at least so many of them beyond
GARBAGE = 0xA5  # what lies in the result region before a product

class RandomMatrix:
    """A weight image of random bits that can be made again, piece by piece.

    Parameters
    ----------
    config : Config
        The build, of one codec (`Config.of`): lanes and bus.
    rows, cols : int
        The matrix. What is past its last row and its last column is random, too.
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
        if config.row_scales:
            rng = np.random.Generator(np.random.Philox(key=[seed, 1 << 63]))
            self.scales = np.ldexp(rng.standard_normal(rows), -17).astype(np.float32)

    def _piece(self, number: int) -> np.ndarray:
        """Bytes of a piece: whole units, perhaps past the image's end; uint8 [units, bytes]."""
        units = min(self._piece_units, self._units - number * self._piece_units)
        rng = np.random.Generator(np.random.Philox(key=[self.seed, number]))
        data = np.frombuffer(bytearray(rng.bytes(units * self._unit_bytes)), np.uint8)
        self.config.codec.mend(data)
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
        stored = np.empty((len(rows), codec.row_bytes(self.cols)), np.uint8)
        unit_rows = self._unit_groups * config.lanes
        piece_rows = self._piece_units * unit_rows
        for number in np.unique(rows // piece_rows):
            wanted = np.flatnonzero(rows // piece_rows == number)
            inside = rows[wanted] - number * piece_rows
            units, which = np.unique(inside // unit_rows, return_inverse=True)
            stream = self._piece(int(number))[units].ravel()
            found = ungroup(
                stream, codec.word_bits, codec.blocks(self.cols), config.lanes, len(units) * self._unit_groups
            )
            stored[wanted] = found[which * unit_rows + inside % unit_rows, : stored.shape[1]]
        scales = None if self.scales is None else self.scales[rows]
        return PackedMatrix(codec, (len(rows), self.cols), scales=scales, stored=stored)

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
        codec = self.config.codec
        return Matrix(rows=self.rows, cols=self.cols, address=address, scale=codec.default_scale(), scales=scales,
                      codec=codec)  # fmt: skip


def sample(rows: int, cols: int, seed: int) -> np.ndarray:
    """The rows whose outputs are checked, ascending: all up to `CHECK_ALL` weights; beyond, `SAMPLE` random ones and
    the first and the last."""
    if rows * cols <= CHECK_ALL or rows <= SAMPLE:
        return np.arange(rows)
    chosen = np.random.default_rng(seed).choice(rows, SAMPLE, replace=False)
    return np.unique(np.concatenate([chosen, [0, rows - 1]]))


def measure(
    device: Accelerator, rows: int, cols: int, *, seed: int, products: int = 1, codecs: Sequence[Codec] = (),
    advance: Advance = lambda n: None,
) -> Measurement:  # fmt: skip
    """Run `products` products of random matrices and vectors, queued at once, and check the outputs.

    The matrices and the vectors are all different.

    Parameters
    ----------
    device : Accelerator
        Idle; its memory is used again for the next measurement.
    products : int
        At most ``config.queue_depth``.
    codecs : sequence of Codec
        Of the products, in turn, of a build that has them; by default its first.
    advance : callable
        As for `sim.measure.run`.

    Raises
    ------
    SeedLMError
        A product ended with an error.
    """
    config, simulation = device.config, device.simulation
    rng = np.random.default_rng(seed)
    builds = [config.of(codec) for codec in codecs or [config.codec]]
    matrices = [RandomMatrix(builds[i % len(builds)], rows, cols, seed + i) for i in range(products)]
    vectors = [rng.standard_normal(cols).astype(np.float16) for _ in matrices]
    size = region_sizes(config, rows, cols)["results"]
    with device.scratch():
        jobs = []
        for matrix, x in zip(matrices, vectors, strict=True):
            stored = matrix.store(device)
            regions = device.place(stored, device.load_activations(x).address)
            simulation.mem_write(regions.results, np.full(size, GARBAGE, np.uint8))
            jobs.append(Job(regions, stored.scale))
        device.clear_counters()
        measured = run(device, jobs, advance=advance)
        data = [simulation.mem_read(job.regions.results, 4 * rows) for job in jobs]
    for code in measured.codes:
        if code is not ErrorCode.NONE:
            raise SeedLMError(f"a product of {rows} x {cols} random weights ended with {code.name}: {code.doc}")
    chosen = sample(rows, cols, seed)
    with np.errstate(over="ignore", under="ignore"):
        expected = [product(matrix.matrix(chosen), x, group=config.group)
                    for matrix, x in zip(matrices, vectors, strict=True)]  # fmt: skip
    results = [parse_results(config, part, rows)[chosen] for part in data]
    return replace(measured, codecs=tuple(dict.fromkeys(build.codec.name for build in builds))).compared(
        zip(results, expected, strict=True)
    )


def record(measured: Measurement, reader: float | None = None) -> dict:
    """A row of the benchmark's report; `reader` is a bare reader's efficiency over as many beats."""
    return measured.figures() | {
        "products": len(measured.shapes),
        "reader_efficiency": reader,
        "relative_efficiency": None if reader is None else measured.efficiency / reader,
        "speedup_vs_fp16": None,
        "where": measured.where,
        "gigabytes_per_second": measured.data_beats * measured.config.beat_bytes / measured.microseconds / 1e3,
        "outputs_checked": measured.checked,
    }


class Readers:
    """What a bare sequential reader gets from a memory, measured once for each number of beats."""

    def __init__(self, bus_bits: int = 512, burst_beats: int = 64) -> None:
        self.bus_bits, self.burst_beats = bus_bits, burst_beats
        self._known: dict[tuple[str, int], float] = {}

    def efficiency(self, memory: str | Memory, beats: int) -> float:
        """Beats per cycle of a reader of `beats` beats, rounded up to whole bursts."""
        bursts = -(-beats // self.burst_beats)
        key = named_memory(memory).name, bursts
        if key not in self._known:
            reader = Reader(memory=memory, bus_bits=self.bus_bits)
            with reader.simulation:
                self._known[key] = reader.read(bursts=bursts, beats=self.burst_beats).efficiency
        return self._known[key]
