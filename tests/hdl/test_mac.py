"""The MAC array: exact sums of every lane for random and extreme operands, against integers of Python."""

import json
import os
import re

import cocotb
import numpy as np
import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from cocotb.triggers import RisingEdge

from seedlm.build.rewrite import modules
from seedlm.build.verilog import verilog_text
from seedlm.golden.build import Config, codec
from seedlm.golden.codecs.seed import unpack, weights_int
from seedlm.hdl import mac
from seedlm.hdl.delay import delay
from seedlm.hdl.mac import MacArray
from tests.hdl.netlists import instance, netlist_verilog
from tests.testbench.runner import run_testbench
from tests.testbench.streams import rng, start

ACTIVATION_LATENCY = 2


class NetlistLane(mac.Lane):
    """A lane as Yosys has made it of LUTs, registers and DSP48E1s."""

    def elaborate(self, platform):
        self._weights._MustUse__used = True  # nobody misses the parts it would have
        return instance(self, "Lane")


class Bench(wiring.Component):
    """A MAC array whose activations enter with their step, instead of coming from a buffer."""

    def __init__(self, config):
        self.config = config
        self.array = MacArray(config=config, position_bits=1, activation_latency=ACTIVATION_LATENCY)
        columns = config.codec.step_columns
        super().__init__(
            {
                "step": In(config.step_bits), "valid": In(1), "first": In(1),
                "mantissas": In(18 * columns), "exponent": In(5), "sums": Out(config.acc_bits * config.lanes),
            }
        )  # fmt: skip

    @property
    def operand_delay(self):
        """Clocks from the issue until the array wants the activations."""
        return self.array._lanes[0].weight_latency

    def elaborate(self, platform):
        m = Module()
        m.submodules.array = array = self.array
        # The activations enter with their step; they reach the array when it has asked for them.
        m.d.comb += [
            array.step.eq(self.step), array.valid.eq(self.valid), array.first.eq(self.first),
            array.mantissas.as_value().eq(delay(m, self.mantissas, self.operand_delay, "mantissas")),
            array.exponent.eq(delay(m, self.exponent, self.operand_delay, "exponent")),
        ]  # fmt: skip
        # Lane i, segment k is complete i + k clocks after lane 0, segment 0: put them side by side.
        last = (self.config.lanes - 1) + (self.config.acc_segments - 1)
        for i in range(self.config.lanes):
            for k in range(self.config.acc_segments):
                cut = array.segment(k)
                aligned = delay(m, array.accumulators[i][cut], last - i - k, f"sum{i}_{k}")
                offset = i * self.config.acc_bits
                m.d.comb += self.sums[offset + cut.start : offset + cut.stop].eq(aligned)
        return m

    @property
    def latency(self):
        return self.array.latency + (self.config.lanes - 1) + (self.config.acc_segments - 1)


def config_from_environment():
    name, lanes, segment_bits = json.loads(os.environ["MAC"])
    return Config(codec=codec(name), lanes=lanes, segment_bits=segment_bits)


def step_terms(config, words):
    """Per lane: the integer weights of a step and the shift that each column brings."""
    c = config.codec
    if c.is_fp16:
        halves = np.array([[w & 0xFFFF, w >> 16] for w in words])
        field, fraction = halves >> 10 & 31, halves & 1023
        magnitude = fraction + (field > 0) * 1024
        return np.where(halves >> 15, -magnitude, magnitude), np.maximum(field, 1) - 1
    _, e, _ = unpack(c, np.array(words, dtype=np.uint64))
    return weights_int(c, np.array(words, dtype=np.uint64)), np.repeat((e - c.exponent_min)[:, None], c.C, axis=1)


@cocotb.test()
async def sums(dut):
    config = config_from_environment()
    c, bench = config.codec, Bench(config_from_environment())
    generator = rng("mac")
    clk = await start(dut, valid=0, first=0)
    extremes = [(1 << c.word_bits) - 1, 0]
    expected, checks, clock = [0] * config.lanes, {}, 0
    lengths = [1, 1, 2, 1, 3, 40, 1] + [generator.randint(1, 12) for _ in range(30)]
    plan = [(n == 0, n == length - 1) for length in lengths for n in range(length)]
    while plan or clock <= max(checks):
        issue = bool(plan) and generator.random() > 0.15
        dut.valid.value = int(issue)
        if issue:
            first, last = plan.pop(0)
            words = [generator.choice([generator.getrandbits(c.word_bits)] * 6 + extremes) for _ in range(config.lanes)]
            m = [generator.choice([generator.randint(-(1 << 17) + 1, (1 << 17) - 1), (1 << 17) - 1, -(1 << 17) + 1, 0])
                 for _ in range(c.step_columns)]  # fmt: skip
            exponent = generator.choice([0, 29, generator.randint(0, 29)])
            dut.first.value = int(first)
            dut.step.value = sum(w << i * c.word_bits for i, w in enumerate(words))
            dut.mantissas.value = sum((v & 0x3FFFF) << 18 * n for n, v in enumerate(m))
            dut.exponent.value = exponent
            weights, shifts = step_terms(config, words)
            for i in range(config.lanes):
                term = sum(int(w) * v << int(s) + exponent for w, v, s in zip(weights[i], m, shifts[i], strict=True))
                expected[i] = term if first else expected[i] + term
            if last:
                checks[clock + bench.latency] = list(expected)
        await RisingEdge(clk)
        if clock in checks:
            got = int(dut.sums.value)
            for i, value in enumerate(checks[clock]):
                part = got >> i * config.acc_bits & (1 << config.acc_bits) - 1
                assert part == value & (1 << config.acc_bits) - 1, f"row group due at {clock}, lane {i}"
        clock += 1
    assert len(checks) == len(lengths)


@pytest.mark.parametrize(
    ("name", "lanes", "segment_bits"),
    [("seedlm4", 3, 34), ("seedlm3", 2, 34), ("seedlm4r", 2, 20), ("seedlm3r", 2, 48), ("fp16", 3, 34), ("fp16", 1, 11),
     ("c8p4k16b4", 1, 34), ("c8p3k20b0", 2, 34), ("c4p2k8b1", 2, 34), ("c1p1k2b2", 1, 34)],
)  # fmt: skip
def test_mac_array(name, lanes, segment_bits):
    config = Config(codec=codec(name), lanes=lanes, segment_bits=segment_bits)
    run_testbench(Bench(config), __name__, name="mac", env={"MAC": json.dumps([name, lanes, segment_bits])})


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "name", ["seedlm4", *(pytest.param(name, marks=SLOW) for name in ("seedlm4r", "seedlm3", "seedlm3r", "fp16"))]
)
def test_netlist_of_a_lane(name, monkeypatch):
    """The netlist that `seedlm estimate` counts computes what the hardware's description does."""
    config = Config(codec=codec(name), lanes=2)
    files = netlist_verilog("lane", config)
    monkeypatch.setattr(mac, "Lane", NetlistLane)
    run_testbench(
        Bench(config), __name__, name="mac", env={"MAC": json.dumps([name, 2, config.segment_bits])},
        extra_verilog=files,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["seedlm4", "seedlm4r", "fp16"])
def test_lanes_are_one_module(name):
    """A port that is put together outside becomes several, named anew for every lane: simulation slows down."""
    text = verilog_text(MacArray(config=Config(codec=codec(name)), position_bits=1, activation_latency=2), "mac_array")
    lanes = [module.name for module in modules(text) if re.fullmatch(r"mac_array_lane\d+", module.name)]
    assert 1 <= len(lanes) <= 2, lanes  # the last one passes nothing on
