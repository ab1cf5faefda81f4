"""The encoder of the family `float16`: weights rounded to binary16."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from seedlm.encoder.families._base import Encoder
from seedlm.golden.codecs import Codec

__all__ = ["ENCODER"]


class Float16Encoder(Encoder):
    """To nearest, ties to even; every weight by itself."""

    family: ClassVar[str] = "float16"
    uses_importance: ClassVar[bool] = False
    quick: ClassVar[bool] = True

    def limit(self, codec: Codec, bias: int) -> float:
        """The smallest magnitude that rounds to infinity."""
        return 65520.0

    def encode(self, w, codec, method, *, bias=0, importance=None, feedback=None, engine="auto", threads=None):
        return np.ascontiguousarray(w, dtype=np.float16).view(np.uint16), None


ENCODER = Float16Encoder()
