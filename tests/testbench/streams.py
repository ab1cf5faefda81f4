"""What cocotb testbenches share: clock and reset, stream drivers with random stalls, bounded waits.

Signals are driven and read right after a rising clock edge through `cocotb`'s usual rule: a value read
after ``RisingEdge`` is the one before the edge. All randomness comes from generators made by `rng`, which
derive from the seed that `tests.testbench.runner` prints.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ReadOnly, RisingEdge

__all__ = ["Later", "Sink", "Source", "Stalls", "cycles", "rng", "settled", "start", "until"]


def rng(name: str = "") -> random.Random:
    """A generator of random numbers that depends on the run's seed (which `run_testbench` prints) and `name` only."""
    return random.Random(f"{os.environ.get('COCOTB_RANDOM_SEED', '0')}/{name}")


async def start(
    dut: Any, *, clock: str = "clk", reset: str | None = "rst", active_low: bool = False, period_ns: float = 5,
    reset_cycles: int = 3, **inputs: int,
) -> Any:  # fmt: skip
    """Set the inputs, start the clock, hold the reset for some cycles and release it.

    Parameters
    ----------
    clock, reset : str
        Port names. A reset that the design does not have (all registers without reset) is left out.
    **inputs : int
        Values of input ports from time 0 on.

    Returns
    -------
    The clock's handle; the function returns just after a rising edge, with the reset released.
    """
    for key, value in inputs.items():
        getattr(dut, key).value = value
    clk = getattr(dut, clock)
    Clock(clk, period_ns, unit="ns").start()
    rst = getattr(dut, reset, None) if reset else None
    if rst is not None:
        rst.value = 0 if active_low else 1
        await cycles(clk, reset_cycles)
        rst.value = 1 if active_low else 0
    await RisingEdge(clk)
    return clk


async def cycles(clk: Any, n: int) -> None:
    """Wait for `n` rising edges."""
    for _ in range(n):
        await RisingEdge(clk)


async def until(clk: Any, condition: Callable[[], bool], limit: int, what: str = "a condition") -> int:
    """Wait for the first rising edge at which ``condition()`` holds.

    Returns
    -------
    int
        Edges waited for.

    Raises
    ------
    AssertionError
        It did not hold within `limit` edges; the message names `what`.
    """
    for n in range(1, limit + 1):
        await RisingEdge(clk)
        if condition():
            return n
    raise AssertionError(f"waited {limit} cycles in vain for {what}")


class Later:
    """Pauses in the first `clocks` cycles, then never."""

    def __init__(self, clocks: int) -> None:
        self.left = clocks

    def __call__(self) -> bool:
        self.left -= 1
        return self.left >= 0


class Stalls:
    """Random pauses: every cycle is a pause with probability `p`, and pauses last up to `longest` cycles.

    ``Stalls(0)`` never pauses.
    """

    def __init__(self, p: float = 0.0, *, longest: int = 1, generator: random.Random | None = None) -> None:
        self.p = p
        self.longest = longest
        self._random = generator or (rng("stalls") if p else random.Random(0))
        self._left = 0

    def __call__(self) -> bool:
        """True if this cycle is a pause."""
        if self._left:
            self._left -= 1
            return True
        if self.p and self._random.random() < self.p:
            self._left = self._random.randint(1, self.longest) - 1
            return True
        return False


def _signals(dut: Any, prefix: str) -> tuple[Any, Any, Any]:
    """valid, ready and payload of the stream `prefix`; a stream without ready or payload gives None there."""
    return tuple(getattr(dut, f"{prefix}__{part}", None) for part in ("valid", "ready", "payload"))  # type: ignore[return-value]


class Source:
    """Drives a stream input of the design from a queue, with random pauses.

    The payload is an int, or a dict of field values for a stream whose payload is a structure that was
    flattened (``prefix__payload__field``). While nothing is offered the payload is random, so that
    a design that looks at it then is found out.
    """

    def __init__(self, dut: Any, prefix: str, clk: Any, *, stalls: Stalls | None = None) -> None:
        self._valid, self._ready, self._payload = _signals(dut, prefix)
        self._fields = lambda field: getattr(dut, f"{prefix}__payload__{field}")
        self._clk = clk
        self._stalls = stalls or Stalls()
        self._noise = random.Random(prefix)
        self._queue: list[int | dict[str, int]] = []
        self.sent = 0
        self._valid.value = 0
        self._task = cocotb.start_soon(self._run())

    def send(self, items: Iterable[int | dict[str, int]]) -> None:
        """Queue items; returns at once."""
        self._queue.extend(items)

    async def done(self, limit: int) -> None:
        """Wait until everything queued was accepted, `limit` cycles at most."""
        await until(self._clk, lambda: not self._queue, limit, f"{len(self._queue)} items to be accepted")

    def _put(self, item: int | dict[str, int]) -> None:
        if isinstance(item, dict):
            for field, value in item.items():
                self._fields(field).value = value
        elif self._payload is not None:
            self._payload.value = item

    async def _run(self) -> None:
        offered = False
        while True:
            await RisingEdge(self._clk)
            if offered and (self._ready is None or self._ready.value == 1):
                self._queue.pop(0)
                self.sent += 1
                offered = False
            if not offered:
                offered = bool(self._queue) and not self._stalls()
                self._valid.value = int(offered)
                if offered:
                    self._put(self._queue[0])
                elif self._payload is not None:
                    self._payload.value = self._noise.getrandbits(len(self._payload))


class Sink:
    """Takes items from a stream output of the design, with random pauses.

    Checks that an offered item stays as it is until it is taken.
    """

    def __init__(
        self, dut: Any, prefix: str, clk: Any, *, stalls: Stalls | None = None, fields: Sequence[str] = ()
    ) -> None:
        self._prefix = prefix
        self._valid, self._ready, self._payload = _signals(dut, prefix)
        self._parts = {field: getattr(dut, f"{prefix}__payload__{field}") for field in fields}
        self._clk = clk
        self._stalls = stalls or Stalls()
        self.items: list[Any] = []
        self.times: list[int] = []
        self.cycle = 0
        if self._ready is not None:
            self._ready.value = 0
        self._task = cocotb.start_soon(self._run())

    def _get(self) -> Any:
        if self._parts:
            return {field: int(handle.value) for field, handle in self._parts.items()}
        return int(self._payload.value) if self._payload is not None else None

    async def _run(self) -> None:
        ready = False
        held = None
        while True:
            await RisingEdge(self._clk)
            self.cycle += 1
            valid = self._valid.value == 1
            if held is not None:
                assert valid, f"{self._prefix}: valid fell before the item was taken"
                assert self._get() == held[0], f"{self._prefix}: the payload changed before it was taken"
            held = None
            if valid and (ready or self._ready is None):
                self.items.append(self._get())
                self.times.append(self.cycle)
            elif valid:
                held = (self._get(),)
            ready = not self._stalls()
            if self._ready is not None:
                self._ready.value = int(ready)

    async def take(self, count: int, limit: int) -> list[Any]:
        """The first `count` items, once they are there; `limit` cycles at most."""
        if len(self.items) < count:
            try:
                await until(self._clk, lambda: len(self.items) >= count, limit)
            except AssertionError:
                message = f"{self._prefix}: {len(self.items)} of {count} items after {limit} cycles"
                raise AssertionError(message) from None
        return self.items[:count]

    async def expect(self, items: Sequence[Any], limit: int, *, quiet: int = 50) -> None:
        """Exactly these items come, in this order, and nothing more for `quiet` cycles after the last."""
        got = await self.take(len(items), limit)
        for n, (a, b) in enumerate(zip(got, items, strict=True)):
            assert a == b, f"{self._prefix}: item {n} is {_show(a)}, expected {_show(b)}"
        await cycles(self._clk, quiet)
        assert len(self.items) == len(items), (
            f"{self._prefix}: {len(self.items) - len(items)} items too many, the first {_show(self.items[len(items)])}"
        )

    def clear(self) -> None:
        """Forget the items received so far."""
        self.items.clear()
        self.times.clear()


def _show(item: Any) -> str:
    return f"{item:#x}" if isinstance(item, int) else repr(item)


async def settled(read: Callable[[], Any]) -> Any:
    """``read()`` at the end of the current time step, when combinational outputs follow the inputs just set."""
    await ReadOnly()
    return read()

