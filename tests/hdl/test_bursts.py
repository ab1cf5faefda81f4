"""The burst splitter: every beat of every region once, bursts as long as may be, and never one without its credits."""

from itertools import pairwise

import cocotb
import pytest
from cocotb.triggers import RisingEdge

from seedlm.golden.build import Config
from seedlm.hdl.bursts import BurstSplitter
from tests.testbench.runner import run_testbench
from tests.testbench.side_by_side import SideBySide
from tests.testbench.streams import Sink, Source, Stalls, cycles, rng, start, until

# bus bits, greatest burst, most credits, credits after reset, address bits. Readers start with all their credits,
# writers with none; as few credits as one burst; bursts of 1, of 2 and of 256 beats; the shortest and longest
# addresses; block numbers that take one carry chain and two.
SHAPES = [
    (128, 16, 40, 40, 34), (128, 256, 300, 300, 34), (512, 64, 64, 0, 40), (128, 1, 3, 3, 64), (1024, 32, 100, 0, 48),
    (256, 4, 64, 64, 13), (128, 2, 2, 2, 20),
]  # fmt: skip
NAMES = ["s" + "_".join(map(str, shape)) for shape in SHAPES]


def naive_bursts(address, beats, beat_bytes, burst_beats):
    """(address, beats, last) of all bursts of a region, found beat by beat."""
    bursts = []
    for n in range(beats):
        at = address + n * beat_bytes
        if n == 0 or at % (burst_beats * beat_bytes) == 0:
            bursts.append([at, 0, 0])
        bursts[-1][1] += 1
    if bursts:
        bursts[-1][2] = 1
    return [tuple(burst) for burst in bursts]


def joined(bursts, beat_bytes, burst_beats):
    """The bursts with those put together again that begin in the middle of a block where the one before ended."""
    whole = []
    for address, beats, last in bursts:
        inside = address % (burst_beats * beat_bytes) != 0
        if inside and whole and not whole[-1][2] and whole[-1][0] + whole[-1][1] * beat_bytes == address:
            whole[-1] = (whole[-1][0], whole[-1][1] + beats, last)
        else:
            whole.append((address, beats, last))
    return whole


class Bench:
    """One splitter with its job source, its request sink and an account of the credits that is kept in every clock."""

    def __init__(self, dut, shape, clk, test, *, stall=0.0, credit_rate=0.0):
        self.bus, self.burst, self.credits, self.room, self.addr_bits = shape
        self.name = NAMES[SHAPES.index(shape)]
        self.beat_bytes = self.bus // 8
        self.rng = rng(f"{test} {self.name}")
        self.clk, self.credit_rate = clk, credit_rate
        self.signal = lambda port: getattr(dut, f"{self.name}__{port}")
        self.signal("credit").value = 0
        self.jobs = Source(
            dut, f"{self.name}__job", clk, stalls=Stalls(stall, longest=9, generator=rng(f"job {test} {self.name}"))
        )
        self.requests = Sink(
            dut, f"{self.name}__request", clk, stalls=Stalls(stall, longest=9, generator=rng(f"ready {self.name}"))
        )
        self.expected = []
        self.offered = 0  # beats
        self.give = 0  # credits to be given as soon as possible
        cocotb.start_soon(self._account())

    async def _account(self):
        """Give credits, at random and as `give` says, and never more than there may be; see that none is overdrawn."""
        offered = False
        given = 0  # in the clock that just ended
        while True:
            await RisingEdge(self.clk)
            valid = self.signal("request__valid").value == 1
            if valid and not offered:
                _, beats, _ = self.unpack(int(self.signal("request__payload").value))
                self.room -= beats
                self.offered += beats
                assert self.room >= 0, f"{self.name}: a burst of {beats} beats, {-self.room} more than may go"
            offered = valid and self.signal("request__ready").value == 0
            self.room += given
            given = int(self.room < self.credits and (self.give > 0 or self.rng.random() < self.credit_rate))
            self.give -= bool(given and self.give)
            self.signal("credit").value = given

    def unpack(self, item):
        """(address, beats, last) of a request."""
        mask = (1 << self.addr_bits) - 1
        return item & mask, (item >> self.addr_bits & 255) + 1, item >> self.addr_bits + 8

    def send(self, address, beats):
        self.jobs.send([address | beats << self.addr_bits])
        self.expected += naive_bursts(address, beats, self.beat_bytes, self.burst)

    def send_random(self, count):
        for _ in range(count):
            sizes = [1, 2, self.burst, self.burst + 1, 3 * self.burst, self.rng.randint(1, 4 * self.burst)]
            beats = min(self.rng.choice(sizes), 1 << self.addr_bits - self.beat_bytes.bit_length())
            place = self.rng.randrange((1 << self.addr_bits) // self.beat_bytes - beats + 1)
            self.send(place * self.beat_bytes, self.rng.choice([beats, beats, beats, 0]))

    def send_corners(self):
        """Around the ends of blocks, up to the end of memory, and across the carries of long addresses."""
        end = 1 << self.addr_bits
        block = self.burst * self.beat_bytes
        carries = {1 << bits for bits in (13, 20, 32, block.bit_length() + 31, 63) if bits < self.addr_bits}
        for place in sorted({0, block, end - 4 * block, *carries}):
            for first in {-1, 0, 1 - self.burst, -2 * self.burst}:
                for beats in {1, self.burst + 1, 3 * self.burst} if self.burst < 100 else {self.burst + 1}:
                    address = place + first * self.beat_bytes
                    if 0 <= address and address + beats * self.beat_bytes <= end:
                        self.send(address, beats)
        for beats in {1, 2, self.burst, 3 * self.burst - 1}:
            self.send(end - beats * self.beat_bytes, beats)

    def forget(self):
        """What was asked for and what came so far."""
        self.requests.clear()
        self.expected.clear()
        self.offered = 0

    async def check(self, *, flushed=False):
        """All bursts of all jobs came and nothing more; with `flushed` they may be cut."""
        limit = 1000 + sum(beats * 40 + 60 for _, beats, _ in self.expected)
        wanted = sum(beats for _, beats, _ in self.expected)
        await until(self.clk, lambda: self.offered >= wanted, limit, f"{self.name}: {wanted} beats")
        await cycles(self.clk, 40)
        bursts = [self.unpack(item) for item in self.requests.items]
        if flushed:
            block = self.burst * self.beat_bytes
            assert all(a // block == (a + (n - 1) * self.beat_bytes) // block for a, n, _ in bursts)
            bursts = joined(bursts, self.beat_bytes, self.burst)
        assert bursts == self.expected, self.name
        assert self.signal("job__ready").value == 1, f"{self.name}: not ready for another job"


async def everywhere(dut, test, action, *, shapes=SHAPES, **settings):
    """Reset, then run `action` on a bench for each shape at the same time."""
    inputs = {f"{name}__{port}": 0 for name in NAMES for port in ("job__valid", "request__ready", "credit", "flush")}
    clk = await start(dut, **inputs)
    tasks = [cocotb.start_soon(action(Bench(dut, shape, clk, test, **settings))) for shape in shapes]
    for task in tasks:
        await task


async def regions(dut, test, **settings):
    async def action(bench):
        bench.send_random(20)
        await bench.check()

    await everywhere(dut, test, action, **settings)


@cocotb.test()
async def no_stalls(dut):
    await regions(dut, "no_stalls", credit_rate=1.0)


@cocotb.test()
async def few_credits(dut):
    await regions(dut, "few_credits", credit_rate=0.3)


@cocotb.test()
async def few_of_all(dut):
    await regions(dut, "few_of_all", credit_rate=0.6, stall=0.3)


@cocotb.test()
async def corners(dut):
    async def action(bench):
        bench.send_corners()
        await bench.check()

    await everywhere(dut, "corners", action, credit_rate=1.0)


@cocotb.test()
async def flush_at_random(dut):
    async def action(bench):
        async def flush():
            while True:
                bench.signal("flush").value = bench.rng.getrandbits(1)
                await cycles(bench.clk, bench.rng.randint(1, 20))

        task = cocotb.start_soon(flush())
        bench.send_random(20)
        await bench.check(flushed=True)
        task.cancel()
        if bench.burst >= 16:  # otherwise the credits may always have been enough
            assert len(bench.requests.items) > len(bench.expected), f"{bench.name}: nothing was cut"

    await everywhere(dut, "flush", action, credit_rate=0.25, stall=0.1)


@cocotb.test()
async def credits_to_the_beat(dut):
    """A burst waits for its last credit; `flush` sends what there are credits for; the rest waits for its own."""

    async def action(bench):
        bench.give = 10**6
        await until(bench.clk, lambda: bench.room == bench.credits, 400)
        bench.give = 0
        await cycles(bench.clk, 3)
        # Use up all credits, by bursts of one beat in a block of their own each.
        for n in range(bench.credits):
            bench.send(n % 4 * bench.burst * bench.beat_bytes, 1)
        await bench.check()
        assert bench.room == 0
        bench.forget()

        bench.send(0, bench.burst)
        bench.give = bench.burst - 1
        await cycles(bench.clk, bench.burst + 30)
        assert bench.requests.items == [], f"{bench.name}: a burst without all its credits"
        if bench.burst > 2:
            bench.signal("flush").value = 1
            await cycles(bench.clk, 20)
            bench.signal("flush").value = 0
            assert [bench.unpack(i) for i in bench.requests.items] == [(0, bench.burst - 1, 0)]
        bench.give = 1
        await bench.check(flushed=True)
        assert bench.room == 0

    await everywhere(dut, "credits", action)


async def large_job(dut, beats):
    """The first bursts, none of which is the last. The reset at the start of the next test ends the job."""

    async def action(bench):
        first = (bench.burst - 1) * bench.beat_bytes  # so that the job ends as far away as it can
        memory = (1 << bench.addr_bits) // bench.beat_bytes
        bench.jobs.send([first | min(beats, memory - bench.burst + 1) << bench.addr_bits])
        await bench.requests.take(5, 2000)
        block = bench.burst * bench.beat_bytes
        got = [bench.unpack(item) for item in bench.requests.items[:5]]
        assert got == [(first, 1, 0), *((n * block, bench.burst, 0) for n in range(1, 5))], bench.name

    await everywhere(dut, "large", action, credit_rate=1.0)


@cocotb.test()
async def largest_job(dut):
    await large_job(dut, 2**32 - 1)


@cocotb.test()
async def job_with_one_high_bit(dut):
    await large_job(dut, 2**31 + 1)


@cocotb.test()
async def pace(dut):
    """The first burst 3 clocks after its job was taken, a burst every 2 clocks, a job every 3."""

    async def action(bench):
        async def steps(jobs):
            """Clocks from one burst to the next, for jobs that the credits cover."""
            await until(bench.clk, lambda: bench.room == bench.credits, 400)
            bench.forget()
            for address, beats in jobs:
                bench.send(address, beats)
            await bench.check()
            times = bench.requests.times
            return {after - before for before, after in pairwise(times)}

        await until(bench.clk, lambda: bench.room == bench.credits, 400)
        bench.send(0, bench.burst)
        job = bench.signal("job__valid"), bench.signal("job__ready")
        await until(bench.clk, lambda: all(signal.value == 1 for signal in job), 5)
        assert await until(bench.clk, lambda: bench.signal("request__valid").value == 1, 20) == 3, bench.name
        await bench.check()
        block = bench.burst * bench.beat_bytes
        assert await steps([(block, bench.credits // bench.burst * bench.burst)]) <= {2}, bench.name
        assert await steps([(n * bench.beat_bytes, 1) for n in range(bench.credits)]) == {3}, bench.name

    await everywhere(dut, "pace", action, credit_rate=1.0)


def test_bursts():
    parts = {}
    for name, (bus, burst, credits, initial, addr_bits) in zip(NAMES, SHAPES, strict=True):
        config = Config(bus_bits=bus, addr_bits=addr_bits, burst_beats=1)
        parts[name] = BurstSplitter(config=config, burst_beats=burst, credits=credits, initial=initial)
    run_testbench(SideBySide(parts), __name__, name="bursts")


def test_too_few_credits():
    with pytest.raises(ValueError, match="15 beats cannot hold a burst of 16"):
        BurstSplitter(config=Config(), burst_beats=16, credits=15, initial=15)
