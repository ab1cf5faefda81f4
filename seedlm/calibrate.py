"""``seedlm calibrate``: the second moments of the inputs of a model's layers, for ``seedlm compress --calibration``."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from seedlm.arguments import not_negative, positive, require_new, require_writable
from seedlm.console import Console, human_bytes, human_time
from seedlm.golden.errors import SeedLMError

if TYPE_CHECKING:
    import numpy as np

    from seedlm.host.calibration import Moments
    from seedlm.host.checkpoint import Checkpoint
    from seedlm.host.models import Engine

NAME = "calibrate"
SUMMARY = "record what a model's layers multiply with, to compress it better"
DESCRIPTION = """\
Let tokens go through a model in FP32 and record, for every linear layer, the second moments of its
input: H = sum over the tokens of x x^T. With them seedlm compress --calibration makes good on the
right of a row for what was lost on its left, where the inputs that really come allow it: the file
format and the hardware stay as they are, and the model's predictions come much nearer to those of
the original.

The tokens are a text's (--text), the model's own samples (--self), or both. The model's own need no
data at all. A text alone fits the text rather than the model: measure on a text of another kind
(seedlm evaluate --text).
"""
EXAMPLES = """\
examples:
  seedlm calibrate models/tiny-python --self 16 --out calibration.safetensors
  seedlm compress models/tiny-python packed --calibration calibration.safetensors --exclude '*embed*'
  seedlm evaluate packed --original models/tiny-python

  seedlm calibrate DIR --self 6 --text book.txt --tokens 6000 --out calibration.safetensors
  seedlm calibrate DIR --text book.txt --importance-out importance.safetensors --out calibration.safetensors
  seedlm compress DIR packed --importance importance.safetensors

A file has a matrix [columns, columns] in FP32 for each group of layers that share their input (the
query, key and value projections; gate and up): 4.7 MB for 1,536 columns, 1 GB for 16,384. Inputs of
more columns are cut into parts of at most 16,384, the moments between which are not kept. --memory
bounds what is summed up at a time; with less than all, the tokens go through the model several times.
An output layer that shares its weights with the embedding is left out, as its rows are looked up, too.
"""
LENGTH = 512


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL", type=Path,
        help="Hugging Face directory of a plain model, the weights' file in it, or a GGUF file",
    )  # fmt: skip
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="the calibration to write")
    parser.add_argument("--text", metavar="FILE", type=Path, help="text in UTF-8 that goes through the model")
    parser.add_argument(
        "--self", metavar="N", type=positive, dest="samples",
        help="N texts that the model writes itself, at temperature 1, each of as many tokens as a window",
    )  # fmt: skip
    parser.add_argument(
        "--seed", metavar="S", type=not_negative, default=0, help="of these texts, 0 or more (default: 0)"
    )
    parser.add_argument(
        "--tokens", metavar="N", type=positive, help="only the first N tokens of the text (default: all of them)"
    )
    parser.add_argument(
        "--context", metavar="N", type=positive,
        help=f"tokens of a window, each begun afresh (default: {LENGTH}, or the model's context if that is shorter)",
    )  # fmt: skip
    parser.add_argument(
        "--importance-out", metavar="FILE", type=Path,
        help="write the mean square of every column's input, too: a vector for each tensor, for seedlm compress"
        " --importance",
    )  # fmt: skip
    parser.add_argument(
        "--memory", metavar="GIB", type=positive, default=4,
        help="GiB of sums that are kept at a time (default: %(default)s); the model's weights in FP32 come on top",
    )  # fmt: skip


def run(args: argparse.Namespace, console: Console) -> int:
    from seedlm.host.checkpoint import Checkpoint
    from seedlm.host.engines import FloatEngine

    if args.text is None and args.samples is None:
        raise SeedLMError("nothing to calibrate with: expected --self N, --text FILE, or both")
    if args.tokens is not None and args.text is None:
        raise SeedLMError("--tokens needs --text FILE")
    for path in filter(None, (args.out, args.importance_out)):
        require_writable(path)
    started = time.perf_counter()
    checkpoint = Checkpoint(args.model)
    if checkpoint.packed:
        raise SeedLMError(f"{args.model}: is compressed already: expected the original model")
    for path in filter(None, (args.out, args.importance_out)):
        for file in (args.model, *checkpoint.folder.glob("*.safetensors")):
            require_new(path, file)
    engine = FloatEngine(checkpoint.linear)
    texts, sources = _texts(args, console, checkpoint, engine)
    report = _record(args, console, checkpoint, engine, texts, sources)
    report |= {"seconds": round(time.perf_counter() - started, 3), "status": "ok"}
    console.json(report)
    _print(report, console)
    return 0


def _texts(args: argparse.Namespace, console: Console, checkpoint: Checkpoint,
           engine: Engine) -> tuple[list[np.ndarray], dict[str, int]]:  # fmt: skip
    """What goes through the model, window by window, and how many tokens of each kind."""
    from seedlm.evaluate import text_of
    from seedlm.host.calibration import own_samples
    from seedlm.host.models import language_model
    from seedlm.host.quality import windows
    from seedlm.host.text import open_text

    config = checkpoint.config
    length = min(args.context or LENGTH, config.context)
    texts, sources = [], {"text": 0, "samples": 0}
    if args.text is not None:
        text = text_of(args.text)
        tokens = open_text(checkpoint.source, config).encode(text.decode())[: args.tokens]
        texts += [inputs for inputs, _ in windows(tokens, config.bos, length)]
        sources["text"] = sum(map(len, texts))
        if not texts:
            raise SeedLMError(f"{args.text}: the text has too few tokens")
    if args.samples is not None:
        first = config.bos if config.bos is not None else 0
        with console.progress("writing", args.samples * (length - 1), "{:,.0f} tokens".format) as advance:
            own = own_samples(lambda e: language_model(checkpoint, e), engine, args.samples, length, first, args.seed,
                              advance)  # fmt: skip
        sources["samples"] = sum(map(len, own))
        texts += own
    return texts, sources


def _record(args: argparse.Namespace, console: Console, checkpoint: Checkpoint, engine: Engine,
            texts: list[np.ndarray], sources: dict[str, int]) -> dict:  # fmt: skip
    """Sum up, and write the files."""
    import numpy as np

    from seedlm.golden.files.calibration import Entry, write_calibration
    from seedlm.golden.files.tensors import RawTensor, write_tensors
    from seedlm.host.calibration import second_moments
    from seedlm.host.models import language_model

    config = checkpoint.config
    wanted = set(checkpoint.linear) - ({config.head} if config.tied else set())
    tokens = sum(sources.values())
    entries: dict[str, Entry] = {}
    tensors: dict[str, np.ndarray] = {}
    importance: dict[str, RawTensor] = {}
    left_out: dict[str, int] = {}

    def keep(moments: Moments, file) -> None:
        names = []
        stored = [checkpoint.stored_names[name] for name in moments.names]
        for i, total in enumerate(moments.totals):
            names.append(f"{stored[0]}.moments" + f".{i}" * bool(i))
            tensors[names[-1]] = _spilled(total, file)
        for name in stored:
            if names:
                entries[name] = Entry(tuple(names), moments.tokens)
                importance[name] = RawTensor.from_array(moments.diagonal.astype(np.float32))
            else:
                left_out[name] = checkpoint.linear[moments.names[0]].shape[1]

    with tempfile.TemporaryFile(dir=args.out.resolve().parent) as file:
        with console.progress("recording", tokens, "{:,.0f} tokens".format) as advance:
            found = second_moments(lambda e: language_model(checkpoint, e), engine, texts, wanted, args.memory << 30,
                                   advance)  # fmt: skip
            for moments in found:
                keep(moments, file)
        if not entries:
            raise SeedLMError(f"{args.model}: no layer whose second moments could be kept")
        about = {"model": checkpoint.folder.name, **{f"{kind}_tokens": str(n) for kind, n in sources.items()}}
        write_calibration(args.out, entries, tensors, about)
    if args.importance_out is not None:
        write_tensors(args.importance_out, importance)
    return {
        "model": str(args.model),
        "output": str(args.out),
        "tokens": tokens,
        **{f"{kind}_tokens": count for kind, count in sources.items()},
        "windows": len(texts),
        "matrices": len(entries),
        "moments": len(tensors),
        "output_bytes": args.out.stat().st_size,
        "left_out": left_out,
        "unused": sorted({checkpoint.stored_names[name] for name in wanted} - set(entries) - set(left_out)),
        "importance": args.importance_out and str(args.importance_out),
    }


def _spilled(total: np.ndarray, file) -> np.ndarray:
    """In FP32 at the end of a file, as a memory map."""
    import numpy as np

    offset = file.seek(0, 2)
    file.write(np.ascontiguousarray(total, dtype=np.float32).data)
    file.flush()
    return np.memmap(file, np.float32, "r", offset, total.shape)


def _print(report: dict, console: Console) -> None:
    kinds = ((report["text_tokens"], "of text"), (report["samples_tokens"], "of the model's own"))
    what = " and ".join(f"{count:,} tokens {kind}" for count, kind in kinds if count)
    console.print(f"{report['output']}: {what} in {report['windows']} windows; second moments for {report['matrices']}"
                  f" matrices, {human_bytes(report['output_bytes'])}; {human_time(report['seconds'])}")  # fmt: skip
    if report["importance"]:
        console.print(f"{report['importance']}: a vector for each of them, for seedlm compress --importance")
    for name, cols in report["left_out"].items():
        console.print(f"left out: {name}: {cols:,} columns cannot be cut into parts")
    if report["unused"]:
        console.print(f"left out: {', '.join(report['unused'][:4])}: met no token")
