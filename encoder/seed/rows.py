"""Rows of a matrix: which blocks are searched with which importance and which scale.

The rows of a matrix are independent of each other: a slice of rows is the unit of work that may be
done anywhere, in any order, with the same result.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seedlm.encoder.feedback.factor import Feedback
from seedlm.encoder.feedback.rows import code_blocks
from seedlm.encoder.seed.engines import make_engine
from seedlm.encoder.seed.geometry import centred
from seedlm.encoder.seed.problem import Best, Problem, reconstruction_error
from seedlm.golden.codecs.seed import SeedCodec, unpack, weights_int
from seedlm.golden.errors import SeedLMError

__all__ = ["RowSearch", "encode_blocks", "encode_rows"]

CHUNK = 1 << 15  # blocks searched per call of an engine: bounds the working memory

# Row scales. A scale is a factor times the row's root mean square, divided by 2**(K-1) - 1. The error is a smooth
# function of the factor with one minimum, near 0.28 for Gaussian weights and higher for heavy tails. Plain constants
# and no powers: these must be the same bits everywhere.
FACTORS = (0.05, 0.06, 0.07, 0.084, 0.1, 0.12, 0.14, 0.168, 0.2, 0.24, 0.28, 0.34, 0.4, 0.48, 0.56, 0.68, 0.8,
           0.96, 1.12, 1.36, 1.6, 1.92, 2.24, 2.72, 3.2)  # fmt: skip
FIRST_FACTOR = FACTORS.index(0.28)
SAMPLE = 64  # blocks of a row that are used to choose the factor, about (all of a short row);
SPARSEST = 8  # at least one of so many,
LARGEST = 8  # and the largest, which decide on clipping
ROUNDS = 4  # searches of a row at most
WORTH = 2e-3  # relative gain of a round below which a row is left alone
SMALLEST_SCALE, LARGEST_SCALE = 2.0**-149, 2.0**100  # from the smallest binary32 on


def squares(x: np.ndarray) -> np.ndarray:
    """Row sums of squares in NumPy's own pairwise order, which is the same on every machine."""
    return np.array([np.add.reduce(row * row) for row in x])


@dataclass
class RowSearch:
    """The blocks of some rows, and engines to search them.

    Parameters
    ----------
    codec : SeedCodec
    w : np.ndarray
        Float [rows, cols], finite.
    encoder, engine : str
    bias : int
        Exponent bias: weights are divided by 2**bias first.
    importance : np.ndarray or None
        float64 [cols], non-negative.
    threads : int or None
    """

    codec: SeedCodec
    w: np.ndarray
    encoder: str = "optimal"
    engine: str = "auto"
    bias: int = 0
    importance: np.ndarray | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        self.shared = None
        C, nb = self.codec.C, self.blocks
        if self.importance is not None:
            padded = np.zeros(nb * C)
            padded[: self.w.shape[1]] = self.importance
            self.weights = padded.reshape(nb, C)
            # Columns past the end count like the most important one of their block.
            self.weights[-1, self.w.shape[1] - (nb - 1) * C :] = self.weights[-1].max()
            # Scaled to a largest entry of 1: an equally important block is then an ordinary one.
            self.level = self.weights.max(axis=1)
        else:
            self.weights, self.level = None, np.ones(nb)

    @property
    def rows(self) -> int:
        return self.w.shape[0]

    @property
    def blocks(self) -> int:
        """Blocks per row."""
        return self.codec.blocks(self.w.shape[1])

    def gather(self, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """float64 [C, n]: the weights of blocks, columns past the end as zeros."""
        C, cols = self.codec.C, self.w.shape[1]
        at = column * C + np.arange(C)[:, None]
        out = np.asarray(self.w[row, np.minimum(at, cols - 1)], dtype=np.float64)
        out[at >= cols] = 0
        return np.ldexp(out, -self.bias) if self.bias else out

    def search(self, row: np.ndarray, column: np.ndarray, scales: np.ndarray | None,
               words: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """Best words of blocks, and their errors in the true importance.

        Parameters
        ----------
        row, column : np.ndarray
            int [n]: which blocks.
        scales : np.ndarray or None
            float32 [rows].
        words : np.ndarray or None
            uint64 [n]: words known already; a good guess saves time, and the result is never worse.

        Returns
        -------
        words, err : np.ndarray
            uint64 [n] and float64 [n].
        """
        out, err = np.zeros(len(row), np.uint64), np.zeros(len(row))
        if self.weights is None:
            parts = [(None, slice(0, len(row)))]
        else:
            order = np.argsort(column, kind="stable")
            cuts = np.flatnonzero(np.diff(column[order])) + 1
            parts = [(column[part[0]], part) for part in np.split(order, cuts) if len(part)]
        for which, part in parts:
            importance = None
            if which is not None:
                if self.level[which] == 0:
                    continue  # any word is as good as the zero block
                importance = self.weights[which] / self.level[which]
                if (importance == 1).all():
                    importance = None
            engine = None
            index = np.arange(len(row))[part]
            for start in range(0, len(index), CHUNK):
                i = index[start : start + CHUNK]
                unit = None if scales is None else scales[row[i]].astype(np.float64)
                problem = Problem(self.codec, self.gather(row[i], column[i]), self.encoder, unit, importance)
                best = Best.zero(problem)
                if words is not None:
                    seed, e, q = unpack(self.codec, words[i])
                    everyone = np.arange(len(i))
                    known = reconstruction_error(problem, everyone, centred(self.codec, seed), e, q.T)
                    best.merge(everyone, known, seed, e, q.T)
                engine = engine or self._engine(problem, importance is None)
                best = engine.run(problem, best)
                out[i] = best.words(self.codec)
                err[i] = best.err * self.level[column[i]]
        return out, err

    def _engine(self, problem: Problem, plain: bool):
        if not plain:
            return make_engine(problem, self.engine, self.threads)
        if self.shared is None:
            self.shared = make_engine(problem, self.engine, self.threads)
        return self.shared

    # --- row scales -------------------------------------------------------------------------------
    def first_scales(self) -> np.ndarray:
        """float32 [rows]: for each row the factor of the smallest error on a sample of its blocks."""
        unit = np.sqrt(squares(self.w.astype(np.float64)) / self.w.shape[1]) / self.codec.denominator
        row, column, share = self._sample()
        err = np.full((self.rows, len(FACTORS)), np.nan)
        at = np.full(self.rows, FIRST_FACTOR)
        wanted = [(np.arange(self.rows), at + k) for k in (0, -1, 1)]
        while wanted:
            for rows, factor in wanted:
                scales = np.zeros(self.rows, np.float32)
                scales[rows] = clip_scale(np.array(FACTORS)[factor] * unit[rows])
                chosen = np.isin(row, rows)
                found = self.search(row[chosen], column[chosen], scales)[1] * share[chosen]
                total = np.bincount(row[chosen], found, self.rows)  # adds in the order of the blocks
                err[rows, factor] = total[rows]
            at = np.nanargmin(err, axis=1)
            wanted = []
            for k in (-1, 1):
                near = at + k
                rows = np.flatnonzero((near >= 0) & (near < len(FACTORS)))
                rows = rows[np.isnan(err[rows, near[rows]]) & (unit[rows] > 0)]
                if len(rows):
                    wanted.append((rows, near[rows]))
        return np.where(unit > 0, clip_scale(self._interpolate(err, at) * unit), 1).astype(np.float32)

    def _sample(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Blocks to compare scales on: (row, column, how many blocks each stands for).

        Blocks at even distances in the order of their energy, and the largest. With an importance the same
        columns for all rows, since an engine serves one column.
        """
        C, nb = self.codec.C, self.blocks
        energy = np.zeros((self.rows, nb))
        for r in range(self.rows):
            padded = np.zeros(nb * C)
            padded[: self.w.shape[1]] = self.w[r]
            padded *= padded
            if self.weights is not None:
                padded *= self.weights.ravel()
            blocks = padded.reshape(nb, C)
            for c in range(C):
                energy[r] += blocks[:, c]
        if self.weights is not None:
            energy[:] = np.add.reduce(energy, axis=0)
        order = np.argsort(energy, axis=1, kind="stable")
        largest = min(LARGEST, nb)
        step = min(SPARSEST, max(1, nb // SAMPLE))
        rest = np.arange((nb - largest) % step // 2, nb - largest, step)
        chosen = np.concatenate([order[:, rest], order[:, nb - largest :]], axis=1)
        share = np.concatenate([np.full(len(rest), (nb - largest) / max(1, len(rest))), np.ones(largest)])
        return np.repeat(np.arange(self.rows), chosen.shape[1]), chosen.ravel(), np.tile(share, self.rows)

    def _interpolate(self, err: np.ndarray, at: np.ndarray) -> np.ndarray:
        """The minimum of the parabola through the best factor and its neighbours."""
        factors = np.array(FACTORS)
        inner = np.clip(at, 1, len(FACTORS) - 2)
        below, here, above = (err[np.arange(len(at)), inner + k] for k in (-1, 0, 1))
        with np.errstate(divide="ignore", invalid="ignore"):
            shift = 0.5 * (below - above) / (below - 2 * here + above)
        shift = np.where((inner == at) & np.isfinite(shift), np.clip(shift, -1, 1), 0)
        near = factors[inner + np.where(shift < 0, -1, 1)]
        return np.where(inner == at, factors[inner] + np.abs(shift) * (near - factors[inner]), factors[at])

    def refit(self, words: np.ndarray, scales: np.ndarray) -> np.ndarray:
        """The scales that suit given words [rows, nb] best: <N, w> / <N, N>, float32 [rows].

        A row without a non-zero word keeps its scale.
        """
        out = scales.copy()
        for r in range(self.rows):
            n = np.ldexp(weights_int(self.codec, words[r]).astype(np.float64), unpack(self.codec, words[r])[1][:, None])
            n = n.ravel()[: self.w.shape[1]]
            weighted = n if self.importance is None else n * self.importance
            energy = np.add.reduce(weighted * n)
            if energy > 0:
                out[r] = clip_scale(np.add.reduce(weighted * self.w[r].astype(np.float64)) / energy)
        return out

    def run(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Words uint64 [rows, nb] and row scales float32 [rows] (None for codecs without)."""
        rows, nb = self.rows, self.blocks
        row, column = np.repeat(np.arange(rows), nb), np.tile(np.arange(nb), rows)
        if not self.codec.row_scales:
            return self.search(row, column, None)[0].reshape(rows, nb), None
        scales = self.first_scales()
        words, err = (x.reshape(rows, nb) for x in self.search(row, column, scales))
        active = np.arange(rows)
        for _ in range(ROUNDS - 1):
            before = np.array([np.add.reduce(err[r]) for r in active])
            part = RowSearch(self.codec, self.w[active], self.encoder, self.engine, 0, self.importance, self.threads)
            part.shared = self.shared
            better = part.refit(words[active], scales[active])
            moved = better != scales[active]
            scales[active] = better
            active, before = active[moved], before[moved]
            if not len(active):
                break
            i, j = np.repeat(active, nb), np.tile(np.arange(nb), len(active))
            found, after = self.search(i, j, scales, words[active].ravel())
            words[active], err[active] = found.reshape(-1, nb), after.reshape(-1, nb)
            gain = before - np.array([np.add.reduce(err[r]) for r in active])
            active = active[gain > WORTH * before]
        return words, self.refit(words, scales)

    def run_fed(self, feedback: Feedback) -> tuple[np.ndarray, np.ndarray | None]:
        """As `run`, with the errors of a block fed back to those behind it; the scales stay the first ones.

        A search in which columns count more or less takes longer: only where they differ.
        """
        C, (rows, cols) = self.codec.C, self.w.shape
        if any(part.start % C for part in feedback.parts):
            raise SeedLMError(f"codec {self.codec}: no errors can be fed back over {cols} columns: their second moments"
                              f" are in parts that do not begin with a word of {C} columns")  # fmt: skip
        scales = self.first_scales() if self.codec.row_scales else None
        original, row = np.asarray(self.w, dtype=np.float64), np.arange(rows)
        words = np.empty((rows, self.blocks), np.uint64)
        measure = None if feedback.even else feedback.measure
        blocks = RowSearch(self.codec, original.copy(), self.encoder, self.engine, self.bias, measure, self.threads)

        def code(first: int, last: int, targets: np.ndarray) -> np.ndarray:
            blocks.w[:, first:last] = targets
            column = first // C
            words[:, column] = blocks.search(row, np.full(rows, column), scales)[0]
            found = self.codec.values(words[:, column, None], last - first, self.bias)
            return found if scales is None else found * scales.astype(np.float64)[:, None]

        code_blocks(original, feedback, code, self.engine)
        return words, scales


def clip_scale(scale):
    """Row scales as float32 that are neither 0 nor infinite."""
    sign = np.where(scale < 0, -1.0, 1.0)
    return (sign * np.clip(np.abs(scale), SMALLEST_SCALE, LARGEST_SCALE)).astype(np.float32)


def encode_rows(w: np.ndarray, codec: SeedCodec, encoder: str = "optimal", *, bias: int = 0,
                importance: np.ndarray | None = None, feedback: Feedback | None = None, engine: str = "auto",
                threads: int | None = None) -> tuple[np.ndarray, np.ndarray | None]:  # fmt: skip
    """Words and row scales of some rows of a matrix: the unit of work.

    The result for a row depends on nothing but the row and the options.

    Parameters
    ----------
    w : np.ndarray
        Float [rows, cols], finite.
    codec : SeedCodec
        A codec with seeds.
    encoder : str
        ``optimal`` or ``paper``.
    bias : int
        The tensor's exponent bias; 0 with row scales.
    importance : np.ndarray or None
        float64 [cols], non-negative: the error of column c counts this much.
    feedback : Feedback or None
        In blocks of C columns, instead of an importance.
    engine, threads
        See `encoder.engines`; they do not change the result.

    Returns
    -------
    words : np.ndarray
        uint64 [rows, blocks].
    scales : np.ndarray or None
        float32 [rows] for codecs with row scales.
    """
    search = RowSearch(codec, w, encoder, engine, bias, importance, threads)
    return search.run() if feedback is None else search.run_fed(feedback)


def encode_blocks(w: np.ndarray, codec: SeedCodec, encoder: str = "optimal", *, scales: np.ndarray | None = None,
                  engine: str = "auto") -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Best words of single blocks.

    Parameters
    ----------
    w : np.ndarray
        Float [n, C], finite.
    codec : SeedCodec
    encoder : str
        ``optimal``: the global minimum over seed, exponent and coefficients; ``paper``: Algorithm 3 with the exponent
        rule of the design.
    scales : np.ndarray or None
        float32 [n], the row scale of each block, for codecs with row scales.
    engine : str
        See `encoder.seed.engines`.

    Returns
    -------
    words : np.ndarray
        uint64 [n].
    err : np.ndarray
        float64 [n], squared errors.
    """
    blocks = np.ascontiguousarray(np.asarray(w, dtype=np.float64).T)
    problem = Problem(codec, blocks, encoder, None if scales is None else np.asarray(scales, np.float64))
    best = make_engine(problem, engine).run(problem)
    return best.words(codec), best.err
