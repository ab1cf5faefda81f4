"""The slicer against a model that takes bits one after the other: sizes, amounts, errors, room, and the full rate."""

import cocotb
import pytest
from cocotb.triggers import RisingEdge

from seedlm.hdl.slicer import Slicer
from tests.testbench.runner import run_testbench
from tests.testbench.side_by_side import SideBySide
from tests.testbench.streams import Sink, Source, Stalls, cycles, rng, start

# beat bits, part bits, amount bits, amount per part, amount per beat (None: a job takes the beats its parts need).
SHAPES = [
    (16, 16, 6, 1, None), (16, 24, 6, 1, None), (16, 10, 6, 1, None), (8, 9, 6, 1, None), (32, 12, 6, 1, None),
    (16, 1, 6, 1, None), (8, 40, 5, 1, None), (32, 8, 6, 1, None), (16, 24, 1, 1, None), (64, 63, 5, 1, None),
    (16, 15, 7, 3, None), (16, 12, 7, 3, 4), (16, 32, 7, 8, 4), (8, 28, 6, 7, 2), (16, 16, 6, 4, 4), (64, 8, 7, 2, 16),
    (16, 40, 4, 10, 4),
]  # fmt: skip
NAMES = ["s" + "_".join(map(str, shape)) for shape in SHAPES]


def slicer(shape):
    beat, part, amount, per_part, per_beat = shape
    return Slicer(beat_bits=beat, part_bits=part, amount_bits=amount, per_part=per_part, per_beat=per_beat)


def virtual_beats(shape, amount):
    """Beats that the parts of a job need, whether they are taken or not."""
    beat, part, _, per_part, _ = shape
    return -(-(-(-amount // per_part) * part) // beat)


def job(shape, amount, generator, p_error):
    """A job's random beats and its parts: ((data, error), ...), ((data, known bits, last, error, left), ...)."""
    beat, part, _, per_part, per_beat = shape
    parts = -(-amount // per_part)
    taken = virtual_beats(shape, amount) if per_beat is None else -(-amount // per_beat)
    beats = [(generator.getrandbits(beat), int(generator.random() < p_error)) for _ in range(taken)]
    expected = []
    for n in range(parts):
        data = known = error = 0
        for bit in range(part):
            of, at = divmod(n * part + bit, beat)
            if of < taken:
                data |= (beats[of][0] >> at & 1) << bit
                known |= 1 << bit
                error |= beats[of][1]
        expected.append((data, known, int(n == parts - 1), error, amount - n * per_part))
    return beats, expected


class Bench:
    """One slicer, its sources, what comes out of it, and a look at `taken` and `room` in every clock."""

    def __init__(self, dut, shape, clk, test, *, stall=0.0, room=1.0):
        self.shape, self.clk, self.name = shape, clk, NAMES[SHAPES.index(shape)]
        self.rng = rng(f"{test} {self.name}")
        self.latency = slicer(shape).latency
        self.signal = lambda port: getattr(dut, f"{self.name}__{port}")

        def source(port):
            stalls = Stalls(stall, longest=6, generator=rng(f"{test} {self.name} {port}"))
            return Source(dut, f"{self.name}__{port}", clk, stalls=stalls)

        self.beats, self.jobs = source("i"), source("job")
        self.parts = Sink(dut, f"{self.name}__o", clk)
        self.expected = []
        self.sent = self.clocks = 0
        self.room = Stalls(1 - room, longest=5, generator=rng(f"{test} {self.name} room"))
        cocotb.start_soon(self._watch())

    async def _watch(self):
        taken = []
        while True:
            self.signal("room").value = int(not self.room())
            await RisingEdge(self.clk)
            taken.append(int(self.signal("taken").value))
            assert not taken[-1] or (self.signal("room").value == 1 and self.signal("active").value == 1), self.name
            promised = taken[-1 - self.latency] if len(taken) > self.latency else 0
            assert self.signal("o__valid").value == promised, f"{self.name}: not {self.latency} clocks after taken"

    def send(self, amounts, p_error):
        beat = self.shape[0]
        for amount in amounts:
            beats, parts = job(self.shape, amount, self.rng, p_error)
            self.sent += len(beats)
            self.expected += parts
            self.beats.send(data | self.rng.getrandbits(1) << beat | error << beat + 1 for data, error in beats)
        self.jobs.send(amounts)
        self.count = len(amounts)

    async def check(self):
        part = self.shape[1]
        items = await self.parts.take(len(self.expected), 500 + 40 * (self.sent + len(self.expected)))
        for n, (item, (data, known, *rest)) in enumerate(zip(items, self.expected, strict=True)):
            assert item & known == data, f"{self.name}: part {n} is {item & known:#x}, expected {data:#x}"
            got = [item >> part & 1, item >> part + 1 & 1, item >> part + 2]
            assert got == rest, f"{self.name}: last, error, left of part {n} are {got}, expected {rest}"
        await cycles(self.clk, 40)
        assert len(self.parts.items) == len(self.expected), f"{self.name}: parts that nobody asked for"
        assert (self.beats.sent, self.jobs.sent) == (self.sent, self.count), self.name
        assert self.signal("active").value == 0, f"{self.name}: active without a job"


async def everywhere(dut, test, action, **settings):
    """Run `action` on a bench for each shape at the same time."""
    clk = await start(dut, **{f"{n}__{port}": 0 for n in NAMES for port in ("room", "job__valid", "i__valid")})
    tasks = [cocotb.start_soon(action(Bench(dut, shape, clk, test, **settings))) for shape in SHAPES]
    for task in tasks:
        await task


def amounts_of(shape, generator, count):
    """The shortest and the longest job, those around the ends of parts and beats, and random ones."""
    _, _, bits, per_part, per_beat = shape
    most = (1 << bits) - 1
    corners = {1, 2, most, *(n * size + d for size in (per_part, per_beat or 1) for n in (1, 2, 3) for d in (-1, 0, 1))}
    amounts = [a for a in corners if 1 <= a <= most]
    amounts += [1, 1, *(generator.randint(1, most) for _ in range(count))]
    return generator.sample(amounts, len(amounts))


async def traffic(dut, test, p_error=0.0, **settings):
    async def action(bench):
        bench.send(amounts_of(bench.shape, bench.rng, 6), p_error)
        await bench.check()

    await everywhere(dut, test, action, **settings)


@cocotb.test()
async def no_stalls(dut):
    await traffic(dut, "no_stalls", p_error=0.2)


@cocotb.test()
async def few_stalls(dut):
    await traffic(dut, "few_stalls", p_error=0.1, stall=0.1, room=0.9)


@cocotb.test()
async def many_stalls(dut):
    await traffic(dut, "many_stalls", p_error=0.5, stall=0.4, room=0.6)


@cocotb.test()
async def only_room_stalls(dut):
    await traffic(dut, "room", p_error=0.1, room=0.5)


@cocotb.test()
async def full_rate(dut):
    """Jobs of two parts and more: the larger side sets the pace and no clock is lost between jobs."""

    async def action(bench):
        beat, part, bits, per_part, _ = bench.shape
        most = (1 << bits) - 1
        if most <= per_part:
            return  # no job of two parts
        amounts = [per_part + 1, per_part + 1, most, *(bench.rng.randint(per_part + 1, most) for _ in range(4))]
        bench.send(amounts, 0.0)
        await bench.check()
        clocks = bench.parts.times[-1] - bench.parts.times[0] + 1
        if part <= beat:
            assert clocks == len(bench.expected), bench.name
        else:
            first = -(-part // beat)  # beats until the first part
            assert clocks == sum(virtual_beats(bench.shape, a) for a in amounts) - first + 1, bench.name

    await everywhere(dut, "rate", action)


def test_slicer():
    parts = {name: slicer(shape) for name, shape in zip(NAMES, SHAPES, strict=True)}
    run_testbench(SideBySide(parts), __name__, name="slicers")


def test_latency():
    """A clock for every two bits of the rotation, at least one; none where part and beat are the same."""
    for shape in SHAPES:
        part = slicer(shape)
        stages = -(-(part.beat_units.bit_length() - 1) // 2)
        assert part.latency == (0 if shape[0] == shape[1] else max(1, stages))


def test_beats_of_three_units():
    with pytest.raises(ValueError, match="24 bits are not a power of two times the unit of 8 bits"):
        Slicer(beat_bits=24, part_bits=16, amount_bits=4)
