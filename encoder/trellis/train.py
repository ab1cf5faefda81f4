"""Tables of trellis codecs: check their stated errors, search and train new ones.

``python -m seedlm.encoder.trellis.train --check`` encodes rows of the distributions that `trellis.json` states errors
for and compares. ``--bits 5 --window 12 --outputs 8`` searches masks and trains levels on Gaussian rows, and prints
an entry.

A search tries random masks of full rank with levels at the quantiles of the normal distribution, keeps the best few,
and trains these: encode, move every level to the mean of what was coded with it, again. Levels are mirrored and odd
(0 may appear at the smallest), so that a row is as good as its negative.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from statistics import NormalDist

import numpy as np

from seedlm.encoder.trellis.problem import Costs, targets
from seedlm.encoder.trellis.rows import encode_rows, make_engine
from seedlm.golden.codecs.trellis import TABLES, Table, TrellisCodec, entries

__all__ = ["check", "relative_error", "search", "train"]

DISTRIBUTIONS: dict[str, Callable[[np.random.Generator, tuple[int, int]], np.ndarray]] = {
    "gauss": lambda rng, shape: rng.standard_normal(shape),
    "laplace": lambda rng, shape: rng.laplace(size=shape) / 2**0.5,
    "t5": lambda rng, shape: rng.standard_t(5, shape) / (5 / 3) ** 0.5,
}


def _encode(table: Table, w: np.ndarray) -> np.ndarray:
    """N of every weight of rows of standard deviation 1, int64 [rows, cols]."""
    target = targets(table, w, np.full(len(w), 1 / table.unit))
    symbols = make_engine("auto")(table, target, Costs(), None)
    return table.weights[table.windows(symbols)]


def relative_error(table: Table, w: np.ndarray) -> float:
    """Relative Frobenius error of rows at scale 1 / unit, refitted row by row."""
    n = _encode(table, w).astype(np.float64)
    fit = (n * w).sum(axis=1) / (n * n).sum(axis=1)
    return float(np.sqrt(np.square(w - n * fit[:, None]).sum() / np.square(w).sum()))


def _rank(masks: tuple[int, ...]) -> int:
    """Over GF(2)."""
    rank, rest = 0, list(masks)
    while rest:
        pivot = rest.pop()
        if pivot:
            rank += 1
            top = 1 << pivot.bit_length() - 1
            rest = [mask ^ pivot if mask & top else mask for mask in rest]
    return rank


def _odd(values: np.ndarray) -> tuple[int, ...]:
    """Rising odd integers nearest to positive values."""
    return tuple(int(v) for v in np.sort(2 * np.floor(np.maximum(values, 0) / 2) + 1))


def train(table: Table, w: np.ndarray, rounds: int) -> Table:
    """Move the levels to the means of what is coded with them, `rounds` times; the best table that came by."""
    best, least = table, relative_error(table, w)
    half = len(table.levels)
    for _ in range(rounds):
        n = _encode(table, w)
        levels = np.array(table.levels, dtype=np.float64)
        magnitude = np.abs(n)
        for i in np.unique(magnitude):
            # Levels that are equal move together.
            same = np.flatnonzero(np.array(table.levels) == i)
            here = magnitude == i
            levels[same] = table.unit * float((w[here] * np.sign(n[here])).mean()) if i else levels[same]
        spread = np.linspace(-1, 1, half) * 1e-3  # equal levels part if it helps
        table = Table(table.bits, table.window, table.masks, _odd(levels + spread), table.unit)
        error = relative_error(table, w)
        if error < least:
            best, least = table, error
    return best


def search(bits: int, window: int, outputs: int, unit: int, *, tries: int, rounds: int, rows: int, seed: int) -> Table:
    """The best of `tries` random mask sets, with trained levels."""
    rng = np.random.default_rng(seed)
    w = rng.standard_normal((rows, 2048))
    half = 1 << outputs - 1
    quantiles = np.array([NormalDist().inv_cdf((half + i + 0.5) / (2 * half)) for i in range(half)])
    levels = _odd(unit * quantiles)
    found: list[tuple[float, tuple[int, ...]]] = []
    while len(found) < tries:
        masks = tuple(int(m) for m in rng.integers(1, 1 << window, outputs))
        # Every bit of the window counts, and the newest symbol chooses freely.
        if _rank(masks) == outputs and (np.bitwise_or.reduce(masks) == (1 << window) - 1):
            found.append((relative_error(Table(bits, window, masks, levels, unit), w[:32]), masks))
    best = [Table(bits, window, masks, levels, unit) for _, masks in sorted(found)[: max(1, tries // 10)]]
    trained = [train(table, w, rounds) for table in best]
    return min(trained, key=lambda table: relative_error(table, w))


def coded_error(name: str, w: np.ndarray) -> float:
    """Relative Frobenius error of rows as `seedlm compress` codes them, each with the scale that suits it."""
    kind = TrellisCodec(name=name, table=name, columns=8)
    symbols, scales = encode_rows(w, kind)
    rest = w - kind.values(symbols, w.shape[1], 0) * scales.astype(np.float64)[:, None]
    return float(np.sqrt(np.square(rest).sum() / np.square(w).sum()))


def check(rows: int, seed: int) -> int:
    """Compare every table's errors with what its entry states; the number that are more than 2 % above."""
    wrong = 0
    for name in TABLES:
        for kind, stated in entries()[name]["relative_error"].items():
            w = DISTRIBUTIONS[kind](np.random.default_rng(seed), (rows, 4096))
            error = coded_error(name, w)
            good = error < 1.02 * stated
            wrong += not good
            print(f"{name:10} {kind:8} stated {stated:.4f}  measured {error:.4f}{'' if good else '  <- more'}")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m seedlm.encoder.trellis.train", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare the errors that trellis.json states")
    parser.add_argument("--bits", type=int, default=4, help="k, 2 to 6 (default %(default)s)")
    parser.add_argument("--window", type=int, default=12, help="L (default %(default)s)")
    parser.add_argument("--outputs", type=int, default=8, help="m: parities of a window (default %(default)s)")
    parser.add_argument("--unit", type=int, choices=(64, 128, 256), default=64,
                        help="N of one standard deviation; finer for more bits (default %(default)s)")  # fmt: skip
    parser.add_argument("--tries", type=int, default=40, help="mask sets to try (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=15, help="of training (default %(default)s)")
    parser.add_argument("--rows", type=int, default=64, help="of 2,048 or 4,096 weights (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.check:
        return min(1, check(options.rows, options.seed))
    table = search(
        options.bits, options.window, options.outputs, options.unit, tries=options.tries, rounds=options.rounds,
        rows=options.rows, seed=options.seed,
    )  # fmt: skip
    name = f"trellis{table.bits}"
    TABLES[name] = table  # for the measurement
    rng = np.random.default_rng(options.seed + 1)
    shape = (options.rows, 4096)
    errors = {kind: round(coded_error(name, make(rng, shape)), 4) for kind, make in DISTRIBUTIONS.items()}
    entry = {"bits": table.bits, "window": table.window, "unit": table.unit, "masks_msb_first": table.masks,
             "levels_upper_half": table.levels, "relative_error": errors}  # fmt: skip
    print(json.dumps({name: entry}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
