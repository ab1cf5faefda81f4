"""The read streamer on its read master: every beat of every region, nothing else, and no lost clock."""

import json
import os

import cocotb
import pytest
from amaranth import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from cocotb.triggers import RisingEdge

from seedlm.golden.build import Config
from seedlm.hdl import axi
from seedlm.hdl.bursts import check_burst
from seedlm.hdl.layouts import beat_layout, read_job_layout
from seedlm.hdl.read_master import ReadMaster
from seedlm.hdl.streamer import ReadStreamer
from tests.testbench.axi_memory import ReadMemory
from tests.testbench.runner import run_testbench
from tests.testbench.streams import Later, Sink, Source, Stalls, cycles, rng, start, until


class ReadPath(wiring.Component):
    """One streamer with a read master of its own."""

    def __init__(self, config, fifo_beats, burst_beats):
        self.streamer = ReadStreamer(config=config, fifo_beats=fifo_beats, burst_beats=burst_beats)
        self.master = ReadMaster(config=config, ports=1)
        super().__init__({
            "job": In(stream.Signature(read_job_layout(config))), "o": Out(stream.Signature(beat_layout(config))),
            "idle": Out(1), **axi.read_members(config),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        m.submodules.streamer, m.submodules.master = streamer, master = self.streamer, self.master
        wiring.connect(m, wiring.flipped(self.job), streamer.job)
        wiring.connect(m, streamer.o, wiring.flipped(self.o))
        wiring.connect(m, streamer.request, master.request[0])
        wiring.connect(m, master.response[0], streamer.response)
        m.d.comb += self.idle.eq(master.idle)
        for name in master.signature.members:
            if name.startswith(axi.PREFIX):
                ours, theirs = getattr(self, name), getattr(master, name)
                m.d.comb += ours.eq(theirs) if master.signature.members[name].flow == Out else theirs.eq(ours)
        return m


class Bench:
    """The design with a memory, a source of jobs and a sink; knows what has to come."""

    def __init__(self):
        self.bus, self.burst, self.fifo, self.addr_bits = json.loads(os.environ["READ_PATH"])
        self.beat_bytes = self.bus // 8
        self.regions = []
        self.wrong = set()
        self.expected = []

    async def start(self, dut, *, stall=0.0, latency=1, sink_stalls=None, name=""):
        def pauses(what, longest):
            return Stalls(stall, longest=longest, generator=rng(name + what)) if stall else Stalls()

        self.clk = await start(dut, job__valid=0)
        self.memory = ReadMemory(
            dut, self.clk, self.data, regions=self.regions, ar_stalls=pauses("ar", 9), r_stalls=pauses("r", 5),
            latency=latency, errors=lambda address: address in self.wrong,
        )  # fmt: skip
        self.jobs = Source(dut, "job", self.clk, stalls=pauses("job", 5))
        self.sink = Sink(dut, "o", self.clk, stalls=sink_stalls or pauses("o", 6))
        self.dut = dut

    def data(self, address):
        return int.from_bytes(rng(f"beat{address}").randbytes(self.beat_bytes), "little")

    def read(self, address, beats, wrong=()):
        """Queue a job; `wrong` lists the beats that the memory answers with an error."""
        if beats:
            self.regions.append((address, address + beats * self.beat_bytes))
        for n in range(beats):
            beat = address + n * self.beat_bytes
            if n in wrong:
                self.wrong.add(beat)
            self.expected.append((None if n in wrong else self.data(beat), int(n == beats - 1), int(n in wrong)))
        self.jobs.send([address | beats << self.addr_bits])

    async def check(self, *, quiet=80):
        """Everything came, in order, and the bursts asked for exactly that."""
        items = await self.sink.take(len(self.expected), 500 + 40 * len(self.expected))
        mask = (1 << self.bus) - 1
        for n, (item, (value, last, error)) in enumerate(zip(items, self.expected, strict=True)):
            got = item & mask, item >> self.bus & 1, item >> self.bus + 1
            assert got[1:] == (last, error), f"beat {n}: last, error are {got[1:]}, expected {last, error}"
            assert error or got[0] == value, f"beat {n}: {got[0]:#x}, expected {value:#x}"
        await cycles(self.clk, quiet)
        assert len(self.sink.items) == len(self.expected), "beats came that nobody asked for"
        assert sum(b.length for b in self.memory.bursts) == len(self.expected), "beats were read that nobody asked for"
        assert all(b.length <= self.burst for b in self.memory.bursts)
        assert self.dut.idle.value == 1


def places(bench):
    """(address, beats) around the ends of bursts and of 4 KiB."""
    burst, page = bench.burst, 4096 // bench.beat_bytes
    at = sorted({0, 1, burst - 1, burst % page, (burst + 1) % page, page - burst, page - 1} & set(range(page)))
    lengths = sorted({1, 2, burst - 1, burst, burst + 1, 2 * burst, 2 * burst + 3, page - 1, page, page + 1} - {0})
    generator = rng("places")
    for offset in at:
        for length in lengths:
            yield (generator.randrange(1 << bench.addr_bits - 16) * 4096) + offset * bench.beat_bytes, length


@cocotb.test()
async def regions(dut):
    bench = Bench()
    await bench.start(dut, latency=5)
    jobs = list(places(bench))
    # Across the carries of the address, also where the hardware cuts them.
    size = bench.burst * bench.beat_bytes
    for bits in {16, 24, 32, size.bit_length() - 1 + 32, 48} & set(range(bench.addr_bits)):
        jobs += [((1 << bits) - n * size, 3 * bench.burst) for n in (1, 2)]
    rng("order").shuffle(jobs)
    for address, beats in jobs:
        bench.read(address, beats)
    await bench.check()
    # No more bursts than the boundaries ask for.
    least = sum((a + n * bench.beat_bytes - 1) // size - a // size + 1 for a, n in jobs)
    assert len(bench.memory.bursts) == least


async def stalls(dut, stall):
    generator = rng(f"stalls{stall}")
    bench = Bench()
    await bench.start(dut, stall=stall, latency=3)
    for place in generator.sample(range(1, 1 << bench.addr_bits - 14), 25):  # apart, so that errors are their own
        beats = generator.choice([0, 1, 2, 3, bench.burst, generator.randint(1, 3 * bench.burst)])
        address = (place << 14) + generator.randrange(4096 // bench.beat_bytes) * bench.beat_bytes
        bench.read(address, beats, wrong=[n for n in range(beats) if generator.random() < 0.1])
    bench.read(0x1000, 2)
    await bench.check()


@cocotb.test()
async def few_stalls(dut):
    await stalls(dut, 0.05)


@cocotb.test()
async def many_stalls(dut):
    await stalls(dut, 0.4)


@cocotb.test()
async def no_job_no_read(dut):
    bench = Bench()
    await bench.start(dut)
    for _ in range(3):
        bench.read(0x4000, 0)
    await cycles(bench.clk, 60)
    await bench.check()
    assert bench.jobs.sent == 3
    assert bench.memory.bursts == []
    bench.read(0x4000, 1)
    await bench.check()


@cocotb.test()
async def first_request(dut):
    """ARVALID rises four clocks after the job was taken: three in the streamer, one in the master."""
    bench = Bench()
    await bench.start(dut)
    await cycles(bench.clk, 5)
    bench.read(0x8000, 10)
    await until(bench.clk, lambda: dut.job__valid.value == 1 and dut.job__ready.value == 1, 20)
    assert await until(bench.clk, lambda: dut.m_axi_arvalid.value == 1, 20) == 4


@cocotb.test()
async def full_rate(dut):
    """Jobs back to back with the greatest latency that the buffer covers: the output has no gap."""
    bench = Bench()
    latency = bench.fifo - 2 * bench.burst - 10
    await bench.start(dut, latency=max(1, latency))
    bench.read(0x10000, 200)
    for n, beats in enumerate([4, 5, 64, 7, 65, 127, 300, 4, 4, 4, 33]):
        bench.read(0x100000 + n * 0x10000, beats)
    await bench.check()
    clocks = bench.sink.times[-1] - bench.sink.times[0] + 1
    if latency > 0:
        assert clocks == len(bench.expected), f"{len(bench.expected)} beats took {clocks} clocks"


@cocotb.test()
async def rides_through(dut):
    """A full buffer, then memory that pauses for 80 clocks (or what the buffer holds): the output notices nothing."""
    bench = Bench()
    gap = min(80, bench.fifo - 8)
    wait = bench.fifo + 100
    await bench.start(dut, latency=20, sink_stalls=Later(wait))
    bench.read(0x20000, bench.fifo * 3)
    await cycles(bench.clk, wait - 5)
    # Full to the brim, and not a beat more.
    assert sum(b.length for b in bench.memory.bursts) == bench.fifo // bench.burst * bench.burst
    assert sum(len(b.beats) for b in bench.memory.bursts) == bench.fifo // bench.burst * bench.burst
    bench.memory.pause = True
    await cycles(bench.clk, gap)
    bench.memory.pause = False
    await bench.check()
    clocks = bench.sink.times[-1] - bench.sink.times[0] + 1
    if bench.fifo >= gap + 2 * bench.burst + 40:  # enough to have requests under way all the time
        assert clocks == len(bench.expected), f"{len(bench.expected)} beats took {clocks} clocks"
    through = bench.sink.times[gap - 6] - bench.sink.times[0]
    assert through == gap - 6, "a beat was late during the gap"


@cocotb.test()
async def reset_in_the_middle(dut):
    bench = Bench()
    await bench.start(dut, latency=2)
    bench.read(0x30000, 3 * bench.burst)
    await cycles(bench.clk, 25)
    dut.rst.value = 1
    await cycles(bench.clk, 2)
    bench.memory.flush()
    await cycles(bench.clk, 2)
    bench.memory.bursts.clear()
    bench.sink.clear()
    bench.expected.clear()
    dut.rst.value = 0
    await RisingEdge(bench.clk)
    bench.read(0x50000, 2 * bench.burst + 1)
    await bench.check()


# bus, burst, buffer, address bits: the default, small buses, distributed RAM, long addresses, no power of two.
SHAPES = [
    (512, 64, 512, 34), (128, 16, 64, 32), (128, 16, 100, 64), (256, 4, 64, 40), (1024, 32, 160, 34),
    (128, 256, 256, 34), (128, 8, 40, 24),
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "-".join(map(str, s)))
def test_streamer(shape):
    bus, burst, buffer, addr_bits = shape
    config = Config(lanes=4, bus_bits=bus, addr_bits=addr_bits, burst_beats=4)
    component = ReadPath(config, buffer, burst)
    run_testbench(component, __name__, name="read_path", env={"READ_PATH": json.dumps([bus, burst, buffer, addr_bits])})


@pytest.mark.parametrize(
    ("fifo_beats", "burst_beats", "message"), [(512, 128, "4 KiB"), (512, 24, "power of two"), (32, 64, "hold")]
)
def test_impossible_sizes(fifo_beats, burst_beats, message):
    with pytest.raises(ValueError, match=message):
        check_burst(Config(), burst_beats, fifo_beats)
