"""The compiled engine: groups of 16 rows on all cores; the same words as the NumPy engine."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from seedlm.encoder.engines import cores
from seedlm.encoder.trellis.kernels import paths
from seedlm.encoder.trellis.problem import Costs, scaled_levels
from seedlm.encoder.trellis.vectors import LANES
from seedlm.golden.codecs.trellis import Table

__all__ = ["best_paths"]


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

    starts = range(0, rows, LANES)
    threads = threads or cores()
    if threads == 1 or len(starts) == 1:
        for start in starts:
            group(start)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(group, starts))
    return symbols
