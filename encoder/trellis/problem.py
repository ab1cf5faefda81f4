"""What is searched: paths of least cost, in integers, so that engines agree word for word.

A row's targets are its weights in quarters of the unit of N, rounded; a window W costs ``weight * (t - 4 N(W))**2 >>
shift`` with a small integer weight per column (the importance, or 1 with a shift of 0). Of equal predecessors the
smaller wins, of equal last states the smaller.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seedlm.golden.codecs.trellis import Table

__all__ = ["FINE", "Costs", "column_weights", "fed_weights", "limit", "scaled_levels", "targets"]

RESOLUTION = 256  # targets are in so many parts of a standard deviation
# Beyond 8 standard deviations all levels are too small anyhow; the bound keeps 32-bit sums exact. With more bits a
# weight less of a sum is left for costs, which are smaller: 4 standard deviations do for such codecs.
LIMIT, FINE_LIMIT, FINE = 2047, 1023, 5
WEIGHT_ONE = 16  # of a column of average importance
WEIGHT_MAX = 255
FED_WEIGHT_MAX = 64
SPREAD_BITS = 30  # a compiled engine holds sums, with the predecessor's bits below, in 32


@dataclass(frozen=True)
class Costs:
    """How errors count.

    Parameters
    ----------
    weights : np.ndarray or None
        int32 [cols], 0 to `WEIGHT_MAX`; None for 1 everywhere.
    shift : int
        Bits that are dropped from a weighted square.
    """

    weights: np.ndarray | None = None
    shift: int = 0


def scaled_levels(table: Table) -> np.ndarray:
    """N for every y in the unit of the targets, int64 [2**m]."""
    return np.array(table.all_levels, dtype=np.int64) * (RESOLUTION // table.unit)


def limit(table: Table) -> int:
    """The largest magnitude of a target."""
    return LIMIT if table.bits < FINE else FINE_LIMIT


def targets(table: Table, w: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Targets of rows: float64 [rows, cols] and scales [rows] (a weight is N * scale) to int32 [rows, cols]."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        t = np.rint(w / np.float64(scales)[:, None] * (RESOLUTION // table.unit))
    return np.clip(np.nan_to_num(t), -limit(table), limit(table)).astype(np.int32)


def column_weights(importance: np.ndarray | None, table: Table) -> Costs:
    """The integer weights of an importance, float64 [cols], non-negative."""
    if importance is None or importance.max(initial=0.0) == 0:
        return Costs()
    weights = np.rint(importance / importance.mean() * WEIGHT_ONE).clip(0, WEIGHT_MAX).astype(np.int32)
    return Costs(weights, _shift(weights, table, 0))


def fed_weights(measure: np.ndarray, block: int, ahead: int, table: Table) -> Costs:
    """The integer weights of a measure, float64 [cols], positive, for paths of blocks and the columns after them.

    Each column counts in relation to those about it: every block is searched by itself.
    """
    weights = np.empty(len(measure), np.int32)
    for start in range(0, len(measure), block):
        mean = np.add.reduce(measure[start : start + block + ahead]) / len(measure[start : start + block + ahead])
        some = measure[start : start + block] / mean * WEIGHT_ONE
        weights[start : start + block] = np.rint(some).clip(1, FED_WEIGHT_MAX)
    return Costs(weights, _shift(weights, table, 2))


def _shift(weights: np.ndarray, table: Table, more: int) -> int:
    """Bits to be dropped from weighted squares; `more` steps where a path may begin in any state.

    Any state can be reached from any other in so many steps: no two sums differ by more than their costs.
    """
    steps = -(-(table.window - table.bits) // table.bits) + more
    square = (limit(table) + int(scaled_levels(table).max())) ** 2
    largest = steps * square * int(weights.max()) << table.bits
    return max(0, largest.bit_length() - SPREAD_BITS)
