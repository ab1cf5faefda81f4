"""The write half of the memory port: addresses, data and the account of the answers."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from seedlm.golden.build import Config
from seedlm.hdl import axi
from seedlm.hdl.beat_fifo import BeatFifo
from seedlm.hdl.layouts import request_layout, valid_only

__all__ = ["WriteMaster"]

BURSTS = 8  # bursts whose address was given but whose data has not left
OUTSTANDING = 31  # bursts without a response


class WriteMaster(wiring.Component):
    """Sends bursts whose beats are in its buffer already.

    Since the beats are there, an accepted burst needs nobody else to be finished: the parts that compute results may be
    reset meanwhile.

    Throughput: a beat per clock, bursts without a gap between them. Latency: 1 clock from a request to AWVALID, 3 from
    a beat to WVALID if its burst was requested before, 1 from BVALID to `refused`, 2 to `settled`.

    Parameters
    ----------
    config : Config
        Widths, `result_fifo_beats`.

    Members
    -------
    beat : In(valid only)
        Data of the bursts, in order. The sender keeps account of the room: `result_fifo_beats`.
    freed : Out(1)
        Pulse: a beat has left the buffer.
    request : In(stream)
        ``request_layout``: bursts whose beats came at least one clock before. May not cross 4 KiB.
    tail : In(results_per_beat)
        With a request that is ``last``: bit n is set if word n of its last beat is to be written. All words of other
        beats are.
    settled : Out(1)
        Every burst that was requested has its response.
    refused : Out(1)
        Pulse: a response was not OKAY.
    stray : Out(1)
        Pulse: a response came that no burst waits for; it is ignored. Register.
    idle : Out(1)
        Nothing is owed to the bus and no response expected.
    m_axi_aw*, m_axi_w*, m_axi_b* :
        The AXI4 write channels (`hdl.axi`).
    """

    def __init__(self, *, config: Config) -> None:
        self._config = config
        self._beat = data.StructLayout({"data": config.bus_bits})
        super().__init__({
            "beat": In(valid_only(self._beat)),
            "freed": Out(1),
            "request": In(stream.Signature(request_layout(config))),
            "tail": In(config.results_per_beat),
            "settled": Out(1),
            "refused": Out(1),
            "stray": Out(1),
            "idle": Out(1),
            **axi.write_members(config),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.buffer = buffer = BeatFifo(
            layout=self._beat, depth=self._config.result_fifo_beats, output_register=True
        )
        m.submodules.bursts = bursts = fifo.SyncFIFO(width=9, depth=BURSTS)
        wiring.connect(m, wiring.flipped(self.beat), buffer.i)
        tail = self._addresses(m, bursts)
        sending = self._send(m, buffer, bursts, tail)
        m.d.comb += self.idle.eq(self.settled & ~self.m_axi_awvalid & ~bursts.r_rdy & ~sending)
        return m

    def _addresses(self, m: Module, bursts: fifo.SyncFIFO) -> Signal:
        """Bursts to AW and to the data channel, and the account of their responses.

        Returns
        -------
        Signal
            Bit n: word n of the last beat of the last burst is to be written.
        """
        request = self.request
        address = Signal.like(self.m_axi_awaddr, reset_less=True)
        length = Signal.like(self.m_axi_awlen, reset_less=True)
        outstanding = Signal(range(OUTSTANDING + 1))
        accept = Signal()
        room = Signal()  # for one burst more than may be accepted meanwhile
        tail = Signal.like(self.tail, reset_less=True)
        axi.drive_constants(m, self._config, self, "aw")
        m.d.comb += [
            self.m_axi_awaddr.eq(address),
            self.m_axi_awlen.eq(length),
            request.ready.eq(~self.m_axi_awvalid & room),
            accept.eq(request.valid & request.ready),
            bursts.w_en.eq(accept),
            bursts.w_data.eq(Cat(request.payload.len, request.payload.last)),
        ]
        m.d.sync += room.eq((bursts.level <= BURSTS - 2) & (outstanding <= OUTSTANDING - 2))
        with m.If(self.m_axi_awready):
            m.d.sync += self.m_axi_awvalid.eq(0)
        with m.If(accept):
            m.d.sync += self.m_axi_awvalid.eq(1)
            with m.If(request.payload.last):
                m.d.sync += tail.eq(self.tail)
        with m.If(~self.m_axi_awvalid):
            m.d.sync += [address.eq(request.payload.address), length.eq(request.payload.len)]

        answered = Signal()
        refused = Signal(reset_less=True)
        expected = Signal()
        m.d.comb += [
            self.m_axi_bready.eq(1),
            # The response of the clock before is not taken off yet.
            expected.eq((outstanding[1:] != 0) | (outstanding[0] & ~answered)),
            self.settled.eq(outstanding == 0),
            self.refused.eq(answered & refused),
        ]
        m.d.sync += [
            answered.eq(self.m_axi_bvalid & expected),
            self.stray.eq(self.m_axi_bvalid & ~expected),
            refused.eq(self.m_axi_bresp != axi.OKAY),
            outstanding.eq(outstanding + accept - answered),
        ]
        return tail

    def _send(self, m: Module, buffer: BeatFifo, bursts: fifo.SyncFIFO, tail: Signal) -> Signal:
        """The data channel: the beats of the accepted bursts. Returns whether one is being sent."""
        active = Signal()
        left = Signal(8, reset_less=True)  # beats after this one
        last = Signal(reset_less=True)  # left == 0
        final = Signal(reset_less=True)  # the product's last burst
        moved = Signal()
        load = Signal()
        m.d.comb += [
            self.m_axi_wvalid.eq(active & buffer.o.valid),
            self.m_axi_wdata.eq(buffer.o.payload.data),
            self.m_axi_wlast.eq(last),
            self.m_axi_wstrb.eq(Cat((valid | ~(final & last)).replicate(4) for valid in tail)),
            buffer.o.ready.eq(active & self.m_axi_wready),
            moved.eq(self.m_axi_wvalid & self.m_axi_wready),
            load.eq(~active | (moved & last)),
            bursts.r_en.eq(load),
        ]
        m.d.sync += self.freed.eq(moved)
        with m.If(load):
            m.d.sync += [
                active.eq(bursts.r_rdy),
                left.eq(bursts.r_data[:8]),
                last.eq(bursts.r_data[:8] == 0),
                final.eq(bursts.r_data[8]),
            ]
        with m.Elif(moved):
            m.d.sync += [left.eq(left - 1), last.eq(left == 1)]
        return active
