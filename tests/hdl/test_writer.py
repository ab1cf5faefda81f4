"""The result writer: every row where it belongs, nothing beside it, completions in order, and errors that hold."""

import json
import os

import cocotb
import pytest
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiRamWrite, AxiWriteBus

from seedlm.golden.build import Config
from seedlm.hdl import axi
from seedlm.hdl.layouts import completion_layout, result_layout, valid_only, writer_job_layout
from seedlm.hdl.registers import ErrorCode
from seedlm.hdl.write_master import WriteMaster
from seedlm.hdl.writer import ResultWriter
from tests.testbench.axi_memory import WriteMemory
from tests.testbench.runner import run_testbench
from tests.testbench.streams import Later, Sink, Source, Stalls, cycles, rng, start, until


def config_from(values):
    bus, burst, buffer, lanes, addr_bits = values
    return Config(lanes=lanes, bus_bits=bus, burst_beats=burst, result_fifo_beats=buffer, addr_bits=addr_bits)


class WritePath(wiring.Component):
    """The result writer with a write master of its own."""

    def __init__(self, config):
        self.writer = ResultWriter(config=config)
        self.master = WriteMaster(config=config)
        super().__init__({
            "job": In(stream.Signature(writer_job_layout(config))), "result": In(valid_only(result_layout(config))),
            "completion": Out(valid_only(completion_layout(config))), "freed": Out(1), "hold": In(1), "flush": In(1),
            "busy": Out(1), "idle": Out(1), "stray": Out(1), **axi.write_members(config),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        m.submodules.writer, m.submodules.master = writer, master = self.writer, self.master
        wiring.connect(m, wiring.flipped(self.job), writer.job)
        wiring.connect(m, wiring.flipped(self.result), writer.result)
        wiring.connect(m, writer.completion, wiring.flipped(self.completion))
        wiring.connect(m, writer.beat, master.beat)
        wiring.connect(m, writer.request, master.request)
        m.d.comb += [
            self.freed.eq(master.freed), self.idle.eq(master.idle), self.stray.eq(master.stray),
            self.busy.eq(writer.busy), writer.hold.eq(self.hold), writer.flush.eq(self.flush),
            master.tail.eq(writer.tail), writer.settled.eq(master.settled), writer.refused.eq(master.refused),
        ]  # fmt: skip
        for name in master.signature.members:
            if name.startswith(axi.PREFIX):
                ours, theirs = getattr(self, name), getattr(master, name)
                m.d.comb += ours.eq(theirs) if master.signature.members[name].flow == Out else theirs.eq(ours)
        return m


class Bench:
    """The design with a memory, jobs, a sender that keeps account of the room, and software that clears errors."""

    def __init__(self, dut):
        self.dut = dut
        self.config = config_from(json.loads(os.environ["WRITER"]))
        self.per_beat = self.config.results_per_beat
        self.regions = []
        self.refused = set()
        self.expected = {}
        self.codes = []
        self.items = []
        self.sent = []  # clocks of the results
        self.stalled = 0  # clocks without room
        self.room = self.config.result_fifo_beats * self.per_beat
        self.clock = 0
        self.beats = 0
        self.freed = 0
        self.held = []  # (product, bursts accepted when hold rose, when it fell)
        self.cleared_after = lambda: 40

    async def start(self, *, stall=0.0, latency=4, memory=True, job_stalls=None, flushes=False, **stalls):
        def pauses(what, longest=6):
            return stalls.get(what) or (Stalls(stall, longest=longest, generator=rng(what)) if stall else Stalls())

        self.clk = await start(self.dut, hold=0, flush=0, result__valid=0, job__valid=0)
        self.flushes = flushes
        if flushes:
            cocotb.start_soon(self.flush())
        if memory:
            self.memory = WriteMemory(
                self.dut, self.clk, regions=self.regions, aw_stalls=pauses("aw"), w_stalls=pauses("w"),
                b_stalls=pauses("b"), latency=latency, errors=lambda address: address in self.refused,
            )  # fmt: skip
        self.jobs = Source(self.dut, "job", self.clk, stalls=job_stalls or pauses("job", 20))
        self.completions = Sink(self.dut, "completion", self.clk)
        cocotb.start_soon(self.send(pauses("result")))
        cocotb.start_soon(self.software())

    async def send(self, stalls):
        """Drives the results, never more than there is room for."""
        dut = self.dut
        noise = rng("noise")
        most = self.room
        while True:
            await RisingEdge(self.clk)
            self.clock += 1
            if dut.freed.value == 1:
                self.freed += 1
                self.room += self.per_beat
                assert self.room <= most, "more room was given back than was taken"
            dut.result__valid.value = 0
            dut.result__payload.value = noise.getrandbits(len(dut.result__payload))
            if self.items and self.items[0][1] > self.room:
                self.stalled += 1
            elif self.items and not stalls():
                value, cost = self.items.pop(0)
                self.room -= cost
                dut.result__valid.value = 1
                dut.result__payload.value = value
                self.sent.append(self.clock)

    async def flush(self):
        """Raises flush for some clocks now and then."""
        generator = rng("flush")
        while True:
            await cycles(self.clk, generator.choice([1, 3, 20, 60]))
            self.dut.flush.value = 1 - int(self.dut.flush.value)

    async def software(self):
        """Raises hold after a completion with a code, as late as is allowed, and clears it some time later."""
        while True:
            await RisingEdge(self.clk)
            if self.dut.completion__valid.value == 1 and self.dut.completion__payload.value != 0:
                await cycles(self.clk, 2)
                self.dut.hold.value = 1
                await RisingEdge(self.clk)
                product = len(self.completions.items)
                before = len(self.memory.bursts)
                await cycles(self.clk, self.cleared_after())
                self.held.append((product, before, len(self.memory.bursts)))
                self.dut.hold.value = 0

    def product(self, address, rows, *, code=0, refused=(), job_code=0, marker=False):
        """Queue a product; `refused`: numbers of bursts with an error response; `marker`: its end comes by itself."""
        generator = rng(f"product{address}")
        values = [generator.getrandbits(32) for _ in range(rows)]
        marker = marker or rows == 0
        for n, value in enumerate(values):
            last = n == rows - 1
            pad = -rows % self.per_beat if last else 0
            last &= not marker
            item_code = code if last else generator.getrandbits(3)
            self.items.append((value | 1 << 32 | last << 33 | item_code << 34, 1 + pad))
            for k in range(4):
                self.expected[address + 4 * n + k] = value >> 8 * k & 0xFF
        if marker:
            self.items.append((generator.getrandbits(32) | 1 << 33 | code << 34, 0))
        if rows:
            self.regions.append((address, address + 4 * rows))
        burst = self.burst * self.config.beat_bytes
        self.refused |= {address + n * burst for n in refused}
        self.beats += -(-rows // self.per_beat)
        self.codes.append(job_code or code or (ErrorCode.WRITE if refused else 0))
        shift = self.config.addr_bits
        self.jobs.send([address | rows << shift | job_code << shift + self.config.max_rows.bit_length()])

    @property
    def burst(self):
        return int(os.environ["BURST"])

    async def check(self, *, limit=None, quiet=150):
        limit = limit or 3000 + 30 * len(self.items) + 200 * len(self.codes)
        await self.completions.expect(self.codes, limit, quiet=quiet)
        assert self.memory.bytes == self.expected
        assert self.memory.rewritten == 0
        assert not any(self.memory.masked), "the padding is not zero"
        size = self.burst * self.config.beat_bytes
        least = sum(-(-(high - low) // size) for low, high in self.regions)
        if self.flushes:
            assert len(self.memory.bursts) >= least
        else:
            assert len(self.memory.bursts) == least, "only the end of a product makes a short burst"
        assert self.memory.responses == len(self.memory.bursts)
        assert len(self.memory.beats) == self.freed == self.beats
        assert self.room == self.config.result_fifo_beats * self.per_beat
        assert self.dut.busy.value == 0
        assert self.dut.idle.value == 1
        assert all(before == after for _, before, after in self.held), "a burst was started while an error was pending"


def addresses(bench):
    """4 KiB aligned, with room for the largest product of these tests, in any order."""
    places = list(range(1, 200))
    rng("addresses").shuffle(places)
    return (n * 0x10000 for n in places)


@cocotb.test()
async def shapes(dut):
    bench = Bench(dut)
    await bench.start()
    per_burst = bench.burst * bench.per_beat
    rows = {1, 2, bench.per_beat - 1, bench.per_beat, bench.per_beat + 1, per_burst - 1, per_burst, per_burst + 1,
            2 * per_burst, 2 * per_burst + bench.per_beat, 1024 + 3}  # fmt: skip
    for address, n in zip(addresses(bench), sorted(rows), strict=False):
        bench.product(address, n)
    await bench.check()


async def mixed(dut, stall, products=30, flushes=False):
    """Products of all kinds, some failing in every possible way."""
    bench = Bench(dut)
    generator = rng(f"mixed{stall}")
    bench.cleared_after = lambda: generator.choice([1, 5, 100])
    await bench.start(stall=stall, flushes=flushes)
    place = addresses(bench)
    per_burst = bench.burst * bench.per_beat
    for _ in range(products):
        rows = generator.randint(1, 2 * bench.per_beat)
        if generator.random() < 0.2:
            rows += generator.randint(0, per_burst)
        kind = generator.choice(["good"] * 6 + ["marker", "null", "null", "refused", "code", "both"])
        bursts = -(-rows // per_burst)
        if kind == "null":
            code = ErrorCode.DESCRIPTOR
            marker_code, job_code = generator.choice([(code, 0), (code, code), (ErrorCode.NONFINITE, code), (0, code)])
            bench.product(next(place), 0, code=marker_code, job_code=job_code)
        else:
            bench.product(
                next(place), rows, marker=kind == "marker",
                code=ErrorCode.READ_WEIGHTS if kind in ("code", "both") else 0,
                refused=[generator.randrange(bursts)] if kind in ("refused", "both") else [],
            )  # fmt: skip
    await bench.check()
    assert len(bench.held) >= sum(code != 0 for code in bench.codes) - 1


@cocotb.test()
async def products(dut):
    await mixed(dut, 0.0)


@cocotb.test()
async def products_with_few_stalls(dut):
    await mixed(dut, 0.05)


@cocotb.test()
async def products_with_many_stalls(dut):
    await mixed(dut, 0.4, products=15)


@cocotb.test()
async def flush_writes_what_is_there(dut):
    """A burst that would wait for the end of its product is cut."""
    bench = Bench(dut)
    await bench.start()
    bench.flushes = True
    dut.flush.value = 1
    bench.product(0x10000, bench.burst * bench.per_beat)
    await bench.check()
    assert len(bench.memory.bursts) > 1 or bench.burst == 1


@cocotb.test()
async def flushes(dut):
    await mixed(dut, 0, flushes=True)


@cocotb.test()
async def flushes_with_stalls(dut):
    await mixed(dut, 0.3, flushes=True)


@cocotb.test()
async def jobs_come_late(dut):
    """Results that wait for their jobs, as many small products as fit; the buffer full to the last beat."""
    bench = Bench(dut)
    await bench.start(job_stalls=Later(bench.config.result_fifo_beats * bench.per_beat + 100))
    place = addresses(bench)
    count = min(30, bench.config.result_fifo_beats)
    for _ in range(count - 1):
        bench.product(next(place), 1)
    bench.product(next(place), (bench.config.result_fifo_beats - count + 1) * bench.per_beat)
    await cycles(bench.clk, bench.config.result_fifo_beats * bench.per_beat + 50)
    assert bench.room == 0
    assert not bench.items
    assert bench.memory.bursts == []
    await bench.check()


@cocotb.test()
async def ends_come_late(dut):
    """Without its last item no product is complete, though all its data may be in memory."""
    bench = Bench(dut)
    await bench.start()
    bench.product(0x10000, 2 * bench.per_beat, marker=True)
    bench.product(0x20000, 0, code=ErrorCode.DESCRIPTOR)
    bench.product(0x30000, 3)
    ends = [item for item in bench.items if item[1] == 0]
    later = bench.items[bench.items.index(ends[0]) :]
    del bench.items[bench.items.index(ends[0]) :]
    await cycles(bench.clk, 100)
    assert bench.memory.responses == len(bench.memory.bursts) > 0
    assert not bench.completions.items
    bench.items.append(later.pop(0))
    await cycles(bench.clk, 100)
    assert len(bench.completions.items) == 1
    bench.items.extend(later)
    await bench.check()


@cocotb.test()
async def a_result_per_clock(dut):
    """The sender never waits, even when the memory takes nothing for 80 clocks."""
    bench = Bench(dut)
    spare = (bench.config.result_fifo_beats - bench.burst) * bench.per_beat
    gap = min(80, spare - 30)
    await bench.start(latency=10, w=Later(max(0, gap) + bench.burst * bench.per_beat))
    rows = min(5 * bench.config.result_fifo_beats * bench.per_beat, 5000)
    bench.product(0x10000, rows)
    await bench.check()
    assert gap < 0 or bench.stalled == 0
    assert gap < 0 or bench.sent[-1] - bench.sent[0] + 1 == rows


@cocotb.test()
async def a_beat_per_clock(dut):
    """A full buffer leaves without a gap, burst after burst."""
    bench = Bench(dut)
    full = bench.config.result_fifo_beats * bench.per_beat
    await bench.start(w=Later(full + 100))
    bench.product(0x10000, full)
    await bench.check()
    clocks = bench.memory.beats[-1] - bench.memory.beats[0] + 1
    assert clocks == len(bench.memory.beats)
    assert len(bench.memory.beats) == bench.config.result_fifo_beats


@cocotb.test()
async def latency(dut):
    bench = Bench(dut)
    await bench.start()
    bench.product(0x10000, bench.per_beat)
    await until(bench.clk, lambda: dut.result__valid.value == 1 and int(dut.result__payload.value) >> 33 & 1, 200)
    assert await until(bench.clk, lambda: dut.m_axi_awvalid.value == 1, 20) == 4
    assert await until(bench.clk, lambda: dut.m_axi_wvalid.value == 1, 20) == 1
    await until(bench.clk, lambda: dut.m_axi_bvalid.value == 1, 50)
    assert await until(bench.clk, lambda: dut.completion__valid.value == 1, 20) == 3
    await bench.check()


@cocotb.test()
async def long_hold(dut):
    """An error while later products are computed: they fill the buffer, wait, and are written when it is cleared."""
    bench = Bench(dut)
    bench.cleared_after = lambda: 2 * bench.config.result_fifo_beats * bench.per_beat
    await bench.start()
    place = addresses(bench)
    bench.product(next(place), 3 * bench.per_beat + 1, refused=[0])
    for _ in range(3):
        bench.product(next(place), bench.config.result_fifo_beats * bench.per_beat // 2)
    await until(bench.clk, lambda: dut.hold.value == 1, 500)
    await cycles(bench.clk, bench.config.result_fifo_beats * bench.per_beat + 50)
    assert bench.room < bench.per_beat
    assert dut.busy.value == 1
    assert len(bench.memory.bursts) == -(-4 // bench.burst)  # those of the first product
    await bench.check()


@cocotb.test()
async def reset_in_the_middle(dut):
    bench = Bench(dut)
    await bench.start(latency=30)
    bench.product(0x10000, min(2000, 2 * bench.burst * bench.per_beat))
    bench.product(0x20000, 5)
    await cycles(bench.clk, 2 * bench.per_beat + 20)
    bench.items.clear()
    dut.rst.value = 1
    await cycles(bench.clk, 2)
    bench.memory.flush()
    memory = bench.memory
    for forgotten in (memory.bursts, memory.beats, memory.bytes, bench.expected, bench.regions, bench.codes):
        forgotten.clear()
    bench.memory.responses = bench.freed = bench.beats = 0
    bench.room = bench.config.result_fifo_beats * bench.per_beat
    bench.completions.clear()
    dut.rst.value = 0
    await cycles(bench.clk, 20)
    assert dut.busy.value == 0
    bench.product(0x30000, 2 * bench.per_beat + 1)
    await bench.check()


@cocotb.test()
async def foreign_memory(dut):
    """cocotbext-axi's memory understands us and we understand it."""
    bench = Bench(dut)
    await bench.start(memory=False)
    ram = AxiRamWrite(AxiWriteBus.from_prefix(dut, "m_axi"), dut.clk, dut.rst, size=1 << 20)
    content = bytearray(rng("ram").randbytes(1 << 20))
    ram.write(0, content)
    pauses = rng("pauses")
    for channel in (ram.aw_channel, ram.w_channel, ram.b_channel):
        channel.set_pause_generator(iter(lambda: pauses.random() < 0.3, None))
    for n, rows in enumerate([1, 17, 200, 0, 1000, 64, 3]):
        bench.product(n * 0x10000, rows)
    await bench.completions.expect(bench.codes, 20_000)
    for address, value in bench.expected.items():
        content[address] = value
    assert ram.read(0, 1 << 20) == content


# bus, burst, buffer, lanes, address bits
SHAPES = [
    (512, 64, 128, 16, 34), (128, 16, 32, 4, 32), (128, 16, 16, 5, 64), (256, 4, 200, 64, 34), (1024, 1, 4, 1, 40),
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "-".join(map(str, s)))
def test_writer(shape):
    component = WritePath(config_from(shape))
    env = {"WRITER": json.dumps(shape), "BURST": component.writer.burst_beats}
    run_testbench(component, __name__, name="writer", env=env)


def test_bursts_that_cannot_wait_for_themselves():
    assert config_from((512, 64, 128, 16, 34)).result_burst_beats == 64
    assert config_from((512, 64, 64, 16, 34)).result_burst_beats == 32
    assert config_from((128, 16, 16, 33, 34)).result_burst_beats == 4
    with pytest.raises(ValueError, match=r"result_fifo_beats must be at least 18 for 64 lanes .* not 16"):
        config_from((128, 16, 16, 64, 34))
