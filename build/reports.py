"""Vivado's text reports as data, and as one table against what the part holds."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from seedlm.build.parts import Capacity
from seedlm.golden.errors import SeedLMError

__all__ = [
    "Block", "WorstPath", "Reports", "Resource", "Timing", "checks", "hierarchy", "power", "read", "rows", "tables",
    "timing", "utilisation",
]  # fmt: skip

_SEVERITIES = ("Error", "Critical Warning", "Warning", "Advisory")


# --- tables ----------------------------------------------------------------------------------------
def tables(text: str) -> list[list[list[str]]]:
    """Every table drawn with ``+---+`` and ``|``: a list of rows of cells, the heading first.

    Below the heading cells keep the blanks in front, which show the depth in a hierarchy.
    """
    found: list[list[list[str]]] = []
    current: list[list[str]] | None = None
    rules = 0
    for line in text.splitlines():
        if re.fullmatch(r"\+(-+\+)+\s*", line):
            if current is None:
                current, rules = [], 0
            rules += 1
            if rules == 3:
                found.append(current)
                current = None
        elif current is not None and line.startswith("|"):
            cells = [cell[1:].rstrip() for cell in line.rstrip().strip("|").split("|")]
            current.append(cells if current else [cell.strip() for cell in cells])
        elif current is not None:
            if current:
                found.append(current)
            current = None
    if current:
        found.append(current)
    return found


def _number(text: str) -> float | None:
    """A number as Vivado prints it; None for blanks, ``NA``, ``<0.01`` and ``inf`` (the slack of a path that no
    constraint is about)."""
    try:
        value = float(text.strip().replace(",", ""))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


# --- utilisation -----------------------------------------------------------------------------------
@dataclass(frozen=True)
class Resource:
    """One kind of resource: how many are used, how many the part has (None where the report does not say)."""

    used: float
    available: float | None

    @property
    def percent(self) -> float | None:
        return None if not self.available else 100 * self.used / self.available


# Name here -> names in Vivado's reports (7 series; block RAM tiles count a RAMB18 as one half).
_RESOURCES = {
    "luts": ("Slice LUTs",),
    "ffs": ("Slice Registers",),
    "dsps": ("DSPs",),
    "ramb36": ("Block RAM Tile",),
}


def utilisation(text: str) -> dict[str, Resource]:
    """``luts``, ``ffs``, ``dsps`` and ``ramb36`` of a ``report_utilization``.

    Raises
    ------
    SeedLMError
        One of them is not there: not such a report, or not of a 7-series part.
    """
    sites: dict[str, Resource] = {}
    for table in tables(text):
        if table[0][0] != "Site Type" or "Used" not in table[0]:
            continue
        used, available = table[0].index("Used"), table[0].index("Available")
        for row in table[1:]:
            count = _number(row[used])
            if count is not None:
                # Synthesis marks estimates with an asterisk. The first table that has a name counts.
                sites.setdefault(row[0].strip().rstrip("*"), Resource(count, _number(row[available])))
    found = {}
    for name, titles in _RESOURCES.items():
        title = next((t for t in titles if t in sites), None)
        if title is None:
            raise SeedLMError(f"not a utilisation report of a 7-series part: no row {' or '.join(map(repr, titles))}")
        found[name] = sites[title]
    return found


@dataclass(frozen=True)
class Block:
    """One instance of a hierarchical utilisation report."""

    instance: str
    module: str
    depth: int
    luts: int
    ffs: int
    ramb36: int
    ramb18: int
    dsps: int


def hierarchy(text: str) -> list[Block]:
    """The instances of a ``report_utilization -hierarchical``, the top first.

    Raises
    ------
    SeedLMError
        Not such a report.
    """
    columns = {
        "luts": ("Total LUTs",), "ffs": ("FFs",), "ramb36": ("RAMB36",), "ramb18": ("RAMB18",),
        "dsps": ("DSP Blocks", "DSP48 Blocks"),  # 48 up to 2020
    }  # fmt: skip
    for table in tables(text):
        heading = table[0]
        if heading[:2] != ["Instance", "Module"]:
            continue
        places = {}
        for name, titles in columns.items():
            title = next((t for t in titles if t in heading), None)
            if title is None:
                raise SeedLMError(f"hierarchical utilisation report without the column {titles[0]!r}")
            places[name] = heading.index(title)
        blocks = []
        for row in table[1:]:
            depth = (len(row[0]) - len(row[0].lstrip())) // 2
            counts = {name: int(row[place]) for name, place in places.items()}
            blocks.append(Block(instance=row[0].strip(), module=row[1].strip(), depth=depth, **counts))
        return blocks
    raise SeedLMError("not a hierarchical utilisation report: no table with the columns Instance and Module")


# --- timing ----------------------------------------------------------------------------------------
@dataclass(frozen=True)
class WorstPath:
    """The worst path of a timing report."""

    slack_ns: float
    source: str
    destination: str
    delay_ns: float
    levels: int
    cells: str


@dataclass(frozen=True)
class Timing:
    """The summary of a timing report. A value is None where the report says NA (no such paths).

    ``wns_ns`` and ``whs_ns`` are the worst slacks for setup and hold, ``tns_ns`` the sum of the negative ones,
    ``failing`` the number of end points that fail in setup, hold or pulse width. ``clocks`` are periods in ns. A design
    without a clock is not ``constrained``: nothing was checked, and nothing is met.
    """

    met: bool
    constrained: bool
    wns_ns: float | None
    tns_ns: float | None
    whs_ns: float | None
    wpws_ns: float | None
    failing: int
    clocks: dict[str, float]
    worst: WorstPath | None

    def fmax_mhz(self, clock: str) -> float | None:
        """What the worst setup slack would allow if it is on `clock`."""
        if self.wns_ns is None or clock not in self.clocks:
            return None
        return 1000 / (self.clocks[clock] - self.wns_ns)


def _worst_path(text: str) -> WorstPath | None:
    # A section for each pair of clocks and each path group; paths without a constraint have no such line.
    sections = re.findall(r"^Max Delay Paths$(.*?)(?=^(?:Min Delay Paths|Pulse Width Checks|From Clock:)|\Z)", text,
                          re.MULTILINE | re.DOTALL)  # fmt: skip
    slack = re.compile(r"Slack \((?:MET|VIOLATED)\) :\s+(-?[\d.]+)ns")
    paths = [(float(match[1]), section[match.end() :]) for section in sections for match in slack.finditer(section)]
    if not paths:
        return None
    worst, detail = min(paths, key=lambda path: path[0])

    def field(pattern: str) -> re.Match:
        found = re.search(pattern, detail)
        if found is None:
            raise SeedLMError(f"timing report with a path that lacks {pattern.split(':')[0].strip()!r}")
        return found

    levels = field(r"Logic Levels:\s+(\d+)(?:\s+\((.*)\))?")
    return WorstPath(
        slack_ns=worst,
        source=field(r"Source:\s+(\S+)")[1],
        destination=field(r"Destination:\s+(\S+)")[1],
        delay_ns=float(field(r"Data Path Delay:\s+([\d.]+)ns")[1]),
        levels=int(levels[1]),
        cells=levels[2] or "",
    )


def timing(text: str) -> Timing:
    """The summary of a ``report_timing_summary``.

    Raises
    ------
    SeedLMError
        Not such a report.
    """
    summary = re.search(r"^ *WNS\(ns\).*\n[ -]+\n(.*)$", text, re.MULTILINE)
    met = "All user specified timing constraints are met." in text
    constrained = "There are no user specified timing constraints." not in text
    if summary is None or (constrained and met == ("Timing constraints are not met." in text)):
        raise SeedLMError("not a timing summary: no design timing summary, or no verdict")
    values = summary[1].split()
    if len(values) != 12:
        raise SeedLMError(f"timing summary with {len(values)} values, expected 12")
    wns, tns, setup, _, whs, _, hold, _, wpws, _, pulse, _ = map(_number, values)
    # Name, waveform, period, frequency; generated clocks are indented.
    clock = re.compile(r"^\s*(\S+)\s+\{[\d. ]+\}\s+([\d.]+)\s+[\d.]+\s*$", re.MULTILINE)
    clocks = {name: float(period) for name, period in clock.findall(text)}
    failing = int(sum(count or 0 for count in (setup, hold, pulse)))
    return Timing(met, constrained, wns, tns, whs, wpws, failing, clocks, _worst_path(text))


# --- checks and power ------------------------------------------------------------------------------
def checks(text: str) -> dict[str, int]:
    """Violations by severity in a ``report_drc`` or ``report_methodology``.

    Raises
    ------
    SeedLMError
        Not such a report.
    """
    counts = dict.fromkeys(_SEVERITIES, 0)
    for table in tables(text):
        heading = table[0]
        if "Severity" in heading and "Rule" in heading:
            column = "Violations" if "Violations" in heading else "Checks"
            for row in table[1:]:
                severity = row[heading.index("Severity")].strip()
                counts[severity] = counts.get(severity, 0) + int(row[heading.index(column)])
            return counts
    if re.search(r"(Violations|Checks) found:\s+0\b", text):
        return counts
    raise SeedLMError("not a report of design checks: no table of rules")


def power(text: str) -> dict[str, float]:
    """``total_w``, ``dynamic_w`` and ``static_w`` of a ``report_power``; raises `SeedLMError` if it is none."""
    found = {}
    titles = {"total_w": "Total On-Chip Power (W)", "dynamic_w": "Dynamic (W)", "static_w": "Device Static (W)"}
    for name, title in titles.items():
        match = re.search(rf"^\| {re.escape(title)}\s*\|\s*<?([\d.]+)[^|]*\|", text, re.MULTILINE)
        if match is None:
            raise SeedLMError(f"not a power report: no {title!r}")
        found[name] = float(match[1])
    return found


# --- all of a run ----------------------------------------------------------------------------------
@dataclass(frozen=True)
class Reports:
    """The reports of one stage of a run; None for those that are not there or cannot be read.

    Attributes
    ----------
    unread : tuple of str
        Why, for those that cannot.
    """

    resources: dict[str, Resource]
    timing: Timing
    blocks: list[Block] | None
    drc: dict[str, int] | None
    methodology: dict[str, int] | None
    power: dict[str, float] | None
    unread: tuple[str, ...] = ()

    def as_dict(self) -> dict:
        """For JSON."""
        return asdict(self)


def read(folder: Path) -> Reports:
    """Read the reports that the scripts write to `folder` (such as ``reports/routed``).

    Raises
    ------
    SeedLMError
        Utilisation or timing is missing or cannot be read.
    """
    unread = []

    def part(name: str, parse, needed: bool = False):
        path = folder / name
        if not path.is_file():
            if needed:
                raise SeedLMError(f"{path}: no such report")
            return None
        try:
            return parse(path.read_text(encoding="utf-8", errors="replace"))
        except (SeedLMError, ValueError) as error:
            if needed:
                raise SeedLMError(f"{path}: {error}") from error
            unread.append(f"{path}: {error}")
            return None

    return Reports(
        resources=part("utilization.rpt", utilisation, True),
        timing=part("timing_summary.rpt", timing, True),
        blocks=part("utilization_hierarchical.rpt", hierarchy),
        drc=part("drc.rpt", checks),
        methodology=part("methodology.rpt", checks),
        power=part("power.rpt", power),
        unread=tuple(unread),  # arguments are evaluated in their order
    )


_TITLES = {"luts": "LUTs", "ffs": "flip-flops", "dsps": "DSP48E1", "ramb36": "RAMB36"}


def rows(resources: dict[str, Resource], capacity: Capacity | None = None) -> list[tuple[str, str, str, str]]:
    """Resource, used, available and percent as text, one row each.

    Parameters
    ----------
    resources : dict of str to Resource
    capacity : Capacity, optional
        Counts where the report itself does not say what the part has.
    """
    out = []
    for name, title in _TITLES.items():
        item = resources[name]
        available = item.available or (getattr(capacity, name) if capacity else None)
        full = Resource(item.used, available)
        out.append((
            title, f"{item.used:,g}" if item.used % 1 else f"{item.used:,.0f}",
            "?" if available is None else f"{available:,.0f}",
            "?" if full.percent is None else f"{full.percent:.1f} %",
        ))  # fmt: skip
    return out
