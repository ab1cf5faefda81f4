"""Division and multiplication one bit per clock, for sums that are made once per product."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from seedlm.golden.build import clog2

__all__ = ["ConstantDivider", "SerialMultiplier"]


class ConstantDivider(wiring.Component):
    """Quotient and remainder of an unsigned number and a constant, most significant bit first.

    Parameters
    ----------
    width : int
        Bits of the dividend.
    divisor : int
        At least 1.

    Members
    -------
    start : in
        Takes `dividend`; not while `busy`.
    busy : out
        High from the clock after `start` until the results are there: `latency` clocks, none for a power of two.
    quotient, remainder : out
        The results, from the first clock without `busy` until the next `start`. Registers.
    """

    def __init__(self, *, width: int, divisor: int) -> None:
        if divisor < 1:
            raise ValueError(f"the divisor must be at least 1, not {divisor}")
        self._width = width
        self._divisor = divisor
        self._shift = clog2(divisor)
        self.latency = 0 if 1 << self._shift == divisor else width
        super().__init__({
            "start": In(1),
            "dividend": In(width),
            "busy": Out(1),
            "quotient": Out((((1 << width) - 1) // divisor).bit_length()),
            "remainder": Out(self._shift),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        if self.latency == 0:
            with m.If(self.start):
                m.d.sync += [
                    self.quotient.eq(self.dividend >> self._shift),
                    self.remainder.eq(self.dividend[: self._shift]),
                ]
            return m

        # One register: the bits still to come leave at the top while those of the quotient come in below.
        bits = Signal(self._width, reset_less=True)
        rest = Signal(self._shift, reset_less=True)
        left = Signal(range(self._width), reset_less=True)
        trial = Signal(self._shift + 2)
        partial = Cat(bits[-1], rest)
        m.d.comb += [
            trial.eq(partial - self._divisor),
            self.quotient.eq(bits),
            self.remainder.eq(rest),
        ]
        fits = ~trial[-1]
        with m.If(self.busy):
            m.d.sync += [
                bits.eq(Cat(fits, bits[:-1])),
                rest.eq(Mux(fits, trial, partial)),
                left.eq(left - 1),
                self.busy.eq(left != 0),
            ]
        with m.Elif(self.start):
            m.d.sync += [bits.eq(self.dividend), rest.eq(0), left.eq(self._width - 1), self.busy.eq(1)]
        return m


class SerialMultiplier(wiring.Component):
    """Product of two unsigned numbers, one bit of `b` per clock; the adder is as wide as `a`.

    Parameters
    ----------
    a_width, b_width : int
        Bits of the factors.

    Members
    -------
    start : in
        Takes `a` and `b`; not while `busy`.
    busy : out
        High for `b_width` clocks from the clock after `start`.
    product : out
        ``a * b``, from the first clock without `busy` until the next `start`. Registers.
    """

    def __init__(self, *, a_width: int, b_width: int) -> None:
        self._a_width = a_width
        self._b_width = b_width
        super().__init__({
            "start": In(1),
            "a": In(a_width),
            "b": In(b_width),
            "busy": Out(1),
            "product": Out(a_width + b_width),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # The bits of b leave `low` at the bottom while those of the product come in at the top.
        high = Signal(self._a_width, reset_less=True)
        low = Signal(self._b_width, reset_less=True)
        a = Signal(self._a_width, reset_less=True)
        left = Signal(range(max(2, self._b_width)), reset_less=True)
        total = Signal(self._a_width + 1)
        m.d.comb += [total.eq(high + Mux(low[0], a, 0)), self.product.eq(Cat(low, high))]
        with m.If(self.busy):
            m.d.sync += [
                Cat(low, high).eq(Cat(low[1:], total)),
                left.eq(left - 1),
                self.busy.eq(left != 0),
            ]
        with m.Elif(self.start):
            m.d.sync += [a.eq(self.a), low.eq(self.b), high.eq(0), left.eq(self._b_width - 1), self.busy.eq(1)]
        return m
