"""Trellis words: the stored bits are shifted through a register, and every window of it is a weight."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Const, Module, Signal, Value

from seedlm.golden.codecs.trellis import Table
from seedlm.hdl.decoders._base import WeightDecoder
from seedlm.hdl.delay import register

__all__ = ["DECODER", "TrellisDecoder"]


class TrellisDecoder(WeightDecoder):
    """Windows of the bit stream, XOR masks, and one table of 2**(m-1) levels per column.

    The window of column c are the L bits that end with its own k; the first columns of a word take what is missing from
    the word before (zeros at the start of a row). With y the parities of the window, y_top its top bit::

        N = +level[y]         where y_top = 1
        N = -level[~y]        where y_top = 0

    and y or ~y is linear in the window too: the parity under (mask XOR mask_top), inverted. Levels are odd or 0, and
    the negative of an odd number is its complement with bit 0 left as it is: the sign needs no adder.

    =======  ==========================================================================
    stage 1  the word, and the last L - k bits of the word before, or zeros
    stage 2  the parities of every window: index of the level, sign
    stage 3  the level (two LUT6 and a multiplexer per bit); no sign where the level is 0
    stage 4  N
    =======  ==========================================================================
    """

    latency = 4
    keeps_state = True

    @property
    def columns(self) -> int:
        return self.codec.columns

    @property
    def weight_bits(self) -> int:
        return self.codec.weight_bits

    def elaborate(self, platform: object) -> Module:
        m = Module()
        table = self.codec.definition
        # Stage 1. What the next word will need is kept from the last one that counted.
        kept = table.window - table.bits
        tail = Signal(kept, reset_less=True)
        with m.If(self.valid):
            m.d.sync += tail.eq(self.word[len(self.word) - kept :])
        word = register(m, self.word, "word_s1")
        before = register(m, tail & (~self.first).replicate(kept), "before_s1")
        stream = Cat(before, word)
        for c in range(self.columns):
            # Column c's own bits end at kept + (c + 1) k.
            window = stream[c * table.bits : c * table.bits + table.window]
            m.d.comb += self.weights[c].eq(self._weight(m, table, window, c))
        return m

    def _weight(self, m: Module, table: Table, window: Value, c: int) -> Signal:
        """Stages 2 to 4 of one column."""
        top, *others = table.masks

        def parity(mask: int) -> Value:
            return Cat(window[n] for n in range(table.window) if mask >> n & 1).xor()

        # Stage 2.
        index = register(m, Cat(~parity(mask ^ top) for mask in reversed(others)), f"index{c}_s2")
        negative = register(m, ~parity(top), f"negative{c}_s2")
        # Stage 3. The masks have full rank, so no parity above is that of nothing.
        levels = Array(Const(level, self.weight_bits) for level in table.levels)
        level = register(m, levels[index], f"level{c}_s3")
        zero = [n for n, value in enumerate(table.levels) if value == 0]
        none = Cat(index == n for n in zero).any() if zero else Const(0, 1)
        sign = register(m, negative & ~none, f"sign{c}_s3")
        # Stage 4. Kept: in the multiplier's own registers it would leave the sign's XOR in front of them.
        weight = Cat(level[0], level[1:] ^ sign.replicate(len(level) - 1)).as_signed()
        return register(m, weight, f"weight{c}_s4", attrs={"keep": "true"})


DECODER = TrellisDecoder
