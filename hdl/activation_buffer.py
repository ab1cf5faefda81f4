"""Activation buffer: converts a vector as it arrives and keeps it for every row group; two banks."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from seedlm.golden.build import ACTIVATION_EXPONENT_MAX, MANTISSA_BITS, Config, clog2
from seedlm.hdl.activation_convert import ActivationConverter
from seedlm.hdl.decoder_bank import multiplier_of
from seedlm.hdl.delay import delay, register
from seedlm.hdl.layouts import beat_layout, convert_job_layout
from seedlm.hdl.shifter import choose

__all__ = ["ActivationBuffer", "address_bits", "read_latency"]


def _places_per_group(config: Config) -> int:
    return config.group // config.place_columns


def _index_bits(config: Config) -> int:
    """Bits of a group's number."""
    return max(1, clog2(config.max_groups))


def _place_bits(config: Config) -> int:
    """Bits of a step's place in its row."""
    return _index_bits(config) + clog2(_places_per_group(config))


def address_bits(config: Config) -> int:
    """Width of `ActivationBuffer.address`: a step's place in its row, the bank, and the number of the codec."""
    return _place_bits(config) + 1 + clog2(len(config.codecs))


def read_latency(config: Config) -> int:
    """Clocks from the address to the mantissas: block RAM, output register, and where a group has several places
    the choice of this step's columns."""
    return 2 + (_places_per_group(config) > 1)


class ActivationBuffer(wiring.Component):
    """Two vectors of activation groups: one is read while the next one is loaded.

    A job loads one vector into the bank that is not being read; it begins only when that bank is
    free, so at most one vector is loaded ahead. `advance` makes the vector loaded (or still
    loading) next the current one; it is allowed while `available` is set. Group g of the current
    vector may be read once ``count > g``: reading may follow closely behind the loading.

    Lanes whose decoder is slow still read a vector when the next one has become the current one (`read_delay`); its
    bank is loaded anew only when they are through. The converter's own latency covers the usual delays.

    Latency from `address` to the output is `latency` clocks, throughput one group per clock.

    Parameters
    ----------
    config : Config
    read_delay : int
        Clocks by which `address` follows the issue of its step (`MacArray.read_delay`).

    Members
    -------
    job, i : In(stream)
        Vectors to load and their beats (`convert_job_layout`, `beat_layout`).
    available : Out(1)
        The next vector has begun to load.
    advance : In(1)
        Makes it the current one. Only while `available`, and after the issue of the last step of the vector before.
    count : Out
        Groups of the current vector that are there.
    nonfinite, error : Out(1)
        Something in the current vector is NaN or infinite, or was answered by an AXI error; final
        when all groups are there.
    bank : Out(1)
        Where the current vector lies; goes before the step number in `address`.
    address : In
        ``Cat(place, bank, codec)``: the step's place in its row (the group is the place divided by the places per
        group), the bank, and in builds of several codecs the number of the step's.
    mantissas : Out(columns x signed(18))
        For each multiplier the column of that step that it works on, 0 if it has none, all at the same clock.
    exponent : Out(5)
        E_g + 14.
    """

    def __init__(self, *, config: Config, read_delay: int) -> None:
        self.config = config
        self._places_per_group = _places_per_group(config)
        self._converter = ActivationConverter(config=config)
        # `advance` comes a clock after the last issue at the earliest, so that the last read is `read_delay` - 1 clocks
        # after it; the next job begins a clock after it, and its first group is written when it has been converted.
        self._hold = max(0, read_delay - 1 - self._converter.latency)
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
                "address": In(address_bits(config)),
                "mantissas": Out(data.ArrayLayout(signed(MANTISSA_BITS), config.columns)),
                "exponent": Out(range(ACTIVATION_EXPONENT_MAX + 1)),
            }
        )

    @property
    def place_bits(self) -> int:
        """Bits of a step's place in its row."""
        return _place_bits(self.config)

    @property
    def latency(self) -> int:
        """Clocks from `address` to `mantissas`."""
        return read_latency(self.config)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.converter = converter = self._converter
        connect(m, converter.i, flipped(self.i))

        entry = data.StructLayout({"mantissas": MANTISSA_BITS * self.config.group, "exponent": 5})
        depth = 2 << _index_bits(self.config)
        store = memory.Memory(shape=entry, depth=depth, init=[], attrs={"ram_style": "block"})
        m.submodules.store = store
        write, read = store.write_port(), store.read_port()

        current = self._begin_jobs(m)
        bank = self._load(m, write)
        self._describe(m, current, bank)

        # Read stage 1: block RAM. Stage 2: its output register.
        sub_bits = clog2(self._places_per_group)
        m.d.comb += [read.en.eq(1), read.addr.eq(self.address[sub_bits : self.place_bits + 1])]
        fetched = Signal(entry, reset_less=True)
        m.d.sync += fetched.eq(read.data)
        if self._places_per_group > 1:
            self._choose_columns(m, fetched)
        else:
            m.d.comb += [self.mantissas.as_value().eq(fetched.mantissas), self.exponent.eq(fetched.exponent)]
        return m

    def _begin_jobs(self, m: Module) -> Signal:
        """Lets a job begin when the bank that is not read is free; the bank that is read."""
        job = self._converter.job
        current = Signal()
        ahead = Signal()
        begin = Signal()
        free: Value = ~ahead
        if self._hold:
            held = Signal(range(self._hold + 1))
            with m.If(self.advance):
                m.d.sync += held.eq(self._hold)
            with m.Elif(held != 0):
                m.d.sync += held.eq(held - 1)
            free = free & (held == 0)
        m.d.comb += [
            job.payload.eq(self.job.payload),
            job.valid.eq(self.job.valid & free),
            self.job.ready.eq(job.ready & free),
            begin.eq(self.job.valid & self.job.ready),
            self.available.eq(ahead),
            self.bank.eq(current),
        ]
        with m.If(self.advance):
            m.d.sync += [current.eq(~current), ahead.eq(0)]
        with m.Elif(begin):
            m.d.sync += ahead.eq(1)
        return current

    def _load(self, m: Module, write: memory.WritePort) -> Signal:
        """Writes the groups of the converter; the bank that they go to.

        A vector still loading goes on in its bank after `advance`: the bank is fixed by its first group.
        """
        converted = self._converter.o
        group = converted.payload
        bank = Signal(init=1)
        with m.If(converted.valid & group.last):
            m.d.sync += bank.eq(~bank)
        m.d.comb += [
            write.en.eq(converted.valid),
            write.addr.eq(Cat(Cat(group.index, 0)[: _index_bits(self.config)], bank)),
            write.data.mantissas.eq(group.mantissas),
            write.data.exponent.eq(group.exponent),
        ]
        return bank

    def _describe(self, m: Module, current: Signal, bank: Signal) -> None:
        """How much of the current vector is there, and whether it is good."""
        converted = self._converter.o
        group = converted.payload
        counts = [Signal(range(self.config.max_groups + 1), name=f"count{n}") for n in range(2)]
        nonfinite = Signal(2)
        error = Signal(2)
        for n in range(2):
            with m.If(self.advance & (current == n)):  # leaving this bank
                m.d.sync += [counts[n].eq(0), nonfinite[n].eq(0), error[n].eq(0)]
            with m.Elif(converted.valid & (bank == n)):
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

    def _choose_columns(self, m: Module, fetched: data.View) -> None:
        """Read stage 3: for every multiplier the column of this step out of the group's."""
        config = self.config
        part = delay(m, self.address[: clog2(self._places_per_group)], 2, "part")
        select: Value = part
        codec = delay(m, self.address[self.place_bits + 1 :], 1, "codec") if config.more else Const(0)
        if config.more and config.align_max:
            spread = _is_one_of(codec, [c.column_shift_max > 0 for c in config.codecs])
            select = Cat(part, register(m, spread, "spread"))
        columns = [fetched.mantissas[MANTISSA_BITS * c : MANTISSA_BITS * (c + 1)] for c in range(config.group)]
        mantissas = Signal(MANTISSA_BITS * config.columns, reset_less=True)
        exponent = Signal(5, reset_less=True)
        for p in range(config.columns):
            chosen = choose(select, [columns[c] for c in _column_choices(config, p)])
            users = [_works_on(config, n, p) for n in range(len(config.codecs))]
            if not all(users):  # 0 in the steps of the other codecs
                used = register(m, _is_one_of(codec, users), f"used{p}")
                chosen = chosen & used.replicate(MANTISSA_BITS)
            m.d.sync += mantissas[MANTISSA_BITS * p : MANTISSA_BITS * (p + 1)].eq(chosen)
        m.d.sync += exponent.eq(fetched.exponent)
        m.d.comb += [self.mantissas.as_value().eq(mantissas), self.exponent.eq(exponent)]


def _is_one_of(codec: Value, which: list[bool]) -> Value:
    """Whether the number is that of a codec with True."""
    return Cat(codec == n for n, yes in enumerate(which) if yes).any()


def _works_on(config: Config, number: int, multiplier: int) -> bool:
    """Whether a multiplier has a column in the steps of codec `number`."""
    columns = config.codecs[number].step_columns
    return any(multiplier_of(config, number, column) == multiplier for column in range(columns))


def _column_choices(config: Config, multiplier: int) -> list[int]:
    """The column of the group that a multiplier works on, by the place in the group; in builds in which some codecs
    spread their columns first for the others, then for those.

    Where the multiplier has no column any will do: that of the place before.
    """
    places = config.group // config.place_columns
    kinds = [False, True] if config.more and config.align_max else [bool(config.align_max)]
    out: list[int] = []
    for spread in kinds:
        found: dict[int, int] = {}
        for n, codec in enumerate(config.codecs):
            if bool(codec.column_shift_max) == spread:
                stride = codec.step_columns // config.place_columns
                for column in range(codec.step_columns):
                    if multiplier_of(config, n, column) == multiplier:
                        found |= {at: at * config.place_columns + column for at in range(0, places, stride)}
        before = next(iter(found.values()), multiplier % config.group)
        for at in range(places):
            before = found.get(at, before)
            out.append(before)
    return out
