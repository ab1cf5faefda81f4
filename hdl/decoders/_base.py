"""The contract between a lane and its decoder: words of a codec's family in, integer weights out.

A lane is a decoder, a dot product and an exact accumulator. It works for every decoder that keeps to what stands here;
`check` refuses the others, with the reason, when the hardware is elaborated.
"""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from seedlm.golden.codecs import Codec
from seedlm.golden.codecs._base import signed_bits
from seedlm.golden.errors import SeedLMError

__all__ = ["MAX_LATENCY", "WeightDecoder", "WordPart", "check"]

MAX_LATENCY = 30  # clocks; what the tests of the lanes and of the activation buffer reach
# Other ports of a decoder or a lane.
_RESERVED = {"first", "valid", "weights", "shift", "factor", "i", "o", "accumulator"}


@dataclass(frozen=True)
class WordPart:
    """Bits of a lane's word that a decoder wants at the same time.

    A part has a port of its own, since the array delays words lane by lane in shift registers anyway: bits that are
    wanted later wait there, and not once more in the decoder.

    Attributes
    ----------
    name : str
        Of the port.
    bits : slice
        Of the word.
    phase : int
        Clocks after the parts of phase 0.
    """

    name: str
    bits: slice
    phase: int = 0

    @property
    def width(self) -> int:
        return self.bits.stop - self.bits.start


class WeightDecoder(wiring.Component):
    """One word per clock becomes the integer weights N of a step's columns, and how far their products are shifted.

    No flow control: a word enters in every clock, also where none counts; its weights leave `latency` clocks later.
    Outputs are registers, so that nothing lies between them and the multipliers. A subclass gives the attributes below
    (as class attributes or properties) and `elaborate`; the constructor makes the ports.

    Parameters
    ----------
    codec : Codec
        Of the decoder's family.

    Attributes
    ----------
    latency : int
        Clocks from the parts of phase 0 to the outputs, 1 to `MAX_LATENCY`.
    columns : int
        Weights of a word.
    weight_bits : int
        Signed width of a weight.
    max_shift : int
        Largest shift, 0 if words give none.
    shift_per_column : bool
        Every weight has a shift of its own, instead of one common to the step. The lane then aligns the products
        before it adds them.
    factor_max : int
        Largest magnitude of M, with which the step's sum of products is multiplied; 1 if words give none.
    keeps_state : bool
        What a word stands for depends on the words before it in its row: the decoder has `first` and `valid`.
    word_parts : tuple of WordPart
        Together all bits of the word. One part ``word`` by default.

    Members
    -------
    <name of each part> : In(width of the part)
        Its bits, `phase` clocks later than the parts of phase 0.
    first, valid : In(1)
        Beside the parts of phase 0: the word counts; it is the first one of its row. Only with `keeps_state`.
    weights : Out(columns x signed(weight_bits))
        Column 0 first.
    shift : Out(range(max_shift + 1)) or Out(columns x range(max_shift + 1))
        Beside `weights`. Only if `max_shift` is not 0.
    factor : Out(signed)
        M, beside `weights`. Only if `factor_max` is not 1.
    """

    latency: int
    columns: int
    weight_bits: int
    max_shift: int = 0
    factor_max: int = 1
    shift_per_column: bool = False
    keeps_state: bool = False

    def __init__(self, *, codec: Codec) -> None:
        self.codec = codec
        check(self)
        members = {part.name: In(part.width) for part in self.word_parts}
        if self.keeps_state:
            members |= {"first": In(1), "valid": In(1)}
        members["weights"] = Out(data.ArrayLayout(signed(self.weight_bits), self.columns))
        if self.max_shift:
            amount = range(self.max_shift + 1)
            members["shift"] = Out(data.ArrayLayout(amount, self.columns) if self.shift_per_column else amount)
        if self.factor_max > 1:
            members["factor"] = Out(signed(signed_bits(self.factor_max)))
        super().__init__(members)

    @property
    def word_parts(self) -> tuple[WordPart, ...]:
        return (WordPart("word", slice(0, self.codec.word_bits)),)


def check(decoder: WeightDecoder) -> None:
    """Raise `SeedLMError` unless `decoder` keeps to the contract and fits its codec."""
    codec, what = decoder.codec, f"the decoder of codec {decoder.codec}"

    def require(condition: bool, message: str) -> None:
        if not condition:
            raise SeedLMError(f"{what} {message}")

    def equal(name: str, expected: object) -> None:
        found = getattr(decoder, name)
        require(found == expected, f"has {name} = {found}, the codec {expected}")

    require(1 <= decoder.latency <= MAX_LATENCY,
            f"must have a latency of 1 to {MAX_LATENCY} clocks, not {decoder.latency}")  # fmt: skip
    equal("columns", codec.step_columns)
    equal("weight_bits", codec.weight_bits)
    require(not (codec.column_shift_max and codec.step_shift_max), "cannot shift both columns and steps")
    equal("max_shift", codec.column_shift_max or codec.step_shift_max)
    equal("shift_per_column", codec.column_shift_max > 0)
    equal("factor_max", codec.factor_max)
    at = 0
    for part in sorted(decoder.word_parts, key=lambda part: part.bits.start):
        require(part.name.isidentifier() and part.name not in _RESERVED, f"cannot call a part of the word {part.name}")
        require(part.bits.start == at and part.width > 0,
                f"takes bits {part.bits.start} to {part.bits.stop} as {part.name}, expected to begin at {at}",
        )  # fmt: skip
        require(0 <= part.phase < decoder.latency,
                f"wants {part.name} after {part.phase} clocks, expected 0 to {decoder.latency - 1}")  # fmt: skip
        at = part.bits.stop
    require(at == codec.word_bits, f"takes {at} bits of a word of {codec.word_bits}")
