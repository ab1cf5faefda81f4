"""The event counters in every clock against sums over the events that were given; with carries and with clears."""

import cocotb
from cocotb.triggers import RisingEdge

import seedlm.hdl.counters
from seedlm.hdl.counters import EventCounters
from seedlm.hdl.layouts import events_layout
from seedlm.hdl.registers import CATEGORIES, COUNTERS
from tests.testbench.runner import run_testbench
from tests.testbench.streams import cycles, rng, start

HALF_BITS = 4  # of a counter in these tests, so that both halves overflow
# Counters of events that count whenever they happen, with the event of each.
ALWAYS = {
    "weight_beats": "weight_beat", "activation_beats": "activation_beat", "scale_beats": "scale_beat",
    "result_beats": "result_beat", "read_bursts": "read_burst", "write_bursts": "write_burst",
    "read_stalls": "read_stall", "steps": "step",
}  # fmt: skip
DELAY = 3  # clocks from an event to the low half


def counted(events, stop, enable, active):
    """Counters that grow in a clock, and whether the next one is active."""
    names = {counter for counter, event in ALWAYS.items() if events[event]}
    now = active or (events["request"] and enable)
    if now:
        names |= {"cycles", next((c for c in CATEGORIES if c != "control" and events[c]), "control")}
    return names, now and not stop


class Model:
    """Total counts after each clock. What a clear takes away is everything up to the clock before it."""

    def __init__(self):
        self.active = [False]  # active[t]: clock t counts whatever is requested
        self.growth = []  # growth[t]: counters that grow by the events of clock t
        self.clears = []

    def clock(self, events, stop, enable, clear):
        names, after = counted(events, stop, enable, self.active[-1])
        self.growth.append(names)
        self.active.append(after)
        if clear:
            # It falls on the counters, where the events of two clocks before arrive.
            self.clears.append(len(self.growth) - 1 - (DELAY - 1))

    def value(self, name, clock):
        """The count with all events up to `clock`."""
        first = max((c + 1 for c in self.clears), default=0)
        return sum(name in names for names in self.growth[max(0, first) : clock + 1])


class Bench:
    def __init__(self, dut, clk):
        self.dut, self.clk, self.model = dut, clk, Model()
        self.layout = events_layout()
        self.low_before = None

    def halves(self, port):
        word = int(getattr(self.dut, port).value)
        return [word >> HALF_BITS * n & (1 << HALF_BITS) - 1 for n in range(len(COUNTERS))]

    async def clock(self, events, *, stop=0, enable=1, clear=0):
        """One clock with these inputs; then the outputs must be what the model says."""
        events = dict.fromkeys(self.layout.members, 0) | events
        self.dut.events.value = self.layout.const(events).as_bits()
        self.dut.stop.value, self.dut.enable.value, self.dut.clear.value = stop, enable, clear
        await RisingEdge(self.clk)
        # What is read now are the outputs of the clock whose inputs end here.
        now = len(self.model.growth)
        low, high = self.halves("low"), self.halves("high")
        if self.low_before is not None:
            for n, name in enumerate(COUNTERS):
                got = high[n] << HALF_BITS | self.low_before[n]
                want = self.model.value(name, now - 1 - DELAY) % (1 << 2 * HALF_BITS)
                assert got == want, f"{name} in clock {now - 1}: {got}, expected {want}"
        if now >= 2:
            assert self.dut.active.value == self.model.active[now - 1], f"active in clock {now}"
        self.model.clock(events, stop, enable, clear)
        self.low_before = None if clear else low


async def open_bench(dut):
    bench = Bench(dut, await start(dut, events=0, stop=0, enable=0, clear=0))
    for _ in range(5):
        await bench.clock({}, enable=0)
    return bench


async def traffic(dut, name, *, p_request, p_stop, p_clear=0.0, p_event=0.4, clocks=1000):
    bench = await open_bench(dut)
    generator = rng(name)
    for _ in range(clocks):
        events = {event: int(generator.random() < p_event) for event in bench.layout.members}
        events["request"] = int(generator.random() < p_request)
        stop = int(generator.random() < p_stop)
        await bench.clock(events, stop=stop, clear=int(generator.random() < p_clear))
    for _ in range(10):
        await bench.clock({})
    return bench


@cocotb.test()
async def long_batches(dut):
    bench = await traffic(dut, "long", p_request=0.05, p_stop=0.005)
    total = sum(bench.model.active)
    assert total > 1 << 2 * HALF_BITS, "the high half has not overflowed"


@cocotb.test()
async def short_batches(dut):
    """Also of a single clock, where the request comes with the stop, and a request in the clock after a stop."""
    await traffic(dut, "short", p_request=0.4, p_stop=0.4)


@cocotb.test()
async def clears(dut):
    await traffic(dut, "clears", p_request=0.1, p_stop=0.02, p_clear=0.03)


@cocotb.test()
async def rare_events(dut):
    """Most cycles are of the category control."""
    await traffic(dut, "rare", p_request=0.1, p_stop=0.01, p_event=0.02)


@cocotb.test()
async def all_events_at_once(dut):
    await traffic(dut, "all", p_request=1.0, p_stop=0.02, p_event=1.0, clocks=300)


@cocotb.test()
async def without_products(dut):
    """While `enable` is low a request starts nothing; beats and bursts count all the same."""
    bench = await open_bench(dut)
    generator = rng("disabled")
    for _ in range(3):
        for _ in range(60):
            await bench.clock({event: generator.getrandbits(1) for event in bench.layout.members}, enable=0)
        for _ in range(2):
            await bench.clock({}, enable=0)  # an event and the switch need not meet in the same clock inside
        for n in range(60):
            events = {event: generator.getrandbits(1) for event in bench.layout.members}
            await bench.clock(events, stop=int(n == 59), enable=1)
        for _ in range(4):
            await bench.clock({}, enable=1)
    assert not bench.model.active[-1]


@cocotb.test()
async def reset(dut):
    bench = await traffic(dut, "reset", p_request=0.5, p_stop=0.0, clocks=50)
    assert bench.model.active[-1]
    dut.rst.value = 1
    await cycles(bench.clk, 4)
    dut.rst.value = 0
    again = Bench(dut, bench.clk)
    for _ in range(20):
        await again.clock({}, enable=1)
    assert int(dut.low.value) == int(dut.high.value) == int(dut.active.value) == 0


def test_counters(monkeypatch):
    monkeypatch.setattr(seedlm.hdl.counters, "HALF_BITS", HALF_BITS)
    run_testbench(EventCounters(), __name__, name="counters")


def test_every_counter_is_tested():
    assert set(COUNTERS) == {"cycles", *CATEGORIES, *ALWAYS}
