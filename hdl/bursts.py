"""Cutting a region into AXI4 bursts, each only when it may go."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from seedlm.golden.build import Config
from seedlm.hdl.layouts import read_job_layout, request_layout

__all__ = ["BurstSplitter", "check_burst"]

CHAIN_BITS = 32  # longest carry chain


def check_burst(config: Config, burst_beats: int, buffer_beats: int) -> None:
    """Refuse burst lengths that AXI4 does not allow or that the buffer cannot hold.

    Raises
    ------
    ValueError
        Names the value.
    """
    power_of_two = burst_beats > 0 and burst_beats & (burst_beats - 1) == 0
    if not power_of_two or burst_beats * config.beat_bytes > 4096 or burst_beats > 256:
        raise ValueError(f"burst length must be a power of two of at most 4 KiB and 256 beats, not {burst_beats} beats")
    if buffer_beats < burst_beats:
        raise ValueError(f"a buffer of {buffer_beats} beats cannot hold a burst of {burst_beats}")


class BurstSplitter(wiring.Component):
    """Regions in, bursts out; a burst is offered when there are credits for all its beats.

    Bursts end at multiples of their greatest length, so that none crosses 4 KiB, and at the end of the region. A reader
    starts with as many credits as its buffer has room; a writer starts with none and gets one for each beat it has.

    Throughput: a burst every 2 clocks, a job every 3. Latency: a job taken in clock t, with credits there, offers
    its first burst in clock t+3. The next job is taken while the one before is still being cut. The offered burst is
    in registers.

    Parameters
    ----------
    config : Config
        Widths.
    burst_beats : int
        Greatest length; a power of two, at most 4 KiB.
    credits : int
        Most credits there can be.
    initial : int
        Credits after reset.

    Members
    -------
    job : stream of read_job_layout, in
        Regions. One of 0 beats is taken and has no burst.
    credit : in
        Pulse: one more beat may go.
    flush : in
        Do not wait for the credits of a whole burst: offer as much of it as there are credits for.
    request : stream of request_layout, out
        Bursts, in order.
    """

    def __init__(self, *, config: Config, burst_beats: int, credits: int, initial: int) -> None:
        check_burst(config, burst_beats, credits)
        self._config = config
        self._burst_beats = burst_beats
        self._credits = credits
        self._initial = initial
        super().__init__({
            "job": In(stream.Signature(read_job_layout(config))),
            "credit": In(1),
            "flush": In(1),
            "request": Out(stream.Signature(request_layout(config))),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, job, request = self._config, self.job, self.request
        beat_shift = config.beat_bytes.bit_length() - 1
        burst_shift = self._burst_beats.bit_length() - 1
        block_shift = beat_shift + burst_shift  # a block: the aligned piece of memory that a burst may cover
        block_bits = config.addr_bits - block_shift
        tail_bits = min(len(job.payload.beats) + 1, config.addr_bits - beat_shift)

        # The next job, with what its first burst needs. `tail` is the last beat counted from the start of the first
        # block; its upper part is the number of further blocks.
        waiting = Signal()
        next_address = Signal(config.addr_bits - beat_shift, reset_less=True)
        next_tail = Signal(tail_bits, reset_less=True)
        next_short = Signal(burst_shift, reset_less=True)  # beats - 1, if the job ends in the first block
        next_beats = Signal(-(-len(job.payload.beats) // 6), reset_less=True)  # all 0: a job without beats
        m.d.comb += job.ready.eq(~waiting)
        with m.If(job.valid & job.ready):
            beats = job.payload.beats
            offset = job.payload.address[beat_shift:block_shift]
            # offset - 1, a LUT per bit: there is one carry chain behind it already.
            before = Cat(*(offset[n] ^ ~offset[:n].any() for n in range(burst_shift)), ~offset.any()).as_signed()
            m.d.sync += [
                waiting.eq(1),
                next_beats.eq(Cat(beats[n : n + 6].any() for n in range(0, len(beats), 6))),
                next_address.eq(job.payload.address[beat_shift:]),
                next_tail.eq(beats + before),
                next_short.eq(beats[:burst_shift] - 1),
            ]

        # The job at work, beyond the burst that is in `request`: its next block (incremented in two clocks if that
        # takes a long chain), the blocks left after the present one, the last beat in the last block.
        low_bits = min(block_bits, CHAIN_BITS)
        block_low = Signal(low_bits, reset_less=True)
        block_high = Signal(block_bits - low_bits, reset_less=True)
        carry = Signal(reset_less=True)
        left = Signal(max(1, tail_bits - burst_shift), reset_less=True)
        tail = Signal(burst_shift, reset_less=True)
        ends_next = Signal(reset_less=True)
        # What remains of a burst of which only the beginning was offered.
        cut = Signal()
        rest_len = Signal(burst_shift, reset_less=True)
        rest_last = Signal(reset_less=True)
        rest_offset = Signal(burst_shift, reset_less=True)

        def load_block(low: object, high: object) -> list:
            return [block_low.eq(low + 1), block_high.eq(high), carry.eq(low.all())]

        # Beats that may be requested. A burst takes its credits in the first clock in which it is offered, and no other
        # is looked at before that counts.
        room = Signal(range(self._credits + 1), init=self._initial)
        take = Signal()
        minus = Cat(~request.payload.len, Const(-1, len(room)))[: len(room)]  # -(len + 1)
        m.d.sync += [room.eq(room + (minus & take.replicate(len(room))) + self.credit), take.eq(0)]

        payload = Signal(request_layout(config), reset_less=True)
        m.d.comb += request.payload.eq(payload)
        with m.FSM():
            with m.State("LOAD"), m.If(waiting):
                blocks = next_tail[burst_shift:]
                next_block = next_address[burst_shift:]
                single = blocks == 0
                m.d.sync += [
                    waiting.eq(0),
                    payload.address.eq(Cat(Const(0, beat_shift), next_address)),
                    payload.len.eq(Mux(single, next_short, ~next_address[:burst_shift])),
                    payload.last.eq(single),
                    load_block(next_block[:low_bits], next_block[low_bits:]),
                    left.eq(blocks),
                    tail.eq(next_tail[:burst_shift]),
                ]
                with m.If(next_beats.any()):
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.d.sync += [block_high.eq(block_high + carry), carry.eq(0), ends_next.eq(left == 1)]
                with m.If(room > payload.len):
                    m.d.sync += [request.valid.eq(1), take.eq(1), cut.eq(0)]
                    m.next = "OFFER"
                with m.Elif(self.flush & (room != 0)):
                    m.d.sync += [
                        request.valid.eq(1),
                        take.eq(1),
                        cut.eq(1),
                        payload.len.eq(room[:burst_shift] - 1),
                        payload.last.eq(0),
                        rest_len.eq(payload.len - room),
                        rest_last.eq(payload.last),
                        rest_offset.eq(payload.address[beat_shift:block_shift] + room),
                    ]
                    m.next = "OFFER"
            with m.State("OFFER"), m.If(request.ready):
                m.d.sync += request.valid.eq(0)
                with m.If(cut):
                    m.d.sync += [
                        payload.address[beat_shift:block_shift].eq(rest_offset),
                        payload.len.eq(rest_len),
                        payload.last.eq(rest_last),
                    ]
                    m.next = "CHECK"
                with m.Elif(payload.last):
                    m.next = "LOAD"
                with m.Else():
                    m.d.sync += [
                        payload.address.eq(Cat(Const(0, block_shift), block_low, block_high)),
                        payload.len.eq(Mux(ends_next, tail, self._burst_beats - 1)),
                        payload.last.eq(ends_next),
                        load_block(block_low, block_high),
                        left.eq(left - 1),
                    ]
                    m.next = "CHECK"
        return m
