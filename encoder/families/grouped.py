"""The encoder of the family `grouped`: scales by the formats' own rules or by search, see `seedlm.encoder.grouped`."""

from __future__ import annotations

from typing import ClassVar

from seedlm.encoder.families._base import Encoder
from seedlm.encoder.grouped.search import encode_groups, largest_scaled
from seedlm.golden.codecs import Codec

__all__ = ["ENCODER"]


class GroupedEncoder(Encoder):
    """``nearest`` is the rule of a format's own text, which asks for no importance; ``optimal`` the least error."""

    family: ClassVar[str] = "grouped"
    methods: ClassVar[tuple[str, ...]] = ("optimal", "nearest")

    def limit(self, codec: Codec, bias: int) -> float:
        return largest_scaled(codec)

    def encode(self, w, codec, method, *, bias=0, importance=None, feedback=None, engine="auto", threads=None):
        importance = self.check_importance(importance, w.shape[1])
        packed = encode_groups(w, codec, method == "optimal", importance)
        return packed.words, packed.scales


ENCODER = GroupedEncoder()
