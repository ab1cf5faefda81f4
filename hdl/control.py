"""Registers, the queue of products, interrupt, error state and counters."""

from __future__ import annotations

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, ResetInserter, Signal, Value, ValueLike
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from seedlm.golden.build import Config, clog2
from seedlm.hdl.abort import LIMIT_BITS, AbortUnit
from seedlm.hdl.axi_lite import AxiLiteSlave, slave_members
from seedlm.hdl.counters import EventCounters
from seedlm.hdl.layouts import CODE_BITS, completion_layout, descriptor_layout, events_layout, valid_only
from seedlm.hdl.registers import (
    ADDRESS_BITS,
    COUNTERS,
    REGISTERS,
    Access,
    ErrorCode,
    configuration_words,
    counter_registers,
    is_there,
    register,
    version_word,
)
from seedlm.hdl.shifter import choose

__all__ = ["Control"]

IN_FLIGHT = 64  # more products than the parts behind the queue can hold
BLOCK_BITS = 3  # the first stage of the read multiplexer chooses from 8 registers
REGIONS = ("weights", "activations", "results", "scales")


def _fields(name: str) -> data.View:
    """A register with the fields of the register `name` of the table, all 0 after reset."""
    fields = {f.name: data.Field(f.width, f.lsb) for f in register(name).fields}
    return Signal(data.FlexibleLayout(32, fields), name=name.lower())


class _Registers:
    """Every register: what it reads as (all but the counters, filled as they are made), whether it is written now."""

    def __init__(self, m: Module, port: AxiLiteSlave, config: Config) -> None:
        self.port = port
        self.full = Signal()  # the queue; SUBMIT is then refused
        self.value: dict[str, ValueLike] = {**configuration_words(config)}
        self.there = [r for r in REGISTERS if is_there(r.name, config)]
        self.value |= {r.name: r.reset for r in self.there if r.name in ("ID", "VERSION") or r.access is Access.WO}
        self.value["VERSION"] = version_word(config)
        self.written: dict[str, Signal] = {}
        writable = []
        for r in self.there:
            if r.access.writable:
                hit, write = Signal(name=f"at_{r.name.lower()}"), Signal(name=f"write_{r.name.lower()}")
                self.written[r.name] = write
                m.d.sync += hit.eq(port.write_word == r.offset // 4)
                m.d.comb += write.eq(port.write & hit)
                writable.append(hit & ~self.full if r.name == "SUBMIT" else hit)
        m.d.comb += port.write_ok.eq(Cat(writable).any())


class _Ends:
    """The account of products: how many, and what has ended in this clock."""

    def __init__(self, config: Config) -> None:
        self.done = Signal()  # a product has ended by itself
        self.code = Signal(CODE_BITS, reset_less=True)  # with this code
        self.last = Signal()  # and no other one is submitted
        self.failed = Signal()  # and in error
        self.unfinished = Signal(range(config.queue_depth + IN_FLIGHT))
        self.submitted = Signal(32)
        self.completed = Signal(32)
        self.aborted = Signal()  # all that were submitted have ended
        self.timed_out = Signal()  # and the watchdog is the cause


class Control(wiring.Component):
    """What software sees: the registers of `hdl.registers`.

    A write to SUBMIT queues the product that the descriptor registers describe; a value that does not fit its field of
    ``descriptor_layout`` marks it as bad (the register reads back without the bits that did not fit). The queue holds
    `queue_depth` products and one that is being offered.

    A failed product puts its code and number into ERROR and raises `hold` until software writes ERROR_CLEAR; the queue
    stays as it is. The next completion must not come before that; the result writer sees to it.

    An abort (`hdl.abort`) empties the queue; SUBMIT is refused until it is over. Then all products that were submitted
    count as completed; if the watchdog has started it, ERROR gets TIMEOUT and the number of the oldest of them. All
    other registers and the counters stay as they are. Completions are expected to cease with `clear_path`.

    Latency: a submitted product is offered 3 clocks after the write is executed, `hold` follows a completion after 2
    clocks, `irq` after 3.

    Parameters
    ----------
    config : Config

    Members
    -------
    s_axi_* :
        AXI4-Lite slave.
    irq : out
        High while an enabled bit of IRQ_STATUS is set. Register.
    descriptor : stream, out
        ``descriptor_layout``: the products in the order of submission.
    completion : in, valid only
        ``completion_layout``: the products end in the same order.
    hold : out
        An error waits for software. Register.
    events : in
        ``events_layout``: what is counted.
    progress, drained : in
        To `AbortUnit`.
    stray : in
        Pulse: the memory gave an answer that nothing had asked for.
    clear_path, clear_port : out
        From `AbortUnit`.
    """

    def __init__(self, *, config: Config) -> None:
        self._config = config
        super().__init__({
            **slave_members(),
            "irq": Out(1),
            "descriptor": Out(stream.Signature(descriptor_layout(config))),
            "completion": In(valid_only(completion_layout(config))),
            "hold": Out(1),
            "events": In(events_layout()),
            "progress": In(1),
            "drained": In(1),
            "stray": In(1),
            "clear_path": Out(1),
            "clear_port": Out(1),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.port = port = AxiLiteSlave()
        for name, member in slave_members().items():
            outer, inner = getattr(self, name), getattr(port, name)
            m.d.comb += outer.eq(inner) if member.flow is Out else inner.eq(outer)
        r = _Registers(m, port, self._config)
        control = self._settings(m, r)
        entry = self._parameters(m, r)
        m.submodules.abort = abort = AbortUnit()
        level, submit = self._queue(m, r, entry, control.pause, abort.aborting)
        ends = self._ends(m, r, submit)
        self._abort(m, r, abort, ends, level)
        error = self._error(m, r, ends)
        self._interrupts(m, r, control, ends)

        m.submodules.counters = counters = EventCounters()
        busy = Signal()
        m.d.comb += [
            counters.events.eq(self.events),
            counters.stop.eq(ends.last | ends.aborted),
            counters.enable.eq(busy),
            counters.clear.eq(r.written["COUNTER_CLEAR"] & port.write_data[0]),
        ]
        aborting = Signal()  # as late as `busy`, so that no read finds an abort over and a product unfinished
        m.d.sync += aborting.eq(abort.aborting)
        state = r.value["STATUS"] = _fields("STATUS")
        m.d.sync += [
            busy.eq(ends.unfinished != 0),
            state.busy.eq(busy),
            state.error.eq(error.any()),
            state.queue_full.eq(r.full),
            state.active.eq(counters.active),
            state.aborting.eq(abort.aborting | aborting),
            state.queue_level.eq(level),
        ]
        self._read(m, r, counters)
        return m

    def _settings(self, m: Module, r: _Registers) -> data.View:
        """CONTROL and WATCHDOG; returns CONTROL."""
        word = r.port.write_data
        control = r.value["CONTROL"] = _fields("CONTROL")
        with m.If(r.written["CONTROL"]):
            stored = [f for f in register("CONTROL").fields if f.name != "abort"]
            m.d.sync += [control[f.name].eq(word[f.lsb :]) for f in stored]
        watchdog = r.value["WATCHDOG"] = Signal(LIMIT_BITS)
        with m.If(r.written["WATCHDOG"]):
            m.d.sync += watchdog.eq(word)
        return control

    def _parameters(self, m: Module, r: _Registers) -> data.View:
        """The descriptor registers: each keeps the bits that its field has, and whether there were others."""
        entry = Signal(descriptor_layout(self._config))
        unfit = []

        def parameter(name: str, field: Value) -> None:
            stored = r.value[name] = Signal(len(field), name=name.lower())
            m.d.comb += field.eq(stored)
            with m.If(r.written[name]):
                m.d.sync += stored.eq(r.port.write_data)
            if len(field) < 32:
                excess, too_large = Signal(name=f"{name.lower()}_excess"), Signal(name=f"{name.lower()}_unfit")
                unfit.append(too_large)
                m.d.sync += excess.eq(r.port.write_data[len(field) :].any())
                with m.If(r.written[name]):
                    m.d.sync += too_large.eq(excess)

        for region in REGIONS:
            parameter(f"{region.upper()}_LO", entry[region][:32])
            parameter(f"{region.upper()}_HI", entry[region][32:])
        parameter("ROWS", entry.rows)
        parameter("COLS", entry.cols)
        parameter("SCALE", entry.scale)
        parameter("FLAGS", entry.same)
        if self._config.more:
            parameter("WEIGHT_CODEC", entry.codec)
        m.d.comb += entry.bad.eq(Cat(unfit).any())
        return entry

    def _queue(
        self, m: Module, r: _Registers, entry: data.View, pause: Value, aborting: Value
    ) -> tuple[Value, Signal]:
        """The queue in LUT memory, and a register that offers its head.

        Returns
        -------
        level, submit : Value
            Products in the queue; one is submitted in this clock.
        """
        config = self._config
        queue = SyncFIFO(width=len(entry.as_value()), depth=config.queue_depth)
        m.submodules.queue = ResetInserter(aborting)(queue)
        submit = Signal()
        fetch = Signal()
        m.d.comb += [
            submit.eq(r.written["SUBMIT"] & ~r.full),
            queue.w_data.eq(entry),
            queue.w_en.eq(submit),
            fetch.eq(queue.r_rdy & ~pause & (~self.descriptor.valid | self.descriptor.ready)),
            queue.r_en.eq(fetch),
        ]
        # Two submissions are at least two clocks apart, so this register is in time.
        m.d.sync += r.full.eq((queue.level == config.queue_depth) | aborting)
        with m.If(fetch):
            m.d.sync += self.descriptor.payload.eq(queue.r_data)
        with m.If(fetch | self.descriptor.ready):
            m.d.sync += self.descriptor.valid.eq(fetch)
        with m.If(aborting):
            m.d.sync += self.descriptor.valid.eq(0)
        return queue.level, submit

    def _ends(self, m: Module, r: _Registers, submit: Signal) -> _Ends:
        """Products that have ended."""
        e = _Ends(self._config)
        r.value["SUBMITTED"], r.value["COMPLETED"] = e.submitted, e.completed
        m.d.sync += [e.done.eq(self.completion.valid), e.code.eq(self.completion.payload.code)]
        m.d.comb += [e.last.eq(e.done & (e.unfinished == 1) & ~submit), e.failed.eq(e.done & e.code.any())]
        m.d.sync += [e.submitted.eq(e.submitted + submit), e.completed.eq(e.completed + e.done)]
        with m.If(submit & ~e.done):
            m.d.sync += e.unfinished.eq(e.unfinished + 1)
        with m.If(e.done & ~submit):
            m.d.sync += e.unfinished.eq(e.unfinished - 1)
        return e

    def _abort(self, m: Module, r: _Registers, abort: AbortUnit, e: _Ends, level: Value) -> None:
        """No product is submitted and none ends during an abort, so its end is the last word."""
        at_work = Signal()  # some product has left the queue, and none waits for software
        m.d.sync += at_work.eq((e.unfinished != level) & ~self.hold)
        m.d.comb += [
            abort.request.eq(r.written["CONTROL"] & r.port.write_data[register("CONTROL").field("abort").lsb]),
            abort.limit.eq(r.value["WATCHDOG"]),
            abort.at_work.eq(at_work),
            abort.progress.eq(self.progress | e.done | r.written["WATCHDOG"]),
            abort.drained.eq(self.drained),
            self.clear_path.eq(abort.clear_path),
            self.clear_port.eq(abort.clear_port),
            e.aborted.eq(abort.done & (e.unfinished != 0)),
            e.timed_out.eq(e.aborted & abort.timed_out),
        ]
        with m.If(abort.done):
            m.d.sync += [e.unfinished.eq(0), e.completed.eq(e.submitted)]

    def _error(self, m: Module, r: _Registers, e: _Ends) -> Signal:
        """The error that waits for software; returns its code."""
        error = r.value["ERROR"] = Signal(CODE_BITS)
        error_product = r.value["ERROR_PRODUCT"] = Signal(32, reset_less=True)
        with m.If(error.any()):
            with m.If(r.written["ERROR_CLEAR"] & r.port.write_data[0]):
                m.d.sync += error.eq(0)
        with m.Elif(e.failed):
            m.d.sync += [error.eq(e.code), error_product.eq(e.completed)]
        with m.Elif(e.timed_out):
            m.d.sync += [error.eq(ErrorCode.TIMEOUT), error_product.eq(e.completed)]
        m.d.sync += self.hold.eq(e.failed | e.timed_out | error.any())
        return error

    def _interrupts(self, m: Module, r: _Registers, control: data.View, e: _Ends) -> None:
        """What happens wins over software that clears the bit."""
        status = r.value["IRQ_STATUS"] = _fields("IRQ_STATUS")
        causes = {
            "product_done": e.done | e.aborted,
            "idle": e.last | e.aborted,
            "error": e.failed | e.timed_out,
            "stray": self.stray,
        }
        for name, happens in causes.items():
            with m.If(happens):
                m.d.sync += status[name].eq(1)
            with m.Elif(r.written["IRQ_STATUS"] & r.port.write_data[register("IRQ_STATUS").field(name).lsb]):
                m.d.sync += status[name].eq(0)
        m.d.sync += self.irq.eq(reduce(or_, (status[name] & control[f"irq_{name}"] for name in causes)))

    def _read(self, m: Module, r: _Registers, counters: EventCounters) -> None:
        """The read multiplexer: one register of every block of 8, then one of the blocks."""
        port, value = r.port, r.value
        word = port.read_word
        by_word = {there.offset // 4: there.name for there in r.there}

        # First clock: plain registers, in blocks; the low halves of the counters. Who is meant, one-hot.
        sources = []

        def source(data: Value, meant: Value, name: str) -> None:
            chosen = Signal(name=f"read_{name}", reset_less=True)
            m.d.sync += chosen.eq(meant)
            sources.append(data & chosen.replicate(32))

        for block in range(1 << ADDRESS_BITS - 2 - BLOCK_BITS):
            names = [by_word.get(block << BLOCK_BITS | n) for n in range(1 << BLOCK_BITS)]
            if any(name in value for name in names):
                choices = [Value.cast(value.get(name, 0)) for name in names]
                data = Signal(32, name=f"block{block}", reset_less=True)
                m.d.sync += data.eq(choose(word[:BLOCK_BITS], choices))
                source(data, word[BLOCK_BITS:] == block, f"block{block}")
        index = word[1 : 1 + clog2(len(COUNTERS))]
        lows, highs = [Const(0, 32)] * (1 << len(index)), [Const(0, 32)] * (1 << len(index))
        counter_words = []
        for n, name in enumerate(COUNTERS):
            words = [r.offset // 4 for r in counter_registers(name)]
            at = words[0] // 2 % len(lows)
            lows[at], highs[at] = counters.low[n], counters.high[n]
            counter_words += words
        low, high, kept = (Signal(32, name=n, reset_less=True) for n in ("low", "high", "kept"))
        # `high` is looked at one clock after `low`, as the counters want it, and kept for the read of the high half.
        m.d.sync += [low.eq(choose(index, lows)), high.eq(choose(index, highs))]
        is_counter = Cat(word == n for n in counter_words).any()
        source(low, is_counter & ~word[0], "low")
        source(kept, is_counter & word[0], "high")
        known = Signal(reset_less=True)
        m.d.sync += known.eq(Cat(word == n for n in by_word).any())

        # Second clock: the answer.
        m.d.comb += [port.read_data.eq(reduce(or_, sources)), port.read_ok.eq(known)]

        # Third clock. What is no counter does not touch what is kept.
        keep = Signal()
        m.d.sync += keep.eq(port.read_phase[1] & is_counter & ~word[0])
        with m.If(keep):
            m.d.sync += kept.eq(high)
