"""The queue of beats: order, room for all its words, latency and rate, for block RAM and distributed RAM."""

import cocotb
import pytest
from amaranth.lib import data
from cocotb.triggers import RisingEdge

from seedlm.build.verilog import verilog_text
from seedlm.hdl.beat_fifo import BLOCK_RAM_DEPTH, BeatFifo
from tests.testbench.runner import run_testbench
from tests.testbench.side_by_side import SideBySide
from tests.testbench.streams import Later, Sink, Stalls, cycles, rng, start, until

BITS = 16
DEPTHS = [1, 2, 3, 5, 16, BLOCK_RAM_DEPTH - 1, BLOCK_RAM_DEPTH, BLOCK_RAM_DEPTH + 1, 100, 128]
FIFOS = [(depth, register) for depth in DEPTHS for register in (False, True)]


def name_of(fifo):
    depth, register = fifo
    return f"{'registered' if register else 'plain'}{depth}"


def latency_of(fifo):
    depth, register = fifo
    return 3 if register and depth >= BLOCK_RAM_DEPTH else 2


class Writer:
    """Puts words in while there is room, counted as a streamer counts it: a word leaves when the sink has it."""

    def __init__(self, dut, fifo, clk, sink, stalls):
        self.valid, self.payload = (getattr(dut, f"{name_of(fifo)}__i__{part}") for part in ("valid", "payload"))
        self.depth, self.clk, self.sink, self.stalls = fifo[0], clk, sink, stalls
        self.noise = rng(f"noise {fifo}")
        self.valid.value = 0

    async def write(self, words):
        sent = 0
        for _ in range(100 + 40 * len(words)):
            if sent == len(words):
                return
            offer = sent - len(self.sink.items) < self.depth and not self.stalls()
            self.valid.value = int(offer)
            self.payload.value = words[sent] if offer else self.noise.getrandbits(BITS)
            sent += offer
            await RisingEdge(self.clk)
            self.valid.value = 0
        raise AssertionError(f"{sent} of {len(words)} words written")


def random_words(name, count):
    generator = rng(name)
    return [generator.getrandbits(BITS) for _ in range(count)]


def idle():
    return {f"{name_of(fifo)}__i__valid": 0 for fifo in FIFOS} | {f"{name_of(fifo)}__o__ready": 0 for fifo in FIFOS}


async def everywhere(test, *values):
    """Run `test` on all queues at the same time."""
    tasks = [cocotb.start_soon(test(fifo, *values)) for fifo in FIFOS]
    for task in tasks:
        await task


async def traffic(dut, stall_in, stall_out):
    clk = await start(dut, **idle())

    async def one(fifo):
        words = random_words(f"words {fifo} {stall_in} {stall_out}", 3 * fifo[0] + 100)
        sink = Sink(dut, f"{name_of(fifo)}__o", clk, stalls=Stalls(stall_out, longest=9, generator=rng(f"out {fifo}")))
        writer = Writer(dut, fifo, clk, sink, Stalls(stall_in, longest=7, generator=rng(f"in {fifo}")))
        await writer.write(words)
        await sink.expect(words, 100 + 20 * len(words))

    await everywhere(one)


@cocotb.test()
async def no_stalls(dut):
    await traffic(dut, 0.0, 0.0)


@cocotb.test()
async def slow_writer(dut):
    await traffic(dut, 0.5, 0.0)


@cocotb.test()
async def slow_reader(dut):
    await traffic(dut, 0.0, 0.5)


@cocotb.test()
async def both_slow(dut):
    await traffic(dut, 0.3, 0.3)


@cocotb.test()
async def full(dut):
    """`depth` words fit while nobody reads; afterwards they come in successive clocks."""
    clk = await start(dut, **idle())

    async def one(fifo):
        words = random_words(f"full {fifo}", fifo[0])
        sink = Sink(dut, f"{name_of(fifo)}__o", clk, stalls=Later(2 * max(DEPTHS)))
        await Writer(dut, fifo, clk, sink, Stalls()).write(words)
        assert sink.items == []
        await sink.expect(words, 4 * max(DEPTHS))
        assert sink.times[-1] - sink.times[0] + 1 == len(words), f"{name_of(fifo)}: gaps while draining"

    await everywhere(one)


@cocotb.test()
async def latency(dut):
    """From a word at `i` to `o`, and a word per clock where the depth covers the way through and back."""
    clk = await start(dut, **idle())

    async def one(fifo):
        name = name_of(fifo)
        valid, word = getattr(dut, f"{name}__i__valid"), getattr(dut, f"{name}__i__payload")
        valid.value, word.value = 1, 7
        await RisingEdge(clk)  # from here on the word is in `i`
        valid.value, word.value = 0, 8
        clocks = await until(clk, lambda: getattr(dut, f"{name}__o__valid").value == 1, 20)
        assert clocks == latency_of(fifo), f"{name}: {clocks} clocks"
        sink = Sink(dut, f"{name}__o", clk)
        await sink.expect([7], 20)
        sink.clear()
        if fifo[0] >= latency_of(fifo) + 2:
            words = random_words(f"rate {fifo}", 2 * fifo[0] + 50)
            await Writer(dut, fifo, clk, sink, Stalls()).write(words)
            await sink.expect(words, 20)
            assert sink.times[-1] - sink.times[0] + 1 == len(words), f"{name_of(fifo)}: less than a word per clock"

    await everywhere(one)


@cocotb.test()
async def reset_empties(dut):
    clk = await start(dut, **idle())

    async def fill(fifo):
        for _ in range(min(fifo[0], 20)):
            getattr(dut, f"{name_of(fifo)}__i__valid").value = 1
            await RisingEdge(clk)
        getattr(dut, f"{name_of(fifo)}__i__valid").value = 0

    async def use(fifo):
        sink = Sink(dut, f"{name_of(fifo)}__o", clk)
        await cycles(clk, 10)
        assert sink.items == [], f"{name_of(fifo)}: a word from before the reset"
        words = random_words(f"again {fifo}", 3 * fifo[0])
        await Writer(dut, fifo, clk, sink, Stalls()).write(words)
        await sink.expect(words, 20 * len(words))

    await everywhere(fill)
    await cycles(clk, 5)
    assert all(getattr(dut, f"{name_of(fifo)}__o__valid").value == 1 for fifo in FIFOS)
    dut.rst.value = 1
    await cycles(clk, 2)
    assert all(getattr(dut, f"{name_of(fifo)}__o__valid").value == 0 for fifo in FIFOS)
    dut.rst.value = 0
    await everywhere(use)


def test_beat_fifo():
    layout = data.StructLayout({"low": 5, "high": BITS - 5})
    parts = {name_of((d, r)): BeatFifo(layout=layout, depth=d, output_register=r) for d, r in FIFOS}
    run_testbench(SideBySide(parts), __name__, name="beat_fifos")


@pytest.mark.parametrize(("depth", "style"), [(BLOCK_RAM_DEPTH - 1, "distributed"), (BLOCK_RAM_DEPTH, "block")])
def test_storage(depth, style):
    """Which memory the text asks for; the tools obey this attribute."""
    text = verilog_text(BeatFifo(layout=data.StructLayout({"data": 8}), depth=depth, output_register=True), "fifo")
    assert f'ram_style = "{style}"' in text
