"""The encoder of the family `seed`: the search over all seeds, see `seedlm.encoder.seed`."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from seedlm.encoder.families._base import BIAS_LIMIT, Encoder
from seedlm.encoder.seed.problem import ENCODERS
from seedlm.encoder.seed.rows import LARGEST_SCALE, encode_rows, squares
from seedlm.golden.codecs import Codec

__all__ = ["ENCODER", "exponent_bias"]

WEIGHTED_ROWS = 4096  # with an importance tables are made for every column: for many rows at once
LARGEST_WEIGHT = 2.0**20  # times 2**b: far above anything a word can stand for


def exponent_bias(w: np.ndarray) -> int:
    """b = floor(log2 of the root mean square), limited to +-100; 0 for a matrix of zeros."""
    energy = np.concatenate([squares(w[r : r + 64].astype(np.float64)) for r in range(0, len(w), 64)])
    mean = float(np.add.reduce(energy)) / w.size
    if mean == 0:
        return 0
    return int(np.clip(np.frexp(np.sqrt(mean))[1] - 1, -BIAS_LIMIT, BIAS_LIMIT))


class SeedEncoder(Encoder):
    """All seeds of a register for every block of weights."""

    family: ClassVar[str] = "seed"
    methods: ClassVar[tuple[str, ...]] = ENCODERS

    def unit_rows(self, codec: Codec, cols: int, weighted: bool, fed: bool = False) -> int:
        return WEIGHTED_ROWS if weighted else super().unit_rows(codec, cols, weighted, fed)

    def feedback_block(self, codec: Codec) -> int:
        return codec.step_columns

    def exp_bias(self, codec: Codec, w: np.ndarray) -> int:
        return exponent_bias(w) if codec.has_exp_bias else 0

    def limit(self, codec: Codec, bias: int) -> float:
        """Where all words are about equally bad, and no bound ends the search of a block."""
        if codec.has_exp_bias:
            return LARGEST_WEIGHT * 2.0**bias
        return float(codec.weight_max << codec.exponent_max) * LARGEST_SCALE

    def encode(self, w, codec, method, *, bias=0, importance=None, feedback=None, engine="auto", threads=None):
        importance = self.check_importance(importance, w.shape[1])
        options = {"bias": bias, "importance": importance, "feedback": feedback, "engine": engine, "threads": threads}
        return encode_rows(w, codec, method, **options)


ENCODER = SeedEncoder()
