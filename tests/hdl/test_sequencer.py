"""The sequencer: the right steps in the right order, and none before everything it needs is there."""

import json
import os

import cocotb
import pytest
from amaranth.hdl import Shape
from cocotb.triggers import ReadOnly, RisingEdge

from seedlm.hdl.activation_buffer import ActivationBuffer
from seedlm.hdl.layouts import sequence_job_layout
from seedlm.hdl.registers import ErrorCode
from seedlm.hdl.sequencer import Sequencer, row_group_layout
from tests.hdl.builds import build
from tests.testbench.runner import run_testbench
from tests.testbench.streams import rng, start

REASONS = ("issue", "wait_steps", "wait_activations", "wait_collector", "wait_room", "idle")


def config_from(values):
    name, lanes = values
    return build(name, lanes=lanes, bus_bits=128, burst_beats=32, max_cols=512, result_fifo_beats=32,
                 scale_fifo_beats=32)  # fmt: skip


def row_of(config, product):
    """The steps of a row as (place, whether it brings weights)."""
    kind = config.codecs[product["codec"]]
    stride = kind.step_columns // config.place_columns
    row = []
    for n in range(product["blocks"]):
        if kind.header_steps and n * kind.step_columns % 128 == 0:
            row += [(n * stride, False)] * kind.header_steps
        row.append((n * stride, True))
    return row


def job_of(config, product):
    """The fields of the sequencer's job."""
    kind = config.codecs[product["codec"]]
    names = ("groups", "tail_rows", "pad", "same", "code")
    job = {name: product[name] for name in names}
    if config.steps_vary:
        stride = kind.step_columns // config.place_columns
        job |= {"stride": stride, "last_place": (product["blocks"] - 1) * stride, "headers": kind.header_steps,
                "codec": product["codec"]}  # fmt: skip
    else:
        job["blocks"] = product["blocks"]
    return job | ({"row_scales": int(kind.row_scales)} if config.mixes_scales else {})


def fields(layout, value):
    """The fields of a packed structure as integers."""
    return {
        name: value >> field.offset & (1 << Shape.cast(field.shape).width) - 1 for name, field in layout
    }  # fmt: skip


def packed(layout, **values):
    return sum(value << layout[name].offset for name, value in values.items())


class Environment:
    """Everything around the sequencer, with random timing: weights, activations, scales, room, collector."""

    def __init__(self, dut, products, generator, p):
        self.dut, self.products, self.random, self.p = dut, products, generator, p
        self.config = config_from(json.loads(os.environ["SEQUENCER"]))
        self.steps, self.row_groups, self.reasons = [], [], []
        self.clock = 0

    async def run(self, limit=60_000):
        dut, config, random = self.dut, self.config, self.random
        per_beat = config.results_per_beat
        layout = sequence_job_layout(config)
        clk = await start(dut, job__valid=0, step_valid=0, step_error=0, available=0, count=0, nonfinite=0,
                          activation_error=0, scale_beat=0, freed=0, hold=0)  # fmt: skip
        queue = list(self.products)
        done, current, loaded, groups = 0, None, 0, 0
        room, scales, reserved = config.result_fifo_beats * per_beat, 0, []
        last_at, hold_for, in_error = -1000, 0, False
        while done < len(self.products) and self.clock < limit:
            dut.job__valid.value = int(bool(queue))
            if queue:
                p = queue[0]
                dut.job__payload.value = packed(layout, **job_of(config, p))
            has_step = random.random() > self.p
            dut.step_valid.value = int(has_step)
            error = has_step and current is not None and current.get("error_at") == current["issued"]
            dut.step_error.value = int(error)
            available = random.random() > self.p
            dut.available.value = int(available)
            if current is not None and loaded < groups and random.random() > self.p / 2:
                loaded += 1
            dut.count.value = loaded
            arrived = config.row_scales and scales < 4 * per_beat and random.random() > self.p
            dut.scale_beat.value = int(arrived)
            freed = sum(reserved) >= per_beat and random.random() > self.p
            dut.freed.value = int(freed)
            if hold_for:
                hold_for -= 1
                if not hold_for:
                    in_error = False
            dut.hold.value = int(in_error and hold_for < 40)
            await ReadOnly()
            assert sum(int(getattr(dut, r).value) for r in REASONS) <= 1, "one reason at most"
            issue, last = int(dut.issue.value), int(dut.last.value)
            if issue:
                assert has_step
                assert current is not None, "a step without a product"
                row = row_of(config, current)
                n = current["issued"] % len(row)
                place, brings_weights = row[n]
                assert int(dut.place.value) == place
                assert int(dut.first.value) == (n == 0)
                assert last == (n == len(row) - 1)
                if brings_weights:
                    columns = place * config.place_columns
                    assert loaded > columns // config.group, "its activations are not there"
                if config.more:
                    assert int(dut.codec.value) == current["codec"]
                current["issued"] += 1
                current["failed"] |= bool(error)
            if last:
                assert self.clock - last_at >= config.lanes, "the collector is not through"
                last_at = self.clock
                group = fields(row_group_layout(config), int(dut.row_group__payload.value))
                final = current["groups"] <= 1 or current["issued"] == len(row) * current["groups"]
                rows = 0 if not current["groups"] else current["tail_rows"] if final else config.lanes
                code = current["code"] or (ErrorCode.READ_WEIGHTS if current["failed"] else 0)
                assert group == {"rows": rows, "end": int(final), "nan": int(code != 0), "code": code}
                need = rows + (current["pad"] if final and rows else 0)
                room -= need
                reserved.append(need)
                assert room >= 0, "no room for the results"
                if config.codecs[current["codec"]].row_scales:
                    scales -= need
                    assert scales >= 0, "the scales are not there"
                if final:
                    done += 1
                    if code:  # reported some time later, then cleared
                        in_error, hold_for = True, 60 + random.randrange(40)
                    current = None
            assert last == int(dut.row_group__valid.value)
            taken = queue and int(dut.job__ready.value)
            if taken:
                assert not in_error, "a product was started while an error was pending"
                p = queue.pop(0)
                advance = int(dut.advance.value)
                assert advance == (not p["same"] and p["groups"] != 0)
                assert available or not advance
                current = {**p, "issued": 0, "failed": False}
                if advance:
                    loaded = 0
                groups = -(-p["blocks"] * config.codecs[p["codec"]].step_columns // config.group)
            room += per_beat if freed else 0
            if freed:
                left = per_beat
                while left:
                    part = min(left, reserved[0])
                    reserved[0] -= part
                    left -= part
                    if not reserved[0]:
                        reserved.pop(0)
            scales += per_beat if arrived else 0
            await RisingEdge(clk)
            self.clock += 1
        assert done == len(self.products), f"{done} of {len(self.products)} products after {self.clock} clocks"
        dut.job__valid.value = 0
        for _ in range(50):  # nothing extra
            await RisingEdge(clk)
            await ReadOnly()
            assert dut.issue.value == 0
            assert dut.last.value == 0
            await RisingEdge(clk)


def random_products(config, generator, count):
    products = []
    for n in range(count):
        rows = generator.randint(1, 5 * config.lanes)
        groups = -(-rows // config.lanes)
        kind = generator.choice(["good"] * 5 + ["null", "error"])
        blocks = generator.choice([1, 2, 3, generator.randint(1, 32)])
        number = generator.randrange(len(config.codecs))
        product = {
            "blocks": blocks, "groups": groups, "tail_rows": rows - (groups - 1) * config.lanes,
            "pad": -rows % config.results_per_beat, "same": 0, "code": 0, "codec": number,
        }  # fmt: skip
        if kind == "null":
            product |= {"groups": 0, "code": int(ErrorCode.DESCRIPTOR)}
        elif kind == "error":
            product["error_at"] = generator.randrange(groups * blocks)
        elif n and products[-1]["groups"] and (products[-1]["blocks"], products[-1]["codec"]) == (blocks, number):
            product["same"] = 1
        products.append(product)
    return products


async def products(dut, p, count=40):
    generator = rng(f"products{p}")
    config = config_from(json.loads(os.environ["SEQUENCER"]))
    await Environment(dut, random_products(config, generator, count), generator, p).run()


@cocotb.test()
async def everything_there(dut):
    await products(dut, 0.0)


@cocotb.test()
async def some_waiting(dut):
    await products(dut, 0.3)


@cocotb.test()
async def much_waiting(dut):
    await products(dut, 0.8, count=15)


@cocotb.test()
async def a_step_per_clock(dut):
    """Where rows are as long as the lanes are many, nothing is lost between row groups."""
    generator = rng("speed")
    config = config_from(json.loads(os.environ["SEQUENCER"]))
    blocks, groups = max(config.lanes, 4) + 1, 20
    product = {"blocks": blocks, "groups": groups, "tail_rows": config.lanes, "pad": 0, "same": 0, "code": 0,
               "codec": 0}  # fmt: skip
    environment = Environment(dut, [product], generator, 0.0)
    await environment.run()
    # Before the first step: reset, the product is taken, its activations are looked at.
    assert environment.clock <= len(row_of(config, product)) * groups + 12


@pytest.mark.parametrize(
    ("name", "lanes"),
    [("seedlm4", 16), ("seedlm4r", 5), ("fp16", 4), ("int8", 4), ("seedlm3r", 1), ("trellis2+mx9+fp16+mx6", 4)],
)
def test_sequencer(name, lanes):
    config = config_from((name, lanes))
    place_bits = ActivationBuffer(config=config, read_delay=0).place_bits
    component = Sequencer(config=config, place_bits=place_bits)
    run_testbench(component, __name__, name="sequencer", env={"SEQUENCER": json.dumps([name, lanes])})
