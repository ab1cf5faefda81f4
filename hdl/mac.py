"""MAC array: one lane multiplies, shifts and accumulates the weights of a row exactly."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from seedlm.golden.build import ACTIVATION_EXPONENT_MAX, MANTISSA_BITS, Config
from seedlm.golden.codecs.seed import COEFFICIENT_BITS
from seedlm.hdl.decoders.float16 import Fp16Weights
from seedlm.hdl.delay import delay, register
from seedlm.hdl.lfsr_bank import LfsrBank
from seedlm.hdl.reconstruction import Reconstruction
from seedlm.hdl.shifter import LeftShifter

__all__ = ["Broadcast", "Lane", "MacArray"]


class Broadcast(wiring.Signature):
    """What ripples from lane to lane, one register each: the activations and the control of a step.

    Every field has its own phase, the clock in which the lane's arithmetic wants it
    (`Lane.mantissa_phase` and so on), so that a lane stores nothing but its own copy.

    Members
    -------
    mantissas : Out(columns x signed(18))
        Column c of a seed codec is c clocks later than column 0 (systolic sum).
    exponent : Out(5)
        E_g + 14, 0..29.
    valid, first : Out(1)
        The step counts; it is the first of its row group.
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__(
            {
                "mantissas": Out(data.ArrayLayout(signed(MANTISSA_BITS), config.codec.step_columns)),
                "exponent": Out(range(ACTIVATION_EXPONENT_MAX + 1)),
                "valid": Out(1),
                "first": Out(1),
            }
        )

    def __eq__(self, other):
        return isinstance(other, Broadcast) and self.config == other.config


class Lane(wiring.Component):
    """One row: word -> weights -> products -> sum -> common shift -> exact accumulator.

    Counting from the clock in which `word` is valid:

    ============================  ================================================================
    clock                         what
    ============================  ================================================================
    0 .. weight_latency           `LfsrBank` and `Reconstruction` (or `Fp16Weights`)
    + 1 .. 3 (+ C - 1)            DSP48E1: A and B, M, P; column c adds to column c - 1 (cascade)
    dot_latency                   sum of the step's products
    + 1 .. shifter                left shift by (e - e_min) + (E_g + 14), two bits a stage
    operand_latency               shifted sum
    + 1 + k                       segment k of the accumulator, its carry registered in between
    ============================  ================================================================

    ``fp16`` shifts each product by its own exponent first and adds the two with a cut carry chain.
    Latency is `latency` clocks to the lowest segment, throughput one step per clock; no flow control.

    Members
    -------
    word : In
        The lane's block word, without its seed.
    seed : In(K)
        Its seed, `seed_phase` clocks later. Not for ``fp16``.
    i, o : In, Out(Broadcast)
        From the lane before, to the lane after (one clock later).
    accumulator : Out(acc_bits)
        Raw bits; segment k (``segment(k)``) holds its value k clocks later than segment 0.
    """

    def __init__(self, *, config: Config):
        self.config = config
        self.codec = config.codec
        if self.codec.is_fp16:
            self._weights = Fp16Weights()
            width = config.weight_bits + MANTISSA_BITS - 1
            self._aligner = LeftShifter(width=width, max_shift=Fp16Weights.exponent_max)
        else:
            self._weights = Reconstruction(codec=self.codec)
        self._shifter = LeftShifter(width=config.dot_bits, max_shift=config.shift_max)
        members = {
            "word": In(self.codec.word_bits - self.codec.K),
            "i": In(Broadcast(config)),
            "o": Out(Broadcast(config)),
            "accumulator": Out(config.acc_bits),
        }
        if not self.codec.is_fp16:
            members["seed"] = In(self.codec.K)
        super().__init__(members)

    # --- phases: the clock, counted from `word`, in which the seed or a field of `i` is sampled ------
    @property
    def seed_phase(self) -> int:
        """`seed`: it is not wanted before the tables of the coefficients are built."""
        return self._weights.table_latency - LfsrBank.latency

    @property
    def weight_latency(self) -> int:
        return self._weights.latency

    @property
    def mantissa_phase(self) -> int:
        """`i.mantissas[0]`: one clock in the lane's copy, then the B register beside the A register."""
        return self.weight_latency - 1

    @property
    def column_skew(self) -> int:
        """Clocks between the mantissas of neighbouring columns."""
        return 0 if self.codec.is_fp16 else 1

    @property
    def dot_latency(self) -> int:
        if self.codec.is_fp16:
            return self.weight_latency + 3 + self._aligner.latency + 2
        return self.weight_latency + 3 + self.codec.C - 1

    @property
    def exponent_phase(self) -> int:
        """`i.exponent`: one clock in the lane's copy, one in the sum with the block's exponent."""
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
        """Clocks from `word` to the segment 0 that includes it."""
        return self.operand_latency + 1

    def segment(self, k: int) -> slice:
        """Bits of segment k in `accumulator`."""
        width = self.config.segment_bits
        return slice(k * width, min((k + 1) * width, self.config.acc_bits))

    # --- hardware ------------------------------------------------------------------------------------
    def elaborate(self, platform):
        m = Module()
        m.d.sync += [
            self.o.mantissas.eq(self.i.mantissas),
            self.o.exponent.eq(self.i.exponent),
            self.o.valid.eq(self.i.valid),
            self.o.first.eq(self.i.first),
        ]
        if self.codec.is_fp16:
            dot, shift = self._aligned_sum(m)
        else:
            dot, shift = self._systolic_sum(m)
        cuts = [self.segment(k) for k in range(self.config.acc_segments)]
        self._accumulate(m, self._shifter.add(m, dot, shift, name="operand", cuts=cuts))
        return m

    def _systolic_sum(self, m: Module):
        codec = self.codec
        m.submodules.reconstruction = reconstruction = self._weights
        m.submodules.lfsr_bank = lfsr_bank = LfsrBank(codec=codec, inverted=reconstruction.sign_bits)
        exponent, coefficients = self.word[: codec.B], self.word[codec.B :]
        assert len(coefficients) == COEFFICIENT_BITS * codec.P
        m.d.comb += [
            lfsr_bank.seed.eq(self.seed),
            reconstruction.coefficients.eq(coefficients),
            reconstruction.sequence.eq(lfsr_bank.sequence),
            reconstruction.signs.eq(lfsr_bank.inverted),
        ]
        total = None
        for c in range(codec.C):
            # Weight c waits c clocks for the sum of the columns before it.
            weight = delay(m, reconstruction.weights[c], c, f"weight{c}")
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
        # e - e_min is e with its sign bit inverted (two's complement to offset binary).
        shift = Signal(range(self.config.shift_max + 1), reset_less=True)
        if codec.B:
            offset = delay(m, Cat(exponent[:-1], ~exponent[-1]), self.dot_latency - 1, "exponent")
            m.d.sync += shift.eq(offset + self.o.exponent)
        else:
            m.d.sync += shift.eq(self.o.exponent)
        return total, shift

    def _aligned_sum(self, m: Module):
        m.submodules.fp16_weights = weights = self._weights
        m.d.comb += weights.word.eq(self.word)
        aligned = []
        for c in range(2):
            weight_a = Signal(signed(12), name=f"weight{c}_a", reset_less=True)
            mantissa_b = Signal(signed(MANTISSA_BITS), name=f"mantissa{c}_b", reset_less=True)
            product_m = Signal(signed(self._aligner.width), name=f"product{c}_m", reset_less=True)
            product = Signal(signed(self._aligner.width), name=f"product{c}_p", reset_less=True)
            m.d.sync += [
                weight_a.eq(weights.weights[c]),
                mantissa_b.eq(self.o.mantissas[c]),
                product_m.eq(weight_a * mantissa_b),
                product.eq(product_m),
            ]
            exponent = delay(m, weights.exponents[c], 3, f"exponent{c}")
            aligned += self._aligner.add(m, product, exponent, name=f"aligned{c}")
        # A 60-bit addition in two halves.
        half = self.config.dot_bits // 2
        low = Signal(half + 1, reset_less=True)
        high = [delay(m, value[half:], 1, f"high{c}") for c, value in enumerate(aligned)]
        total = Signal(signed(self.config.dot_bits), reset_less=True)
        m.d.sync += [
            low.eq(aligned[0][:half] + aligned[1][:half]),
            total.eq(Cat(low[:half], high[0].as_signed() + high[1].as_signed() + low[half]).as_signed()),
        ]
        shift = Signal(range(self.config.shift_max + 1), reset_less=True)
        m.d.sync += shift.eq(self.o.exponent)
        return total, shift

    def _accumulate(self, m: Module, operand: list[Signal]):
        valid, first, carry = self.o.valid, self.o.first, None
        for k in range(self.config.acc_segments):
            cut = self.segment(k)
            acc = Signal(cut.stop - cut.start, name=f"acc{k}", reset_less=True)
            carry_out = Signal(name=f"carry{k}", reset_less=True)
            # Of the two addends the carry chain takes one beside the sums. That has to be the operand, a register; the
            # other is made in the LUTs of the sums. Yosys goes by the names; the reverse costs 100 LUTs.
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
        return m


class MacArray(wiring.Component):
    """All lanes, as a systolic row: lane i works i clocks after lane 0.

    Activations and control pass from lane to lane through one register each, so nothing is
    broadcast over the chip, and the row sums are complete one after the other, as the collector
    takes them.

    Counting from the clock of the issue, `accumulators` lane i, segment k is complete after
    ``latency + i + k`` clocks, for one clock only if the next row group follows at once.
    Throughput is one step per clock. No flow control.

    Members
    -------
    step : In
        The words of a step, lane 0 in the low bits; read in the clock of the issue.
    valid, first : In(1)
        A step is issued; it is the first of its row group.
    position : In
        Where the step's activations are; goes to `address` when they are wanted.
    address : Out
        To `ActivationBuffer`.
    mantissas, exponent : In
        From `ActivationBuffer`, `activation_latency` clocks after `address`.
    accumulators : Out(lanes x acc_bits)
    """

    def __init__(self, *, config: Config, position_bits: int, activation_latency: int):
        self.config = config
        self._lanes = [Lane(config=config) for _ in range(config.lanes)]
        self._activation_latency = activation_latency
        super().__init__(
            {
                "step": In(config.step_bits),
                "valid": In(1),
                "first": In(1),
                "position": In(position_bits),
                "address": Out(position_bits),
                "mantissas": In(data.ArrayLayout(signed(MANTISSA_BITS), config.codec.step_columns)),
                "exponent": In(range(ACTIVATION_EXPONENT_MAX + 1)),
                "accumulators": Out(data.ArrayLayout(config.acc_bits, config.lanes)),
            }
        )

    @property
    def latency(self) -> int:
        """Clocks from the issue to lane 0's complete segment 0."""
        return 1 + self._lanes[0].latency

    def segment(self, k: int) -> slice:
        return self._lanes[0].segment(k)

    def elaborate(self, platform):
        m = Module()
        lane = self._lanes[0]
        # Stage 1: the step's words; from here lane i waits i clocks more.
        step = register(m, self.step, "step")
        # The mantissas leave the buffer in the clock in which lane 0 samples column 0.
        asked = lane.weight_latency - self._activation_latency
        m.d.comb += self.address.eq(delay(m, self.position, asked, "position"))
        broadcast = Broadcast(self.config).create()
        for c in range(self.config.codec.step_columns):
            m.d.comb += broadcast.mantissas[c].eq(delay(m, self.mantissas[c], c * lane.column_skew, f"mantissa{c}"))
        m.d.comb += [
            broadcast.exponent.eq(delay(m, self.exponent, 1 + lane.exponent_phase - lane.weight_latency, "exponent")),
            broadcast.valid.eq(delay(m, self.valid, 1 + lane.control_phase, "valid")),
            broadcast.first.eq(delay(m, self.first, 1 + lane.control_phase, "first")),
        ]
        bits, seed_bits = self.config.codec.word_bits, self.config.codec.K
        for i, lane in enumerate(self._lanes):
            m.submodules[f"lane{i}"] = lane
            word = step[i * bits : (i + 1) * bits]
            if seed_bits:
                m.d.comb += lane.seed.eq(delay(m, word[:seed_bits], i + lane.seed_phase, f"seed{i}"))
            m.d.comb += [
                lane.word.eq(delay(m, word[seed_bits:], i, f"word{i}")),
                lane.i.mantissas.eq(broadcast.mantissas),
                lane.i.exponent.eq(broadcast.exponent),
                lane.i.valid.eq(broadcast.valid),
                lane.i.first.eq(broadcast.first),
                self.accumulators[i].eq(lane.accumulator),
            ]
            broadcast = lane.o
        return m
