"""From the second moments of a layer's input to what its encoder needs: M and the diagonal of D."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seedlm.encoder.engines import is_compiled
from seedlm.golden.errors import SeedLMError
from seedlm.golden.rotation import Rotation

__all__ = ["Feedback", "Part", "feedback_of"]

EVEN = 2.0  # the largest over the smallest
PANEL = 32  # rows that are eliminated together
SLICE = 64  # rows that are turned together


@dataclass(frozen=True, eq=False)
class Part:
    """Columns that take errors from one another.

    Parameters
    ----------
    start : int
        The first.
    matrix : np.ndarray
        float32 [n, n], M transposed: in row c what column c takes of the errors in the blocks before its own.
    """

    start: int
    matrix: np.ndarray

    @property
    def stop(self) -> int:
        """The column after the last."""
        return self.start + len(self.matrix)


@dataclass(frozen=True, eq=False)
class Feedback:
    """How errors go on from block to block.

    Parameters
    ----------
    block : int
        Columns of a block; the last of a part may have fewer.
    parts : tuple of Part
        All columns, from left to right.
    measure : np.ndarray
        float64 [cols]: the diagonal of D, how much the squared error of each column counts within its block.
    """

    block: int
    parts: tuple[Part, ...]
    measure: np.ndarray

    @property
    def even(self) -> bool:
        """Whether the columns of most blocks count nearly alike, as those of rotated rows do."""
        blocks = (self.measure[start : start + self.block] for start in range(0, len(self.measure), self.block))
        return bool(np.median([some.max() / some.min() for some in blocks]) < EVEN)


def feedback_of(moments: Sequence[np.ndarray], block: int, damping: float, rotation: Rotation | None = None,
                engine: str = "auto") -> Feedback:  # fmt: skip
    """What coding the rows of a matrix in blocks needs to know of its input.

    Parameters
    ----------
    moments : sequence of np.ndarray
        H = sum of x x^T, symmetric [n, n], for all columns or for parts of them.
    block : int
        Columns that are coded together.
    damping : float
        So many times the mean of H's diagonal is added to each element of it.
    rotation : Rotation or None
        Of the rows, before they are coded; its blocks divide the parts.
    engine : str
        ``auto``, ``numba`` or ``numpy``: the same bits.

    Raises
    ------
    SeedLMError
        H with its damping is not positive definite.
    """
    parts, measures, start = [], [], 0
    for h in moments:
        a = h.astype(np.float64)
        if rotation is not None:
            a = _turned(_turned(a, rotation), rotation)
        mean = float(np.add.reduce(a.diagonal())) / len(a)
        if mean > 0:
            a /= mean  # then no square leaves the range
            a.ravel()[:: len(a) + 1] += damping
        else:  # the input is always 0
            a = np.eye(len(a))
        matrix, measure = _blocks(*_eliminated(a, engine), block)
        parts.append(Part(start, matrix))
        measures.append(measure)
        start += len(a)
    return Feedback(block, tuple(parts), np.concatenate(measures))


def _turned(a: np.ndarray, rotation: Rotation) -> np.ndarray:
    """The transposed of A R, a few rows at a time."""
    for start in range(0, len(a), SLICE):
        a[start : start + SLICE] = rotation.weights(a[start : start + SLICE])
    return np.ascontiguousarray(a.T)


def _eliminated(a: np.ndarray, engine: str) -> tuple[np.ndarray, np.ndarray]:
    """A = U diag(d) U^T with U unit upper triangular: U transposed, in the place of A, and d.

    From the last row to the first each is taken out of all above it: a_ij -= (a_ki / a_kk) a_kj, element by element
    in this order. Only the lower triangle is used.
    """
    n = len(a)
    if is_compiled(engine):
        from seedlm.encoder.feedback.kernels import eliminate  # compiles or loads its kernels: only where used
    else:
        eliminate = _eliminate
    for last in range(n, 0, -PANEL):
        first = max(0, last - PANEL)
        scaled = np.empty((last - first, last))
        for k in range(last - 1, first - 1, -1):
            if not a[k, k] > 0:
                raise SeedLMError("the second moments are not positive definite: expected a larger damping")
            scaled[k - first, :k] = a[k, :k] / a[k, k]
            a[first:k, :k] -= scaled[k - first, first:k, None] * a[k, :k]
        eliminate(a, scaled, first, last)
    d = a.diagonal().copy()
    a /= d[:, None]
    return a, d


def _eliminate(a: np.ndarray, scaled: np.ndarray, first: int, last: int) -> None:
    for k in range(last - 1, first - 1, -1):
        a[:first, :first] -= scaled[k - first, :first, None] * a[k, :first]


def _blocks(u: np.ndarray, d: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray]:
    """M transposed, float32, and the diagonal of D in blocks of columns, from U transposed and d.

    M_jk = U_jk U_kk^-1, column by column from the left; D_k = U_kk diag(d_k) U_kk^T.
    """
    n = len(u)
    m, measure = np.zeros((n, n), np.float32), np.empty(n)
    for start in range(0, n, block):
        stop = min(start + block, n)
        rows = u[start:stop, :start].copy()
        inner = np.tril(u[start:stop, start:stop], -1) + np.eye(stop - start)
        for c in range(stop - start):
            for i in range(c):
                rows[c] -= inner[c, i] * rows[i]
        m[start:stop, :start] = rows
        weighted = inner * inner * d[start:stop, None]
        total = np.zeros(stop - start)
        for row in weighted:
            total += row
        measure[start:stop] = total
    return m, measure
