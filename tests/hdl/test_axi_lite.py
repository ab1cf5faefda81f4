"""The register port against the rules of AXI4-Lite and a model that knows in which clock everything happens."""

import cocotb
from cocotb.triggers import RisingEdge

from seedlm.hdl.axi_lite import AxiLiteSlave
from seedlm.hdl.registers import ADDRESS_BITS
from tests.testbench.runner import run_testbench
from tests.testbench.streams import Stalls, cycles, rng, start, until

OKAY, SLVERR = 0, 2
INPUTS = {
    "s_axi_awaddr": ADDRESS_BITS, "s_axi_awprot": 3, "s_axi_wdata": 32, "s_axi_wstrb": 4, "s_axi_araddr": ADDRESS_BITS,
    "s_axi_arprot": 3, "write_ok": 1, "read_data": 32, "read_ok": 1,
}  # fmt: skip
QUIET = dict.fromkeys(["s_axi_awvalid", "s_axi_wvalid", "s_axi_arvalid", "s_axi_bready", "s_axi_rready", *INPUTS], 0)


class Sender:
    """Offers the items of a queue on one channel; its signals carry noise while nothing is offered."""

    def __init__(self, bench, channel, names, stalls):
        self.bench, self.channel, self.names, self.stalls = bench, channel, names, stalls
        self.queue, self.times = [], []  # values to send; clocks in which one was taken
        self.taken = []
        self.offered = False

    def before(self):
        """Set the inputs for the clock that begins."""
        if not self.offered:
            self.offered = bool(self.queue) and not self.stalls()
            if self.offered:
                for name, value in zip(self.names, self.queue[0], strict=True):
                    self.bench.signal(name).value = value
        self.bench.signal(f"s_axi_{self.channel}valid").value = int(self.offered)

    def after(self, clock):
        """Look at what happened in the clock that ends."""
        if self.offered and self.bench.get(f"s_axi_{self.channel}ready"):
            self.taken.append(self.queue.pop(0))
            self.times.append(clock)
            self.offered = False


class Receiver:
    """Takes the answers of one channel and sees that they stay until they are taken."""

    def __init__(self, bench, channel, names, stalls):
        self.bench, self.channel, self.names, self.stalls = bench, channel, names, stalls
        self.items, self.times, self.shown = [], [], []  # answers; clocks in which they were taken, first shown
        self.ready = False
        self.held = None

    def before(self):
        self.ready = not self.stalls()
        self.bench.signal(f"s_axi_{self.channel}ready").value = int(self.ready)

    def after(self, clock):
        answer = None
        if self.bench.get(f"s_axi_{self.channel}valid"):
            answer = tuple(self.bench.get(name) for name in self.names)
        assert self.held is None or answer == self.held, f"{self.channel}: {answer} before {self.held} was taken"
        if answer is not None and self.held is None:
            self.shown.append(clock)
        if answer is not None and self.ready:
            self.items.append(answer)
            self.times.append(clock)
            answer = None
        self.held = answer


class Bench:
    """The slave between a master with a queue for every channel and registers that answer at random."""

    def __init__(self, dut, clk, test, stall=0.0):
        self.dut, self.clk, self.rng = dut, clk, rng(test)

        def stalls(channel):
            return Stalls(stall, longest=7, generator=rng(test + channel))

        self.aw = Sender(self, "aw", ["s_axi_awaddr"], stalls("aw"))
        self.w = Sender(self, "w", ["s_axi_wdata", "s_axi_wstrb"], stalls("w"))
        self.ar = Sender(self, "ar", ["s_axi_araddr"], stalls("ar"))
        self.b = Receiver(self, "b", ["s_axi_bresp"], stalls("b"))
        self.r = Receiver(self, "r", ["s_axi_rdata", "s_axi_rresp"], stalls("r"))
        self.history = []  # outputs and inputs of every clock, from the side of the registers
        self.task = cocotb.start_soon(self._run())

    def signal(self, name):
        return getattr(self.dut, name)

    def get(self, name):
        return int(self.signal(name).value)

    async def _run(self):
        parts = (self.aw, self.w, self.ar, self.b, self.r)
        seen = ("write", "write_word", "write_data", "write_ok", "read_word", "read_phase", "read_data", "read_ok")
        while True:
            held = {name for sender in parts[:3] if sender.offered for name in sender.names}
            for name, bits in INPUTS.items():
                if name not in held:
                    self.signal(name).value = self.rng.getrandbits(bits)
            for part in parts:
                part.before()
            await RisingEdge(self.clk)
            self.history.append({name: self.get(name) for name in seen})
            for part in parts:
                part.after(len(self.history) - 1)

    def send(self, writes, reads):
        for _ in range(writes):
            self.aw.queue.append((self.rng.getrandbits(ADDRESS_BITS),))
            self.w.queue.append((self.rng.getrandbits(32), self.rng.choice([15, 15, 15, self.rng.randrange(15)])))
        self.ar.queue += [(self.rng.getrandbits(ADDRESS_BITS),) for _ in range(reads)]
        self.writes, self.reads = writes, reads

    async def check(self):
        limit = 200 + 60 * (self.writes + self.reads)

        def done():
            return len(self.b.items) >= self.writes and len(self.r.items) >= self.reads

        await until(self.clk, done, limit, f"{self.writes} and {self.reads} answers")
        await cycles(self.clk, 30)
        self.task.cancel()
        self.check_writes()
        self.check_reads()

    def check_writes(self):
        """Every write is passed on once, if at all, 2 clocks after its parts, and answered in the next clock."""
        assert len(self.b.items) == self.writes, "answers to nothing"
        expected = []
        answered = -1  # when the answer before was taken
        for n in range(self.writes):
            (address,), (data, strobes) = self.aw.taken[n], self.w.taken[n]
            clock = max(self.aw.times[n], self.w.times[n], answered) + 2
            ok = strobes == 15 and self.history[clock]["write_ok"]
            if strobes == 15:
                expected.append(clock)
                for at in (clock - 1, clock):
                    assert (self.history[at]["write_word"], self.history[at]["write_data"]) == (address >> 2, data), n
            assert self.b.items[n] == ((OKAY if ok else SLVERR),), f"answer to write {n}"
            assert self.b.shown[n] == clock + 1, f"write {n} answered in clock {self.b.shown[n]}, expected {clock + 1}"
            answered = self.b.times[n]
        assert [n for n, seen in enumerate(self.history) if seen["write"]] == expected

    def check_reads(self):
        """Every read is shown to the registers for three clocks and answered in the last with what the second gave."""
        assert len(self.r.items) == self.reads, "answers to nothing"
        phases = [0] * len(self.history)
        answered = -1
        for n in range(self.reads):
            taken = self.ar.times[n]
            assert taken > answered, f"read {n} was taken before the one before was answered"
            for phase in range(3):
                phases[taken + 1 + phase] = 1 << phase
                assert self.history[taken + 1 + phase]["read_word"] == self.ar.taken[n][0] >> 2, n
            value = self.history[taken + 2]
            assert self.r.items[n] == (value["read_data"], OKAY if value["read_ok"] else SLVERR), f"answer to read {n}"
            assert self.r.shown[n] == taken + 3, f"read {n} answered in clock {self.r.shown[n]}, expected {taken + 3}"
            answered = self.r.times[n]
        assert [seen["read_phase"] for seen in self.history] == phases


async def traffic(dut, test, *, writes=200, reads=200, stall=0.0):
    bench = Bench(dut, await start(dut, **QUIET), test, stall)
    bench.send(writes, reads)
    await bench.check()


@cocotb.test()
async def no_stalls(dut):
    await traffic(dut, "no_stalls")


@cocotb.test()
async def few_stalls(dut):
    await traffic(dut, "few_stalls", stall=0.1)


@cocotb.test()
async def many_stalls(dut):
    await traffic(dut, "many_stalls", stall=0.5)


@cocotb.test()
async def only_writes(dut):
    await traffic(dut, "writes", reads=0, stall=0.3)


@cocotb.test()
async def only_reads(dut):
    await traffic(dut, "reads", writes=0, stall=0.3)


@cocotb.test()
async def orders_of_a_write(dut):
    """The address long before the data, and the data long before the address."""
    clk = await start(dut, **QUIET)
    for early, late in (("aw", "w"), ("w", "aw")):
        bench = Bench(dut, clk, early)
        bench.send(1, 0)
        waits = getattr(bench, late)
        waits.stalls = lambda: True
        await cycles(clk, 20)
        assert getattr(bench, early).times == [0]
        assert bench.b.shown == []
        assert not any(seen["write"] for seen in bench.history)
        waits.stalls = lambda: False
        await bench.check()


@cocotb.test()
async def answers_wait(dut):
    """A second write is taken while the answer to the first waits, and passed on only when that was taken."""
    bench = Bench(dut, await start(dut, **QUIET), "wait")
    bench.b.stalls = bench.r.stalls = lambda: True
    bench.send(3, 2)
    await cycles(bench.clk, 40)
    assert (len(bench.aw.times), len(bench.w.times), len(bench.ar.times)) == (2, 2, 1)
    assert sum(seen["write"] for seen in bench.history) <= 1
    bench.b.stalls = bench.r.stalls = lambda: False
    await bench.check()


@cocotb.test()
async def reset_forgets(dut):
    """A reset in the middle of everything: nothing is answered afterwards, and new transactions are as ever."""
    clk = await start(dut, **QUIET)
    for clocks in range(1, 8):
        bench = Bench(dut, clk, f"reset{clocks}")
        bench.b.stalls = bench.r.stalls = lambda: True
        bench.send(2, 2)
        await cycles(clk, clocks)
        bench.task.cancel()
        dut.rst.value = 1
        for name, value in QUIET.items():
            getattr(dut, name).value = value
        await cycles(clk, 3)
        dut.rst.value = 0
        await RisingEdge(clk)
        after = Bench(dut, clk, f"after{clocks}")
        after.send(0, 0)
        await after.check()
        after = Bench(dut, clk, f"again{clocks}")
        after.send(5, 5)
        await after.check()


@cocotb.test()
async def nothing_is_taken_in_reset(dut):
    """A master that comes out of reset first finds READY low, and its transactions are executed afterwards."""
    clk = await start(dut, **QUIET)
    dut.rst.value = 1
    await cycles(clk, 2)
    for name, value in {"write_ok": 1, "s_axi_wstrb": 15, "s_axi_awaddr": 0x123 << 2, "s_axi_wdata": 99}.items():
        getattr(dut, name).value = value
    for _ in range(20):
        dut.s_axi_awvalid.value = dut.s_axi_wvalid.value = dut.s_axi_arvalid.value = 1
        await RisingEdge(clk)
        assert dut.s_axi_awready.value == dut.s_axi_wready.value == dut.s_axi_arready.value == 0
    dut.rst.value = 0
    await until(clk, lambda: dut.s_axi_awready.value == dut.s_axi_wready.value == dut.s_axi_arready.value == 1, 3)
    dut.s_axi_awvalid.value = dut.s_axi_wvalid.value = dut.s_axi_arvalid.value = 0
    await until(clk, lambda: dut.write.value == 1, 5)
    assert (int(dut.write_word.value), int(dut.write_data.value)) == (0x123, 99)
    await until(clk, lambda: dut.s_axi_bvalid.value == 1, 3)
    await until(clk, lambda: dut.s_axi_rvalid.value == 1, 3)


def test_axi_lite():
    run_testbench(AxiLiteSlave(), __name__, name="axi_lite")
