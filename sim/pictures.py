"""Pictures of the benchmark's rows, as PNG and SVG, and what other pictures of measurements share with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from seedlm.golden.codecs import codec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.atomic import atomic_path
from seedlm.sim.report import COMPARED, shape_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw", "painting", "save"]

MARKERS = {"ideal": "o", "ddr3": "s", "litedram": "^"}
COLOURS = {"fp16": "#777777", "seedlm4": "#1f77b4", "seedlm4r": "#17becf", "seedlm3": "#d62728", "seedlm3r": "#ff9896"}
PARTS = {
    "wait_memory": "#d62728", "load_activations": "#ff7f0e", "draining": "#9467bd", "writing": "#8c564b",
    "control": "#7f7f7f",
}  # fmt: skip
NOTE = "from simulation"


def _series(rows: list[dict]) -> dict[tuple[str, str], list[dict]]:
    """Rows by (codec, memory), the smallest matrices first."""
    series: dict[tuple[str, str], list[dict]] = {}
    for row in sorted(rows, key=lambda row: (row["rows"] * row["cols"], row["rows"])):
        series.setdefault((row["codec"], row["memory"]), []).append(row)
    return series


def _style(name: str, memory: str) -> dict:
    return {
        "color": COLOURS.get(name), "marker": MARKERS.get(memory, "x"), "markersize": 5, "label": f"{name}, {memory}",
        "linestyle": "-" if memory == "ideal" else "--", "linewidth": 1,
    }  # fmt: skip


def _axes(figure: Figure, title: str, ylabel: str):
    axes = figure.add_subplot()
    axes.set(title=f"{title} ({NOTE})", xlabel="weights", ylabel=ylabel, xscale="log")
    axes.grid(alpha=0.3)
    return axes


def _speedup(figure: Figure, rows: list[dict]) -> None:
    axes = _axes(figure, "Speed-up over FP16 weights on the same engine", "cycles of fp16 / cycles")
    limits = {16 / 4, 16 / 3}  # of 4 and 3 bits per weight
    for (name, memory), points in _series(rows).items():
        points = [row for row in points if row["speedup_vs_fp16"] is not None]
        if name != COMPARED and points:
            axes.plot([r["rows"] * r["cols"] for r in points], [r["speedup_vs_fp16"] for r in points],
                      **_style(name, memory))  # fmt: skip
            limits.add(codec(COMPARED).bits_per_weight / codec(name).bits_per_weight)
    for limit in sorted(limits):
        axes.axhline(limit, color="black", linewidth=0.8, linestyle=":")
        axes.annotate(f"limit {limit:.3g}", (0.01, limit), xycoords=("axes fraction", "data"), va="bottom", fontsize=8)
    axes.set_ylim(1, 1.06 * max(limits))
    if axes.get_legend_handles_labels()[0]:  # nothing is drawn where no row has the figure
        axes.legend(fontsize=8)


def _efficiency(figure: Figure, rows: list[dict]) -> None:
    axes = _axes(figure, "Efficiency", "data beats / cycles, %")
    for (name, memory), points in _series(rows).items():
        axes.plot([r["rows"] * r["cols"] for r in points], [100 * r["efficiency"] for r in points],
                  **_style(name, memory))  # fmt: skip
    axes.legend(fontsize=8)


def _cycles(figure: Figure, rows: list[dict]) -> None:
    """Cycles without a step in the lanes, in percent of all, by cause: a panel per memory."""
    memories = sorted({row["memory"] for row in rows}, key=lambda m: list(MARKERS).index(m) if m in MARKERS else 9)
    panels = figure.subplots(1, len(memories), sharey=True, sharex=True, squeeze=False)[0]
    for axes, memory in zip(panels, memories, strict=True):
        bars = [row for row in rows if row["memory"] == memory]
        left = [0.0] * len(bars)
        for part, colour in PARTS.items():
            widths = [100 * row["where"][part] / row["cycles"] for row in bars]
            axes.barh(range(len(bars)), widths, left=left, color=colour, label=part.replace("_", " "))
            left = [a + b for a, b in zip(left, widths, strict=True)]
        axes.set_yticks(range(len(bars)), [f"{shape_name(row)} {row['codec']}" for row in bars], fontsize=6)
        axes.set(title=memory, xlabel="% of all cycles")
        axes.grid(alpha=0.3, axis="x")
    panels[0].invert_yaxis()
    panels[-1].legend(fontsize=7, loc="lower right")
    figure.suptitle(f"Cycles in which no step enters the lanes ({NOTE})")


@contextmanager
def painting() -> Iterator[type[Figure]]:
    """matplotlib's Figure, with settings by which the same figures make the same files.

    Raises
    ------
    SeedLMError
        matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SeedLMError("pictures need matplotlib: pip install 'seedlm[bench]'") from error
    settings = {"svg.hashsalt": "seedlm", "svg.fonttype": "none", "font.family": "DejaVu Sans"}
    with matplotlib.rc_context(settings):
        yield Figure


def save(figure: Figure, folder: Path, name: str) -> list[str]:
    """Write a figure as PNG and SVG, inside of `painting`; the names of the files."""
    names = []
    for kind in ("png", "svg"):
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        with atomic_path(folder / f"{name}.{kind}") as path:
            figure.savefig(path, format=kind, dpi=150, metadata=metadata)
        names.append(f"{name}.{kind}")
    return names


def draw(rows: list[dict], folder: Path) -> list[str]:
    """Write the pictures into `folder`; their file names.

    Raises
    ------
    SeedLMError
        matplotlib is not installed.
    """
    names = []
    with painting() as new:
        for name, paint in (("speedup", _speedup), ("efficiency", _efficiency), ("cycles", _cycles)):
            height = max(4.5, 1.2 + 0.11 * len(rows)) if name == "cycles" else 4.5
            figure = new(figsize=(8, height), layout="constrained")
            paint(figure, rows)
            names += save(figure, folder, name)
    return names
