"""The FPGAs this project speaks of, and what is in them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from seedlm.golden.errors import SeedLMError

__all__ = ["DEFAULT_PART", "PARTS", "Capacity", "Part", "part"]

DEFAULT_PART = "xc7v585tffg1761-3"  # the paper's device

# Device, package, speed grade as Vivado writes them, for the 7 series.
_NAME = re.compile(r"(?P<device>xc7[a-z]{1,2}\d+[a-z]*?)(?P<package>[a-z]{2,3}\d{3,4})-(?P<speed>[123][a-z]?)")


@dataclass(frozen=True)
class Capacity:
    """What a device holds."""

    luts: int
    ffs: int
    dsps: int
    ramb36: int


# DS180, 7 Series FPGAs Data Sheet: Overview; DS190, Zynq-7000 SoC Data Sheet: Overview.
PARTS: dict[str, Capacity] = {
    "xc7v585t": Capacity(luts=364_200, ffs=728_400, dsps=1_260, ramb36=795),
    "xc7vx485t": Capacity(luts=303_600, ffs=607_200, dsps=2_800, ramb36=1_030),
    "xc7vx690t": Capacity(luts=433_200, ffs=866_400, dsps=3_600, ramb36=1_470),
    "xc7k160t": Capacity(luts=101_400, ffs=202_800, dsps=600, ramb36=325),
    "xc7k325t": Capacity(luts=203_800, ffs=407_600, dsps=840, ramb36=445),
    "xc7k410t": Capacity(luts=254_200, ffs=508_400, dsps=1_540, ramb36=795),
    "xc7a35t": Capacity(luts=20_800, ffs=41_600, dsps=90, ramb36=50),
    "xc7a100t": Capacity(luts=63_400, ffs=126_800, dsps=240, ramb36=135),
    "xc7z020": Capacity(luts=53_200, ffs=106_400, dsps=220, ramb36=140),
    "xc7z045": Capacity(luts=218_600, ffs=437_200, dsps=900, ramb36=545),
}


@dataclass(frozen=True)
class Part:
    """A 7-series part: device and package in small letters, speed grade with a capital one."""

    device: str
    package: str
    speed: str

    @property
    def name(self) -> str:
        """As Vivado writes it: ``xc7v585tffg1761-3``."""
        return f"{self.device}{self.package}-{self.speed}"

    @property
    def mig_name(self) -> str:
        """As the memory interface generator writes it: ``xc7v585t-ffg1761/-3``."""
        return f"{self.device}-{self.package}/-{self.speed}"

    @property
    def capacity(self) -> Capacity | None:
        """What is in it; None for a device that is not in `PARTS`."""
        return PARTS.get(self.device)

    def __str__(self) -> str:
        return self.name


def part(name: str) -> Part:
    """The part called `name`.

    Raises
    ------
    SeedLMError
        Not the name of a 7-series part.
    """
    match = _NAME.fullmatch(name.lower())
    if match is None:
        raise SeedLMError(f"not a 7-series part: {name!r}, expected a name such as {DEFAULT_PART}")
    # Vivado tells capitals from small letters: xc7k325tffg900-2L.
    return Part(match["device"], match["package"], match["speed"].upper())
