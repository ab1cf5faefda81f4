"""``seedlm evaluate``: what compression costs a language model, beside FP16 and plain block floating point."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seedlm.arguments import (
    CODEC_HELP,
    add_recipe_argument,
    add_rotate_argument,
    add_set_argument,
    codec_argument,
    damping_argument,
    encoder_argument,
    positive,
    require_writable,
)
from seedlm.console import Console
from seedlm.golden.codecs import CODECS
from seedlm.golden.errors import SeedLMError

if TYPE_CHECKING:
    from seedlm.host.checkpoint import Checkpoint
    from seedlm.host.models import Model
    from seedlm.host.quality import Predictions, Quality
    from seedlm.variants import Variant

NAME = "evaluate"
SUMMARY = "measure a language model's quality under every codec"
DESCRIPTION = """\
Predict texts with a model in a Hugging Face directory or a GGUF file: the original weights in FP32,
then FP16, every codec with every encoder, with and without rotation, every recipe, and block floating
point of 4 and 3 bits (groups of 128 columns, one FP16 scale, clipped where the squared error is least)
as an outside yardstick. With --calibration the same again with errors fed back; block floating point
is then what GPTQ makes of it. All but the original have FP16 activations. A text is cut into windows;
each is begun afresh.

Of a packed model (what seedlm compress wrote) its own weights are measured, beside those of the
original where that is given; without one, what is called the original is the same weights in FP32.
Matrices to which --set gives fp16 count as left alone: figures of the weights are those of the others.
"""
EXAMPLES = """\
examples:
  seedlm evaluate models/tiny-python
  seedlm evaluate models/tiny-python --bytes 8192 --codec seedlm4r --codec seedlm4
  seedlm evaluate packed --original models/tiny-python
  seedlm evaluate models/tiny-python --codec seedlm4r --set '*v_proj*=int8'
  seedlm evaluate DIR --text book.txt --context 2048 --out quality.json --picture quality.png
  seedlm evaluate DIR --text code.txt --text prose.txt --recipe mixed4 --calibration own.safetensors

With --continue a long measurement can be made in parts, and an interrupted one goes on: rows that
--out FILE has already are kept, those that are missing are measured and added.

  seedlm evaluate DIR --text book.txt --out quality.json --codec trellis4
  seedlm evaluate DIR --text book.txt --out quality.json --recipe mixed4 --continue

What it prints:
  bits/weight  of the linear layers, scales and padding included
  rel. error   of their weights (Frobenius)
  encoding     processor seconds, of all processes together, as measured when the weights were encoded;
               nothing for fp16, for what is packed, and where an earlier run had encoded a part
  bits/byte    -log2 p of the text, per byte
  perplexity   per token
  KL           divergence from the original's predictions, bits per token
  same         share of the tokens where the most likely token is the original's
"""
MARKERS = {"optimal": "D", "paper": "s", "block floating point": "^", "not rotated": "x"}
_KEY = ("name", "encoder", "rotated", "calibration")  # no two rows have all alike


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL", type=Path,
        help="Hugging Face directory, plain or packed; the weights' file in it; or a GGUF file",
    )  # fmt: skip
    parser.add_argument(
        "--original", metavar="MODEL", type=Path, help="of a packed model: what it is compared with"
    )
    parser.add_argument(
        "--text", metavar="FILE", type=Path, action="append", default=[],
        help="text in UTF-8; may be given several times (default: heldout.txt in the directory)",
    )  # fmt: skip
    parser.add_argument("--bytes", metavar="N", type=positive, help="only the first N bytes of each text")
    parser.add_argument(
        "--context", metavar="N", type=positive, help="tokens of a window (default: the model's context)"
    )
    parser.add_argument(
        "--codec", type=codec_argument, action="append", default=[],
        help=f"only these; may be given several times: {CODEC_HELP} (default: all of them, and all recipes)",
    )  # fmt: skip
    add_recipe_argument(parser, action="append", default=[])
    parser.add_argument(
        "--encoder", metavar="METHOD", type=encoder_argument, action="append", default=[],
        help="only these; may be given several times (default: all)",
    )  # fmt: skip
    add_set_argument(parser)
    add_rotate_argument(parser)
    parser.add_argument(
        "--calibration", metavar="FILE", type=Path, action="append", default=[],
        help="what seedlm calibrate wrote: everything that can is measured with errors fed back, too; may be given"
        " several times, rows have the file's name",
    )  # fmt: skip
    parser.add_argument("--damping", metavar="D", type=damping_argument, help="as of seedlm compress (default: 0.1)")
    parser.add_argument(
        "--exact", action="store_true",
        help="multiply with the exact reference; otherwise the same weights and activations, summed in FP32",
    )  # fmt: skip
    parser.add_argument("--out", metavar="FILE.json", type=Path, help="write the report there, too, row by row")
    parser.add_argument(
        "--continue", action="store_true", dest="resume", help="measure only what --out FILE.json does not have yet"
    )
    parser.add_argument("--picture", metavar="FILE", type=Path, help="draw quality over bits: PNG, SVG or PDF")


def text_of(path: Path, limit: int | None = None, hint: str = "") -> bytes:
    """A file of UTF-8, or what its first `limit` bytes have of whole characters; `hint` ends what cannot be read."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SeedLMError(f"{path}: cannot read: {error.strerror}{hint}") from error
    data = data[:limit]
    try:
        text = data.decode("utf-8", errors="strict")
    except UnicodeDecodeError as error:
        if limit is None or error.start < len(data) - 3:
            raise SeedLMError(f"{path}: not UTF-8 at byte {error.start}") from error
        text = data[: error.start].decode()  # the limit has cut a character
    if not text:
        raise SeedLMError(f"{path}: is empty")
    return text.encode()


def run(args: argparse.Namespace, console: Console) -> int:
    from seedlm.host.checkpoint import Checkpoint

    _check(args)
    started = time.perf_counter()
    checkpoint = Checkpoint(args.model)
    if args.original and not checkpoint.packed:
        raise SeedLMError(f"--original needs a packed model: {args.model} is a plain one")
    original = Checkpoint(args.original) if args.original else checkpoint
    measurement = Measurement(checkpoint, original, args, console, started)
    report = measurement.run()
    if args.picture is not None:
        _draw(report, args.picture)
    console.json(report)
    _print(report, console)
    if checkpoint.source.history:
        console.print(checkpoint.source.history)
    return 0


def _check(args: argparse.Namespace) -> None:
    """Refuse before the first token what could not be done after the last."""
    for path in (args.out, args.picture):
        if path is not None:
            require_writable(path)
    if args.picture is not None:
        if args.picture.suffix not in (".png", ".svg", ".pdf"):
            raise SeedLMError(f"{args.picture}: expected a name that ends with .png, .svg or .pdf")
        _figure()
    if args.resume and not args.out:
        raise SeedLMError("--continue needs --out FILE.json")
    if args.damping is not None and not args.calibration:
        raise SeedLMError("--damping needs --calibration FILE")
    if len({path.stem for path in args.calibration}) < len(args.calibration):
        raise SeedLMError("--calibration: rows have the files' names: expected different ones")


class Measurement:
    """The quality of a model with every way to store its weights, beside the original."""

    def __init__(self, checkpoint: Checkpoint, original: Checkpoint, args: argparse.Namespace, console: Console,
                 started: float) -> None:  # fmt: skip
        from seedlm.encoder.calibration import DAMPING
        from seedlm.variants import left_alone

        self._checkpoint, self._original, self._args, self._console = checkpoint, original, args, console
        alone = left_alone(checkpoint, args)
        self._counted = [tensor for name, tensor in original.linear.items() if name not in alone]
        self._texts = self._read()
        first = self._texts[0][0]
        self._report = {
            "model": str(args.model), "original": str(args.original or args.model), **first,
            "context": self._context, "weights": sum(t.shape[0] * t.shape[1] for t in self._counted),
            "left_alone": sorted(alone), "set": [f"{pattern}={kind.name}" for pattern, kind in args.set],
            "damping": args.damping or DAMPING, "products": "exact" if args.exact else "float32 sums",
            "quantised_before": dict(original.source.quantised), "texts": [about for about, _ in self._texts],
        }  # fmt: skip
        self._started = started
        self._rows = self._kept()

    @property
    def _context(self) -> int:
        longest = self._checkpoint.config.context
        return min(self._args.context or longest, longest)

    def _read(self) -> list[tuple[dict, list]]:
        """What the report says of each text, and its windows."""
        from seedlm.host.quality import windows
        from seedlm.host.text import open_text

        args, checkpoint, found = self._args, self._checkpoint, []
        written = open_text(checkpoint.source, checkpoint.config)
        for path in args.text or [checkpoint.folder / "heldout.txt"]:
            data = text_of(path, args.bytes, "" if args.text else "; choose a text with --text")
            parts = windows(written.encode(data.decode()), next(iter(written.begin), None), self._context)
            if not parts:
                raise SeedLMError(f"{args.model}: the text {path} has too few tokens to predict one")
            tokens = sum(len(targets) for _, targets in parts)
            found.append(({"text": str(path), "bytes": len(data), "tokens": tokens}, parts))
        return found

    def _kept(self) -> list[dict]:
        """The rows that are there already, with --continue."""
        path = self._args.out
        if not (self._args.resume and path.exists()):
            return []
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
            rows = [row for row in before["rows"] if {*_KEY, "texts"} <= row.keys()]
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise SeedLMError(f"{path}: not a report of seedlm evaluate: cannot continue it") from error
        for key, value in self._report.items():
            if before.get(key) != value:
                raise SeedLMError(f"{path}: cannot continue it: {key} is {before.get(key)!r} there, not {value!r}")
        self._started -= before.get("seconds", 0)
        return rows

    def run(self) -> dict:
        """Measure what is missing; the report."""
        from seedlm.host.models import language_model
        from seedlm.variants import Variant, Weights, variants

        expected = self._predicted()
        found = [predictions.quality for predictions in expected]
        self._add(Variant("original"), _stored(self._counted), found, 0)
        for variant in [Variant("packed")] if self._checkpoint.packed else variants(self._args):
            if self._has(variant):
                continue
            weights = Weights(variant, self._checkpoint, self._original.linear, self._args, self._console)
            other = language_model(self._checkpoint, weights.engine)
            found = self._compared(variant.title, expected, other)
            self._add(variant, weights.figures, found, weights.engine.activations.clipped)
        return self._written("ok")

    def _predicted(self) -> list[Predictions]:
        """What the original predicts; its weights in FP32 are not kept."""
        from seedlm.host.engines import FloatEngine
        from seedlm.host.models import language_model
        from seedlm.host.quality import Predictions

        model = language_model(self._original, FloatEngine(self._original.linear))
        return self._passing("original", lambda windows, i, advance: Predictions(model, windows, advance))

    def _compared(self, title: str, expected: list[Predictions], model: Model) -> list[Quality]:
        return self._passing(title, lambda windows, i, advance: expected[i].compare(model, advance))

    def _passing(self, what: str, work: Callable[[list, int, Callable], Any]) -> list:
        tokens = sum(about["tokens"] for about, _ in self._texts)
        with self._console.progress(what, tokens, "{:,.0f} tokens".format) as advance:
            return [work(windows, i, advance) for i, (_, windows) in enumerate(self._texts)]

    def _has(self, variant: Variant) -> bool:
        return any(variant.about == {key: row[key] for key in _KEY} for row in self._rows)

    def _add(self, variant: Variant, figures: dict, found: list[Quality], clipped: int) -> None:
        if self._has(variant):
            return
        texts = [
            {"bits_per_byte": quality.bits / about["bytes"], "perplexity": quality.perplexity,
             "kl_bits_per_token": quality.divergence, "agreement": quality.agreement}
            for quality, (about, _) in zip(found, self._texts, strict=True)
        ]  # fmt: skip
        row = {**variant.about, **figures, **texts[0], "clipped_activations": clipped, "texts": texts}
        self._rows.append(row)
        self._written("unfinished")

    def _written(self, status: str) -> dict:
        from seedlm.golden.files.atomic import atomic_path

        seconds = round(time.perf_counter() - self._started, 3)
        report = self._report | {"rows": self._rows, "seconds": seconds, "status": status}
        if self._args.out is not None:
            with atomic_path(self._args.out) as path:
                path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        return report


def _stored(tensors: list) -> dict:
    """The figures of weights that are as they are."""
    width = {"F16": 16.0, "BF16": 16.0, "F32": 32.0}
    sizes = [t.shape[0] * t.shape[1] for t in tensors]
    bits = sum(width[t.dtype] * size for t, size in zip(tensors, sizes, strict=True))
    return {"bits_per_weight": bits / sum(sizes), "rel_error": 0.0, "encode_seconds": None}


def _print(report: dict, console: Console) -> None:
    console.print(f"{report['model']}: {report['weights']:,} weights in linear layers;{_told(report)}")
    if report["left_alone"]:
        console.print(f"in fp16 and not counted: {', '.join(report['left_alone'])}")
    fed = any(row["calibration"] for row in report["rows"])
    several = len(report["texts"]) > 1
    headings = ["<weights", "<encoder", *["<calibration"] * fed, "bits/weight", "rel. error", "encoding"]
    for number, _ in enumerate(report["texts"], 1):
        names = ("perplexity", "KL", "same") if several else ("bits/byte", "perplexity", "KL", "same")
        headings += [f"{name} {number}" if several else name for name in names]
    console.table(headings, [_line(row, fed, several) for row in report["rows"]])
    for row in report["rows"]:
        if row["clipped_activations"]:
            console.print(f"{row['name']}: {row['clipped_activations']:,} activations were beyond FP16")
    console.print(f"products: {report['products']}; {report['seconds']:.0f} s")


def _told(report: dict) -> str:
    """Which texts, with their numbers if there are several."""
    texts = [f"{t['bytes']:,} bytes of {t['text']}, {t['tokens']:,} tokens" for t in report["texts"]]
    if len(texts) > 1:
        texts = [f"{number}: {text}" for number, text in enumerate(texts, 1)]
    return f" {'; '.join(texts)} in windows of {report['context']}"


def _line(row: dict, fed: bool, several: bool) -> list[str]:
    seconds = row["encode_seconds"]
    turned = ", not rotated" if _unturned(row) else ""
    line = [
        row["name"] + turned, row["encoder"] or "", *[row["calibration"] or ""] * fed, f"{row['bits_per_weight']:.3f}",
        f"{row['rel_error']:.4f}", "" if seconds is None else f"{seconds:.0f} s",
    ]  # fmt: skip
    for text in row["texts"]:
        line += [] if several else [f"{text['bits_per_byte']:.4f}"]
        line += [f"{text['perplexity']:.4f}", f"{text['kl_bits_per_token']:.5f}", f"{text['agreement']:.1%}"]
    return line


def _unturned(row: dict) -> bool:
    """Whether a codec that rotates if nothing else is said does not here."""
    return row["rotated"] is False and row["name"] in CODECS and CODECS[row["name"]].rotates


def _figure():
    """matplotlib's Figure."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SeedLMError("pictures need matplotlib: pip install 'seedlm[bench]'") from error
    return Figure


def _draw(report: dict, path: Path) -> None:
    """Bits per weight against the divergence on every text; of a single one, against its bits per byte, too."""
    from seedlm.golden.files.atomic import atomic_path

    names = [Path(text["text"]).name for text in report["texts"]]
    wanted = [(i, "kl_bits_per_token", f"KL divergence, bits/token, {name}") for i, name in enumerate(names)]
    if len(wanted) == 1:
        wanted.insert(0, (0, "bits_per_byte", f"bits per byte, {names[0]}"))
    figure = _figure()(figsize=(5 * len(wanted), 5), layout="constrained")
    small = [row for row in report["rows"] if row["bits_per_weight"] <= 8]
    for axes, (i, key, label) in zip(figure.subplots(1, len(wanted)), wanted, strict=True):
        _points(axes, small, i, key)
        if key == "bits_per_byte":
            original, half = report["rows"][:2]
            axes.axhline(original[key], linewidth=0.8, linestyle=":", color="black")
            text = f"original {original[key]:.4f}, {half['name']} {half[key]:.4f}"
            axes.annotate(text, (0.01, original[key]), xycoords=("axes fraction", "data"), va="bottom", fontsize=8)
        axes.set(xlabel="bits per weight", ylabel=label, yscale="log" if key != "bits_per_byte" else "linear")
        axes.margins(0.12)
        axes.grid(alpha=0.3)
    axes.legend(fontsize=6.5, loc="lower left")
    figure.suptitle(Path(report["model"]).name)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150, format=path.suffix[1:])


def _points(axes: Any, rows: list[dict], text: int, key: str) -> None:
    """A point for each row, by its kind and its calibration; a name for those that are data-free."""
    fed = list(dict.fromkeys(row["calibration"] for row in rows if row["calibration"]))
    colors = dict(zip([None, *fed], ["tab:blue", "tab:green", "tab:orange", "tab:purple", "tab:brown"], strict=False))
    named = set()
    for row in rows:
        at, block = (row["bits_per_weight"], row["texts"][text][key]), row["name"].startswith("block float")
        color = colors.get(row["calibration"], "tab:gray")
        kind = "block floating point" if block else "not rotated" if _unturned(row) else row["encoder"] or "codec"
        label = f"{kind}, {row['calibration'] or 'data-free'}"
        if label in named:
            label = None
        named.add(label)
        axes.plot(*at, MARKERS.get(kind, "o"), color=color, markerfacecolor="none", label=label)
        if row["name"] not in named and not row["calibration"]:  # the others are near
            named.add(row["name"])
            axes.annotate(row["name"], at, xytext=(6, 3), textcoords="offset points", fontsize=7)
