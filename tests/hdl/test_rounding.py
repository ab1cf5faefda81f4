"""The rounding unit, bit for bit, against the golden model, numpy's binary32 product and exact rationals."""

import json
import os
from fractions import Fraction

import cocotb
import numpy as np
import pytest

from seedlm.golden.build import Config
from seedlm.golden.codecs import codec
from seedlm.golden.fp32 import QUIET_NAN, fl32_from_int, fl32_mul
from seedlm.hdl.collector import tag_layout
from seedlm.hdl.rounding import Fp32Rounding
from tests.hdl.netlists import netlist_verilog
from tests.testbench.runner import run_testbench
from tests.testbench.streams import Sink, Source, Stalls, rng, start

TAG_BITS = tag_layout().size  # as in the accelerator
NAN = 0x7FC00000
SCALES = [
    0x3F800000, 0xBF800000, 0, 0x80000000, 1, 0x80000001, 2, 3, 0x7FFFFF, 0x807FFFFF, 0x400000, 0x800000, 0x80800000,
    0x800001, 0x7F7FFFFF, 0xFF7FFFFF, 0x7F000000, 0x3F7FFFFF, 0x3F800001, 0x7F800000, 0xFF800000, 0x7FC00000,
    0x7F800001, 0xFFFFFFFF,
]  # fmt: skip


def config_from(name, max_cols):
    return Config(codec=codec(name), max_cols=max_cols)


def bits_of(x):
    return int(np.float32(x).view(np.uint32))


def float_of(bits):
    return np.uint32(bits).view(np.float32)


def fl32(x):
    """Bits of the binary32 nearest to the rational `x`, ties to even, written from the definition."""
    if x == 0:
        return 0
    sign, x = (0x80000000, -x) if x < 0 else (0, x)
    e = x.numerator.bit_length() - x.denominator.bit_length()
    e -= Fraction(2) ** e > x
    e = max(e, -126)
    n = round(x / Fraction(2) ** (e - 23))  # to even
    return sign | min(n + ((e + 126) << 23) if n else 0, 0x7F800000)


def rational(bits):
    field, fraction = bits >> 23 & 255, bits & 0x7FFFFF
    value = Fraction(fraction | (field > 0) << 23) * Fraction(2) ** (max(field, 1) - 150)
    return -value if bits >> 31 else value


def expected(config, acc, scale, nan):
    """Bits of the result; three ways must agree."""
    if nan or scale >> 23 & 255 == 255:
        return NAN
    first = fl32_from_int(acc, config.acc_fraction_bits)
    golden = bits_of(fl32_mul(first, float_of(scale)))
    with np.errstate(all="ignore"):
        assert golden == bits_of(np.float32(first) * float_of(scale))
    a = fl32(Fraction(acc, 1 << config.acc_fraction_bits))
    product = rational(a) * rational(scale)
    exact = fl32(product) if product else (a ^ scale) & 0x80000000
    assert golden == exact, f"golden {golden:#x}, rationals {exact:#x}"
    return golden


def accumulators(config, generator, count):
    """Corner values, then random ones of all sizes, many near a tie of the first rounding."""
    top = config.acc_bits - 1
    values = [0, 1, -1, (1 << top) - 1, -(1 << top), -(1 << top) + 1]
    for p in range(top):
        values += [1 << p, -(1 << p), (1 << p) - 1, 1 - (1 << p), (1 << p) + 1]
    for p in range(top - 25):
        for odd in (1, 3, 0x1FFFFFF, 0x1FFFFFD, 0x1555555):  # 25 bits, the last of them half a unit
            tie = (odd | 1 << 24) << p
            values += [tie, -tie, tie + 1, tie - 1, -tie - 1]
    while len(values) < count:
        width = generator.randint(1, top)
        value = generator.getrandbits(width)
        kind = generator.randrange(4)
        if kind == 0 and width > 26:  # a tie, or just beside one
            value = (value >> width - 25 | 1) << width - 25
            value += generator.choice([-1, 0, 0, 1])
        if kind == 1:
            value &= -1 << generator.randrange(width)
        values.append(generator.choice([value, -value]))
    return values


def scales_for(config, acc, generator):
    """A scale for `acc`: anything, or one that brings the result near overflow, near underflow or near 1."""
    kind = generator.randrange(6)
    if kind == 0:
        return generator.choice(SCALES)
    if kind == 1:
        return generator.getrandbits(32)
    if kind == 2:
        return generator.getrandbits(1) << 31 | generator.getrandbits(generator.randint(1, 23))
    size = abs(acc).bit_length() - config.acc_fraction_bits
    goal = {3: generator.randint(-152, -123), 4: generator.randint(125, 130), 5: generator.randint(-10, 10)}[kind]
    field = min(max(127 + goal - size, 0), 254)
    fraction = generator.choice([0, 0, 1, 0x7FFFFF, generator.getrandbits(23)])
    return generator.getrandbits(1) << 31 | field << 23 | fraction


def near_subnormal_ties(config, generator):
    """Products of 25 bits whose subnormal rounding is a tie but for at most one bit: 3 a 2**n, a < 2**24."""
    cases = []
    for places in range(1, 19):  # the result is shifted right by so many
        for rest in (0, *(1 << n for n in range(places))):
            while True:
                upper = generator.getrandbits(23 - places) | 1 << 23 - places
                product = upper << places + 1 | 1 << places | rest
                if product % 3 == 0:
                    break
            acc = product // 3 << config.acc_fraction_bits - 30
            scale = bits_of(np.ldexp(np.float32(3), -150 - places + 30))
            cases += [(acc, scale, 0), (-acc, scale, 0)]
    return cases


async def run(dut, cases, stall):
    config = config_from(*json.loads(os.environ["ROUNDING"]))
    clk = await start(dut)
    source = Source(dut, "i", clk, stalls=Stalls(stall, longest=4, generator=rng("i")))
    sink = Sink(dut, "o", clk)
    generator = rng("tags")
    inputs, outputs = [], []
    for acc, scale, nan in cases:
        tag = generator.getrandbits(TAG_BITS)
        item = acc & (1 << config.acc_bits) - 1
        for value, place in ((scale, 0), (nan, 32), (tag, 33)):
            item |= value << config.acc_bits + place
        inputs.append(item)
        outputs.append(expected(config, acc, scale, nan) | tag << 32)
    source.send(inputs)
    got = await sink.take(len(cases), 1000 + 10 * len(cases))
    for case, have, want in zip(cases, got, outputs, strict=True):
        acc, scale, nan = case
        assert have == want, f"acc {acc:#x}, scale {scale:#x}, nan {nan}: {have:#x}, expected {want:#x}"
    await sink.expect(outputs, 1, quiet=60)
    if not stall:
        assert sink.times[-1] - sink.times[0] == len(cases) - 1


@cocotb.test()
async def first_rounding(dut):
    """Scale 1: only the first rounding, every corner of it."""
    config = config_from(*json.loads(os.environ["ROUNDING"]))
    await run(dut, [(acc, 0x3F800000, 0) for acc in accumulators(config, rng("first"), 0)], 0.0)


@cocotb.test()
async def both_roundings(dut):
    config = config_from(*json.loads(os.environ["ROUNDING"]))
    generator = rng("both")
    accs = accumulators(config, generator, 6000)
    cases = [(acc, scales_for(config, acc, generator), generator.random() < 0.01) for acc in accs]
    cases += near_subnormal_ties(config, generator)
    await run(dut, cases, 0.0)


@cocotb.test()
async def corners(dut):
    config = config_from(*json.loads(os.environ["ROUNDING"]))
    top = config.acc_bits - 1
    one = 1 << config.acc_fraction_bits
    accs = [0, 1, -1, one, -one, 3 * one, (1 << top) - 1, -(1 << top), one + (one >> 23), -one - (one >> 24)]
    await run(dut, [(acc, scale, nan) for acc in accs for scale in SCALES for nan in (0, 1)], 0.3)


@cocotb.test()
async def latency(dut):
    clk = await start(dut)
    source = Source(dut, "i", clk)
    sink = Sink(dut, "o", clk)
    began = sink.cycle
    source.send([0])
    await sink.take(1, 100)
    # One clock until the source has put the item on the port.
    assert sink.times[0] - began == 1 + int(os.environ["LATENCY"]) + 1


CONFIGURATIONS = [("seedlm4", 32768), ("fp16", 32768), ("int8", 32768), ("seedlm4r", 4096), ("c1p1k2b0", 64)]


@pytest.mark.parametrize(("name", "max_cols"), CONFIGURATIONS)
def test_rounding(name, max_cols):
    component = Fp32Rounding(config=config_from(name, max_cols), tag_bits=TAG_BITS)
    env = {"ROUNDING": json.dumps([name, max_cols]), "LATENCY": component.latency}
    run_testbench(component, __name__, name="rounding", env=env)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["seedlm4", "fp16"])
def test_netlist_of_the_unit(name):
    """The netlist that `seedlm estimate` counts computes what the hardware's description does."""
    config = Config(codec=codec(name))
    files = netlist_verilog("rounding", config)
    latency = Fp32Rounding(config=config, tag_bits=TAG_BITS).latency
    env = {"ROUNDING": json.dumps([name, config.max_cols]), "LATENCY": latency}
    netlist = files.pop("netlist.v")
    run_testbench(netlist, __name__, name="Fp32Rounding", env=env, extra_verilog=files)


def test_quiet_nan():
    assert bits_of(QUIET_NAN) == NAN
