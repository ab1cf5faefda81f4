"""How fast the exact reference is on a language model: its weights decoded, a prompt, tokens one by one.

Run it as ``python -m seedlm.bench_reference MODEL``; MODEL and the options of codecs are those of ``seedlm run``.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from seedlm.arguments import add_codec_arguments, matrices_of, positive
from seedlm.cli import guarded
from seedlm.console import Console, human_bytes
from seedlm.golden.errors import SeedLMError
from seedlm.host.checkpoint import Checkpoint
from seedlm.host.engines import ReferenceEngine
from seedlm.host.models import language_model

__all__ = ["measure"]


def _timed(work: Callable[[], object]) -> dict[str, float]:
    """Seconds that it took, and those of the processors."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}


def measure(args: argparse.Namespace, console: Console) -> dict:
    """Seconds of each step, tokens per second, and the memory that it took; the tokens are drawn at random."""
    checkpoint = Checkpoint(args.model)
    if args.prompt_tokens + args.tokens > checkpoint.config.context:
        raise SeedLMError(f"{args.model}: {args.prompt_tokens + args.tokens} tokens do not fit the model's context of"
                          f" {checkpoint.config.context}")  # fmt: skip
    engine = ReferenceEngine(matrices_of(checkpoint, args, console).__getitem__)
    model = language_model(checkpoint, engine)
    prompt, after = np.split(
        np.random.default_rng(0).integers(0, checkpoint.config.vocab, args.prompt_tokens + args.tokens),
        [args.prompt_tokens],
    )
    cache = model.cache()
    steps = {
        "decoding": _timed(lambda: model.logits(prompt[:1], last=True)),
        "prompt": _timed(lambda: model.logits(prompt, cache, last=True)),
        "generation": _timed(lambda: [model.logits([token], cache) for token in after]),
    }
    return {
        "model": str(args.model),
        "prompt_tokens": len(prompt),
        "tokens": len(after),
        **steps,
        "tokens_per_second": len(after) / steps["generation"]["seconds"],
        "decoded_bytes": engine.decoded_bytes,
        "peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "status": "ok",
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m seedlm.bench_reference", description=__doc__)
    parser.add_argument("model", metavar="MODEL", type=Path, help="Hugging Face directory of a model, plain or packed")
    parser.add_argument("--prompt-tokens", metavar="N", type=positive, default=512, help="(default: 512)")
    parser.add_argument("--tokens", metavar="N", type=positive, default=16, help="after the prompt (default: 16)")
    add_codec_arguments(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    args = parser.parse_args()
    console = Console(json_output=args.json)

    def run() -> int:
        report = measure(args, console)
        console.json(report)
        for name, what in (("decoding", "weights decoded, and a token"), ("prompt", f"prompt of {args.prompt_tokens}"),
                           ("generation", f"{args.tokens} tokens after it")):  # fmt: skip
            step = report[name]
            console.print(f"{what:<30}{step['seconds']:8.2f} s, {step['cpu_seconds']:.2f} s of processors")
        decoded, peak = human_bytes(report["decoded_bytes"]), human_bytes(report["peak_bytes"])
        console.print(f"{report['tokens_per_second']:.2f} tokens per second; decoded weights {decoded},"
                      f" peak memory {peak}")  # fmt: skip
        return 0

    return guarded(run, console)


if __name__ == "__main__":
    sys.exit(main())
