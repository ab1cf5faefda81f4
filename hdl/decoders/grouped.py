"""Elements of few bits with a scale per group of columns: scales are kept as they come, elements meet theirs."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, signed

from seedlm.golden.build import clog2
from seedlm.golden.codecs import _scales as scales
from seedlm.golden.codecs._base import signed_bits
from seedlm.hdl.decoders._base import WeightDecoder
from seedlm.hdl.delay import delay, register
from seedlm.hdl.shifter import choose

__all__ = ["DECODER", "GroupedDecoder"]

SPLIT = 4  # stages up to N, M and e


class GroupedDecoder(WeightDecoder):
    """Weight = N, with a factor M and a shift e that the step shares.

    The first words of a chunk are its header; their steps have the weights 0, or the factor 0.

    ========  =========================================================================================
    stage 1   the word, and whether it is one of a header
    stage 2   words of a header go to their places in a register; the others pass
    stage 3   the field of the step's group, the microexponents of its columns; the elements' codes
    stage 4   N from the element's table, M and e from the field
    stage 5   N less the zero point, or doubled where the microexponent is 0 (formats that have either)
    ========  =========================================================================================
    """

    keeps_state = True

    def __init__(self, *, codec: object) -> None:
        self._adjusts = codec.has_zero_points or codec.scale.micro
        super().__init__(codec=codec)

    @property
    def latency(self) -> int:
        return SPLIT + self._adjusts

    @property
    def columns(self) -> int:
        return self.codec.step_columns

    @property
    def weight_bits(self) -> int:
        return self.codec.weight_bits

    @property
    def max_shift(self) -> int:
        return self.codec.step_shift_max

    @property
    def factor_max(self) -> int:
        return self.codec.factor_max

    def elaborate(self, platform: object) -> Module:
        m = Module()
        word, step, brings_weights, header = self._take(m)
        codec, bits = self.codec, self.codec.element.bits
        # Stage 3.
        steps = codec.scale_group // codec.step_columns  # of a group
        fields = [header[n * codec.scale.field_bits : (n + 1) * codec.scale.field_bits]
                  for n in range(codec.chunk_groups)]  # fmt: skip
        chosen = register(m, choose(step[clog2(steps) :], fields), "field_s3")
        micro = self._micro(m, header, step)
        codes = register(m, word, "codes_s3")
        live = register(m, brings_weights, "live_s3")
        # Stage 4.
        significand, exponent, zero = self._split(m, chosen, live)
        table = Array(Const(int(n), signed(signed_bits(codec.element.magnitude))) for n in codec.element.integers)
        numbers = []
        for c in range(self.columns):
            number = Signal(table[0].shape(), name=f"number{c}_s4", reset_less=True)
            m.d.sync += number.eq(table[codes[c * bits : (c + 1) * bits]])
            if significand is None:
                with m.If(~live):
                    m.d.sync += number.eq(0)
            numbers.append(number)
        # Stage 5.
        if self._adjusts:
            numbers = [self._adjusted(m, c, number, zero, micro) for c, number in enumerate(numbers)]
        m.d.comb += [self.weights[c].eq(number) for c, number in enumerate(numbers)]
        m.d.comb += self.shift.eq(delay(m, exponent, self.latency - SPLIT, "exponent_s4"))
        if significand is not None:
            m.d.comb += self.factor.eq(delay(m, significand, self.latency - SPLIT, "significand_s4"))
        return m

    def _take(self, m: Module) -> tuple[Value, Value, Value, Value]:
        """Stages 1 and 2: the word, the number of its step in the chunk, whether it brings weights, the header."""
        headers, steps = self.codec.header_steps, self.codec.chunk // self.columns
        # Of the next word: whether it is one of a header, and which; else the number of its step.
        expected, index, step = Signal(), Signal(range(headers), reset_less=True), Signal(range(steps), reset_less=True)
        is_header, number = Signal(), Signal.like(index)
        m.d.comb += [is_header.eq(self.first | expected), number.eq(Mux(self.first, 0, index))]
        with m.If(self.valid):
            with m.If(is_header):
                m.d.sync += [expected.eq(number != headers - 1), index.eq(number + 1), step.eq(0)]
            with m.Else():
                m.d.sync += [expected.eq(step == steps - 1), index.eq(0), step.eq(step + 1)]
        word = register(m, self.word, "word_s1")
        fills = [register(m, self.valid & is_header & (number == n), f"fills{n}_s1") for n in range(headers)]
        header = Signal(self.codec.header_bits, name="header_s2", reset_less=True)
        for n, fill in enumerate(fills):
            part = header[n * len(word) : (n + 1) * len(word)]
            with m.If(fill):
                m.d.sync += part.eq(word)
        late = delay(m, Cat(step, ~is_header), 2, "place")
        return register(m, word, "word_s2"), late[:-1], late[-1], header

    def _micro(self, m: Module, header: Value, step: Value) -> Value | None:
        """Stage 3: the microexponents of the step's columns, one for two of them."""
        codec = self.codec
        if not codec.scale.micro:
            return None
        pairs = self.columns // 2
        bits = header[codec.micro_at :]
        return register(m, choose(step, [bits[n : n + pairs] for n in range(0, len(bits), pairs)]), "micro_s3")

    def _split(self, m: Module, field: Value, live: Value) -> tuple[Value | None, Value, Value | None]:
        """Stage 4: M (None: 1), 0 in a header's steps; e; the zero point if there is one."""
        scale = self.codec.scale
        zero = register(m, field[scale.zero_at :], "zero_s4") if self.codec.has_zero_points else None
        if self.factor_max == 1:
            return None, register(m, field[: len(self.shift)], "exponent_s4"), None
        fraction, exponent = field[: scale.fraction_bits], field[scale.fraction_bits :][: scale.exponent_bits]
        significand = Signal(signed(signed_bits(self.factor_max)), name="significand_s4", reset_less=True)
        magnitude = Cat(fraction, exponent.any())
        if scale.signed:
            sign = field[scale.fraction_bits + scale.exponent_bits]
            magnitude = Mux(sign, -magnitude, magnitude)
        m.d.sync += significand.eq(magnitude)
        with m.If(~live):
            m.d.sync += significand.eq(0)
        return significand, register(m, Mux(exponent.any(), exponent - 1, 0)[: len(self.shift)], "exponent_s4"), zero

    def _adjusted(self, m: Module, c: int, number: Value, zero: Value | None, micro: Value | None) -> Value:
        """Stage 5: less the zero point; doubled without a microexponent."""
        out = Signal(signed(self.weight_bits), name=f"number{c}_s5", reset_less=True)
        if zero is not None:
            m.d.sync += out.eq(number - zero[: scales.ZERO_MAX.bit_length()])
        else:
            m.d.sync += out.eq(Mux(register(m, micro[c // 2], f"micro{c}_s4"), number, number << 1))
        return out


DECODER = GroupedDecoder
