"""What the accelerator costs and how deep its logic is, estimated with Yosys for the 7 series.

An estimate: Vivado maps, retimes and packs in its own way, and only placement and routing decide about time.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from seedlm.build import synthesis
from seedlm.build.netlist import Counts, CriticalPath, DspUse, Netlist, unit
from seedlm.build.verilog import verilog_text
from seedlm.golden.build import Config
from seedlm.hdl.collector import tag_layout
from seedlm.hdl.lane import Lane
from seedlm.hdl.rounding import Fp32Rounding
from seedlm.hdl.top import SeedLMAccelerator

__all__ = ["CANNOT_KNOW", "MODULES", "Estimate", "Unit", "component", "estimate", "synthesised"]

MODULES = ("lane", "rounding", "all")
_TOPS = {"lane": "Lane", "rounding": "Fp32Rounding", "all": "SeedLMAccelerator"}

CANNOT_KNOW = (
    "an estimate by Yosys, not by Vivado: no placement and no routing, so no clock frequency; Vivado maps and packs"
    " differently (two small LUTs in one), moves logic across registers and modules, and may build memories otherwise"
)


@dataclass(frozen=True)
class Unit:
    """A part of the design.

    Attributes
    ----------
    name : str
        Instance name; "" is what lies between the parts. Equal lanes are one unit.
    instances : int
    counts : Counts
        Of all instances.
    deepest : CriticalPath or None
        The path with most LUTs that ends in the unit; None if no path does.
    carry_bits : int
        Longest carry chain.
    """

    name: str
    instances: int
    counts: Counts
    deepest: CriticalPath | None
    carry_bits: int


@dataclass(frozen=True)
class Estimate:
    """The result of `estimate`.

    Attributes
    ----------
    module, top : str
        What was asked for, and the name of its top module.
    config : Config
    yosys : str
        Version of Yosys.
    units : tuple of Unit
        In order of their LUTs, largest first.
    total : Counts
    deepest : CriticalPath
        The path with most LUTs, of several the one with the longest way along carry chains.
    most_chains : CriticalPath
        The path with most carry chains in a row, of several the one with most LUTs.
    dsps : tuple of DspUse
        Every DSP48E1.
    """

    module: str
    top: str
    config: Config
    yosys: str
    units: tuple[Unit, ...]
    total: Counts
    deepest: CriticalPath
    most_chains: CriticalPath
    dsps: tuple[DspUse, ...]

    @property
    def carry_bits(self) -> int:
        """Longest carry chain."""
        return max(unit.carry_bits for unit in self.units)

    @property
    def dsp_faults(self) -> list[str]:
        """DSP48E1s that miss a register or are fed by logic; equal lanes count as one."""
        return list(dict.fromkeys(fault for dsp in self.dsps for fault in dsp.faults))

    def figures(self) -> dict[str, float]:
        """The numbers that are compared with a baseline."""
        return asdict(self.total) | {
            "levels": self.deepest.depth.luts,
            "chains": self.most_chains.depth.chains,
            "carry_bits": self.carry_bits,
        }

    def as_dict(self) -> dict:
        """For JSON."""
        return {
            "module": self.module,
            "codec": self.config.name,
            "lanes": self.config.lanes,
            "yosys": self.yosys,
            "total": asdict(self.total),
            "units": [asdict(unit) for unit in self.units],
            "deepest": asdict(self.deepest),
            "most_chains": asdict(self.most_chains),
            "carry_bits": self.carry_bits,
            "dsp_faults": self.dsp_faults,
            "estimate": CANNOT_KNOW,
        }


def component(module: str, config: Config) -> object:
    """The hardware that `module` of `MODULES` stands for."""
    if module == "lane":
        return Lane(config=config)
    if module == "rounding":
        return Fp32Rounding(config=config, tag_bits=tag_layout().size)
    return SeedLMAccelerator(config=config)


def synthesised(module: str, config: Config) -> synthesis.Synthesis:
    """The synthesis of one of `MODULES`. The whole accelerator keeps the boundaries of its parts; lanes are shared.

    Raises
    ------
    SeedLMError
        Yosys is missing or fails.
    """
    synthesis.version()
    top = _TOPS[module]
    text = verilog_text(component(module, config), top)
    return synthesis.synthesise(text, top, keep=synthesis.units(text, top) if module == "all" else None)


def _groups(netlist: Netlist) -> dict[str, list[str]]:
    """Units by name: instance paths that are shown as one."""
    groups: dict[str, list[str]] = {}
    for path in netlist.module_types:
        groups.setdefault(unit(path), []).append(path)
    return groups


def estimate(module: str, config: Config) -> Estimate:
    """Synthesise `module` (one of `MODULES`) for `config`, count and measure.

    Takes about 15 s of processor time for a lane or the rounding unit, a minute for the whole; the cache remembers.

    Raises
    ------
    SeedLMError
        Yosys is missing or fails.
    """
    netlist = Netlist.read(synthesised(module, config).netlist, _TOPS[module])
    counts, chains = netlist.counts(), netlist.carry_chains()
    deepest = netlist.longest(lambda d: (d.luts, d.carry_bits))
    most_chains = netlist.longest(lambda d: (d.chains, d.luts, d.carry_bits))

    def worst(paths: list[CriticalPath]) -> CriticalPath | None:
        return max(paths, key=lambda p: (p.depth.luts, p.depth.carry_bits), default=None)

    units = [
        Unit(
            name, len(paths), sum((counts[p] for p in paths), Counts()),
            worst([deepest[p] for p in paths if p in deepest]), max(chains[p] for p in paths),
        )
        for name, paths in _groups(netlist).items()
    ]  # fmt: skip
    return Estimate(
        module=module,
        top=_TOPS[module],
        config=config,
        yosys=synthesis.version(),
        units=tuple(sorted(units, key=lambda unit: -unit.counts.luts)),
        total=sum(counts.values(), Counts()),
        deepest=worst(list(deepest.values())),  # type: ignore[arg-type]
        most_chains=max(most_chains.values(), key=lambda p: (p.depth.chains, p.depth.luts)),
        dsps=tuple(netlist.dsps()),
    )
