"""The register port: an AXI4-Lite slave that turns transactions into single writes and reads."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Member, Out

from seedlm.hdl.registers import ADDRESS_BITS

__all__ = ["AxiLiteSlave", "PREFIX", "slave_members"]

PREFIX = "s_axi_"
OKAY, SLVERR = 0b00, 0b10
WORD_BITS = ADDRESS_BITS - 2  # of the number of a register


def slave_members() -> dict[str, Member]:
    """All AXI4-Lite signals, flat, with the names of Vivado's packager, as members of a component that is the slave."""
    members = {
        "awaddr": In(ADDRESS_BITS), "awprot": In(3), "awvalid": In(1), "awready": Out(1),
        "wdata": In(32), "wstrb": In(4), "wvalid": In(1), "wready": Out(1),
        "bresp": Out(2), "bvalid": Out(1), "bready": In(1),
        "araddr": In(ADDRESS_BITS), "arprot": In(3), "arvalid": In(1), "arready": Out(1),
        "rdata": Out(32), "rresp": Out(2), "rvalid": Out(1), "rready": In(1),
    }  # fmt: skip
    return {PREFIX + name: member for name, member in members.items()}


class AxiLiteSlave(wiring.Component):
    """One write and one read at a time, both at once; address and data of a write may come in any order.

    In reset nothing is taken: what is offered then is taken afterwards.

    A write without all four strobes is answered SLVERR and not passed on. The protection bits and the two lowest
    address bits are not looked at. Latency: a write is passed on 2 clocks after address and data were taken and
    answered in the next, a read is answered 3 clocks after its address was taken.

    Members
    -------
    s_axi_* :
        The AXI4-Lite signals.
    write : out
        A register is written in this clock. Register.
    write_word, write_data : out
        Number of the register (byte address / 4) and value, steady since the clock before. Registers.
    write_ok : in
        With `write`: the register can be written now. If not, the answer is SLVERR, and nothing must be written.
    read_word : out
        Number of the register to be read, steady for the three clocks of `read_phase`. Register.
    read_phase : out
        One-hot: first, second, third clock of a read.
    read_data, read_ok : in
        The value and whether there is one, looked at in the second clock.
    """

    def __init__(self) -> None:
        super().__init__({
            "write": Out(1), "write_word": Out(WORD_BITS), "write_data": Out(32), "write_ok": In(1),
            "read_word": Out(WORD_BITS), "read_phase": Out(3), "read_data": In(32), "read_ok": In(1),
            **slave_members(),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()

        awake = ~ResetSignal()  # in reset nothing is taken, since nothing would come of it
        have_address = Signal()
        have_data = Signal()
        whole = Signal(reset_less=True)
        execute = Signal()
        complete = Signal()  # address and data are there for the first clock
        m.d.comb += [
            self.s_axi_awready.eq(~have_address & awake),
            self.s_axi_wready.eq(~have_data & awake),
            complete.eq(have_address & have_data & ~self.s_axi_bvalid & ~execute),
        ]
        m.d.sync += [execute.eq(complete), self.write.eq(complete & whole)]
        with m.If(self.s_axi_awvalid & self.s_axi_awready):
            m.d.sync += [have_address.eq(1), self.write_word.eq(self.s_axi_awaddr[2:])]
        with m.If(self.s_axi_wvalid & self.s_axi_wready):
            m.d.sync += [have_data.eq(1), self.write_data.eq(self.s_axi_wdata), whole.eq(self.s_axi_wstrb.all())]
        with m.If(self.s_axi_bready):
            m.d.sync += self.s_axi_bvalid.eq(0)
        with m.If(execute):
            m.d.sync += [have_address.eq(0), have_data.eq(0), self.s_axi_bvalid.eq(1)]
            m.d.sync += self.s_axi_bresp[1].eq(~(whole & self.write_ok))

        reading = Signal()
        m.d.comb += self.s_axi_arready.eq(~reading & awake)
        m.d.sync += self.read_phase.eq(Cat(self.s_axi_arvalid & self.s_axi_arready, self.read_phase))
        with m.If(self.s_axi_arvalid & self.s_axi_arready):
            m.d.sync += [reading.eq(1), self.read_word.eq(self.s_axi_araddr[2:])]
        with m.If(self.read_phase[1]):
            m.d.sync += self.s_axi_rvalid.eq(1)
            m.d.sync += [self.s_axi_rdata.eq(self.read_data), self.s_axi_rresp[1].eq(~self.read_ok)]
        with m.Elif(self.s_axi_rvalid & self.s_axi_rready):
            m.d.sync += [self.s_axi_rvalid.eq(0), reading.eq(0)]
        return m
