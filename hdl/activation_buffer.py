"""Activation buffer: converts a vector as it arrives and keeps it for every row group; two banks."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from seedlm.golden.build import ACTIVATION_EXPONENT_MAX, MANTISSA_BITS, Config, clog2
from seedlm.hdl.activation_convert import ActivationConverter
from seedlm.hdl.delay import delay
from seedlm.hdl.layouts import beat_layout, convert_job_layout
from seedlm.hdl.shifter import choose

__all__ = ["ActivationBuffer"]


class ActivationBuffer(wiring.Component):
    """Two vectors of activation groups: one is read while the next one is loaded.

    A job loads one vector into the bank that is not being read; it begins only when that bank is
    free, so at most one vector is loaded ahead. `advance` makes the vector loaded (or still
    loading) next the current one; it is allowed while `available` is set. Group g of the current
    vector may be read once ``count > g``: reading may follow closely behind the loading.

    Latency from `address` to the output is `latency` clocks, throughput one group per clock.

    Members
    -------
    job, i : In(stream)
        Vectors to load and their beats (`convert_job_layout`, `beat_layout`).
    available : Out(1)
        The next vector has begun to load.
    advance : In(1)
        Makes it the current one. Only while `available`.
    count : Out
        Groups of the current vector that are there.
    nonfinite, error : Out(1)
        Something in the current vector is NaN or infinite, or was answered by an AXI error; final
        when all groups are there.
    bank : Out(1)
        Where the current vector lies; goes before the step number in `address`.
    address : In
        ``Cat(step, bank)``: step number in its row (the group is the step divided by the steps per
        group) and bank. May follow `advance` late: the converter begins later than the lanes end.
    mantissas : Out(columns x signed(18))
        The columns of that step, all at the same clock.
    exponent : Out(5)
        E_g + 14.
    """

    def __init__(self, *, config: Config):
        self.config = config
        codec = config.codec
        self._sub_bits = clog2(codec.steps_per_group)
        self._index_bits = max(1, clog2(config.max_groups))
        super().__init__(
            {
                "job": In(stream.Signature(convert_job_layout(config))),
                "i": In(stream.Signature(beat_layout(config))),
                "available": Out(1),
                "advance": In(1),
                "count": Out(range(config.max_groups + 1)),
                "nonfinite": Out(1),
                "error": Out(1),
                "bank": Out(1),
                "address": In(self.step_bits + 1),
                "mantissas": Out(data.ArrayLayout(signed(MANTISSA_BITS), codec.step_columns)),
                "exponent": Out(range(ACTIVATION_EXPONENT_MAX + 1)),
            }
        )

    @property
    def step_bits(self) -> int:
        """Bits of a step number in a row."""
        return self._index_bits + self._sub_bits

    @property
    def latency(self) -> int:
        """Clocks from `address` to `mantissas`: block RAM, output register, and for fp16 the choice of two columns."""
        return 2 + (self._sub_bits > 0)

    def elaborate(self, platform):
        m = Module()
        codec = self.config.codec
        m.submodules.converter = converter = ActivationConverter(config=self.config)
        connect(m, converter.i, flipped(self.i))

        entry = data.StructLayout({"mantissas": MANTISSA_BITS * codec.group, "exponent": 5})
        store = memory.Memory(shape=entry, depth=2 << self._index_bits, init=[], attrs={"ram_style": "block"})
        m.submodules.store = store
        write, read = store.write_port(), store.read_port()

        # The banks: `current` is read, the other one is loaded.
        current = Signal()
        ahead = Signal()
        begin = Signal()
        m.d.comb += [
            converter.job.payload.eq(self.job.payload),
            converter.job.valid.eq(self.job.valid & ~ahead),
            self.job.ready.eq(converter.job.ready & ~ahead),
            begin.eq(self.job.valid & self.job.ready),
            self.available.eq(ahead),
            self.bank.eq(current),
        ]
        with m.If(self.advance):
            m.d.sync += [current.eq(~current), ahead.eq(0)]
        with m.Elif(begin):
            m.d.sync += ahead.eq(1)

        # Loading. A vector still loading goes on in its bank after `advance`: the bank is fixed by its first group.
        group = converter.o.payload
        bank = Signal(init=1)
        with m.If(converter.o.valid & group.last):
            m.d.sync += bank.eq(~bank)
        m.d.comb += [
            write.en.eq(converter.o.valid),
            write.addr.eq(Cat(Cat(group.index, 0)[: self._index_bits], bank)),
            write.data.mantissas.eq(group.mantissas),
            write.data.exponent.eq(group.exponent),
        ]
        counts = [Signal(range(self.config.max_groups + 1), name=f"count{n}") for n in range(2)]
        nonfinite = Signal(2)
        error = Signal(2)
        for n in range(2):
            with m.If(self.advance & (current == n)):  # leaving this bank
                m.d.sync += [counts[n].eq(0), nonfinite[n].eq(0), error[n].eq(0)]
            with m.Elif(converter.o.valid & (bank == n)):
                m.d.sync += [
                    counts[n].eq(counts[n] + 1),
                    nonfinite[n].eq(group.nonfinite),
                    error[n].eq(group.error),
                ]
        m.d.comb += [
            self.count.eq(Mux(current, counts[1], counts[0])),
            self.nonfinite.eq(Mux(current, nonfinite[1], nonfinite[0])),
            self.error.eq(Mux(current, error[1], error[0])),
        ]

        # Read stage 1: block RAM. Stage 2: its output register.
        m.d.comb += [read.en.eq(1), read.addr.eq(self.address[self._sub_bits :])]
        fetched = Signal(entry, reset_less=True)
        m.d.sync += fetched.eq(read.data)
        if not self._sub_bits:
            m.d.comb += [self.mantissas.as_value().eq(fetched.mantissas), self.exponent.eq(fetched.exponent)]
            return m
        # Stage 3: the columns of this step out of the group's.
        part = delay(m, self.address[: self._sub_bits], 2, "part")
        width = MANTISSA_BITS * codec.step_columns
        choices = [fetched.mantissas[n * width : (n + 1) * width] for n in range(codec.steps_per_group)]
        mantissas = Signal(width, reset_less=True)
        exponent = Signal(5, reset_less=True)
        m.d.sync += [mantissas.eq(choose(part, choices)), exponent.eq(fetched.exponent)]
        m.d.comb += [self.mantissas.as_value().eq(mantissas), self.exponent.eq(exponent)]
        return m
