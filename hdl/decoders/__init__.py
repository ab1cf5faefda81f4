"""Weight decoders: one module per codec family, found by itself; the rest of the hardware names none of them.

A module called like its family has one subclass of `WeightDecoder` called ``DECODER``.
"""

from __future__ import annotations

from seedlm.golden.codecs import Codec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.registry import modules
from seedlm.hdl.decoders._base import WeightDecoder

__all__ = ["DECODERS", "WeightDecoder", "weight_decoder"]

DECODERS: dict[str, type[WeightDecoder]] = {m.__name__.rpartition(".")[2]: m.DECODER for m in modules(__name__)}


def weight_decoder(codec: Codec) -> WeightDecoder:
    """A decoder for the words of `codec`.

    Raises
    ------
    SeedLMError
        The codec's family has no decoder, or one that does not keep to the contract.
    """
    if codec.family not in DECODERS:
        raise SeedLMError(f"codec {codec}: there is no decoder for the family {codec.family}")
    return DECODERS[codec.family](codec=codec)
