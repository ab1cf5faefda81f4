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
from seedlm.golden.build import Config
from seedlm.golden.codecs import CODECS, codec
from seedlm.hdl import decoders, mac
from seedlm.hdl.delay import delay
from seedlm.hdl.lane import Lane
from seedlm.hdl.mac import MacArray
from tests.families import CODECS as FAMILY_CODECS
from tests.families import family_tests, mixed_rows, steps_of
from tests.hdl import dummy_families
from tests.hdl.dummy_families import dummy
from tests.hdl.netlists import instance, netlist_verilog
from tests.testbench.runner import run_testbench
from tests.testbench.streams import rng, start

ACTIVATION_LATENCY = 2


class NetlistLane(Lane):
    """A lane as Yosys has made it of LUTs, registers and DSP48E1s."""

    def elaborate(self, platform):
        self.decoder._MustUse__used = True  # nobody misses the parts it would have
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
        return self.array.read_delay + ACTIVATION_LATENCY

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


def config_from(values):
    name, lanes, segment_bits = values
    return Config(codec=dummy(name) or codec(name), lanes=lanes, segment_bits=segment_bits)


class Rows:
    """The rows of a row group: random words with corner words among them; so many steps with weights."""

    def __init__(self, config, steps, generator):
        kind, cols = config.codec, steps * config.codec.step_columns
        numbers = np.random.default_rng(generator.getrandbits(32))
        try:
            family = family_tests(kind)
        except KeyError:
            family = dummy_families
            words = kind.random_words(config.lanes, cols, numbers)
        else:
            words = mixed_rows(kind, config.lanes, cols, numbers)
        self._bits = kind.word_bits
        self._rows = [int.from_bytes(row.tobytes(), "little") for row in kind.words_to_rows(words, cols)]
        terms = [family.terms(kind, [int(word) for word in row]) for row in words]
        nothing = [(0, 0)] * kind.step_columns
        self._terms = [
            [nothing if n is None else row[n : n + kind.step_columns] for n in steps_of(kind, cols)] for row in terms
        ]

    def step(self, n):
        """Raw bits of step n, lane 0 in the low ones."""
        words = [row >> n * self._bits & (1 << self._bits) - 1 for row in self._rows]
        return sum(word << i * self._bits for i, word in enumerate(words))

    def sums(self, n, mantissas, exponent):
        """What step n adds to each row."""
        return [
            sum(weight * m << shift + exponent for (weight, shift), m in zip(row[n], mantissas, strict=True))
            for row in self._terms
        ]


@cocotb.test()
async def sums(dut):
    values = json.loads(os.environ["MAC"])
    config, latency = config_from(values[:3]), values[3]
    c = config.codec
    unused = c.fraction_bits - c.acc_fraction_bits  # places of the exact product that hardware has not
    generator = rng("mac")
    clk = await start(dut, valid=0, first=0)
    expected, checks, clock = [0] * config.lanes, {}, 0
    lengths = [1, 1, 2, 1, 3, 40, 1] + [generator.randint(1, 12) for _ in range(30)]
    plan = []
    for length in lengths:
        steps = c.blocks(length * c.step_columns)
        plan += [(n, n == steps - 1, length) for n in range(steps)]
    rows = None
    while plan or clock <= max(checks):
        issue = bool(plan) and generator.random() > 0.15
        dut.valid.value = int(issue)
        if issue:
            n, last, length = plan.pop(0)
            if n == 0:
                rows, expected = Rows(config, length, generator), [0] * config.lanes
            m = [generator.choice([generator.randint(-(1 << 17) + 1, (1 << 17) - 1), (1 << 17) - 1, -(1 << 17) + 1, 0])
                 for _ in range(c.step_columns)]  # fmt: skip
            exponent = generator.choice([0, 29, generator.randint(0, 29)])
            dut.first.value = int(n == 0)
            dut.step.value = rows.step(n)
            dut.mantissas.value = sum((v & 0x3FFFF) << 18 * k for k, v in enumerate(m))
            dut.exponent.value = exponent
            expected = [a + b for a, b in zip(expected, rows.sums(n, m, exponent), strict=True)]
            if last:
                checks[clock + latency] = expected
        else:
            dut.step.value = generator.getrandbits(config.step_bits)
        await RisingEdge(clk)
        if clock in checks:
            got = int(dut.sums.value)
            for i, value in enumerate(checks[clock]):
                assert value % (1 << unused) == 0
                part = got >> i * config.acc_bits & (1 << config.acc_bits) - 1
                assert part == (value >> unused) & (1 << config.acc_bits) - 1, f"row group due at {clock}, lane {i}"
        clock += 1
    assert len(checks) == len(lengths)


def run(name, lanes, segment_bits, **options):
    bench = Bench(config_from([name, lanes, segment_bits]))
    values = [name, lanes, segment_bits, bench.latency]
    run_testbench(bench, __name__, name="mac", env={"MAC": json.dumps(values)}, **options)


SLOW = pytest.mark.slow
MORE = [
    ("seedlm4r", 2, 20), ("fp16", 1, 11), ("c4p2k8b1", 2, 34), ("c1p1k2b2", 1, 34),
    *(pytest.param(*values, marks=SLOW) for values in (("seedlm4", 1, 34), ("seedlm3r", 2, 48), ("int8", 1, 11))),
]  # fmt: skip
# Of codecs that differ in numbers only, one.
QUICK = set(CODECS) - {"seedlm3", "trellis2", "trellis3", "trellis5", "trellis6", "mx6", "mxfp6e3m2"}
FAMILIES = [pytest.param(c.name, 3, 34, marks=() if c.name in QUICK else SLOW) for c in FAMILY_CODECS]
# State, two parts of a word, decoders faster and slower than the activations; shifts for 1, 3 and 4 columns.
DUMMIES = [
    *((name, 3, 34) for name in ("delayed1", "delayed30", "shifted3")),
    *(pytest.param(name, 3, 34, marks=SLOW) for name in ("delayed2", "shifted1", "shifted4")),
]


@pytest.mark.parametrize(("name", "lanes", "segment_bits"), FAMILIES + MORE)
def test_mac_array(name, lanes, segment_bits):
    run(name, lanes, segment_bits)


@pytest.mark.parametrize(("name", "lanes", "segment_bits"), DUMMIES)
def test_any_decoder(name, lanes, segment_bits, monkeypatch):
    monkeypatch.setattr(decoders, "DECODERS", dict(decoders.DECODERS))
    dummy_families.enter()
    run(name, lanes, segment_bits)


@pytest.mark.parametrize("name", [name if name == "int8" else pytest.param(name, marks=SLOW) for name in CODECS])
def test_netlist_of_a_lane(name, monkeypatch):
    """The netlist that `seedlm estimate` counts computes what the hardware's description does."""
    config = Config(codec=codec(name), lanes=2)
    files = netlist_verilog("lane", config)
    monkeypatch.setattr(mac, "Lane", NetlistLane)
    run(name, 2, config.segment_bits, extra_verilog=files)


@pytest.mark.parametrize(
    "name", ["seedlm4", "int8", *(pytest.param(name, marks=SLOW) for name in ("seedlm4r", "fp16"))]
)
def test_lanes_are_one_module(name):
    """A port that is put together outside becomes several, named anew for every lane: simulation slows down."""
    text = verilog_text(MacArray(config=Config(codec=codec(name)), position_bits=1, activation_latency=2), "mac_array")
    lanes = [module.name for module in modules(text) if re.fullmatch(r"mac_array_lane\d+", module.name)]
    assert 1 <= len(lanes) <= 2, lanes  # the last one passes nothing on
