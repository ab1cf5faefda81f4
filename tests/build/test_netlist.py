"""Counting and measuring netlists, on small ones written by hand as Yosys would write them."""

from __future__ import annotations

import pytest

from seedlm.build.netlist import Counts, Depth, Netlist
from seedlm.golden.errors import SeedLMError

INPUTS = {
    "FDRE": ("C", "CE", "D", "R"), "LUT2": ("I0", "I1"), "LUT6": tuple(f"I{n}" for n in range(6)), "INV": ("I",),
    "MUXF7": ("I0", "I1", "S"), "CARRY4": ("CI", "CYINIT", "DI", "S"), "SRL16E": ("A0", "A1", "CE", "CLK", "D"),
    "RAM32M": ("ADDRA", "ADDRB", "ADDRC", "ADDRD", "DIA", "WE"), "RAM64X1D": ("A0", "DPRA0", "D", "WE"),
    "DSP48E1": ("A", "B", "C", "D", "CLK", "PCIN"), "RAMB36E1": ("ADDRARDADDR",), "RAMB18E1": ("ADDRARDADDR",),
}  # fmt: skip


class Design:
    """Modules in the form of Yosys' JSON, built cell by cell."""

    def __init__(self):
        self.modules = {}

    def module(self, name, **ports):
        """Ports as name=(direction, bits)."""
        listed = {p: {"direction": d, "bits": bits} for p, (d, bits) in ports.items()}
        names = {p: {"bits": bits} for p, (_, bits) in ports.items()}
        self.modules[name] = {"attributes": {}, "ports": listed, "cells": {}, "netnames": names}
        self.current = self.modules[name]
        return self

    def cell(self, name, kind, parameters=None, **connections):
        connections = {p: bits if isinstance(bits, list) else [bits] for p, bits in connections.items()}
        if kind in self.modules:
            directions = {p: port["direction"] for p, port in self.modules[kind]["ports"].items()}
        else:
            directions = {p: "input" if p in INPUTS.get(kind, ()) else "output" for p in connections}
        self.current["cells"][name] = {
            "type": kind, "parameters": parameters or {}, "port_directions": directions, "connections": connections,
        }  # fmt: skip
        return self

    def name(self, name, *bits):
        self.current["netnames"][name] = {"bits": list(bits)}
        return self

    def netlist(self, top="top"):
        return Netlist.from_modules(self.modules, top)


def levels(d):
    return d.luts, d.carry_bits


def chains(d):
    return d.chains, d.luts


def pipeline():
    """A register, two LUTs and an inverter, a register."""
    d = Design().module("top", clk=("input", [2]), x=("input", [3]), y=("output", [9]))
    d.cell("ff1", "FDRE", C=2, CE="1", D=3, Q=4, R="0").name("start", 4)
    d.cell("a", "LUT2", I0=4, I1=4, O=5).cell("b", "LUT2", I0=3, I1=5, O=6).cell("n", "INV", I=6, O=7)
    return d.cell("ff2", "FDRE", C=2, CE="1", D=7, Q=9, R="0")


def test_a_path_between_registers():
    path = pipeline().netlist().longest(levels)[""]
    assert path.depth == Depth(luts=3)
    assert (path.start, path.end, path.modules) == ("start", "y", ("",))


def test_resources():
    d = pipeline()
    d.cell("s", "SRL16E", D=3, Q=20, CLK=2).cell("m", "RAM32M", DOA=[21, 22]).cell("r", "RAM64X1D", DPO=23)
    d.cell("p", "DSP48E1", {"PREG": "1"}, P=[24]).cell("big", "RAMB36E1", DO=[25]).cell("small", "RAMB18E1", DO=[26])
    d.cell("w", "MUXF7", I0=3, I1=3, S=3, O=27).cell("scope", "$scopeinfo")
    netlist = d.netlist()
    assert netlist.counts() == {"": Counts(luts=3 + 1 + 4 + 2, ffs=2, dsps=1, ramb36=1.5)}
    assert netlist.types()["FDRE"] == 2


def test_cells_that_nobody_knows():
    d = Design().module("top", x=("input", [2])).cell("odd", "$add", A=2)
    with pytest.raises(SeedLMError, match=r"unknown cell type \$add in top"):
        d.netlist()


def test_loops():
    d = Design().module("top", y=("output", [3])).cell("a", "LUT2", I0=4, I1="0", O=3).cell("b", "INV", I=3, O=4)
    with pytest.raises(SeedLMError, match="a loop without a register through"):
        d.netlist().longest(levels)


def test_enables_and_resets_are_ends_clocks_are_not():
    d = Design().module("top", clk=("input", [2]), x=("input", [3]))
    d.cell("gate", "LUT2", I0=3, I1=3, O=4).cell("ff", "FDRE", C=4, CE="1", D=3, Q=5, R="0").name("q", 5)
    assert d.netlist().longest(levels)[""].depth.luts == 0
    for port in ("CE", "R"):
        d.current["cells"]["ff"]["connections"][port] = [4]
        path = d.netlist().longest(levels)[""]
        assert path.depth.luts == 1
        assert path.end == f"q ({port})"
        d.current["cells"]["ff"]["connections"][port] = ["0"]


def adder(bits, top="top", used=None):
    """A chain of CARRY4s over `bits` bits behind a LUT; only sum bit `used` (default: the last) is read."""
    d = Design().module(top, x=("input", [2]), y=("output", [1000 + (bits - 1 if used is None else used)]))
    d.cell("lut", "LUT2", I0=2, I1=2, O=3)
    carry = "0"
    for k in range(-(-bits // 4)):
        out = [1000 + 4 * k + i for i in range(4)]
        co = [2000 + 4 * k + i for i in range(4)]
        d.cell(f"c{k}", "CARRY4", CI=carry, CYINIT="0", DI=[2] * 4, S=[3 if k == 0 else 2] + [2] * 3, O=out, CO=co)
        carry = co[3]
    return d


@pytest.mark.parametrize("bits", [1, 4, 5, 35])
def test_carry_chains(bits):
    netlist = adder(bits).netlist()
    assert netlist.carry_chains() == {"": bits}
    # From S of bit 0, which is behind the LUT, to the sum's last bit.
    assert netlist.longest(levels)[""].depth == Depth(luts=1, chains=1, carry_bits=bits)


def test_a_sum_bit_does_not_depend_on_what_is_above_it():
    d = Design().module("top", x=("input", [2]), y=("output", [10]))
    d.cell("lut", "LUT2", I0=2, I1=2, O=3)
    d.cell("c", "CARRY4", CI="0", CYINIT="0", DI=[2, 3, 2, 2], S=[2, 2, 3, 3], O=[9, 10, 11, 12], CO=[13, 14, 15, 16])
    assert d.netlist().longest(levels)[""].depth == Depth(luts=0, chains=1, carry_bits=2)
    d.current["cells"]["c"]["connections"]["S"][1] = 3
    assert d.netlist().longest(levels)[""].depth == Depth(luts=1, chains=1, carry_bits=1)
    d.current["ports"]["y"]["bits"] = [14]  # the carry out of bit 1 depends on its DI
    d.current["cells"]["c"]["connections"]["S"][1] = 2
    assert d.netlist().longest(levels)[""].depth == Depth(luts=1, chains=1, carry_bits=1)


def test_chains_in_a_row():
    d = Design().module("top", x=("input", [2]), y=("output", [30]))
    for k, (source, out) in enumerate(((2, 10), (10, 20), (20, 30))):
        d.cell(f"c{k}", "CARRY4", CI="0", CYINIT="0", DI=[2] * 4, S=[source] * 4, O=[out, 91, 92, 93], CO=[94 + k] * 4)
    assert d.netlist().longest(chains)[""].depth == Depth(luts=0, chains=3, carry_bits=3)


def test_wide_multiplexers_are_free_and_memories_are_read_through():
    d = Design().module("top", x=("input", [2, 3]), y=("output", [9]))
    d.cell("a", "LUT2", I0=2, I1=3, O=4).cell("w", "MUXF7", I0=4, I1=4, S=2, O=5)
    d.cell("m", "RAM32M", ADDRA=[5], ADDRB=[2], ADDRC=[2], ADDRD=[2], DOA=[6, 7], DOB=[8, 10], DIA=[2, 2], WE="1")
    d.cell("ff", "FDRE", C=2, CE="1", D=6, Q=9, R="0")
    assert d.netlist().longest(levels)[""].depth.luts == 2
    d.current["cells"]["ff"]["connections"]["D"] = [8]  # another port, whose address comes straight from outside
    netlist = d.netlist()
    assert netlist.longest(levels)[""].depth.luts == 1


def hierarchy():
    """A LUT and a register in `part`, which is there twice, in a row; `part` passes its input on."""
    d = Design().module("part", clk=("input", [2]), i=("input", [3]), o=("output", [4]), same=("output", [3]))
    d.cell("lut", "LUT2", I0=3, I1=3, O=4).cell("ff", "FDRE", C=2, CE="1", D=4, Q=5, R="0")
    d.module("top", clk=("input", [2]), x=("input", [3]), y=("output", [7]), z=("output", [8]))
    d.cell("one", "part", clk=2, i=3, o=5, same=6).cell("two", "part", clk=2, i=5, o=7, same=8)
    return d.cell("own", "LUT2", I0=6, I1=6, O=9).cell("ff", "FDRE", C=2, CE="1", D=9, Q=10, R="0")


def test_instances_are_opened():
    netlist = hierarchy().netlist()
    one = Counts(luts=1, ffs=1)
    assert netlist.counts() == {"": one, "one": one, "two": one}
    found = netlist.longest(levels)
    assert found["two"].depth.luts == 2
    assert found["two"].modules == ("one", "two")
    assert found["two"].start == "x"
    assert found["one"].modules == ("one",)
    # Through the wire in `one` there is no logic: the top's own register is behind one LUT only.
    assert found[""].depth.luts == 2
    assert found[""].end == "y[0]"


def test_an_output_that_is_constant():
    d = Design().module("part", o=("output", ["1"])).module("top", y=("output", [3]))
    d.cell("one", "part", o=2).cell("lut", "LUT2", I0=2, I1=2, O=3)
    netlist = d.netlist()
    assert netlist.longest(levels)[""].depth.luts == 0
    assert netlist.cells[0].inputs["I0"] == ["1"]


def dsp(driver, **registers):
    stages = {"AREG": 1, "BREG": 2, "CREG": 1, "DREG": 0, "MREG": 1, "PREG": 1} | registers
    parameters = {name: format(value, "032b") for name, value in stages.items()} | {"USE_MULT": "MULTIPLY"}
    d = Design().module("top", clk=("input", [2]), x=("input", [3]), y=("output", [9]))
    d.cell("ff", "FDRE", C=2, CE="1", D=3, Q=4, R="0").cell("lut", "LUT2", I0=3, I1=3, O=5)
    d.cell("s", "SRL16E", D=3, Q=6, CLK=2)
    return d.cell("dsp", "DSP48E1", parameters, A=[driver, driver], B=[4, 6], C=["0", "0"], CLK=2, P=[9])


def test_dsp_registers():
    (use,) = dsp(4).netlist().dsps()
    assert use.registers == {"AREG": 1, "BREG": 2, "MREG": 1, "PREG": 1}  # C and D are not used
    assert use.drivers == {"A": {"FDRE": 2}, "B": {"FDRE": 1, "SRL16E": 1}}
    assert use.faults == []
    (use,) = dsp(4, MREG=0).netlist().dsps()
    assert use.faults == ["top: dsp: MREG is 0"]
    (use,) = dsp(5).netlist().dsps()
    assert use.faults == ["top: dsp: A is fed by LUT2, not by a register"]
    (use,) = dsp(3, AREG=0, PREG=0).netlist().dsps()
    assert use.faults == ["top: dsp: AREG is 0", "top: dsp: PREG is 0"]
