"""Reconstruction: the integer weights N_c of a block from its LFSR sequence and coefficients."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from seedlm.golden.codecs._base import signed_bits
from seedlm.golden.codecs.seed import COEFFICIENT_BITS, SeedCodec
from seedlm.hdl.delay import delay, register
from seedlm.hdl.shifter import choose, sign_extend

__all__ = ["Reconstruction"]


@dataclass(frozen=True)
class _Tables:
    """What a row chooses from: the same for all rows of a block."""

    t: Value  # the factor T
    low_b: list[Value]  # sums of L_j: over the two topmost j
    low_a: list[Value]  # over the others
    same: Value  # 2^(3-P) (U_{P-2} + U_{P-3}), in units of 2^(K-3)
    differ: Value  # 2^(3-P) (U_{P-2} - U_{P-3})
    turn: list[Value]  # sums of +-L_j, j < P-3, in units of 2^(K-1); + where the bit of the index is 0


class Reconstruction(wiring.Component):
    r"""N_c = sum_p q_p (V_{c,p} - 2^(K-1)) for the C weights of a block, one multiplication each.

    The P windows of row c overlap in K-P+1 bits H; below H lie the bits l_j = b(cP+1+j), above it
    u_j = b(cP+1+K+j), j = 0..P-2. With::

        L_j = sum_{p<=j} 2^(j-p) q_p      T = L_{P-1}      U_j = 2^j sum_{p>j} 2^(P-1-p) q_p

    a low bit adds l_j L_j, and an upper bit adds U_j in units of 2^(K-P); or T 2^j, as if all windows had it, less the
    2^(P-1) L_j of those that have not. Taken as signs, u_j = 1 for + and 0 for -, with the top bit of the factor
    inverted, the upper bits absorb all the offsets 2^(K-1)::

        G   = H and u_j for j < P-3, inverted top bit, read as a signed number
        N_c = T G  +  sum_j l_j L_j  +  2^(K-P) ( sum_{j>=P-3} (+-) U_j  -  2^(P-1) sum_{j<P-3} (+-) L_j )

    T and the sums that can occur are the same for every row of the block: they are built once, one addition per stage.
    A row then adds four of them in one carry chain, one LUT per bit for the sum and a chosen operand, one for the other
    operand: of the upper ones the two topmost and the rest, of the low ones too.

    =====================  ==========================================================
    stage 1..table         T and the tables (meanwhile the LFSR runs)
    stage table+1          the correction, choice and sum; G and T enter the DSP48E1 (A, B)
    stage table+2          product (M); the correction enters the DSP48E1 (C)
    stage table+3          N_c = M + C (P)
    =====================  ==========================================================

    Latency is `latency` clocks from `coefficients` and ``latency - table_latency`` from `sequence`;
    throughput one block per clock. No flow control.

    Members
    -------
    coefficients : In(4 * P)
        q_0 in the low bits.
    sequence, signs : In(K + C*P), In(C)
        From `LfsrBank` (``inverted=sign_bits``), `table_latency` clocks after the coefficients.
    weights : Out(C x signed)
        N_0 .. N_(C-1).
    """

    def __init__(self, *, codec: SeedCodec) -> None:
        self.codec = codec
        self.weight_bits = signed_bits(codec.weight_max)
        super().__init__(
            {
                "coefficients": In(data.ArrayLayout(signed(COEFFICIENT_BITS), codec.P)),
                "sequence": In(codec.K + codec.C * codec.P),
                "signs": In(codec.C),
                "weights": Out(data.ArrayLayout(signed(self.weight_bits), codec.C)),
            }
        )

    @property
    def table_latency(self) -> int:
        """Stages that build the tables: one addition each."""
        return max(1, self.codec.P - 1)

    @property
    def latency(self) -> int:
        return self.table_latency + 3

    @property
    def sign_bits(self) -> list[int]:
        """The bits of the sequence that `signs` wants inverted: the top bit of G for every row."""
        return [self._factor_bits(c).stop - 1 for c in range(self.codec.C)]

    def _factor_bits(self, c: int) -> slice:
        """The bits of the sequence that are G of row c."""
        first = c * self.codec.P + 1
        return slice(first + self.codec.P - 1, first + self.codec.K + max(self.codec.P - 3, 0))

    def _tables(self, m: Module) -> _Tables:
        """The tables, `table_latency` clocks after the coefficients."""
        P = self.codec.P

        # T, which the multipliers of all rows take, is a register and stays one: they have a register of their own,
        # and synthesis would move this one there too and leave an adder in front of them.
        kept = {"keep": "true"}
        q = [self.coefficients[p] for p in range(P)]
        sums = [q[0]]  # L_j, after stage j
        for j in range(1, P):
            total = (sums[-1] << 1) + delay(m, q[j], j - 1, f"q{j}")
            sums.append(register(m, total, f"l{j}", attrs=kept if j == P - 1 else None))
        t = sums[-1] if P > 1 else register(m, q[0], "l0", attrs=kept)

        zero = Const(0, signed(1))
        # Of the low bits the two topmost.
        low_b = [zero]
        for j in range(max(P - 3, 0), P - 1):
            now = delay(m, sums[j], P - 2 - j, f"l{j}_b")
            low_b += [v + now if n else now for n, v in enumerate(low_b)]
        low_b = [zero, *(register(m, v, f"low_b{n}") for n, v in enumerate(low_b[1:], 1))]
        # Of the upper bits the two topmost.
        same = differ = zero
        if P == 2:
            same = register(m, q[1], "same")
        elif P > 2:
            tau, twice = register(m, q[P - 1] + (q[P - 2] << 1), "tau"), register(m, q[P - 1], "top") << 1
            same = delay(m, register(m, twice + tau, "same"), P - 3, "same")
            differ = delay(m, register(m, twice - tau, "differ"), P - 3, "differ")
        # The others, as late as possible: by doubling, one j per stage.
        low_a, turn = [zero], [zero]
        for j in range(P - 3):
            now = delay(m, sums[j], 2, f"l{j}_a")
            low_a = [*low_a[1:], *(v + now if n else now for n, v in enumerate(low_a))]
            low_a = [zero, *(register(m, v, f"low_a{j}_{n}") for n, v in enumerate(low_a, 1))]
            turn = [v + now for v in turn] + [v - now for v in turn] if j else [now, -now]
            turn = [register(m, v, f"turn{j}_{n}") for n, v in enumerate(turn)]
        return _Tables(t, low_b, low_a, same, differ, turn)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        codec = self.codec
        C, P, K = codec.C, codec.P, codec.K
        tables = self._tables(m)
        for c in range(C):
            # Stage table+1: A and B registers of the multiplier.
            factor = self.sequence[self._factor_bits(c)]
            factor_a = Signal(signed(len(factor)), name=f"factor{c}_a", reset_less=True)
            t_b = Signal(tables.t.shape(), name=f"t{c}_b", reset_less=True)
            m.d.sync += [factor_a.eq(Cat(factor[:-1], self.signs[c])), t_b.eq(tables.t)]
            # Stage table+2: product.
            product = Signal(signed(self.weight_bits), name=f"product{c}_m", reset_less=True)
            m.d.sync += product.eq(factor_a * t_b)
            # Stage table+3: N_c.
            weight = Signal(signed(self.weight_bits), name=f"weight{c}_p", reset_less=True)
            m.d.comb += self.weights[c].eq(weight)
            if P == 1:
                m.d.sync += weight.eq(product)
                continue
            n = c * P + 1
            below, above = self.sequence[n : n + P - 1], self.sequence[n + K : n + K + P - 1]
            correction = register(m, self._correction(m, tables, below, above, c), f"correction{c}")
            correction_c = register(m, correction, f"correction{c}_c")
            m.d.sync += weight.eq(product + correction_c)
        return m

    def _correction(self, m: Module, tables: _Tables, below: Value, above: Value, c: int) -> Value:
        """Stage table+1: what the bits `below` and `above` H of row c add, as `weight_bits` signed bits."""
        P, K, width = self.codec.P, self.codec.K, self.weight_bits
        unit = K - min(P, 3)
        # With s the topmost upper bit and the others read relative to it, the upper sum is +-(pair - 4 turn), + where
        # s = 1, in units of 2^(K-3). A negative number is the complement and 1 more; that 1 and the 1 that the low sum
        # borrows when it is negative need no carry of their own: high_a + high_b is the upper sum less 1, and the low
        # sum, read without its sign, carries if it is not negative.
        s = above[-1]
        turn = choose(Cat(bit ^ s for bit in above[:-2]), tables.turn)
        pair = Mux(above[-2] == s, tables.same, tables.differ) if P > 2 else tables.same
        # Of the two addends the carry chain takes one beside the sums, where its choice needs LUTs of its own (a); the
        # other is chosen in the LUTs of the sums (b). The low ones' names decide, by their order in the alphabet. The
        # reverse costs 80 LUTs; build/synthesis.py tells why.
        split = max(P - 3, 0)
        low_a, low_b = choose(below[:split], tables.low_a), choose(below[split:], tables.low_b)
        low_a, low_b = self._signed(m, low_a, f"low_beside{c}"), self._signed(m, low_b, f"low_chosen{c}")
        high_a = self._signed(m, Cat(Const(0, 2), turn) ^ s.replicate(2 + len(turn)), f"high_beside{c}")
        high_b = self._signed(m, pair.as_unsigned() ^ ~s.replicate(len(pair)), f"high_chosen{c}")
        if max(len(low_a), len(low_b)) > unit:  # short registers
            return ((high_a + high_b + 1) << unit) + low_a + low_b
        a = Cat(_unsigned(low_a, unit), sign_extend(high_a, width - unit))
        b = Cat(_unsigned(low_b, unit), sign_extend(high_b, width - unit))
        return (a + b)[:width].as_signed()

    @staticmethod
    def _signed(m: Module, value: Value, name: str) -> Signal:
        """The bits of `value`, read as a signed number, as a signal."""
        out = Signal(signed(len(value)), name=name)
        m.d.comb += out.eq(value)
        return out


def _unsigned(value: Value, width: int) -> Value:
    """``value + 2^(width-1)`` for |value| within 2^(width-1), as `width` raw bits."""
    return Cat(sign_extend(value, width - 1), ~value[-1])
