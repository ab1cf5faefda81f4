"""What coding rows has cost: the error as a whole, what lies beyond the codec's range, and rows that an outlier spoils.

A codec with one scale per row fits that scale to the row. A weight of 60 standard deviations then either is clipped,
or makes the steps so coarse that all others lose: the error of the row as a whole, in which that one weight is most of
the energy, tells neither.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from functools import lru_cache

import numpy as np

from seedlm.encoder.families import encoder_of
from seedlm.golden.codecs import Codec

__all__ = ["Loss", "gaussian_error"]

# An outlier is so many times larger than the row's spread, which is taken from the median: outliers do not move it.
OUTLIER = 8.0
MEDIAN = 0.6745  # of the magnitudes of normal numbers, over their standard deviation
SPOILT = 3.0  # times the error of Gaussian rows
EDGE = 1 / 128  # what 127.5 is to 127: no more than rounding does anywhere
SAMPLE = (2, 512)  # Gaussian rows by which the error that a codec should have is measured


@dataclass(frozen=True)
class Loss:
    """Of some rows, as they were coded; losses of several parts of a matrix add up.

    Parameters
    ----------
    err, norm : float
        Squared error, and squares of the weights.
    beyond : float
        Squares of the weights that are larger than the largest that their row can have, by more than `EDGE`; none
        where groups of the row have scales of their own.
    rows, spoilt : int
        How many rows, and in how many of them an outlier costs the rest dearly.
    worst : float
        Relative error of the weights beside the outliers in the worst of these.
    """

    err: float = 0.0
    norm: float = 0.0
    beyond: float = 0.0
    rows: int = 0
    spoilt: int = 0
    worst: float = 0.0

    @classmethod
    def between(cls, w: np.ndarray, found: np.ndarray) -> Loss:
        """The error alone, of any weights and what became of them."""
        w = np.asarray(w, dtype=np.float64)
        return cls(float(np.square(w - found).sum()), float(np.square(w).sum()))

    @classmethod
    def of(cls, w: np.ndarray, found: np.ndarray, codec: Codec, method: str, scales: np.ndarray | None,
           exp_bias: int) -> Loss:  # fmt: skip
        """Compare rows with what became of them, both float64 [rows, cols] and not rotated back."""
        squares, error = np.square(w), np.square(w - found)
        largest = codec.largest(exp_bias)
        largest *= 1 + EDGE
        limit = largest if scales is None else largest * np.abs(scales[:, None].astype(np.float64))
        size = np.abs(w)
        # Where groups of a row have scales of their own, a larger one was there: clipping is the rule's or pays.
        reaches = scales is not None and not codec.rotates
        beyond = 0.0 if reaches else float(squares[size > limit].sum())
        loss = cls(float(error.sum()), float(squares.sum()), beyond, len(w))
        return loss if scales is None else loss + cls._outliers(size, squares, error, codec, method)

    @classmethod
    def _outliers(cls, size: np.ndarray, squares: np.ndarray, error: np.ndarray, codec: Codec, method: str) -> Loss:
        outlier = size > OUTLIER / MEDIAN * np.median(size, axis=1, keepdims=True)
        rows = outlier.any(axis=1)
        if not rows.any():
            return cls()
        energy = np.where(outlier, 0, squares)[rows].sum(axis=1)
        lost = np.where(outlier, 0, error)[rows].sum(axis=1)[energy > 0]
        relative = np.sqrt(lost / energy[energy > 0])
        spoilt = relative > SPOILT * gaussian_error(codec, method)
        return cls(spoilt=int(spoilt.sum()), worst=float(relative[spoilt].max(initial=0)))

    def __add__(self, other: Loss) -> Loss:
        *sums, worst = astuple(self)
        *more, worse = astuple(other)
        return Loss(*(a + b for a, b in zip(sums, more, strict=True)), max(worst, worse))

    @property
    def relative(self) -> float:
        """Relative Frobenius error; 0 for a matrix of zeros that is kept exactly."""
        return (self.err / self.norm) ** 0.5 if self.norm else float(self.err > 0)

    @property
    def beyond_share(self) -> float:
        """Share of the energy in weights beyond the range."""
        return self.beyond / self.norm if self.norm else 0.0

    def to_text(self) -> dict[str, str]:
        """For a file's metadata, without loss."""
        return {name: float(value).hex() for name, value in zip(self.__match_args__, astuple(self), strict=True)}

    @classmethod
    def from_text(cls, text: dict[str, str]) -> Loss:
        """The inverse of `to_text`; raises `KeyError` or `ValueError` for anything else."""
        kinds = {"rows": int, "spoilt": int}
        return cls(**{name: kinds.get(name, float)(float.fromhex(text[name])) for name in cls.__match_args__})


@lru_cache(maxsize=16)
def gaussian_error(codec: Codec, method: str) -> float:
    """Relative error of a codec on a few Gaussian rows: what to expect of rows without outliers."""
    w = np.random.default_rng(0).standard_normal(SAMPLE)
    encoder = encoder_of(codec)
    words, scales = encoder.encode(w, codec, method, bias=encoder.exp_bias(codec, w))
    found = codec.values(words, w.shape[1], 0) * scales[:, None].astype(np.float64)
    return Loss.between(w, found).relative
