"""LFSR bank and reconstruction against the golden decoder, for the presets and for odd sizes."""

import os

import cocotb
import numpy as np
import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from seedlm.golden.codecs import codec
from seedlm.golden.codecs.seed import pack, weights_int
from seedlm.golden.lfsr import states
from seedlm.hdl.delay import delay
from seedlm.hdl.lfsr_bank import LfsrBank
from seedlm.hdl.reconstruction import Reconstruction
from tests.hdl.fixed_latency import check
from tests.testbench.runner import run_testbench
from tests.testbench.streams import rng

CODECS = [
    "seedlm4", "seedlm3", "seedlm4r", "seedlm3r", "c8p4k16b4", "c8p3k20b0",
    "c8p1k16b0", "c4p2k8b4", "c5p3k4b0", "c4p4k4b0", "c6p6k9b2", "c3p1k24b0", "c1p1k2b1",
]  # fmt: skip


class Block(wiring.Component):
    """Both parts as a lane has them: a block word's seed and coefficients in, its weights out."""

    def __init__(self, codec):
        self.codec = codec
        self.reconstruction = Reconstruction(codec=codec)
        self.bank = LfsrBank(codec=codec, inverted=self.reconstruction.sign_bits)
        self.weight_bits = self.reconstruction.weight_bits
        super().__init__({"seed": In(codec.K), "q": In(4 * codec.P), "weights": Out(self.weight_bits * codec.C)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.bank, m.submodules.reconstruction = bank, reconstruction = self.bank, self.reconstruction
        m.d.comb += [
            bank.seed.eq(delay(m, self.seed, reconstruction.table_latency - bank.latency, "seed")),
            reconstruction.coefficients.eq(self.q),
            reconstruction.sequence.eq(bank.sequence),
            reconstruction.signs.eq(bank.inverted),
            self.weights.eq(reconstruction.weights),
        ]
        return m


def raw(values, bits):
    """Signed values side by side, the first one lowest."""
    return sum((int(v) & (1 << bits) - 1) << n * bits for n, v in enumerate(values))


@cocotb.test()
async def sequence(dut):
    c = codec(os.environ["CODEC"])
    generator = rng("seeds")
    items = []
    for seed in [0, 1, (1 << c.K) - 1, 1 << (c.K - 1)] + [generator.getrandbits(c.K) for _ in range(300)]:
        chain = states(seed, c.K, c.C * c.P)
        bits = seed | sum((state >> (c.K - 1)) << (c.K + n) for n, state in enumerate(chain))
        items.append(({"seed": seed}, {"sequence_": bits}))  # `sequence` is a word of SystemVerilog
    await check(dut, LfsrBank.latency, items)


@cocotb.test()
async def weights(dut):
    c = codec(os.environ["CODEC"])
    generator = rng("blocks")
    blocks = [(s, [q] * c.P) for s in (0, 1, (1 << c.K) - 1) for q in (-8, 7, 0)]
    for _ in range(500):
        q = [generator.choice([-8, 7, generator.randint(-8, 7)]) for _ in range(c.P)]
        blocks.append((generator.getrandbits(c.K), q))
    seeds, q = np.array([b[0] for b in blocks]), np.array([b[1] for b in blocks])
    expected = weights_int(c, pack(c, seeds, np.zeros(len(blocks), int), q))
    bits = Block(c).weight_bits
    items = [
        ({"seed": s, "q": raw(qs, 4)}, {"weights": raw(row, bits)})
        for (s, qs), row in zip(blocks, expected, strict=True)
    ]
    await check(dut, Block(c).reconstruction.latency, items)


@pytest.mark.parametrize("name", ["seedlm4", "seedlm3r", "c3p1k24b0", "c4p2k8b4"])
def test_lfsr_bank(name):
    run_testbench(LfsrBank(codec=codec(name)), __name__, name="lfsr_bank", testcase="sequence", env={"CODEC": name})


@pytest.mark.parametrize("name", CODECS)
def test_reconstruction(name):
    run_testbench(Block(codec(name)), __name__, name="block", testcase="weights", env={"CODEC": name})
