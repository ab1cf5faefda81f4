"""Drives a pipeline without flow control: new inputs every clock, outputs compared after a known latency."""

from cocotb.triggers import RisingEdge

from tests.testbench.streams import start

__all__ = ["check"]


async def check(dut, latency, items):
    """Feed the inputs of `items` clock by clock and compare every output.

    Parameters
    ----------
    latency : int
        Clocks from an item's inputs to its outputs.
    items : list of (inputs, outputs)
        Two dicts each, port name to raw value.
    """
    clk = await start(dut)
    for n in range(len(items) + latency):
        inputs = items[min(n, len(items) - 1)][0]
        for port, value in inputs.items():
            getattr(dut, port).value = value
        await RisingEdge(clk)
        if n >= latency:
            for port, expected in items[n - latency][1].items():
                got = int(getattr(dut, port).value)
                assert got == expected, f"item {n - latency}: {port} is {got:#x}, expected {expected:#x}"
