"""Weights that are integers already: bytes in two's complement."""

from __future__ import annotations

from amaranth.hdl import Module

from seedlm.hdl.decoders._base import WeightDecoder
from seedlm.hdl.delay import register

__all__ = ["DECODER", "IntegerDecoder"]


class IntegerDecoder(WeightDecoder):
    """Nothing but the register that every decoder ends with.

    Members
    -------
    word : In(32)
        Four weights, the lowest column in the lowest byte.
    weights : Out(4 x signed(8))
        The same.
    """

    latency = 1
    columns = 4
    weight_bits = 8

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for n in range(self.columns):
            byte = self.word[8 * n : 8 * n + 8].as_signed()
            m.d.comb += self.weights[n].eq(register(m, byte, f"weight{n}"))
        return m


DECODER = IntegerDecoder
