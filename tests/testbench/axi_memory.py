"""AXI4 memories for cocotb testbenches: exact in every cycle, strict about the protocol, in plain Python.

They check what a master may get wrong (bursts across 4 KiB, accesses outside the allowed regions, signals that change
while they wait, WLAST and WSTRB) and keep the time of every transfer, so that lost cycles can be counted. The data
path's signals are named ``m_axi_*``; one ID; answers in order.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from tests.testbench.streams import Stalls

__all__ = ["Burst", "ReadMemory", "WriteMemory"]

OKAY = 0
ERRORS = (1, 2, 3)  # EXOKAY (nothing exclusive is ever asked for), SLVERR, DECERR
NEVER = Stalls()


@dataclass
class Burst:
    """One accepted address: where, how many beats, in which clock; `beats` holds the clocks of its data."""

    address: int
    length: int
    clock: int
    beats: list[int] = field(default_factory=list)


class _Channel:
    """What AR and AW have in common: stalls, the checks of an address, the list of bursts."""

    def __init__(self, dut: Any, name: str, stalls: Stalls, regions: Sequence[tuple[int, int]] | None) -> None:
        self.name = name
        self._signals = {
            part: getattr(dut, f"m_axi_{name}{part}")
            for part in ("id", "addr", "len", "size", "burst", "valid", "ready")
        }
        self._bus_bytes = len(dut.m_axi_rdata if name == "ar" else dut.m_axi_wdata) // 8
        self._stalls = stalls
        self._ready = False
        self._held: tuple[int, ...] | None = None
        self.lenient = False
        self._signals["ready"].value = 0
        self.regions = regions
        self.bursts: list[Burst] = []
        self.waited = 0  # clocks with valid and without ready

    def step(self, clock: int) -> Burst | None:
        """One clock; the burst accepted in it."""
        s = self._signals
        accepted = None
        if s["valid"].value == 1:
            now = tuple(int(s[part].value) for part in ("id", "addr", "len", "size", "burst"))
            assert self._held in (None, now), f"{self.name}: changed while it waited"
            self._held = None if self._ready or self.lenient else now
            if self._ready:
                accepted = self._check(now, clock)
                self.bursts.append(accepted)
            else:
                self.waited += 1
        else:
            assert self._held is None, f"{self.name}: valid fell before the address was accepted"
        self._ready = not self._stalls()
        s["ready"].value = int(self._ready)
        return accepted

    def flush(self) -> None:
        self._held = None

    def _check(self, now: tuple[int, ...], clock: int) -> Burst:
        identity, address, length, size, kind = now
        length += 1
        end = address + length * self._bus_bytes
        where = f"{self.name}: burst of {length} beats at {address:#x}"
        assert identity == 0, f"{where} with ID {identity}"
        assert 1 << size == self._bus_bytes, f"{where} with AxSIZE {size}"
        assert kind == 1, f"{where} with AxBURST {kind}"
        assert address % self._bus_bytes == 0, f"{where} is not aligned to a beat"
        assert address // 4096 == (end - 1) // 4096, f"{where} crosses 4 KiB"
        if self.regions is not None:
            whole = -self._bus_bytes  # a region counts to the end of its last beat
            assert any(low <= address and end <= -(high // whole) * -whole for low, high in self.regions), (
                f"{where} leaves its region"
            )
        return Burst(address, length, clock)


class ReadMemory:
    """Answers the read channels of a master.

    Parameters
    ----------
    dut, clk
        The design and its clock.
    data : callable
        Address of a beat -> its value.
    regions : list of (first, end), optional
        Byte ranges that may be read, anywhere without it. The list may grow while the test runs.
    ar_stalls, r_stalls : Stalls
        Random pauses of ARREADY and RVALID.
    latency : int
        Clocks from the acceptance of an address to its first beat, at least.
    errors : callable, optional
        Address of a beat -> true if it is answered with one of `ERRORS` (and arbitrary data).
    rlast : callable, optional
        Burst, number of the beat -> RLAST; the memory's own opinion, right by default.

    Attributes
    ----------
    bursts : list of Burst
        Everything accepted so far.
    pause : bool
        No beat is delivered while this is set.
    """

    def __init__(
        self, dut: Any, clk: Any, data: Callable[[int], int], *, regions: Sequence[tuple[int, int]] | None = None,
        ar_stalls: Stalls = NEVER, r_stalls: Stalls = NEVER, latency: int = 1,
        errors: Callable[[int], bool] | None = None, rlast: Callable[[Burst, int], bool] | None = None,
    ) -> None:  # fmt: skip
        self._rlast = rlast or (lambda burst, n: n == burst.length - 1)
        self._dut, self._clk, self._data = dut, clk, data
        self._channel = _Channel(dut, "ar", ar_stalls, regions)
        self.bursts = self._channel.bursts
        self._stalls = r_stalls
        self._latency = latency
        self._errors = errors or (lambda address: False)
        self._queue: deque[tuple[int, Burst, int]] = deque()  # earliest clock, burst, beat
        self._offered: Burst | None = None
        self.pause = False
        self.clock = 0
        dut.m_axi_rvalid.value = 0
        cocotb.start_soon(self._run())

    def release(self) -> None:
        """The master alone was reset: it has withdrawn an address that waited; what was accepted is answered."""
        self._channel.flush()

    @property
    def quiet(self) -> bool:
        """Every beat that was asked for has been delivered."""
        return not self._queue and self._offered is None

    @property
    def waited(self) -> int:
        """Clocks in which ARVALID waited for ARREADY."""
        return self._channel.waited

    def lenient(self, on: bool) -> None:
        """Whether the master may withdraw what it offers: it has given up a memory that does not answer."""
        self._channel.lenient = on
        self._channel.flush()

    def flush(self) -> None:
        """Forget what is under way, as a reset of the memory does; the master should be in reset too or give it up."""
        self._channel.flush()
        self._queue.clear()
        self._offered = None
        self._dut.m_axi_rvalid.value = 0

    async def _run(self) -> None:
        dut = self._dut
        bus_bytes = len(dut.m_axi_rdata) // 8
        noise = random.Random(1)
        while True:
            await RisingEdge(self._clk)
            self.clock += 1
            burst = self._channel.step(self.clock)
            if burst is not None:
                self._queue.extend((self.clock + self._latency, burst, n) for n in range(burst.length))
            if self._offered is not None:
                assert dut.m_axi_rready.value == 1, "RREADY fell"
                self._offered.beats.append(self.clock)
                self._offered = None
            stall = self._stalls() or self.pause
            if self._queue and self._queue[0][0] <= self.clock + 1 and not stall:
                _, offered, n = self._queue.popleft()
                self._offered = offered
                address = offered.address + n * bus_bytes
                wrong = self._errors(address)
                dut.m_axi_rdata.value = noise.getrandbits(8 * bus_bytes) if wrong else self._data(address)
                dut.m_axi_rresp.value = noise.choice(ERRORS) if wrong else OKAY
                dut.m_axi_rlast.value = int(self._rlast(offered, n))
                dut.m_axi_rid.value = 0
                dut.m_axi_rvalid.value = 1
            else:  # nothing may depend on these while RVALID is low
                dut.m_axi_rvalid.value = 0
                dut.m_axi_rdata.value = noise.getrandbits(8 * bus_bytes)
                dut.m_axi_rresp.value = noise.getrandbits(2)
                dut.m_axi_rlast.value = noise.getrandbits(1)


class WriteMemory:
    """Takes the write channels of a master, address and data independently of each other.

    Parameters
    ----------
    dut, clk
        The design and its clock.
    regions : list of (first, end), optional
        Byte ranges that may be written, anywhere without it: every enabled byte is checked, and bursts in whole beats.
        The list may grow while the test runs.
    aw_stalls, w_stalls, b_stalls : Stalls
        Random pauses of AWREADY, WREADY and BVALID.
    latency : int
        Clocks from the last transfer of a burst to its response.
    errors : callable, optional
        Address of a burst -> true if it is answered with one of `ERRORS`.

    Attributes
    ----------
    bytes : dict
        Address -> value, of every byte written.
    bursts : list of Burst
        Everything accepted so far.
    masked : list of int
        Values of the bytes that were not enabled.
    rewritten : int
        Bytes written more than once.
    responses : int
        Responses given.
    """

    def __init__(
        self, dut: Any, clk: Any, *, regions: Sequence[tuple[int, int]] | None = None, aw_stalls: Stalls = NEVER,
        w_stalls: Stalls = NEVER, b_stalls: Stalls = NEVER, latency: int = 1,
        errors: Callable[[int], bool] | None = None,
    ) -> None:  # fmt: skip
        self._dut, self._clk = dut, clk
        self._bus_bytes = len(dut.m_axi_wdata) // 8
        self.regions = regions
        self._channel = _Channel(dut, "aw", aw_stalls, regions)
        self.bursts = self._channel.bursts
        self._w_stalls, self._b_stalls = w_stalls, b_stalls
        self._latency = latency
        self._errors = errors or (lambda address: False)
        self.bytes: dict[int, int] = {}
        self.masked: list[int] = []
        self.rewritten = 0
        self.responses = 0
        self.beats: list[int] = []  # clock of every beat
        self.clock = 0
        self._held: tuple[int, ...] | None = None
        self._addresses: deque[Burst] = deque()  # data not complete yet
        self._data: deque[tuple[int, ...]] = deque()  # beats without an address yet
        self._answers: deque[tuple[int, Burst]] = deque()
        self._responding = False
        dut.m_axi_bvalid.value = 0
        dut.m_axi_wready.value = 0
        cocotb.start_soon(self._run())

    @property
    def quiet(self) -> bool:
        """Every burst has its data and its response."""
        return not (self._addresses or self._data or self._answers or self._responding)

    def _store(self, address: int, value: int, strobes: int) -> None:
        for n in range(self._bus_bytes):
            if strobes >> n & 1:
                byte = address + n
                if self.regions is not None:
                    inside = any(low <= byte < high for low, high in self.regions)
                    assert inside, f"w: byte {byte:#x} is outside the results"
                self.rewritten += byte in self.bytes
                self.bytes[byte] = value >> 8 * n & 0xFF
            else:
                self.masked.append(value >> 8 * n & 0xFF)

    def lenient(self, on: bool) -> None:
        """Whether the master may withdraw what it offers: it has given up a memory that does not answer."""
        self._channel.lenient = on
        self._channel.flush()
        self._held = None

    def flush(self) -> None:
        """Forget what is under way, as a reset of the memory does; the master should be in reset too or give it up."""
        self._channel.flush()
        for queue in (self._addresses, self._data, self._answers):
            queue.clear()
        self._held = None
        self._responding = False
        self._dut.m_axi_bvalid.value = 0

    async def _run(self) -> None:
        dut = self._dut
        noise = random.Random(2)
        addresses, data, answers = self._addresses, self._data, self._answers
        ready = False
        while True:
            await RisingEdge(self._clk)
            self.clock += 1
            burst = self._channel.step(self.clock)
            if burst is not None:
                addresses.append(burst)
            if dut.m_axi_wvalid.value == 1:
                now = tuple(int(s.value) for s in (dut.m_axi_wdata, dut.m_axi_wstrb, dut.m_axi_wlast))
                assert self._held in (None, now), "w: changed while it waited"
                self._held = None if ready or self._channel.lenient else now
                if ready:
                    data.append((*now, self.clock))
                    self.beats.append(self.clock)
            else:
                assert self._held is None, "w: valid fell before the beat was accepted"
            while addresses and data:
                current = addresses[0]
                value, strobes, last, clock = data.popleft()
                self._store(current.address + len(current.beats) * self._bus_bytes, value, strobes)
                current.beats.append(clock)
                number = len(current.beats)
                assert last == (number == current.length), f"w: WLAST is {last} on beat {number} of {current.length}"
                if last:
                    answers.append((self.clock + self._latency, addresses.popleft()))
            if self._responding:
                assert dut.m_axi_bready.value == 1, "BREADY fell"
                self.responses += 1
            self._responding = bool(answers) and answers[0][0] <= self.clock + 1 and not self._b_stalls()
            dut.m_axi_bvalid.value = int(self._responding)
            dut.m_axi_bid.value = 0
            dut.m_axi_bresp.value = noise.getrandbits(2)
            if self._responding:
                _, current = answers.popleft()
                dut.m_axi_bresp.value = noise.choice(ERRORS) if self._errors(current.address) else OKAY
            ready = not self._w_stalls()
            dut.m_axi_wready.value = int(ready)
