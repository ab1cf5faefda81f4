"""What an encoder tells the rest of the project, whatever its family."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from seedlm.encoder.feedback.factor import Feedback
from seedlm.golden.codecs import Codec
from seedlm.golden.errors import SeedLMError

__all__ = ["BIAS_LIMIT", "SLICE", "Encoder"]

BIAS_LIMIT = 100  # 2**b and its product with any weight stay normal binary32 numbers
SLICE = 1 << 16  # words of the rows that are encoded together: bounds the working memory
FED_ROWS = 1024  # at least so many with feedback: each unit carries a matrix of as many rows and columns as a row has


class Encoder(ABC):
    """From the rows of a matrix to the words of one codec family.

    Attributes
    ----------
    family : str
        `Codec.family` of its codecs.
    methods : tuple of str
        Ways to search, the best first; empty if there is one only, which has no name.
    uses_importance : bool
        Columns can count more or less than others.
    together : int
        Rows that are searched at once: fewer take as long.
    quick : bool
        Encoding takes little more time than reading the weights: results are not worth keeping.
    """

    family: ClassVar[str]
    methods: ClassVar[tuple[str, ...]] = ()
    uses_importance: ClassVar[bool] = True
    together: ClassVar[int] = 1
    quick: ClassVar[bool] = False

    def unit_rows(self, codec: Codec, cols: int, weighted: bool, fed: bool = False) -> int:
        """Rows of a unit of work: decided by the shape alone, so that units are the same everywhere."""
        step = max(1, SLICE // codec.blocks(cols) // self.together) * self.together
        return max(FED_ROWS, step) if fed else step

    def feedback_block(self, codec: Codec) -> int | None:
        """Columns that are coded together where errors are fed back; None if there is nothing to gain."""
        return None

    def exp_bias(self, codec: Codec, w: np.ndarray) -> int:
        """The exponent bias that suits a whole tensor, where the codec has one.

        Parameters
        ----------
        codec : Codec
        w : np.ndarray
            Float [rows, cols], finite; anything whose slices of rows are such arrays.
        """
        return 0

    @abstractmethod
    def limit(self, codec: Codec, bias: int) -> float:
        """Weights of this magnitude or more cannot be encoded; infinite if all finite weights can."""

    @abstractmethod
    def encode(self, w: np.ndarray, codec: Codec, method: str, *, bias: int = 0,
               importance: np.ndarray | None = None, feedback: Feedback | None = None, engine: str = "auto",
               threads: int | None = None) -> tuple[np.ndarray, np.ndarray | None]:  # fmt: skip
        """Encode a unit of rows.

        Parameters
        ----------
        w : np.ndarray
            Float [rows, cols], finite and below `limit`.
        codec : Codec
        method : str
            One of `methods`; has no meaning if there are none.
        bias : int
            The tensor's exponent bias.
        importance : np.ndarray or None
            float64 [cols], finite, non-negative: the squared error of column c counts this much.
        feedback : Feedback or None
            In blocks of `feedback_block` columns, instead of an importance: what is lost in a block is made good for
            in those behind it.
        engine, threads
            Where a family has several engines: which, and on how many processors. They do not change the result.

        Returns
        -------
        words : np.ndarray
            As `Codec.words_layout` says.
        scales : np.ndarray or None
            float32 [rows] where the codec has row scales.
        """

    @staticmethod
    def check_importance(importance: Sequence[float] | np.ndarray | None, cols: int) -> np.ndarray | None:
        """`importance` as float64, refused unless there is one finite non-negative number per column."""
        if importance is None:
            return None
        importance = np.asarray(importance, dtype=np.float64)
        if importance.shape != (cols,) or not (np.isfinite(importance) & (importance >= 0)).all():
            raise SeedLMError(f"importance must be {cols} finite non-negative numbers, one per column")
        return importance
