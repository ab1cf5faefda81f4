"""A lane: the words of one row are decoded, multiplied with the activations and summed exactly."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from seedlm.golden.build import ACTIVATION_EXPONENT_MAX, MANTISSA_BITS, Config, clog2
from seedlm.hdl.decoders import WeightDecoder, weight_decoder
from seedlm.hdl.delay import delay
from seedlm.hdl.shifter import LeftShifter

__all__ = ["Broadcast", "Lane"]


class Broadcast(wiring.Signature):
    """What ripples from lane to lane, one register each: the activations and the control of a step.

    Every field has its own phase, the clock in which the lane's arithmetic wants it
    (`Lane.mantissa_phase` and so on), so that a lane stores nothing but its own copy.

    Parameters
    ----------
    config : Config
    keeps_state : bool
        The decoders want to know which words count.

    Members
    -------
    mantissas : Out(columns x signed(18))
        In a systolic sum column c is c clocks later than column 0.
    exponent : Out(5)
        E_g + 14, 0..29.
    valid, first : Out(1)
        The step counts; it is the first of its row group.
    word_valid, word_first : Out(1)
        The same, beside the step's words. Only with `keeps_state`.
    """

    def __init__(self, *, config: Config, keeps_state: bool) -> None:
        self.config = config
        self.keeps_state = keeps_state
        members = {
            "mantissas": Out(data.ArrayLayout(signed(MANTISSA_BITS), config.codec.step_columns)),
            "exponent": Out(range(ACTIVATION_EXPONENT_MAX + 1)),
            "valid": Out(1),
            "first": Out(1),
        }
        if keeps_state:
            members |= {"word_valid": Out(1), "word_first": Out(1)}
        super().__init__(members)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Broadcast) and self.config == other.config and self.keeps_state == other.keeps_state


class Lane(wiring.Component):
    """One row: word -> weights -> products -> sum -> common shift -> exact accumulator.

    Counting from the clock in which the first parts of the word are valid:

    ============================  ================================================================
    clock                         what
    ============================  ================================================================
    0 .. weight_latency           the decoder (`seedlm.hdl.decoders`)
    + 1 .. 3 (+ columns - 1)      DSP48E1: A and B, M, P; column c adds to column c - 1 (cascade)
    dot_latency                   sum of the step's products
    + 1 .. shifter                left shift by (shift of the word) + (E_g + 14), two bits a stage
    operand_latency               shifted sum
    + 1 + k                       segment k of the accumulator, its carry registered in between
    ============================  ================================================================

    Where every column has a shift of its own, each product is shifted first; a tree adds them with cut carry chains.
    Latency is `latency` clocks to the lowest segment, throughput one step per clock; no flow control.

    Parameters
    ----------
    config : Config

    Members
    -------
    <parts of the word> : In
        As the decoder wants them (`WeightDecoder.word_parts`): ``word``, and for seed codecs ``seed``.
    i, o : In, Out(Broadcast)
        From the lane before, to the lane after (one clock later).
    accumulator : Out(acc_bits)
        Raw bits; segment k (``segment(k)``) holds its value k clocks later than segment 0.

    Raises
    ------
    SeedLMError
        The decoder does not keep to its contract.
    """

    def __init__(self, *, config: Config) -> None:
        self.config = config
        self.decoder: WeightDecoder = weight_decoder(config.codec)
        self._columns = self.decoder.columns
        self._aligner = None
        if self.decoder.shift_per_column:
            width = config.weight_bits + MANTISSA_BITS - 1
            self._aligner = LeftShifter(width=width, max_shift=self.decoder.max_shift)
        self._shifter = LeftShifter(width=config.dot_bits, max_shift=config.shift_max)
        self.broadcast = Broadcast(config=config, keeps_state=self.decoder.keeps_state)
        super().__init__(
            {part.name: In(part.width) for part in self.decoder.word_parts}
            | {"i": In(self.broadcast), "o": Out(self.broadcast), "accumulator": Out(config.acc_bits)}
        )

    # --- phases: the clock, counted from the word, in which a field of `i` is sampled ----------------
    @property
    def weight_latency(self) -> int:
        return self.decoder.latency

    @property
    def mantissa_phase(self) -> int:
        """`i.mantissas[0]`: one clock in the lane's copy, then the B register beside the A register."""
        return self.weight_latency - 1

    @property
    def column_skew(self) -> int:
        """Clocks between the mantissas of neighbouring columns."""
        return 0 if self._aligner else 1

    @property
    def dot_latency(self) -> int:
        products = self.weight_latency + 3
        if self._aligner:
            return products + self._aligner.latency + 2 * clog2(self._columns)
        return products + self._columns - 1

    @property
    def exponent_phase(self) -> int:
        """`i.exponent`: one clock in the lane's copy, one in the sum with the word's shift."""
        return self.dot_latency - 2

    @property
    def operand_latency(self) -> int:
        return self.dot_latency + self._shifter.latency

    @property
    def control_phase(self) -> int:
        """`i.valid`, `i.first`."""
        return self.operand_latency - 1

    @property
    def latency(self) -> int:
        """Clocks from the word to the segment 0 that includes it."""
        return self.operand_latency + 1

    def segment(self, k: int) -> slice:
        """Bits of segment k in `accumulator`."""
        width = self.config.segment_bits
        return slice(k * width, min((k + 1) * width, self.config.acc_bits))

    # --- hardware ------------------------------------------------------------------------------------
    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.sync += [getattr(self.o, name).eq(getattr(self.i, name)) for name in self.broadcast.members]
        m.submodules.decoder = decoder = self.decoder
        m.d.comb += [getattr(decoder, part.name).eq(getattr(self, part.name)) for part in decoder.word_parts]
        if decoder.keeps_state:
            m.d.comb += [decoder.valid.eq(self.o.word_valid), decoder.first.eq(self.o.word_first)]
        dot, offset = self._aligned_sum(m) if self._aligner else self._systolic_sum(m)
        shift = Signal(range(self.config.shift_max + 1), reset_less=True)
        m.d.sync += shift.eq(self.o.exponent if offset is None else offset + self.o.exponent)
        cuts = [self.segment(k) for k in range(self.config.acc_segments)]
        self._accumulate(m, self._shifter.add(m, dot, shift, name="operand", cuts=cuts))
        return m

    def _systolic_sum(self, m: Module) -> tuple[Value, Value | None]:
        """The sum of the step's products and, a clock earlier, the word's shift (None: words give none)."""
        decoder, total = self.decoder, None
        for c in range(self._columns):
            # Weight c waits c clocks for the sum of the columns before it.
            weight = delay(m, decoder.weights[c], c, f"weight{c}")
            weight_a = Signal(signed(self.config.weight_bits), name=f"weight{c}_a", reset_less=True)
            mantissa_b = Signal(signed(MANTISSA_BITS), name=f"mantissa{c}_b", reset_less=True)
            product = Signal(signed(self.config.weight_bits + MANTISSA_BITS), name=f"product{c}_m", reset_less=True)
            partial = Signal(signed(self.config.dot_bits), name=f"sum{c}_p", reset_less=True)
            m.d.sync += [
                weight_a.eq(weight),
                mantissa_b.eq(self.o.mantissas[c]),
                product.eq(weight_a * mantissa_b),
                partial.eq(product if total is None else product + total),
            ]
            total = partial
        if not decoder.max_shift:
            return total, None
        return total, delay(m, decoder.shift, self.dot_latency - 1 - decoder.latency, "exponent")

    def _aligned_sum(self, m: Module) -> tuple[Value, None]:
        """The sum of the step's products, each shifted by what the word says for its column."""
        decoder, aligned = self.decoder, []
        for c in range(self._columns):
            weight_a = Signal(signed(self.config.weight_bits), name=f"weight{c}_a", reset_less=True)
            mantissa_b = Signal(signed(MANTISSA_BITS), name=f"mantissa{c}_b", reset_less=True)
            product_m = Signal(signed(self._aligner.width), name=f"product{c}_m", reset_less=True)
            product = Signal(signed(self._aligner.width), name=f"product{c}_p", reset_less=True)
            m.d.sync += [
                weight_a.eq(decoder.weights[c]),
                mantissa_b.eq(self.o.mantissas[c]),
                product_m.eq(weight_a * mantissa_b),
                product.eq(product_m),
            ]
            exponent = delay(m, decoder.shift[c], 3, f"exponent{c}")
            aligned += self._aligner.add(m, product, exponent, name=f"aligned{c}")
        while len(aligned) > 1:
            pairs = [aligned[n : n + 2] for n in range(0, len(aligned), 2)]
            aligned = [self._add_in_halves(m, pair, f"{len(pairs)}_{n}") for n, pair in enumerate(pairs)]
        return aligned[0], None

    def _add_in_halves(self, m: Module, terms: list[Value], name: str) -> Value:
        """The sum of one or two signed numbers two clocks later: a carry chain of the whole width is too long."""
        if len(terms) == 1:
            return delay(m, terms[0], 2, f"total{name}")
        half = self.config.dot_bits // 2
        low = Signal(half + 1, name=f"low{name}", reset_less=True)
        high = [delay(m, term[half:], 1, f"high{name}_{n}").as_signed() for n, term in enumerate(terms)]
        total = Signal(signed(self.config.dot_bits), name=f"total{name}", reset_less=True)
        m.d.sync += [
            low.eq(terms[0][:half] + terms[1][:half]),
            total.eq(Cat(low[:half], high[0] + high[1] + low[half]).as_signed()),
        ]
        return total

    def _accumulate(self, m: Module, operand: list[Signal]) -> None:
        valid, first, carry = self.o.valid, self.o.first, None
        for k in range(self.config.acc_segments):
            cut = self.segment(k)
            acc = Signal(cut.stop - cut.start, name=f"acc{k}", reset_less=True)
            carry_out = Signal(name=f"carry{k}", reset_less=True)
            # Of the two addends the carry chain takes one beside the sums. That has to be the operand, a register; the
            # other is made in the LUTs of the sums. The name decides: it comes after `operand` in the alphabet. The
            # reverse costs 100 LUTs; build/synthesis.py tells why.
            so_far = Signal.like(acc, name=f"so_far{k}")
            m.d.comb += so_far.eq(Mux(first, 0, acc))
            total = delay(m, operand[k].as_unsigned(), k, f"operand{k}") + so_far
            if carry is not None:
                total = total + carry
            with m.If(valid):
                m.d.sync += Cat(acc, carry_out).eq(total)
            m.d.comb += self.accumulator[cut].eq(acc)
            carry = carry_out
            valid = delay(m, valid, 1, f"valid{k}")
            first = delay(m, first, 1, f"first{k}")
