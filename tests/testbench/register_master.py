"""The software's side of the registers, for cocotb testbenches: an AXI4-Lite master that knows the register table."""

from __future__ import annotations

import cocotb
from cocotb.triggers import RisingEdge

from seedlm.hdl.registers import COUNTERS, counter_registers, register
from tests.testbench.streams import cycles, rng, until

__all__ = ["OKAY", "SLVERR", "RegisterMaster"]

OKAY, SLVERR = 0, 2


class RegisterMaster:
    """AXI4-Lite master with random delays on every channel; address and data of a write in any order.

    Parameters
    ----------
    name : str
        Of its generator of random numbers.
    slowness : int
        Longest delay in clocks.
    half_bits : int
        Bits of half a counter.
    """

    def __init__(self, dut, clk, name, slowness=4, half_bits=32):
        self.dut, self.clk, self.random, self.slowness = dut, clk, rng(name), slowness
        self.half_bits = half_bits

    async def _pause(self):
        await cycles(self.clk, self.random.choice([0, 0, 1, self.random.randint(0, self.slowness)]))

    async def _send(self, channel, **values):
        await self._pause()
        for name, value in values.items():
            getattr(self.dut, f"s_axi_{name}").value = value
        getattr(self.dut, f"s_axi_{channel}valid").value = 1
        await until(self.clk, lambda: getattr(self.dut, f"s_axi_{channel}ready").value == 1, 50, f"{channel}ready")
        getattr(self.dut, f"s_axi_{channel}valid").value = 0
        for name, value in values.items():  # not to be looked at any more
            getattr(self.dut, f"s_axi_{name}").value = ~value & (1 << len(getattr(self.dut, f"s_axi_{name}"))) - 1

    async def _receive(self, channel, *names):
        await self._pause()
        ready, valid = getattr(self.dut, f"s_axi_{channel}ready"), getattr(self.dut, f"s_axi_{channel}valid")
        ready.value = 1
        await until(self.clk, lambda: valid.value == 1, 50, f"{channel}valid")
        values = [int(getattr(self.dut, f"s_axi_{name}").value) for name in names]
        ready.value = 0
        await RisingEdge(self.clk)
        assert valid.value == 0, f"{channel}valid stays after the answer was taken"
        return values

    async def write(self, offset, value, strobes=15):
        """Write and give the response back."""
        address = cocotb.start_soon(self._send("aw", awaddr=offset))
        data = cocotb.start_soon(self._send("w", wdata=value, wstrb=strobes))
        await address
        await data
        return (await self._receive("b", "bresp"))[0]

    async def read(self, offset):
        """Data and response."""
        await self._send("ar", araddr=offset)
        return tuple(await self._receive("r", "rdata", "rresp"))

    async def put(self, name, value):
        assert await self.write(register(name).offset, value) == OKAY, name

    async def get(self, name):
        value, response = await self.read(register(name).offset)
        assert response == OKAY, name
        return value

    async def counters(self):
        values = {}
        for name in COUNTERS:
            low, high = [await self.get(r.name) for r in counter_registers(name)]
            assert low < 1 << self.half_bits
            values[name] = high << self.half_bits | low
        return values

    async def submit(self, **values):
        """Write the descriptor registers that are given, 64-bit ones whole, and submit."""
        for name, value in values.items():
            if name in ("weights", "activations", "results", "scales"):
                halves = [("_LO", value & 0xFFFFFFFF), ("_HI", value >> 32)]
                self.random.shuffle(halves)
                for half, part in halves:
                    await self.put(name.upper() + half, part)
            else:
                await self.put(name.upper(), value)
        return await self.write(register("SUBMIT").offset, self.random.getrandbits(32))
