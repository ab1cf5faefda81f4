"""The compiled Viterbi algorithm: 16 rows in the lanes, the states one after the other.

A sum is held with the oldest symbol of its state in the bits below it: of the candidates of a state the minimum is
then the cost, the smaller predecessor on a tie and the decision, at two loads, an addition and a minimum per edge.
All sums of a step are relative to that of state 0, which the costs of the next step take off; so 32 bits are enough
(`problem`).
"""

from __future__ import annotations

import numpy as np

from seedlm.encoder.seed.compiled import compiled
from seedlm.encoder.trellis.vectors import (
    LANES,
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

__all__ = ["paths"]

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
    tag = (1 << k) - 1
    old = np.empty((states, LANES), np.int32)
    new = np.empty((states, LANES), np.int32)
    costs = np.empty((len(levels), LANES), np.int32)
    for s in range(states):
        for lane in range(LANES):
            old[s, lane] = NEVER | (s & tag)
    for lane in range(LANES):
        old[0, lane] = 0
    for j in range(cols):
        target = load(targets, j)
        base = keep_bits(load(old, 0), np.int32(~tag), np.int32(0))
        for y in range(len(levels)):
            e = square(subtract(target, splat(levels[y])))
            weight = weights[j] if len(weights) else np.int32(1)
            store(costs, y, subtract(weigh(e, np.int32(weight), np.int32(shift), np.int32(k)), base))
        for s in range(states):
            w = s << k
            best = add(load(old, w & (states - 1)), load(costs, outputs[w]))
            for r in range(1, 1 << k):
                best = smaller(add(load(old, (w | r) & (states - 1)), load(costs, outputs[w | r])), best)
            store_bytes(decisions, j * states + s, best)
            store(new, s, keep_bits(best, np.int32(~tag), np.int32(s & tag)))
        old, new = new, old
    for lane in range(LANES):
        state = 0
        for s in range(1, states):
            if old[s, lane] >> k < old[state, lane] >> k:
                state = s
        for j in range(cols - 1, -1, -1):
            symbols[j, lane] = state >> (window - 2 * k)
            state = (state << k | decisions[j * states + state, lane] & tag) & (states - 1)
