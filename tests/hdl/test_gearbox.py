"""The gearbox: every bit of every step, for many ratios of beat and step, and one item per clock."""

import json
import os
import random

import cocotb
import pytest
from cocotb.triggers import RisingEdge

from seedlm.hdl.gearbox import Gearbox
from seedlm.hdl.slicer import schedule
from tests.hdl.builds import build
from tests.testbench.runner import run_testbench
from tests.testbench.streams import Sink, Source, Stalls, cycles, rng, start


def config_from(values):
    """The configuration that a test was given by name, lanes and bus width."""
    name, lanes, bus = values
    return build(name, lanes=lanes, bus_bits=bus, burst_beats=32)


def in_slots(step, lanes, width, slot):
    """The words of a step, each in a slot of so many bits."""
    return sum((step >> i * width & (1 << width) - 1) << i * slot for i in range(lanes))


def product(config, steps, generator, p_error=0.0):
    """Beats and expected steps of a product with random contents; whatever pads the last beat is random too."""
    beats = -(-steps * config.step_bits // config.bus_bits)
    image = generator.getrandbits(beats * config.bus_bits)
    errors = [generator.random() < p_error for _ in range(beats)]
    mask = (1 << config.bus_bits) - 1
    inputs = [
        (image >> n * config.bus_bits & mask) | (n == beats - 1) << config.bus_bits | errors[n] << config.bus_bits + 1
        for n in range(beats)
    ]
    outputs = []
    for n in range(steps):
        low, high = n * config.step_bits, (n + 1) * config.step_bits
        error = any(errors[low // config.bus_bits : (high - 1) // config.bus_bits + 1])
        word = image >> low & (1 << config.step_bits) - 1
        outputs.append(word | (n == steps - 1) << config.step_bits | error << config.step_bits + 1)
    return inputs, outputs


async def run(dut, lengths, stall, *, name, p_error=0.0):
    """Products of these lengths, back to back; returns config, clocks from first to last step, beats and steps."""
    config = config_from(json.loads(os.environ["GEARBOX"]))
    generator = rng(name)
    clk = await start(dut)
    stalls = [Stalls(stall, longest=longest, generator=rng(f"{name}{longest}")) for longest in (3, 5, 7)]
    source = Source(dut, "i", clk, stalls=stalls[0])
    jobs = Source(dut, "job", clk, stalls=stalls[1])
    sink = Sink(dut, "o", clk, stalls=stalls[2])
    beats, steps = [], []
    for length in lengths:
        inputs, outputs = product(config, length, generator, p_error)
        beats += inputs
        steps += outputs
    jobs.send(lengths)
    source.send(beats)
    await sink.expect(steps, 200 + 20 * (len(beats) + len(steps)), quiet=60)
    assert source.sent == len(beats), f"{source.sent} of {len(beats)} beats taken"
    assert jobs.sent == len(lengths)
    return config, sink.times[-1] - sink.times[0] + 1, len(beats), len(steps)


@cocotb.test()
async def full_speed(dut):
    lengths = [40, 2, 3, 64, 5, 9, 8, 7, 100]
    config, clocks, beats, steps = await run(dut, lengths, 0.0, name="speed")
    # The larger side sets the pace. Beats count as they come, the last one of each product rounded up.
    if config.step_bits <= config.bus_bits:
        assert clocks == steps, f"{steps} steps took {clocks} clocks"
    else:
        first = -(-config.step_bits // config.bus_bits)  # beats until the first step
        assert clocks == beats - first + 1, f"{beats} beats took {clocks} clocks"


@cocotb.test()
async def latency(dut):
    """From the beat that completes the first step to that step."""
    config = config_from(json.loads(os.environ["GEARBOX"]))
    clk = await start(dut)
    source, jobs = Source(dut, "i", clk), Source(dut, "job", clk)
    jobs.send([100])
    await cycles(clk, 10)
    source.send([0] * -(-config.step_bits // config.bus_bits))
    dut.o__ready.value = 1
    edges, taken = 0, 0
    while True:
        if dut.i__valid.value == 1 and dut.i__ready.value == 1:
            taken = edges
        if dut.o__valid.value == 1:
            break
        await RisingEdge(clk)
        edges += 1
        assert edges < 200
    assert edges - taken == int(os.environ["LATENCY"])


async def stalls(dut, stall):
    generator = rng("lengths")
    lengths = [1, 1, 2, 1] + [generator.randint(1, 30) for _ in range(12)]
    await run(dut, lengths, stall, name=f"stalls{stall}", p_error=0.1)


async def widths(dut, stall):
    """Products of words of all widths, in any order; at most a clock or two are lost from one to the next."""
    config = config_from(json.loads(os.environ["GEARBOX"]))
    generator, name = rng("widths"), f"widths{stall}"
    clk = await start(dut)
    pauses = [Stalls(stall, longest=longest, generator=rng(f"{name}{longest}")) for longest in (3, 5, 7)]
    source, jobs = Source(dut, "i", clk, stalls=pauses[0]), Source(dut, "job", clk, stalls=pauses[1])
    sink = Sink(dut, "o", clk, stalls=pauses[2])
    beats, steps, orders, slot = [], [], [], config.word_bits
    for length in [1, 1, 2, 1, *(generator.randint(1, 40) for _ in range(20))]:
        kind = generator.choice(config.codecs)
        view = config.of(kind)
        inputs, outputs = product(view, length, generator, 0.1)
        beats += inputs
        bits, top = view.step_bits, config.lanes * slot
        steps += [in_slots(step & (1 << bits) - 1, config.lanes, kind.word_bits, slot) | step >> bits << top
                  for step in outputs]  # fmt: skip
        orders.append(length | config.word_widths.index(kind.word_bits) << 32)
    jobs.send(orders)
    source.send(beats)
    await sink.expect(steps, 200 + 20 * (len(beats) + len(steps)), quiet=60)
    assert (source.sent, jobs.sent) == (len(beats), len(orders))
    if not stall:
        clocks = sink.times[-1] - sink.times[0] + 1
        assert clocks <= max(len(beats), len(steps)) + 3 * len(orders), f"{len(beats)} beats took {clocks} clocks"


@cocotb.test()
async def widths_at_full_speed(dut):
    await widths(dut, 0.0)


@cocotb.test()
async def widths_with_stalls(dut):
    await widths(dut, 0.4)


@cocotb.test()
async def few_stalls(dut):
    await stalls(dut, 0.1)


@cocotb.test()
async def many_stalls(dut):
    await stalls(dut, 0.5)


COMBINATIONS = [
    ("seedlm4", 16, 512), ("seedlm3", 16, 512), ("c8p4k16b4", 16, 512), ("c8p3k20b0", 16, 512), ("fp16", 16, 512),
    ("seedlm4", 4, 512), ("seedlm3", 4, 512), ("seedlm4", 8, 512), ("seedlm3", 8, 512), ("seedlm4", 5, 512),
    ("seedlm3", 5, 512), ("seedlm3", 1, 512), ("c4p3k14b3", 3, 256), ("seedlm3", 16, 1024),
    ("seedlm4", 16, 128), ("seedlm3", 16, 128), ("seedlm4", 4, 128), ("fp16", 5, 128), ("seedlm3r", 8, 128),
]  # fmt: skip


@pytest.mark.parametrize(("name", "lanes", "bus"), COMBINATIONS)
def test_gearbox(name, lanes, bus):
    config = config_from((name, lanes, bus))
    component = Gearbox(config=config)
    env = {"GEARBOX": json.dumps([name, lanes, bus]), "LATENCY": component.latency}
    cases = ["full_speed", "latency", "few_stalls", "many_stalls"]
    run_testbench(component, __name__, name="gearbox", testcase=cases, env=env)


@pytest.mark.parametrize(
    ("name", "lanes", "bus"), [("trellis4+trellis3+fp16+mx6", 4, 128), ("trellis3+c8p4k16b4", 16, 512)]
)
def test_several_widths(name, lanes, bus):
    component = Gearbox(config=config_from((name, lanes, bus)))
    cases = ["widths_at_full_speed", "widths_with_stalls"]
    run_testbench(component, __name__, name="gearbox", testcase=cases, env={"GEARBOX": json.dumps([name, lanes, bus])})


def test_schedule_covers_the_stream():
    """Each period uses every unit once, and the larger side never waits."""
    generator = random.Random(1)
    for _ in range(300):
        beat, part = 1 << generator.randint(0, 6), generator.randint(1, 99)
        visits = schedule(beat, part)
        assert sum(v.emit for v in visits) * part == sum(v.release for v in visits) * beat
        assert all(v.release for v in visits) if part >= beat else all(v.emit for v in visits)
        assert all(-beat < v.n < part for v in visits)
