"""Sequencer, activation buffer and MAC array with decoders of any latency: short products close behind each other.

The next vector but one loads as soon as a product begins, while lanes with a slow decoder still read the vector
of the product before. Sums are compared with the golden model's exact ones.
"""

import json
import os

import cocotb
import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from cocotb.triggers import RisingEdge

from seedlm.golden.activations import groups
from seedlm.golden.build import Config
from seedlm.golden.images import activation_image
from seedlm.hdl import decoders
from seedlm.hdl.activation_buffer import ActivationBuffer, address_bits, read_latency
from seedlm.hdl.delay import delay
from seedlm.hdl.layouts import beat_layout, convert_job_layout, sequence_job_layout
from seedlm.hdl.mac import MacArray
from seedlm.hdl.sequencer import Sequencer
from tests.hdl import dummy_families
from tests.hdl.dummy_families import dummy
from tests.testbench.runner import TestbenchError, run_testbench
from tests.testbench.streams import Source, Stalls, rng, start

LATENCIES = [n if n == 30 else pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 3, 7, 18, 30)]
LANES = 4  # as many results as a beat holds: what a row group reserves is what its end gives back
PRODUCTS = 45


def config_from(latency):
    return Config(codec=dummy(f"delayed{latency}"), lanes=LANES, bus_bits=128, max_cols=64, max_rows=256,
                  burst_beats=32, result_fifo_beats=32, activation_fifo_beats=32, scale_fifo_beats=32)  # fmt: skip


class Bench(wiring.Component):
    """The three parts as the accelerator connects them; all segments of all lanes are complete in the same clock."""

    def __init__(self, config):
        self.config = config
        super().__init__(
            {
                "vector": In(stream.Signature(convert_job_layout(config))),
                "beat": In(stream.Signature(beat_layout(config))),
                "job": In(stream.Signature(sequence_job_layout(config))),
                "step": In(stream.Signature(config.step_bits)),
                "done": Out(1),
                "sums": Out(config.acc_bits * config.lanes),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        array = MacArray(config=config, position_bits=address_bits(config), activation_latency=read_latency(config))
        m.submodules.buffer = buffer = ActivationBuffer(config=config, read_delay=array.read_delay)
        m.submodules.sequencer = sequencer = Sequencer(config=config, place_bits=buffer.place_bits)
        m.submodules.array = array
        connect(m, flipped(self.vector), buffer.job)
        connect(m, flipped(self.beat), buffer.i)
        connect(m, flipped(self.job), sequencer.job)
        m.d.comb += [
            sequencer.step_valid.eq(self.step.valid), self.step.ready.eq(sequencer.issue),
            sequencer.available.eq(buffer.available), sequencer.count.eq(buffer.count),
            buffer.advance.eq(sequencer.advance), sequencer.freed.eq(self.done),
            array.step.eq(self.step.payload), array.valid.eq(sequencer.issue), array.first.eq(sequencer.first),
            array.position.eq(sequencer.place | buffer.bank << buffer.place_bits), buffer.address.eq(array.address),
            array.mantissas.eq(buffer.mantissas), array.exponent.eq(buffer.exponent),
        ]  # fmt: skip
        last = config.lanes - 1 + config.acc_segments - 1
        m.d.comb += self.done.eq(delay(m, sequencer.last, array.latency + last, "done", reset_less=False))
        for i in range(config.lanes):
            for k in range(config.acc_segments):
                cut = array.segment(k)
                aligned = delay(m, array.accumulators[i][cut], last - i - k, f"sum{i}_{k}")
                m.d.comb += self.sums[i * config.acc_bits + cut.start : i * config.acc_bits + cut.stop].eq(aligned)
        return m


class Product:
    """Random words and a vector, and what belongs to them at the ports of the bench."""

    def __init__(self, config, row_groups, cols, numbers):
        kind = config.codec
        self.x = numbers.standard_normal(cols).astype(np.float16)
        self.blocks, self.row_groups = kind.blocks(cols), row_groups
        # Columns past the end have weights that are not 0, but no activation.
        words = kind.random_words(row_groups * config.lanes, self.blocks * kind.step_columns, numbers)
        m, exponent = groups(self.x, config.group)
        per_step = m.reshape(-1, kind.step_columns)[: self.blocks].ravel()
        shift = np.repeat(exponent.astype(object) + 14, config.group)[: per_step.size]
        weights, _ = kind.integers(words, words.shape[1])
        terms = weights.astype(object) * per_step.astype(object) << shift
        self.sums = [int(value) for value in terms.sum(axis=1)]
        stored = kind.words_to_rows(words, words.shape[1]).reshape(row_groups, config.lanes, self.blocks, 4)
        self.steps = [
            int.from_bytes(stored[g, :, n].tobytes(), "little") for g in range(row_groups) for n in range(self.blocks)
        ]
        self.beats = [
            int.from_bytes(beat.tobytes(), "little")
            for beat in activation_image(config, self.x).reshape(-1, config.beat_bytes)
        ]


async def products(dut, stall):
    config = config_from(json.loads(os.environ["LATENCY"]))
    numbers = np.random.default_rng(rng("products").getrandbits(32))
    clk = await start(dut)
    pauses = [Stalls(stall, longest=5, generator=rng(f"{n}{stall}")) for n in range(4)]
    names = ("vector", "beat", "job", "step")
    vector, beat, job, step = sources = [
        Source(dut, name, clk, stalls=pause) for name, pause in zip(names, pauses, strict=True)
    ]
    layout = sequence_job_layout(config)
    expected = []
    for n in range(PRODUCTS):
        # Every third product takes long, so that the next vectors wait in front of the buffer.
        row_groups = int(numbers.integers(8, 16)) if n % 3 == 0 else int(numbers.integers(1, 4))
        product = Product(config, row_groups, int(numbers.integers(1, 33)), numbers)
        vector.send([product.x.size])
        beat.send(product.beats)
        values = {"blocks": product.blocks, "groups": row_groups, "tail_rows": config.lanes, "pad": 0}
        job.send([sum(value << layout[name].offset for name, value in values.items())])
        step.send(product.steps)
        expected += [product.sums[g * LANES : (g + 1) * LANES] for g in range(row_groups)]
    got = []
    mask = (1 << config.acc_bits) - 1
    for _ in range(20_000):
        await RisingEdge(clk)
        if dut.done.value == 1:
            sums = int(dut.sums.value)
            got.append([sums >> i * config.acc_bits & mask for i in range(LANES)])
            row_group = len(got) - 1
            assert got[-1] == [value & mask for value in expected[row_group]], f"row group {row_group}"
        if len(got) == len(expected):
            break
    assert len(got) == len(expected), f"{len(got)} of {len(expected)} row groups"
    for _ in range(100):
        await RisingEdge(clk)
        assert dut.done.value == 0
    for source in sources:
        await source.done(1)


@cocotb.test()
async def without_stalls(dut):
    await products(dut, 0.0)


@cocotb.test()
async def with_stalls(dut):
    await products(dut, 0.2)


def run(latency):
    run_testbench(Bench(config_from(latency)), __name__, name="engine", env={"LATENCY": json.dumps(latency)})


@pytest.fixture(autouse=True)
def dummies(monkeypatch):
    monkeypatch.setattr(decoders, "DECODERS", dict(decoders.DECODERS))
    dummy_families.enter()


@pytest.mark.parametrize("latency", LATENCIES)
def test_products(latency):
    run(latency)


def test_without_the_hold_a_slow_decoder_reads_the_wrong_vector(monkeypatch):
    """The products above are short enough to meet the fault."""
    plain = ActivationBuffer.__init__
    monkeypatch.setattr(
        ActivationBuffer, "__init__", lambda *args, read_delay, **more: plain(*args, read_delay=0, **more)
    )
    with pytest.raises(TestbenchError, match="row group"):
        run(30)
