"""The collector: every row of a group, whole and in order, with its scale."""

import json
import os

import cocotb
import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from cocotb.triggers import RisingEdge

from seedlm.golden.build import Config
from seedlm.golden.codecs import codec
from seedlm.hdl.collector import Collector, tag_layout
from seedlm.hdl.delay import delay
from seedlm.hdl.layouts import beat_layout, rounding_layout, valid_only
from seedlm.hdl.mac import MacArray
from seedlm.hdl.registers import ErrorCode
from seedlm.hdl.sequencer import row_group_layout
from tests.hdl.test_sequencer import packed
from tests.testbench.runner import run_testbench
from tests.testbench.streams import Sink, Source, rng, start


class Bench(wiring.Component):
    """A collector behind sums that are complete as the array's are: lane i, segment k after i + k clocks, for one."""

    def __init__(self, config):
        self.config = config
        array = MacArray(config=config, position_bits=1, activation_latency=2)
        self.segments = [array.segment(k) for k in range(config.acc_segments)]
        self.collector = Collector(config=config, array=array, in_flight=4)
        members = dict(self.collector.signature.members)
        del members["accumulators"], members["o"]
        super().__init__({
            **members, "sums": In(config.acc_bits * config.lanes),
            "o": Out(valid_only(rounding_layout(config, tag_layout().size))),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        m.submodules.collector = collector = self.collector
        for name in ("row_group", "scale", "scales"):
            if hasattr(self, name):
                connect(m, flipped(getattr(self, name)), getattr(collector, name))
        connect(m, collector.o, flipped(self.o))
        m.d.comb += [collector.finish.eq(self.finish), self.busy.eq(collector.busy)]
        # `sums` is there in the clock of `finish`, lane 0 is complete in the clock after it.
        for i in range(self.config.lanes):
            for k, cut in enumerate(self.segments):
                offset = i * self.config.acc_bits
                part = delay(m, self.sums[offset + cut.start : offset + cut.stop], 1 + i + k, f"sum{i}_{k}")
                m.d.comb += collector.accumulators[i][cut].eq(part)
        return m


def config_from(values):
    name, lanes, segment_bits = values
    return Config(codec=codec(name), lanes=lanes, segment_bits=segment_bits, bus_bits=128, burst_beats=32)


class Products:
    """The collector with its scales; gives it row groups as the array does, and knows what has to come out."""

    def __init__(self, dut, clk):
        self.config = config_from(json.loads(os.environ["COLLECTOR"]))
        self.dut, self.clk, self.rng, self.noise = dut, clk, rng("rows"), rng("noise")
        self.row_scales = self.config.codec.row_scales
        self.per_beat = self.config.results_per_beat
        self.scale_jobs, self.sink = Source(dut, "scale", clk), Sink(dut, "o", clk)
        self.beats = Source(dut, "scales", clk) if self.row_scales else None
        self.expected = []  # the fields of every item that count: a marker has no value
        self.clock = self.finished = self.beats_sent = 0

    async def wait(self, clocks):
        for _ in range(clocks):
            await RisingEdge(self.clk)
            self.clock += 1

    async def product(self):
        """A product of some row groups, or only the marker of one without rows; some with a beat of scales in error."""
        config, generator = self.config, self.rng
        rows_of = [config.lanes] * generator.randint(0, 3) + [generator.randint(1, config.lanes)]
        if generator.random() < 0.15:
            rows_of = [0]
        count = sum(rows_of)
        scale = generator.getrandbits(32)
        self.scale_jobs.send([scale])
        scales = [generator.getrandbits(32) for _ in range(count)]
        beats = -(-count // self.per_beat)
        bad_beat = generator.choice([beats, beats, generator.randrange(beats)]) if count else 0
        if self.row_scales:
            self.send_scales(scales, bad_beat)
        row = 0
        for g, rows in enumerate(rows_of):
            end = g == len(rows_of) - 1
            nan, code = int(generator.random() < 0.1), generator.choice([0, 0, 0, int(ErrorCode.READ_WEIGHTS)])
            sums = [generator.getrandbits(config.acc_bits) for _ in range(config.lanes)]
            await self.row_group({"rows": rows, "end": int(end), "nan": nan, "code": code}, sums)
            for i in range(rows):
                failing = int(self.row_scales and row // self.per_beat >= bad_beat)
                code_here = code or (int(ErrorCode.READ_SCALES) if failing else 0)
                tag = packed(tag_layout(), write=1, last=int(end and i == rows - 1), code=code_here)
                factor = scales[row] if self.row_scales else scale
                self.expected.append({"acc": sums[i], "nan": nan | failing, "tag": tag, "scale": factor})
                row += 1
            if rows == 0:
                self.expected.append({"nan": nan, "tag": packed(tag_layout(), write=0, last=1, code=code)})

    def send_scales(self, scales, bad_beat):
        for b in range(-(-len(scales) // self.per_beat)):
            values = scales[b * self.per_beat : (b + 1) * self.per_beat]
            data = sum(v << 32 * n for n, v in enumerate(values))
            self.beats.send([packed(beat_layout(self.config), data=data, last=0, error=int(b == bad_beat))])
            self.beats_sent += 1

    async def row_group(self, fields, sums):
        """Announce a row group, and some clocks later its sums, as far apart as the lanes let them be."""
        dut, config = self.dut, self.config
        dut.row_group__payload.value = packed(row_group_layout(config), **fields)
        dut.row_group__valid.value = 1
        await self.wait(1)
        dut.row_group__valid.value = 0
        await self.wait(self.rng.choice([3, 5, 12]))  # the array's latency, at least as long as the queue's
        await self.wait(max(0, self.finished + max(config.lanes, 4) - self.clock))
        dut.sums.value = sum(v << i * config.acc_bits for i, v in enumerate(sums))
        dut.finish.value = 1
        self.finished = self.clock
        await self.wait(1)
        dut.finish.value = 0
        dut.sums.value = self.noise.getrandbits(len(dut.sums))

    def check(self):
        layout = rounding_layout(self.config, tag_layout().size)
        assert self.dut.busy.value == 0
        assert len(self.sink.items) == len(self.expected), "rows lost or too many"
        for n, (got, item) in enumerate(zip(self.sink.items, self.expected, strict=True)):
            for name, value in item.items():
                field = layout[name]
                assert got >> field.offset & (1 << field.width) - 1 == value, f"item {n}: {name}"
        if self.beats:
            assert self.beats.sent == self.beats_sent


@cocotb.test()
async def row_groups(dut):
    bench = Products(dut, await start(dut, finish=0, row_group__valid=0))
    for _ in range(40):
        await bench.product()
    await bench.wait(400)
    bench.check()
    assert bench.scale_jobs.sent == 40


@pytest.mark.parametrize(
    ("name", "lanes", "segment_bits"),
    [("seedlm4", 16, 34), ("seedlm4r", 5, 34), ("seedlm3r", 1, 48), ("fp16", 4, 20), ("int8", 3, 34)],
)
def test_collector(name, lanes, segment_bits):
    values = [name, lanes, segment_bits]
    run_testbench(Bench(config_from(values)), __name__, name="collector", env={"COLLECTOR": json.dumps(values)})
