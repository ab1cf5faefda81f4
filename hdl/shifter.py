"""Multiplexer trees and the pipelined left shift."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed

from seedlm.hdl.delay import register

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
        Largest amount, at least 1.
    limit : int, optional
        Bits that no result needs more of, where not every operand is shifted by every amount.

    Latency is `latency` clocks (one per two bits of the amount), throughput one operand per clock.
    """

    def __init__(self, *, width: int, max_shift: int, limit: int | None = None) -> None:
        if max_shift < 1:
            raise ValueError(f"the largest shift must be at least 1, not {max_shift}")
        self.width = width
        self.max_shift = max_shift
        self.amount_bits = max_shift.bit_length()
        self.out_width = width + max_shift if limit is None else min(width + max_shift, limit)

    @property
    def latency(self) -> int:
        return -(-self.amount_bits // 2)

    def add(
        self, m: Module, value: Value, amount: Value, *, name: str, cuts: Sequence[slice] | None = None
    ) -> list[Signal]:
        """The result registers, `latency` clocks after `value` and `amount`.

        Parameters
        ----------
        cuts : sequence of slice, optional
            Bits of the result that each register holds; those above `out_width` are copies of the
            sign. One register with the whole result by default.
        """
        width = self.width
        cuts = cuts or [slice(0, self.out_width)]
        at = 0
        for stage in range(self.latency):
            last = stage + 1 == self.latency
            # A stage of one bit only comes first, where the operand is narrowest.
            size = 1 if stage == 0 and self.amount_bits % 2 else 2
            bits = amount[at : at + size]
            # The last stage need not reach further than the largest shift.
            distances = [n << at for n in range(1 << size) if n << at <= self.max_shift]
            at += size
            width = min(width + distances[-1], self.out_width)
            parts = []
            for k, cut in enumerate(cuts if last else [slice(0, width)]):
                choices = [_window(value, cut.start - n, cut.stop - n) for n in distances]
                part = Signal(signed(cut.stop - cut.start), name=f"{name}_s{stage + 1}_{k}", reset_less=True)
                m.d.sync += part.eq(choose(bits, choices))
                parts.append(part)
            if not last:
                amount = register(m, amount, f"{name}_amount{stage + 1}")
                value = parts[0]
        return parts


def _window(value: Value, start: int, stop: int) -> Value:
    """Bits `start` to `stop` of the signed `value`: zeros below bit 0, copies of the sign above the top."""
    below = Const(0, max(0, min(stop, 0) - start))
    inside = value[max(start, 0) : max(0, min(stop, len(value)))]
    above = [value[-1]] * (stop - max(start, len(value)))
    return Cat(below, inside, *above)
