"""``seedlm evaluate``: what compression costs a language model, beside FP16 and plain block floating point."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from seedlm.arguments import CODEC_HELP, codec_argument, positive, require_writable
from seedlm.console import Console
from seedlm.golden.codecs import BASELINE, CODECS, Codec
from seedlm.golden.errors import SeedLMError

if TYPE_CHECKING:
    import numpy as np

    from seedlm.host.checkpoint import Checkpoint
    from seedlm.host.models import Engine

NAME = "evaluate"
SUMMARY = "measure a language model's quality under every codec"
DESCRIPTION = """\
Predict a held-out text with a model in a Hugging Face directory: the original weights in FP32,
then FP16, every codec with every encoder, and data-free 4-bit block floating point (groups of 128
columns, one FP16 scale, clipped where the squared error is least) as an outside yardstick. All but
the original have FP16 activations. The text is cut into windows; each is begun afresh.
"""
EXAMPLES = """\
examples:
  seedlm evaluate models/tiny-python
  seedlm evaluate models/tiny-python --bytes 8192 --codec seedlm4r --codec seedlm4
  seedlm evaluate DIR --text book.txt --context 2048 --out quality.json --picture quality.png

What it prints:
  bits/weight  of the linear layers, scales and padding included
  rel. error   of their weights (Frobenius)
  bits/byte    -log2 p of the text, per byte
  perplexity   per token
  KL           divergence from the original's predictions, bits per token
  same         share of the tokens where the most likely token is the original's
"""
METHODS = ("optimal", "paper")
BLOCK_BITS, BLOCK_GROUP = 4, 128
MARKERS = {"optimal": "o", "paper": "s"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL_DIR", type=Path, help="Hugging Face directory of a Llama model")
    parser.add_argument(
        "--text", metavar="FILE", type=Path, help="text in UTF-8 (default: heldout.txt in the directory)"
    )
    parser.add_argument("--bytes", metavar="N", type=positive, help="only the first N bytes of the text")
    parser.add_argument(
        "--context", metavar="N", type=positive, help="tokens of a window (default: the model's context)"
    )
    parser.add_argument(
        "--codec", type=codec_argument, action="append", default=[],
        help=f"only these; may be given several times: {CODEC_HELP} (default: all of them)",
    )  # fmt: skip
    parser.add_argument(
        "--encoder", choices=METHODS, action="append", default=[],
        help="only these; may be given several times (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--exact", action="store_true",
        help="multiply with the exact reference; otherwise the same weights and activations, summed in FP32",
    )  # fmt: skip
    parser.add_argument("--out", metavar="FILE.json", type=Path, help="write the report there, too")
    parser.add_argument("--picture", metavar="FILE", type=Path, help="draw quality over bits: PNG, SVG or PDF")


@dataclass(frozen=True)
class Variant:
    """A way to store the weights: codec and encoder, or block floating point (codec None)."""

    name: str
    codec: Codec | None
    encoder: str | None = None


def variants(codecs: list[Codec], encoders: list[str]) -> Iterator[Variant]:
    """What is measured: the baseline, codecs with encoders, the yardstick."""
    from seedlm.encoder.families import encoder_of

    baseline = CODECS[BASELINE]
    yield Variant(baseline.name, baseline)
    for codec in codecs or list(CODECS.values()):
        if codec is not baseline:
            for encoder in dict.fromkeys(encoder_of(codec).method(e) for e in encoders or METHODS):
                yield Variant(codec.name, codec, encoder)
    yield Variant(f"block float {BLOCK_BITS}", None)


class Errors:
    """Energy of the error and of the weights, matrix by matrix."""

    def __init__(self) -> None:
        self.error = self.energy = 0.0

    def add(self, w: np.ndarray, found: np.ndarray) -> None:
        import numpy as np

        w = np.asarray(w, dtype=np.float64)
        self.error += float(np.square(found - w).sum())
        self.energy += float(np.square(w).sum())

    @property
    def relative(self) -> float:
        return (self.error / self.energy) ** 0.5 if self.energy else 0.0


def engine_of(variant: Variant, checkpoint: Checkpoint, exact: bool, console: Console) -> tuple[Engine, dict]:
    """What multiplies, and the figures of its weights."""
    from seedlm.encoder.block_float import block_float, block_float_bits
    from seedlm.host.engines import ApproximateEngine, ReferenceEngine
    from seedlm.packed_model import open_packed

    errors, bits = Errors(), 0.0
    weights = sum(rows * cols for rows, cols in checkpoint.config.shapes().values())
    decoded: dict[str, np.ndarray] = {}
    packed = open_packed(checkpoint, variant.codec, variant.encoder, console) if variant.codec else None
    for name, tensor in checkpoint.linear.items():
        w = tensor.array()
        if packed is not None:
            matrix = packed[name]
            found = matrix.decode()
            bits += matrix.stored_bits
        else:
            found = block_float(w, BLOCK_BITS, BLOCK_GROUP).astype("f4")
            bits += w.size * block_float_bits(w.shape[1], BLOCK_BITS, BLOCK_GROUP)
        errors.add(w, found)
        decoded[name] = found
    if packed is not None and exact:
        engine: Engine = ReferenceEngine(packed.__getitem__, weights)
    else:
        engine = ApproximateEngine(decoded.__getitem__, variant.codec)
    return engine, {"bits_per_weight": bits / weights, "rel_error": errors.relative}


def read_text(args: argparse.Namespace) -> bytes:
    """The text to predict; its last character whole."""
    path = args.text or args.model / "heldout.txt"
    try:
        data = path.read_bytes()
    except OSError as error:
        hint = "" if args.text else "; choose a text with --text"
        raise SeedLMError(f"{path}: cannot read: {error.strerror}{hint}") from error
    data = data[: args.bytes]
    try:
        text = data.decode("utf-8", errors="strict")
    except UnicodeDecodeError as error:
        if args.bytes is None or error.start < len(data) - 3:
            raise SeedLMError(f"{path}: not UTF-8 at byte {error.start}") from error
        text = data[: error.start].decode()  # --bytes has cut a character
    if not text:
        raise SeedLMError(f"{path}: is empty")
    return text.encode()


def run(args: argparse.Namespace, console: Console) -> int:
    for path in (args.out, args.picture):
        if path is not None:
            require_writable(path)

    from seedlm.golden.files.atomic import atomic_path
    from seedlm.host.checkpoint import Checkpoint
    from seedlm.host.engines import FloatEngine
    from seedlm.host.models import language_model
    from seedlm.host.quality import Predictions, Quality, windows
    from seedlm.host.text import open_text

    if args.picture is not None:
        if args.picture.suffix not in (".png", ".svg", ".pdf"):
            raise SeedLMError(f"{args.picture}: expected a name that ends with .png, .svg or .pdf")
        _figure()
    started = time.perf_counter()
    checkpoint = Checkpoint(args.model)
    config, data = checkpoint.config, read_text(args)
    tokens = open_text(args.model, config).encode(data.decode())
    context = min(args.context or config.context, config.context)
    text = windows(tokens, config.bos, context)
    if not text:
        raise SeedLMError(f"{args.model}: the text has too few tokens to predict one")
    count = sum(len(targets) for _, targets in text)

    rows: list[dict] = []

    def add(name: str, encoder: str | None, quality: Quality, figures: dict, clipped: int) -> None:
        rows.append({
            "name": name, "encoder": encoder, **figures, "bits_per_byte": quality.bits / len(data),
            "perplexity": quality.perplexity, "kl_bits_per_token": quality.divergence,
            "agreement": quality.agreement, "clipped_activations": clipped,
        })  # fmt: skip

    def passing(what: str, work: Callable) -> Quality:
        with console.progress(what, count, "{:,.0f} tokens".format) as advance:
            return work(advance)

    model = language_model(checkpoint, FloatEngine(checkpoint.linear))
    original: Predictions = passing("original", lambda advance: Predictions(model, text, advance))
    source = {"F16": 16.0, "BF16": 16.0, "F32": 32.0}
    bits = sum(source[t.dtype] * t.shape[0] * t.shape[1] for t in checkpoint.linear.values())
    weights = sum(t.shape[0] * t.shape[1] for t in checkpoint.linear.values())
    add("original", None, original.quality, {"bits_per_weight": bits / weights, "rel_error": 0.0}, 0)
    for variant in variants(args.codec, args.encoder):
        engine, figures = engine_of(variant, checkpoint, args.exact, console)
        model = language_model(checkpoint, engine)
        what = f"{variant.name} {variant.encoder or ''}".strip()
        quality = passing(what, lambda advance, model=model: original.compare(model, advance))
        add(variant.name, variant.encoder, quality, figures, engine.activations.clipped)

    report = {
        "model": str(args.model),
        "text": str(args.text or args.model / "heldout.txt"),
        "bytes": len(data),
        "tokens": count,
        "context": context,
        "weights": weights,
        "products": "exact" if args.exact else "float32 sums",
        "rows": rows,
        "seconds": round(time.perf_counter() - started, 3),
        "status": "ok",
    }
    if args.out is not None:
        with atomic_path(args.out) as path:
            path.write_text(json.dumps(report, indent=2) + "\n")
    if args.picture is not None:
        _draw(report, args.picture)
    console.json(report)
    _print(report, console)
    return 0


def _print(report: dict, console: Console) -> None:
    console.print(
        f"{report['model']}: {report['weights']:,} weights in linear layers;"
        f" {report['bytes']:,} bytes of {report['text']}, {report['tokens']:,} tokens in windows of {report['context']}"
    )
    console.table(
        ("<weights", "<encoder", "bits/weight", "rel. error", "bits/byte", "perplexity", "KL", "same"),
        [
            (r["name"], r["encoder"] or "", f"{r['bits_per_weight']:.3f}", f"{r['rel_error']:.4f}",
             f"{r['bits_per_byte']:.4f}", f"{r['perplexity']:.4f}", f"{r['kl_bits_per_token']:.5f}",
             f"{r['agreement']:.1%}")
            for r in report["rows"]
        ],
    )  # fmt: skip
    for row in report["rows"]:
        if row["clipped_activations"]:
            console.print(f"{row['name']}: {row['clipped_activations']:,} activations were beyond FP16")
    console.print(f"products: {report['products']}; {report['seconds']:.0f} s")


def _figure():
    """matplotlib's Figure."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SeedLMError("pictures need matplotlib: pip install 'seedlm[bench]'") from error
    return Figure


def _draw(report: dict, path: Path) -> None:
    """Bits per weight against bits per byte and against the divergence."""
    from seedlm.golden.files.atomic import atomic_path

    figure = _figure()(figsize=(10, 4.5), layout="constrained")
    wanted = (("bits_per_byte", "bits per byte of held-out text"), ("kl_bits_per_token", "KL divergence, bits/token"))
    small = [row for row in report["rows"] if row["bits_per_weight"] <= 8]
    middle = sum(row["bits_per_weight"] for row in small) / len(small)
    for axes, (key, label) in zip(figure.subplots(1, 2), wanted, strict=True):
        named = set()
        for row in small:
            at, encoder = (row["bits_per_weight"], row[key]), row["encoder"]
            color = "tab:blue" if encoder else "tab:red"
            filled = "none" if encoder == "paper" else color
            kind = f"encoder {encoder}" if encoder else None
            axes.plot(*at, MARKERS.get(encoder, "^"), color=color, markerfacecolor=filled, label=kind)
            if row["name"] not in named:  # both encoders' points are near each other: one name
                named.add(row["name"])
                left = at[0] > middle
                axes.annotate(row["name"], at, xytext=(-8 if left else 8, 0), textcoords="offset points", fontsize=8,
                              ha="right" if left else "left", va="center")  # fmt: skip
        if key == "bits_per_byte":
            original, half = report["rows"][:2]
            axes.axhline(original[key], linewidth=0.8, linestyle=":", color="black")
            text = f"original {original[key]:.4f}, fp16 {half[key]:.4f}"
            axes.annotate(text, (0.01, original[key]), xycoords=("axes fraction", "data"), va="bottom", fontsize=8)
        axes.set(xlabel="bits per weight", ylabel=label, yscale="log" if key != "bits_per_byte" else "linear")
        axes.margins(0.2)
        axes.grid(alpha=0.3)
        handles, labels = axes.get_legend_handles_labels()
        unique = dict(zip(labels, handles, strict=True))
        if unique:
            axes.legend(unique.values(), unique.keys(), fontsize=8)
    figure.suptitle(f"{Path(report['model']).name}: {report['bytes']:,} bytes of held-out text")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150, format=path.suffix[1:])
