"""A queue of beats whose room is reserved before they come."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from seedlm.hdl.layouts import valid_only

__all__ = ["BLOCK_RAM_DEPTH", "BeatFifo"]

BLOCK_RAM_DEPTH = 64  # from this depth on block RAM is the cheaper storage


class BeatFifo(wiring.Component):
    """First in, first out, for wide words; the writer keeps account of the room.

    Deep queues lie in block RAM, shallow ones in distributed RAM with a register behind its output. The memory has no
    transparent read port: a word is read one clock after it was written at the earliest.

    Throughput: a word per clock in and out. Latency from `i` to `o`: 2 clocks, 3 with `output_register`.
    ``o.valid`` is a register; ``o.ready`` reaches the enables of the storage through one LUT.

    Parameters
    ----------
    layout : data.StructLayout
        The payload.
    depth : int
        Words that may be inside, from `i` until they were taken from `o`. More are not refused but lose data.
    output_register : bool
        A register behind the block RAM, whose output is slow by itself (half a clock). Without it ``o.payload`` should
        meet a register after two LUTs at most. Distributed RAM has a register anyway.

    Members
    -------
    i : valid_only(layout), in
        Words to be stored.
    o : stream of layout, out
        The same words, in order.
    """

    def __init__(self, *, layout: data.StructLayout, depth: int, output_register: bool) -> None:
        self._layout = layout
        self._output_register = output_register
        self._depth = depth
        super().__init__({"i": In(valid_only(layout)), "o": Out(stream.Signature(layout))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        depth = self._depth
        block = depth >= BLOCK_RAM_DEPTH
        m.submodules.storage = storage = memory.Memory(
            shape=self._layout, depth=depth, init=[], attrs={"ram_style": "block" if block else "distributed"}
        )
        write, read = storage.write_port(), storage.read_port()

        def step(pointer: Signal) -> object:
            return pointer + 1 if depth == 1 << len(pointer) else Mux(pointer == depth - 1, 0, pointer + 1)

        m.d.comb += [write.data.eq(self.i.payload), write.en.eq(self.i.valid)]
        with m.If(self.i.valid):
            m.d.sync += write.addr.eq(step(write.addr))

        # Words in the storage that the read port has not taken; a word counts from the clock after its writing on.
        stored = Signal(range(depth + 1))
        some = Signal()  # stored != 0, as a register
        fetched = Signal()  # the read port's output is valid
        m.d.sync += [
            stored.eq(stored + self.i.valid - read.en),
            some.eq(self.i.valid | (stored[1:] != 0) | (stored[0] & ~read.en)),
        ]
        with m.If(read.en):
            m.d.sync += [read.addr.eq(step(read.addr)), fetched.eq(1)]

        if block and self._output_register:
            output = Signal(self._layout, reset_less=True)
            advance = Signal()  # the output register takes the read port's word
            m.d.comb += [
                advance.eq(~self.o.valid | self.o.ready),
                read.en.eq(some & (~fetched | advance)),
                self.o.payload.eq(output),
            ]
            with m.If(advance):
                m.d.sync += [self.o.valid.eq(fetched), output.eq(read.data)]
                with m.If(~read.en):
                    m.d.sync += fetched.eq(0)
        else:
            m.d.comb += [
                read.en.eq(some & (~fetched | self.o.ready)),
                self.o.valid.eq(fetched),
                self.o.payload.eq(read.data),
            ]
            with m.If(self.o.ready & ~read.en):
                m.d.sync += fetched.eq(0)
        return m
