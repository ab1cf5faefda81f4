"""Encoders of the codec families: one module each, found by itself; nothing else in the encoder names a family.

A family's module has one `Encoder` called ``ENCODER``. See docs/extending.md.
"""

from __future__ import annotations

from seedlm.encoder.families._base import Encoder
from seedlm.golden.codecs import Codec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.registry import modules

__all__ = ["ENCODERS", "METHODS", "Encoder", "encoder_of", "method_of"]

ENCODERS: dict[str, Encoder] = {m.ENCODER.family: m.ENCODER for m in modules(__name__)}
METHODS = tuple(dict.fromkeys(method for encoder in ENCODERS.values() for method in encoder.methods))


def encoder_of(codec: Codec) -> Encoder:
    """The encoder of a codec's family."""
    return ENCODERS[codec.family]


def method_of(codec: Codec, asked: str) -> str | None:
    """The method by which words of a codec are searched where `asked` is wanted; None where there is nothing to choose.

    One is asked for in a whole model, whose codecs may be of several families: one without it takes its best.

    Raises
    ------
    SeedLMError
        No family has it.
    """
    if asked not in METHODS:
        raise SeedLMError(f"unknown encoder {asked!r}: expected {' or '.join(METHODS)}")
    methods = encoder_of(codec).methods
    return asked if asked in methods else next(iter(methods), None)
