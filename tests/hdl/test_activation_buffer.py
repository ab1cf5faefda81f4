"""The activation buffer: groups as the golden model makes them, two banks, reading close behind the loading."""

import json
import os

import cocotb
import numpy as np
import pytest
from cocotb.triggers import RisingEdge

from seedlm.golden import activations
from seedlm.golden.build import Config
from seedlm.golden.codecs import codec
from seedlm.golden.images import activation_image
from seedlm.hdl.activation_buffer import ActivationBuffer
from tests.golden.corners import corner_vectors
from tests.testbench.runner import run_testbench
from tests.testbench.streams import Source, Stalls, rng, start, until


def config_from_environment():
    return Config(codec=codec(json.loads(os.environ["BUFFER"])), bus_bits=128, max_cols=512, burst_beats=32, lanes=4)


def columns(config, x):
    """Per step: the raw mantissas of its columns and the exponent field."""
    c = config.codec
    m, e = activations.groups(x, c.group)
    steps = m.reshape(-1, c.step_columns)
    return [
        (sum((int(v) & 0x3FFFF) << 18 * n for n, v in enumerate(row)), int(e[s // c.steps_per_group]) + 14)
        for s, row in enumerate(steps)
    ]


class Bench:
    def __init__(self, dut, stall):
        self.dut, self.stall = dut, stall
        self.config = config_from_environment()
        self.buffer = ActivationBuffer(config=self.config, read_delay=0)

    async def start(self):
        self.clk = await start(self.dut, advance=0, address=0)
        pauses = [Stalls(self.stall, longest=9, generator=rng(f"{n}{self.stall}")) for n in "ab"]
        self.beats = Source(self.dut, "i", self.clk, stalls=pauses[0])
        self.jobs = Source(self.dut, "job", self.clk, stalls=pauses[1])

    def load(self, x, *, error_beat=None):
        image = activation_image(self.config, x).reshape(-1, self.config.beat_bytes)
        noise = rng(f"padding{x.size}")
        bits = self.config.bus_bits
        for n, row in enumerate(image):
            data = int.from_bytes(row.tobytes(), "little")
            if n == len(image) - 1 and x.size * 16 % bits:  # what lies behind the vector is arbitrary
                data |= noise.getrandbits(bits) >> x.size * 16 % bits << x.size * 16 % bits
            self.beats.send([data | (n == len(image) - 1) << bits | (n == error_beat) << bits + 1])
        self.jobs.send([x.size])

    async def advance(self):
        await until(self.clk, lambda: self.dut.available.value == 1, 2000, "a vector that begins to load")
        self.dut.advance.value = 1
        await RisingEdge(self.clk)
        self.dut.advance.value = 0
        await RisingEdge(self.clk)

    async def read(self, x, *, restart=0):
        """All steps of the vector, each as soon as its group is there, and `restart` of them once more."""
        expected = columns(self.config, x)
        per_group = self.config.codec.steps_per_group
        bank = int(self.dut.bank.value) << self.buffer.place_bits
        asked = []
        for clock in range(20_000):
            step = clock_step = len(asked)
            if step < len(expected) + restart:
                clock_step = step % len(expected)
                if int(self.dut.count.value) > clock_step // per_group:
                    self.dut.address.value = clock_step | bank
                    asked.append((clock, clock_step))
            await RisingEdge(self.clk)
            for asked_at, n in asked[-self.buffer.latency - 1 :]:
                if asked_at == clock - self.buffer.latency:
                    assert int(self.dut.mantissas.value) == expected[n][0], f"mantissas of step {n}"
                    assert int(self.dut.exponent.value) == expected[n][1], f"exponent of step {n}"
            if len(asked) == len(expected) + restart and clock > asked[-1][0] + self.buffer.latency:
                return
        raise AssertionError(f"{len(asked)} of {len(expected)} steps after 20,000 clocks")


async def vectors(dut, stall):
    bench = Bench(dut, stall)
    await bench.start()
    generator = rng("vectors")
    numbers = np.random.default_rng(generator.getrandbits(32))
    loaded = []
    for cols in [1, 7, 8, 96, 97, 512, 33, 300]:
        loaded += [x for x in corner_vectors(cols, numbers) if np.isfinite(x).all()][:2]
    for x in loaded:
        bench.load(x)
    for x in loaded:
        await bench.advance()
        await bench.read(x, restart=3)
        assert dut.nonfinite.value == 0
        assert dut.error.value == 0
        assert int(dut.count.value) == bench.config.codec.groups(x.size)
    # Everything was taken, nothing more is offered.
    for _ in range(50):
        await RisingEdge(bench.clk)
        assert dut.available.value == 0
    assert bench.jobs.sent == len(loaded)


@cocotb.test()
async def all_at_once(dut):
    await vectors(dut, 0.0)


@cocotb.test()
async def with_stalls(dut):
    await vectors(dut, 0.5)


@cocotb.test()
async def one_vector_ahead(dut):
    """The second vector loads while the first is current, the third waits."""
    bench = Bench(dut, 0.0)
    await bench.start()
    xs = [np.full(64, v, np.float16) for v in (1.0, 2.0, 3.0)]
    for x in xs:
        bench.load(x)
    await bench.advance()
    for _ in range(300):
        await RisingEdge(bench.clk)
    assert bench.jobs.sent == 2, "the current vector and the next one"
    await bench.read(xs[0])
    await bench.advance()
    await bench.read(xs[1])
    await bench.advance()
    await bench.read(xs[2])


@cocotb.test()
async def bad_vectors(dut):
    """NaN and errors belong to their vector and are known when its last group is there."""
    bench = Bench(dut, 0.2)
    await bench.start()
    good = np.linspace(-1, 1, 100).astype(np.float16)
    bad = good.copy()
    bad[60] = np.nan
    plan = [(good, None, (0, 0)), (bad, None, (1, 0)), (good, 3, (0, 1)), (good, None, (0, 0)), (bad, 12, (1, 1))]
    for x, error_beat, _ in plan:
        bench.load(x, error_beat=error_beat)
    for x, _, flags in plan:
        await bench.advance()
        groups = bench.config.codec.groups(x.size)
        await until(bench.clk, lambda n=groups: int(dut.count.value) == n, 1000, "all groups")
        assert (int(dut.nonfinite.value), int(dut.error.value)) == flags


@pytest.mark.parametrize("name", ["seedlm4", "seedlm3", "fp16", "int8"])
def test_activation_buffer(name):
    config = Config(codec=codec(name), bus_bits=128, max_cols=512, burst_beats=32, lanes=4)
    run_testbench(
        ActivationBuffer(config=config, read_delay=0), __name__, name="buffer", env={"BUFFER": json.dumps(name)}
    )
