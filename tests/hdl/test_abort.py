"""Abort and watchdog: the unit by itself, then a whole small accelerator whose memory misbehaves in every way."""

import cocotb
import numpy as np
import pytest
from cocotb.triggers import RisingEdge

from seedlm.golden.build import Config
from seedlm.golden.codecs import codec
from seedlm.golden.images import activation_image, scale_image, weight_image
from seedlm.golden.matrix import PackedMatrix
from seedlm.golden.product import product
from seedlm.hdl.abort import RESET_CLOCKS, AbortUnit
from seedlm.hdl.registers import ErrorCode, register
from seedlm.hdl.top import SeedLMAccelerator
from tests.testbench.axi_memory import ReadMemory, WriteMemory
from tests.testbench.register_master import OKAY, SLVERR, RegisterMaster
from tests.testbench.runner import run_testbench
from tests.testbench.streams import Stalls, cycles, rng, start, until

# Row scales and a gearbox, and bursts so short that a product has many.
CONFIG = Config(
    codec=codec("seedlm3r"), lanes=4, bus_bits=128, max_cols=512, burst_beats=4, queue_depth=4, addr_bits=32,
    weight_fifo_beats=64, activation_fifo_beats=64, scale_fifo_beats=16, result_fifo_beats=16,
)  # fmt: skip
PAGE = 4096
IDLE = {"busy": 0, "error": 0, "queue_full": 0, "active": 0, "aborting": 0, "queue_level": 0}


# --- the unit ---------------------------------------------------------------------------------------------------------


async def pulse(dut, clk, name):
    getattr(dut, name).value = 1
    await RisingEdge(clk)
    getattr(dut, name).value = 0


async def unit(dut, **inputs):
    return await start(dut, **{"request": 0, "limit": 0, "at_work": 0, "progress": 0, "drained": 1} | inputs)


async def phases(dut, clk, limit):
    """Clocks with only the path, then with both in reset; whether the watchdog was the cause."""
    await until(clk, lambda: dut.clear_path.value == 1, limit, "an abort")
    drain = clear = 0
    while dut.aborting.value == 1:
        assert dut.clear_path.value == 1
        drain, clear = drain + 1 - int(dut.clear_port.value), clear + int(dut.clear_port.value)
        done = int(dut.done.value)
        cause = int(dut.timed_out.value)
        await RisingEdge(clk)
        assert dut.aborting.value == 1 - done
        assert drain + clear < limit
    assert dut.clear_path.value == dut.clear_port.value == dut.done.value == 0
    return drain, clear, cause


@cocotb.test()
async def unit_waits_for_the_port(dut):
    clk = await unit(dut)
    for wait in (0, 1, RESET_CLOCKS, RESET_CLOCKS + 1, 100):
        dut.drained.value = int(wait == 0)
        await pulse(dut, clk, "request")

        async def answer(wait=wait):
            await cycles(clk, wait)
            dut.drained.value = 1

        task = cocotb.start_soon(answer())
        drain, clear, cause = await phases(dut, clk, 500)
        await task
        assert (drain, clear, cause) == (max(wait + 1, RESET_CLOCKS), RESET_CLOCKS, 0) or wait in (0, 1, RESET_CLOCKS)
        assert RESET_CLOCKS <= drain <= max(wait + 1, RESET_CLOCKS)
        await cycles(clk, 40)
        assert dut.aborting.value == 0


@cocotb.test()
async def unit_does_not_wait_twice(dut):
    """The second request ends the waiting, however early it comes."""
    clk = await unit(dut, drained=0)
    for wait in (1, 5, 60):
        await pulse(dut, clk, "request")
        await cycles(clk, 300 if wait == 60 else wait)
        assert (dut.aborting.value, dut.clear_port.value) == (1, 0)
        await pulse(dut, clk, "request")
        _, clear, cause = await phases(dut, clk, 100)
        assert (clear, cause) == (RESET_CLOCKS, 0)


@cocotb.test()
async def unit_watchdog(dut):
    """It runs out 3 clocks after the limit, only at work, only if set; progress starts it anew; it ends the waiting."""
    clk = await unit(dut)
    dut.at_work.value = 1
    await cycles(clk, 500)
    assert dut.aborting.value == 0
    for limit in (1, 2, 50):
        await pulse(dut, clk, "progress")
        dut.limit.value = limit
        await pulse(dut, clk, "progress")
        clocks = await until(clk, lambda: dut.aborting.value == 1, 100, "the watchdog")
        assert limit + 2 <= clocks <= limit + 4, (limit, clocks)
        dut.limit.value = 0
        assert (await phases(dut, clk, 100))[2] == 1
    dut.limit.value = 50
    for _ in range(20):
        await pulse(dut, clk, "progress")
        await cycles(clk, 48)
        assert dut.aborting.value == 0
    dut.at_work.value = 0
    await cycles(clk, 200)
    assert dut.aborting.value == 0
    dut.drained.value = 0
    await pulse(dut, clk, "request")
    drain, clear, cause = await phases(dut, clk, 300)
    assert 50 <= drain <= 55
    assert (clear, cause) == (RESET_CLOCKS, 0)


# --- the whole accelerator --------------------------------------------------------------------------------------------


class Switch(Stalls):
    """Random pauses, or nothing but pauses while `off` is set."""

    def __init__(self, name, p):
        super().__init__(p, longest=5, generator=rng(name) if p else None)
        self.off = False

    def __call__(self):
        return super().__call__() or self.off


class System:
    """An accelerator with its memory and its software."""

    def __init__(self, dut, name):
        self.dut, self.name = dut, name
        self.generator = np.random.default_rng(rng(name).getrandbits(64))
        self.content = {}
        self.next = PAGE
        self.allowed = []
        self.rlast = None
        self.submitted = 0
        self.regions = {}

    async def start(self, *, stall=0.0):
        dut = self.dut
        quiet = {f"s_axi_{n}": 0 for n in ("awvalid", "wvalid", "bready", "arvalid", "rready", "awprot", "arprot")}
        self.switches = {n: Switch(self.name + n, stall) for n in ("ar", "r", "aw", "w", "b")}
        self.clk = await start(dut, clock="aclk", reset="aresetn", active_low=True, reset_cycles=16, **quiet)
        self.reads = ReadMemory(
            dut, self.clk, self.content.__getitem__, regions=self.allowed, ar_stalls=self.switches["ar"],
            r_stalls=self.switches["r"], latency=12, rlast=self._last,
        )  # fmt: skip
        self.writes = WriteMemory(
            dut, self.clk, regions=[], aw_stalls=self.switches["aw"], w_stalls=self.switches["w"],
            b_stalls=self.switches["b"], latency=8,
        )  # fmt: skip
        self.master = RegisterMaster(dut, self.clk, self.name)

    def _last(self, burst, n):
        right = n == burst.length - 1
        return self.rlast(burst, n, right) if self.rlast else right

    def _store(self, image):
        address, size = self.next, CONFIG.beat_bytes
        for n in range(0, len(image), size):
            self.content[address + n] = int.from_bytes(image[n : n + size].tobytes(), "little")
        self.allowed.append((address, address + len(image)))
        self.next += -(-len(image) // PAGE) * PAGE
        return address

    def product(self, rows=23, cols=100):
        """Descriptor and expected results of a new product, whose images are in the memory."""
        matrix = PackedMatrix.random(CONFIG.codec, rows, cols, self.generator)
        x = self.generator.standard_normal(cols).astype(np.float16)
        results = self.next
        self.next += PAGE
        self.writes.regions.append((results, results + 4 * rows))
        descriptor = {
            "weights": self._store(weight_image(CONFIG, matrix)),
            "activations": self._store(activation_image(CONFIG, x)),
            "scales": self._store(scale_image(CONFIG, matrix.scales)),
            "results": results, "rows": rows, "cols": cols, "flags": 0,
        }  # fmt: skip
        return descriptor, product(matrix, x)

    async def submit(self, descriptor, response=OKAY):
        assert await self.master.submit(**descriptor) == response
        self.submitted += response == OKAY

    async def status(self):
        return register("STATUS").unpack(await self.master.get("STATUS"))

    async def finished(self, limit=20_000):
        """Wait until every product has ended."""
        for _ in range(limit // 20):
            if await self.master.get("COMPLETED") == self.submitted:
                return
            await cycles(self.clk, 10)
        raise AssertionError(f"products do not end within {limit} clocks")

    async def good(self):
        """A product gives the right bits."""
        descriptor, y = self.product()
        await self.submit(descriptor)
        await self.finished()
        assert await self.master.get("ERROR") == 0
        written = bytes(self.writes.bytes[descriptor["results"] + n] for n in range(4 * len(y)))
        assert written == y.tobytes()
        await cycles(self.clk, 100)
        assert await self.status() == IDLE

    async def abort(self):
        await self.master.put("CONTROL", register("CONTROL").pack(abort=1))

    async def aborted(self, limit=2000):
        """Wait for the end of an abort: nothing is left over."""
        for _ in range(limit // 10):
            status = await self.status()
            if not status["aborting"]:
                break
        else:
            raise AssertionError(f"an abort does not end within {limit} clocks")
        assert status["busy"] == status["queue_level"] == 0
        assert await self.master.get("SUBMITTED") == self.submitted
        assert await self.master.get("COMPLETED") == self.submitted

    async def hang(self, products=2):
        """Products of which the first never ends."""
        for _ in range(products):
            await self.submit(self.product()[0])
        await cycles(self.clk, 2500)
        assert await self.master.get("COMPLETED") == self.submitted - products
        assert (await self.status())["busy"] == 1

    def forget(self):
        """The memory alone is reset."""
        self.reads.flush()
        self.writes.flush()

    def turn(self, what, off):
        """The memory does nothing on this channel any more; the accelerator may then give it up."""
        self.switches[what].off = off
        self.reads.lenient(off)
        self.writes.lenient(off)


async def anywhere(dut, name, stall):
    """An abort at any time: accepted bursts are finished, then nothing moves; the next product is right."""
    system = System(dut, name)
    await system.start(stall=stall)
    generator = rng(name)
    await system.good()
    for n in range(25):
        if n % 5:
            for _ in range(generator.randint(1, 3)):
                await system.submit(system.product()[0])
            await cycles(system.clk, generator.randrange(900))
        loaded = await system.master.get("COMPLETED") == system.submitted
        await system.abort()
        await system.aborted()
        assert system.reads.quiet
        assert system.writes.quiet
        bursts = len(system.reads.bursts), len(system.writes.bursts)
        await cycles(system.clk, 50)
        assert bursts == (len(system.reads.bursts), len(system.writes.bursts))
        assert await system.master.get("ERROR") == 0
        if n % 3 == 0:
            # No activations are loaded, whatever there was.
            await system.submit(system.product()[0] | {"flags": 1})
            await system.finished()
            assert await system.master.get("ERROR") == ErrorCode.DESCRIPTOR, loaded
            await system.master.put("ERROR_CLEAR", 1)
        if n % 4 == 0:
            await system.good()
    await system.good()
    assert register("IRQ_STATUS").unpack(await system.master.get("IRQ_STATUS"))["stray"] == 0


@cocotb.test()
async def abort_anywhere(dut):
    await anywhere(dut, "anywhere", 0.0)


@cocotb.test()
async def abort_anywhere_with_stalls(dut):
    await anywhere(dut, "stalls", 0.3)


@cocotb.test()
async def what_survives(dut):
    """Registers, interrupt enables and counters stay; SUBMIT is refused until the end; the interrupt tells the end."""
    system = System(dut, "survives")
    await system.start()
    master = system.master
    await system.good()
    system.turn("r", True)
    await system.hang()
    control = register("CONTROL").pack(irq_idle=1)
    await master.put("WATCHDOG", 1_000_000)
    await master.put("IRQ_STATUS", 15)
    kept = ("ROWS", "COLS", "WEIGHTS_LO", "ACTIVATIONS_LO", "RESULTS_LO", "SCALES_LO", "SCALE", "FLAGS", "WATCHDOG")
    before = [await master.get(name) for name in kept]
    counters = await master.counters()
    await master.put("CONTROL", control | register("CONTROL").pack(abort=1))
    assert await master.get("CONTROL") == control, "abort reads as 0"
    status = await system.status()
    assert (status["aborting"], status["busy"], status["queue_full"], status["queue_level"]) == (1, 1, 1, 0)
    await system.submit({}, SLVERR)
    assert dut.irq.value == 0
    system.turn("r", False)
    await system.aborted()
    assert dut.irq.value == 1
    assert register("IRQ_STATUS").unpack(await master.get("IRQ_STATUS")) == {
        "product_done": 1, "idle": 1, "error": 0, "stray": 0,
    }  # fmt: skip
    assert [await master.get(name) for name in kept] == before
    after = await master.counters()
    assert all(after[name] >= counters[name] for name in counters)
    await cycles(system.clk, 100)
    assert await master.counters() == after, "the cycle counter has stopped"
    await system.good()


async def no_answer(dut, channel):
    """What never comes: abort waits for it, a second one does not; what comes late is dropped."""
    system = System(dut, channel)
    await system.start()
    await system.good()
    for late in (False, True):
        system.turn(channel, True)
        await system.hang()
        await system.abort()
        await cycles(system.clk, 3000)
        assert (await system.status())["aborting"] == 1
        await system.submit({}, SLVERR)
        if not late:
            system.forget()
        await system.abort()
        await system.aborted()
        await system.master.put("IRQ_STATUS", 15)
        system.turn(channel, False)
        await cycles(system.clk, 1000)
        stray = register("IRQ_STATUS").unpack(await system.master.get("IRQ_STATUS"))["stray"]
        assert stray == late
        await system.good()


@cocotb.test()
async def no_b(dut):
    await no_answer(dut, "b")


@cocotb.test()
async def no_r(dut):
    await no_answer(dut, "r")


@cocotb.test()
async def watchdog(dut):
    """Whatever the memory does not do, the product ends with TIMEOUT and the later ones with it."""
    system = System(dut, "watchdog")
    await system.start()
    master = system.master
    limit = 400
    await master.put("WATCHDOG", limit)
    for channel in ("r", "b", "ar", "aw", "w"):
        await system.good()
        number = system.submitted
        system.turn(channel, True)
        for _ in range(3):
            await system.submit(system.product()[0])
        await system.finished(8 * limit)
        assert await master.get("ERROR") == ErrorCode.TIMEOUT
        assert await master.get("ERROR_PRODUCT") == number
        await system.aborted()
        assert (await system.status())["error"] == 1
        system.forget()  # the memory is reset too, before it goes on
        system.turn(channel, False)
        # What is submitted now waits until the error is cleared, and that takes no time off the watchdog.
        descriptor, _ = system.product()
        await system.submit(descriptor)
        await cycles(system.clk, 3 * limit)
        assert await master.get("ERROR") == ErrorCode.TIMEOUT
        assert not any(n in system.writes.bytes for n in range(descriptor["results"], descriptor["results"] + 92))
        await master.put("ERROR_CLEAR", 1)
        await system.finished()
        assert await master.get("ERROR") == 0


@cocotb.test()
async def watchdog_is_patient(dut):
    """A slow memory, a pause and an error that nobody clears are no reason."""
    system = System(dut, "patient")
    await system.start(stall=0.45)
    await system.master.put("WATCHDOG", 150)
    for _ in range(4):
        await system.good()
    await system.master.put("CONTROL", register("CONTROL").pack(pause=1))
    await system.submit(system.product()[0])
    await cycles(system.clk, 1000)
    assert (await system.status())["queue_level"] == 1
    await system.master.put("CONTROL", 0)
    await system.finished()
    assert await system.master.get("ERROR") == 0


@cocotb.test()
async def rlast(dut):
    """RLAST never, on every beat, early, in each region: an error of that product, no hang; the next one is good."""
    system = System(dut, "rlast")
    await system.start(stall=0.1)
    wrong = {
        "never": lambda burst, n, right: False,
        "always": lambda burst, n, right: True,
        "early": lambda burst, n, right: right if burst.length == 1 else n == burst.length - 2,
    }
    for kind, last in wrong.items():
        for region in ("weights", "activations", "scales"):
            descriptor, _ = system.product()
            end = descriptor[region] + PAGE

            def opinion(burst, n, right, last=last, low=descriptor[region], end=end):
                return last(burst, n, right) if low <= burst.address < end else right

            system.rlast = opinion
            await system.submit(descriptor)
            await system.finished()
            assert await system.master.get("ERROR") == ErrorCode[f"READ_{region.upper()}"], (kind, region)
            system.rlast = None
            await system.master.put("ERROR_CLEAR", 1)
            await system.good()
    assert register("IRQ_STATUS").unpack(await system.master.get("IRQ_STATUS"))["stray"] == 0


@cocotb.test()
async def memory_reset_alone(dut):
    """The memory forgets everything in the middle of products: abort brings the accelerator back.

    A memory that was in a write burst stays in reset until the abort is over, since what is left of the burst would be
    data without an address.
    """
    system = System(dut, "forgets")
    await system.start(stall=0.1)
    generator = rng("forgets")
    down = 0
    for n in range(12):
        for _ in range(2):
            await system.submit(system.product()[0])
        if n % 2:  # at a random moment of a write burst
            await until(system.clk, lambda: dut.m_axi_wvalid.value == 1, 5000, "a write burst")
            await cycles(system.clk, generator.randrange(3))
        else:
            await cycles(system.clk, generator.randrange(100, 1000))
        for channel in system.switches:
            system.turn(channel, True)
        await cycles(system.clk, 2)  # what was under way has arrived
        writing = not system.writes.quiet
        if not writing:
            for channel in system.switches:
                system.turn(channel, False)
        system.forget()
        await cycles(system.clk, 500)
        await system.abort()
        await cycles(system.clk, 200)
        await system.abort()
        await system.aborted()
        if writing:
            down += 1
            system.forget()
            for channel in system.switches:
                system.turn(channel, False)
        await system.master.put("ERROR_CLEAR", 1)
        await system.good()
    assert down


@cocotb.test()
async def accelerator_reset_alone(dut):
    """The memory answers what was asked for before the reset: dropped, and told."""
    system = System(dut, "reset")
    await system.start()
    stray = 0
    for clocks in (60, 100, 300):
        await system.submit(system.product()[0])
        await cycles(system.clk, clocks)
        system.reads.pause = True
        dut.aresetn.value = 0
        await cycles(system.clk, 16)
        dut.aresetn.value = 1
        system.submitted = 0
        system.reads.release()
        system.writes.flush()
        pending = not system.reads.quiet
        system.reads.pause = False
        await until(system.clk, lambda: system.reads.quiet, 1000)
        await cycles(system.clk, 5)
        happened = register("IRQ_STATUS").unpack(await system.master.get("IRQ_STATUS"))
        assert happened["stray"] == pending
        stray += pending
        await system.good()
    assert stray


UNIT = ["unit_waits_for_the_port", "unit_does_not_wait_twice", "unit_watchdog"]
SYSTEM = [
    "abort_anywhere", "abort_anywhere_with_stalls", "what_survives", "no_b", "no_r", "watchdog", "watchdog_is_patient",
    "rlast", "memory_reset_alone", "accelerator_reset_alone",
]  # fmt: skip


def test_unit():
    run_testbench(AbortUnit(), __name__, name="abort", testcase=UNIT)


@pytest.mark.parametrize("testcase", SYSTEM)
def test_accelerator(testcase):
    run_testbench(SeedLMAccelerator(config=CONFIG), __name__, name="SeedLMAccelerator", testcase=[testcase])
