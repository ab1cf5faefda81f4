"""The compiled loops of error feedback: operation by operation those of `factor` and `rows`, so that bits are equal.

Every element has its sums in one order; products and sums are rounded by themselves, never fused.
"""

from __future__ import annotations

from numba.extending import register_jitable

from seedlm.encoder.compiled import compiled
from seedlm.encoder.feedback.vectors import add_product, load, store

__all__ = ["eliminate", "spread", "spread_lanes"]


@compiled
def eliminate(a, scaled, first, last):
    """Take rows first to last - 1 out of those above, in descending order: lower triangle of float64 [n, n]."""
    for i in range(first):
        row = a[i]
        for k in range(last - 1, first - 1, -1):
            factor, other = scaled[k - first, i], a[k]
            for j in range(i + 1):
                row[j] -= factor * other[j]


@register_jitable
def spread_lanes(rest, matrix, first, last):
    """Errors of 16 rows in columns first to last - 1 into the targets on the right: float64 [cols, 16]."""
    for c in range(last, len(rest)):
        total = load(rest, c)
        for j in range(first, last):
            total = add_product(total, matrix[c, j], load(rest, j))
        store(rest, c, total)


@compiled
def spread(rest, matrix, first, last, begin, end):
    """The same for any number of rows, into columns begin to end - 1: float64 [cols, rows]."""
    rows = rest.shape[1]
    for c in range(begin, end):
        target = rest[c]
        for j in range(first, last):
            factor, error = float(matrix[c, j]), rest[j]
            for r in range(rows):
                target[r] += factor * error[r]
