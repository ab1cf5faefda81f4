"""The collector: every row of a group, whole and in order, with its scale."""

import json
import os

import cocotb
import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from cocotb.triggers import RisingEdge

from seedlm.golden.build import Config, codec
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


@cocotb.test()
async def row_groups(dut):
    config = config_from(json.loads(os.environ["COLLECTOR"]))
    generator = rng("rows")
    clk = await start(dut, finish=0, row_group__valid=0)
    noise = rng("noise")
    scale_jobs = Source(dut, "scale", clk)
    sink = Sink(dut, "o", clk)
    row_scales = config.codec.row_scales
    beats = Source(dut, "scales", clk) if row_scales else None
    per_beat = config.results_per_beat
    expected, finishes, clock, beats_sent = [], [], 0, 0
    layout, tags = rounding_layout(config, tag_layout().size), tag_layout()

    for _ in range(40):
        groups = generator.randint(1, 4)
        tail = generator.randint(1, config.lanes)
        null = generator.random() < 0.15
        rows_of = [0] if null else [config.lanes] * (groups - 1) + [tail]
        count = sum(rows_of)
        scale = generator.getrandbits(32)
        scale_jobs.send([scale])
        scales = [generator.getrandbits(32) for _ in range(count)]
        bad_beat = generator.choice([None, None, generator.randrange(-(-count // per_beat))]) if count else None
        if row_scales:
            for b in range(-(-count // per_beat)):
                values = scales[b * per_beat : (b + 1) * per_beat]
                data = sum(v << 32 * n for n, v in enumerate(values))
                beats.send([packed(beat_layout(config), data=data, last=0, error=int(b == bad_beat))])
                beats_sent += 1
        row, failed = 0, False
        for g, rows in enumerate(rows_of):
            end = g == len(rows_of) - 1
            nan, code = int(generator.random() < 0.1), generator.choice([0, 0, 0, int(ErrorCode.READ_WEIGHTS)])
            dut.row_group__payload.value = packed(row_group_layout(config), rows=rows, end=int(end), nan=nan, code=code)
            dut.row_group__valid.value = 1
            await RisingEdge(clk)
            clock += 1
            dut.row_group__valid.value = 0
            for _ in range(generator.choice([3, 5, 12])):  # the array's latency, at least as long as the queue's
                await RisingEdge(clk)
                clock += 1
            while finishes and clock - finishes[-1] < max(config.lanes, 4):
                await RisingEdge(clk)
                clock += 1
            sums = [generator.getrandbits(config.acc_bits) for _ in range(config.lanes)]
            dut.sums.value = sum(v << i * config.acc_bits for i, v in enumerate(sums))
            dut.finish.value = 1
            finishes.append(clock)
            await RisingEdge(clk)
            clock += 1
            dut.finish.value = 0
            dut.sums.value = noise.getrandbits(len(dut.sums))
            for i in range(max(rows, 1)):
                last = end and i >= rows - 1
                if row_scales and rows:
                    failed |= row // per_beat == bad_beat
                failing = int(failed)
                tag = packed(tags, write=int(rows > 0), last=int(last),
                             code=code or (int(ErrorCode.READ_SCALES) if failing else 0))  # fmt: skip
                factor = scales[row] if row_scales and rows else scale
                expected.append(({"acc": sums[i], "nan": nan | failing, "tag": tag, "scale": factor}, rows > 0))
                row += rows > 0
    for _ in range(400):
        await RisingEdge(clk)
    assert dut.busy.value == 0
    assert len(sink.items) == len(expected), "rows lost or too many"
    for n, (got, (item, is_row)) in enumerate(zip(sink.items, expected, strict=True)):
        for name, value in item.items():
            if name in ("acc", "scale") and not is_row:
                continue  # a marker has no value
            field = layout[name]
            assert got >> field.offset & (1 << field.width) - 1 == value, f"item {n}: {name}"
    assert scale_jobs.sent == 40
    if beats:
        assert beats.sent == beats_sent


@pytest.mark.parametrize(
    ("name", "lanes", "segment_bits"),
    [("seedlm4", 16, 34), ("seedlm4r", 5, 34), ("seedlm3r", 1, 48), ("fp16", 4, 20), ("int8", 3, 34)],
)
def test_collector(name, lanes, segment_bits):
    values = [name, lanes, segment_bits]
    run_testbench(Bench(config_from(values)), __name__, name="collector", env={"COLLECTOR": json.dumps(values)})
