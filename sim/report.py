"""What the benchmark's rows say: speed-ups, targets, and tables in Markdown. Works on the JSON's objects alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from seedlm.build.pages import table

__all__ = ["COMPARED", "TARGETS", "Target", "add_speedups", "check_targets", "markdown", "shape_name"]

COMPARED = "fp16"  # the codec that speed-ups are over
LARGE = 4096 * 4096  # weights from which on the efficiency has a target
Row = dict


def shape_name(row: Row) -> str:
    """ROWSxCOLS."""
    return f"{row['rows']}x{row['cols']}"


def _key(row: Row) -> tuple:
    return row["rows"], row["cols"], row["memory"], row["products"]


def add_speedups(rows: Iterable[Row]) -> None:
    """Fill in ``speedup_vs_fp16``: cycles of `COMPARED` over cycles, same shape and memory; None without."""
    rows = list(rows)
    base = {_key(row): row["cycles"] for row in rows if row["codec"] == COMPARED}
    for row in rows:
        row["speedup_vs_fp16"] = base[_key(row)] / row["cycles"] if _key(row) in base else None


@dataclass(frozen=True)
class Target:
    """What a figure should be at least; `which` tells the rows it is asked of, all of which must reach it."""

    what: str
    figure: str
    at_least: float
    which: Callable[[Row], bool]


def _is(codec: str, *shapes: str, memories: tuple[str, ...] = ("ideal", "ddr3")) -> Callable[[Row], bool]:
    return lambda row: (
        row["codec"] == codec and shape_name(row) in shapes and row["memory"] in memories and row["products"] == 1
    )


def _large(memory: str) -> Callable[[Row], bool]:
    return lambda row: row["memory"] == memory and row["rows"] * row["cols"] >= LARGE and row["products"] == 1


_LARGEST = ("8192x28672", "28672x8192")
TARGETS = (
    Target("speed-up of seedlm4, 4096x4096, ideal", "speedup_vs_fp16", 3.98,
           _is("seedlm4", "4096x4096", memories=("ideal",))),
    Target("speed-up of seedlm4, 4096x4096, ddr3", "speedup_vs_fp16", 3.98,
           _is("seedlm4", "4096x4096", memories=("ddr3",))),
    Target("speed-up of seedlm4, 8192x28672 and 28672x8192, ideal", "speedup_vs_fp16", 3.99,
           _is("seedlm4", *_LARGEST, memories=("ideal",))),
    Target("speed-up of seedlm4, 8192x28672 and 28672x8192, ddr3", "speedup_vs_fp16", 3.99,
           _is("seedlm4", *_LARGEST, memories=("ddr3",))),
    Target("speed-up of seedlm4r, 4096x4096, ideal and ddr3", "speedup_vs_fp16", 3.97, _is("seedlm4r", "4096x4096")),
    Target("speed-up of seedlm3, 8192x28672, ideal and ddr3", "speedup_vs_fp16", 5.30, _is("seedlm3", "8192x28672")),
    Target("speed-up of trellis4, 4096x4096", "speedup_vs_fp16", 3.975, _is("trellis4", "4096x4096")),
    Target("speed-up of trellis4, 8192x28672", "speedup_vs_fp16", 3.99, _is("trellis4", "8192x28672")),
    Target("speed-up of trellis3, 8192x28672", "speedup_vs_fp16", 5.30, _is("trellis3", "8192x28672")),
    Target("speed-up of trellis2, 4096x4096", "speedup_vs_fp16", 7.90, _is("trellis2", "4096x4096")),
    Target("speed-up of trellis2, 8192x28672", "speedup_vs_fp16", 7.97, _is("trellis2", "8192x28672")),
    Target("efficiency, 4096x4096 and larger, all codecs, ideal", "efficiency", 0.995, _large("ideal")),
    Target("efficiency, 4096x4096 and larger, all codecs, ddr3", "efficiency", 0.955, _large("ddr3")),
    Target("efficiency relative to a bare reader, 4096x4096 and larger, LiteDRAM", "relative_efficiency", 0.99,
           _large("litedram")),
    Target("efficiency of ten queued 512x192 products of seedlm4, ideal", "efficiency", 0.95,
           lambda row: row["products"] == 10 and row["codec"] == "seedlm4" and row["memory"] == "ideal"),
)  # fmt: skip


def check_targets(rows: Iterable[Row]) -> list[dict]:
    """The targets that `rows` can tell something about: ``what``, ``at_least``, ``measured`` (worst), ``met``."""
    rows, found = list(rows), []
    for target in TARGETS:
        figures = [row[target.figure] for row in rows if target.which(row) and row[target.figure] is not None]
        if figures:
            worst = min(figures)
            found.append(
                {"what": target.what, "at_least": target.at_least, "measured": worst, "rows": len(figures),
                 "met": worst >= target.at_least}
            )  # fmt: skip
    return found


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f} %"


def _figure(target: dict, key: str) -> str:
    return f"{target[key]:.3f}" if target["at_least"] > 1 else _percent(target[key])


def _cells(row: Row) -> list[str]:
    speedup = row["speedup_vs_fp16"]
    return [
        shape_name(row),
        row["memory"],
        row["codec"],
        f"{row['cycles']:,}",
        _percent(row["efficiency"]),
        _percent(row["relative_efficiency"]),
        "" if speedup is None else f"{speedup:.3f}",
        f"{row['gigabytes_per_second']:.2f}",
        f"{row['microseconds']:,.1f}",
        f"{row['outputs_equal']:,} of {row['outputs_checked']:,}",
    ]


def _where(row: Row) -> list[str]:
    return [shape_name(row), row["memory"], row["codec"], *(f"{count:,}" for count in row["where"].values())]


_HEADINGS = ["<shape", "<memory", "<codec", "cycles", "efficiency", "relative", "speed-up", "GB/s", "microseconds",
             "outputs equal"]  # fmt: skip


def markdown(report: dict) -> str:
    """The report as a Markdown page without pictures."""
    rows, queued = report["rows"], report["queued"]
    lines = [
        f"From simulation (RTL and memory model under Verilator), {report['date']}: `{report['command']}` on",
        f"{report['machine']}.",
        "",
        "Efficiency: data beats over cycles, first request to interrupt. Relative: the same over that of a bare",
        "sequential reader of as many beats on the same memory. Speed-up: over `fp16`, same shape, same memory.",
        "",
    ]
    if report["targets"]:
        cells = (
            [t["what"], _figure(t, "at_least"), _figure(t, "measured"), "yes" if t["met"] else "**no**"]
            for t in report["targets"]
        )
        lines += ["## Targets", "", *table(["<what", "at least", "measured", "<met"], cells), ""]
    if rows:
        lines += ["## Products", "", *table(_HEADINGS, map(_cells, rows)), ""]
    if queued:
        count = queued[0]["products"]
        lines += [f"## {count} queued products, distinct matrices and activations", ""]
        lines += [*table(_HEADINGS, map(_cells, queued)), ""]
    every = [*rows, *queued]
    if every:
        lines += ["## Where the cycles go", ""]
        names = [name.replace("_", " ") for name in every[0]["where"]]
        lines += table(["<shape", "<memory", "<codec", *names], map(_where, every))
    speed = report.get("simulation_speed")
    if speed:
        lines += ["", "## Simulation speed", ""]
        cells = [[name, f"{value:,}"] for name, value in speed["cycles_per_second"].items()]
        lines += [f"{speed['what']}:", "", *table(["<system", "cycles per second"], cells)]
    return "\n".join([*lines, ""])
