"""Compaction of Verilog: what it folds, and that the folded design does the same."""

import cocotb
from amaranth import Array, Module, Signal, signed
from amaranth.back import verilog
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from cocotb.triggers import RisingEdge

from seedlm.build.compact import compact, fold_initial_values, fold_repetitions, share_modules
from tests.testbench.runner import run_testbench
from tests.testbench.streams import rng, start

TABLES = [[7] * 64, [7] * 64, list(range(64)), [7] * 64, [7] * 20 + [3] * 40 + [1, 2, 3, 4]]


class Lane(wiring.Component):
    """A table look-up, then the sum with a sign-extended operand: two cycles."""

    address: In(6)
    operand: In(signed(5))
    total: Out(signed(16))

    def __init__(self, table):
        self._table = table
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.rom = rom = Memory(shape=signed(9), depth=64, init=self._table)
        port = rom.read_port()
        operand = Signal(signed(5))
        word = Signal(signed(9))
        m.d.sync += operand.eq(self.operand)
        m.d.comb += [port.addr.eq(self.address), word.eq(port.data)]
        m.d.sync += self.total.eq(word + operand)
        return m


class Lanes(wiring.Component):
    """Lanes with tables of their own, three of them equal."""

    address: In(6)
    operand: In(signed(5))
    select: In(3)
    total: Out(signed(16))

    def elaborate(self, platform):
        m = Module()
        totals = Array()
        for n, table in enumerate(TABLES):
            m.submodules[f"lane{n}"] = lane = Lane(table)
            m.d.comb += [lane.address.eq(self.address), lane.operand.eq(self.operand)]
            totals.append(lane.total)
        m.d.comb += self.total.eq(totals[self.select])
        return m


@cocotb.test()
async def lanes_do_the_same(dut):
    clk = await start(dut, address=0, operand=0, select=0)
    generator = rng()
    for _ in range(500):
        address, operand, lane = generator.randrange(64), generator.randrange(-16, 16), generator.randrange(len(TABLES))
        dut.address.value, dut.operand.value, dut.select.value = address, operand & 31, lane
        for _ in range(3):
            await RisingEdge(clk)
        assert dut.total.value.to_signed() == TABLES[lane][address] + operand, (lane, address, operand)


def test_compacted_design_does_the_same():
    run_testbench(Lanes(), __name__, name="lanes")


def test_equal_modules_are_shared_and_tables_folded():
    text = verilog.convert(Lanes(), name="lanes", emit_src=False, strip_internal_attrs=True)
    small = compact(text, "lanes")
    assert text.count("\nmodule ") == 1 + len(TABLES)
    assert small.count("\nmodule ") == 1 + 3
    for n, kept in enumerate([0, 0, 2, 0, 4]):
        assert f"\\lanes.lane{kept}  lane{n} (" in small
    assert "for (i = 0; i <= 63; i = i + 1) rom[i] = 9'h007;" in small
    assert "for (i = 20; i <= 59; i = i + 1) rom[i] = 9'h003;" in small
    assert "rom[62] = 9'h003;" in small
    assert compact(small, "lanes") == small


def test_top_keeps_its_name():
    twins = "module a(x);\n  input x;\nendmodule\n\nmodule b(x);\n  input x;\nendmodule\n"
    assert share_modules(twins, "b") == twins
    assert share_modules(twins, "a") == "module a(x);\n  input x;\nendmodule\n\n"


def test_modules_that_differ_stay():
    text = "module a(x);\n  input x;\nendmodule\nmodule b(x);\n  output x;\nendmodule\n"
    assert share_modules(text, "top") == text


def test_modules_are_equal_through_their_parts():
    """c and d differ in the names of parts that are equal: all that remains is one of each, whatever the port order."""
    leaf = "module {}(x, y);\n  input x;\n  output y;\nendmodule\n"
    node = "module {}({});\n  input x;\n  output y;\n  {}  part (\n    .x(x),\n    .y(y)\n  );\nendmodule\n"
    text = leaf.format("a") + leaf.format("b") + node.format("c", "x, y", "a") + node.format("d", "y, x", "b")
    assert share_modules(text, "top") == leaf.format("a") + node.format("c", "x, y", "a")


def test_repetitions():
    assert fold_repetitions("{ a[3], a[3], a[3], a }") == "{ {3{a[3]}}, a }"
    assert fold_repetitions("{ \\$1 [3], \\$1 [3], \\$1 [3], \\$1 [3] }") == "{ {4{\\$1 [3]}} }"
    for same in ("{ a[3], a[3], a }", "{ a[3], a[4], a[5] }", "{ ba[3], a[3], a[3] }", "{ a[3], a[3], a[3:0] }"):
        assert fold_repetitions(same) == same


def test_initial_values_of_registers_stay():
    text = "  initial begin\n    a[0] = 1'h0;\n    a[1] = 1'h1;\n    a[2] = 1'h0;\n  end\n"
    assert fold_initial_values(text) == text
