"""``seedlm sweep``: what block sizes, coefficients, seeds, exponents and row scales are worth."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from seedlm.arguments import CODEC_HELP, codec_argument, positive, require_writable
from seedlm.console import Console, by
from seedlm.golden.codecs import Codec, codec
from seedlm.golden.errors import SeedLMError

if TYPE_CHECKING:
    import numpy as np

NAME = "sweep"
SUMMARY = "compare codecs: error against bits per weight"
DESCRIPTION = """\
Encode a sample of weights with every codec of a design space and report the relative error and the
stored bits per weight: all (C, P, K, B) whose word has exactly the wanted bits per weight, with a
block exponent (B = 4), with row scales instead (B = 0), or with both.

The weights are Gaussian, or those of a model. The yardstick is block floating point without any
search: integers of as many bits in groups of 128 with a binary16 scale each, clipped where the
squared error is least.
"""
EXAMPLES = """\
examples:
  seedlm sweep
  seedlm sweep --bits 4 --registers 8 16 --picture sweep.png
  seedlm sweep --codec seedlm4 --codec seedlm4r --model model.safetensors --tensor '*layers.0*' --json

Codecs with an asterisk are on the frontier: none of as few bits has a smaller error. Registers of
18 to 20 bits take most of the time.
"""

SIGMA, COLUMNS, SEED = 0.02, 4096, 1
GROUP = 128
SIZES = (6, 8, 10, 12)  # C
MOST_COEFFICIENTS = 6
EXPONENTS = ((4, False), (0, True), (4, True))  # B, row scales
TENSORS = 4  # of a model, where none are named


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--bits", metavar="N", type=positive, nargs="+", default=[3, 4], help="bits per weight (default: 3 4)"
    )
    parser.add_argument(
        "--registers", metavar=("LOW", "HIGH"), type=positive, nargs=2, default=[8, 20],
        help="smallest and largest register K (default: 8 20)",
    )  # fmt: skip
    parser.add_argument(
        "--codec", metavar="CODEC", type=codec_argument, action="append",
        help=f"only this codec: {CODEC_HELP}; may be given several times",
    )  # fmt: skip
    parser.add_argument("--model", metavar="IN", type=Path, help="take the weights of a model, as in compress")
    parser.add_argument(
        "--tensor", metavar="GLOB", action="append", default=[],
        help=f"tensors of the model; may be given several times (default: {TENSORS}, spread over the model)",
    )  # fmt: skip
    parser.add_argument(
        "--blocks", metavar="N", type=positive, default=2048,
        help="blocks of each sample at K = 16, in whole rows; fewer for larger K (default: 2048)",
    )  # fmt: skip
    parser.add_argument("--encoder", choices=["optimal", "paper"], default="optimal", help="default: optimal")
    parser.add_argument("--picture", metavar="FILE", type=Path, help="draw error over bits: PNG, SVG or PDF")
    parser.add_argument("--jobs", metavar="N", type=positive, help="processors to use (default: all)")


def designs(bits: list[int], low: int, high: int) -> list[Codec]:
    """The codecs of the design space, whose words have exactly `bits` per weight and a register of low to high bits."""
    out = []
    for wanted in bits:
        for C in SIZES:
            for P in range(2, min(MOST_COEFFICIENTS, C - 1) + 1):
                for B, row_scales in EXPONENTS:
                    K = wanted * C - 4 * P - B
                    if low <= K <= high:
                        try:
                            out.append(codec(f"c{C}p{P}k{K}b{B}{'r' if row_scales else ''}"))
                        except SeedLMError:
                            continue  # beyond what the format allows
    return sorted(out, key=lambda c: (c.word_bits / c.C, c.K, c.C, c.B, c.row_scales))


def _sources(args: argparse.Namespace) -> dict[str, np.ndarray]:
    """The weights, by name: float32 [rows, cols], rows spread over the tensor."""
    import numpy as np

    if args.model is None:
        if args.tensor:
            raise SeedLMError("--tensor needs --model")
        rows = -(-args.blocks * min(SIZES) // COLUMNS) * 4
        w = np.random.default_rng(SEED).normal(0, SIGMA, (rows, COLUMNS))
        return {f"Gaussian {COLUMNS} columns": w.astype(np.float32)}
    from seedlm.encoder.matrix import largest_weight
    from seedlm.golden.files.sources import matches
    from seedlm.host.formats import open_plain

    source = open_plain(args.model)
    possible = {n: t for _, n, t in source.tensors() if t.is_float and len(t.shape) == 2 and all(t.shape)}
    if not possible:
        raise SeedLMError(f"{args.model}: it has no 2-D tensor of F16, BF16 or F32")
    for pattern in args.tensor:
        if not any(matches(name, pattern) for name in possible):
            raise SeedLMError(f"{args.model}: --tensor {pattern!r} matches no 2-D floating tensor;"
                              f" one is {next(iter(possible))!r}")  # fmt: skip
    if args.tensor:
        names = [n for n in possible if any(matches(n, p) for p in args.tensor)]
    else:
        names = [list(possible)[i] for i in sorted({int(i) for i in np.linspace(0, len(possible) - 1, TENSORS)})]
    out = {}
    for name in names:
        tensor = possible[name]
        rows = min(tensor.shape[0], -(-args.blocks * max(SIZES) // tensor.shape[1]))
        chosen = sorted({int(i) for i in np.linspace(0, tensor.shape[0] - 1, rows)})
        out[name] = np.concatenate([tensor.rows(r, r + 1).array() for r in chosen]).astype(np.float32)
        largest_weight([out[name]], f"{args.model}: tensor {name!r}")
    return out


def sample_rows(kind: Codec, blocks: int, w: np.ndarray) -> int:
    """How many rows of a sample a codec gets: the work of a search grows with 2**K."""
    wanted = blocks >> max(0, kind.K - 16)
    return min(len(w), max(1, wanted // kind.blocks(w.shape[1])))


def mark_frontier(rows: list[dict]) -> None:
    """Set ``frontier`` of the rows: no other row has as few bits and a smaller error, or fewer and the same."""
    for row in rows:
        row["frontier"] = not any(
            r["bits_per_weight"] <= row["bits_per_weight"] and r["rel_error"] <= row["rel_error"]
            and (r["bits_per_weight"], r["rel_error"]) != (row["bits_per_weight"], row["rel_error"])
            for r in rows
        )  # fmt: skip


def _codecs(args: argparse.Namespace) -> list[Codec]:
    """What is to be searched; a message if that is nothing, or no codec with seeds."""
    codecs = args.codec or designs(args.bits, *args.registers)
    if not codecs:
        raise SeedLMError(f"no codec has {' or '.join(map(str, args.bits))} bits per weight and a register of"
                          f" {args.registers[0]} to {args.registers[1]} bits")  # fmt: skip
    other = [c.name for c in codecs if c.family != "seed"]
    if other:
        raise SeedLMError(f"codec {other[0]} has no place in a sweep: expected codecs with seeds")
    return codecs


def _effort(kind: Codec) -> int:
    """What a codec's search counts in the progress bar: it tries every seed."""
    return 1 << max(kind.K, 14)


def _searched(name: str, w: np.ndarray, kind: Codec, args: argparse.Namespace) -> dict:
    """The row of a codec."""
    from seedlm.encoder import compress_matrix, relative_error

    part = w[: sample_rows(kind, args.blocks, w)]
    packed = compress_matrix(part, kind, args.encoder, threads=args.jobs)
    return {
        "weights": name, "codec": kind.name, "C": kind.C, "P": kind.P, "K": kind.K, "B": kind.B,
        "row_scales": kind.row_scales, "bits_per_weight": packed.stored_bits / part.size,
        "rel_error": relative_error(part, packed), "rows": len(part), "cols": w.shape[1],
    }  # fmt: skip


def _block_float(name: str, w: np.ndarray, bits: int, blocks: int) -> dict:
    """The row of block floating point with `bits` per weight, for comparison."""
    from seedlm.encoder.block_float import block_float, block_float_bits

    part = w[: max(1, blocks * 8 // w.shape[1])].astype("float64")
    rest = part - block_float(part, bits, GROUP)
    energy = float((part**2).sum())
    return {
        "weights": name, "codec": f"block float {bits}", "C": GROUP, "P": None, "K": None, "B": 16,
        "row_scales": False, "bits_per_weight": block_float_bits(w.shape[1], bits, GROUP),
        "rel_error": (float((rest**2).sum()) / energy) ** 0.5 if energy else 0.0,
        "rows": len(part), "cols": w.shape[1], "frontier": False,
    }  # fmt: skip


def _cells(r: dict) -> tuple[str, ...]:
    """A row of the table on the terminal."""
    scale = "row" if r["row_scales"] else "tensor" if r["K"] else "group"
    return (r["codec"], str(r["C"]), str(r["P"] or ""), str(r["K"] or ""), str(r["B"]), scale,
            f"{r['bits_per_weight']:.3f}", f"{r['rel_error']:.4f}", by((r["rows"], r["cols"])),
            "*" if r["frontier"] else "")  # fmt: skip


def run(args: argparse.Namespace, console: Console) -> int:
    if args.picture:
        require_writable(args.picture)
        if args.picture.suffix not in (".png", ".svg", ".pdf"):
            raise SeedLMError(f"{args.picture}: expected a name that ends with .png, .svg or .pdf")
        _figure_class()
    codecs = _codecs(args)
    floats = {bits for c in codecs for bits in (c.word_bits // c.C, -(-c.word_bits // c.C)) if 2 <= bits <= 8}
    sources = _sources(args)
    results = []
    with console.progress("sweeping", len(sources) * sum(map(_effort, codecs)), lambda _: "") as advance:
        for name, w in sources.items():
            rows = []
            for kind in codecs:
                rows.append(_searched(name, w, kind, args))
                advance(_effort(kind))
            mark_frontier(rows)
            rows += [_block_float(name, w, bits, args.blocks) for bits in sorted(floats)]
            results += sorted(rows, key=lambda r: (round(r["bits_per_weight"]), r["rel_error"]))
    if args.picture:
        draw(results, args.picture)
    console.json({"rows": results, "encoder": args.encoder, "sigma": SIGMA if args.model is None else None,
                  "seed": SEED, "picture": str(args.picture) if args.picture else None, "status": "ok"})  # fmt: skip
    headings = ("<codec", "C", "P", "K", "B", "<scale per", "bits/weight", "rel. error", "sample", "<")
    for name in sources:
        console.print(f"{name}, encoder {args.encoder}")
        console.table(headings, [_cells(r) for r in results if r["weights"] == name])
        console.print()
    if args.picture:
        console.print(f"{args.picture}: error over bits")
    return 0


# --- picture ---------------------------------------------------------------------------------------
def _figure_class():
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SeedLMError("pictures need matplotlib: pip install 'seedlm[bench]'") from error
    return Figure


KINDS = {  # label: marker, and which rows
    "block exponent": ("o", lambda r: r["K"] and not r["row_scales"]),
    "row scales": ("s", lambda r: r["K"] and r["row_scales"] and not r["B"]),
    "both": ("^", lambda r: r["K"] and r["row_scales"] and r["B"]),
    "block floating point, no search": ("x", lambda r: not r["K"]),
}


def draw(rows: list[dict], path: Path) -> None:
    """Error over bits per weight with the frontier, and over K; one line of panels for each sample of weights."""
    import matplotlib
    from matplotlib.ticker import LogLocator, StrMethodFormatter

    from seedlm.golden.files.atomic import atomic_path

    names = list(dict.fromkeys(r["weights"] for r in rows))
    with matplotlib.rc_context({"svg.hashsalt": "seedlm", "font.size": 9}):
        figure = _figure_class()(figsize=(10, 4.4 * len(names)), layout="constrained")
        panels = figure.subplots(len(names), 2, squeeze=False, sharey="row")
        for name, (by_bits, by_register) in zip(names, panels, strict=True):
            some = [r for r in rows if r["weights"] == name]
            for label, (marker, belongs) in KINDS.items():
                points = [r for r in some if belongs(r)]
                errors = [r["rel_error"] for r in points]
                if points:
                    by_bits.plot([r["bits_per_weight"] for r in points], errors, marker, label=label, markersize=4)
                if points and points[0]["K"]:
                    by_register.plot([r["K"] for r in points], errors, marker, markersize=4)
            line = sorted((r for r in some if r["frontier"]), key=lambda r: r["bits_per_weight"])
            by_bits.plot([r["bits_per_weight"] for r in line], [r["rel_error"] for r in line], "-", color="#999999",
                         linewidth=1, label="frontier", zorder=0)  # fmt: skip
            for r in line:
                by_bits.annotate(r["codec"], (r["bits_per_weight"], r["rel_error"]), fontsize=6,
                                 xytext=(3, -7), textcoords="offset points")  # fmt: skip
            for r in some:
                if r["K"]:
                    by_register.annotate(f"{r['C']},{r['P']}", (r["K"], r["rel_error"]), fontsize=6,
                                         xytext=(4, -2), textcoords="offset points")  # fmt: skip
            by_bits.set(title=name, xlabel="stored bits per weight", ylabel="relative error", yscale="log")
            by_register.set(title="the same, with C,P beside each point", xlabel="register length K")
            by_bits.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
            by_bits.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            by_bits.yaxis.set_minor_locator(LogLocator(subs=()))
            by_bits.legend(fontsize=7)
            for axes in (by_bits, by_register):
                axes.grid(alpha=0.3)
        with atomic_path(path) as temporary:
            metadata = {".png": {"Software": None}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
            figure.savefig(temporary, dpi=150, metadata=metadata[path.suffix])
