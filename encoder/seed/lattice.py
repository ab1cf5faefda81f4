"""The nearest lattice point: the globally best exponent and coefficients for given seeds (NumPy).

For a seed with A = Q R, the error of coefficients q at the step g = 2**e * unit / denominator is
``|w|^2 - |y|^2 + |y - g R q|^2`` with y = Q^T w. Since R is triangular the last term is a sum of squares, one
per coefficient from the last to the first: a tree that is cut wherever the sum so far already
exceeds the best error known. All surviving leaves are compared by `reconstruction_error`.
"""

from __future__ import annotations

import numpy as np

from seedlm.encoder.seed.problem import Best, Problem, reconstruction_error

__all__ = ["enumerate_words"]

# Relative margin of the bound over the rounding errors of y, R and the partial sums: far above 1e-12
# times the condition of the sums, far below anything that costs time.
MARGIN = 1e-7
LEVELS = np.arange(-8, 8)
SLICE = 512  # pairs worked on at a time: the tree stays in the cache


def enumerate_words(problem: Problem, best: Best, block: np.ndarray, seed: np.ndarray, a: np.ndarray,
                    y: np.ndarray, r: np.ndarray) -> None:  # fmt: skip
    """Improve `best` to the global minimum over exponent and coefficients of the given pairs.

    Parameters
    ----------
    problem, best
        `best` must hold errors that are really reached (or those of the zero block).
    block, seed : np.ndarray
        int [n]: the pairs.
    a, y, r : np.ndarray
        A(s) [P, C, n], Q^T w [P, n] and R [P, P, n] of the pairs, in the problem's measure.
    """
    rest = problem.norm[block] - (y * y).sum(axis=0)
    for start in range(0, len(block), SLICE):
        part = np.arange(start, min(start + SLICE, len(block)))
        part = part[rest[part] <= best.err[block[part]] + MARGIN * problem.norm[block[part]]]
        _enumerate(problem, best, block[part], seed[part], a[:, :, part], y[:, part], r[:, :, part], rest[part])


def _enumerate(problem, best, block, seed, a, y, r, rest) -> None:
    codec = problem.codec
    P = codec.P
    margin = MARGIN * problem.norm
    exponents = np.arange(codec.exponent_min, codec.exponent_max + 1)
    # A node: the index of its pair, its exponent, its coefficients so far, its partial sum.
    pair = np.repeat(np.arange(len(block)), len(exponents))
    e = np.tile(exponents, len(block))
    step = np.ldexp(1.0, e) * problem.unit[block[pair]] / problem.denominator
    total = rest[pair]
    q = np.zeros((P, len(pair)), np.int64)
    for p in range(P - 1, -1, -1):
        centre = y[p, pair]
        for k in range(p + 1, P):
            centre = centre - r[p, k, pair] * (step * q[k])
        distance = centre[:, None] - (r[p, p, pair] * step)[:, None] * LEVELS
        children = total[:, None] + distance * distance
        limit = best.err[block[pair]] + margin[block[pair]]
        node, level = np.nonzero(children <= limit[:, None])
        total = children[node, level]
        pair, e, step, q = pair[node], e[node], step[node], q[:, node]
        q[p] = LEVELS[level]
    err = reconstruction_error(problem, block[pair], a[:, :, pair], e, q)
    best.merge(block[pair], err, seed[pair], e, q)
