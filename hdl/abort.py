"""The way out of a hang: abort on command, and the watchdog that aborts by itself."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["LIMIT_BITS", "AbortUnit"]

LIMIT_BITS = 32  # of the watchdog
RESET_CLOCKS = 16  # what the top asks of ``aresetn`` too


class AbortUnit(wiring.Component):
    """Resets the data path, lets the memory port finish what it owes the bus, then resets that too.

    An abort has two phases. First only the data path is in reset: it makes no new requests and ignores what arrives,
    while the port goes on until all its bursts are answered (`drained`). Then both are in reset. A second `request`, or
    a watchdog that runs out meanwhile, ends the first phase without waiting.

    An abort takes 32 clocks and the time of the answers.

    Members
    -------
    request : In(1)
        Pulse: abort now.
    limit : In(32)
        Clocks without `progress` after which the watchdog aborts; 0: never. It runs out 3 clocks after that.
    at_work : In(1)
        The watchdog runs: a product is at work and nothing but the hardware keeps it from going on.
    progress : In(1)
        Something happened that only a working system does.
    drained : In(1)
        The memory port waits for nothing and owes nothing.
    aborting : Out(1)
        From the clock after the start to `done`.
    clear_path, clear_port : Out(1)
        Reset the data path, the memory port.
    done : Out(1)
        Pulse in the last clock of an abort.
    timed_out : Out(1)
        With `done`: the watchdog has started this abort.
    """

    def __init__(self) -> None:
        super().__init__({
            "request": In(1), "limit": In(LIMIT_BITS), "at_work": In(1), "progress": In(1), "drained": In(1),
            "aborting": Out(1), "clear_path": Out(1), "clear_port": Out(1), "done": Out(1), "timed_out": Out(1),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        expired = self._watchdog(m)
        clocks = Signal(range(RESET_CLOCKS))  # of the present phase that are still to come at least
        m.d.comb += self.clear_path.eq(self.aborting)
        with m.FSM():
            with m.State("RUN"), m.If(self.request | expired):
                m.d.sync += [self.timed_out.eq(expired), clocks.eq(RESET_CLOCKS - 1)]
                m.next = "DRAIN"
            with m.State("DRAIN"):
                m.d.comb += self.aborting.eq(1)
                with m.If(clocks != 0):
                    m.d.sync += clocks.eq(clocks - 1)
                with m.If(((clocks == 0) & self.drained) | self.request | expired):
                    m.d.sync += clocks.eq(RESET_CLOCKS - 1)
                    m.next = "CLEAR"
            with m.State("CLEAR"):
                m.d.comb += [self.aborting.eq(1), self.clear_port.eq(1)]
                m.d.sync += clocks.eq(clocks - 1)
                with m.If(clocks == 0):
                    m.d.comb += self.done.eq(1)
                    m.next = "RUN"
        return m

    def _watchdog(self, m: Module) -> Signal:
        """High for a clock when there was no progress for the limit."""
        progress = Signal()
        armed = Signal()
        left = Signal(LIMIT_BITS, reset_less=True)
        ran_out = Signal()
        expired = Signal()
        m.d.sync += [progress.eq(self.progress), armed.eq(self.limit != 0)]
        m.d.comb += expired.eq(ran_out & armed)
        with m.If(progress | expired | ~armed | ~(self.at_work | self.aborting)):
            m.d.sync += [left.eq(self.limit), ran_out.eq(0)]
        with m.Else():
            m.d.sync += Cat(left, ran_out).eq(left - 1)
        return expired
