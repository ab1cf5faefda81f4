"""Encoders of the codec families: one module each, found by itself; nothing else in the encoder names a family.

A family's module has one `Encoder` called ``ENCODER``. See docs/extending.md.
"""

from __future__ import annotations

from seedlm.encoder.families._base import Encoder
from seedlm.golden.codecs import Codec
from seedlm.golden.registry import modules

__all__ = ["ENCODERS", "METHODS", "Encoder", "encoder_of"]

ENCODERS: dict[str, Encoder] = {m.ENCODER.family: m.ENCODER for m in modules(__name__)}
METHODS = tuple(dict.fromkeys(method for encoder in ENCODERS.values() for method in encoder.methods))


def encoder_of(codec: Codec) -> Encoder:
    """The encoder of a codec's family."""
    return ENCODERS[codec.family]
