"""Netlists of Yosys in the place of the hardware they were made from."""

from __future__ import annotations

from amaranth.hdl import ClockSignal, Instance, Module, ResetSignal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from seedlm.build.estimate import synthesised
from seedlm.build.synthesis import cells_sim


def netlist_verilog(module, config):
    """Files of the netlist of `module` ("lane" or "rounding") and of the cells it is made of, for a simulator."""
    # The models have delays, which are not wanted here, and carries that ripple through a vector.
    quiet = "/* verilator lint_off SPECIFYIGN */\n/* verilator lint_off UNOPTFLAT */\n"
    cells, netlist = cells_sim().read_text(), synthesised(module, config).verilog.read_text()
    return {"cells_sim.v": quiet + cells, "netlist.v": quiet + netlist}


def instance(component, name):
    """A module with nothing but the Verilog module `name`, which has the ports of `component`."""
    ports = {"i_clk": ClockSignal(), "i_rst": ResetSignal()}
    for path, member, value in wiring.Signature(component.signature.members).flatten(component):
        direction = "i" if member.flow is In else "o"
        ports[f"{direction}_{'__'.join(map(str, path))}"] = Value.cast(value)
    m = Module()
    m.submodules.netlist = Instance(name, **ports)
    return m
