"""The plain exhaustive search: every seed, no bound, no pruning.

It is the definition of the `paper` encoder in vectorised form, the oracle of the engines, and the
yardstick of their speed.
"""

from __future__ import annotations

import numpy as np

from seedlm.encoder.seed.geometry import centred, fit, orthonormal, project
from seedlm.encoder.seed.problem import Best, Problem, paper_candidates

__all__ = ["ExhaustiveSearch"]

TILE = 4096  # seeds at a time: their tables then stay in the cache from block to block


class ExhaustiveSearch:
    """`paper` encoder over all 2**K - 1 seeds, one block and a tile of seeds at a time.

    The tables of a codec and an importance are computed once, so that an instance can be used for many blocks.
    """

    def __init__(self, problem: Problem) -> None:
        codec = problem.codec
        self.codec, self.importance = codec, problem.importance
        self.tiles = []
        for start in range(1, codec.seeds + 1, TILE):
            seeds = np.arange(start, min(start + TILE, codec.seeds + 1))
            a = centred(codec, seeds)
            self.tiles.append((seeds, a, *orthonormal(a * problem.measure)))

    def run(self, problem: Problem) -> Best:
        """The best word of each block, among all seeds and the zero block."""
        best = Best.zero(problem)
        w = problem.blocks * problem.measure
        for seeds, a, q, r in self.tiles:
            for i in range(len(problem)):
                block = np.full(len(seeds), i)
                t = fit(r, project(q, w[:, i : i + 1]))
                err, e, coefficients = paper_candidates(problem, block, a, t)
                top = err.argmin()  # the first of the smallest: the smallest seed
                best.merge(block[:1], err[top, None], seeds[top, None], e[top, None], coefficients[:, top, None])
        return best
