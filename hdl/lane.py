"""A lane: the words of one row are decoded, multiplied with the activations and summed exactly."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from seedlm.golden.build import ACTIVATION_EXPONENT_MAX, MANTISSA_BITS, Config, clog2
from seedlm.hdl.decoder_bank import DecoderBank
from seedlm.hdl.decoders import weight_decoder
from seedlm.hdl.decoders._base import WordPart
from seedlm.hdl.delay import delay, register
from seedlm.hdl.shifter import LeftShifter

__all__ = ["Broadcast", "Lane"]

OPERAND_BITS = 25  # of a DSP48E1's A
LOW_BITS = 17  # of a sum that takes two of them


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
    word_codec : Out
        The number of the codec of the step's words, beside them. Only in builds of several codecs.
    """

    def __init__(self, *, config: Config, keeps_state: bool) -> None:
        self.config = config
        self.keeps_state = keeps_state
        members = {
            "mantissas": Out(data.ArrayLayout(signed(MANTISSA_BITS), config.columns)),
            "exponent": Out(range(ACTIVATION_EXPONENT_MAX + 1)),
            "valid": Out(1),
            "first": Out(1),
        }
        if keeps_state:
            members |= {"word_valid": Out(1), "word_first": Out(1)}
        if config.more:
            members["word_codec"] = Out(clog2(len(config.codecs)))
        super().__init__(members)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Broadcast) and self.config == other.config and self.keeps_state == other.keeps_state


class Lane(wiring.Component):
    """One row: word -> weights -> products -> sum -> common shift -> exact accumulator.

    Counting from the clock in which the first parts of the word are valid:

    ============================  ================================================================
    clock                         what
    ============================  ================================================================
    0 .. weight_latency           the decoder (`seedlm.hdl.decoders`), or a bank of several
    + 1 .. 3 (+ columns - 1)      DSP48E1: A and B, M, P; column c adds to column c - 1 (cascade)
    (+ 4, 5 or 6)                 the first chain's sum times the step's factor M (builds of codecs that have one)
    dot_latency                   sum of the step's products
    + 1 .. shifter                left shift by (shift of the word) + (E_g + 14), two bits a stage
    operand_latency               shifted sum
    + 1 + k                       segment k of the accumulator, its carry registered in between
    ============================  ================================================================

    Where columns have a shift of their own, the cascade is cut into chains (of one column in a build of one codec), and
    each chain's sum is shifted first; a tree adds them with cut carry chains.
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
        if config.more:
            self.decoder = DecoderBank(config=config)
            self.word_parts, keeps_state = (WordPart("word", slice(0, config.word_bits)),), True
        else:
            self.decoder = weight_decoder(config.codec)
            self.word_parts, keeps_state = self.decoder.word_parts, self.decoder.keeps_state
        self._chain_columns = config.columns // config.chains
        self._aligner = None
        if config.align_max:
            self._aligner = LeftShifter(width=config.aligned_bits, max_shift=config.align_max, limit=config.dot_bits)
        self._shifter = LeftShifter(width=config.dot_bits, max_shift=config.shift_max, limit=config.acc_bits)
        self.broadcast = Broadcast(config=config, keeps_state=keeps_state)
        super().__init__(
            {part.name: In(part.width) for part in self.word_parts}
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

    def skew(self, column: int) -> int:
        """Clocks by which a column's mantissa comes later than that of column 0."""
        return column % self._chain_columns

    @property
    def _chain_latency(self) -> int:
        """Clocks to the sum of a chain's products, its factor included."""
        return self._sum_latency + self._factor_latency

    @property
    def _sum_latency(self) -> int:
        return self.weight_latency + 3 + self._chain_columns - 1

    @property
    def _factor_latency(self) -> int:
        """DSP48E1: A and B, M, P; one more where two of them share the work, one where not all sums have a factor."""
        config = self.config
        return 3 + self._two_factors + bool(config.more) if config.has_factors else 0

    @property
    def _two_factors(self) -> bool:
        """The sum is too wide for the operand A of one multiplier."""
        return self.config.factored_bits > OPERAND_BITS

    @property
    def dot_latency(self) -> int:
        if self._aligner:
            return self._chain_latency + self._aligner.latency + 2 * clog2(self.config.chains)
        return self._chain_latency

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
        m.d.comb += [getattr(decoder, part.name).eq(getattr(self, part.name)) for part in self.word_parts]
        if self.broadcast.keeps_state:
            m.d.comb += [decoder.valid.eq(self.o.word_valid), decoder.first.eq(self.o.word_first)]
        if self.config.more:
            m.d.comb += decoder.codec.eq(self.o.word_codec)
        align, offset = self._shifts(m)
        sums = [self._chain(m, n) for n in range(self.config.chains)]
        if self.config.has_factors:
            late = [delay(m, total, self._factor_latency, f"chain{n}") for n, total in enumerate(sums) if n]
            sums = [self._factored(m, sums[0]), *late]
        dot = sums[0] if align is None else self._aligned_sum(m, sums, align)
        shift = Signal(range(self.config.shift_max + 1), reset_less=True)
        m.d.sync += shift.eq(self.o.exponent if offset is None else offset + self.o.exponent)
        cuts = [self.segment(k) for k in range(self.config.acc_segments)]
        self._accumulate(m, self._shifter.add(m, dot, shift, name="operand", cuts=cuts))
        return m

    def _shifts(self, m: Module) -> tuple[list[Value] | None, Value | None]:
        """What the words ask for: the shifts of the chains beside their sums, and a clock before the dot product the
        common one (None: there are none)."""
        decoder = self.decoder
        early = self.dot_latency - 1 - decoder.latency
        if self.config.more:
            align, offset = decoder.align if self._aligner else None, decoder.offset
        elif decoder.shift_per_column:
            align, offset = decoder.shift, None
        else:
            align, offset = None, decoder.shift if decoder.max_shift else None
        if align is not None:
            beside = self._chain_latency - decoder.latency
            align = [delay(m, align[n], beside, f"exponent{n}") for n in range(self.config.chains)]
        return align, None if offset is None else delay(m, offset, early, "exponent")

    def _chain(self, m: Module, number: int) -> Value:
        """The sum of the products of a chain's columns, a cascade."""
        total: Value | None = None
        bits = self.config.chain_bits
        for c in range(number * self._chain_columns, (number + 1) * self._chain_columns):
            # A weight waits for the sum of the columns before it.
            weight = delay(m, self.decoder.weights[c], self.skew(c), f"weight{c}")
            weight_a = Signal(signed(self.config.weight_bits), name=f"weight{c}_a", reset_less=True)
            mantissa_b = Signal(signed(MANTISSA_BITS), name=f"mantissa{c}_b", reset_less=True)
            product = Signal(
                signed(min(bits, self.config.weight_bits + MANTISSA_BITS)), name=f"product{c}_m", reset_less=True
            )
            partial = Signal(signed(bits), name=f"sum{c}_p", reset_less=True)
            m.d.sync += [
                weight_a.eq(weight),
                mantissa_b.eq(self.o.mantissas[c]),
                product.eq(weight_a * mantissa_b),
                partial.eq(product if total is None else product + total),
            ]
            total = partial
        return total

    def _factored(self, m: Module, total: Value) -> Value:
        """The first chain's sum times the factor, where there is one: all factors' columns are in this chain."""
        config, decoder = self.config, self.decoder
        ahead = self._sum_latency - decoder.latency
        factor = register(m, delay(m, decoder.factor, ahead, "factor"), "factor_b")
        parts = [total[: config.factored_bits].as_signed()]
        if self._two_factors:  # the low bits as a number without sign
            parts = [Cat(total[:LOW_BITS], Const(0, 1)).as_signed(), parts[0][LOW_BITS:].as_signed()]
        products = []
        for n, part in enumerate(parts):
            product = Signal(signed(len(part) + len(factor)), name=f"factored{n}_m", reset_less=True)
            m.d.sync += product.eq(register(m, part, f"factored{n}_a") * factor)
            products.append(register(m, product, f"factored{n}_p"))
        out = products[0]
        if self._two_factors:
            high = products[1] + (products[0] >> LOW_BITS)
            out = register(m, Cat(products[0][:LOW_BITS], high).as_signed(), "factored")
        out = out[: config.aligned_bits].as_signed() if len(out) > config.aligned_bits else out
        if not config.more:
            return out
        plain = delay(m, total, self._factor_latency - 1, "chain0")
        has_factor = delay(m, decoder.factored, ahead + self._factor_latency - 1, "has_factor")
        return register(m, Mux(has_factor, out, plain), "chosen")

    def _aligned_sum(self, m: Module, sums: list[Value], align: list[Value]) -> Value:
        """The sum of the chains, each shifted by what the word says for it."""
        aligned = []
        for n, (total, amount) in enumerate(zip(sums, align, strict=True)):
            aligned += self._aligner.add(m, total, amount, name=f"aligned{n}")
        while len(aligned) > 1:
            pairs = [aligned[n : n + 2] for n in range(0, len(aligned), 2)]
            aligned = [self._add_in_halves(m, pair, f"{len(pairs)}_{n}") for n, pair in enumerate(pairs)]
        return aligned[0]

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
