"""Reconstruction: the integer weights N_c of a block from its LFSR sequence and coefficients."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from golden.params import COEFFICIENT_BITS, Codec, signed_bits
from hdl.delay import register
from hdl.shifter import choose, sign_extend

__all__ = ["Reconstruction"]


class Reconstruction(wiring.Component):
    r"""N_c = sum_p q_p (V_{c,p} - 2^(K-1)) for the C weights of a block, one multiplication each.

    The P windows of row c overlap in K-P+1 bits H; below H lie the bits l_j = b(cP+1+j), above it
    u_j = b(cP+1+K+j), j = 0..P-2. With the top bit of H inverted, so that it reads as a signed H',
    all offsets cancel and::

        N_c = T H'  +  sum_j l_j L_j  +  2^(K-P) sum_j (+-) U_j        (+ where u_j = 1, - where 0)

        T   = sum_p 2^(P-1-p) q_p              L_j = sum_{p<=j} 2^(j-p) q_p
        U_j = 2^j sum_{p>j} 2^(P-1-p) q_p

    T and the 2^(P-1) values of either sum are the same for every row of the block: they are built
    once, by doubling, one addition per stage. A row then selects one value of each table.

    =====================  ==========================================================
    stage 1..table         T, table of low sums, table of high sums (meanwhile the LFSR runs)
    stage table+1          select, add the low part's borrow; H' and T enter the DSP48E1 (A, B)
    stage table+2          product (M); the correction enters the DSP48E1 (C)
    stage table+3          N_c = M + C (P)
    =====================  ==========================================================

    Latency is `latency` clocks from `coefficients` and ``latency - table_latency`` from `sequence`;
    throughput one block per clock. No flow control.

    Members
    -------
    coefficients : In(4 * P)
        q_0 in the low bits.
    sequence : In(K + C*P)
        From `LfsrBank`, `table_latency` clocks after the coefficients.
    weights : Out(C x signed)
        N_0 .. N_(C-1).
    """

    def __init__(self, *, codec: Codec):
        self.codec = codec
        self.weight_bits = signed_bits(codec.weight_max)
        super().__init__(
            {
                "coefficients": In(data.ArrayLayout(signed(COEFFICIENT_BITS), codec.P)),
                "sequence": In(codec.K + codec.C * codec.P),
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

    def _tables(self, m: Module) -> tuple[Signal, list[Signal], list[Signal]]:
        """T, the low sums by l and the high sums minus 1 by u, after `table_latency` clocks."""
        P = self.codec.P

        q = [self.coefficients[p] for p in range(P)]
        t = q[0]  # L_{s-1}; L_{P-1} is T
        tau = q[P - 1]  # sum_{p>j} 2^(P-1-p) q_p
        low, high = [Const(0, signed(1))], []
        if P == 1:
            return register(m, t, "t_1"), low, high
        for s in range(1, P):
            j = P - 1 - s
            step = tau << j
            # l_{s-1} becomes the top bit of the low table's index ...
            without = [register(m, v, f"low{n}_{s}") for n, v in enumerate(low[1:], 1)]
            added = [register(m, v + t if n else t, f"low{n + len(low)}_{s}") for n, v in enumerate(low)]
            low = [low[0], *without, *added]
            # ... and u_j the bottom bit of the high table's. The low part borrows from the high part
            # when it is negative; starting at -1 turns that into a carry for when it is not.
            if s == 1:
                high = [register(m, ~step, "high0_1"), register(m, step - 1, "high1_1")]
            else:
                sums = [total for v in high for total in (v - step, v + step)]
                high = [register(m, total, f"high{n}_{s}") for n, total in enumerate(sums)]
            t = register(m, (t << 1) + q[s], f"t_{s}")
            tau = register(m, tau + (q[j] << (P - 1 - j)), f"tau_{s}")
            q = [register(m, v, f"q{n}_{s}") for n, v in enumerate(q)]
        return t, low, high

    def elaborate(self, platform):
        m = Module()
        codec = self.codec
        C, P, K = codec.C, codec.P, codec.K
        t, low_table, high_table = self._tables(m)
        unit = K - P  # the high sums count in 2^(K-P)
        low_max = 8 * sum((2 << j) - 1 for j in range(P - 1))

        for c in range(C):
            n = c * P + 1
            h = self.sequence[n + P - 1 : n + K]
            # Stage table+1: A and B registers of the multiplier, and the correction.
            h_a = Signal(signed(len(h)), name=f"h{c}_a", reset_less=True)
            t_b = Signal(t.shape(), name=f"t{c}_b", reset_less=True)
            m.d.sync += [h_a.eq(Cat(h[:-1], ~h[-1])), t_b.eq(t)]
            # Stage table+2: product.
            product = Signal(signed(self.weight_bits), name=f"product{c}_m", reset_less=True)
            m.d.sync += product.eq(h_a * t_b)
            # Stage table+3: N_c.
            weight = Signal(signed(self.weight_bits), name=f"weight{c}_p", reset_less=True)
            m.d.comb += self.weights[c].eq(weight)
            if P == 1:
                m.d.sync += weight.eq(product)
                continue
            below = self.sequence[n : n + P - 1]
            above = self.sequence[n + K : n + K + P - 1]
            low = Signal(signed(max(len(v) for v in low_table)), name=f"low{c}")
            high = Signal(signed(max(len(v) for v in high_table)), name=f"high{c}")
            m.d.comb += [low.eq(choose(below, low_table)), high.eq(choose(above, high_table))]
            correction = Signal(signed(self.weight_bits), name=f"correction{c}", reset_less=True)
            if low_max <= 1 << unit:
                m.d.sync += correction.eq(Cat(sign_extend(low, unit), high + ~low[-1]).as_signed())
            else:  # short registers: the low sums reach beyond the unit
                m.d.sync += correction.eq(((high + 1) << unit) + low)
            correction_c = Signal(signed(self.weight_bits), name=f"correction{c}_c", reset_less=True)
            m.d.sync += correction_c.eq(correction)
            m.d.sync += weight.eq(product + correction_c)
        return m
