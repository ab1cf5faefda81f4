"""The read half of the memory port, shared by several streamers."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from seedlm.golden.build import Config, clog2
from seedlm.hdl import axi
from seedlm.hdl.layouts import beat_layout, request_layout, valid_only

__all__ = ["ReadMaster"]


class ReadMaster(wiring.Component):
    """Merges the requests of several streamers into one AXI4 read channel and deals out the answers.

    The port with the lowest index goes first. One ID is used, so answers come in the order of the requests, and a
    queue of port numbers tells where each belongs. Since requesters have reserved room, RREADY is always 1.

    Throughput: a request every 2 clocks, a beat per clock. Latency: 1 clock from a request to ARVALID, 1 clock from
    an R beat to the port's response. AR and the responses are registers.

    Parameters
    ----------
    config : Config
        Widths.
    ports : int
        Number of requesters.
    outstanding : int
        Places in the queue of bursts under way; one of them stays free.

    Members
    -------
    request : array of streams of request_layout, in
        Bursts to read. May not cross 4 KiB.
    response : array of valid_only(beat_layout), out
        The answers, with ``last`` on the last beat of a burst that was requested with ``last``, and ``error`` where
        RRESP was not OKAY.
    idle : out
        No burst is under way and none waits for ARREADY (one may be waiting at a port).
    m_axi_ar*, m_axi_r* :
        The AXI4 read channels (`hdl.axi`).
    """

    def __init__(self, *, config: Config, ports: int, outstanding: int = 32) -> None:
        self._config = config
        self._ports = ports
        self._outstanding = outstanding
        super().__init__({
            "request": In(stream.Signature(request_layout(config))).array(ports),
            "response": Out(valid_only(beat_layout(config))).array(ports),
            "idle": Out(1),
            **axi.read_members(config),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        ports = range(self._ports)
        port_bits = clog2(self._ports)
        m.submodules.order = order = fifo.SyncFIFO(width=1 + port_bits, depth=self._outstanding)

        # Requests: taken when the AR register is empty. Whether the queue has room is told by a register that keeps one
        # place for the request that may be taken meanwhile.
        accept = Signal()
        room = Signal()
        m.d.sync += room.eq(order.level <= self._outstanding - 2)
        m.d.comb += accept.eq(~self.m_axi_arvalid & room)
        address = Signal.like(self.m_axi_araddr, reset_less=True)
        length = Signal.like(self.m_axi_arlen, reset_less=True)
        axi.drive_constants(m, self._config, self, "ar")
        m.d.comb += [self.m_axi_araddr.eq(address), self.m_axi_arlen.eq(length)]
        with m.If(self.m_axi_arready):
            m.d.sync += self.m_axi_arvalid.eq(0)
        with m.If(accept & Cat(self.request[i].valid for i in ports).any()):
            m.d.sync += self.m_axi_arvalid.eq(1)
            m.d.comb += order.w_en.eq(1)
        before = 0
        for i in ports:
            m.d.comb += self.request[i].ready.eq(accept & ~before)
            before = before | self.request[i].valid
        for i in reversed(ports):  # the last assignment counts: that of the lowest index
            request = self.request[i]
            with m.If(request.valid):
                m.d.comb += order.w_data.eq(Cat(request.payload.last, Const(i, port_bits)))
                with m.If(accept):
                    m.d.sync += [address.eq(request.payload.address), length.eq(request.payload.len)]

        # Answers: one set of registers for all ports, a valid bit for each.
        answer = Signal(beat_layout(self._config), reset_less=True)
        m.d.comb += [self.m_axi_rready.eq(1), order.r_en.eq(self.m_axi_rvalid & self.m_axi_rlast)]
        m.d.sync += [
            answer.data.eq(self.m_axi_rdata),
            answer.last.eq(self.m_axi_rlast & order.r_data[0]),
            answer.error.eq(self.m_axi_rresp != axi.OKAY),
        ]
        for i in ports:
            m.d.sync += self.response[i].valid.eq(self.m_axi_rvalid & (order.r_data[1:] == i))
            m.d.comb += self.response[i].payload.eq(answer)
        m.d.comb += self.idle.eq(~(self.m_axi_arvalid | order.r_rdy | Cat(self.response[i].valid for i in ports).any()))
        return m
