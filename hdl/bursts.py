"""Cutting a region into AXI4 bursts, each only when it may go."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
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


class _State:
    """Sizes and registers that the stages share."""

    def __init__(self, splitter: BurstSplitter) -> None:
        config, job = splitter._config, splitter.job
        self.beat_shift = config.beat_bytes.bit_length() - 1
        self.burst_shift = burst_shift = splitter._burst_beats.bit_length() - 1
        # A block: the aligned piece of memory that a burst may cover.
        self.block_shift = self.beat_shift + burst_shift
        block_bits = config.addr_bits - self.block_shift
        tail_bits = min(len(job.payload.beats) + 1, config.addr_bits - self.beat_shift)

        # The next job, with what its first burst needs. `tail` is the last beat counted from the start of the first
        # block; its upper part is the number of further blocks.
        self.waiting = Signal()
        self.next_address = Signal(config.addr_bits - self.beat_shift, reset_less=True)
        self.next_tail = Signal(tail_bits, reset_less=True)
        self.next_short = Signal(burst_shift, reset_less=True)  # beats - 1, if the job ends in the first block
        self.next_beats = Signal(-(-len(job.payload.beats) // 6), reset_less=True)  # all 0: a job without beats

        # The job at work, beyond the burst that is in `request`: its next block (incremented in two clocks if that
        # takes a long chain), the blocks left after the present one, the last beat in the last block.
        low_bits = min(block_bits, CHAIN_BITS)
        self.block_low = Signal(low_bits, reset_less=True)
        self.block_high = Signal(block_bits - low_bits, reset_less=True)
        self.carry = Signal(reset_less=True)
        self.left = Signal(max(1, tail_bits - burst_shift), reset_less=True)
        self.tail = Signal(burst_shift, reset_less=True)
        self.ends_next = Signal(reset_less=True)
        # What remains of a burst of which only the beginning was offered.
        self.cut = Signal()
        self.rest_len = Signal(burst_shift, reset_less=True)
        self.rest_last = Signal(reset_less=True)
        self.rest_offset = Signal(burst_shift, reset_less=True)

        self.room = Signal(range(splitter._credits + 1), init=splitter._initial)
        self.take = Signal()  # the burst in `request` takes its credits
        self.payload = Signal(request_layout(config), reset_less=True)

    def load_block(self, low: Value, high: Value) -> list:
        """The next block is the one after this."""
        return [self.block_low.eq(low + 1), self.block_high.eq(high), self.carry.eq(low.all())]


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
        s = _State(self)
        self._next_job(m, s)
        self._count_room(m, s)
        m.d.comb += self.request.payload.eq(s.payload)
        with m.FSM():
            with m.State("LOAD"), m.If(s.waiting):
                self._load(m, s)
            with m.State("CHECK"):
                self._check(m, s)
            with m.State("OFFER"), m.If(self.request.ready):
                self._offer(m, s)
        return m

    def _next_job(self, m: Module, s: _State) -> None:
        """The next job, with what its first burst needs."""
        job, burst_shift = self.job, s.burst_shift
        m.d.comb += job.ready.eq(~s.waiting)
        with m.If(job.valid & job.ready):
            beats = job.payload.beats
            offset = job.payload.address[s.beat_shift : s.block_shift]
            # offset - 1, a LUT per bit: there is one carry chain behind it already.
            before = Cat(*(offset[n] ^ ~offset[:n].any() for n in range(burst_shift)), ~offset.any()).as_signed()
            m.d.sync += [
                s.waiting.eq(1),
                s.next_beats.eq(Cat(beats[n : n + 6].any() for n in range(0, len(beats), 6))),
                s.next_address.eq(job.payload.address[s.beat_shift :]),
                s.next_tail.eq(beats + before),
                s.next_short.eq(beats[:burst_shift] - 1),
            ]

    def _count_room(self, m: Module, s: _State) -> None:
        """Beats that may be requested. A burst takes its credits in the first clock in which it is offered, and no
        other is looked at before that counts."""
        room = s.room
        minus = Cat(~self.request.payload.len, Const(-1, len(room)))[: len(room)]  # -(len + 1)
        m.d.sync += [room.eq(room + (minus & s.take.replicate(len(room))) + self.credit), s.take.eq(0)]

    def _load(self, m: Module, s: _State) -> None:
        """The next job becomes the one at work, its first burst the one to be offered."""
        burst_shift, payload = s.burst_shift, s.payload
        blocks = s.next_tail[burst_shift:]
        next_block = s.next_address[burst_shift:]
        single = blocks == 0
        low_bits = len(s.block_low)
        m.d.sync += [
            s.waiting.eq(0),
            payload.address.eq(Cat(Const(0, s.beat_shift), s.next_address)),
            payload.len.eq(Mux(single, s.next_short, ~s.next_address[:burst_shift])),
            payload.last.eq(single),
            s.load_block(next_block[:low_bits], next_block[low_bits:]),
            s.left.eq(blocks),
            s.tail.eq(s.next_tail[:burst_shift]),
        ]
        with m.If(s.next_beats.any()):
            m.next = "CHECK"

    def _check(self, m: Module, s: _State) -> None:
        """Whether the burst, or with `flush` its beginning, may go."""
        burst_shift, payload, room = s.burst_shift, s.payload, s.room
        m.d.sync += [s.block_high.eq(s.block_high + s.carry), s.carry.eq(0), s.ends_next.eq(s.left == 1)]
        with m.If(room > payload.len):
            m.d.sync += [self.request.valid.eq(1), s.take.eq(1), s.cut.eq(0)]
            m.next = "OFFER"
        with m.Elif(self.flush & (room != 0)):
            m.d.sync += [
                self.request.valid.eq(1),
                s.take.eq(1),
                s.cut.eq(1),
                payload.len.eq(room[:burst_shift] - 1),
                payload.last.eq(0),
                s.rest_len.eq(payload.len - room),
                s.rest_last.eq(payload.last),
                s.rest_offset.eq(payload.address[s.beat_shift : s.block_shift] + room),
            ]
            m.next = "OFFER"

    def _offer(self, m: Module, s: _State) -> None:
        """The burst is taken; what comes after it."""
        payload = s.payload
        m.d.sync += self.request.valid.eq(0)
        with m.If(s.cut):
            m.d.sync += [
                payload.address[s.beat_shift : s.block_shift].eq(s.rest_offset),
                payload.len.eq(s.rest_len),
                payload.last.eq(s.rest_last),
            ]
            m.next = "CHECK"
        with m.Elif(payload.last):
            m.next = "LOAD"
        with m.Else():
            m.d.sync += [
                payload.address.eq(Cat(Const(0, s.block_shift), s.block_low, s.block_high)),
                payload.len.eq(Mux(s.ends_next, s.tail, self._burst_beats - 1)),
                payload.last.eq(s.ends_next),
                s.load_block(s.block_low, s.block_high),
                s.left.eq(s.left - 1),
            ]
            m.next = "CHECK"
