"""Rows of a matrix in a trellis codec: the best path for a few scales, the scale that suits it best.

The rows are independent of each other: a slice of rows is the unit of work, with the same result anywhere.
"""

from __future__ import annotations

import numpy as np

from seedlm.encoder.engines import is_compiled
from seedlm.encoder.feedback.factor import Feedback
from seedlm.encoder.seed.rows import squares
from seedlm.encoder.trellis import numpy_engine
from seedlm.encoder.trellis.problem import FINE, Costs, column_weights, targets
from seedlm.golden.codecs.trellis import TrellisCodec

__all__ = ["BLOCK", "encode_fed_rows", "encode_rows", "make_engine"]

# A scale is a factor times the row's root mean square, over the levels' unit. Gaussian rows are best at 1.06 or beside
# it; heavy tails want more. Plain constants: these must be the same bits everywhere.
FACTORS = (0.05, 0.07, 0.1, 0.14, 0.2, 0.28, 0.4, 0.56, 0.7, 0.8, 0.9, 1.0, 1.06, 1.13, 1.2, 1.35, 1.5, 1.8, 2.2, 2.7,
           3.2, 4.0)  # fmt: skip
FIRST = FACTORS.index(1.06)
LARGEST = float(np.finfo(np.float32).max)
# With feedback. A block of 16 columns alone would lose a third more: its last symbols end where they please, and the
# next ones have to begin there. More columns gain nothing.
BLOCK, AHEAD = 32, 16
TAIL = 4.0  # mean fourth power over the square of the mean square; 3 of Gaussian rows


def make_engine(engine: str):
    """The function that finds the best paths, (table, targets, costs, threads) to symbols; all find the same."""
    if not is_compiled(engine):
        return lambda table, target, costs, threads: numpy_engine.best_paths(table, target, costs)
    from seedlm.encoder.trellis import numba_engine  # compiles or loads its kernels: only where used

    return numba_engine.best_paths


class _Search:
    """The rows that are searched, and the best that was found for each."""

    def __init__(self, w: np.ndarray, codec: TrellisCodec, importance: np.ndarray | None, engine: str,
                 threads: int | None) -> None:  # fmt: skip
        self.w = np.asarray(w, dtype=np.float64)
        self.codec, self.importance, self.threads = codec, importance, threads
        self.paths = make_engine(engine)
        self.costs: Costs = column_weights(importance, codec.definition)
        rows = len(self.w)
        # Scaled to a largest weight of 1: squares of 1e-200 or 1e200 are numbers then.
        self.size = np.abs(self.w).max(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            self.unit = self.w / self.size[:, None]
        self.unit[self.size == 0] = 0
        self.rms = np.sqrt(squares(self.unit) / self.w.shape[1])
        self.symbols = np.zeros(self.w.shape, np.uint8)
        self.scales = np.zeros(rows, np.float32)  # of rows of zeros: levels are odd, only the scale can be 0
        self.error = np.full(rows, np.inf)

    def attempt(self, rows: np.ndarray, factor: np.ndarray) -> np.ndarray:
        """Search some rows with a factor each; their squared errors, relative to the largest weight."""
        scales = factor * self.rms[rows] / self.codec.definition.unit
        t = targets(self.codec.definition, self.unit[rows], scales)
        symbols = self.paths(self.codec.definition, t, self.costs, self.threads)
        n = self.codec.integers(symbols, self.w.shape[1])[0].astype(np.float64)
        error = np.empty(len(rows))
        for i, row in enumerate(rows):
            u, weighted = self.unit[row], n[i] if self.importance is None else n[i] * self.importance
            energy = float(np.add.reduce(weighted * n[i]))
            fit = float(np.add.reduce(weighted * u)) / energy if energy else scales[i]
            scale = np.float32(np.clip(fit * self.size[row], -LARGEST, LARGEST))
            rest = u - n[i] * (float(scale) / self.size[row])
            square = rest * rest
            error[i] = np.add.reduce(square if self.importance is None else square * self.importance)
            if error[i] < self.error[row]:
                self.error[row], self.scales[row], self.symbols[row] = error[i], scale, symbols[i]
        return error

    def run(self) -> tuple[np.ndarray, np.ndarray]:
        """Three factors for every row, more where the best is the outermost.

        With many bits a weight, one that is clipped costs as much as all others: the error has a second valley where
        that one just fits.
        """
        some = np.flatnonzero(self.size > 0)
        error = np.full((len(self.w), len(FACTORS)), np.nan)
        first = (0, -1, 1) if self.codec.k < FINE else (0, -1, 1, 3)
        wanted = [(some, np.full(len(some), FIRST + k)) for k in first]
        while wanted:
            for rows, at in wanted:
                error[rows, at] = self.attempt(rows, np.array(FACTORS)[at])
            best = np.full(len(self.w), FIRST)
            best[some] = np.nanargmin(error[some], axis=1)
            wanted = []
            for k in (-1, 1):
                near = best[some] + k
                inside = (near >= 0) & (near < len(FACTORS))
                rows, near = some[inside], near[inside]
                open_ = np.isnan(error[rows, near])
                if open_.any():
                    wanted.append((rows[open_], near[open_]))
        return self.symbols, self.scales


def encode_rows(
    w: np.ndarray, codec: TrellisCodec, *, importance: np.ndarray | None = None, engine: str = "auto",
    threads: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Symbols and row scales of some rows of a matrix: the unit of work.

    Parameters
    ----------
    w : np.ndarray
        Float [rows, cols], finite.
    codec : TrellisCodec
    importance : np.ndarray or None
        float64 [cols], non-negative: the squared error of column c counts this much.
    engine : str
        ``auto``, ``numba`` or ``numpy``: the same words.
    threads : int or None
        Of the compiled engine.

    Returns
    -------
    symbols : np.ndarray
        uint8 [rows, cols].
    scales : np.ndarray
        float32 [rows]; 0 for a row of zeros.
    """
    return _Search(w, codec, importance, engine, threads).run()


def encode_fed_rows(w: np.ndarray, codec: TrellisCodec, feedback: Feedback, *, engine: str = "auto",
                    threads: int | None = None) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """As `encode_rows`, with errors that are fed back.

    A row's scale does not follow from its errors: it is that of Gaussian rows, which rotated ones are as good as. Rows
    with heavier tails, and codecs of many bits, for which a single clipped weight is dear, have the scale that suits
    the row best without feedback.

    Parameters
    ----------
    w : np.ndarray
        Float [rows, cols], finite.
    codec : TrellisCodec
    feedback : Feedback
        Of blocks of `BLOCK` columns.
    engine, threads
        As in `encode_rows`.

    Returns
    -------
    symbols : np.ndarray
        uint8 [rows, cols].
    scales : np.ndarray
        float32 [rows]; 0 for a row of zeros.
    """
    w, table = np.asarray(w, dtype=np.float64), codec.definition
    scales = _usual_scales(w, codec, engine, threads)
    some = np.flatnonzero(scales)
    x = w[some] / scales[some].astype(np.float64)[:, None]
    symbols = np.zeros(w.shape, np.uint8)
    if not is_compiled(engine):
        symbols[some] = numpy_engine.fed_paths(table, x, feedback, AHEAD)
    else:
        from seedlm.encoder.trellis import numba_engine  # compiles or loads its kernels: only where used

        symbols[some] = numba_engine.fed_paths(table, x, feedback, AHEAD, threads)
    return symbols, scales


def _usual_scales(w: np.ndarray, codec: TrellisCodec, engine: str, threads: int | None) -> np.ndarray:
    """float32 [rows]."""
    search = _Search(w, codec, None, engine, threads)
    scales = (FACTORS[FIRST] / codec.definition.unit * search.rms * search.size).astype(np.float32)
    mean = search.rms * search.rms
    tail = squares(search.unit * search.unit) / w.shape[1]
    heavy = np.flatnonzero((tail > TAIL * (mean * mean)) | (codec.k >= FINE))
    if len(heavy):
        scales[heavy] = encode_rows(w[heavy], codec, engine=engine, threads=threads)[1]
    return scales
