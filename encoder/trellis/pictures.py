"""The pictures of docs/trellis.md: ``python -m seedlm.encoder.trellis.pictures DIR`` draws them into a folder.

- ``window.svg``: the windows of a row's bits, and the same as a path through a trellis
- ``error.svg``: relative error of Gaussian rows against stored bits, codecs beside the bound
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from seedlm.encoder.block_float import block_float, block_float_bits
from seedlm.encoder.families import encoder_of
from seedlm.encoder.loss import Loss
from seedlm.encoder.matrix import compress_matrix, relative_error
from seedlm.golden.codecs import BASELINE, CODECS
from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.atomic import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_error", "draw_window", "errors"]

ROWS, COLS, SIGMA = 4, 4096, 0.02
# The trellis that is drawn: a bit a weight, windows of three.
BITS, WINDOW = (1, 1, 0, 1, 0, 0, 1), 3
KEPT = WINDOW - 1


def errors(rows: int = ROWS, cols: int = COLS) -> list[tuple[str, str, float, float]]:
    """(name, kind, stored bits per weight, relative error) of codecs on Gaussian rows."""
    w = np.random.default_rng(0).normal(0, SIGMA, (rows, cols)).astype(np.float32)
    out = []
    for name, kind in CODECS.items():
        for method in encoder_of(kind).methods or ("optimal",):
            # For those with scales of groups, as other programs have them, stands block floating point.
            grouped = kind.row_scales and not kind.rotates
            if name != BASELINE and not grouped and (method == "optimal" or not kind.row_scales):
                packed = compress_matrix(w, kind, method)
                label = f"{name}, paper's encoder" if method == "paper" else name
                out.append((label, kind.family, kind.bits_per_weight, relative_error(w, packed)))
    for bits in (3, 4, 5, 6, 8):
        error = Loss.between(w, block_float(w, bits, 128)).relative
        out.append((f"block float {bits}", "block float", block_float_bits(cols, bits, 128), error))
    return out


def draw_error(points: list[tuple[str, str, float, float]]) -> Figure:
    """Relative error against bits, with the bound 2**-bits of any code."""
    figure = _figure()(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    bits = np.linspace(1.8, 8.3, 50)
    axes.plot(bits, 2.0**-bits, color="black", linewidth=1, label="bound: 2$^{-bits}$")
    for family in dict.fromkeys(kind for _, kind, _, _ in points):
        some = [(x, y) for _, kind, x, y in points if kind == family]
        axes.plot(*zip(*some, strict=True), "^" if family == "block float" else "o", label=family)
    names = {name for name, _, _, _ in points}
    for name, kind, x, y in points:
        left = kind == "trellis"
        up = 4 if "paper" in name else -4 if kind == "seed" and f"{name}, paper's encoder" in names else 0
        axes.annotate(name, (x, y), xytext=(-7 if left else 7, up), textcoords="offset points", fontsize=7, va="center",
                      ha="right" if left else "left")  # fmt: skip
    axes.set(xlabel="stored bits per weight, without row scales", ylabel="relative error", yscale="log",
             xlim=(1.2, 9.6), title=f"Gaussian rows of {COLS:,} weights")  # fmt: skip
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    return figure


def draw_window() -> Figure:
    """The row's bits with their windows, and the path that they are."""
    figure = _figure()(figsize=(8, 5), layout="constrained")
    row, trellis = figure.subplots(2, 1, height_ratios=(1, 2.2))
    _draw_row(row)
    _draw_trellis(trellis)
    for axes in (row, trellis):
        axes.axis("off")
        axes.set_xlim(-3.6, len(BITS) + 0.6)
    return figure


def _draw_row(axes: Axes) -> None:
    for n, bit in enumerate((0,) * KEPT + BITS):
        colour = "grey" if n < KEPT else "black"
        box = {"boxstyle": "square,pad=0.45", "facecolor": "none", "edgecolor": colour}
        axes.text(n - KEPT + 0.5, 0, str(bit), ha="center", va="center", fontsize=13, color=colour, bbox=box)
    for n, height in ((2, -0.8), (3, -1.25)):
        axes.annotate("", (n - KEPT, height), (n + 1, height), arrowprops={"arrowstyle": "|-|", "color": "tab:blue"})
        axes.text(n + 1.1, height, f"W({n}) makes weight {n}", va="center", color="tab:blue", fontsize=10)
    axes.text(-KEPT - 0.1, 0, "stored bits, k = 1\n(before the row: 0)", ha="right", va="center", fontsize=9)
    axes.set_ylim(-1.6, 0.6)


def _draw_trellis(axes: Axes) -> None:
    states = 1 << KEPT
    for n in range(len(BITS)):
        for old in range(states):
            for bit in (0, 1):
                new = (bit << KEPT | old) >> 1
                axes.plot([n, n + 1], [-old, -new], color="lightgrey", linewidth=1, zorder=1)
    state = 0
    for n, bit in enumerate(BITS):
        new = (bit << KEPT | state) >> 1
        axes.plot([n, n + 1], [-state, -new], color="tab:blue", linewidth=3, zorder=2)
        axes.text(n + 0.5, 0.45, f"{bit << KEPT | state:0{WINDOW}b}", ha="center", fontsize=9, color="tab:blue")
        state = new
    for old in range(states):
        axes.plot(range(len(BITS) + 1), [-old] * (len(BITS) + 1), "o", color="black", markersize=4, zorder=3)
        axes.text(-0.2, -old, f"{old:0{KEPT}b}", ha="right", va="center")
    axes.text(-0.2, 0.45, "W, newest bit first", ha="right", fontsize=9, color="tab:blue")
    axes.text(-0.8, -(states - 1) / 2, "state:\nthe last\nL - k bits", ha="right", va="center", fontsize=9)
    axes.set_ylim(-states + 0.6, 0.9)


def _figure() -> type[Figure]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SeedLMError("pictures need matplotlib: pip install 'seedlm[bench]'") from error
    return Figure


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m seedlm.encoder.trellis.pictures", description="Draw the pictures of docs/trellis.md."
    )
    parser.add_argument("folder", metavar="DIR", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    import matplotlib as mpl

    mpl.rcParams["svg.hashsalt"] = "seedlm"  # the same picture has the same bytes
    for name, figure in (("window", draw_window()), ("error", draw_error(errors()))):
        with atomic_path(folder / f"{name}.svg") as path:
            figure.savefig(path, format="svg", metadata={"Date": None})
        print(folder / f"{name}.svg")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
