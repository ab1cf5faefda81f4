"""The tables of the documentation that say what a file of measurements, or the project itself, says already.

``python -m seedlm.build.pages`` writes them, each between its two markers; everything around them is typed by hand. The
registers' page is whole and made by ``seedlm registers --format markdown``, the page beside ``bench.json`` by
``seedlm bench``.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from seedlm.build.outputs import write_if_changed
from seedlm.golden.codecs import BASELINE, CODECS
from seedlm.golden.errors import SeedLMError

__all__ = ["BLOCKS", "ROOT", "comparison", "formats", "page", "table"]

ROOT = Path(__file__).resolve().parent.parent
START, END = "<!-- made by seedlm.build.pages: {} -->", "<!-- end -->"

LAYERS = ("4096x4096", "11008x4096", "8192x8192", "28672x8192", "8192x28672")
SHAPES = ("192x192", "512x192", "1024x8192", "4096x4096", "11008x4096", "4096x11008", "8192x8192", "28672x8192",
          "8192x28672")  # fmt: skip


def table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """The lines of a Markdown table; a heading that starts with ``<`` aligns its column to the left."""
    headings = list(headings)
    return [
        "| " + " | ".join(h.removeprefix("<") for h in headings) + " |",
        "|" + "|".join("---" if h.startswith("<") else "---:" for h in headings) + "|",
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


@functools.cache
def _data(name: str) -> dict:
    return json.loads((ROOT / "docs" / name).read_text(encoding="utf-8"))


def _percent(value: float) -> str:
    return f"{100 * value:.2f} %"


def _measured(memory: str, data: str) -> dict[tuple[str, str], dict]:
    """A benchmark's rows on `memory` by (shape, codec)."""
    rows = [row for row in _data(f"benchmarks/{data}.json")["rows"] if row["memory"] == memory]
    return {(f"{row['rows']}x{row['cols']}", row["codec"]): row for row in rows}


def _speedups(memory: str, shapes: Iterable[str], codecs: tuple[str, ...], *, relative: bool,
              data: str = "bench") -> list[str]:  # fmt: skip
    """Cycles of the baseline, speed-ups of `codecs` over it, and the efficiency of the first of them."""
    measured = _measured(memory, data)
    name = "`{}`".format if not relative else str
    headings = ["<shape", f"{BASELINE}, cycles", *map(name, codecs), f"efficiency of {name(codecs[0])}"]
    rows = []
    for shape in shapes:
        first = measured[shape, codecs[0]]
        row = [shape, f"{measured[shape, BASELINE]['cycles']:,}"]
        row += [f"{measured[shape, codec]['speedup_vs_fp16']:.3f}" for codec in codecs]
        rows.append([*row, _percent(first["efficiency"])])
        if relative:
            rows[-1].append(_percent(first["relative_efficiency"]))
    return table([*headings, *(["relative"] if relative else [])], rows)


def _all_speedups(memory: str) -> list[str]:
    return _speedups(memory, SHAPES, ("seedlm4", "seedlm4r", "seedlm3", "seedlm3r"), relative=True)


def _trellis_speedups(memory: str) -> list[str]:
    codecs = ("trellis4", "trellis3", "trellis2")
    return _speedups(memory, ("4096x4096", "8192x28672"), codecs, relative=True, data="trellis")


def _one_bitstream() -> list[str]:
    """The codecs of the preset `universal`, all on one build: cycles, efficiency and speed-up of each shape."""
    rows = [
        [f"{row['rows']}x{row['cols']}", f"`{row['codec']}`", f"{row['cycles']:,}", _percent(row["efficiency"]),
         f"{row['speedup_vs_fp16']:.3f}"]
        for row in _data("benchmarks/universal.json")["rows"]
    ]  # fmt: skip
    return table(["<shape", "<codec", "cycles", "efficiency", "speed-up"], rows)


def _targets() -> list[str]:
    def figure(target: dict, key: str) -> str:
        return f"{target[key]:.3f}" if target["at_least"] > 1 else _percent(target[key])

    targets = _data("benchmarks/bench.json")["targets"]
    rows = [[target["what"], figure(target, "at_least"), figure(target, "measured")] for target in targets]
    return table(["<what", "at least", "measured"], rows)


def _quality(model: str, *, calibrated: bool) -> list[str]:
    """What a model loses: the rows of one kind, most bits first, with all texts and the share of the paper's KL.

    The share is that of the last text, which is of another kind than any calibration.
    """
    report = _data(f"quality/{model}.json")
    rows = [row for row in report["rows"] if (row["calibration"] is not None) == calibrated]
    rows.sort(key=lambda row: (-row["bits_per_weight"], row["name"]))
    paper = [row for row in report["rows"] if (row["name"], row["encoder"]) == ("seedlm4", "paper")]
    kinds = [Path(text["text"]).stem for text in report["texts"]]
    headings = ["<weights", "<encoder", *["<calibration"] * calibrated, "bits per weight", "relative error"]
    headings += [f"{kind}: {figure}" for kind in kinds for figure in ("perplexity", "KL", "same")]
    return table([*headings, f"share of the paper's KL, {kinds[-1]}", "encoding, s"],
                 [_quality_line(row, paper[0], calibrated) for row in rows])  # fmt: skip


def _quality_line(row: dict, paper: dict, calibrated: bool) -> list[str]:
    original, name = row["name"] == "original", f"`{row['name']}`"
    if row["name"].startswith("block float "):
        name = f"block floating point, {row['name'].split()[-1]} bits"
    if row["rotated"] is False and row["name"] in CODECS and CODECS[row["name"]].rotates:
        name += ", not rotated"
    line = ["original, FP32 arithmetic" if original else name, row["encoder"] or ""]
    line += [row["calibration"]] if calibrated else []
    line += ["" if original else f"{row['bits_per_weight']:.3f}", f"{row['rel_error']:.4f}"]
    for text in row["texts"]:
        line += [f"{text['perplexity']:.3f}", f"{text['kl_bits_per_token']:.5f}", f"{100 * text['agreement']:.1f} %"]
    share = row["texts"][-1]["kl_bits_per_token"] / paper["texts"][-1]["kl_bits_per_token"]
    seconds = row["encode_seconds"]
    return [*line, f"{share:.3f}", "" if seconds is None else f"{seconds:.0f}"]


# Columns of the comparison of formats: heading, key of a row, how it is written.
COMPARED: tuple[tuple[str, str, Callable[..., str]], ...] = (
    ("<codec", "codec", str),
    ("bits", "bits_per_weight", "{:g}".format),
    ("in model", "bits_in_model", "{:.3f}".format),
    ("rel. error", "rel_error", "{:.4f}".format),
    ("bits/byte", "bits_per_byte", "{:.4f}".format),
    ("KL", "kl_bits_per_token", "{:.5f}".format),
    ("cycles", "cycles", "{:,}".format),
    ("efficiency", "efficiency", _percent),
    ("speed-up", "speedup_vs_fp16", "{:.3f}".format),
    ("LUT", "luts", "{:,g}".format),
    ("FF", "ffs", "{:,g}".format),
    ("DSP48E1", "dsps", "{:g}".format),
    ("columns per clock", "step_columns", str),
)


def comparison(rows: list[dict]) -> list[list[str]]:
    """Headings and lines of what `seedlm compare` measured; columns that no row has are left out."""
    columns = [column for column in COMPARED if any(column[1] in row for row in rows)]
    lines = [[write(row[key]) if key in row else "" for _, key, write in columns] for row in rows]
    return [[heading for heading, *_ in columns], *lines]


def formats(rows: list[dict]) -> list[str]:
    """The same as a table for a page."""
    headings, *lines = comparison(rows)
    return table(headings, [[f"`{line[0]}`", *line[1:]] for line in lines])


def _codecs() -> list[str]:
    headings = ["<name", "<family", "<C, P, K, B", "word", "columns of a step", "group", "<bits per weight"]
    rows = []
    for codec in CODECS.values():
        parameters = [str(value) for name, value in codec.describe().items() if name in ("C", "P", "K", "B")]
        bits = f"{codec.bits_per_weight:g}" + (", and 32 per row" if codec.row_scales else "")
        sizes = [str(size) for size in (codec.word_bits, codec.step_columns, codec.group)]
        rows.append([f"`{codec}`", f"`{codec.family}`", ", ".join(parameters), *sizes, bits])
    return table(headings, rows)


# Page -> name of a block -> its lines.
BLOCKS: dict[str, dict[str, Callable[[], list[str]]]] = {
    "README.md": {"speed-ups": lambda: _speedups("ddr3", LAYERS, ("seedlm4", "seedlm3"), relative=False)},
    "docs/benchmarks.md": {
        "targets": _targets,
        "speed-ups on ddr3": lambda: _all_speedups("ddr3"),
        "speed-ups on ideal": lambda: _all_speedups("ideal"),
        "trellis codecs on ddr3": lambda: _trellis_speedups("ddr3"),
        "trellis codecs on ideal": lambda: _trellis_speedups("ideal"),
        "one bitstream": _one_bitstream,
    },
    "docs/formats.md": {"codecs": _codecs},
    "docs/formats-compared.md": {"formats": lambda: formats(_data("comparison/compare.json")["rows"])},
    "docs/quality.md": {
        f"{model}, {kind}": functools.partial(_quality, model, calibrated=kind == "calibrated")
        for model in ("smollm2-135m", "tiny-python")
        for kind in ("data-free", "calibrated")
    },
}


def page(name: str) -> str:
    """The page `name` of `BLOCKS` with its blocks as they should be.

    Raises
    ------
    SeedLMError
        The page is not there or lacks the markers of a block.
    """
    path = ROOT / name
    if not path.is_file():
        raise SeedLMError(f"{path}: not there; the pages are written in a checkout")
    text = path.read_text(encoding="utf-8")
    for block, lines in BLOCKS[name].items():
        start = START.format(block)
        pattern = re.compile(f"({re.escape(start)}\n).*?\n?({re.escape(END)})", re.DOTALL)
        text, count = pattern.subn(lambda m, made=lines(): m[1] + "\n".join(made) + "\n" + m[2], text)
        if count != 1:
            raise SeedLMError(f"{path}: {count} places for the table {block!r}; expected one pair {start} ... {END}")
    return text


def main() -> None:
    """Write all pages."""
    for name in BLOCKS:
        print(f"{name}: {'written' if write_if_changed(ROOT / name, page(name)) else 'unchanged'}")


if __name__ == "__main__":
    main()
