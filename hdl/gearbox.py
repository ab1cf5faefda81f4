"""Beats of the weight image become steps: a word for every lane, each clock."""

from __future__ import annotations

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.hdl import Value
from amaranth.lib import memory, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out, connect, flipped

from seedlm.golden.build import Config, clog2
from seedlm.hdl.delay import delay
from seedlm.hdl.layouts import STEP_COUNT_BITS, beat_layout, gearbox_job_layout, step_layout
from seedlm.hdl.slicer import Slicer

__all__ = ["Gearbox", "StepBuffer"]

JOBS_AHEAD = 4  # products whose widths are remembered


class StepBuffer(wiring.Component):
    """A small first-in first-out buffer in LUT memory with an output register; room is reserved beforehand.

    Parameters
    ----------
    layout : ShapeCastable
        Of the items.
    depth : int
        Power of two. 32 is what a LUT memory holds anyway.

    Members
    -------
    i : in, valid only
        Items; each needs a reservation.
    reserve : in
        One place is reserved in this clock. Only while `room`.
    room : out, registered
        There is a free place.
    o : stream, out
        Two clocks after `i` at the earliest.
    """

    def __init__(self, *, layout: object, depth: int = 32) -> None:
        self._layout = layout
        self._depth = depth
        super().__init__({
            "i": In(wiring.Signature({"payload": Out(layout), "valid": Out(1)})),
            "reserve": In(1),
            "room": Out(1),
            "o": Out(stream.Signature(layout)),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        store = memory.Memory(shape=self._layout, depth=self._depth, init=[], attrs={"ram_style": "distributed"})
        m.submodules.store = store
        write, read = store.write_port(), store.read_port(domain="comb")

        fetch = Signal()
        filled = Signal()
        level = Signal(range(self._depth + 1))
        free = Signal(range(self._depth + 1), init=self._depth)
        write_at = Signal(range(self._depth))
        read_at = Signal(range(self._depth))
        m.d.comb += [
            write.addr.eq(write_at), write.data.eq(self.i.payload), write.en.eq(self.i.valid),
            read.addr.eq(read_at), fetch.eq(filled & (~self.o.valid | self.o.ready)),
        ]  # fmt: skip
        level_next = level + self.i.valid - fetch
        m.d.sync += [
            write_at.eq(write_at + self.i.valid),
            read_at.eq(read_at + fetch),
            level.eq(level_next),
            filled.eq(level_next[: len(level)] != 0),
            free.eq(free + fetch - self.reserve),
            # From the count before this clock's reservation: one place less is used, and the path is short.
            self.room.eq(free >= 2),
        ]
        with m.If(fetch):
            m.d.sync += self.o.payload.eq(read.data)
        with m.If(fetch | self.o.ready):
            m.d.sync += self.o.valid.eq(fetch)
        return m


class Gearbox(wiring.Component):
    """Turns the beats of a weight image into steps, least significant bit first.

    Each product starts with a fresh beat; padding after its last step is dropped. One beat per clock is taken where
    steps are at least as wide as beats, one step per clock is made where they are at most as wide, products of two
    steps and more follow each other without a gap. Steps of the size of a beat pass through unchanged and at once, with
    two LUTs between their handshake and the beats'.

    In builds whose codecs have words of several widths a slicer for each of them works in turn, on the products of that
    width, and all steps go through one buffer; a product then begins when the last step of the one before is cut, one
    clock after its last beat or none. Each word is put into a slot of the widest.

    Parameters
    ----------
    config : Config

    Members
    -------
    i : stream, in
        ``beat_layout``; ``last`` is not used, the job says how many steps there are.
    job : stream, in
        ``gearbox_job_layout``: steps of the product, at least 1.
    o : stream, out
        ``step_layout``.

    Attributes
    ----------
    latency : int
        Clocks from the beat that completes a step to the step; 0 where they are the same.
    """

    def __init__(self, *, config: Config) -> None:
        self._config = config
        self._slicers = [
            Slicer(beat_bits=config.bus_bits, part_bits=config.lanes * width, amount_bits=STEP_COUNT_BITS)
            for width in config.word_widths
        ]
        self._passes = len(self._slicers) == 1 and self._slicers[0].identity
        self._slowest = max(slicer.latency for slicer in self._slicers)
        self.latency = 0 if self._passes else 1 + self._slowest + 2
        self._layout = step_layout(config)
        super().__init__({
            "i": In(stream.Signature(beat_layout(config))),
            "job": In(stream.Signature(gearbox_job_layout(config))),
            "o": Out(stream.Signature(self._layout)),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        if len(self._slicers) == 1:
            self._one(m, self._slicers[0])
        else:
            self._several(m)
        return m

    def _one(self, m: Module, slicer: Slicer) -> None:
        """All steps have one width."""
        m.submodules.slicer = slicer
        connect(m, flipped(self.i), slicer.i)
        m.d.comb += [
            slicer.job.valid.eq(self.job.valid),
            slicer.job.payload.amount.eq(self.job.payload.steps),
            self.job.ready.eq(slicer.job.ready),
        ]
        part = slicer.o.payload
        if slicer.identity:
            # The beats come from a buffer already.
            m.d.comb += [
                slicer.room.eq(self.o.ready),
                self.o.valid.eq(self.i.valid & slicer.active),
                self.o.payload.eq(Cat(part.data, part.last, part.error)),
            ]
            return
        m.submodules.buffer = buffer = StepBuffer(layout=self._layout)
        connect(m, buffer.o, flipped(self.o))
        m.d.comb += [
            slicer.room.eq(buffer.room),
            buffer.reserve.eq(slicer.taken),
            buffer.i.valid.eq(slicer.o.valid),
            buffer.i.payload.eq(Cat(part.data, part.last, part.error)),
        ]

    def _several(self, m: Module) -> None:
        """A slicer for each width; whose turn it is follows from the jobs."""
        slicers = self._slicers
        m.submodules.turns = turns = SyncFIFOBuffered(width=clog2(len(slicers)), depth=JOBS_AHEAD)
        m.submodules.buffer = buffer = StepBuffer(layout=self._layout)
        connect(m, buffer.o, flipped(self.o))
        job, closed = self.job, Signal()  # closed: all beats of the present product are there
        ended, ready, free, outputs = Signal(), Signal(), Signal(), []
        for n, slicer in enumerate(slicers):
            m.submodules[f"slicer{n}"] = slicer
            mine = turns.r_rdy & (turns.r_data == n)
            meant = job.payload.width == n
            m.d.comb += [
                slicer.i.payload.eq(self.i.payload),
                slicer.i.valid.eq(self.i.valid & mine & ~closed),
                slicer.job.payload.amount.eq(job.payload.steps),
                slicer.job.valid.eq(job.valid & turns.w_rdy & meant),
                slicer.room.eq(buffer.room & mine),
            ]
            with m.If(mine):
                m.d.comb += [ready.eq(slicer.i.ready & ~closed), ended.eq(slicer.ended)]
            with m.If(meant):
                m.d.comb += free.eq(slicer.job.ready)
            outputs.append(self._late(m, n, slicer))
        m.d.comb += [
            self.i.ready.eq(ready),
            job.ready.eq(free & turns.w_rdy),
            turns.w_en.eq(job.valid & free),
            turns.w_data.eq(job.payload.width),
            turns.r_en.eq(ended),
            buffer.reserve.eq(Cat(slicer.taken for slicer in slicers).any()),
            buffer.i.valid.eq(Cat(valid for valid, _ in outputs).any()),
        ]
        with m.If(ended):
            m.d.sync += closed.eq(0)
        with m.Elif(self.i.valid & ready & self.i.payload.last):
            m.d.sync += closed.eq(1)
        payload: Value = outputs[0][1]
        for valid, step in outputs[1:]:
            payload = Mux(valid, step, payload)
        m.d.comb += buffer.i.payload.eq(payload)

    def _late(self, m: Module, n: int, slicer: Slicer) -> tuple[Value, Value]:
        """The steps of slicer `n`, as late as those of the slowest: whether there is one, and the step, its words in
        slots of the widest."""
        wait, part, width = self._slowest - slicer.latency, slicer.o.payload, self._config.word_widths[n]
        data, last, error = (
            delay(m, value, wait, f"{name}{n}") for name, value in
            (("data", part.data), ("last", part.last), ("error", part.error))
        )  # fmt: skip
        gap = Const(0, self._config.word_bits - width)
        words = Cat(Cat(data.word_select(i, width), gap) for i in range(self._config.lanes))
        return delay(m, slicer.o.valid, wait, f"valid{n}", reset_less=False), Cat(words, last, error)
