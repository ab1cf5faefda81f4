"""The read half of the memory port, shared by several streamers."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Signal, Value
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from seedlm.golden.build import Config, clog2
from seedlm.hdl import axi
from seedlm.hdl.layouts import beat_layout, request_layout, valid_only

__all__ = ["ReadMaster"]


class ReadMaster(wiring.Component):
    """Merges the requests of several streamers into one AXI4 read channel and deals out the answers.

    The port with the lowest index goes first. One ID is used, so answers come in the order of the requests, and a
    queue of bursts tells where each belongs. Since requesters have reserved room, RREADY is always 1.

    The beats of a burst are counted; RLAST is only compared. A burst of the wrong length is answered with ``error`` on
    every beat where RLAST and the count differ.

    Throughput: a request every 2 clocks, a beat per clock. Latency: 1 clock from a request to ARVALID, 1 clock from
    an R beat to the port's response. AR and the responses are registers.

    Parameters
    ----------
    config : Config
        Widths.
    ports : int
        Number of requesters.
    outstanding : int
        One more than the bursts that may be under way.

    Members
    -------
    request : array of streams of request_layout, in
        Bursts to read. May not cross 4 KiB.
    response : array of valid_only(beat_layout), out
        The answers, with ``last`` on the last beat of a burst that was requested with ``last``, and ``error`` where
        RRESP was not OKAY or RLAST wrong.
    stray : out
        Pulse: a beat came that no burst waits for; it is ignored. Register.
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
            "stray": Out(1),
            "idle": Out(1),
            **axi.read_members(config),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        port_bits = clog2(self._ports)
        m.submodules.order = order = fifo.SyncFIFO(width=8 + 1 + port_bits, depth=self._outstanding)

        self._requests(m, order, port_bits)
        answering = self._answers(m, order, port_bits)
        m.d.comb += self.idle.eq(~(self.m_axi_arvalid | order.r_rdy | answering))
        return m

    def _requests(self, m: Module, order: fifo.SyncFIFO, port_bits: int) -> None:
        """The ports' requests to AR and into the queue."""
        ports = range(self._ports)
        # Taken when the AR register is empty. Whether one more burst may be under way is told by a register; one place
        # is kept for the request that may be taken meanwhile, one for the burst that has left the queue.
        accept = Signal()
        room = Signal()
        m.d.sync += room.eq(order.level <= self._outstanding - 3)
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
                m.d.comb += order.w_data.eq(Cat(request.payload.len, request.payload.last, Const(i, port_bits)))
                with m.If(accept):
                    m.d.sync += [address.eq(request.payload.address), length.eq(request.payload.len)]

    def _answers(self, m: Module, order: fifo.SyncFIFO, port_bits: int) -> Value:
        """R to the ports, in the order of the queue. Returns whether a burst is being answered."""
        # The burst that is being answered.
        active = Signal()
        left = Signal(8, reset_less=True)  # beats after this one
        last = Signal(reset_less=True)  # left == 0
        job_last = Signal(reset_less=True)
        port = Signal(port_bits, reset_less=True)
        beat = Signal()
        load = Signal()
        m.d.comb += [
            self.m_axi_rready.eq(1),
            beat.eq(self.m_axi_rvalid & active),
            load.eq(~active | (beat & last)),
            order.r_en.eq(load),
        ]
        with m.If(load):
            m.d.sync += [
                Cat(left, job_last, port).eq(order.r_data),
                last.eq(order.r_data[:8] == 0),
                active.eq(order.r_rdy),
            ]
        with m.Elif(beat):
            m.d.sync += [left.eq(left - 1), last.eq(left == 1)]

        # Answers: one set of registers for all ports, a valid bit for each.
        answer = Signal(beat_layout(self._config), reset_less=True)
        m.d.sync += [
            answer.data.eq(self.m_axi_rdata),
            answer.last.eq(last & job_last),
            answer.error.eq((self.m_axi_rresp != axi.OKAY) | (self.m_axi_rlast != last)),
            self.stray.eq(self.m_axi_rvalid & ~active),
        ]
        for i in range(self._ports):
            m.d.sync += self.response[i].valid.eq(beat & (port == i))
            m.d.comb += self.response[i].payload.eq(answer)
        return active | Cat(response.valid for response in self.response).any()
