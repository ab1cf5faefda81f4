"""From the descriptor of a product to the jobs of the parts that work on it."""

from __future__ import annotations

import math

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from seedlm.golden.build import Config, clog2
from seedlm.hdl.layouts import (
    BEAT_COUNT_BITS,
    CODE_BITS,
    STEP_COUNT_BITS,
    cols_bits,
    convert_job_layout,
    descriptor_layout,
    gearbox_job_layout,
    read_job_layout,
    scale_job_layout,
    sequence_job_layout,
    writer_job_layout,
)
from seedlm.hdl.registers import ErrorCode
from seedlm.hdl.serial_arithmetic import ConstantDivider, SerialMultiplier

__all__ = ["Planner", "RegionCheck"]

PAGE_BITS = 12  # regions start at 4 KiB boundaries


class RegionCheck(wiring.Component):
    """Does a region start at a 4 KiB boundary and end inside the address space?

    Latency 4 clocks, throughput one region per clock.

    Parameters
    ----------
    config : Config

    Members
    -------
    start : in
        Takes `address` and `beats` (at least 1).
    bad : out
        The region that was taken 4 clocks ago is not as it should be.
    busy : out
        A region taken earlier has not been judged before this clock.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__({
            "start": In(1),
            "address": In(config.addr_bits),
            "beats": In(BEAT_COUNT_BITS),
            "bad": Out(1),
            "busy": Out(1),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        valid = Signal(4)
        m.d.sync += valid.eq(Cat(self.start, valid))
        m.d.comb += self.busy.eq(valid.any())

        # 1: take, 2: number of the last beat.
        address = Signal(config.addr_bits, reset_less=True)
        beats = Signal(BEAT_COUNT_BITS, reset_less=True)
        page = Signal(config.addr_bits - PAGE_BITS, reset_less=True)
        last = Signal(BEAT_COUNT_BITS, reset_less=True)
        unaligned = Signal(reset_less=True)
        m.d.sync += [
            address.eq(self.address),
            beats.eq(self.beats),
            page.eq(address[PAGE_BITS:]),
            unaligned.eq(address[:PAGE_BITS].any()),
            last.eq(beats - 1),
        ]
        # 3: the page of the last beat. It lies inside if the sum does not carry out of the page number: the low
        # part is added, the high part only lets a carry pass.
        pages = last[clog2((1 << PAGE_BITS) // config.beat_bytes) :]
        width = min(len(page), len(pages))
        total = Signal(width + 1)
        m.d.comb += total.eq(page[:width] + pages[:width])
        carry = Signal(reset_less=True)
        passes = Signal(reset_less=True)
        excess = Signal(reset_less=True)
        unaligned3 = Signal(reset_less=True)
        m.d.sync += [
            carry.eq(total[-1]),
            passes.eq(page[width:].all() if width < len(page) else 1),
            excess.eq(pages[width:].any()),
            unaligned3.eq(unaligned),
        ]
        # 4
        judged = Signal(reset_less=True)
        m.d.sync += judged.eq(unaligned3 | excess | (carry & passes))
        m.d.comb += self.bad.eq(judged & valid[3])
        return m


class Planner(wiring.Component):
    """Checks a descriptor, works out all counts of the product and hands out its jobs.

    A descriptor is refused (code DESCRIPTOR) if it is marked `bad`, rows or columns are 0 or beyond the build's limits,
    a region that the product uses does not start at a 4 KiB boundary or leaves the address space, there are 2**32 steps
    or beats or more, the scale is NaN or infinite (codecs without row scales), or `same` is set and the last
    descriptor without it was refused, had other columns, or is not there since reset.

    All jobs of a product are offered at once, each until it is taken; the next descriptor is looked at when all are. A
    refused one gives only `sequence` (no groups), `write` (no rows) and `scale`; a product with `same` gives no
    `activation_read` and no `convert`; without row scales there is never a `scale_read`.

    Latency in clocks: about 16, plus the bits of the block count, of the odd part of the ratio of step to beat, and of
    the wider dividend where C or the lanes are not a power of two: 30 for ``seedlm4``, 61 at most. One product at a
    time.

    Parameters
    ----------
    config : Config

    Members
    -------
    descriptor : stream, in
        ``descriptor_layout``.
    activation_read, weight_read, scale_read : streams, out
        ``read_job_layout``.
    convert : stream, out
        ``convert_job_layout``.
    gearbox : stream, out
        ``gearbox_job_layout``.
    sequence : stream, out
        ``sequence_job_layout``.
    write : stream, out
        ``writer_job_layout``.
    scale : stream, out
        ``scale_job_layout``.
    busy : out
        A product is being planned or some of its jobs are not taken yet.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        read = stream.Signature(read_job_layout(config))
        super().__init__({
            "descriptor": In(stream.Signature(descriptor_layout(config))),
            "activation_read": Out(read),
            "weight_read": Out(read),
            "scale_read": Out(read),
            "convert": Out(stream.Signature(convert_job_layout(config))),
            "gearbox": Out(stream.Signature(gearbox_job_layout(config))),
            "sequence": Out(stream.Signature(sequence_job_layout(config))),
            "write": Out(stream.Signature(writer_job_layout(config))),
            "scale": Out(stream.Signature(scale_job_layout(config))),
            "busy": Out(1),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        codec = config.codec
        d = Signal(descriptor_layout(config), reset_less=True)
        bad = Signal(reset_less=True)
        start_ratio = Signal()  # made by the state machine at the end

        # Blocks and row groups: ceil(n / k) = (n + k - 1) // k; the remainder says how many rows the last group has.
        row_sum = Signal(range(config.max_rows + config.lanes), reset_less=True)
        col_sum = Signal(range(config.max_cols + codec.step_columns), reset_less=True)
        m.submodules.row_divider = row_divider = ConstantDivider(width=len(row_sum), divisor=config.lanes)
        m.submodules.col_divider = col_divider = ConstantDivider(width=len(col_sum), divisor=codec.step_columns)
        m.d.comb += [row_divider.dividend.eq(row_sum), col_divider.dividend.eq(col_sum)]
        groups, blocks = row_divider.quotient, col_divider.quotient

        # Steps = groups * blocks. Those of a product that is not refused have STEP_COUNT_BITS bits.
        m.submodules.step_product = step_product = SerialMultiplier(a_width=len(groups), b_width=len(blocks))
        m.d.comb += [step_product.a.eq(groups), step_product.b.eq(blocks)]
        steps = Signal(STEP_COUNT_BITS, reset_less=True)

        # Beats of the image = ceil(steps * odd * 2**up / 2**down), one of up and down being 0.
        unit = math.gcd(config.step_bits, config.bus_bits)
        ratio, down = config.step_bits // unit, clog2(config.bus_bits // unit)
        up = (ratio & -ratio).bit_length() - 1
        odd = ratio >> up
        if odd == 1:
            product, product_busy = steps, Const(0, 1)
        else:
            m.submodules.beat_product = beat_product = SerialMultiplier(a_width=len(steps), b_width=odd.bit_length())
            m.d.comb += [beat_product.a.eq(steps), beat_product.b.eq(odd), beat_product.start.eq(start_ratio)]
            product, product_busy = beat_product.product, beat_product.busy
        whole, part = Cat(Const(0, up), product[down:]), product[:down]
        # Rounding up may carry out of the count.
        image_beats = Signal(BEAT_COUNT_BITS, reset_less=True)
        carry = Signal(reset_less=True)
        excess = Signal(reset_less=True)
        too_many = Signal()
        m.d.sync += [
            Cat(image_beats, carry).eq(whole[:BEAT_COUNT_BITS] + part.any()),
            excess.eq(whole[BEAT_COUNT_BITS:].any()),
        ]
        m.d.comb += too_many.eq(carry | excess)

        # The other regions have a power of two of elements in a beat.
        activation_beats = Signal(range(config.activation_beats(config.max_cols) + 1), reset_less=True)
        result_beats = Signal(range(config.result_beats(config.max_rows) + 1), reset_less=True)
        m.d.sync += [
            activation_beats.eq((d.cols + (config.activations_per_beat - 1)) >> clog2(config.activations_per_beat)),
            result_beats.eq((d.rows + (config.results_per_beat - 1)) >> clog2(config.results_per_beat)),
        ]

        loaded = Signal()
        loaded_cols = Signal(cols_bits(config), reset_less=True)

        # The regions, looked at one after the other.
        regions = [
            (d.weights, image_beats, 1),
            (d.activations, activation_beats, ~d.same),
            (d.results, result_beats, 1),
            *([(d.scales, result_beats, 1)] if codec.row_scales else []),
        ]
        region = Signal(range(len(regions) + 1))
        m.submodules.check = check = RegionCheck(config)

        # What the jobs say; the rest comes from registers that do not change before the next descriptor.
        job_groups = Signal(range(config.row_groups(config.max_rows) + 1), reset_less=True)
        tail_rows = Signal(range(config.lanes + 1), reset_less=True)
        job_pad = Signal(clog2(config.results_per_beat), reset_less=True)
        code = Signal(CODE_BITS, reset_less=True)
        m.d.comb += [
            self.activation_read.payload.address.eq(d.activations),
            self.activation_read.payload.beats.eq(activation_beats),
            self.weight_read.payload.address.eq(d.weights),
            self.weight_read.payload.beats.eq(image_beats),
            self.scale_read.payload.address.eq(d.scales),
            self.scale_read.payload.beats.eq(result_beats),
            self.convert.payload.cols.eq(d.cols),
            self.gearbox.payload.steps.eq(steps),
            self.sequence.payload.blocks.eq(blocks),
            self.sequence.payload.groups.eq(job_groups),
            self.sequence.payload.tail_rows.eq(tail_rows),
            self.sequence.payload.pad.eq(job_pad),
            self.sequence.payload.same.eq(d.same),
            self.sequence.payload.code.eq(code),
            self.write.payload.address.eq(d.results),
            self.write.payload.rows.eq(d.rows),
            self.write.payload.code.eq(code),
            self.scale.payload.scale.eq(d.scale),
        ]

        # The jobs that are still to be taken, and those of a product that is not refused.
        always = [self.sequence, self.write, self.scale]
        good = {
            self.weight_read: Const(1, 1),
            self.gearbox: Const(1, 1),
            self.activation_read: ~d.same,
            self.convert: ~d.same,
            self.scale_read: Const(int(codec.row_scales), 1),
        }
        outputs = [*always, *good]
        pending = Signal(len(outputs))
        for n, output in enumerate(outputs):
            m.d.comb += output.valid.eq(pending[n])
            with m.If(output.ready):
                m.d.sync += pending[n].eq(0)

        with m.FSM() as fsm:
            m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))
            with m.State("IDLE"):
                m.d.comb += self.descriptor.ready.eq(1)
                m.d.sync += [d.eq(self.descriptor.payload), bad.eq(self.descriptor.payload.bad), region.eq(0)]
                with m.If(self.descriptor.valid):
                    m.next = "RANGE"

            with m.State("RANGE"):
                m.d.sync += [row_sum.eq(d.rows + (config.lanes - 1)), col_sum.eq(d.cols + (codec.step_columns - 1))]
                with m.If((d.rows == 0) | (d.rows > config.max_rows)):
                    m.d.sync += bad.eq(1)
                m.next = "DIVIDE"

            with m.State("DIVIDE"):
                m.d.comb += [row_divider.start.eq(1), col_divider.start.eq(1)]
                with m.If((d.cols == 0) | (d.cols > config.max_cols)):
                    m.d.sync += bad.eq(1)
                m.next = "MULTIPLY"

            with m.State("MULTIPLY"):
                with m.If(~row_divider.busy & ~col_divider.busy):
                    m.d.comb += step_product.start.eq(1)
                    with m.If(d.same & (~loaded | (d.cols != loaded_cols))):
                        m.d.sync += bad.eq(1)
                    m.next = "STEPS"

            with m.State("STEPS"):
                with m.If(~step_product.busy):
                    m.d.sync += steps.eq(step_product.product)
                    with m.If(step_product.product[STEP_COUNT_BITS:].any()):
                        m.d.sync += bad.eq(1)
                    m.next = "RATIO"

            with m.State("RATIO"):
                m.d.comb += start_ratio.eq(1)
                if not codec.row_scales:
                    with m.If(d.scale[23:31].all()):
                        m.d.sync += bad.eq(1)
                m.next = "BEATS"

            with m.State("BEATS"):
                with m.If(~product_busy):
                    m.next = "ROUND"

            with m.State("ROUND"):
                with m.If(too_many):
                    m.d.sync += bad.eq(1)
                m.next = "CHECK"

            with m.State("CHECK"):
                with m.Switch(region):
                    for n, (address, beats, used) in enumerate(regions):
                        with m.Case(n):
                            m.d.comb += [check.address.eq(address), check.beats.eq(beats), check.start.eq(used)]
                            m.d.sync += region.eq(n + 1)
                    with m.Default():
                        with m.If(~check.busy):
                            m.next = "DECIDE"
                with m.If(check.bad):
                    m.d.sync += bad.eq(1)

            with m.State("DECIDE"):
                m.d.sync += [
                    tail_rows.eq(row_divider.remainder + 1),
                    job_pad.eq(-d.rows),
                    pending.eq(Cat(Const(~0, len(always)), *(wanted & ~bad for wanted in good.values()))),
                ]
                with m.If(bad):
                    m.d.sync += [job_groups.eq(0), d.rows.eq(0), d.same.eq(0), code.eq(ErrorCode.DESCRIPTOR)]
                with m.Else():
                    m.d.sync += [job_groups.eq(groups), code.eq(ErrorCode.NONE)]
                with m.If(~d.same):
                    m.d.sync += [loaded.eq(~bad), loaded_cols.eq(d.cols)]
                m.next = "EMIT"

            with m.State("EMIT"):
                with m.If(~pending.any()):
                    m.next = "IDLE"
        return m
