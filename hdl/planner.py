"""From the descriptor of a product to the jobs of the parts that work on it."""

from __future__ import annotations

import math

from amaranth.hdl import Cat, Const, Module, Signal, Value, ValueLike
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from seedlm.golden.build import Config, clog2
from seedlm.golden.codecs import Codec
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
        A region taken earlier has not been decided before this clock.
    """

    def __init__(self, *, config: Config) -> None:
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
        decided = Signal(reset_less=True)
        m.d.sync += decided.eq(unaligned3 | excess | (carry & passes))
        m.d.comb += self.bad.eq(decided & valid[3])
        return m


class _Product:
    """The product being planned: what the stages of the planner share."""

    def __init__(self, config: Config) -> None:
        self.descriptor = Signal(descriptor_layout(config), name="d", reset_less=True)
        self.bad = Signal(reset_less=True)  # it is refused
        self.row_sum = Signal(range(config.max_rows + config.lanes), reset_less=True)
        self.row_divider = ConstantDivider(width=len(self.row_sum), divisor=config.lanes)
        self.groups = self.row_divider.quotient
        self.col_sum = Signal(range(config.max_cols + config.columns), reset_less=True)
        self.blocks: Value  # steps of a row
        self.col_busy: Value = Const(0, 1)
        self.row_scales: Value = Const(int(config.row_scales), 1)  # the product has them
        # Of the table of codecs.
        self.col_pad: Signal  # what makes the division round up
        self.chunk_sum: Signal  # columns and what makes that by a chunk round up
        self.known: Signal  # there is a codec of that number
        self.ratio: Value  # steps to beats
        self.last_place: Value = Const(0, 0)  # of a row
        self.step_product: SerialMultiplier
        self.steps = Signal(STEP_COUNT_BITS, reset_less=True)
        self.divide = Signal()
        self.start_ratio = Signal()
        self.ratio_busy: Value = Const(0, 1)
        self.image_beats = Signal(BEAT_COUNT_BITS, reset_less=True)
        self.too_many = Signal()
        self.activation_beats = Signal(range(config.activation_beats(config.max_cols) + 1), reset_less=True)
        self.result_beats = Signal(range(config.result_beats(config.max_rows) + 1), reset_less=True)
        self.region = Signal(range(4 + int(config.row_scales)))  # being looked at
        self.regions: list[tuple[Value, Value, ValueLike]] = []
        # The last activations that were to be loaded.
        self.loaded = Signal()
        self.loaded_cols = Signal(cols_bits(config), reset_less=True)
        # Of the jobs.
        self.job_groups = Signal(range(config.row_groups(config.max_rows) + 1), reset_less=True)
        self.tail_rows = Signal(range(config.lanes + 1), reset_less=True)
        self.job_pad = Signal(clog2(config.results_per_beat), reset_less=True)
        self.code = Signal(CODE_BITS, reset_less=True)
        self.pending: Signal  # jobs that are still to be taken
        self.wanted: Value  # all jobs of this product


class Planner(wiring.Component):
    """Checks a descriptor, works out all counts of the product and hands out its jobs.

    A descriptor is refused (code DESCRIPTOR) if it is marked `bad`, rows or columns are 0 or beyond the build's limits,
    a region that the product uses does not start at a 4 KiB boundary or leaves the address space, there are 2**32 steps
    or beats or more, the scale is NaN or infinite (codecs without row scales), the build has no codec of that number,
    or `same` is set and the last descriptor without it was refused, had other columns, or is not there since reset.

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

    def __init__(self, *, config: Config) -> None:
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
        p = _Product(self._config)
        self._row_groups_and_blocks(m, p)
        self._image_beats(m, p)
        self._other_beats(m, p)
        check = self._regions(m, p)
        self._jobs(m, p)
        self._hand_out(m, p)
        with m.FSM() as fsm:
            m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))
            self._take_and_count(m, p)
            self._check_and_decide(m, p, check)
        return m

    def _row_groups_and_blocks(self, m: Module, p: _Product) -> None:
        """ceil(n / k) = (n + k - 1) // k; the remainder says how many rows the last group has."""
        m.submodules.row_divider = p.row_divider
        m.d.comb += p.row_divider.dividend.eq(p.row_sum)
        if self._config.steps_vary:
            self._codec_table(m, p)
        else:
            columns = self._config.codec.step_columns
            m.submodules.col_divider = divider = ConstantDivider(width=len(p.col_sum), divisor=columns)
            m.d.comb += [divider.dividend.eq(p.col_sum), divider.start.eq(p.divide)]
            p.blocks, p.col_busy = divider.quotient, divider.busy
        # Steps = groups * blocks. Those of a product that is not refused have STEP_COUNT_BITS bits.
        p.step_product = SerialMultiplier(a_width=len(p.groups), b_width=len(p.blocks))
        m.submodules.step_product = p.step_product
        m.d.comb += [p.step_product.a.eq(p.groups), p.step_product.b.eq(p.blocks)]

    def _codec_table(self, m: Module, p: _Product) -> None:
        """What depends on the product's codec; steps have a power of two of columns there."""
        config = self._config
        number = p.descriptor.codec if config.more else Const(0, 1)
        unit = math.gcd(*self._step_bits())
        p.blocks = Signal(range(config.max_blocks + 1), reset_less=True)
        p.ratio = Signal(range(max(self._step_bits()) // unit + 1), reset_less=True)
        p.row_scales = Signal(reset_less=True)
        p.last_place = Signal(len(self.sequence.payload.last_place), reset_less=True)
        places = (p.descriptor.cols - 1)[clog2(config.place_columns) :]
        p.col_pad, p.known = Signal(range(config.columns)), Signal()
        p.chunk_sum = Signal(range(config.max_cols + max(codec.chunk for codec in config.codecs) + 1))
        sequence = self.sequence.payload
        with m.Switch(number):
            for n, codec in enumerate(config.codecs):
                columns, stride = codec.step_columns, codec.step_columns // config.place_columns
                with m.Case(n):
                    m.d.comb += [p.col_pad.eq(columns - 1), p.known.eq(1), sequence.stride.eq(stride)]
                    if config.has_headers:
                        m.d.comb += sequence.headers.eq(codec.header_steps)
                    if len(config.word_widths) > 1:
                        m.d.comb += self.gearbox.payload.width.eq(config.word_widths.index(codec.word_bits))
                    m.d.sync += [
                        p.blocks.eq(p.col_sum[clog2(columns) :] + self._headers(p, codec)),
                        p.ratio.eq(config.lanes * codec.word_bits // unit),
                        p.row_scales.eq(codec.row_scales),
                        p.last_place.eq(Cat(Const(0, clog2(stride)), places[clog2(stride) :])),
                    ]

    @staticmethod
    def _headers(p: _Product, codec: Codec) -> Value:
        """Steps of a row that bring no weights, `header_steps` for each chunk."""
        if not codec.header_steps:
            return Const(0, 1)
        return p.chunk_sum[clog2(codec.chunk) :] * codec.header_steps

    def _step_bits(self) -> list[int]:
        """Bits of a step in each codec, and of a beat."""
        return [self._config.lanes * codec.word_bits for codec in self._config.codecs] + [self._config.bus_bits]

    def _image_beats(self, m: Module, p: _Product) -> None:
        """Beats of the image = ceil(steps * odd * 2**up / 2**down), one of up and down being 0.

        In builds of several codecs the factor comes out of the table: ceil(steps * ratio / 2**down).
        """
        config = self._config
        if config.steps_vary:
            m.submodules.beat_product = beat_product = SerialMultiplier(a_width=len(p.steps), b_width=len(p.ratio))
            m.d.comb += [beat_product.a.eq(p.steps), beat_product.b.eq(p.ratio), beat_product.start.eq(p.start_ratio)]
            p.ratio_busy = beat_product.busy
            self._round_beats(m, p, beat_product.product, 0, clog2(config.bus_bits // math.gcd(*self._step_bits())))
            return
        unit = math.gcd(config.step_bits, config.bus_bits)
        ratio, down = config.step_bits // unit, clog2(config.bus_bits // unit)
        up = (ratio & -ratio).bit_length() - 1
        odd = ratio >> up
        if odd == 1:
            product = p.steps
        else:
            m.submodules.beat_product = beat_product = SerialMultiplier(a_width=len(p.steps), b_width=odd.bit_length())
            m.d.comb += [beat_product.a.eq(p.steps), beat_product.b.eq(odd), beat_product.start.eq(p.start_ratio)]
            product, p.ratio_busy = beat_product.product, beat_product.busy
        self._round_beats(m, p, product, up, down)

    def _round_beats(self, m: Module, p: _Product, product: Value, up: int, down: int) -> None:
        """`product` * 2**up / 2**down, rounded up."""
        whole, part = Cat(Const(0, up), product[down:]), product[:down]
        # Rounding up may carry out of the count.
        carry = Signal(reset_less=True)
        excess = Signal(reset_less=True)
        m.d.sync += [
            Cat(p.image_beats, carry).eq(whole[:BEAT_COUNT_BITS] + part.any()),
            excess.eq(whole[BEAT_COUNT_BITS:].any()),
        ]
        m.d.comb += p.too_many.eq(carry | excess)

    def _other_beats(self, m: Module, p: _Product) -> None:
        """The other regions have a power of two of elements in a beat."""
        config, d = self._config, p.descriptor
        m.d.sync += [
            p.activation_beats.eq((d.cols + (config.activations_per_beat - 1)) >> clog2(config.activations_per_beat)),
            p.result_beats.eq((d.rows + (config.results_per_beat - 1)) >> clog2(config.results_per_beat)),
        ]

    def _regions(self, m: Module, p: _Product) -> RegionCheck:
        """The regions, to be looked at one after the other: address, beats, whether the product uses it."""
        d = p.descriptor
        p.regions = [
            (d.weights, p.image_beats, 1),
            (d.activations, p.activation_beats, ~d.same),
            (d.results, p.result_beats, 1),
            *([(d.scales, p.result_beats, p.row_scales)] if self._config.row_scales else []),
        ]
        m.submodules.check = check = RegionCheck(config=self._config)
        return check

    def _jobs(self, m: Module, p: _Product) -> None:
        """What the jobs say, from registers that do not change before the next descriptor."""
        d = p.descriptor
        m.d.comb += [
            self.activation_read.payload.address.eq(d.activations),
            self.activation_read.payload.beats.eq(p.activation_beats),
            self.weight_read.payload.address.eq(d.weights),
            self.weight_read.payload.beats.eq(p.image_beats),
            self.scale_read.payload.address.eq(d.scales),
            self.scale_read.payload.beats.eq(p.result_beats),
            self.convert.payload.cols.eq(d.cols),
            self.gearbox.payload.steps.eq(p.steps),
            self.sequence.payload.groups.eq(p.job_groups),
            self.sequence.payload.tail_rows.eq(p.tail_rows),
            self.sequence.payload.pad.eq(p.job_pad),
            self.sequence.payload.same.eq(d.same),
            self.sequence.payload.code.eq(p.code),
            self.write.payload.address.eq(d.results),
            self.write.payload.rows.eq(d.rows),
            self.write.payload.code.eq(p.code),
            self.scale.payload.scale.eq(d.scale),
        ]
        config, sequence = self._config, self.sequence.payload
        m.d.comb += sequence.last_place.eq(p.last_place) if config.steps_vary else sequence.blocks.eq(p.blocks)
        if config.more:
            m.d.comb += sequence.codec.eq(d.codec)
        if config.mixes_scales:
            m.d.comb += [sequence.row_scales.eq(p.row_scales), self.scale.payload.row_scales.eq(p.row_scales)]

    def _hand_out(self, m: Module, p: _Product) -> None:
        """The jobs that are still to be taken; `wanted` are those of this product."""
        same = p.descriptor.same
        always = [self.sequence, self.write, self.scale]
        good = {
            self.weight_read: Const(1, 1),
            self.gearbox: Const(1, 1),
            self.activation_read: ~same,
            self.convert: ~same,
            self.scale_read: p.row_scales,
        }
        outputs = [*always, *good]
        p.pending = pending = Signal(len(outputs))
        p.wanted = Cat(Const(~0, len(always)), *(wanted & ~p.bad for wanted in good.values()))
        for n, output in enumerate(outputs):
            m.d.comb += output.valid.eq(pending[n])
            with m.If(output.ready):
                m.d.sync += pending[n].eq(0)

    def _take_and_count(self, m: Module, p: _Product) -> None:
        """The states up to the number of beats: every one refuses what it is the first to see."""
        config, d = self._config, p.descriptor

        def refuse(condition: Value) -> None:
            with m.If(condition):
                m.d.sync += p.bad.eq(1)

        with m.State("IDLE"):
            m.d.comb += self.descriptor.ready.eq(1)
            m.d.sync += [d.eq(self.descriptor.payload), p.bad.eq(self.descriptor.payload.bad), p.region.eq(0)]
            with m.If(self.descriptor.valid):
                m.next = "RANGE"
        with m.State("RANGE"):
            m.d.sync += [
                p.row_sum.eq(d.rows + (config.lanes - 1)),
                p.col_sum.eq(d.cols + (p.col_pad if config.steps_vary else config.codec.step_columns - 1)),
            ]
            if config.has_headers:
                m.d.sync += p.chunk_sum.eq(d.cols + (max(codec.chunk for codec in config.codecs) - 1))
            refuse((d.rows == 0) | (d.rows > config.max_rows))
            m.next = "DIVIDE"
        with m.State("DIVIDE"):
            m.d.comb += [p.row_divider.start.eq(1), p.divide.eq(1)]
            if config.steps_vary:
                refuse(~p.known)
            refuse((d.cols == 0) | (d.cols > config.max_cols))
            m.next = "MULTIPLY"
        with m.State("MULTIPLY"), m.If(~p.row_divider.busy & ~p.col_busy):
            m.d.comb += p.step_product.start.eq(1)
            refuse(d.same & (~p.loaded | (d.cols != p.loaded_cols)))
            m.next = "STEPS"
        with m.State("STEPS"), m.If(~p.step_product.busy):
            m.d.sync += p.steps.eq(p.step_product.product)
            refuse(p.step_product.product[STEP_COUNT_BITS:].any())
            m.next = "RATIO"
        with m.State("RATIO"):
            m.d.comb += p.start_ratio.eq(1)
            if not config.row_scales or config.mixes_scales:
                refuse(d.scale[23:31].all() & ~p.row_scales)
            m.next = "BEATS"
        with m.State("BEATS"), m.If(~p.ratio_busy):
            m.next = "ROUND"
        with m.State("ROUND"):
            refuse(p.too_many)
            m.next = "CHECK"

    def _check_and_decide(self, m: Module, p: _Product, check: RegionCheck) -> None:
        """The states that look at the regions and then hand out the jobs."""
        d = p.descriptor
        with m.State("CHECK"):
            with m.Switch(p.region):
                for n, (address, beats, used) in enumerate(p.regions):
                    with m.Case(n):
                        m.d.comb += [check.address.eq(address), check.beats.eq(beats), check.start.eq(used)]
                        m.d.sync += p.region.eq(n + 1)
                with m.Default(), m.If(~check.busy):
                    m.next = "DECIDE"
            with m.If(check.bad):
                m.d.sync += p.bad.eq(1)
        with m.State("DECIDE"):
            m.d.sync += [
                p.tail_rows.eq(p.row_divider.remainder + 1),
                p.job_pad.eq(-d.rows),
                p.pending.eq(p.wanted),
            ]
            with m.If(p.bad):
                m.d.sync += [p.job_groups.eq(0), d.rows.eq(0), d.same.eq(0), p.code.eq(ErrorCode.DESCRIPTOR)]
            with m.Else():
                m.d.sync += [p.job_groups.eq(p.groups), p.code.eq(ErrorCode.NONE)]
            with m.If(~d.same):
                m.d.sync += [p.loaded.eq(~p.bad), p.loaded_cols.eq(d.cols)]
            m.next = "EMIT"
        with m.State("EMIT"), m.If(~p.pending.any()):
            m.next = "IDLE"
