"""LFSR bank: expands a seed into all register states of a block in one clock."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from seedlm.golden.codecs.seed import SeedCodec
from seedlm.golden.lfsr import sequence_masks

__all__ = ["LfsrBank"]


class LfsrBank(wiring.Component):
    """The generator of one lane.

    The C*P successive states of the register are K-bit windows, one bit apart, of a single bit
    sequence whose first K bits are the seed::

        sequence   b0 b1 ... b(K-1) bK b(K+1) ...          bK = XOR of the tapped bits of state 0
        state 0    [b0 ........ bK-1]                      = the seed, bit i = b(i)
        state 1       [b1 ........ bK]                     first entry of V(s)
        state n              [bn ... b(n+K-1)]

    Each new bit is an XOR of seed bits; the masks come from running the one-step model on unit
    vectors (`golden.lfsr.sequence_masks`). At most 12 inputs for K = 16 and 24 states: two LUT levels.

    Latency is `latency` clocks, throughput one block per clock. No flow control.

    Parameters
    ----------
    codec : SeedCodec
    inverted : sequence of int, optional
        Numbers of bits that are wanted inverted too. None by default.

    Members
    -------
    seed : In(K)
        The stored seed, which is the register state itself.
    sequence : Out(K + C*P)
        Bits b0 .. b(K+C*P-1). State n is ``sequence[n:n + K]``, n = 1 .. C*P.
    inverted : Out(len(inverted))
        These bits, inverted: registers too, so that no LUT is needed between them and a DSP48E1.
    """

    latency = 1

    def __init__(self, *, codec: SeedCodec, inverted: Sequence[int] = ()) -> None:
        self.codec = codec
        self.length = codec.K + codec.C * codec.P
        self._inverted = list(inverted)
        super().__init__({
            "seed": In(codec.K), "sequence": Out(self.length), "inverted": Out(len(self._inverted)),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits = []
        for mask in sequence_masks(self.codec.K, self.length):
            bits.append(Cat(self.seed[i] for i in range(self.codec.K) if mask >> i & 1).xor())
        # Stage 1: the expanded sequence. Kept, since synthesis would move it into the DSP48E1s that it feeds, a second
        # register there, and leave the XORs in front of them.
        kept = {"keep": "true"}
        sequence = Signal(self.length, reset_less=True, attrs=kept)
        inverted = Signal(len(self._inverted), reset_less=True, attrs=kept)
        m.d.sync += [sequence.eq(Cat(bits)), inverted.eq(~Cat(bits[n] for n in self._inverted))]
        m.d.comb += [self.sequence.eq(sequence), self.inverted.eq(inverted)]
        return m
