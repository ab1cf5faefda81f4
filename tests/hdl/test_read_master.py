"""The read master: every answer to its port, priorities, errors, the idle flag, and a memory that is not ours."""

import os

import cocotb
import pytest
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiRamRead, AxiReadBus

from seedlm.golden.build import Config
from seedlm.hdl.read_master import ReadMaster
from tests.testbench.axi_memory import ReadMemory
from tests.testbench.runner import run_testbench
from tests.testbench.streams import Sink, Source, Stalls, cycles, rng, start, until

ADDR_BITS = 34


class Bench:
    """The design with a source of requests and a sink of answers for each port."""

    def __init__(self, dut):
        self.dut = dut
        self.bus = len(dut.m_axi_rdata)
        self.beat_bytes = self.bus // 8
        self.ports = range(int(os.environ["PORTS"]))
        self.expected = [[] for _ in self.ports]
        self.wrong = set()
        self.order = []  # what each address belongs to: (port, address)

    def data(self, address):
        return int.from_bytes(rng(f"beat{address}").randbytes(self.beat_bytes), "little")

    async def start(self, *, stall=0.0, latency=4, memory=True):
        def pauses(what):
            return Stalls(stall, longest=6, generator=rng(what)) if stall else Stalls()

        self.clk = await start(self.dut, **{f"request__{p}__valid": 0 for p in self.ports})
        if memory:
            self.memory = ReadMemory(
                self.dut, self.clk, self.data, ar_stalls=pauses("ar"), r_stalls=pauses("r"), latency=latency,
                errors=lambda address: address in self.wrong,
            )  # fmt: skip
        self.requests = [Source(self.dut, f"request__{p}", self.clk, stalls=pauses(f"q{p}")) for p in self.ports]
        self.answers = [Sink(self.dut, f"response__{p}", self.clk) for p in self.ports]

    def request(self, port, address, beats, last, wrong=()):
        self.requests[port].send([address | beats - 1 << ADDR_BITS | last << ADDR_BITS + 8])
        for n in range(beats):
            beat = address + n * self.beat_bytes
            if n in wrong:
                self.wrong.add(beat)
            self.expected[port].append((self.data(beat), int(last and n == beats - 1), int(n in wrong)))

    async def check(self, limit=20_000):
        mask = (1 << self.bus) - 1
        for p in self.ports:
            items = await self.answers[p].take(len(self.expected[p]), limit)
            for n, (item, (value, last, error)) in enumerate(zip(items, self.expected[p], strict=True)):
                got = item & mask, item >> self.bus & 1, item >> self.bus + 1
                assert got[1:] == (last, error), f"port {p}, beat {n}: last, error {got[1:]}, expected {last, error}"
                assert error or got[0] == value, f"port {p}, beat {n}: {got[0]:#x}, expected {value:#x}"
        await cycles(self.clk, 50)
        for p in self.ports:
            assert len(self.answers[p].items) == len(self.expected[p]), f"port {p} got beats that it did not ask for"
        assert self.dut.idle.value == 1


async def mixed(dut, stall, latency):
    bench = Bench(dut)
    await bench.start(stall=stall, latency=latency)
    generator = rng(f"mixed{stall}")
    for n in range(150):
        beats = generator.choice([1, 1, 2, 3, 8, 16])
        wrong = [k for k in range(beats) if generator.random() < 0.05]
        address = n * 4096 + generator.randrange(4096 // bench.beat_bytes - beats + 1) * bench.beat_bytes
        bench.request(generator.choice(bench.ports), address, beats, generator.randrange(2), wrong)
    await bench.check()
    assert len(bench.memory.bursts) == 150


@cocotb.test()
async def random_traffic(dut):
    await mixed(dut, 0.0, 1)


@cocotb.test()
async def random_traffic_with_stalls(dut):
    await mixed(dut, 0.3, 2)


@cocotb.test()
async def many_outstanding(dut):
    """More bursts than may be under way, all of one beat: the order is kept and requests wait."""
    bench = Bench(dut)
    await bench.start(latency=200)
    for n in range(100):
        bench.request(n % len(bench.ports), n * 4096, 1, 1)
    await cycles(bench.clk, 190)
    # The queue of 32 is full but for one; the memory has not answered anything yet.
    assert len(bench.memory.bursts) == 31
    await bench.check()


@cocotb.test()
async def lowest_port_first(dut):
    bench = Bench(dut)
    await bench.start()
    for n in range(4):
        for p in reversed(bench.ports):
            bench.request(p, (p * 16 + n) * 4096, 2, 1)
    await bench.check()
    ports = [b.address // 4096 // 16 for b in bench.memory.bursts]
    assert ports == sorted(ports)
    clocks = [b.clock for b in bench.memory.bursts]
    assert clocks == list(range(clocks[0], clocks[0] + 2 * len(clocks), 2)), "a request every two clocks"


@cocotb.test()
async def full_rate(dut):
    """Beats of different ports follow each other without a gap."""
    bench = Bench(dut)
    await bench.start(latency=30)
    generator = rng("rate")
    for n in range(40):
        bench.request(generator.choice(bench.ports), n * 4096, generator.randint(2, 16), 1)
    await bench.check()
    times = sorted(t for sink in bench.answers for t in sink.times)
    assert times[-1] - times[0] + 1 == len(times)


@cocotb.test()
async def idle(dut):
    """Idle falls when a request is taken and rises after the last answer, never in between."""
    bench = Bench(dut)
    await bench.start(latency=20)
    await cycles(bench.clk, 3)
    assert dut.idle.value == 1
    bench.request(0, 0x5000, 3, 1)
    await until(bench.clk, lambda: dut.request__0__valid.value == 1 and dut.request__0__ready.value == 1, 10)
    for _ in range(200):
        await RisingEdge(bench.clk)
        if len(bench.answers[0].items) == 3:
            break
        assert dut.idle.value == 0
    await RisingEdge(bench.clk)
    assert dut.idle.value == 1
    await bench.check()


@cocotb.test()
async def foreign_memory(dut):
    """cocotbext-axi's memory understands us and we understand it; it has its own opinion of IDs and sizes."""
    bench = Bench(dut)
    await bench.start(memory=False)
    ram = AxiRamRead(AxiReadBus.from_prefix(dut, "m_axi"), dut.clk, dut.rst, size=1 << 20)
    content = rng("ram").randbytes(1 << 20)
    ram.write(0, content)
    bench.data = lambda address: int.from_bytes(content[address : address + bench.beat_bytes], "little")
    generator = rng("foreign")
    pauses = rng("pauses")
    ram.ar_channel.set_pause_generator(iter(lambda: pauses.random() < 0.3, None))
    ram.r_channel.set_pause_generator(iter(lambda: pauses.random() < 0.3, None))
    for n in range(60):
        beats = generator.randint(1, 16)
        address = n * 4096 + generator.randrange(4096 // bench.beat_bytes - beats + 1) * bench.beat_bytes
        bench.request(generator.choice(bench.ports), address, beats, generator.randrange(2))
    await bench.check()


@pytest.mark.parametrize(("bus", "ports"), [(512, 3), (256, 1), (128, 4)])
def test_read_master(bus, ports):
    config = Config(lanes=4, bus_bits=bus, addr_bits=ADDR_BITS, burst_beats=16)
    run_testbench(ReadMaster(config=config, ports=ports), __name__, name="read_master", env={"PORTS": ports})
