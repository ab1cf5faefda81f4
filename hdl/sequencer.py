"""Sequencer: decides in every clock whether a step enters the lanes."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
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
    step : Out
        With `issue`: number of the step in its row.
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

    def __init__(self, *, config: Config, step_bits: int):
        self.config = config
        super().__init__(
            {
                "job": In(stream.Signature(sequence_job_layout(config))),
                "step_valid": In(1),
                "step_error": In(1),
                "issue": Out(1),
                "first": Out(1),
                "last": Out(1),
                "step": Out(step_bits),
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

    def elaborate(self, platform):
        m = Module()
        config = self.config
        per_beat = config.results_per_beat
        sub_bits = clog2(config.codec.steps_per_group)

        # --- the product being worked on ---
        active = Signal()
        marker = Signal()  # it has no row groups
        last_step = Signal.like(self.step)
        groups_left = Signal.like(self.job.payload.groups)
        tail_rows = Signal.like(self.job.payload.tail_rows)
        tail_need = Signal(range(config.lanes + per_beat + 1))
        code = Signal(CODE_BITS)
        final = Signal()  # its last row group

        # --- position in the row group; the step after this one is known, so that comparisons are registered ---
        step, following = Signal.like(self.step), Signal.like(self.step)
        at_first = Signal()
        at_last = Signal()
        group_there = Signal()

        # --- reservations, in binary32 values: a partial beat at the end of a product counts whole ---
        need = Signal(range(config.lanes + per_beat + 1))
        m.d.comb += need.eq(Mux(final, tail_need, config.lanes))
        capacity = config.result_fifo_beats * per_beat
        room = Signal(range(capacity + per_beat + 1), init=capacity)
        scales = Signal(range(config.scale_fifo_beats * per_beat + 2 * per_beat + 1))
        spacing = Signal(range(self.spacing))
        room_there = Signal()
        scales_there = Signal()
        collector_free = Signal()
        reserve = Signal()
        # What is reserved in a clock is missing from `room` two clocks later and is seen in `room_there` three clocks
        # later, which `spacing` covers. One addition per clock.
        taken = Mux(reserve, need, 0)
        change = register(m, Mux(self.freed, per_beat, 0) - taken, "room_change", reset_less=False)
        m.d.sync += [room.eq(room + change), room_there.eq(room >= need), scales_there.eq(1)]
        if config.codec.row_scales:
            change = register(m, Mux(self.scale_beat, per_beat, 0) - taken, "scales_change", reset_less=False)
            m.d.sync += [scales.eq(scales + change), scales_there.eq(scales >= need)]
        with m.If(self.last):
            m.d.sync += [spacing.eq(self.spacing - 1), collector_free.eq(0)]
        with m.Elif(~collector_free):
            m.d.sync += [spacing.eq(spacing - 1), collector_free.eq(spacing <= 1)]

        # --- issue ---
        may_finish = Signal()
        m.d.comb += [
            may_finish.eq(~at_last | (collector_free & room_there & scales_there)),
            self.issue.eq(self.step_valid & active & ~marker & group_there & may_finish),
            reserve.eq(self.issue & at_last),
            self.first.eq(at_first),
            self.step.eq(step),
        ]
        m.d.sync += group_there.eq(Mux(self.issue, following[sub_bits:], step[sub_bits:]) < self.count)
        end = Signal()
        m.d.comb += end.eq((self.issue & at_last & final) | (active & marker & collector_free))
        m.d.comb += self.last.eq((self.issue & at_last) | (active & marker & collector_free))
        with m.If(self.issue):
            m.d.sync += [
                step.eq(following),
                at_first.eq(at_last),
                at_last.eq(following == last_step),
                following.eq(Mux(following == last_step, 0, following + 1)),
            ]
            with m.If(at_last):
                m.d.sync += [groups_left.eq(groups_left - 1), final.eq(groups_left == 2)]

        # --- errors: what was met first stays ---
        code_now = Signal(CODE_BITS)
        m.d.comb += code_now.eq(code)
        with m.If(code == 0):
            with m.If(self.issue & self.step_error):
                m.d.comb += code_now.eq(ErrorCode.READ_WEIGHTS)
            with m.Elif(active & ~marker & self.activation_error):
                m.d.comb += code_now.eq(ErrorCode.READ_ACTIVATIONS)
            with m.Elif(active & ~marker & self.nonfinite):
                m.d.comb += code_now.eq(ErrorCode.NONFINITE)
        m.d.sync += code.eq(code_now)
        m.d.comb += [
            self.row_group.valid.eq(self.last),
            self.row_group.payload.rows.eq(Mux(marker, 0, Mux(final, tail_rows, config.lanes))),
            self.row_group.payload.end.eq(end),
            self.row_group.payload.nan.eq(code_now != 0),
            self.row_group.payload.code.eq(code_now),
        ]

        # --- the next product ---
        failed = Signal()
        held = Signal()
        m.d.sync += held.eq(self.hold)
        with m.If(end & (code_now != 0)):
            m.d.sync += failed.eq(1)  # until the error has been reported and cleared
        with m.Elif(held & ~self.hold):
            m.d.sync += failed.eq(0)
        start = Signal()
        may_start = Signal()
        job = self.job.payload
        m.d.comb += [
            may_start.eq(~active & ~failed & ~self.hold),
            start.eq(may_start & self.job.valid & (job.same | (job.groups == 0) | self.available)),
            self.job.ready.eq(start),
            self.advance.eq(start & ~job.same & (job.groups != 0)),
        ]
        with m.If(end):
            m.d.sync += active.eq(0)
        with m.If(start):
            m.d.sync += [
                active.eq(1),
                marker.eq(job.groups == 0),
                last_step.eq(job.blocks - 1),
                groups_left.eq(job.groups),
                final.eq(job.groups == 1),
                tail_rows.eq(job.tail_rows),
                tail_need.eq(job.tail_rows + job.pad),
                code.eq(job.code),
                step.eq(0),
                following.eq(job.blocks != 1),
                at_first.eq(1),
                at_last.eq(job.blocks == 1),
                group_there.eq(0),
            ]

        # --- why not ---
        stuck = Signal()
        m.d.comb += [
            stuck.eq(active & ~self.issue),
            self.wait_activations.eq((stuck & ~marker & ~group_there) | (may_start & self.job.valid & ~start)),
            self.wait_steps.eq(stuck & ~marker & group_there & (~self.step_valid | (at_last & ~scales_there))),
            self.wait_collector.eq(stuck & ~self.wait_activations & ~self.wait_steps & ~collector_free),
            self.wait_room.eq(stuck & ~self.wait_activations & ~self.wait_steps & ~self.wait_collector),
            self.idle.eq(~active & ~self.wait_activations),
        ]
        return m
