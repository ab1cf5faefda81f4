"""Multiplexer trees and the pipelined left shift."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed

from hdl.delay import register

__all__ = ["LeftShifter", "choose", "sign_extend"]


def sign_extend(value: Value, width: int) -> Value:
    """The signed `value` as `width` raw bits."""
    return Cat(value, *[value[-1]] * (width - len(value)))[:width]


def choose(select: Value, choices: list[Value]) -> Value:
    """`choices[select]` as a tree of two-input multiplexers (four-input ones fit one LUT6).

    `choices` may be shorter than 2**len(select); what lies beyond is never selected.
    """
    if len(choices) == 1:
        return choices[0]
    top = len(select) - 1
    half = 1 << top
    if len(choices) <= half:
        return choose(select[:top], choices)
    return Mux(select[top], choose(select[:top], choices[half:]), choose(select[:top], choices[:half]))


class LeftShifter:
    """Pipelined left shift of a signed number: two bits of the amount (one LUT6) per stage.

    Not a component of its own: `add` builds the stages inside the caller's module.

    Parameters
    ----------
    width : int
        Bits of the operand.
    max_shift : int
        Largest amount.

    Latency is `latency` clocks (one per two bits of the amount), throughput one operand per clock.
    """

    def __init__(self, *, width: int, max_shift: int):
        self.width = width
        self.max_shift = max_shift
        self.amount_bits = max_shift.bit_length()

    @property
    def latency(self) -> int:
        return -(-self.amount_bits // 2)

    @property
    def out_width(self) -> int:
        return self.width + self.max_shift

    def add(self, m: Module, value: Value, amount: Value, *, name: str) -> Value:
        """The result register, `latency` clocks after `value` and `amount`."""
        width = self.width
        for stage in range(self.latency):
            bits = amount[2 * stage : min(2 * stage + 2, self.amount_bits)]
            unit = 1 << (2 * stage)
            # The last stage need not reach further than the largest shift.
            width = min(width + unit * ((1 << len(bits)) - 1), self.out_width)
            choices = [Cat((value << (unit * n)), *[value[-1]] * width)[:width] for n in range(1 << len(bits))]
            shifted = Signal(signed(width), name=f"{name}_s{stage + 1}", reset_less=True)
            m.d.sync += shifted.eq(choose(bits, choices))
            if stage + 1 < self.latency:
                amount = register(m, amount, f"{name}_amount{stage + 1}")
            value = shifted
        return value
