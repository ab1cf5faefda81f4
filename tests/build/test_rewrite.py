"""What is made of Yosys' Verilog: what is folded and renamed, and that the design still does the same."""

import re

import cocotb
from amaranth import Array, Module, Signal, signed
from amaranth.back import verilog
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from cocotb.triggers import RisingEdge

from seedlm.build.rewrite import (
    drop_empty_wires,
    drop_zero_memories,
    fold_initial_values,
    fold_repetitions,
    modules,
    plain_names,
    rewrite,
    share_modules,
    start_at_time_zero,
)
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


def test_the_rewritten_design_does_the_same():
    run_testbench(Lanes(), __name__, name="lanes")


def test_equal_modules_are_shared_and_tables_folded():
    text = verilog.convert(Lanes(), name="lanes", emit_src=False, strip_internal_attrs=True)
    small = rewrite(text, "lanes")
    assert text.count("\nmodule ") == 1 + len(TABLES)
    assert small.count("\nmodule ") == 1 + 3
    for n, kept in enumerate([0, 0, 2, 0, 4]):
        assert f"  lanes_lane{kept} lane{n} (" in small
    assert "for (i = 0; i <= 63; i = i + 1) rom[i] = 9'h007;" in small
    assert "for (i = 20; i <= 59; i = i + 1) rom[i] = 9'h003;" in small
    assert "rom[62] = 9'h003;" in small
    assert rewrite(small, "lanes") == small


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
    node = "module {}({});\n  input x;\n  output y;\n  {} part (\n    .x(x),\n    .y(y)\n  );\nendmodule\n"
    text = leaf.format("a") + leaf.format("b") + node.format("c", "x, y", "a") + node.format("d", "y, x", "b")
    assert share_modules(text, "top") == leaf.format("a") + node.format("c", "x, y", "a")


def test_repetitions():
    assert fold_repetitions("{ a[3], a[3], a[3], a }") == "{ {3{a[3]}}, a }"
    for same in ("{ a[3], a[3], a }", "{ a[3], a[4], a[5] }", "{ ba[3], a[3], a[3] }", "{ a[3], a[3], a[3:0] }"):
        assert fold_repetitions(same) == same


def test_initial_values_of_registers_stay():
    text = "  initial begin\n    a[0] = 1'h0;\n    a[1] = 1'h1;\n    a[2] = 1'h0;\n  end\n"
    assert fold_initial_values(text) == text


def test_zero_memories():
    zeros = "  initial begin : m_initial\n    integer i;\n    for (i = 0; i <= 9; i = i + 1) m[i] = 8'h00;\n  end\n"
    assert drop_zero_memories(f"a\n{zeros}b\n") == "a\nb\n"
    assert drop_zero_memories(zeros.replace("8'h00", "8'h01")) == zeros.replace("8'h00", "8'h01")


def test_modules():
    inner, outer = "module a(x, y);\nendmodule\n", "module b(\n  x);\n  a one (\n  );\n  a two (\n  );\nendmodule\n"
    found = modules(f"/* head */\n{inner}\n{outer}")
    assert [(m.name, m.text, m.ports, m.instances) for m in found] == [
        ("a", inner, ["x", "y"], []),
        ("b", outer, ["x"], [("a", "one"), ("a", "two")]),
    ]


def test_names_become_plain_and_stay_apart():
    names = {
        "\\$1": "n1", "\\top.lane0": "top_lane0", "\\a$5": "a_5_", "\\a.5": "a_5__", "\\final": "final_",
        "\\$sub$x": "sub_x",
    }  # fmt: skip
    text = "wire a_5, sub;\n" + "".join(f"{old} [1]{old} ;" for old in names)
    assert plain_names(text) == "wire a_5, sub;\n" + "".join(f"{new}[1]{new};" for new in names.values())


def test_every_block_sees_the_event_at_time_zero():
    trigger = "\\$auto$verilog_backend.cc:2355:dump_module$7 "
    before = f"module m(x);\n  reg {trigger} = 0;\n" + f"  always @* begin\n    if ({trigger}) begin end\n  end\n" * 2
    after = start_at_time_zero(before + "endmodule\n")
    assert "verilog_backend" not in after
    # Non-blocking: when all have begun to wait.
    assert re.findall("initial .*", after) == ["initial time_zero <= 1'h1;"]
    assert after.count("if (time_zero) begin end") == 2
    assert start_at_time_zero("module m(x);\nendmodule\n") == "module m(x);\nendmodule\n"


def test_wires_of_no_bits():
    assert drop_empty_wires("  wire [-1:0] a;\n  wire b;\n  wire [1:0] c;\n") == "  wire b;\n  wire [1:0] c;\n"
