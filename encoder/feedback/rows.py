"""Rows whose blocks are coded from left to right, each for what the errors before it have left."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from seedlm.encoder.engines import is_compiled
from seedlm.encoder.feedback.factor import Feedback

__all__ = ["code_blocks", "spread"]

PANEL = 32  # columns whose errors go on to those behind them together


def code_blocks(w: np.ndarray, feedback: Feedback, code: Callable[[int, int, np.ndarray], np.ndarray],
                engine: str = "auto", *, panel: int = PANEL,
                look: Callable[[int, int, np.ndarray], None] | None = None) -> None:  # fmt: skip
    """Code all blocks of some rows.

    Parameters
    ----------
    w : np.ndarray
        float64 [rows, cols].
    feedback : Feedback
    code : callable
        Given the first column of a block, the one after the last, and targets float64 [rows, columns]: codes them and
        returns what its words stand for, of the same shape.
    engine : str
        See `spread`.
    panel : int
        Columns whose errors go on to those behind them together. Does not change the result.
    look : callable, optional
        Given the first column of each panel, the one after the last, and their targets, float64 [rows, columns], before
        its first block is coded.
    """
    for part in feedback.parts:
        rest = w[:, part.start : part.stop].T.copy()
        cols, block = len(rest), feedback.block
        step = max(1, panel // block) * block
        for start in range(0, cols, step):
            stop = min(start + step, cols)
            if look:
                look(part.start + start, part.start + stop, rest[start:stop].T)
            for first in range(start, stop, block):
                last = min(first + block, stop)
                found = code(part.start + first, part.start + last, rest[first:last].T)
                rest[first:last] = (w[:, part.start + first : part.start + last] - found).T
                spread(rest, part.matrix, (first, last), (last, stop), engine)
            spread(rest, part.matrix, (start, stop), (stop, cols), engine)


def spread(rest: np.ndarray, matrix: np.ndarray, done: tuple[int, int], open_: tuple[int, int],
           engine: str = "auto") -> None:  # fmt: skip
    """Let the errors in the columns `done` go on to the targets in the columns `open_`, one after the other.

    Parameters
    ----------
    rest : np.ndarray
        float64 [cols, rows].
    matrix : np.ndarray
        See `Part.matrix`.
    done, open_ : tuple of int
        First column and column after the last.
    engine : str
        ``auto``, ``numba`` or ``numpy``: the same bits.
    """
    if is_compiled(engine):
        from seedlm.encoder.feedback.kernels import spread as compiled  # compiles or loads its kernels: only where used

        compiled(rest, matrix, *done, *open_)
        return
    targets = rest[slice(*open_)]
    for j in range(*done):
        targets += matrix[slice(*open_), j].astype(np.float64)[:, None] * rest[j]
