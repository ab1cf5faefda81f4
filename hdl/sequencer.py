"""Sequencer: decides in every clock whether a step enters the lanes."""

from __future__ import annotations

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from seedlm.golden.build import Config, clog2
from seedlm.hdl.delay import register
from seedlm.hdl.layouts import CODE_BITS, sequence_job_layout
from seedlm.hdl.registers import ErrorCode

__all__ = ["Sequencer", "row_group_layout"]


def row_group_layout(config: Config) -> data.StructLayout:
    """What the collector must know of a row group."""
    return data.StructLayout(
        {
            "rows": range(config.lanes + 1),  # rows that exist; 0: the marker of a product without any
            "end": 1,  # last row group of its product
            "nan": 1,  # its results are to be quiet NaN
            "code": CODE_BITS,  # the product's error so far
        }
    )


class _State:
    """What the stages of the sequencer share."""

    def __init__(self, sequencer: Sequencer) -> None:
        config, job = sequencer.config, sequencer.job.payload
        # The product being worked on.
        self.active = Signal()
        self.marker = Signal()  # it has no row groups
        self.last_place = Signal.like(sequencer.place)
        if config.steps_vary:
            self.stride = Signal.like(job.stride)  # places of a step
        if config.mixes_scales:
            self.row_scales = Signal()
        if config.has_headers:
            # Steps of a header, whether the present step is one, how many are left with it. `place` and `following`
            # are those of steps with weights.
            self.headers = Signal.like(job.headers)
            self.in_header = Signal()
            self.header_left = Signal.like(job.headers)
        self.groups_left = Signal.like(job.groups)
        self.tail_rows = Signal.like(job.tail_rows)
        self.tail_need = Signal(range(config.lanes + config.results_per_beat + 1))
        self.code = Signal(CODE_BITS)
        self.code_now = Signal(CODE_BITS)
        self.final = Signal()  # its last row group
        # Place in the row; that of the step after this one is known, so that comparisons are registered.
        self.place = Signal.like(sequencer.place)
        self.following = Signal.like(sequencer.place)
        self.at_first = Signal()
        self.at_last = Signal()
        self.group_there = Signal()
        # Reservations for a row group.
        self.room_there = Signal()
        self.scales_there = Signal()
        self.collector_free = Signal()
        self.reserve = Signal()
        self.end = Signal()  # the product ends
        self.may_start = Signal()
        self.start = Signal()


class Sequencer(wiring.Component):
    """Issues the steps of the products in order, one per clock while it can.

    The pipeline behind it never stalls, so a step is issued only if everything it needs is certain:
    its weights are there, its activation group is there, and, for the last step of a row group, room
    for the results is reserved, the row scales have arrived and the collector is through with the
    row group before. `issue` is combinational; all conditions but ``step_valid`` come from registers.

    A product whose data was answered by an AXI error goes on to its end; from there on its results
    are NaN. After a product that ended with a code the next one waits for `hold` to rise and fall.

    Members
    -------
    job : In(stream)
        Products (`sequence_job_layout`). ``groups`` = 0: only the completion marker.
    step_valid, step_error : In(1)
        A step is there; it contains bits of a beat in error.
    issue : Out(1)
        The step enters the lanes in this clock (the ``ready`` of the step stream).
    first, last : Out(1)
        With `issue`: first and last step of a row group. `last` also comes without `issue`, for a marker.
    place : Out
        With `issue`: where the step's columns begin in the row, in units of `Config.place_columns`: in a build of one
        codec the number of the step.
    codec : Out
        With `issue`: the number of the step's codec. Only in builds of several.
    available, count, nonfinite, activation_error, advance
        To and from `ActivationBuffer`.
    row_group : Out(valid only)
        With `last` (`row_group_layout`).
    scale_beat, freed : In(1)
        A beat of row scales arrived; a beat of results left the writer.
    hold : In(1)
        An error waits to be cleared: start no product.
    wait_steps, wait_activations, wait_collector, wait_room, idle : Out(1)
        Why nothing is issued in this clock: exactly one of these or `issue` is set.
    """

    def __init__(self, *, config: Config, place_bits: int):
        self.config = config
        super().__init__(
            ({"codec": Out(clog2(len(config.codecs)))} if config.more else {})
            | {
                "job": In(stream.Signature(sequence_job_layout(config))),
                "step_valid": In(1),
                "step_error": In(1),
                "issue": Out(1),
                "first": Out(1),
                "last": Out(1),
                "place": Out(place_bits),
                "available": In(1),
                "count": In(range(config.max_groups + 1)),
                "nonfinite": In(1),
                "activation_error": In(1),
                "advance": Out(1),
                "row_group": Out(wiring.Signature({"payload": Out(row_group_layout(config)), "valid": Out(1)})),
                "scale_beat": In(1),
                "freed": In(1),
                "hold": In(1),
                "wait_steps": Out(1),
                "wait_activations": Out(1),
                "wait_collector": Out(1),
                "wait_room": Out(1),
                "idle": Out(1),
            }
        )

    @property
    def spacing(self) -> int:
        """Smallest distance in clocks between two last steps: a row group is collected row by row."""
        return max(self.config.lanes, 4)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        s = _State(self)
        self._reserve(m, s)
        self._issue(m, s)
        self._code(m, s)
        self._next_product(m, s)
        self._explain(m, s)
        return m

    def _reserve(self, m: Module, s: _State) -> None:
        """Room for results, row scales and the collector: what the last step of a row group needs."""
        config = self.config
        per_beat = config.results_per_beat
        # In binary32 values: a partial beat at the end of a product counts whole.
        need = Signal(range(config.lanes + per_beat + 1))
        m.d.comb += need.eq(Mux(s.final, s.tail_need, config.lanes))
        capacity = config.result_fifo_beats * per_beat
        room = Signal(range(capacity + per_beat + 1), init=capacity)
        scales = Signal(range(config.scale_fifo_beats * per_beat + 2 * per_beat + 1))
        spacing = Signal(range(self.spacing))
        # What is reserved in a clock is missing from `room` two clocks later and is seen in `room_there` three clocks
        # later, which `spacing` covers. One addition per clock.
        taken = Mux(s.reserve, need, 0)
        change = register(m, Mux(self.freed, per_beat, 0) - taken, "room_change", reset_less=False)
        m.d.sync += [room.eq(room + change), s.room_there.eq(room >= need), s.scales_there.eq(1)]
        if config.row_scales:
            needed, used = Const(1, 1), taken
            if config.mixes_scales:
                needed, used = s.row_scales, Mux(s.row_scales, taken, 0)
            change = register(m, Mux(self.scale_beat, per_beat, 0) - used, "scales_change", reset_less=False)
            m.d.sync += [scales.eq(scales + change), s.scales_there.eq((scales >= need) | ~needed)]
        with m.If(self.last):
            m.d.sync += [spacing.eq(self.spacing - 1), s.collector_free.eq(0)]
        with m.Elif(~s.collector_free):
            m.d.sync += [spacing.eq(spacing - 1), s.collector_free.eq(spacing <= 1)]

    def _issue(self, m: Module, s: _State) -> None:
        """Whether the step enters the lanes, and the position after it."""
        config = self.config
        sub_bits = clog2(config.group // config.place_columns)
        step = s.stride if config.steps_vary else 1
        may_finish = Signal()
        m.d.comb += [
            may_finish.eq(~s.at_last | (s.collector_free & s.room_there & s.scales_there)),
            self.issue.eq(self.step_valid & s.active & ~s.marker & s.group_there & may_finish),
            s.reserve.eq(self.issue & s.at_last),
            self.first.eq(s.at_first),
            self.place.eq(s.place),
        ]
        moves = self.issue & ~s.in_header if config.has_headers else self.issue
        m.d.sync += s.group_there.eq(Mux(moves, s.following[sub_bits:], s.place[sub_bits:]) < self.count)
        m.d.comb += s.end.eq((self.issue & s.at_last & s.final) | (s.active & s.marker & s.collector_free))
        m.d.comb += self.last.eq((self.issue & s.at_last) | (s.active & s.marker & s.collector_free))
        with m.If(moves):
            m.d.sync += [
                s.place.eq(s.following),
                s.at_last.eq(s.following == s.last_place),
                s.following.eq(Mux(s.following == s.last_place, 0, s.following + step)),
            ]
        if config.has_headers:
            self._headers(m, s)
        with m.If(self.issue):
            m.d.sync += s.at_first.eq(s.at_last)
            with m.If(s.at_last):
                m.d.sync += [s.groups_left.eq(s.groups_left - 1), s.final.eq(s.groups_left == 2)]

    def _headers(self, m: Module, s: _State) -> None:
        """The steps in front of a chunk: they bring no weights, and the place stays."""
        places = max(codec.chunk for codec in self.config.codecs) // self.config.place_columns
        with m.If(self.issue & s.in_header):
            m.d.sync += s.header_left.eq(s.header_left - 1)
            with m.If(s.header_left == 1):
                m.d.sync += [s.in_header.eq(0), s.at_last.eq(s.place == s.last_place)]
        with m.Elif(self.issue & (s.following[: clog2(places)] == 0) & (s.headers != 0)):
            m.d.sync += [s.in_header.eq(1), s.header_left.eq(s.headers), s.at_last.eq(0)]

    def _code(self, m: Module, s: _State) -> None:
        """The product's error: what was met first stays. What the collector must know of the row group."""
        m.d.comb += s.code_now.eq(s.code)
        with m.If(s.code == 0):
            with m.If(self.issue & self.step_error):
                m.d.comb += s.code_now.eq(ErrorCode.READ_WEIGHTS)
            with m.Elif(s.active & ~s.marker & self.activation_error):
                m.d.comb += s.code_now.eq(ErrorCode.READ_ACTIVATIONS)
            with m.Elif(s.active & ~s.marker & self.nonfinite):
                m.d.comb += s.code_now.eq(ErrorCode.NONFINITE)
        m.d.sync += s.code.eq(s.code_now)
        m.d.comb += [
            self.row_group.valid.eq(self.last),
            self.row_group.payload.rows.eq(Mux(s.marker, 0, Mux(s.final, s.tail_rows, self.config.lanes))),
            self.row_group.payload.end.eq(s.end),
            self.row_group.payload.nan.eq(s.code_now != 0),
            self.row_group.payload.code.eq(s.code_now),
        ]

    def _next_product(self, m: Module, s: _State) -> None:
        """The next product starts when the one before has ended, well or with its error cleared."""
        failed = Signal()
        held = Signal()
        m.d.sync += held.eq(self.hold)
        with m.If(s.end & (s.code_now != 0)):
            m.d.sync += failed.eq(1)  # until the error has been reported and cleared
        with m.Elif(held & ~self.hold):
            m.d.sync += failed.eq(0)
        job = self.job.payload
        m.d.comb += [
            s.may_start.eq(~s.active & ~failed & ~self.hold),
            s.start.eq(s.may_start & self.job.valid & (job.same | (job.groups == 0) | self.available)),
            self.job.ready.eq(s.start),
            self.advance.eq(s.start & ~job.same & (job.groups != 0)),
        ]
        single = job.last_place == 0 if self.config.steps_vary else job.blocks == 1  # of steps with weights
        with m.If(s.end):
            m.d.sync += s.active.eq(0)
        with m.If(s.start):
            m.d.sync += [
                s.active.eq(1),
                s.marker.eq(job.groups == 0),
                s.last_place.eq(job.last_place if self.config.steps_vary else job.blocks - 1),
                s.groups_left.eq(job.groups),
                s.final.eq(job.groups == 1),
                s.tail_rows.eq(job.tail_rows),
                s.tail_need.eq(job.tail_rows + job.pad),
                s.code.eq(job.code),
                s.place.eq(0),
                s.following.eq(Mux(single, 0, job.stride if self.config.steps_vary else 1)),
                s.at_first.eq(1),
                s.at_last.eq(single),
                s.group_there.eq(0),
            ]
            if self.config.steps_vary:
                m.d.sync += s.stride.eq(job.stride)
            if self.config.mixes_scales:
                m.d.sync += s.row_scales.eq(job.row_scales)
            if self.config.has_headers:
                m.d.sync += [
                    s.headers.eq(job.headers), s.in_header.eq(job.headers != 0), s.header_left.eq(job.headers),
                    s.at_last.eq(single & (job.headers == 0)),
                ]  # fmt: skip
            if self.config.more:
                m.d.sync += self.codec.eq(job.codec)

    def _explain(self, m: Module, s: _State) -> None:
        """Why nothing is issued."""
        stuck = Signal()
        waits = self.wait_activations, self.wait_steps, self.wait_collector
        m.d.comb += [
            stuck.eq(s.active & ~self.issue),
            self.wait_activations.eq((stuck & ~s.marker & ~s.group_there) | (s.may_start & self.job.valid & ~s.start)),
            self.wait_steps.eq(
                stuck & ~s.marker & s.group_there & (~self.step_valid | (s.at_last & ~s.scales_there))
            ),
            self.wait_collector.eq(stuck & ~waits[0] & ~waits[1] & ~s.collector_free),
            self.wait_room.eq(stuck & ~waits[0] & ~waits[1] & ~waits[2]),
            self.idle.eq(~s.active & ~self.wait_activations),
        ]
