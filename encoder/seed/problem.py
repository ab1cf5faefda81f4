"""What is searched, and what was found.

A `Problem` is a set of blocks with everything that fixes their best words; a `Best` is the best word
found for each so far. The order of candidates is total: (error, seed, exponent, coefficients), so
that the result does not depend on the order in which candidates are met, nor on the engine.

The zero block counts as seed 0 and is a candidate of every block.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from seedlm.encoder.seed.geometry import ordered_dot
from seedlm.encoder.seed.quantise import POWERS, quantise
from seedlm.golden.codecs.seed import SeedCodec, pack
from seedlm.golden.errors import SeedLMError

__all__ = ["ENCODERS", "Best", "Problem", "reconstruction_error"]

ENCODERS = ("optimal", "paper")


@dataclass(frozen=True)
class Problem:
    """Blocks, and the measure and the grid on which they are approximated.

    A word (s, e, q) stands for the weights ``N * 2**e * unit / denominator`` with N = A(s) q; the error of a
    block is ``sum over c of importance_c * (w_c - weight_c)**2``.

    Parameters
    ----------
    codec : SeedCodec
    blocks : np.ndarray
        float64 [C, n], finite.
    encoder : str
        ``optimal`` or ``paper``.
    unit : np.ndarray or None
        float64 [n]: the row scale of each block. None without row scales (1).
    importance : np.ndarray or None
        float64 [C], non-negative; None for 1 everywhere.
    """

    codec: SeedCodec
    blocks: np.ndarray
    encoder: str = "paper"
    unit: np.ndarray | None = None
    importance: np.ndarray | None = None
    norm: np.ndarray = field(init=False)  # float64 [n]: the error of the zero block

    def __post_init__(self) -> None:
        if self.encoder not in ENCODERS:
            raise SeedLMError(f"unknown encoder {self.encoder!r}: expected {' or '.join(ENCODERS)}")
        if self.blocks.ndim != 2 or self.blocks.shape[0] != self.codec.C:
            raise SeedLMError(f"blocks of codec {self.codec} have {self.codec.C} weights, not {self.blocks.shape[0]}")
        if self.unit is None:
            object.__setattr__(self, "unit", np.ones(self.blocks.shape[1]))
        if self.importance is None:
            object.__setattr__(self, "importance", np.ones(self.codec.C))
        object.__setattr__(self, "norm", ordered_dot(self.importance[:, None] * self.blocks, self.blocks))

    def __len__(self) -> int:
        return self.blocks.shape[1]

    @property
    def denominator(self) -> float:
        """2**(K-1) - 1 in the paper's form, 1 where the row scale stands for everything."""
        return 1.0 if self.codec.row_scales else float(self.codec.denominator)

    @property
    def measure(self) -> np.ndarray:
        """float64 [C, 1]: the square roots of the importance, which make the error a plain norm."""
        return np.sqrt(self.importance)[:, None]

    @property
    def faint(self) -> np.ndarray:
        """float64 [n]: a seed s with |A(s) q| above this for all q != 0 cannot beat the zero block.

        A word of length l is at least l - |w| away from the block, and the zero block is |w| away.
        """
        return 2.001 * np.sqrt(self.norm) * self.denominator / (self.unit * 2.0**self.codec.exponent_min)

    def take(self, index: np.ndarray | slice) -> Problem:
        """The problem of some of the blocks."""
        blocks = np.ascontiguousarray(self.blocks[:, index])
        return Problem(self.codec, blocks, self.encoder, self.unit[index], self.importance)


def reconstruction_error(problem: Problem, block: np.ndarray, a: np.ndarray, e: np.ndarray,
                         q: np.ndarray) -> np.ndarray:  # fmt: skip
    """The error of n candidate words, in the one order of operations that all engines share.

    N is an exact integer, so that words that decode alike have bitwise equal errors.

    Parameters
    ----------
    problem : Problem
    block : np.ndarray
        int [n]: which block each candidate is for.
    a : np.ndarray
        float64 [P, C, n]: A(s) of each candidate.
    e, q : np.ndarray
        int [n] and [P, n].

    Returns
    -------
    np.ndarray
        float64 [n].
    """
    q = q.astype(np.float64, copy=False)
    step = POWERS[e]
    unit = problem.unit[block]
    err = np.zeros(len(block))
    for c in range(problem.codec.C):
        weight = a[0, c] * q[0]
        for p in range(1, len(a)):
            weight += a[p, c] * q[p]
        weight *= step
        weight *= unit
        weight /= problem.denominator
        rest = problem.blocks[c, block] - weight
        rest *= rest
        rest *= problem.importance[c]
        err += rest
    return err


@dataclass
class Best:
    """The best candidate of each of n blocks: error float64 [n], seed and e int64 [n], q int64 [P, n]."""

    err: np.ndarray
    seed: np.ndarray
    e: np.ndarray
    q: np.ndarray

    @classmethod
    def zero(cls, problem: Problem) -> Best:
        """The zero block everywhere."""
        n = len(problem)
        seed, e = np.zeros((2, n), np.int64)
        return cls(problem.norm.copy(), seed, e, np.zeros((problem.codec.P, n), np.int64))

    def merge(self, block: np.ndarray, err: np.ndarray, seed: np.ndarray, e: np.ndarray, q: np.ndarray) -> None:
        """Take candidates into account: several per block are fine; those with q = 0 are the zero block."""
        keep = (err <= self.err[block]) & q.any(axis=0)
        block, err, seed, e, q = block[keep], err[keep], seed[keep], e[keep], q[:, keep]
        order = np.lexsort((*q[::-1], e, seed, err, block))
        first = order[np.r_[True, np.diff(block[order]) != 0]] if len(order) else order
        keys = [err[first], seed[first], e[first], *q[:, first]]
        target = block[first]
        better = np.zeros(len(first), bool)
        for new, old in reversed(list(zip(keys, [self.err, self.seed, self.e, *self.q], strict=True))):
            better = (new < old[target]) | ((new == old[target]) & better)
        target, first = target[better], first[better]
        self.err[target], self.seed[target] = err[first], seed[first]
        self.e[target], self.q[:, target] = e[first], q[:, first]

    def put(self, index: np.ndarray | slice, other: Best) -> None:
        """Write the blocks of `other` to the positions `index`."""
        self.err[index], self.seed[index], self.e[index], self.q[:, index] = other.err, other.seed, other.e, other.q

    def words(self, codec: SeedCodec) -> np.ndarray:
        """uint64 [n]."""
        return pack(codec, self.seed, self.e, self.q.T)


def paper_candidates(problem: Problem, block: np.ndarray, a: np.ndarray, t: np.ndarray):
    """The `paper` encoder's word for pairs of a block and a seed: (err, e, q).

    `t` is the least-squares solution for A(s), float64 [P, n].
    """
    e, q = quantise(problem.codec, t * problem.denominator / problem.unit[block])
    return reconstruction_error(problem, block, a, e, q), e, q
