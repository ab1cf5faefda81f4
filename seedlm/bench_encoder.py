"""``seedlm bench-encoder``: how fast the search engines are, beside a plain exhaustive search."""

from __future__ import annotations

import argparse
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING

from seedlm.arguments import CODEC_HELP, codec_argument, positive
from seedlm.console import Console
from seedlm.golden.codecs import CODECS, Codec
from seedlm.golden.errors import SeedLMError

if TYPE_CHECKING:
    from seedlm.encoder.seed.problem import Problem

NAME = "bench-encoder"
SUMMARY = "time the search engines, beside a plain exhaustive search"
DESCRIPTION = """\
Search the best words of Gaussian blocks with every engine that is installed, and with a plain
exhaustive search in vectorised NumPy, in turns in one run. Every engine must find the words of the
plain search, bit for bit.

Times are medians of the rounds, in microseconds per block, without start-up (compilation, tables).
With row scales the blocks are searched once, at a scale that suits them.
"""
EXAMPLES = """\
examples:
  seedlm bench-encoder
  seedlm bench-encoder --codec seedlm4 --blocks 20000 --rounds 5 --json
"""

SIGMA = 0.02
SEED = 1
ROW_FACTOR = 0.28  # row scale times 2**(K-1) - 1, over the root mean square: suits Gaussian weights
SHARES = {"plain": 1 / 256, "numpy": 1 / 8, "numba": 1.0}  # of the blocks: the slow ones get fewer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--codec", metavar="CODEC", type=codec_argument, action="append",
        help=f"{CODEC_HELP}; may be given several times (default: seedlm4 and seedlm3)",
    )  # fmt: skip
    parser.add_argument(
        "--blocks", metavar="N", type=positive, default=8192,
        help="blocks per round for the fastest engine, fewer for the others (default: 8192)",
    )  # fmt: skip
    parser.add_argument("--rounds", metavar="N", type=positive, default=3, help="rounds (default: 3)")
    parser.add_argument("--jobs", metavar="N", type=positive, help="threads of the compiled engine (default: all)")


def _problem(codec: Codec, blocks, encoder: str) -> Problem:
    import numpy as np

    from seedlm.encoder.seed.problem import Problem

    unit = None
    if codec.row_scales:
        unit = np.full(len(blocks), np.float64(np.float32(ROW_FACTOR * SIGMA / codec.denominator)))
    return Problem(codec, np.ascontiguousarray(blocks.T), encoder, unit)


def measure(codec: Codec, blocks: int, rounds: int, jobs: int | None, console: Console) -> list[dict]:
    """One row per engine and encoder.

    Raises
    ------
    SeedLMError
        An engine finds other words than the plain search.
    """
    import numpy as np

    from seedlm.encoder.seed.engines import make_engine
    from seedlm.encoder.seed.exhaustive import ExhaustiveSearch

    weights = np.random.default_rng(SEED).normal(0, SIGMA, (blocks, codec.C))
    bias = int(np.floor(np.log2(SIGMA))) if not codec.row_scales else 0
    weights = np.ldexp(weights, -bias)
    engines = ["numpy", "numba"] if find_spec("numba") else ["numpy"]
    # The plain search does not know lattices: it is the yardstick of the paper's encoder.
    runs = [("plain", "paper")] + [(engine, encoder) for encoder in ("paper", "optimal") for engine in engines]
    problems, searches, setup, times, found = {}, {}, {}, {}, {}
    for engine, encoder in runs:
        run = engine, encoder
        count = max(4, round(blocks * SHARES[engine]))
        problems[run] = _problem(codec, weights[:count], encoder)
        few = _problem(codec, weights[:4], encoder)
        started = time.perf_counter()
        searches[run] = ExhaustiveSearch(few) if engine == "plain" else make_engine(few, engine, jobs)
        searches[run].run(few)
        setup[run] = time.perf_counter() - started
        times[run] = []
    with console.progress(f"{codec.name}: timing", rounds * len(runs)) as advance:
        for _ in range(rounds):
            for run in runs:
                started = time.perf_counter()
                found[run] = searches[run].run(problems[run])
                times[run].append((time.perf_counter() - started) / len(problems[run]))
                advance(1)
    rows = []
    expected = {encoder: found["numpy", encoder].words(codec) for encoder in ("paper", "optimal")}
    plain = found["plain", "paper"].words(codec)
    if not np.array_equal(plain, expected["paper"][: len(plain)]):
        raise SeedLMError(f"{codec}: engine numpy and the plain search differ")
    yardstick = float(np.median(times["plain", "paper"]))
    for engine, encoder in runs:
        run = engine, encoder
        words = found[run].words(codec)
        both = min(len(words), len(expected[encoder]))
        if not np.array_equal(words[:both], expected[encoder][:both]):
            raise SeedLMError(f"{codec}: engines numpy and {engine} differ with encoder {encoder}")
        seconds = float(np.median(times[run]))
        energy = problems[run].norm.sum()
        rows.append({
            "codec": codec.name, "engine": engine, "encoder": encoder, "blocks": len(problems[run]),
            "microseconds_per_block": 1e6 * seconds, "blocks_per_second": 1 / seconds,
            "speedup": yardstick / seconds, "setup_seconds": setup[run],
            "rel_error": float((found[run].err.sum() / energy) ** 0.5),
        })  # fmt: skip
    return rows


def run(args: argparse.Namespace, console: Console) -> int:
    from seedlm.encoder.engines import cores

    codecs = args.codec or [CODECS["seedlm4"], CODECS["seedlm3"]]
    for codec in codecs:
        if codec.family != "seed":
            raise SeedLMError(f"codec {codec} has no seeds to search")
    if not find_spec("numba"):
        console.hint("numba is not installed: timing without the compiled engine")
    rows = [row for c in codecs for row in measure(c, args.blocks, args.rounds, args.jobs, console)]
    console.json({"rows": rows, "rounds": args.rounds, "threads": args.jobs or cores(), "sigma": SIGMA, "seed": SEED,
                  "status": "ok"})  # fmt: skip
    console.table(
        ("<codec", "<encoder", "<engine", "us/block", "blocks/s", "x plain", "rel. error", "blocks", "start-up"),
        [
            (r["codec"], r["encoder"], r["engine"], f"{r['microseconds_per_block']:.1f}",
             f"{r['blocks_per_second']:,.0f}", f"{r['speedup']:.0f}", f"{r['rel_error']:.4f}", f"{r['blocks']:,}",
             f"{r['setup_seconds']:.1f} s")
            for r in rows
        ],
    )  # fmt: skip
    console.print()
    console.print(f"plain: every seed, NumPy, one thread; numba with {args.jobs or cores()} threads;"
                  " all engines found the same words")  # fmt: skip
    return 0
