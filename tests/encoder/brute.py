"""Brute force, compiled: both encoders as their definitions say, seed by seed, in plain loops.

Nothing is shared with the searches that are compared with it, save the definition: the register steps bit by bit, every
seed is looked at for every block, nothing is bounded, sorted or left out.

Why equality may be demanded of every word, with no tolerance. A candidate's error is defined down to the order of its
float64 operations (`encoder.problem`), and so are the least-squares coefficients of the `paper` encoder
(`encoder.geometry`): modified Gram-Schmidt in ascending columns and rows, a second pass where less than a hundredth
of a column is left, back-substitution. These are repeated here one by one, and the compiler may neither reorder nor
fuse them. Any other order would be as right, but its last bits differ, and lattice points and one-hot blocks have
coefficients exactly between two integers, where the last bit decides on the word. That the definition itself means
what it should is for `test_engines.literal_paper`, which solves the least squares by LAPACK.

For the `optimal` encoder all words are compared, and only errors count, so that no such choice is left: a word is the
optimum if its error is the smallest, and the first in the order of (seed, exponent, coefficients) on a tie.
"""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import njit

from seedlm.encoder.seed.problem import Best, Problem
from seedlm.golden.lfsr import TAPS

__all__ = ["brute_force"]


def brute_force(problem: Problem, every: bool = False) -> Best:
    """The best word of each block.

    Parameters
    ----------
    problem : Problem
    every : bool
        For `optimal`: try all values of the first coefficient too, instead of the nearest (see `nearest`).
    """
    c = problem.codec
    best = Best.zero(problem)
    taps = np.array(TAPS[c.K])
    e = np.arange(c.exponent_min, c.exponent_max + 1)
    search = paper if problem.encoder == "paper" else optimal

    def work(part: slice) -> None:
        search(
            (0,) * c.P, (0,) * c.C, c.K, taps, c.exponent_min, 2.0**e, every,
            np.ascontiguousarray(problem.blocks.T[part]), problem.importance, problem.unit[part], problem.denominator,
            problem.norm[part], best.err[part], best.seed[part], best.e[part], best.q[:, part],
        )  # fmt: skip

    threads = os.cpu_count() or 1
    size = max(1, min(256, -(-len(problem) // threads)))
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, (slice(i, i + size) for i in range(0, len(problem), size))))
    return best


@njit(nogil=True, cache=True, error_model="numpy")
def matrix(P, K, taps, seed, a):
    """A(s) = V(s) - 2**(K-1): V is filled row by row with the states after s."""
    state = seed
    for c in range(a.shape[1]):
        for p in range(P):
            feedback = 0
            for tap in taps:
                feedback ^= state >> tap & 1
            state = state >> 1 | feedback << K - 1
            a[p, c] = state - (1 << K - 1)


@njit(nogil=True, cache=True, error_model="numpy")
def orthogonalise(P, a, measure, q, r):
    """QR of A(s) in the measure; a dependent column becomes zero."""
    C = a.shape[1]
    v = np.empty(C)
    r[:] = 0
    for p in range(P):
        own = 0.0
        for c in range(C):
            v[c] = a[p, c] * measure[c]
            own += v[c] * v[c]
        rest = own
        for again in range(2):
            if p == 0 or (again and rest >= 0.01 * own):
                break
            for k in range(p):
                part = 0.0
                for c in range(C):
                    part += q[k, c] * v[c]
                for c in range(C):
                    v[c] -= part * q[k, c]
                r[k, p] += part
            rest = 0.0
            for c in range(C):
                rest += v[c] * v[c]
        length = math.sqrt(rest)
        if length > 1e-10 * math.sqrt(own):
            r[p, p] = length
            for c in range(C):
                q[p, c] = v[c] / length
        else:
            for c in range(C):
                q[p, c] = 0.0


@njit(nogil=True, cache=True, error_model="numpy")
def error(rank, width, a, t, power, w, importance, unit, denominator, parts):
    """The error of the word with coefficients t and the exponent's power of two. `parts` is scratch."""
    for c in range(len(width)):
        n = 0.0
        for p in range(len(rank)):
            n += a[p, c] * t[p]
        rest = w[c] - n * power * unit / denominator
        parts[c] = rest * rest * importance[c]
    total = 0.0
    for c in range(len(width)):
        total += parts[c]
    return total


@njit(nogil=True, cache=True, error_model="numpy")
def paper(rank, width, K, taps, low, powers, every, blocks, importance, units, denominator, norm, err, seeds, e, q):
    P, C = len(rank), len(width)
    measure = np.sqrt(importance)
    a, basis, r = np.empty((P, C)), np.empty((P, C)), np.empty((P, P))
    y, t, parts = np.empty(P), np.empty(P), np.empty(C)
    for seed in range(1, 1 << K):
        matrix(P, K, taps, seed, a)
        orthogonalise(P, a, measure, basis, r)
        for i in range(len(blocks)):
            w = blocks[i]
            for p in range(P):
                y[p] = 0.0
                for c in range(C):
                    y[p] += basis[p, c] * (w[c] * measure[c])
            top = 0.0
            for p in range(P - 1, -1, -1):
                x = y[p]
                for k in range(p + 1, P):
                    x -= r[p, k] * t[k]
                t[p] = x / r[p, p] if r[p, p] > 0 else 0.0
            for p in range(P):
                t[p] = t[p] * denominator / units[i]
                top = max(top, abs(t[p]))
            # e = floor(log2 of the largest) - 2 within the codec's exponents
            at = 0
            while at + 1 < len(powers) and 8 * powers[at] <= top:
                at += 1
            zero = True
            for p in range(P):
                t[p] = min(7.0, max(-8.0, np.rint(t[p] / powers[at])))  # ties to even
                zero = zero and t[p] == 0
            if zero:
                continue  # the zero block, which is there from the start
            found = error(rank, width, a, t, powers[at], w, importance, units[i], denominator, parts)
            if found < err[i]:  # so the smallest seed on a tie
                err[i], seeds[i], e[i] = found, seed, low + at
                for p in range(P):
                    q[p, i] = int(t[p])


@njit(nogil=True, cache=True, error_model="numpy")
def nearest(x, safe):
    """The values of the first coefficient that may be best: (first, last).

    With the other coefficients fixed the error is a parabola in the first with its minimum at x, so that the integer
    nearest to x, within -8 to 7, is best. With x close to halfway both neighbours are tried. Otherwise the
    second best is worse by more than 0.001 of a step's energy: `safe` says that no rounding of the two errors hides
    that much, else all are tried. (Compared with all words, each coefficient from -8 to 7, in `test_engines`.)
    """
    if not safe:
        return -8.0, 7.0
    first = last = np.rint(x)
    if abs(x - first) > 0.499:
        first, last = math.floor(x), math.ceil(x)
    return min(7.0, max(-8.0, first)), min(7.0, max(-8.0, last))


@njit(nogil=True, cache=True, error_model="numpy")
def optimal(rank, width, K, taps, low, powers, every, blocks, importance, units, denominator, norm, err, seeds, e, q):
    P, C = len(rank), len(width)
    a, gram, t, parts = np.empty((P, C)), np.empty(P), np.empty(P), np.empty(C)
    for seed in range(1, 1 << K):
        matrix(P, K, taps, seed, a)
        for p in range(P):
            gram[p] = 0.0
            for c in range(C):
                gram[p] += importance[c] * a[0, c] * a[p, c]
        own = gram[0]
        for p in range(P):
            gram[p] /= own
        for i in range(len(blocks)):
            w = blocks[i]
            inner = 0.0
            for c in range(C):
                inner += importance[c] * a[0, c] * w[c]
            for at in range(len(powers)):
                step = powers[at] * units[i] / denominator
                # Two errors below that of the zero block are off by less than 1e-14 of it together.
                safe = not every and 0.001 * step * step * own > 1e-14 * norm[i]
                start = inner / step / own if safe else 0.0
                for others in range(1 << 4 * (P - 1)):
                    middle = start
                    for p in range(1, P):
                        t[p] = (others >> 4 * (P - 1 - p) & 15) - 8
                        middle -= gram[p] * t[p]
                    first, last = nearest(middle, safe)
                    while first <= last:
                        t[0] = first
                        first += 1
                        found = error(rank, width, a, t, powers[at], w, importance, units[i], denominator, parts)
                        if found < err[i] or (found == err[i] and seeds[i] == seed and e[i] == low + at):
                            better, zero = found < err[i], True
                            for p in range(P):
                                zero = zero and t[p] == 0
                            if not better:  # the first in the order of coefficients
                                for p in range(P):
                                    if t[p] != q[p, i]:
                                        better = t[p] < q[p, i]
                                        break
                            if better and not zero:
                                err[i], seeds[i], e[i] = found, seed, low + at
                                for p in range(P):
                                    q[p, i] = int(t[p])
