"""Binary16 activations become groups of integers with a shared exponent, one group per clock."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from seedlm.golden.build import MANTISSA_BITS, Config, clog2
from seedlm.hdl.delay import delay, register
from seedlm.hdl.layouts import beat_layout, cols_bits, convert_job_layout, group_layout, valid_only
from seedlm.hdl.slicer import Slicer

__all__ = ["ActivationConverter", "GroupConverter"]

EXPONENT_BITS = 5  # exponent field of binary16
FRACTION_BITS = 10
MAGNITUDE_BITS = MANTISSA_BITS - 1


@dataclass(frozen=True)
class _Element:
    """An element of a group, decoded; registers."""

    field: Value  # exponent field, at least 1
    significand: Value  # 11 bits; 0 if the element does not count
    sign: Value
    nonfinite: Value


class GroupConverter(wiring.Component):
    """The arithmetic: G halves and a mask in, G mantissas and the exponent out, one group per clock.

    With efc = max(exponent field, 1) and the 11-bit significand s of an element, its mantissa is s * 2**6 shifted
    right by max(efc) - efc, rounded to nearest, ties to even. E_g + 14 = max(efc) - 1.

    Parameters
    ----------
    group : int
        G.

    Attributes
    ----------
    latency : int
        Clocks from input to output; the inputs should come from registers.

    Members
    -------
    halves, mask : In(16 * G), In(G)
        G binary16 values; elements whose mask bit is 0 count as 0.
    mantissas, exponent : Out(18 * G), Out(5)
        Signed 18-bit integers, first element in the low bits, and E_g + 14.
    nonfinite : Out(1)
        An unmasked element was NaN or infinite; mantissas and exponent are arbitrary then.
    """

    def __init__(self, *, group: int) -> None:
        self._group = group
        self._levels = clog2(group)
        # decode, maximum tree, difference, coarse shift, fine shift, round up?, add
        self.latency = 1 + self._levels + 1 + 2 + 1 + 1
        super().__init__({
            "halves": In(16 * group),
            "mask": In(group),
            "mantissas": Out(MANTISSA_BITS * group),
            "exponent": Out(EXPONENT_BITS),
            "nonfinite": Out(1),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        decoded = [self._decode(m, c) for c in range(self._group)]
        largest = self._maximum(m, [element.field for element in decoded], [element.nonfinite for element in decoded])
        mantissas = [self._mantissa(m, c, element, largest) for c, element in enumerate(decoded)]
        m.d.comb += self.mantissas.eq(Cat(mantissas))
        return m

    def _decode(self, m: Module, c: int) -> _Element:
        """Stage 1: significand, exponent, sign of element c."""
        half, used = self.halves[16 * c : 16 * (c + 1)], self.mask[c]
        fraction, field = half[:FRACTION_BITS], half[FRACTION_BITS:15]
        normal = field.any() & used
        efc = Cat((field[0] & used) | ~normal, field[1:] & used.replicate(EXPONENT_BITS - 1))
        significand = Cat(fraction & used.replicate(FRACTION_BITS), normal)
        return _Element(
            field=register(m, efc, f"efc{c}_s1"),
            significand=register(m, significand, f"significand{c}_s1"),
            sign=register(m, half[15], f"sign{c}_s1"),
            nonfinite=register(m, field.all() & used, f"nonfinite{c}_s1"),
        )

    def _maximum(self, m: Module, tree: list[Value], flags: list[Value]) -> Value:
        """Stages 2 to 1 + levels: the largest exponent; with it the group's outputs beside the mantissas."""
        for level in range(self._levels):
            s = level + 2
            pairs = [tree[n : n + 2] for n in range(0, len(tree), 2)]
            tree = [register(m, Mux(p[0] > p[-1], p[0], p[-1]), f"max{n}_s{s}") for n, p in enumerate(pairs)]
            flags = [register(m, Cat(flags[n : n + 2]).any(), f"flag{n}_s{s}") for n in range(0, len(flags), 2)]
        largest = tree[0]
        after = self.latency - 1 - self._levels  # stages that follow
        m.d.comb += [
            self.exponent.eq(delay(m, register(m, largest - 1, "exponent_s"), after - 1, "exponent_s")),
            self.nonfinite.eq(delay(m, flags[0], after, "nonfinite_s")),
        ]
        return largest

    def _mantissa(self, m: Module, c: int, element: _Element, largest: Value) -> Value:
        """The five stages after the maximum: element c shifted to the group's exponent, rounded, with its sign."""
        levels, s = self._levels, 1 + self._levels
        # Stage s + 1: how far to shift.
        field = delay(m, element.field, levels, f"efc{c}_s1")
        shift = register(m, (largest - field)[:EXPONENT_BITS], f"shift{c}_s{s + 1}")
        significand = delay(m, element.significand, levels + 1, f"significand{c}_s1")
        whole, guard, sticky = self._shift_right(m, c, significand, shift)
        # Stage s + 4: round up? The negative of x + up is ~x + not up, so that one addition does both.
        sign = delay(m, element.sign, levels + 3, f"sign{c}_s1")
        up = guard & (sticky | whole[0])
        carry = register(m, up ^ sign, f"carry{c}_s{s + 4}")
        flipped_value = register(m, Cat(whole, Const(0, 1)) ^ sign.replicate(MANTISSA_BITS), f"flipped{c}_s{s + 4}")
        # Stage s + 5: the addition.
        return register(m, (flipped_value + carry)[:MANTISSA_BITS], f"mantissa{c}_s{s + 5}")

    def _shift_right(self, m: Module, c: int, significand: Value, shift: Value) -> tuple[Value, Value, Value]:
        """Whole part, guard (the first bit that falls off) and sticky (the or of the others), two stages later."""
        s = 1 + self._levels

        def registers(stage: int) -> tuple[Signal, Signal, Signal]:
            return (
                Signal(MAGNITUDE_BITS, name=f"whole{c}_s{stage}", reset_less=True),
                *(Signal(name=f"{name}{c}_s{stage}", reset_less=True) for name in ("guard", "sticky")),
            )

        # Stage s + 2: by 0, 8, 16 or 24 places.
        value = Cat(Const(0, MAGNITUDE_BITS - FRACTION_BITS - 1), significand)
        coarse = shift[3:5]
        whole, guard, sticky = registers(s + 2)
        with m.Switch(coarse):
            for n in range(4):
                with m.Case(n):
                    m.d.sync += whole.eq(value[8 * n :])
                    m.d.sync += guard.eq(value[8 * n - 1] if 0 < 8 * n <= MAGNITUDE_BITS else 0)
                    m.d.sync += sticky.eq(value[: 8 * n - 1].any() if n else 0)
        # Stage s + 3: by 0 to 7 places.
        fine = register(m, shift[:3], f"fine{c}_s{s + 2}")
        whole2, guard2, sticky2 = registers(s + 3)
        with m.Switch(fine):
            for n in range(8):
                with m.Case(n):
                    m.d.sync += whole2.eq(whole[n:])
                    m.d.sync += guard2.eq(whole[n - 1] if n else guard)
                    m.d.sync += sticky2.eq(Cat(whole[: n - 1], guard, sticky).any() if n else sticky)
        return whole2, guard2, sticky2


class ActivationConverter(wiring.Component):
    """Cuts the beats of a vector into groups and converts them.

    Takes exactly the ceil(cols / activations_per_beat) beats of each vector; what lies past `cols` counts as 0,
    whatever it is. A vector starts with a fresh beat. One group per clock, or one beat per clock where groups are
    larger than beats; vectors of two groups and more follow each other without a gap.

    Parameters
    ----------
    config : Config

    Attributes
    ----------
    latency : int
        Clocks from the beat that completes a group to the group.

    Members
    -------
    i : In(stream)
        ``beat_layout`` of binary16 values; ``last`` is not used.
    job : In(stream)
        ``convert_job_layout``: one per vector.
    o : Out(valid only)
        ``group_layout``.
    """

    def __init__(self, *, config: Config) -> None:
        self._group = config.group
        self._slicer = Slicer(
            beat_bits=config.bus_bits,
            part_bits=16 * self._group,
            amount_bits=cols_bits(config),
            per_part=self._group,
            per_beat=config.activations_per_beat,
        )
        self._converter = GroupConverter(group=self._group)
        self.latency = (0 if self._slicer.identity else 1 + self._slicer.latency) + 1 + self._converter.latency + 1
        super().__init__({
            "i": In(stream.Signature(beat_layout(config))),
            "job": In(stream.Signature(convert_job_layout(config))),
            "o": Out(valid_only(group_layout(config))),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.slicer = slicer = self._slicer
        m.submodules.converter = converter = self._converter
        connect(m, flipped(self.i), slicer.i)
        m.d.comb += [
            slicer.job.valid.eq(self.job.valid),
            slicer.job.payload.amount.eq(self.job.payload.cols),
            self.job.ready.eq(slicer.job.ready),
            slicer.room.eq(1),
        ]

        # Stage 1: the group as it lay in memory, and which of its elements belong to the vector.
        part = slicer.o.payload
        left = part.left[: self._group.bit_length()]  # the whole number in the last group
        mask = Cat(~part.last | (left > c) for c in range(self._group))
        m.d.comb += [
            converter.halves.eq(register(m, part.data, "halves")),
            converter.mask.eq(register(m, mask, "mask")),
        ]

        # Beside the converter.
        valid: Value = slicer.o.valid
        for n in range(1 + converter.latency):
            valid_next = Signal(name=f"valid_s{n + 1}")
            m.d.sync += valid_next.eq(valid)
            valid = valid_next
        last = delay(m, part.last, 1 + converter.latency, "last")
        error = delay(m, part.error, 1 + converter.latency, "error")

        # Last stage: number the groups and gather what goes for the whole vector.
        o = self.o.payload
        first = Signal(init=1)
        m.d.sync += [self.o.valid.eq(valid), o.mantissas.eq(converter.mantissas), o.exponent.eq(converter.exponent)]
        with m.If(valid):
            m.d.sync += [
                first.eq(last),
                o.last.eq(last),
                o.index.eq(Mux(first, 0, o.index + 1)),
                o.nonfinite.eq(converter.nonfinite | (o.nonfinite & ~first)),
                o.error.eq(error | (o.error & ~first)),
            ]
        return m
