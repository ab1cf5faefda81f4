"""Binary16 weights: splits the two weights of a word into integers and powers of two."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed

from seedlm.hdl.decoders._base import WeightDecoder
from seedlm.hdl.delay import delay

__all__ = ["DECODER", "Float16Decoder"]


class Float16Decoder(WeightDecoder):
    """Weight = M * 2^z with an integer M.

    A binary16 number with exponent field f has z = max(f, 1) - 25. The field 31 (infinities, NaN)
    never comes from a checked file; here it is one more exponent, so that nothing can overflow.

    Members
    -------
    word : In(32)
        Two weights, the lower column in the low half.
    weights : Out(2 x signed(12))
        M.
    shift : Out(2 x 5)
        z + 24, 0..30.
    """

    # Stages 1 and 2 hold the word: the activation buffer answers three clocks after its address.
    latency = 3
    columns = 2
    weight_bits = 12
    max_shift = 30
    shift_per_column = True

    def elaborate(self, platform: object) -> Module:
        m = Module()
        word = delay(m, self.word, self.latency - 1, "word")
        for n in range(2):
            half = word[16 * n : 16 * n + 16]
            fraction, field, negative = half[:10], half[10:15], half[15]
            magnitude = Cat(fraction, field.any())
            # Stage 3: two's complement, and the distance from the smallest exponent.
            weight = Signal(signed(12), name=f"weight{n}", reset_less=True)
            exponent = Signal(5, name=f"exponent{n}", reset_less=True)
            m.d.sync += [
                weight.eq(Mux(negative, -magnitude, magnitude)),
                exponent.eq(Mux(field.any(), field - 1, 0)),
            ]
            m.d.comb += [self.weights[n].eq(weight), self.shift[n].eq(exponent)]
        return m


DECODER = Float16Decoder
