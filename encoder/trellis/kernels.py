"""The compiled Viterbi algorithm: 16 rows in the lanes, the states one after the other.

A sum is held with the oldest symbol of its state in the bits below it: of the candidates of a state the minimum is
then the cost, the smaller predecessor on a tie and the decision, at two loads, an addition and a minimum per edge.
All sums of a step are relative to that of state 0, which the costs of the next step take off; so 32 bits are enough
(`problem`).
"""

from __future__ import annotations

import numpy as np
from numba.extending import register_jitable

from seedlm.encoder.compiled import compiled
from seedlm.encoder.engines import LANES
from seedlm.encoder.feedback.kernels import spread_lanes
from seedlm.encoder.trellis.vectors import (
    add,
    keep_bits,
    load,
    smaller,
    splat,
    square,
    store,
    store_bytes,
    subtract,
    weigh,
)

__all__ = ["fed_paths", "paths"]

NEVER = 1 << 30


@compiled
def paths(targets, weights, shift, k, window, levels, outputs, symbols, decisions):
    """The best paths of 16 rows.

    Parameters
    ----------
    targets : int32 [cols, 16]
    weights : int32 [cols] or [0]
        Of the columns; none: 1 everywhere.
    shift, k, window : int
    levels : int32 [outputs]
        N by y, in the unit of the targets.
    outputs : int32 [2**window]
        y of every window.
    symbols : uint8 [cols, 16]
        The result.
    decisions : uint8 [cols * states, 16]
        Scratch.
    """
    cols, states = len(targets), 1 << (window - k)
    old = np.empty((states, LANES), np.int32)
    new = np.empty((states, LANES), np.int32)
    costs = np.empty((len(levels), LANES), np.int32)
    start(old, np.zeros(LANES, np.int32), k)
    for j in range(cols):
        weight = weights[j] if len(weights) else np.int32(1)
        step(load(targets, j), np.int32(weight), shift, k, levels, outputs, old, new, costs, decisions, j * states)
        old, new = new, old
    for lane in range(LANES):
        state = best_state(old, lane, k)
        for j in range(cols - 1, -1, -1):
            symbols[j, lane] = state >> (window - 2 * k)
            state = before(state, decisions[j * states + state, lane], k, states)


@compiled
def fed_paths(
    x, rest, matrix, weights, shift, block, ahead, fine, most, k, window, levels, outputs, symbols, decisions, ends
):
    """Paths of 16 rows, block by block, each for what the errors before it have left.

    Parameters
    ----------
    x : float64 [cols, 16]
        The weights in units of N.
    rest : float64 [cols, 16]
        The same; what is left becomes the errors of the weights.
    matrix : float32 [cols, cols]
        See `seedlm.encoder.feedback.factor.Part`.
    weights : int32 [cols]
        Of the columns.
    shift : int
    block, ahead : int
        Columns of a block, and those after it that have a say in where its path ends.
    fine, most : float
        The unit of the targets, in units of N, and their largest magnitude.
    k, window : int
    levels : int32 [outputs]
    outputs : int32 [2**window]
    symbols : uint8 [cols, 16]
        The result.
    decisions : uint8 [(block + ahead) * states, 16]
        Scratch.
    ends : int32 [16]
        The state before the first column, then the one after the last.
    """
    cols, states = len(rest), 1 << (window - k)
    old = np.empty((states, LANES), np.int32)
    new = np.empty((states, LANES), np.int32)
    costs = np.empty((len(levels), LANES), np.int32)
    target = np.empty((1, LANES), np.int32)
    for first in range(0, cols, block):
        last = min(first + block, cols)
        end = min(last + ahead, cols)
        start(old, ends, k)
        for j in range(first, end):
            for lane in range(LANES):
                target[0, lane] = np.int32(min(max(np.rint(rest[j, lane] * fine), -most), most))
            at = (j - first) * states
            step(load(target, 0), weights[j], shift, k, levels, outputs, old, new, costs, decisions, at)
            old, new = new, old
        for lane in range(LANES):
            state = best_state(old, lane, k)
            for j in range(end - 1, first - 1, -1):
                if j == last - 1:
                    ends[lane] = state
                symbol, oldest = state >> (window - 2 * k), decisions[(j - first) * states + state, lane]
                if j < last:
                    symbols[j, lane] = symbol
                    level = levels[outputs[state << k | oldest & ((1 << k) - 1)]]
                    rest[j, lane] = x[j, lane] - level / fine
                state = before(state, oldest, k, states)
        spread_lanes(rest, matrix, first, last)


# --- steps -----------------------------------------------------------------------------------------
@register_jitable
def start(sums, state, k):
    """Only one state of each row has been reached."""
    tag = (1 << k) - 1
    for s in range(len(sums)):
        for lane in range(LANES):
            sums[s, lane] = (0 if s == state[lane] else NEVER) | (s & tag)


@register_jitable
def step(target, weight, shift, k, levels, outputs, old, new, costs, decisions, at):
    """From the sums before a column to those after it, relative to state 0's before."""
    states = len(old)
    tag = (1 << k) - 1
    base = keep_bits(load(old, 0), np.int32(~tag), np.int32(0))
    for y in range(len(levels)):
        e = square(subtract(target, splat(levels[y])))
        store(costs, y, subtract(weigh(e, weight, np.int32(shift), np.int32(k)), base))
    for s in range(states):
        w = s << k
        best = add(load(old, w & (states - 1)), load(costs, outputs[w]))
        for r in range(1, 1 << k):
            best = smaller(add(load(old, (w | r) & (states - 1)), load(costs, outputs[w | r])), best)
        store_bytes(decisions, at + s, best)
        store(new, s, keep_bits(best, np.int32(~tag), np.int32(s & tag)))


@register_jitable
def best_state(sums, lane, k):
    """The one of the smallest sum, the first of equal ones."""
    state = 0
    for s in range(1, len(sums)):
        if sums[s, lane] >> k < sums[state, lane] >> k:
            state = s
    return state


@register_jitable
def before(state, oldest, k, states):
    """The state from which a state was reached."""
    return (state << k | oldest & ((1 << k) - 1)) & (states - 1)
