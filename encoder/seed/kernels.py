"""The compiled search: bound, evaluation and enumeration for groups of 16 blocks.

The evaluation repeats the operations of `geometry`, `quantise` and `problem` one by one, in float64 and
in the same order, so that it gives the same bits; only the bound is in single precision.

Arrays that go through these functions:

- `rank`: a tuple of P zeros, so that the compiler knows P; `width`: an array of C elements;
- `blocks`: float64 [n, C + 2], a block's weights, its norm, its unit (see `problem`);
- `found`: float64 [n, 3 + P], its best error, seed, exponent and coefficients (all exact in float64);
- `metric`: float64 [2, C], the importance and its square root;
- `order`: the cycle of the register; position n stands for the seed ``order[n]``;
- `work`: float64 [3 P + 6, max(C, P + 1)], scratch: rows of A, Q, R and six vectors.
"""

from __future__ import annotations

import math

import numpy as np
from numba.extending import overload, register_jitable

from seedlm.encoder.compiled import compiled
from seedlm.encoder.engines import LANES
from seedlm.encoder.seed.geometry import DEPENDENT, FEW, ONCE
from seedlm.encoder.seed.lattice import MARGIN
from seedlm.encoder.seed.quantise import POWERS
from seedlm.encoder.seed.structure import WARM
from seedlm.encoder.seed.vectors import affine, at_least, fetch, larger, load, multiply, splat, square_add

__all__ = ["projectors", "search"]

GROUP = 8  # seeds whose bounds are looked at together
HALF, LOWEST, NOTHING = np.float32(0.5), np.float32(-1), np.float32(0)


# --- bound ----------------------------------------------------------------------------------------
def energy(rank, table, signs, gs, n, h):
    """Energy share of 16 blocks for position n; `h` belongs to n + 1 (see `structure.Structure`)."""


@overload(energy)
def _energy(rank, table, signs, gs, n, h):
    def energy2(rank, table, signs, gs, n, h):
        g, z0 = 2 * n, load(table, fetch(signs, WARM + n + 2))
        t1 = affine(fetch(gs, g), z0, multiply(fetch(gs, g + 1), h))
        return square_add(t1, square_add(z0, splat(NOTHING)))

    def energy3(rank, table, signs, gs, n, h):
        g, z0 = 5 * n, load(table, fetch(signs, WARM + n + 2))
        z1 = load(table, fetch(signs, WARM + n + 3))
        t1 = affine(fetch(gs, g), z0, multiply(fetch(gs, g + 1), z1))
        t2 = affine(fetch(gs, g + 2), z0, affine(fetch(gs, g + 3), z1, multiply(fetch(gs, g + 4), h)))
        return square_add(t2, square_add(t1, square_add(z0, splat(NOTHING))))

    def energy4(rank, table, signs, gs, n, h):
        g, z0 = 9 * n, load(table, fetch(signs, WARM + n + 2))
        z1, z2 = load(table, fetch(signs, WARM + n + 3)), load(table, fetch(signs, WARM + n + 4))
        t1 = affine(fetch(gs, g), z0, multiply(fetch(gs, g + 1), z1))
        t2 = affine(fetch(gs, g + 2), z0, affine(fetch(gs, g + 3), z1, multiply(fetch(gs, g + 4), z2)))
        t3 = affine(fetch(gs, g + 7), z2, multiply(fetch(gs, g + 8), h))
        t3 = affine(fetch(gs, g + 5), z0, affine(fetch(gs, g + 6), z1, t3))
        return square_add(t3, square_add(t2, square_add(t1, square_add(z0, splat(NOTHING)))))

    def energy5(rank, table, signs, gs, n, h):
        g, z0 = 14 * n, load(table, fetch(signs, WARM + n + 2))
        z1, z2 = load(table, fetch(signs, WARM + n + 3)), load(table, fetch(signs, WARM + n + 4))
        z3 = load(table, fetch(signs, WARM + n + 5))
        t1 = affine(fetch(gs, g), z0, multiply(fetch(gs, g + 1), z1))
        t2 = affine(fetch(gs, g + 2), z0, affine(fetch(gs, g + 3), z1, multiply(fetch(gs, g + 4), z2)))
        t3 = affine(fetch(gs, g + 7), z2, multiply(fetch(gs, g + 8), z3))
        t3 = affine(fetch(gs, g + 5), z0, affine(fetch(gs, g + 6), z1, t3))
        t4 = affine(fetch(gs, g + 12), z3, multiply(fetch(gs, g + 13), h))
        t4 = affine(fetch(gs, g + 10), z1, affine(fetch(gs, g + 11), z2, t4))
        t4 = affine(fetch(gs, g + 9), z0, t4)
        return square_add(t4, square_add(t3, square_add(t2, square_add(t1, square_add(z0, splat(NOTHING))))))

    # Other ranks never get here: their tables of constants are empty.
    return {2: energy2, 3: energy3, 4: energy4, 5: energy5}.get(len(rank), energy2)


@compiled
def scan(rank, table, signs, constants, threshold, n, period, h):
    """The next group of positions with a bound that reaches a threshold: (its start, h before it, h after it)."""
    limit = load(threshold, 0)
    before = h
    while n + GROUP <= period:
        before = h
        most = splat(LOWEST)
        for k in range(n, n + GROUP):
            h = affine(HALF, h, load(table, fetch(signs, WARM + k + 1)))
            most = larger(most, energy(rank, table, signs, constants, k, h))
        if at_least(most, limit):
            return n, before, h
        n += GROUP
    return n, h, h


@register_jitable
def direct_energy(rank, width, q, i, lanes):
    """The same from an orthonormal basis: float32 q [n, P * C]."""
    P, C = len(rank), len(width)
    total = splat(NOTHING)
    for p in range(P):
        t = splat(NOTHING)
        for c in range(C):
            t = affine(fetch(q, (i * P + p) * C + c), load(lanes, c), t)
        total = square_add(t, total)
    return total


@register_jitable
def fill_table(lanes, C, table):
    """beta . w for all sign vectors: float32 [2**C, 16] from float32 [C, 16]."""
    for lane in range(LANES):
        table[0, lane] = 0
        for c in range(C):
            table[0, lane] -= lanes[c, lane]
    for c in range(C):
        for i in range(1 << c):
            for lane in range(LANES):
                table[i + (1 << c), lane] = table[i, lane] + np.float32(2) * lanes[c, lane]


# --- evaluation: the operations of geometry.py, quantise.py and problem.py ------------------------
@register_jitable
def basis(rank, width, order, n, half, metric, work):
    """A(s) and its QR decomposition in the measure into `work`; returns the rank found."""
    P, C = len(rank), len(width)
    Q, R, V = P, 2 * P, 3 * P
    for c in range(C):
        for p in range(P):
            work[p, c] = float(order[n + 1 + c * P + p] - half)
    independent = 0
    for p in range(P):
        own = 0.0
        for c in range(C):
            work[V, c] = work[p, c] * metric[1, c]
            own += work[V, c] * work[V, c]
        rest = own
        for k in range(P):
            work[R + k, p] = 0.0
        for again in range(2 if p else 0):
            if again and not rest < ONCE * own:
                break
            for k in range(p):
                part = work[Q + k, 0] * work[V, 0]
                for c in range(1, C):
                    part += work[Q + k, c] * work[V, c]
                for c in range(C):
                    work[V, c] -= part * work[Q + k, c]
                work[R + k, p] += part
            rest = work[V, 0] * work[V, 0]
            for c in range(1, C):
                rest += work[V, c] * work[V, c]
        length = math.sqrt(rest)
        if length > DEPENDENT * math.sqrt(own):
            work[R + p, p] = length
            independent += 1
            for c in range(C):
                work[Q + p, c] = work[V, c] / length
        else:
            for c in range(C):
                work[Q + p, c] = 0.0
    return independent


@compiled
def projectors(rank, width, order, half, metric, out, shortest):
    """For all positions: the orthonormal basis into float32 out [n, P * C] and a lower bound of the lengths |A q|,
    q != 0, into shortest [n]; returns the ranks found.
    """
    P, C = len(rank), len(width)
    work = np.empty((3 * P + 6, max(C, P + 1)))
    found = np.zeros(len(out), np.int64)
    for i in range(len(out)):
        found[i] = basis(rank, width, order, i, half, metric, work)
        shortest[i] = work[2 * P, 0]
        for p in range(1, P):
            shortest[i] = min(shortest[i], work[2 * P + p, p])
        for p in range(P):
            for c in range(C):
                out[i, p * C + c] = work[P + p, c]
    return found


@register_jitable
def try_seed(rank, width, i, seed, exponent, T, metric, blocks, denominator, found, work):
    """Take a candidate with the coefficients in row T of `work` into account: reference error, total order."""
    P, C = len(rank), len(width)
    total = 0.0
    step, unit = POWERS[exponent], blocks[i, C + 1]
    for c in range(C):
        weight = work[0, c] * work[T, 0]
        for p in range(1, P):
            weight += work[p, c] * work[T, p]
        weight = weight * step * unit / denominator
        rest = blocks[i, c] - weight
        total += rest * rest * metric[0, c]
    if total > found[i, 0]:
        return
    if total == found[i, 0]:
        if seed > found[i, 1]:
            return
        if seed == found[i, 1]:
            if exponent > found[i, 2]:
                return
            if exponent == found[i, 2]:
                for p in range(P):
                    if work[T, p] != found[i, 3 + p]:
                        if work[T, p] > found[i, 3 + p]:
                            return
                        break
    zero = True
    for p in range(P):
        zero = zero and work[T, p] == 0
    if zero:
        return
    found[i, 0], found[i, 1], found[i, 2] = total, seed, exponent
    for p in range(P):
        found[i, 3 + p] = work[T, p]


@register_jitable
def enumerate_lattice(rank, width, i, seed, low, high, rest, metric, blocks, denominator, found, work):
    """All exponents and coefficients that may still win, see `lattice`: depth first."""
    P, C = len(rank), len(width)
    R, Y, T, LAST, TOTAL, CENTRE = 2 * P, 3 * P + 1, 3 * P + 2, 3 * P + 3, 3 * P + 4, 3 * P + 5
    margin = MARGIN * blocks[i, C]
    for exponent in range(low, high + 1):
        step = POWERS[exponent] * blocks[i, C + 1] / denominator
        p = P - 1
        work[TOTAL, P] = rest
        arrive = True
        while p < P:
            limit = found[i, 0] + margin
            if arrive:  # the range of coefficients within the limit
                x = work[Y, p]
                for k in range(p + 1, P):
                    x -= work[R + p, k] * (step * work[T, k])
                work[CENTRE, p] = x
                room = limit - work[TOTAL, p + 1]
                g = work[R + p, p] * step
                first, last = -8.0, 7.0
                if room < 0:
                    last = -9.0
                elif g > 0:
                    room = math.sqrt(room)
                    first = max(-8.0, math.ceil((x - room) / g - 1e-6))
                    last = min(7.0, math.floor((x + room) / g + 1e-6))
                work[T, p], work[LAST, p] = first, last
                arrive = False
            else:
                work[T, p] += 1
            if work[T, p] > work[LAST, p]:
                p += 1
                continue
            d = work[CENTRE, p] - work[R + p, p] * step * work[T, p]
            work[TOTAL, p] = work[TOTAL, p + 1] + d * d
            if work[TOTAL, p] <= limit:
                if p == 0:
                    try_seed(rank, width, i, seed, exponent, T, metric, blocks, denominator, found, work)
                else:
                    p -= 1
                    arrive = True


@compiled
def evaluate(rank, width, i, order, n, half, low, high, optimal, metric, blocks, denominator, found, work):
    """Position n for block i."""
    P, C = len(rank), len(width)
    Q, R, Y, T = P, 2 * P, 3 * P + 1, 3 * P + 2
    basis(rank, width, order, n, half, metric, work)
    rest = blocks[i, C]
    for p in range(P):
        x = work[Q + p, 0] * (blocks[i, 0] * metric[1, 0])
        for c in range(1, C):
            x += work[Q + p, c] * (blocks[i, c] * metric[1, c])
        work[Y, p] = x
        rest -= x * x
    if rest > found[i, 0] + MARGIN * blocks[i, C]:
        return
    top = 0.0
    for p in range(P - 1, -1, -1):
        x = work[Y, p]
        for k in range(p + 1, P):
            x -= work[R + p, k] * work[T, k]
        work[T, p] = x / work[R + p, p] if work[R + p, p] > 0 else 0.0
    for p in range(P):
        work[T, p] = work[T, p] * denominator / blocks[i, C + 1]
        top = max(top, abs(work[T, p]))
    exponent = low
    if top > 0:
        exponent = min(max(math.frexp(top)[1] - 3, low), high)
    step = POWERS[-exponent]
    for p in range(P):
        work[T, p] = min(max(np.rint(work[T, p] * step), -8.0), 7.0)
    try_seed(rank, width, i, order[n], exponent, T, metric, blocks, denominator, found, work)
    if optimal:
        enumerate_lattice(rank, width, i, order[n], low, high, rest, metric, blocks, denominator, found, work)


# --- the search ---------------------------------------------------------------------------------
@compiled
def search(rank, width, blocks, denominator, metric, low, high, optimal, index, order, half,
           signs, constants, slack, direct, bases, direct_slack, always,
           short, shortest, faint, start, found):  # fmt: skip
    """Search all seeds for some blocks and improve `found`.

    Parameters
    ----------
    rank, width, blocks, metric, order, found
        See the top of this file.
    denominator : float
    low, high : int
        Range of the exponent.
    optimal : bool
        Enumerate exponents and coefficients, rather than quantise.
    index : int64 [m]
        Which blocks; their norm is positive.
    half : int
        2**(K-1).
    signs, constants
        See `structure`, the constants one row after the other; none: no structured bound.
    direct, bases
        Positions that are bounded by their orthonormal bases, float32 [len(direct) * P * C].
    slack, direct_slack : float
        How far the two bounds may lie below the truth.
    always
        Positions that are evaluated for every block.
    short, shortest, faint
        All positions in the order of their shortest word, these lengths, and the lengths float64 [n] that can
        beat the zero block (`problem.Problem.faint`): a block for which few positions can is evaluated for
        them alone.
    start : float
        Least energy share that is looked at; a block whose error is not below what it leaves is not proven.

    Returns
    -------
    int
        Number of evaluated pairs.
    """
    P, C = len(rank), len(width)
    period = len(order) - (C + 1) * P if len(constants) else 0
    table = np.empty((1 << C if period else 1, LANES), np.float32)
    scaled = np.empty((C, LANES), np.float32)
    threshold = np.empty((1, LANES), np.float32)
    done = np.zeros(LANES, np.bool_)
    work = np.empty((3 * P + 6, max(C, P + 1)))
    evaluated = 0
    for first in range(0, len(index), LANES):
        used = min(LANES, len(index) - first)
        scaled[:] = 0
        threshold[:] = 2
        for lane in range(used):
            i = index[first + lane]
            length = math.sqrt(blocks[i, C])
            for c in range(C):
                scaled[c, lane] = blocks[i, c] * metric[1, c] / length / math.sqrt(C)
            count = np.searchsorted(shortest, faint[i])
            done[lane] = count * FEW < len(short)
            few = short[:count] if done[lane] else always
            for n in few:
                evaluate(rank, width, i, order, n, half, low, high, optimal, metric, blocks, denominator, found, work)
                evaluated += 1
            if done[lane]:
                continue
            threshold[0, lane] = max(start, 1 - found[i, 0] / blocks[i, C] - slack)

        if period:
            fill_table(scaled, C, table)
            h = splat(NOTHING)
            for n in range(1, WARM + 1):
                h = affine(HALF, h, load(table, fetch(signs, n)))
            n = 0
            while n < period:
                n, before, h = scan(rank, table, signs, constants, threshold, n, period, h)
                stop = min(n + GROUP, period)
                for k in range(n, stop):
                    before = affine(HALF, before, load(table, fetch(signs, WARM + k + 1)))
                    mask = at_least(energy(rank, table, signs, constants, k, before), load(threshold, 0))
                    lane = 0
                    while mask:
                        if mask & 1:
                            i = index[first + lane]
                            evaluate(rank, width, i, order, k, half, low, high, optimal, metric, blocks, denominator,
                                     found, work)  # fmt: skip
                            evaluated += 1
                            threshold[0, lane] = max(start, 1 - found[i, 0] / blocks[i, C] - slack)
                        mask >>= 1
                        lane += 1
                n = stop

        if len(direct):
            for lane in range(used):
                i = index[first + lane]
                length = math.sqrt(blocks[i, C])
                for c in range(C):
                    scaled[c, lane] = blocks[i, c] * metric[1, c] / length
                if not done[lane]:
                    threshold[0, lane] = max(start, 1 - found[i, 0] / blocks[i, C] - direct_slack)
            for k in range(len(direct)):
                mask = at_least(direct_energy(rank, width, bases, k, scaled), load(threshold, 0))
                lane = 0
                while mask:
                    if mask & 1:
                        i = index[first + lane]
                        evaluate(rank, width, i, order, direct[k], half, low, high, optimal, metric, blocks,
                                 denominator, found, work)  # fmt: skip
                        evaluated += 1
                        threshold[0, lane] = max(start, 1 - found[i, 0] / blocks[i, C] - direct_slack)
                    mask >>= 1
                    lane += 1
    return evaluated
