"""The compiled search engine: the structured bound on all cores.

Blocks sit in the lanes of vector registers, 16 at a time, and the seeds stream past in the order of
the register's cycle (`structure`). A seed whose bound reaches the threshold of a block is evaluated at
once, and the threshold of that block tightens. As in the NumPy engine, a start value of the
threshold only saves time: blocks that it does not prove are searched again.

Threads work on different blocks; nothing they compute depends on each other, so neither their number
nor their timing can be seen in the result.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from seedlm.encoder.engines import LANES, cores
from seedlm.encoder.seed.geometry import ranks
from seedlm.encoder.seed.kernels import projectors, search
from seedlm.encoder.seed.problem import Best, Problem
from seedlm.encoder.seed.structure import RANKS, SLACK, build, cycle

__all__ = ["NumbaEngine"]

UNIT = 512  # blocks per call of the compiled search
LEARN = 64  # blocks from which the first threshold is learnt
UNIT_ROUNDOFF = 2.0**-24


class NumbaEngine:
    """Search engine of one codec and one importance.

    Parameters
    ----------
    problem : Problem
        Gives codec and importance; its blocks are not used.
    start : float or None
        Threshold of the first sweep on the energy share. None: learnt from the blocks.
    threads : int or None
        None: one per processor.
    """

    name = "numba"

    def __init__(self, problem: Problem, start: float | None = None, threads: int | None = None) -> None:
        self.codec, self.importance = problem.codec, problem.importance
        self.metric = np.stack([problem.importance, problem.measure[:, 0]])
        self.start, self.learn = start, start is None
        self.threads = threads or cores()
        codec = self.codec
        C, P, K = codec.C, codec.P, codec.K
        self.order = cycle(K, (C + 1) * P)
        self.half = 1 << (K - 1)
        self.width = np.zeros(C)
        everything = np.arange(codec.seeds)
        # The structured bound needs equal importance, a table of 2**C entries, and a register long enough
        # that most seeds are within its margin.
        self.structured = (self.importance == 1).all() and P in RANKS and C <= 14 and K >= 14
        if self.structured:
            structure = build(codec)
            self.signs, self.constants, direct = structure.signs, structure.constants.ravel(), structure.direct
        else:
            self.signs, self.constants = np.zeros(1, np.int32), np.zeros(0, np.float32)
            direct = everything
        bases, shortest = np.empty((codec.seeds, P * C), np.float32), np.empty(codec.seeds)
        rank = projectors((0,) * P, self.width, self.order, self.half, self.metric, bases, shortest)
        self.short = np.argsort(shortest)
        self.shortest = shortest[self.short]
        rank, bases = rank[direct], bases[direct]
        doubtful = rank < P
        doubtful[doubtful] = rank[doubtful] < ranks(codec, self.order[direct[doubtful]], self.importance > 0)
        self.always = direct[doubtful]
        self.direct, self.bases = direct[~doubtful], bases[~doubtful].ravel()
        # Each of the P inner products is off by (C + 3) u at most; the rest is as in the NumPy engine.
        self.direct_slack = 2.1 * P**0.5 * (C + 4) * UNIT_ROUNDOFF + 1e-5
        self.second_sweeps = 0  # blocks that needed one, for the tests
        self.evaluated = 0  # pairs

    def run(self, problem: Problem, best: Best | None = None) -> Best:
        """The best word of every block. `best` may hold words already known, with their errors."""
        best = Best.zero(problem) if best is None else best
        blocks = np.column_stack([problem.blocks.T, problem.norm, problem.unit])
        found = np.column_stack([best.err, best.seed, best.e, best.q.T])
        todo = np.flatnonzero(problem.norm > 0)
        if self.start is None and len(todo):
            self._search(problem, blocks, found, todo[:LEARN], -1.0)
            self._adapt(problem, found, todo[:LEARN])
            todo = todo[LEARN:]
        if len(todo):
            self._search(problem, blocks, found, todo, self.start)
            unproven = todo[1 - found[todo, 0] / problem.norm[todo] - SLACK < self.start]
            self.second_sweeps += len(unproven)
            self._search(problem, blocks, found, unproven, -1.0)
            if self.learn:
                self._adapt(problem, found, todo)
        best.err[:] = found[:, 0]
        best.seed[:], best.e[:], best.q[:] = found[:, 1], found[:, 2], found[:, 3:].T
        return best

    def _adapt(self, problem: Problem, found: np.ndarray, index: np.ndarray) -> None:
        # Few blocks should need a second sweep; thresholds tighten so fast that a low start costs little.
        self.start = 1 - 1.1 * float(np.quantile(found[index, 0] / problem.norm[index], 0.98)) - SLACK

    def _search(self, problem: Problem, blocks: np.ndarray, found: np.ndarray, index: np.ndarray, start: float) -> None:
        codec, faint = self.codec, problem.faint

        def unit(part: np.ndarray) -> int:
            return search(
                (0,) * codec.P, self.width, blocks, problem.denominator, self.metric, codec.exponent_min,
                codec.exponent_max, problem.encoder == "optimal", part, self.order, self.half, self.signs,
                self.constants, SLACK, self.direct, self.bases, self.direct_slack, self.always, self.short,
                self.shortest, faint, start, found,
            )  # fmt: skip

        # Small searches are shared out too, in groups that fill the vectors.
        size = min(UNIT, max(LANES, -(-len(index) // self.threads // LANES) * LANES))
        units = [index[i : i + size] for i in range(0, len(index), size)]
        if self.threads == 1 or len(units) <= 1:
            self.evaluated += sum(map(unit, units))
            return
        with ThreadPoolExecutor(self.threads) as pool:
            self.evaluated += sum(pool.map(unit, units))
