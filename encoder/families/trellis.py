"""The encoder of the family `trellis`: the best path for every row, see `seedlm.encoder.trellis`."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from seedlm.encoder.engines import LANES
from seedlm.encoder.families._base import Encoder
from seedlm.encoder.trellis.rows import BLOCK, encode_fed_rows, encode_rows
from seedlm.golden.codecs import Codec

__all__ = ["ENCODER"]


class TrellisEncoder(Encoder):
    """Paths of least cost for a few row scales."""

    family: ClassVar[str] = "trellis"
    together: ClassVar[int] = LANES

    def limit(self, codec: Codec, bias: int) -> float:
        return np.inf

    def feedback_block(self, codec: Codec) -> int:
        return BLOCK

    def encode(self, w, codec, method, *, bias=0, importance=None, feedback=None, engine="auto", threads=None):
        if feedback is not None:
            return encode_fed_rows(w, codec, feedback, engine=engine, threads=threads)
        importance = self.check_importance(importance, w.shape[1])
        return encode_rows(w, codec, importance=importance, engine=engine, threads=threads)


ENCODER = TrellisEncoder()
