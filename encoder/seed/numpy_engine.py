"""The search without further dependencies: a matrix product as an exact bound.

Whatever the exponent and the coefficients, the error of a block w with the seed s is at least
``|w|^2 (1 - E_s)``, where E_s is the share of the energy of w in the range of A(s). E_s is linear in
w w^T, so the upper triangles of w w^T and of the projectors make one single-precision matrix product
that gives it for every pair of a block and a seed. Only seeds whose bound lies below the best error
known are evaluated.

The first sweep looks at seeds with E_s above a threshold that suits most blocks; it proves a block
whose best error ends up below the bound of everything it left out. The others are swept again with
the threshold that their best error so far proves. The threshold thus decides the time, never the
result.
"""

from __future__ import annotations

import numpy as np

from seedlm.encoder.seed.geometry import FEW, centred, fit, orthonormal, project, ranks
from seedlm.encoder.seed.lattice import enumerate_words
from seedlm.encoder.seed.problem import Best, Problem, paper_candidates

__all__ = ["NumpyEngine"]

SEED_TILE = 8192  # seeds per matrix product
BLOCK_TILE = 128  # blocks per matrix product: 4 MiB of bounds
PAIR_TILE = 8192  # pairs evaluated at a time
TABLE_LIMIT = 768 << 20  # bytes of projectors that are kept; beyond, they are computed again when needed
UNIT_ROUNDOFF = 2.0**-24


class NumpyEngine:
    """Search engine of one codec and one importance.

    Parameters
    ----------
    problem : Problem
        Gives codec and importance; its blocks are not used.
    start : float or None
        Threshold of the first sweep on E_s. None: learnt from the blocks.
    """

    name = "numpy"

    def __init__(self, problem: Problem, start: float | None = None) -> None:
        self.codec, self.importance, self.measure = problem.codec, problem.importance, problem.measure
        self.start, self.learn = start, start is None
        C, P = self.codec.C, self.codec.P
        self.rows, self.cols = np.triu_indices(C)
        # Rounding of the product: at most (terms + 3) u times the sum of magnitudes, which Cauchy-Schwarz bounds
        # by |w w^T| |projector| = sqrt(P). The last summand covers the projectors (DEPENDENT) and the threshold.
        self.slack = (len(self.rows) + 3) * UNIT_ROUNDOFF * np.sqrt(P) * 1.01 + 1e-5
        self.starts = range(1, self.codec.seeds + 1, SEED_TILE)
        self.tables: dict[int, np.ndarray] = {}
        self.short: tuple[np.ndarray, np.ndarray] | None = None
        self.second_sweeps = 0  # blocks that needed one, for the tests
        self.evaluated = 0  # pairs

    def table(self, start: int) -> np.ndarray:
        """float32 [triangle, seeds]: the projectors of a tile of seeds, off-diagonal entries doubled."""
        if start in self.tables:
            return self.tables[start]
        seeds = np.arange(start, min(start + SEED_TILE, self.codec.seeds + 1))
        q, r = orthonormal(centred(self.codec, seeds) * self.measure)
        table = np.empty((len(self.rows), len(seeds)), np.float32)
        for i, (c, d) in enumerate(zip(self.rows, self.cols, strict=True)):
            table[i] = (q[:, c] * q[:, d]).sum(axis=0) * (1 if c == d else 2)
        # A seed that lost a column to rounding is let through the bound.
        found = (np.einsum("ppn->pn", r) > 0).sum(axis=0)
        doubtful = np.flatnonzero(found < self.codec.P)
        lost = found[doubtful] < ranks(self.codec, seeds[doubtful], self.importance > 0)
        table[:, doubtful[lost]] = ((self.rows == self.cols) * 2.0)[:, None]
        if len(self.starts) * table.nbytes <= TABLE_LIMIT:
            self.tables[start] = table
        return table

    def shortest(self) -> tuple[np.ndarray, np.ndarray]:
        """Seeds in the order of a lower bound of their lengths |A q|, q != 0, and these bounds."""
        if self.short is None:
            bounds = np.empty(self.codec.seeds)
            for start in self.starts:
                seeds = np.arange(start, min(start + SEED_TILE, self.codec.seeds + 1))
                _, r = orthonormal(centred(self.codec, seeds) * self.measure)
                bounds[seeds - 1] = np.einsum("ppn->pn", r).min(axis=0)
            order = np.argsort(bounds)
            self.short = order + 1, bounds[order]
        return self.short

    def run(self, problem: Problem, best: Best | None = None) -> Best:
        """The best word of every block. `best` may hold words already known, with their errors."""
        out = Best.zero(problem) if best is None else best
        count = np.searchsorted(self.shortest()[1], problem.faint)
        few = count * FEW < self.codec.seeds
        for i in np.flatnonzero(few & (problem.norm > 0)):
            self._evaluate(problem, out, np.full(count[i], i), self.short[0][: count[i]])
        todo = np.flatnonzero(~few & (problem.norm > 0))
        for first in range(0, len(todo), BLOCK_TILE):
            index = todo[first : first + BLOCK_TILE]
            part = problem.take(index)
            found = Best(out.err[index], out.seed[index], out.e[index], out.q[:, index])
            if self.start is None:  # nothing learnt yet: prove every block by itself
                self._sweep_proven(part, found)
            else:
                self._sweep_started(part, found)
            if self.learn:
                # Most blocks should need one sweep; a lower start would let more seeds through for all.
                self.start = float(np.quantile(1 - found.err / part.norm, 0.1)) - self.slack
            out.put(index, found)
        return out

    def _lift(self, problem: Problem) -> np.ndarray:
        w = problem.blocks * self.measure / np.sqrt(problem.norm)
        return np.ascontiguousarray((w[self.rows] * w[self.cols]).astype(np.float32).T)

    def _allowed(self, problem: Problem, best: Best) -> np.ndarray:
        """The least E_s with which a seed may still win, per block."""
        return (1 - best.err / problem.norm - self.slack).astype(np.float32)

    def _sweep_started(self, problem: Problem, best: Best) -> None:
        lifted = self._lift(problem)
        pairs = []
        for start in self.starts:
            energy = lifted @ self.table(start)
            flat = np.flatnonzero(energy >= np.float32(self.start))
            pairs.append((flat // energy.shape[1], flat % energy.shape[1] + start, energy.ravel()[flat]))
        self._evaluate_best_first(problem, best, *(np.concatenate(x) for x in zip(*pairs, strict=True)))
        unproven = np.flatnonzero(self._allowed(problem, best) < np.float32(self.start))
        if len(unproven):
            self.second_sweeps += len(unproven)
            rest = Best(best.err[unproven], best.seed[unproven], best.e[unproven], best.q[:, unproven])
            self._sweep_proven(problem.take(unproven), rest)
            best.put(unproven, rest)

    def _sweep_proven(self, problem: Problem, best: Best) -> None:
        lifted = self._lift(problem)
        # The seed with the largest bound of each tile: a good error to start from.
        top = np.stack([(lifted @ self.table(start)).argmax(axis=1) + start for start in self.starts])
        self._evaluate(problem, best, np.tile(np.arange(len(problem)), len(top)), top.ravel())
        for start in self.starts:
            energy = lifted @ self.table(start)
            flat = np.flatnonzero(energy >= self._allowed(problem, best)[:, None])
            block, seed = flat // energy.shape[1], flat % energy.shape[1] + start
            self._evaluate_best_first(problem, best, block, seed, energy.ravel()[flat])

    def _evaluate_best_first(self, problem: Problem, best: Best, block, seed, energy) -> None:
        """Evaluate pairs, those with the best bounds first, so that they rule out others."""
        order = np.lexsort((-energy, block))
        rank = np.empty(len(order), np.int64)
        first = np.r_[0, np.flatnonzero(np.diff(block[order])) + 1]
        rank[order] = np.arange(len(order)) - np.repeat(first, np.diff(np.r_[first, len(order)])) if len(order) else 0
        done = 0
        for upto in (2, 8, 32, 256, len(order)):  # ranks
            now = np.flatnonzero((rank >= done) & (rank < upto))
            now = now[energy[now] >= self._allowed(problem, best)[block[now]]]
            self._evaluate(problem, best, block[now], seed[now])
            done = upto

    def _evaluate(self, problem: Problem, best: Best, block: np.ndarray, seed: np.ndarray) -> None:
        for first in range(0, len(block), PAIR_TILE):
            i, s = block[first : first + PAIR_TILE], seed[first : first + PAIR_TILE]
            self.evaluated += len(i)
            a = centred(self.codec, s)
            q, r = orthonormal(a * self.measure[:, :, None].reshape(1, -1, 1))
            y = project(q, problem.blocks[:, i] * self.measure)
            err, e, coefficients = paper_candidates(problem, i, a, fit(r, y))
            best.merge(i, err, s, e, coefficients)
            if problem.encoder == "optimal":
                enumerate_words(problem, best, i, s, a, y, r)
