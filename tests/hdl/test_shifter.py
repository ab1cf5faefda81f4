"""The pipelined shifter against Python's ``<<``, a new operand in every clock, and the multiplexer tree below it."""

from itertools import pairwise

import pytest
from amaranth import Module
from amaranth.hdl import Const, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from seedlm.hdl.shifter import LeftShifter, choose, sign_extend
from tests.testbench.python_simulator import seeded, simulate


class Shift(wiring.Component):
    """A shifter with the registers of its result as ports ``part0``, ``part1``, ..."""

    def __init__(self, shifter, cuts):
        self.shifter, self.cuts = shifter, cuts
        sizes = [cut.stop - cut.start for cut in cuts] if cuts else [shifter.out_width]
        super().__init__({
            "value": In(signed(shifter.width)), "amount": In(shifter.amount_bits),
            **{f"part{n}": Out(signed(size)) for n, size in enumerate(sizes)},
        })  # fmt: skip
        self.parts = [getattr(self, f"part{n}") for n in range(len(sizes))]

    def elaborate(self, platform):
        m = Module()
        results = self.shifter.add(m, self.value, self.amount, name="shift", cuts=self.cuts)
        for part, result in zip(self.parts, results, strict=True):
            m.d.comb += part.eq(result)
        return m


def operands(generator, width, max_shift):
    """(value, amount): every amount with the extremes and with random values, in random order."""
    low, high = -(1 << width - 1), (1 << width - 1) - 1
    cases = [(value, amount) for amount in range(max_shift + 1) for value in {low, high, 0, -1}]
    cases += [(generator.randint(low, high), generator.randint(0, max_shift)) for _ in range(100)]
    return generator.sample(cases, len(cases))


def check_shifter(width, max_shift, cuts=None):
    shifter = LeftShifter(width=width, max_shift=max_shift)
    assert shifter.out_width == width + max_shift
    assert shifter.latency == -(-max_shift.bit_length() // 2)
    part = Shift(shifter, cuts)
    generator = seeded(f"shifter {width} {max_shift} {cuts}")
    cases = operands(generator, width, max_shift)
    want_cuts = cuts or [slice(0, shifter.out_width)]

    async def testbench(sim):
        # What follows the last operand is noise, so that an operand which stays too long shows.
        for clock in range(len(cases) + shifter.latency):
            noise = generator.getrandbits(width) - (1 << width - 1), generator.randint(0, max_shift)
            value, amount = cases[clock] if clock < len(cases) else noise
            if clock >= shifter.latency:
                n = clock - shifter.latency
                exact = cases[n][0] << cases[n][1]  # Python's integers have as many copies of the sign as one asks for
                for cut, signal in zip(want_cuts, part.parts, strict=True):
                    size = cut.stop - cut.start
                    got, want = sim.get(signal) % (1 << size), (exact >> cut.start) % (1 << size)
                    assert got == want, f"bits {cut} of {cases[n][0]} << {cases[n][1]}: {got:#x}, expected {want:#x}"
            sim.set(part.value, value)
            sim.set(part.amount, amount)
            await sim.tick()

    simulate(part, testbench)


# Amounts of an even and an odd number of bits, all values of the amount used and not, narrow and wide operands.
@pytest.mark.parametrize(
    ("width", "max_shift"),
    [(1, 1), (1, 5), (2, 2), (3, 3), (8, 4), (5, 7), (7, 8), (12, 15), (4, 16), (25, 44), (48, 29), (30, 63)],
)
def test_shifter(width, max_shift):
    check_shifter(width, max_shift)


@pytest.mark.parametrize(
    ("width", "max_shift", "bounds"),
    [(20, 44, [0, 34, 68, 72]), (6, 3, [0, 1, 2, 9]), (6, 1, [0, 4, 20, 24]), (9, 21, [0, 15, 30, 45])],
    ids=str,
)
def test_shifter_in_pieces(width, max_shift, bounds):
    """The result in several registers; those beyond the result are copies of the sign."""
    check_shifter(width, max_shift, [slice(a, b) for a, b in pairwise(bounds)])


def test_shift_of_nothing():
    with pytest.raises(ValueError, match="at least 1, not 0"):
        LeftShifter(width=4, max_shift=0)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 11, 16])
def test_choose(count):
    class Choose(wiring.Component):
        def __init__(self):
            super().__init__({"select": In(range(max(2, count))), "out": Out(8)})

        def elaborate(self, platform):
            m = Module()
            m.d.comb += self.out.eq(choose(self.select, [Const(n * 37 % 256, 8) for n in range(count)]))
            return m

    part = Choose()

    async def testbench(sim):
        for n in range(count):
            sim.set(part.select, n)
            await sim.delay(1e-9)
            assert sim.get(part.out) == n * 37 % 256

    simulate(part, testbench)


@pytest.mark.parametrize("width", [1, 3, 4, 5, 12])
def test_sign_extend(width):
    class Extend(wiring.Component):
        value: In(signed(4))
        out: Out(width)

        def elaborate(self, platform):
            m = Module()
            m.d.comb += self.out.eq(sign_extend(self.value, width))
            return m

    part = Extend()

    async def testbench(sim):
        for value in range(-8, 8):
            sim.set(part.value, value)
            await sim.delay(1e-9)
            assert sim.get(part.out) == value % (1 << width)

    simulate(part, testbench)
