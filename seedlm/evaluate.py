"""``seedlm evaluate``: what compression costs a language model, beside FP16 and plain block floating point."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seedlm.arguments import (
    CODEC_HELP,
    add_recipe_argument,
    add_rotate_argument,
    add_set_argument,
    codec_argument,
    encoder_argument,
    matrices_of,
    positive,
    require_writable,
)
from seedlm.console import Console
from seedlm.golden.codecs import BASELINE, CODECS, Codec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.recipes import RECIPES, Recipe

if TYPE_CHECKING:
    import numpy as np

    from seedlm.encoder.plan import Options
    from seedlm.golden.rotation import Rotation
    from seedlm.host.checkpoint import Checkpoint
    from seedlm.host.models import Engine

NAME = "evaluate"
SUMMARY = "measure a language model's quality under every codec"
DESCRIPTION = """\
Predict a held-out text with a model in a Hugging Face directory or a GGUF file: the original weights in FP32,
then FP16, every codec with every encoder, and data-free 4-bit block floating point (groups of 128
columns, one FP16 scale, clipped where the squared error is least) as an outside yardstick. All but
the original have FP16 activations. The text is cut into windows; each is begun afresh.

Of a packed model (what seedlm compress wrote) its own weights are measured, beside those of the
original where that is given; without one, what is called the original is the same weights in FP32.
"""
EXAMPLES = """\
examples:
  seedlm evaluate models/tiny-python
  seedlm evaluate models/tiny-python --bytes 8192 --codec seedlm4r --codec seedlm4
  seedlm evaluate packed --original models/tiny-python
  seedlm evaluate models/tiny-python --codec seedlm4r --set '*v_proj*=int8'
  seedlm evaluate DIR --text book.txt --context 2048 --out quality.json --picture quality.png

What it prints:
  bits/weight  of the linear layers, scales and padding included
  rel. error   of their weights (Frobenius)
  bits/byte    -log2 p of the text, per byte
  perplexity   per token
  KL           divergence from the original's predictions, bits per token
  same         share of the tokens where the most likely token is the original's
"""
BLOCK_BITS, BLOCK_GROUP = 4, 128
MARKERS = {"optimal": "o", "paper": "s"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL", type=Path,
        help="Hugging Face directory, plain or packed; the weights' file in it; or a GGUF file",
    )  # fmt: skip
    parser.add_argument(
        "--original", metavar="MODEL", type=Path, help="of a packed model: what it is compared with"
    )
    parser.add_argument(
        "--text", metavar="FILE", type=Path, help="text in UTF-8 (default: heldout.txt in the directory)"
    )
    parser.add_argument("--bytes", metavar="N", type=positive, help="only the first N bytes of the text")
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
        "--exact", action="store_true",
        help="multiply with the exact reference; otherwise the same weights and activations, summed in FP32",
    )  # fmt: skip
    parser.add_argument("--out", metavar="FILE.json", type=Path, help="write the report there, too")
    parser.add_argument("--picture", metavar="FILE", type=Path, help="draw quality over bits: PNG, SVG or PDF")


@dataclass(frozen=True)
class Variant:
    """A way to store the weights: codec and encoder, a recipe, or block floating point (neither)."""

    name: str
    codec: Codec | None
    encoder: str | None = None
    recipe: Recipe | None = None


def variants(codecs: list[Codec], encoders: list[str], recipes: list[Recipe]) -> Iterator[Variant]:
    """What is measured: the baseline, codecs with encoders, recipes, the yardstick."""
    from seedlm.encoder.families import METHODS, method_of

    baseline = CODECS[BASELINE]
    yield Variant(baseline.name, baseline)
    whole = not (codecs or recipes)
    for codec in CODECS.values() if whole else codecs:
        if codec is not baseline:
            for encoder in dict.fromkeys(method_of(codec, e) for e in encoders or METHODS):
                yield Variant(codec.name, codec, encoder)
    for recipe in RECIPES.values() if whole else recipes:
        yield Variant(recipe.name, None, recipe=recipe)
    yield Variant(f"block float {BLOCK_BITS}", None)


def engine_of(variant: Variant, checkpoint: Checkpoint, originals: Mapping, args: argparse.Namespace,
              console: Console) -> tuple[Engine, dict]:  # fmt: skip
    """What multiplies, and the figures of its weights."""
    from seedlm.encoder.loss import Loss
    from seedlm.host.engines import ApproximateEngine, ReferenceEngine

    loss, bits, packed = Loss(), 0.0, None
    decoded: dict[str, np.ndarray] = {}  # as they are multiplied: rotated ones with rotated vectors
    rotations: dict[str, Rotation | None] = {}
    if variant.codec or variant.recipe or checkpoint.packed:
        packed = matrices_of(checkpoint, args, console, _options(variant, checkpoint, args))
    for name, tensor in originals.items():
        w = tensor.array()
        if packed is not None:
            matrix = packed[name]
            decoded[name], rotations[name] = matrix.coded.decode(), matrix.rotation
            found, stored = decoded[name] if matrix.rotation is None else matrix.decode(), matrix.stored_bits
        else:
            found, stored = _yardstick(name, w, args)
            decoded[name] = found
        loss += Loss.between(w, found)
        bits += stored
    weights = sum(w.size for w in decoded.values())
    if packed is not None and args.exact:
        engine: Engine = ReferenceEngine(packed.__getitem__)
    else:
        engine = ApproximateEngine(decoded.__getitem__, packed.codec_of.get if packed else lambda name: None,
                                   rotations.get)  # fmt: skip
    return engine, {"bits_per_weight": bits / weights, "rel_error": loss.relative}


def _options(variant: Variant, checkpoint: Checkpoint, args: argparse.Namespace) -> Options:
    from seedlm.encoder.plan import Options

    given: dict[str, Any] = {"codec": variant.codec, "encoder": variant.encoder}
    if variant.recipe is not None:
        given["recipe"] = variant.recipe.codecs_of(checkpoint.config.kinds())
    chosen = () if variant.codec is CODECS[BASELINE] else tuple(args.set)
    return Options(chosen=chosen, rotate=args.rotate, **{key: value for key, value in given.items() if value})


def _yardstick(name: str, w: np.ndarray, args: argparse.Namespace) -> tuple[np.ndarray, float]:
    """A matrix in block floating point and its bits; where a pattern wants the baseline, that."""
    import numpy as np

    from seedlm.encoder.block_float import block_float, block_float_bits
    from seedlm.encoder.plan import Options

    if Options(chosen=tuple(args.set)).asked(name) is CODECS[BASELINE]:
        return w.astype(np.float16).astype(np.float32), 16.0 * w.size
    return block_float(w, BLOCK_BITS, BLOCK_GROUP).astype("f4"), w.size * block_float_bits(
        w.shape[1], BLOCK_BITS, BLOCK_GROUP
    )


def read_text(args: argparse.Namespace, path: Path) -> bytes:
    """The text to predict; its last character whole."""
    return text_of(path, args.bytes, "" if args.text else "; choose a text with --text")


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
    from seedlm.golden.files.atomic import atomic_path
    from seedlm.host.checkpoint import Checkpoint

    for path in (args.out, args.picture):
        if path is not None:
            require_writable(path)
    if args.picture is not None:
        if args.picture.suffix not in (".png", ".svg", ".pdf"):
            raise SeedLMError(f"{args.picture}: expected a name that ends with .png, .svg or .pdf")
        _figure()
    started = time.perf_counter()
    checkpoint = Checkpoint(args.model)
    if args.original and not checkpoint.packed:
        raise SeedLMError(f"--original needs a packed model: {args.model} is a plain one")
    report = measure(checkpoint, Checkpoint(args.original) if args.original else checkpoint, args, console)
    report |= {"seconds": round(time.perf_counter() - started, 3), "status": "ok"}
    if args.out is not None:
        with atomic_path(args.out) as path:
            path.write_text(json.dumps(report, indent=2) + "\n")
    if args.picture is not None:
        _draw(report, args.picture)
    console.json(report)
    _print(report, console)
    if checkpoint.source.history:
        console.print(checkpoint.source.history)
    return 0


def measure(checkpoint: Checkpoint, original: Checkpoint, args: argparse.Namespace, console: Console) -> dict:
    """The quality of a model with every way to store its weights, beside the original."""
    from seedlm.host.engines import FloatEngine
    from seedlm.host.models import language_model
    from seedlm.host.quality import Predictions, Quality, windows
    from seedlm.host.text import open_text

    path, config = args.text or checkpoint.folder / "heldout.txt", checkpoint.config
    data = read_text(args, path)
    context = min(args.context or config.context, config.context)
    written = open_text(checkpoint.source, config)
    text = windows(written.encode(data.decode()), next(iter(written.begin), None), context)
    if not text:
        raise SeedLMError(f"{args.model}: the text has too few tokens to predict one")
    count = sum(len(targets) for _, targets in text)

    def passing(what: str, work: Callable) -> Any:
        with console.progress(what, count, "{:,.0f} tokens".format) as advance:
            return work(advance)

    def row(name: str, encoder: str | None, quality: Quality, figures: dict, clipped: int) -> dict:
        return {
            "name": name, "encoder": encoder, **figures, "bits_per_byte": quality.bits / len(data),
            "perplexity": quality.perplexity, "kl_bits_per_token": quality.divergence,
            "agreement": quality.agreement, "clipped_activations": clipped,
        }  # fmt: skip

    model = language_model(original, FloatEngine(original.linear))
    expected: Predictions = passing("original", lambda advance: Predictions(model, text, advance))
    rows = [row("original", None, expected.quality, _stored(original), 0)]
    for variant in [Variant("packed", None)] if checkpoint.packed else variants(args.codec, args.encoder, args.recipe):
        engine, figures = engine_of(variant, checkpoint, original.linear, args, console)
        other = language_model(checkpoint, engine)
        what = f"{variant.name} {variant.encoder or ''}".strip()
        quality = passing(what, lambda advance, other=other: expected.compare(other, advance))
        rows.append(row(variant.name, variant.encoder, quality, figures, engine.activations.clipped))
    return {
        "model": str(args.model), "original": str(args.original or args.model), "text": str(path), "bytes": len(data),
        "tokens": count, "context": context, "weights": _weights(checkpoint),
        "products": "exact" if args.exact else "float32 sums", "rows": rows,
        "quantised_before": dict(original.source.quantised),
    }  # fmt: skip


def _weights(checkpoint: Checkpoint) -> int:
    return sum(t.shape[0] * t.shape[1] for t in checkpoint.linear.values())


def _stored(checkpoint: Checkpoint) -> dict:
    """The figures of weights that are as they are."""
    width = {"F16": 16.0, "BF16": 16.0, "F32": 32.0}
    bits = sum(width[t.dtype] * t.shape[0] * t.shape[1] for t in checkpoint.linear.values())
    return {"bits_per_weight": bits / _weights(checkpoint), "rel_error": 0.0}


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
            text = f"original {original[key]:.4f}, {half['name']} {half[key]:.4f}"
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
