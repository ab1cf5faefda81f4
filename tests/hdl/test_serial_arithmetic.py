"""Serial division and multiplication: every result right, there after the stated clocks, and kept until the next."""

import pytest

from seedlm.hdl.serial_arithmetic import ConstantDivider, SerialMultiplier
from tests.testbench.python_simulator import seeded, simulate


async def check(sim, part, generator, inputs, outputs, cases, latency):
    """Start one calculation after the other, some at once and some after a rest.

    Parameters
    ----------
    inputs, outputs : list of signals
        What a case consists of; the inputs carry noise in all clocks without `start`.
    cases : list of (values, results)
    latency : int
        Clocks of `busy`.
    """
    assert sim.get(part.busy) == 0, "busy after reset"
    for values, results in cases:
        for signal, value in zip(inputs, values, strict=True):
            sim.set(signal, value)
        sim.set(part.start, 1)
        await sim.tick()
        sim.set(part.start, 0)
        for signal in inputs:
            sim.set(signal, generator.getrandbits(len(signal)))
        for clock in range(latency):
            assert sim.get(part.busy) == 1, f"{values}: not busy in clock {clock} of {latency}"
            await sim.tick()
        for clock in range(1 + generator.choice([0, 0, 1, 5])):
            if clock:
                await sim.tick()
            assert sim.get(part.busy) == 0, f"{values}: busy for more than {latency} clocks"
            got = tuple(sim.get(signal) for signal in outputs)
            assert got == results, f"{values}: {got}, expected {results}"
            for signal in inputs:
                sim.set(signal, generator.getrandbits(len(signal)))


def numbers(generator, width, count):
    """Unsigned numbers of `width` bits: all of them if that is not many, else the extremes and some of every size."""
    if 1 << width <= count:
        return generator.sample(range(1 << width), 1 << width)
    values = {0, 1, (1 << width) - 1, (1 << width) - 2, 1 << width - 1, (1 << width - 1) - 1}
    while len(values) < count:
        values.add(generator.getrandbits(generator.randint(1, width)))
    return generator.sample(sorted(values), len(values))


# Powers of two and not, 1, as large as the dividend can be, larger.
DIVISIONS = [
    (1, 1), (1, 2), (1, 3), (2, 3), (5, 1), (5, 4), (5, 5), (5, 31), (5, 32), (5, 33), (8, 3), (8, 255), (8, 254),
    (17, 12), (24, 1000003), (32, 3), (32, 16), (32, 0xFFFFFFFF), (33, 7),
]  # fmt: skip


@pytest.mark.parametrize(("width", "divisor"), DIVISIONS)
def test_divider(width, divisor):
    part = ConstantDivider(width=width, divisor=divisor)
    assert part.latency == (0 if divisor & divisor - 1 == 0 else width)
    generator = seeded(f"divider {width} {divisor}")
    dividends = numbers(generator, width, 60)
    near = [n * divisor + d for n in (1, 2, 3, (1 << width) // divisor) for d in (-1, 0, 1)]
    dividends += [n for n in near if 0 <= n < 1 << width]

    async def testbench(sim):
        cases = [((n,), (n // divisor, n % divisor)) for n in dividends]
        await check(sim, part, generator, [part.dividend], [part.quotient, part.remainder], cases, part.latency)

    simulate(part, testbench)


def test_divisor_of_nothing():
    with pytest.raises(ValueError, match="at least 1, not 0"):
        ConstantDivider(width=4, divisor=0)


@pytest.mark.parametrize(
    ("a_width", "b_width"), [(1, 1), (1, 5), (5, 1), (3, 4), (4, 3), (8, 8), (7, 20), (20, 7), (32, 32)]
)
def test_multiplier(a_width, b_width):
    part = SerialMultiplier(a_width=a_width, b_width=b_width)
    generator = seeded(f"multiplier {a_width} {b_width}")
    a, b = numbers(generator, a_width, 16), numbers(generator, b_width, 16)
    factors = [(x, y) for x in a for y in b] if a_width + b_width <= 8 else list(zip(a, b, strict=True))
    largest = (1 << a_width) - 1, (1 << b_width) - 1
    factors += [largest, (largest[0], 1), (1, largest[1]), (0, largest[1]), (largest[0], 0)]

    async def testbench(sim):
        cases = [((x, y), (x * y,)) for x, y in factors]
        await check(sim, part, generator, [part.a, part.b], [part.product], cases, b_width)

    simulate(part, testbench)
