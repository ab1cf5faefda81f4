"""The Viterbi algorithm in NumPy, all rows at once: the reference of the compiled engine."""

from __future__ import annotations

import numpy as np

from seedlm.encoder.trellis.problem import Costs, scaled_levels
from seedlm.golden.codecs.trellis import Table

__all__ = ["best_paths"]

NEVER = 1 << 40


def best_paths(table: Table, targets: np.ndarray, costs: Costs) -> np.ndarray:
    """The symbols of least total cost.

    Parameters
    ----------
    table : Table
    targets : np.ndarray
        int32 [rows, cols], see `problem.targets`.
    costs : Costs

    Returns
    -------
    np.ndarray
        uint8 [rows, cols].
    """
    rows, cols = targets.shape
    k, states = table.bits, table.states
    window = np.arange(1 << table.window).reshape(states, 1 << k)  # [state after, oldest symbol]: W
    before = window & states - 1
    levels = scaled_levels(table)[table.outputs[window]]
    total = np.full((rows, states), NEVER, dtype=np.int64)
    total[:, 0] = 0  # the bits before a row are 0
    oldest = np.empty((cols, rows, states), dtype=np.uint8)
    for j in range(cols):
        cost = (targets[:, j].astype(np.int64)[:, None, None] - levels) ** 2
        if costs.weights is not None:
            cost = cost * int(costs.weights[j]) >> costs.shift
        cost += total[:, before]
        oldest[j] = cost.argmin(axis=2)  # the first of the smallest: the smaller predecessor
        total = cost.min(axis=2)
    state = total.argmin(axis=1)
    symbols = np.empty((rows, cols), dtype=np.uint8)
    everyone = np.arange(rows)
    for j in range(cols - 1, -1, -1):
        symbols[:, j] = state >> table.window - 2 * k
        state = (state << k | oldest[j, everyone, state]) & states - 1
    return symbols
