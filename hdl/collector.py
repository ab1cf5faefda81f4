"""Collector: takes the finished sums of a row group from the lanes, one row per clock, and adds the scale."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from seedlm.golden.build import Config, clog2
from seedlm.hdl.delay import delay, register
from seedlm.hdl.layouts import CODE_BITS, beat_layout, rounding_layout, scale_job_layout, valid_only
from seedlm.hdl.mac import MacArray
from seedlm.hdl.registers import ErrorCode
from seedlm.hdl.sequencer import row_group_layout
from seedlm.hdl.shifter import choose

__all__ = ["Collector", "tag_layout"]


def tag_layout() -> data.StructLayout:
    """What travels beside a sum through the rounding unit (`result_layout` without the data)."""
    return data.StructLayout({"write": 1, "last": 1, "code": CODE_BITS})


class Collector(wiring.Component):
    """Row sums, lane by lane, with their scales.

    `finish` comes one clock before lane 0's segment 0 is complete; in the clocks after it the
    collector samples lane 0, 1, ... as the systolic array completes them (segment k of each k
    clocks later) through a tree of four-input multiplexers, and puts the segments side by side.

    Latency from `finish` to lane 0's sum in `o` is `latency` clocks, throughput one row per clock;
    two `finish` are at least as many clocks apart as there are lanes. No flow control.

    Parameters
    ----------
    config : Config
    array : MacArray
        Whose segments it puts together.
    in_flight : int
        Row groups that may be on their way through the array.

    Members
    -------
    row_group : In(valid only)
        In the order of `finish`, earlier by less than the array's latency (`row_group_layout`).
    finish : In(1)
    accumulators : In(lanes x acc_bits)
        From `MacArray`.
    scale : In(stream)
        One per product (`scale_job_layout`); taken at its end.
    scales : In(stream)
        Beats of row scales, in builds that have them; the sequencer saw to it that they are there.
    o : Out(valid only)
        To `Fp32Rounding` (`rounding_layout`, tag: `tag_layout`).
    busy : Out(1)
        A row group is on its way through.
    """

    def __init__(self, *, config: Config, array: MacArray, in_flight: int) -> None:
        self.config = config
        self._segments = [array.segment(k) for k in range(config.acc_segments)]
        self._in_flight = in_flight
        members = {
            "row_group": In(valid_only(row_group_layout(config))),
            "finish": In(1),
            "accumulators": In(data.ArrayLayout(config.acc_bits, config.lanes)),
            "scale": In(stream.Signature(scale_job_layout(config))),
            "o": Out(valid_only(rounding_layout(config, tag_layout().size))),
            "busy": Out(1),
        }
        if config.row_scales:
            members["scales"] = In(stream.Signature(beat_layout(config)))
        super().__init__(members)

    @property
    def _levels(self) -> int:
        return max(1, -(-clog2(self.config.lanes) // 2))

    @property
    def _depth(self) -> int:
        """Clocks from a row's number to its whole sum."""
        return self._levels + self.config.acc_segments - 1

    @property
    def latency(self) -> int:
        return 1 + self._depth + 1

    def elaborate(self, platform: object) -> Module:
        m = Module()
        row, active, tag, nan, waiting = self._count_rows(m)
        total = self._sums(m, row)

        # The scale is chosen beside the last two stages.
        early = self._depth - 2
        valid = delay(m, active, early, "valid", reset_less=False)
        tag_value, nan_value = delay(m, tag, early, "tag"), delay(m, nan, early, "nan")
        scale, scale_error = self._scale(m, valid, tag_value)
        valid = delay(m, valid, 2, "valid_scaled", reset_less=False)
        nan_value = delay(m, nan_value, 2, "nan_scaled")
        tag_late = data.View(tag_layout(), delay(m, tag_value, 2, "tag_scaled"))

        # Stage depth + 2: to the rounding unit.
        o_valid = Signal()
        m.d.sync += [
            o_valid.eq(valid),
            self.o.payload.acc.eq(total.as_signed()),
            self.o.payload.scale.eq(scale),
            self.o.payload.nan.eq(nan_value | scale_error),
        ]
        out = Signal(tag_layout(), reset_less=True)
        code = Mux((tag_late.code == 0) & scale_error, ErrorCode.READ_SCALES, tag_late.code)
        m.d.sync += [out.write.eq(tag_late.write), out.last.eq(tag_late.last), out.code.eq(code)]
        m.d.comb += [self.o.valid.eq(o_valid), self.o.payload.tag.eq(out)]
        m.d.comb += self.busy.eq(active | waiting)
        return m

    def _count_rows(self, m: Module) -> tuple[Signal, Signal, data.View, Signal, Value]:
        """Stage 1: number of the row in its group, whether there is one, its tag, whether it is to be NaN; and whether
        row groups are waiting."""
        layout = row_group_layout(self.config)
        m.submodules.row_groups = groups = SyncFIFOBuffered(width=layout.size, depth=self._in_flight)
        head = data.View(layout, groups.r_data)
        m.d.comb += [
            groups.w_en.eq(self.row_group.valid),
            groups.w_data.eq(self.row_group.payload),
            groups.r_en.eq(self.finish),
        ]
        row = Signal(range(max(2, self.config.lanes)), reset_less=True)
        left = Signal(range(self.config.lanes + 1))
        marker = Signal()
        active = Signal()
        end = Signal(reset_less=True)
        nan = Signal(reset_less=True)
        code = Signal(CODE_BITS, reset_less=True)
        with m.If(self.finish):
            m.d.sync += [
                row.eq(0),
                left.eq(head.rows),
                active.eq(1),
                marker.eq(head.rows == 0),
                end.eq(head.end),
                nan.eq(head.nan),
                code.eq(head.code),
            ]
        with m.Else():
            m.d.sync += [row.eq(row + 1), marker.eq(0)]
            with m.If(active):
                m.d.sync += [left.eq(left - 1), active.eq(left > 1)]
        tag = Signal(tag_layout())
        m.d.comb += [tag.write.eq(~marker), tag.last.eq(end & (left <= 1)), tag.code.eq(code)]
        return row, active, tag, nan, groups.r_rdy

    def _sums(self, m: Module, row: Value) -> Value:
        """Stages 2 to depth + 1: the multiplexer trees, each segment in its own time, then side by side."""
        parts = []
        for k, cut in enumerate(self._segments):
            lanes = [self.accumulators[i][cut] for i in range(self.config.lanes)]
            picked = self._select(m, lanes, delay(m, row, k, f"row_k{k}"), f"segment{k}")
            parts.append(delay(m, picked, len(self._segments) - 1 - k, f"segment{k}"))
        return Cat(parts)

    def _select(self, m: Module, items: list[Value], index: Value, name: str) -> Value:
        """`items[index]`, four to one per stage."""
        for level in range(self._levels):
            bits = index[:2]
            items = [
                register(m, choose(bits, items[n : n + 4]), f"{name}_l{level + 1}_{n // 4}")
                for n in range(0, len(items), 4)
            ]
            if level + 1 < self._levels:
                index = register(m, index[2:], f"{name}_index{level + 1}")
        return items[0]

    def _scale(self, m: Module, valid: Value, tag: Value) -> tuple[Value, Value]:
        """Scale of the row and whether it was answered by an error (sticky), two clocks after `valid`."""
        tag = data.View(tag_layout(), tag)
        m.d.comb += self.scale.ready.eq(valid & tag.last)
        if not self.config.row_scales:
            return delay(m, self.scale.payload.scale, 2, "scale"), 0
        per_beat, mixed = self.config.results_per_beat, self.config.mixes_scales
        index = Signal(range(per_beat))
        failed = Signal()
        beat = self.scales.payload
        used = Signal()
        error = Signal()
        m.d.comb += [
            used.eq(valid & tag.write & (self.scale.payload.row_scales if mixed else 1)),
            self.scales.ready.eq(used & (tag.last | (index == per_beat - 1))),
            error.eq(failed | (used & beat.error)),
        ]
        with m.If(valid):
            m.d.sync += [
                index.eq(Mux(tag.last, 0, index + tag.write)),
                failed.eq(error & ~tag.last),
            ]
        words = [beat.data[32 * n : 32 * n + 32] for n in range(per_beat)]
        near = [register(m, choose(index[:2], words[n : n + 4]), f"scale{n // 4}") for n in range(0, per_beat, 4)]
        far = register(m, index[2:], "scale_index")
        scale = choose(far, near)
        if mixed:
            own = register(m, self.scale.payload.row_scales, "own_scales")
            scale = Mux(own, scale, register(m, self.scale.payload.scale, "common_scale"))
        return register(m, scale, "scale"), delay(m, error, 2, "scale_error")
