"""The cocotb runner on a trivial component: streams with stalls, failures that are seen, extra output that is seen."""

import os

import cocotb
import pytest
from amaranth import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from seedlm.sim.verilator import ToolError
from tests.testbench.runner import TestbenchError, run_testbench
from tests.testbench.streams import Sink, Source, Stalls, rng, start


class Increment(wiring.Component):
    """o = i + 1, one register."""

    i: In(stream.Signature(16))
    o: Out(stream.Signature(16))

    def elaborate(self, platform):
        m = Module()
        take = ~self.o.valid | self.o.ready
        m.d.comb += self.i.ready.eq(take)
        with m.If(take):
            m.d.sync += [self.o.valid.eq(self.i.valid), self.o.payload.eq(self.i.payload + 1)]
        return m


@cocotb.test()
async def counts(dut):
    clk = await start(dut)
    stall = float(os.environ["STALL"])
    generator = rng("values")
    source = Source(dut, "i", clk, stalls=Stalls(stall, longest=4, generator=rng("i")))
    sink = Sink(dut, "o", clk, stalls=Stalls(stall, longest=4, generator=rng("o")))
    values = [generator.getrandbits(16) for _ in range(500)]
    source.send(values)
    await sink.expect([(v + 1) & 0xFFFF for v in values], 10_000)
    if stall == 0:  # one a cycle
        assert sink.times[-1] - sink.times[0] == 499


@cocotb.test()
async def wrong_value(dut):
    clk = await start(dut)
    source, sink = Source(dut, "i", clk), Sink(dut, "o", clk)
    source.send([1, 2])
    await sink.expect([2, 4], 100)


@cocotb.test()
async def one_too_many(dut):
    clk = await start(dut)
    source, sink = Source(dut, "i", clk), Sink(dut, "o", clk)
    source.send([1, 2])
    await sink.expect([2], 100)


@cocotb.test()
async def nothing_comes(dut):
    clk = await start(dut)
    await Sink(dut, "o", clk).take(1, 100)


@pytest.mark.parametrize("stall", [0, 0.3])
def test_stream(stall):
    log = run_testbench(Increment(), __name__, name="increment", testcase="counts", env={"STALL": stall}, seed=7)
    assert "COCOTB_RANDOM_SEED=7" in log


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("wrong_value", "item 1 is 0x3, expected 0x4"),
        ("one_too_many", "1 items too many"),
        ("nothing_comes", "0 of 1 items"),
    ],
)
def test_failures_are_seen(case, message):
    with pytest.raises(TestbenchError, match=message):
        run_testbench(Increment(), __name__, name="increment", testcase=case)


def test_no_such_testcase():
    with pytest.raises(TestbenchError, match=r"no cocotb test|abnormally"):
        run_testbench(Increment(), __name__, name="increment", testcase="absent")


def test_verilog_that_does_not_compile():
    with pytest.raises(ToolError, match=r"Verilator on broken failed(.|\n)*syntax error"):
        run_testbench("module broken(input clk); assign = ; endmodule", __name__, name="broken")
