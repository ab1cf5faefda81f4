"""The activation converter against `golden.activations`, bit for bit, for many group sizes and bus widths."""

import json
import os
from fractions import Fraction

import cocotb
import numpy as np
import pytest
from cocotb.triggers import RisingEdge

from seedlm.golden.activations import groups
from seedlm.golden.build import MANTISSA_BITS, Config
from seedlm.golden.codecs import codec
from seedlm.hdl.activation_convert import ActivationConverter
from tests.testbench.runner import run_testbench
from tests.testbench.streams import Sink, Source, Stalls, cycles, rng, start

MAX_COLS = 4096
INFINITY, NAN = 0x7C00, 0x7E01


def config_from(name, bus):
    return Config(codec=codec(name), bus_bits=bus, max_cols=MAX_COLS, burst_beats=32)


def vector(kind, cols, generator):
    """Halves (uint16) of a vector."""

    def half():
        match kind:
            case "bits":  # any finite value
                return generator.getrandbits(1) << 15 | generator.randrange(INFINITY)
            case "normal":
                return int(np.float16(generator.gauss(0, 1)).view(np.uint16))
            case "close":  # exponents near each other: ties and all shifts
                exponent = max(0, 30 - int(generator.expovariate(0.12)))
                fraction = generator.choice([0, 1, 1023, 1 << generator.randrange(10), generator.getrandbits(10)])
                return generator.getrandbits(1) << 15 | exponent << 10 | fraction
            case "subnormal":
                return generator.getrandbits(1) << 15 | generator.getrandbits(10)
            case "corner":
                return generator.choice([0, 0x8000, 1, 0x8001, 0x3FF, 0x400, 0x8400, 0x7BFF, 0xFBFF, 0x3C00, 0xBC00])
            case "zero":
                return generator.choice([0, 0x8000])
            case "nonfinite":
                return generator.choice([0x3C00] * 60 + [INFINITY, INFINITY | 0x8000, NAN, 0xFFFF])
        raise ValueError(kind)

    return np.array([half() for _ in range(cols)], dtype=np.uint16)


def beats_of(config, halves, errors, generator):
    """Beats of a vector; what pads the last one is NaN, infinity or anything else."""
    per_beat = config.activations_per_beat
    count = -(-len(halves) // per_beat)
    padded = [int(h) for h in halves]
    padded += [
        generator.choice([INFINITY, NAN, generator.getrandbits(16)]) for _ in range(count * per_beat - len(padded))
    ]
    return [
        sum(h << 16 * c for c, h in enumerate(padded[n * per_beat : (n + 1) * per_beat]))
        | (n == count - 1) << config.bus_bits | errors[n] << config.bus_bits + 1
        for n in range(count)
    ]  # fmt: skip


def expected(config, halves, errors):
    """(mantissas or None, exponent or None, index, last, nonfinite, error) of every group."""
    G, per_beat = config.codec.group, config.activations_per_beat
    count = config.codec.groups(len(halves))
    bad = (halves & 0x7C00) == 0x7C00
    m, E = groups(np.where(bad, 0, halves).astype(np.uint16).view(np.float16), config.group)
    result, nonfinite, error = [], False, False
    for g in range(count):
        own = bool(bad[g * G : (g + 1) * G].any())
        nonfinite |= own
        error |= any(errors[g * G // per_beat : (min((g + 1) * G, len(halves)) - 1) // per_beat + 1])
        values = (None, None) if own else ([int(v) for v in m[g]], int(E[g]) + 14)
        result.append((*values, g, g == count - 1, nonfinite, error))
    return result


def fields(config, payload):
    """The group that a payload holds, like `expected`."""
    G = config.codec.group
    layout = [(MANTISSA_BITS, G), (5, 1), ((config.max_groups - 1).bit_length(), 1), (1, 1), (1, 1), (1, 1)]
    out = []
    for width, count in layout:
        values = [payload >> width * n & (1 << width) - 1 for n in range(count)]
        payload >>= width * count
        out.append(values if count > 1 or not out else values[0])
    half = 1 << MANTISSA_BITS - 1
    return ([(v ^ half) - half for v in out[0]], out[1], out[2], bool(out[3]), bool(out[4]), bool(out[5]))


async def run(dut, vectors, stall, *, name, p_error=0.0):
    """Convert vectors back to back and compare; returns the configuration and the clocks from first to last group."""
    config = config_from(*json.loads(os.environ["CONVERTER"]))
    generator = rng(name)
    clk = await start(dut)
    source = Source(dut, "i", clk, stalls=Stalls(stall, longest=5, generator=rng(f"{name}i")))
    jobs = Source(dut, "job", clk, stalls=Stalls(stall, longest=9, generator=rng(f"{name}job")))
    sink = Sink(dut, "o", clk)
    beats, wanted = [], []
    for halves in vectors:
        errors = [generator.random() < p_error for _ in range(config.activation_beats(len(halves)))]
        beats += beats_of(config, halves, errors, generator)
        wanted += expected(config, halves, errors)
    jobs.send([len(halves) for halves in vectors])
    source.send(beats)
    got = await sink.take(len(wanted), 200 + 20 * (len(beats) + len(wanted)))
    for n, (payload, want) in enumerate(zip(got, wanted, strict=True)):
        have = fields(config, payload)
        if want[0] is None:
            have = (None, None, *have[2:])
        assert have == want, f"group {n} is {have}, expected {want}"
    await cycles(clk, 60)
    assert len(sink.items) == len(wanted), "more groups than expected"
    assert source.sent == len(beats)
    assert jobs.sent == len(vectors)
    return config, sink.times[-1] - sink.times[0] + 1


@cocotb.test()
async def values(dut):
    generator = rng("values")
    kinds = ("bits", "normal", "close", "subnormal", "corner", "zero")
    vectors = [vector(kind, 900 if kind == "close" else 200, generator) for kind in kinds]
    await run(dut, vectors, 0.0, name="values")


@cocotb.test()
async def latency(dut):
    """From the beat that completes the first group to that group."""
    config = config_from(*json.loads(os.environ["CONVERTER"]))
    clk = await start(dut)
    source, jobs = Source(dut, "i", clk), Source(dut, "job", clk)
    jobs.send([MAX_COLS])
    await cycles(clk, 10)
    source.send([0] * -(-config.codec.group // config.activations_per_beat))
    edges, taken = 0, 0
    while dut.o__valid.value == 0:
        if dut.i__valid.value == 1 and dut.i__ready.value == 1:
            taken = edges
        await RisingEdge(clk)
        edges += 1
        assert edges < 200
    assert edges - taken == int(os.environ["LATENCY"])


@cocotb.test()
async def full_speed(dut):
    generator = rng("speed")
    lengths = [512, 513, 300, 299, 130]
    config, clocks = await run(dut, [vector("normal", n, generator) for n in lengths], 0.0, name="speed")
    G, H = config.codec.group, config.activations_per_beat
    groups_in_all = sum(config.codec.groups(n) for n in lengths)
    beats = sum(-(-config.codec.groups(n) * G // H) for n in lengths)  # with those that a last group would have needed
    assert clocks == (groups_in_all if G <= H else beats - -(-G // H) + 1)


async def stalls(dut, stall):
    generator = rng(f"lengths{stall}")
    config = config_from(*json.loads(os.environ["CONVERTER"]))
    G, H = config.codec.group, config.activations_per_beat
    lengths = [1, 2, G - 1, G, G + 1, H - 1, H, H + 1, 2 * H, 3 * H, 1, 1] + [
        generator.randint(1, 5 * H) for _ in range(20)
    ]
    kinds = ("bits", "close", "nonfinite", "corner")
    vectors = [vector(kinds[n % 4], max(1, length), generator) for n, length in enumerate(lengths)]
    await run(dut, vectors, stall, name=f"stalls{stall}", p_error=0.1)


@cocotb.test()
async def no_stalls(dut):
    await stalls(dut, 0.0)


@cocotb.test()
async def many_stalls(dut):
    await stalls(dut, 0.4)


COMBINATIONS = [
    ("seedlm4", 512), ("seedlm3", 512), ("fp16", 512), ("c5p3k16b4", 512), ("c1p1k8b2", 128), ("seedlm4", 128),
]  # fmt: skip
LONG = [("c64p2k16b4", 512), ("seedlm3", 128), ("c40p4k16b4", 256), ("c11p4k16b4", 1024)]


@pytest.mark.parametrize(
    ("name", "bus"), COMBINATIONS + [pytest.param(*values, marks=pytest.mark.slow) for values in LONG]
)
def test_activation_converter(name, bus):
    component = ActivationConverter(config=config_from(name, bus))
    run_testbench(component, __name__, name="activation_converter",
                  env={"CONVERTER": json.dumps([name, bus]), "LATENCY": component.latency})  # fmt: skip


def test_golden_groups_are_the_definition():
    """The oracle's oracle: exact rationals, as section 2 of the contract words it."""
    generator = rng("rationals")
    for kind in ("bits", "close", "subnormal", "corner"):
        halves = vector(kind, 240, generator)
        x = halves.view(np.float16)
        m, E = groups(x, 8)
        for g in range(30):
            exact = [Fraction(float(v)) for v in x[8 * g : 8 * g + 8]]
            top = max(abs(v) for v in exact)
            exponent = -14
            while top >= Fraction(2) ** (exponent + 1):
                exponent += 1
            assert exponent == E[g]
            assert [round(v * Fraction(2) ** (16 - exponent)) for v in exact] == m[g].tolist()  # round() is to even
