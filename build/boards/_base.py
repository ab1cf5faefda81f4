"""What a board is: an Amaranth platform that also says what the memory controller must know."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from amaranth.build import DiffPairs, Resource, Subsignal
from amaranth.vendor import XilinxPlatform

from seedlm.build.parts import Part
from seedlm.build.parts import part as parse_part
from seedlm.golden.errors import SeedLMError

__all__ = ["FILL_IN", "Board", "Ddr3", "blank"]

FILL_IN = "FILL_IN"  # start of every value that the user must supply
DATA_BITS = 64
BYTES_PER_WORD = DATA_BITS // 8


def blank(name: str, count: int) -> str:
    """`count` pins to be filled in, each with a name of its own."""
    return " ".join(f"{FILL_IN}_{name}{i if count > 1 else ''}" for i in range(count))


@dataclass(frozen=True, kw_only=True)
class Ddr3:
    """A DDR3 memory on 64 data lines, as the memory interface generator (MIG) wants it described.

    Any value may be `FILL_IN`.

    Parameters
    ----------
    device : str
        Name in MIG's catalogue.
    period_ps : int
        Period of the memory clock: 1250 at DDR3-1600, 1071 at DDR3-1866. The user clock is four times as slow.
    input_mhz : int
        Frequency of the clock ``sys_clk``. Must be 200: it is the reference clock of the I/O delays too.
    sys_clk_bank : int
        The I/O bank of ``sys_clk``.
    vccaux_io : str
        ``2.0V`` or ``1.8V``.
    row_bits, bank_bits, column_bits : int
        Geometry of one rank.
    cas_latency, cas_write_latency : int
        In memory clocks.
    timing : dict of str to str
        MIG's timing parameters, in ns (tREFI in us).
    rtt : str
        Nominal on-die termination.
    """

    device: str
    period_ps: int
    input_mhz: int | str
    sys_clk_bank: int | str
    vccaux_io: str
    row_bits: int | str
    bank_bits: int = 3
    column_bits: int = 10
    cas_latency: int | str
    cas_write_latency: int | str
    timing: dict[str, str]
    rtt: str = "RZQ/6"

    @property
    def user_period_ns(self) -> float:
        """Period of the user clock, which the accelerator runs at."""
        return self.period_ps * 4 / 1000

    @property
    def bytes(self) -> int | None:
        """Size of the memory; None while it is not filled in."""
        bits = (self.row_bits, self.bank_bits, self.column_bits)
        return BYTES_PER_WORD << sum(bits) if all(isinstance(b, int) for b in bits) else None


class Board(XilinxPlatform):
    """A board with one DDR3 interface.

    Needs the resources ``sys_clk`` (differential, drives the memory controller), ``sys_rst``, ``led`` 0 and 1 and
    ``ddr3``; others are left alone.

    Attributes
    ----------
    title : str
        For a reader.
    ddr3 : Ddr3
    configuration : dict of str to str
        Properties of the design that depend on the supply of the configuration bank: ``CFGBVS``, ``CONFIG_VOLTAGE``.
    sources : str
        Where pins and values come from.
    """

    title: ClassVar[str]
    ddr3: ClassVar[Ddr3]
    configuration: ClassVar[dict[str, str]]
    sources: ClassVar[str]
    default_clk = "sys_clk"
    connectors: ClassVar[list] = []

    @classmethod
    def part(cls) -> Part:
        return parse_part(f"{cls.device}{cls.package}-{cls.speed}")

    @classmethod
    def resource(cls, name: str, number: int = 0) -> Resource:
        """The resource called `name`; raises `SeedLMError` if there is none."""
        for resource in cls.resources:
            if (resource.name, resource.number) == (name, number):
                return resource
        raise SeedLMError(f"board {cls.__name__}: no resource {name} {number}: a board needs"
                          " sys_clk, sys_rst, led 0, led 1 and ddr3")  # fmt: skip

    @classmethod
    def pins(cls, name: str, number: int = 0) -> dict[str, tuple[list[str], dict[str, str], bool]]:
        """Pins of a resource: part of it ("" for one without parts; pairs end in ``p`` and ``n``) -> pins, attributes,
        whether active low."""
        found: dict[str, tuple[list[str], dict[str, str], bool]] = {}

        def add(signal: Subsignal, prefix: str, attrs: dict[str, str]) -> None:
            attrs = attrs | dict(signal.attrs)
            for io in signal.ios:
                if isinstance(io, Subsignal):
                    add(io, io.name, attrs)
                elif isinstance(io, DiffPairs):
                    found[f"{prefix}_p".lstrip("_")] = (list(io.p.names), attrs, io.invert)
                    found[f"{prefix}_n".lstrip("_")] = (list(io.n.names), attrs, io.invert)
                else:
                    found[prefix] = (list(io.names), attrs, io.invert)

        add(cls.resource(name, number), "", {})
        return found

    @classmethod
    def to_fill_in(cls) -> list[str]:
        """What is still marked `FILL_IN`: names of values and pins."""
        def values() -> Iterator[tuple[str, Any]]:
            for field in fields(cls.ddr3):
                value = getattr(cls.ddr3, field.name)
                if isinstance(value, dict):
                    yield from ((f"ddr3.{field.name}.{key}", item) for key, item in value.items())
                else:
                    yield f"ddr3.{field.name}", value
            yield from ((f"configuration.{key}", item) for key, item in cls.configuration.items())
            for resource in cls.resources:
                for signal, (pins, attrs, _) in cls.pins(resource.name, resource.number).items():
                    name = f"{resource.name} {resource.number} {signal}".rstrip()
                    yield from ((f"pin {name}[{i}]", pin) for i, pin in enumerate(pins))
                    yield from ((f"{name} {key}", value) for key, value in attrs.items())

        return [name for name, value in values() if str(value).startswith(FILL_IN)]
