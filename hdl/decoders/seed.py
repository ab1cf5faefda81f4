"""Blocks of a seed, an exponent and coefficients: the LFSR bank and the reconstruction of a lane."""

from __future__ import annotations

from amaranth.hdl import Cat, Module

from seedlm.golden.codecs import Codec
from seedlm.hdl.decoders._base import WeightDecoder, WordPart
from seedlm.hdl.delay import delay
from seedlm.hdl.lfsr_bank import LfsrBank
from seedlm.hdl.reconstruction import Reconstruction

__all__ = ["DECODER", "SeedDecoder"]


class SeedDecoder(WeightDecoder):
    """A block per clock: `LfsrBank` expands the seed while `Reconstruction` builds its tables of the coefficients.

    Members
    -------
    word : In(B + 4 * P)
        Exponent and coefficients.
    seed : In(K)
        Later, when the tables are built.
    weights : Out(C x signed)
        N_0 .. N_(C-1).
    shift : Out(B)
        The exponent's distance from the smallest one, e - e_min. Not for B = 0.
    """

    def __init__(self, *, codec: Codec) -> None:
        self._reconstruction = Reconstruction(codec=codec)
        super().__init__(codec=codec)

    @property
    def latency(self) -> int:
        return self._reconstruction.latency

    @property
    def columns(self) -> int:
        return self.codec.C

    @property
    def weight_bits(self) -> int:
        return self._reconstruction.weight_bits

    @property
    def max_shift(self) -> int:
        return (1 << self.codec.B) - 1

    @property
    def word_parts(self) -> tuple[WordPart, ...]:
        """The seed is not wanted before the tables of the coefficients are built."""
        K = self.codec.K
        phase = self._reconstruction.table_latency - LfsrBank.latency
        return WordPart("word", slice(K, self.codec.word_bits)), WordPart("seed", slice(0, K), phase)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        B = self.codec.B
        m.submodules.reconstruction = reconstruction = self._reconstruction
        m.submodules.lfsr_bank = lfsr_bank = LfsrBank(codec=self.codec, inverted=reconstruction.sign_bits)
        exponent, coefficients = self.word[:B], self.word[B:]
        m.d.comb += [
            lfsr_bank.seed.eq(self.seed),
            reconstruction.coefficients.eq(coefficients),
            reconstruction.sequence.eq(lfsr_bank.sequence),
            reconstruction.signs.eq(lfsr_bank.inverted),
            self.weights.eq(reconstruction.weights),
        ]
        if B:
            # e - e_min is e with its sign bit inverted (two's complement to offset binary).
            offset = Cat(exponent[:-1], ~exponent[-1])
            m.d.comb += self.shift.eq(delay(m, offset, self.latency, "exponent"))
        return m


DECODER = SeedDecoder
