"""The counters that explain every cycle."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from seedlm.hdl.layouts import events_layout
from seedlm.hdl.registers import CATEGORIES, COUNTERS

__all__ = ["EventCounters"]

HALF_BITS = 32  # no carry chain is longer


class EventCounters(wiring.Component):
    """64-bit counters of all names in `hdl.registers.COUNTERS`.

    ``cycles`` counts the clocks from the first ``request`` to `stop`, both included. Each of them counts in exactly one
    of the categories: that of the first category event, in their order, or ``control`` if there is none; so the
    categories add up to ``cycles`` at any time. The other counters count their events at any time.

    An event is in the low half 3 clocks later. The high half follows one clock after the low half, since the carry is
    registered: the low half of one clock and the high half of the next make a consistent number.

    Members
    -------
    events : in
        ``events_layout``.
    stop : in
        With the last event of a batch of products: the next clock is not active any more.
    enable : in
        Products are at work, so a request may make the counters active. Steady from a request to the clock after it.
    clear : in
        All counters become 0, for events up to two clocks before; later ones count again.
    active : out
        High from the second clock after the first ``request`` to the clock after `stop`. Register.
    low, high : out
        Arrays of the halves, in the order of `COUNTERS`. Registers.
    """

    def __init__(self) -> None:
        halves = data.ArrayLayout(HALF_BITS, len(COUNTERS))
        super().__init__({
            "events": In(events_layout()),
            "stop": In(1),
            "enable": In(1),
            "clear": In(1),
            "active": Out(1),
            "low": Out(halves),
            "high": Out(halves),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        events = Signal(events_layout())
        stop = Signal()
        counting = Signal()
        m.d.sync += [events.eq(self.events), stop.eq(self.stop)]
        # The clock of the first request counts, and so does the one of the stop.
        m.d.comb += counting.eq(self.active | (events.request & self.enable))
        m.d.sync += self.active.eq(counting & ~stop)

        happened = Signal(len(COUNTERS))
        sources = {"cycles": counting}
        free = counting
        for name in CATEGORIES:
            if name == "control":
                sources[name] = free
            else:
                sources[name] = free & events[name]
                free = free & ~events[name]
        renamed = {"steps": "step"}
        for name in COUNTERS:
            if name not in sources:
                sources[name] = events[renamed.get(name, name.removesuffix("s"))]
        m.d.sync += happened.eq(Cat(sources[name] for name in COUNTERS))

        for n, name in enumerate(COUNTERS):
            carry = Signal(name=f"{name}_carry")
            m.d.sync += [
                Cat(self.low[n], carry).eq(self.low[n] + happened[n]),
                self.high[n].eq(self.high[n] + carry),
            ]
            with m.If(self.clear):
                m.d.sync += [self.low[n].eq(0), carry.eq(0), self.high[n].eq(0)]
        return m
