"""The memory port: names, directions and constant values of the AXI4 master's signals.

The names are those of Vivado's packager (``m_axi_araddr``), flat, so that a component which has them as its members
can be driven by itself and a top level can pass them on by name. One ID (0): answers come in order.
"""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib.wiring import In, Member, Out

from seedlm.golden.build import Config

__all__ = ["OKAY", "PREFIX", "drive_constants", "read_members", "write_members"]

PREFIX = "m_axi_"
OKAY = 0  # xRESP
BURST_INCR = 1  # AxBURST
CACHE = 0b0011  # AxCACHE: normal, non-cacheable, bufferable
PROTECTION = 0  # AxPROT: unprivileged, secure, data


def _address(config: Config, channel: str) -> dict[str, Member]:
    return {
        f"{PREFIX}{channel}id": Out(1),
        f"{PREFIX}{channel}addr": Out(config.addr_bits),
        f"{PREFIX}{channel}len": Out(8),
        f"{PREFIX}{channel}size": Out(3),
        f"{PREFIX}{channel}burst": Out(2),
        f"{PREFIX}{channel}cache": Out(4),
        f"{PREFIX}{channel}prot": Out(3),
        f"{PREFIX}{channel}valid": Out(1),
        f"{PREFIX}{channel}ready": In(1),
    }


def read_members(config: Config) -> dict[str, Member]:
    """The AR and R channels, as members of a component that is the master."""
    return {
        **_address(config, "ar"),
        f"{PREFIX}rid": In(1),
        f"{PREFIX}rdata": In(config.bus_bits),
        f"{PREFIX}rresp": In(2),
        f"{PREFIX}rlast": In(1),
        f"{PREFIX}rvalid": In(1),
        f"{PREFIX}rready": Out(1),
    }


def write_members(config: Config) -> dict[str, Member]:
    """The AW, W and B channels, as members of a component that is the master."""
    return {
        **_address(config, "aw"),
        f"{PREFIX}wdata": Out(config.bus_bits),
        f"{PREFIX}wstrb": Out(config.beat_bytes),
        f"{PREFIX}wlast": Out(1),
        f"{PREFIX}wvalid": Out(1),
        f"{PREFIX}wready": In(1),
        f"{PREFIX}bid": In(1),
        f"{PREFIX}bresp": In(2),
        f"{PREFIX}bvalid": In(1),
        f"{PREFIX}bready": Out(1),
    }


def drive_constants(m: Module, config: Config, component: object, channel: str) -> None:
    """Drive what never changes on the address channel ``"ar"`` or ``"aw"`` of `component`."""
    for name, value in (
        ("id", 0),
        ("size", config.beat_bytes.bit_length() - 1),
        ("burst", BURST_INCR),
        ("cache", CACHE),
        ("prot", PROTECTION),
    ):
        m.d.comb += getattr(component, f"{PREFIX}{channel}{name}").eq(value)
