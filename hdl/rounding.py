"""The two roundings of a product: exact integer to binary32, then one binary32 multiplication by the scale."""

from __future__ import annotations

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, ValueLike, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from seedlm.golden.build import Config, clog2
from seedlm.hdl.delay import register
from seedlm.hdl.layouts import rounded_layout, rounding_layout, valid_only
from seedlm.hdl.shifter import choose

__all__ = ["Fp32Rounding"]

CHUNK = 32  # longest carry chain, and the unit of the first step of normalisation
PRECISION = 24  # significand bits of binary32
LATENCY = 26


class _Stages:
    """Named values and the stage (clocks after the input) in which they are there; older ones are delayed on demand."""

    def __init__(self, m: Module) -> None:
        self._m = m
        self._chains: dict[str, tuple[int, list[Value]]] = {}

    def put(self, name: str, stage: int, value: ValueLike) -> None:
        """`name` is `value`, which is there in `stage`."""
        self._chains[name] = (stage, [Value.cast(value)])

    def register(self, name: str, stage: int, value: ValueLike) -> None:
        """`name` is `value`, made of values of stage `stage` - 1, in a register."""
        self.put(name, stage, register(self._m, value, f"{name}_s{stage}"))

    def __call__(self, name: str, stage: int) -> Value:
        """`name` as it is in `stage`."""
        first, chain = self._chains[name]
        assert stage >= first, f"{name} is not there before stage {first}"
        while len(chain) <= stage - first:
            chain.append(register(self._m, chain[-1], f"{name}_s{first + len(chain)}"))
        return chain[stage - first]


def _leading_zeros(flags: list[Value]) -> Value:
    """Index of the first set flag (the last index if none but the last can be)."""
    width = clog2(len(flags))
    index: Value = C(len(flags) - 1, width)
    for n in reversed(range(len(flags) - 1)):
        index = Mux(flags[n], C(n, width), index)
    return index


class Fp32Rounding(wiring.Component):
    """fl32( fl32( acc * 2**-acc_fraction_bits ) * scale ), one per clock, no flow control.

    Both roundings are to nearest, ties to even. Subnormal scales and results are treated as IEEE 754 wants
    it, what is too large becomes an infinity, zeros have their sign (the first rounding gives +0 for 0). A scale that
    is not finite, or `nan`, gives the quiet NaN 0x7FC00000. The first rounding cannot over- or underflow.

    Parameters
    ----------
    config : Config
    tag_bits : int
        Width of what travels along.

    Attributes
    ----------
    latency : int
        Clocks from `i` to `o`.

    Members
    -------
    i : In(valid only)
        ``rounding_layout``; from registers.
    o : Out(valid only)
        ``rounded_layout``.
    """

    latency = LATENCY

    def __init__(self, *, config: Config, tag_bits: int = 0) -> None:
        self._acc_bits = config.acc_bits
        self._fraction_bits = config.acc_fraction_bits
        super().__init__({
            "i": In(valid_only(rounding_layout(config, tag_bits))),
            "o": Out(valid_only(rounded_layout(tag_bits))),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        s = _Stages(m)
        i = self.i.payload
        acc = i.acc.as_unsigned()
        s.put("acc", 0, acc)
        s.put("acc_sign", 0, acc[-1])
        s.put("scale", 0, i.scale)
        s.put("tag", 0, i.tag)
        s.put("forced_nan", 0, i.nan)
        self._magnitude(s)
        self._normalise(s)
        self._first_rounding(s)
        self._scale(s)
        self._multiply(m, s)
        self._second_rounding(s)

        valid: Value = self.i.valid
        for n in range(1, LATENCY + 1):
            valid = register(m, valid, f"valid_s{n}", reset_less=False)
        m.d.comb += [
            self.o.valid.eq(valid),
            self.o.payload.data.eq(Cat(s("result", LATENCY), s("result_sign", LATENCY))),
            self.o.payload.tag.eq(s("tag", LATENCY)),
        ]
        return m

    def _magnitude(self, s: _Stages) -> None:
        """Stages 1 to 3: |acc|. A negative number is inverted, and 1 added to each chunk below which all is 0."""
        chunks = [slice(low, min(low + CHUNK, self._acc_bits)) for low in range(0, self._acc_bits, CHUNK)]
        zero = [~s("acc", 0)[chunk].any() for chunk in chunks[:-1]]
        s.register("zero_chunks", 1, Cat(zero))
        s.register("carries", 2, Cat(s("acc_sign", 1) & s("zero_chunks", 1)[:k].all() for k in range(len(chunks))))
        sign, carries = s("acc_sign", 2), s("carries", 2)
        parts = []
        for k, chunk in enumerate(chunks):
            part = s("acc", 2)[chunk]
            parts.append(((part ^ sign.replicate(len(part))) + carries[k])[: len(part)])
        s.register("magnitude", 3, Cat(parts))

    def _normalise(self, s: _Stages) -> None:
        """Stages 4 to 11: the leading one comes to the top; what is too low for the rounding becomes a sticky bit."""
        # By whole chunks, counted from the top. Of the next chunk at most 24 bits can matter as such.
        count = -(-self._acc_bits // CHUNK)
        padding = C(0, count * CHUNK - self._acc_bits)

        def chunks(stage: int) -> list[Value]:
            padded = Cat(padding, s("magnitude", stage))
            return [padded[n * CHUNK : (n + 1) * CHUNK] for n in reversed(range(count))]

        s.register("chunk_any", 4, Cat(chunk.any() for chunk in chunks(3)))
        s.register("chunk_low_any", 4, Cat(chunk[:8].any() for chunk in chunks(3)))
        some, low = s("chunk_any", 4), s("chunk_low_any", 4)
        index = _leading_zeros(list(some))
        below = [Cat(low[n + 1 : n + 2], some[n + 2 :]).any() for n in range(count)]
        s.register("zeros_32", 5, index)
        s.register("sticky_32", 5, choose(index, below))
        s.register("acc_zero", 5, ~some.any())
        at = [*chunks(5), C(0, CHUNK)]
        windows = [Cat(at[n + 1][8:], at[n]) for n in range(count)]
        s.register("window", 6, choose(s("zeros_32", 5), windows))  # 56 bits

        # By whole bytes: 32 bits remain.
        parts = [s("window", 6)[8 * n : 8 * (n + 1)] for n in range(7)]
        s.register("byte_any", 7, Cat(part.any() for part in parts))
        some = s("byte_any", 7)
        index = _leading_zeros([some[6], some[5], some[4], some[3]])
        s.register("zeros_8", 8, index)
        s.register("sticky_8", 8, s("sticky_32", 7) | choose(index, [some[: 3 - n].any() for n in range(4)]))
        window = s("window", 8)
        s.register("word", 9, choose(s("zeros_8", 8), [window[24 - 8 * n : 56 - 8 * n] for n in range(4)]))

        # By bits: the significand and one more bit remain.
        top = s("word", 9)[24:]
        s.register("zeros_1", 10, _leading_zeros(list(reversed(top))))
        word, index = s("word", 10), s("zeros_1", 10)
        s.register("significand", 11, choose(index, [word[8 - n : 32 - n] for n in range(8)]))
        s.register("guard", 11, choose(index, [word[7 - n] for n in range(8)]))
        s.register("sticky", 11, s("sticky_8", 10) | choose(index, [word[: 7 - n].any() for n in range(8)]))

    def _first_rounding(self, s: _Stages) -> None:
        """Stages 12 to 14: significand `factor` (24 bits) and exponent, value = factor * 2**(exponent - 23)."""
        s.register("up", 12, s("guard", 11) & (s("sticky", 11) | s("significand", 11)[0]))
        s.register("rounded", 13, s("significand", 12) + s("up", 12))
        # It is 2**24 if it overflowed, else the top bit is set (or acc is 0, which counts nothing of this): so the
        # top bit needs no logic, and the register can be the DSP48E1's own.
        rounded = s("rounded", 13)
        s.register("factor", 14, Cat(rounded[:23], C(1, 1)))

        zeros = Cat(s("zeros_1", 11), s("zeros_8", 11), s("zeros_32", 11))
        exponent = Signal(signed(10))
        s.put("exponent_base", 12, exponent)
        s._m.d.sync += exponent.eq(self._acc_bits - 1 - self._fraction_bits - zeros)
        s.register("exponent", 14, (s("exponent_base", 13) + rounded[24])[:10].as_signed())

    def _scale(self, s: _Stages) -> None:
        """Stages 9 to 13: the scale's normalised significand and its biased exponent, which may be below 1."""
        field, fraction = s("scale", 8)[23:31], s("scale", 8)[:23]
        s.register("scale_significand", 9, Cat(fraction, field.any()))
        s.register("scale_field", 9, Cat(field[0] | ~field.any(), field[1:]))
        s.register("nan", 9, field.all() | s("forced_nan", 8))
        significand = s("scale_significand", 9)
        s.register("scale_any", 10, Cat(significand[8 * n : 8 * (n + 1)].any() for n in range(3)))
        some, significand = s("scale_any", 10), s("scale_significand", 10)
        index = _leading_zeros([some[2], some[1], some[0]])
        s.register("scale_zeros_8", 11, index)
        s.register("scale_bytes", 11, choose(index, [(significand << 8 * n)[:24] for n in range(3)]))
        s.register("scale_zero", 11, ~some.any())
        s.register("zero", 12, s("scale_zero", 11) | s("acc_zero", 11))
        s.register("scale_zeros_1", 12, _leading_zeros(list(reversed(s("scale_bytes", 11)[16:]))))
        significand = s("scale_bytes", 12)
        s.register("scale_factor", 13, choose(s("scale_zeros_1", 12), [(significand << n)[:24] for n in range(8)]))
        s.register("scale_exponent", 13, s("scale_field", 12) - Cat(s("scale_zeros_1", 12), s("scale_zeros_8", 12)))
        s.register("sign", 9, s("acc_sign", 8) ^ s("scale", 8)[31])

    def _multiply(self, m: Module, s: _Stages) -> None:
        """Stages 15 to 19: the 48-bit product of both significands, from two DSP48E1 (input, M and P registers)."""
        high, low = s("scale_factor", 14)[7:], s("scale_factor", 14)[:7]  # 17 and 7 bits
        for name, operand in (("high", high), ("low", low)):
            s.register(f"a_{name}", 15, s("factor", 14))
            s.register(f"b_{name}", 15, operand)
            s.register(f"m_{name}", 16, s(f"a_{name}", 15) * s(f"b_{name}", 15))
            s.register(f"p_{name}", 17, s(f"m_{name}", 16))
        # The sum of high << 7 and low, in two pieces.
        s.register("sum_low", 18, s("p_high", 17)[:24] + s("p_low", 17)[7:31])
        s.register("sum_lowest", 18, s("p_low", 17)[:7])
        s.register("sum_high", 19, (s("p_high", 18)[24:] + s("sum_low", 18)[24])[:17])
        s.register("product_sticky", 19, Cat(s("sum_lowest", 18), s("sum_low", 18)[:15]).any())  # bits 0 to 21
        s.register("exponent_sum", 15, s("exponent", 14) + s("scale_exponent", 14))

    def _second_rounding(self, s: _Stages) -> None:
        """Stages 20 to 26: normalise, shift a subnormal result right, round, put together."""
        product = Cat(s("sum_low", 19)[15:24], s("sum_high", 19))  # bits 22 to 47
        top = product[-1]
        s.register("y", 20, Mux(top, product[2:], product[1:-1]))
        s.register("y_guard", 20, Mux(top, product[1], product[0]))
        s.register("y_sticky", 20, s("product_sticky", 19) | (top & product[0]))
        s.register("y_exponent", 20, s("exponent_sum", 19) + top)  # biased

        # Below 1 the result is subnormal: shifted by 1 - exponent, 31 at most (then only the sticky bit is left).
        s.register("y_below", 21, 1 - s("y_exponent", 20))
        s.register("over", 21, s("y_exponent", 20) >= 255)
        s.register("subnormal", 21, s("y_exponent", 20) < 1)
        below, subnormal = s("y_below", 21), s("subnormal", 21)
        s.register("y_shift", 22, Mux(subnormal, below[:5] | below[5:-1].any().replicate(5), 0))
        s.register("y_field", 22, Mux(subnormal, 0, s("y_exponent", 21)[:8]))

        # What is lost in the first of two shifts is gathered beforehand.
        s.register("y_lost", 22, Cat(s("y", 21)[: n - 1].any() for n in (8, 16, 24)))

        def shift(stage: int, amount: Value, unit: int, lost: list[Value]) -> None:
            y, guard, sticky = (s(name, stage) for name in ("y", "y_guard", "y_sticky"))
            places = [unit * n for n in range(1 + len(lost))]
            lost = [sticky] + [sticky | guard | bits for bits in lost]
            s.register("y", stage + 1, choose(amount, [y[n:] for n in places]))
            s.register("y_guard", stage + 1, choose(amount, [guard] + [y[n - 1] for n in places[1:]]))
            s.register("y_sticky", stage + 1, choose(amount, lost))

        shift(22, s("y_shift", 22)[3:], 8, list(s("y_lost", 22)))
        shift(23, s("y_shift", 23)[:3], 1, [s("y", 23)[: n - 1].any() for n in range(1, 8)])

        # A carry out of the fraction goes to the exponent field, which is just right, also for the largest subnormal
        # number and for what becomes an infinity.
        y, nan, zero, over = (s(name, 24) for name in ("y", "nan", "zero", "over"))
        special = nan | zero | over
        up = s("y_guard", 24) & (s("y_sticky", 24) | y[0])
        s.register("y_up", 25, up & ~special)
        fraction = Cat(Mux(special, 0, y[:22]), Mux(special, nan, y[22]))
        field = Mux(special, (nan | ~zero).replicate(8), s("y_field", 24))
        s.register("y_bits", 25, Cat(fraction, field))
        s.register("result", LATENCY, (s("y_bits", 25) + s("y_up", 25))[:31])
        s.register("result_sign", LATENCY, s("sign", 25) & ~s("nan", 25))
