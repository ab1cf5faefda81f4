"""The Viterbi algorithm in NumPy, all rows at once: the reference of the compiled engine."""

from __future__ import annotations

import numpy as np

from seedlm.encoder.feedback.factor import Feedback
from seedlm.encoder.feedback.rows import spread
from seedlm.encoder.trellis.problem import RESOLUTION, Costs, fed_weights, limit, scaled_levels
from seedlm.golden.codecs.trellis import Table

__all__ = ["best_paths", "fed_paths"]

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
    return _search(table, targets, costs, np.zeros(len(targets), np.int64))[0]


def fed_paths(table: Table, x: np.ndarray, feedback: Feedback, ahead: int) -> np.ndarray:
    """The symbols of rows that are coded block by block, each block for what the errors before it have left.

    A block's path begins in the state where the one before has ended, so that a row's symbols are one path. The
    columns after it are searched with it, since the state in which it ends is the one that they begin in.

    Parameters
    ----------
    table : Table
    x : np.ndarray
        float64 [rows, cols]: weights in units of N.
    feedback : Feedback
    ahead : int
        How many columns after it are searched with a block.

    Returns
    -------
    np.ndarray
        uint8 [rows, cols].
    """
    symbols, state = np.empty(x.shape, np.uint8), np.zeros(len(x), np.int64)
    costs = fed_weights(feedback.measure, feedback.block, ahead, table)
    fine, most = RESOLUTION // table.unit, limit(table)
    for part in feedback.parts:
        rest = x[:, part.start : part.stop].T.copy()
        for first in range(0, len(rest), feedback.block):
            last = min(first + feedback.block, len(rest))
            targets = np.rint(rest[first : last + ahead].T * fine).clip(-most, most).astype(np.int32)
            count = costs.weights[part.start : part.stop][first : last + ahead]
            found, states = _search(table, targets, Costs(count, costs.shift), state)
            columns = slice(part.start + first, part.start + last)
            symbols[:, columns] = found[:, : last - first]
            windows = states[:, 1:] << table.bits | states[:, :-1] & (1 << table.bits) - 1
            levels = table.weights[windows[:, : last - first]]
            rest[first:last] = (x[:, columns] - levels).T
            spread(rest, part.matrix, (first, last), (last, len(rest)), "numpy")
            state = states[:, last - first]
    return symbols


def _search(table: Table, targets: np.ndarray, costs: Costs, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Symbols of the best paths from one state of each row, uint8 [rows, cols], and all states, int64 [rows, cols + 1].
    """
    rows, cols = targets.shape
    k, states = table.bits, table.states
    window = np.arange(1 << table.window).reshape(states, 1 << k)  # [state after, oldest symbol]: W
    before = window & states - 1
    levels = scaled_levels(table)[table.outputs[window]]
    total = np.full((rows, states), NEVER, dtype=np.int64)
    everyone = np.arange(rows)
    total[everyone, state] = 0  # 0 where a row begins: the bits before it are
    oldest = np.empty((cols, rows, states), dtype=np.uint8)
    for j in range(cols):
        cost = (targets[:, j].astype(np.int64)[:, None, None] - levels) ** 2
        if costs.weights is not None:
            cost = cost * int(costs.weights[j]) >> costs.shift
        cost += total[:, before]
        oldest[j] = cost.argmin(axis=2)  # the first of the smallest: the smaller predecessor
        total = cost.min(axis=2)
    path = np.empty((rows, cols + 1), dtype=np.int64)
    path[:, cols] = total.argmin(axis=1)
    symbols = np.empty((rows, cols), dtype=np.uint8)
    for j in range(cols - 1, -1, -1):
        state = path[:, j + 1]
        symbols[:, j] = state >> table.window - 2 * k
        path[:, j] = (state << k | oldest[j, everyone, state]) & states - 1
    return symbols, path
