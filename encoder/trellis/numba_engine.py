"""The compiled engine: groups of 16 rows on all cores; the same words as the NumPy engine."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from seedlm.encoder.engines import LANES, cores
from seedlm.encoder.feedback.factor import Feedback
from seedlm.encoder.trellis.kernels import fed_paths as fed_lanes
from seedlm.encoder.trellis.kernels import paths
from seedlm.encoder.trellis.problem import RESOLUTION, Costs, fed_weights, limit, scaled_levels
from seedlm.golden.codecs.trellis import Table

__all__ = ["best_paths", "fed_paths"]


def best_paths(table: Table, targets: np.ndarray, costs: Costs, threads: int | None = None) -> np.ndarray:
    """As `numpy_engine.best_paths`; `threads` (None: one per processor) does not change the result."""
    rows, cols = targets.shape
    levels = scaled_levels(table).astype(np.int32)
    outputs = table.outputs.astype(np.int32)
    weights = np.zeros(0, np.int32) if costs.weights is None else costs.weights
    symbols = np.empty((rows, cols), dtype=np.uint8)

    def group(start: int) -> None:
        part = targets[start : start + LANES]
        lanes = np.zeros((cols, LANES), dtype=np.int32)
        lanes[:, : len(part)] = part.T
        found = np.empty((cols, LANES), dtype=np.uint8)
        decisions = np.empty((cols * table.states, LANES), dtype=np.uint8)
        paths(lanes, weights, costs.shift, table.bits, table.window, levels, outputs, found, decisions)
        symbols[start : start + len(part)] = found[:, : len(part)].T

    _run(group, rows, threads)
    return symbols


def fed_paths(table: Table, x: np.ndarray, feedback: Feedback, ahead: int, threads: int | None = None) -> np.ndarray:
    """As `numpy_engine.fed_paths`; `threads` (None: one per processor) does not change the result."""
    rows, cols = x.shape
    levels = scaled_levels(table).astype(np.int32)
    outputs = table.outputs.astype(np.int32)
    symbols = np.empty((rows, cols), dtype=np.uint8)
    costs = fed_weights(feedback.measure, feedback.block, ahead, table)
    fine, most = float(RESOLUTION // table.unit), float(limit(table))

    def group(start: int) -> None:
        some = x[start : start + LANES]
        decisions = np.empty(((feedback.block + ahead) * table.states, LANES), dtype=np.uint8)
        ends = np.zeros(LANES, np.int32)
        for part in feedback.parts:
            lanes = np.zeros((part.stop - part.start, LANES))
            lanes[:, : len(some)] = some[:, part.start : part.stop].T
            found = np.empty(lanes.shape, dtype=np.uint8)
            weights = costs.weights[part.start : part.stop]
            fed_lanes(lanes, lanes.copy(), part.matrix, weights, costs.shift, feedback.block, ahead, fine, most,
                      table.bits, table.window, levels, outputs, found, decisions, ends)  # fmt: skip
            symbols[start : start + len(some), part.start : part.stop] = found[:, : len(some)].T

    _run(group, rows, threads)
    return symbols


def _run(group: Callable[[int], None], rows: int, threads: int | None) -> None:
    """Every group of rows, on several threads."""
    starts = range(0, rows, LANES)
    threads = threads or cores()
    if threads == 1 or len(starts) == 1:
        for start in starts:
            group(start)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(group, starts))
