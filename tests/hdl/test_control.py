"""Control: every register against the table, the queue, errors and interrupts, the counters; stalls on all channels."""

import json
import os

import cocotb
import pytest
from cocotb.triggers import RisingEdge
from cocotb.utils import get_sim_time

import seedlm.hdl.counters
from seedlm.hdl import layouts
from seedlm.hdl.control import Control
from seedlm.hdl.registers import (
    CATEGORIES,
    COUNTERS,
    REGISTERS,
    Access,
    ErrorCode,
    configuration_words,
    counter_registers,
    register,
)
from tests.hdl import builds
from tests.testbench.register_master import OKAY, SLVERR, RegisterMaster
from tests.testbench.runner import run_testbench
from tests.testbench.streams import Sink, Stalls, cycles, rng, start, until

PERIOD = 5  # ns
HALF_BITS = 7  # of a counter in these tests, so that carries are seen; 2 * HALF_BITS are enough for all they count
DESCRIPTOR = [r for r in REGISTERS if register("WEIGHTS_LO").offset <= r.offset <= register("FLAGS").offset]


def config_from(values):
    values = dict(values)
    return builds.build(values.pop("codec"), **values)


def there(config):
    """The registers of a build: those of the table, but what several codecs need only where there are several."""
    more = {"WEIGHT_CODEC"} if len(config.codecs) > 1 else set()
    more |= {f"CODEC_{n}" for n in range(1, len(config.codecs))}
    return [r for r in REGISTERS if r.name in more or not (r.name == "WEIGHT_CODEC" or r.name.startswith("CODEC_"))]


async def open_bench(dut, name):
    config = config_from(json.loads(os.environ["CONTROL"]))
    quiet = {f"s_axi_{n}": 0 for n in ("awvalid", "wvalid", "bready", "arvalid", "rready", "awprot", "arprot")}
    quiet |= {"completion__valid": 0, "completion__payload": 0, "descriptor__ready": 0, "events": 0}
    quiet |= {"progress": 0, "drained": 1, "stray": 0}
    clk = await start(dut, period_ns=PERIOD, **quiet)
    return config, clk, RegisterMaster(dut, clk, name, half_bits=HALF_BITS)


def reset_values(config):
    words = configuration_words(config)
    words["VERSION"] = 1 << 16 | (2 if len(config.codecs) > 1 else 1)
    return {r.name: words.get(r.name, r.reset) for r in there(config)}


@cocotb.test()
async def table(dut):
    """After reset every register reads as the table says; everything else answers SLVERR."""
    config, _clk, master = await open_bench(dut, "table")
    want = reset_values(config)
    by_offset = {r.offset: r for r in there(config)}
    for offset in range(0, 4096, 4):
        value, response = await master.read(offset | master.random.randrange(4))
        if offset in by_offset:
            name = by_offset[offset].name
            assert response == OKAY, name
            assert want[name] in (None, value), f"{name}: {value:#x}"
        else:
            assert response == SLVERR, f"{offset:#x}"
    # Writes: only where the table allows it, only whole.
    for offset in [*by_offset, *(master.random.randrange(0, 4096, 4) for _ in range(300))]:
        r = by_offset.get(offset)
        strobes = master.random.randrange(15)
        assert await master.write(offset, 0xFFFFFFFF, strobes) == SLVERR, f"{offset:#x} with strobes {strobes}"
        if r is None or not r.access.writable:
            assert await master.write(offset, 0xFFFFFFFF) == SLVERR, f"{offset:#x}"
    for r in there(config):
        value = await master.get(r.name)
        assert want[r.name] in (None, value), f"{r.name} changed to {value:#x}"
    assert dut.descriptor__valid.value == 0


@cocotb.test()
async def write_and_read(dut):
    """Every register that can be written keeps the bits that it has and no others, whatever goes on beside."""
    config, clk, master = await open_bench(dut, "write_and_read")
    layout = layouts.descriptor_layout(config)
    writable = {
        "CONTROL": sum(f.mask for f in register("CONTROL").fields if f.name != "abort"),
        "WATCHDOG": 0xFFFFFFFF,
    }
    for r in DESCRIPTOR:
        if r.name.endswith(("_LO", "_HI")):
            bits = config.addr_bits - 32 * r.name.endswith("_HI")
        else:
            bits = {"ROWS": layout["rows"].width, "COLS": layout["cols"].width, "SCALE": 32, "FLAGS": 1}[r.name]
        writable[r.name] = (1 << max(0, min(32, bits))) - 1
    if len(config.codecs) > 1:
        writable["WEIGHT_CODEC"] = (1 << (len(config.codecs) - 1).bit_length()) - 1
    assert {r.name for r in there(config) if r.access is Access.RW} == set(writable)
    state = dict.fromkeys(writable, 0)
    # A reader of its own, at the same time as the writes.
    reader = RegisterMaster(dut, clk, "reader", slowness=9)
    reading = True

    async def read_on():
        while reading:
            assert await reader.get("ID") == register("ID").reset
            assert await reader.get("MAX_COLS") == config.max_cols

    task = cocotb.start_soon(read_on())
    for _ in range(100):
        name = master.random.choice(list(writable))
        value = master.random.getrandbits(32)
        await master.put(name, value)
        state[name] = value & writable[name]
    reading = False
    await task
    for name, value in state.items():
        assert await master.get(name) == value, name


@cocotb.test()
async def queue(dut):
    """Products come out as submitted, in order; values that do not fit mark them; a full queue refuses; pause."""
    config, clk, master = await open_bench(dut, "queue")
    layout = layouts.descriptor_layout(config)
    generator = rng("products")
    limits = {"rows": layout["rows"].width, "cols": layout["cols"].width, "scale": 32}
    expected = []

    async def product(room):
        values = {region: generator.getrandbits(config.addr_bits) for region in
                  ("weights", "activations", "results", "scales")}  # fmt: skip
        values |= {name: generator.getrandbits(bits) for name, bits in limits.items()}
        values["flags"] = generator.getrandbits(1)
        bad = 0
        if generator.random() < 0.3:
            name = generator.choice([*values, "scale"])
            bits = {**limits, "flags": 1, "scale": 32}.get(name, config.addr_bits)
            width = 64 if bits == config.addr_bits and name not in limits else 32
            if width > bits:
                values[name] |= 1 << generator.randrange(bits, width)
                bad = 1
        response = await master.submit(**values)
        assert response == (OKAY if room else SLVERR)
        if room:
            fields = {name: value & (1 << layout[name].width) - 1 for name, value in values.items() if name != "flags"}
            expected.append(layout.const({**fields, "same": values["flags"] & 1, "bad": bad}).as_bits())

    sink = Sink(dut, "descriptor", clk, stalls=Stalls(0.9, longest=100, generator=rng("sink")))
    for _ in range(30):
        await product(True)
        await until(clk, lambda: len(sink.items) >= len(expected) - config.queue_depth + 1, 20_000)
    await sink.expect(expected, 50_000)
    # The same product again: SUBMIT needs no new values.
    assert await master.write(register("SUBMIT").offset, 0) == OKAY
    expected.append(expected[-1])
    await sink.expect(expected, 5_000)

    await master.put("CONTROL", register("CONTROL").pack(pause=1))
    before = len(expected)
    for n in range(config.queue_depth):
        status = register("STATUS").unpack(await master.get("STATUS"))
        assert status == {"busy": 1, "error": 0, "queue_full": 0, "active": 0, "aborting": 0, "queue_level": n}
        await product(True)
    status = register("STATUS").unpack(await master.get("STATUS"))
    assert status == {
        "busy": 1, "error": 0, "queue_full": 1, "active": 0, "aborting": 0, "queue_level": config.queue_depth,
    }  # fmt: skip
    for _ in range(3):
        await product(False)
    assert len(sink.items) == before
    await master.put("CONTROL", 0)
    await sink.expect(expected, 50_000)
    assert await master.get("SUBMITTED") == len(expected)
    assert await master.get("COMPLETED") == 0


@cocotb.test()
async def completions(dut):
    """COMPLETED, ERROR, ERROR_PRODUCT, hold, and the interrupt for every combination of enables."""
    _config, clk, master = await open_bench(dut, "completions")
    generator = rng("codes")
    sink = Sink(dut, "descriptor", clk)
    submitted = completed = 0
    happened = {"product_done": 0, "idle": 0, "error": 0, "stray": 0}
    enables = 0

    async def check(hold):
        status = await master.get("IRQ_STATUS")
        assert register("IRQ_STATUS").unpack(status) == happened
        assert dut.irq.value == bool(status & enables), f"irq with status {status:#x} and enables {enables:#x}"
        assert dut.hold.value == hold
        assert await master.get("SUBMITTED") == submitted
        assert await master.get("COMPLETED") == completed
        state = register("STATUS").unpack(await master.get("STATUS"))
        assert (state["busy"], state["error"]) == (submitted != completed, hold)

    await check(0)
    await master.put("ERROR_CLEAR", 1)  # without effect
    for _ in range(60):
        enables = generator.randrange(8)
        await master.put("CONTROL", enables)
        for _ in range(generator.randint(1, 2)):
            if submitted - completed < 6:
                assert await master.write(register("SUBMIT").offset, 0) == OKAY
                submitted += 1
        await check(0)
        code = generator.choice([0, 0, *ErrorCode])
        dut.completion__valid.value, dut.completion__payload.value = 1, code
        await RisingEdge(clk)
        dut.completion__valid.value, dut.completion__payload.value = 0, 7
        if code:
            await until(clk, lambda: dut.hold.value == 1, 3, "hold")
        await cycles(clk, 4)
        completed += 1
        happened["product_done"] = 1
        happened["idle"] |= submitted == completed
        happened["error"] |= code != 0
        await check(int(code != 0))
        assert await master.get("ERROR") == code
        if code:
            assert await master.get("ERROR_PRODUCT") == completed - 1
            await master.put("ERROR_CLEAR", 0xFFFFFFFE)  # not the bit
            assert await master.get("ERROR") == code
            await master.put("ERROR_CLEAR", 1)
            assert await master.get("ERROR") == 0
        if generator.random() < 0.7:
            bits = generator.randrange(8)
            await master.put("IRQ_STATUS", bits)
            for field in register("IRQ_STATUS").fields:
                happened[field.name] &= not bits & field.mask
        await check(0)
    assert len(sink.items) == submitted


@cocotb.test()
async def interrupt_race(dut):
    """A completion in the very clock in which software clears the bit is not lost."""
    _config, clk, master = await open_bench(dut, "interrupt_race")
    master.slowness = 0
    master.random.choice = lambda _: 0
    Sink(dut, "descriptor", clk)
    await master.put("CONTROL", 1)
    completed = []

    async def complete(delay):
        await cycles(clk, delay)
        dut.completion__valid.value, dut.completion__payload.value = 1, 0
        await RisingEdge(clk)
        dut.completion__valid.value = 0

    seen = []
    for lead in range(-6, 7):  # the completion comes that much later than the clear
        assert await master.write(register("SUBMIT").offset, 0) == OKAY
        await master.put("IRQ_STATUS", 7)
        assert await master.get("IRQ_STATUS") == 0
        completion = cocotb.start_soon(complete(max(lead, 0)))
        await cycles(clk, max(-lead, 0))
        await master.put("IRQ_STATUS", 7)
        await completion
        await cycles(clk, 3)
        seen.append(await master.get("IRQ_STATUS"))
        completed.append(await master.get("COMPLETED"))
    # Those that come before the clear are cleared, all others stay: product_done and idle happen in the same clock.
    cleared = seen.count(0)
    assert 1 <= cleared <= 7, seen
    assert seen == [0] * cleared + [3] * (13 - cleared), seen
    assert completed == list(range(1, 14))


@cocotb.test()
async def counting(dut):
    """Counters against a model, clock by clock, with carries into the high half and reads while they run."""
    _config, clk, master = await open_bench(dut, "counting")
    generator = rng("events")
    layout = layouts.events_layout()
    singles = {name: name.removesuffix("s") for name in COUNTERS if name not in CATEGORIES and name != "cycles"}
    model = dict.fromkeys(COUNTERS, 0)
    Sink(dut, "descriptor", clk)
    active = False
    unfinished = 0

    async def run(clocks, *, request=0.5, stop=False):
        """Random events; with `stop` the last clock ends the last product."""
        nonlocal active
        for n in range(clocks):
            events = {name: int(generator.random() < 0.4) for name in layout.members}
            events["request"] = int(generator.random() < request)
            dut.events.value = layout.const(events).as_bits()
            # The completion is registered once more than the events.
            dut.completion__valid.value = int(stop and n == clocks - 2)
            await RisingEdge(clk)
            active |= bool(events["request"] and unfinished)
            if active:
                model["cycles"] += 1
                model[next((c for c in CATEGORIES if c != "control" and events[c]), "control")] += 1
            for counter, event in singles.items():
                model[counter] += events[event]
        dut.events.value = 0
        if stop:
            active = False

    async def compare():
        """With the events at rest only cycles go on, and those only while active."""
        assert not active
        await cycles(clk, 6)
        got = await master.counters()
        assert got == model
        assert got["cycles"] == sum(got[name] for name in CATEGORIES)

    await run(200)  # nothing submitted: no cycles
    await compare()
    assert model["cycles"] == 0
    for _ in range(6):
        assert await master.write(register("SUBMIT").offset, 0) == OKAY
        unfinished += 1
        await run(50, request=0)
        await run(generator.randint(2, 400), request=0.1, stop=True)
        unfinished = 0
        await compare()
    assert model["cycles"] >= 3 << HALF_BITS
    await master.put("COUNTER_CLEAR", 0)
    await compare()
    await master.put("COUNTER_CLEAR", 1)
    model = dict.fromkeys(COUNTERS, 0)
    await compare()

    # While all counters run: the halves of a number belong together, so it is what the clock says, whenever it is read.
    assert await master.write(register("SUBMIT").offset, 0) == OKAY
    dut.events.value = layout.const(dict.fromkeys(layout.members, 1)).as_bits()
    await cycles(clk, 10)  # an event takes a few clocks to be counted
    low, high = counter_registers("cycles")
    differences = set()
    for _ in range(150):
        await master._send("ar", araddr=low.offset)
        taken = int(get_sim_time("ps")) // (1000 * PERIOD)
        value, _ = await master._receive("r", "rdata", "rresp")
        value |= await master.get(high.name) << HALF_BITS
        differences.add(value - taken)
    assert len(differences) == 1, f"the counter and the clock differ by {sorted(differences)}"
    assert value > 10 << HALF_BITS


BUILDS = [
    {"codec": "seedlm4"},
    {"codec": "c12p5k16b0r", "lanes": 5, "addr_bits": 64, "queue_depth": 3, "max_rows": 1 << 24, "bus_bits": 256},
    {"codec": "fp16", "addr_bits": 20, "queue_depth": 7, "max_cols": 65536, "max_rows": 100},
    {"codec": "trellis4+fp16+int8+mxfp4+mx6", "addr_bits": 32, "queue_depth": 4},
]


@pytest.mark.parametrize("build", BUILDS, ids=lambda b: "-".join(str(v) for v in b.values()))
def test_control(build, monkeypatch):
    monkeypatch.setattr(seedlm.hdl.counters, "HALF_BITS", HALF_BITS)
    run_testbench(Control(config=config_from(build)), __name__, name="control", env={"CONTROL": json.dumps(build)})
