"""Elements of few bits that share a scale per group of columns: the formats of other programs, exactly.

A weight is N * M * 2**e * scale_r: N from the element, M and e from the group's scale, scale_r the row's binary32;
A_r = sum over steps of (sum of (N M) m) << (e + E_g + 14). What elements and scales stand for, and which of them are
refused, is in `_elements.py` and `_scales.py`.

A row is a string of words. For every `CHUNK` columns (the last chunk may have fewer) `header_steps` words of scales
come first, then the elements, `step_columns` to a word, the lowest column in the lowest bits. The fields of the scales
stand back to back in the order of their groups, the microexponents behind them, a bit for every two columns; the rest
of a header is zero, and so are fields and elements past the end of the row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from seedlm.golden.codecs import _elements as elements
from seedlm.golden.codecs import _scales as scales
from seedlm.golden.codecs._base import Codec, Fault, require
from seedlm.golden.codecs._elements import Element
from seedlm.golden.codecs._scales import Scale
from seedlm.golden.errors import SeedLMError
from seedlm.golden.packing import from_bytes, to_bytes

__all__ = ["CHUNK", "FAMILY", "FORMATS", "Format", "GroupedCodec"]

ORDER = 25
CHUNK = 128  # columns whose scales stand together
GROUP = 16  # G
INT4_GROUPS = (32, 64, 128)
STEP_COLUMNS = {8: 4, 6: 8, 5: 8, 4: 8, 3: 16}  # by bits of an element: words of 32, 48, 40, 32, 48 bits
_INT4 = re.compile(r"int4g\d+")


@dataclass(frozen=True)
class Format:
    """What the groups of a format are made of.

    Parameters
    ----------
    number : int
        0 to 31, in the accelerator's identity register; never given twice.
    element : Element
    scale : Scale
    columns : int
        Of a group. 0: the name says it.
    """

    number: int
    element: Element
    scale: Scale
    columns: int


FORMATS: dict[str, Format] = {
    "int4": Format(0, elements.UINT4, scales.BINARY16_ZERO, 0),
    "q4_0": Format(1, elements.OFFSET4, scales.BINARY16, 32),
    "q8_0": Format(2, elements.INT8, scales.BINARY16, 32),
    "mxint8": Format(3, elements.FIXED8, scales.EXPONENT, 32),
    "mxfp8e4m3": Format(4, elements.E4M3, scales.EXPONENT, 32),
    "mxfp8e5m2": Format(5, elements.E5M2, scales.EXPONENT_FEW, 32),
    "mxfp6e2m3": Format(6, elements.E2M3, scales.EXPONENT, 32),
    "mxfp6e3m2": Format(7, elements.E3M2, scales.EXPONENT, 32),
    "mxfp4": Format(8, elements.E2M1, scales.EXPONENT, 32),
    "nvfp4": Format(9, elements.E2M1, scales.E4M3_SCALE, 16),
    "mx9": Format(10, elements.SIGNED8, scales.EXPONENT_MICRO, 16),
    "mx6": Format(11, elements.SIGNED5, scales.EXPONENT_MICRO, 16),
    "mx4": Format(12, elements.SIGNED3, scales.EXPONENT_MICRO, 16),
}
# Its integers have 32 bits, and a multiplier takes 25: there is no build with it, so it stands in no list.
UNBUILT = "mxfp8e5m2"


@dataclass(frozen=True, kw_only=True)
class GroupedCodec(Codec):
    """A format in groups; in memory the stored rows, uint8 [rows, row_bytes].

    Parameters
    ----------
    format : str
        Name in `FORMATS`.
    scale_group : int
        Columns that share a scale.
    """

    format: str
    scale_group: int

    family: ClassVar[str] = "grouped"
    family_number: ClassVar[int] = 3
    established: ClassVar[bool] = True
    fraction_bits: ClassVar[int] = 30

    # --- the family -----------------------------------------------------------------------------------
    @classmethod
    def presets(cls) -> tuple[Codec, ...]:
        return tuple(cls._named(name) for name in FORMATS if name != UNBUILT)

    @classmethod
    def every(cls) -> tuple[GroupedCodec, ...]:
        """The presets and what `parse` understands beside them."""
        more = (cls._named("int4", columns) for columns in INT4_GROUPS if columns != CHUNK)
        return (*cls.presets(), *more, cls._named(UNBUILT))

    @classmethod
    def _named(cls, name: str, columns: int = CHUNK) -> GroupedCodec:
        form = FORMATS[name]
        if form.columns:
            return cls(name=name, format=name, scale_group=form.columns)
        return cls(name=f"{name}g{columns}", format=name, scale_group=columns)

    @classmethod
    def parse(cls, name: str) -> Codec | None:
        for codec in cls.every():
            if codec.name == name:
                return codec
        require(not _INT4.fullmatch(name), f"codec {name}: a group has 32, 64 or 128 columns")
        return None

    @classmethod
    def example(cls) -> str:
        return f"int4g32, {UNBUILT}"

    # --- sizes ----------------------------------------------------------------------------------------
    @property
    def element(self) -> Element:
        """What the codes of weights stand for."""
        return FORMATS[self.format].element

    @property
    def scale(self) -> Scale:
        """What the fields of groups stand for."""
        return FORMATS[self.format].scale

    @property
    def has_zero_points(self) -> bool:
        """Every group has a number that is subtracted from its elements."""
        return self.scale is scales.BINARY16_ZERO

    @property
    def chunk(self) -> int:
        """Columns whose scales stand together, in front of their elements."""
        return CHUNK

    @property
    def step_columns(self) -> int:
        return STEP_COLUMNS[self.element.bits]

    @property
    def word_bits(self) -> int:
        return self.step_columns * self.element.bits

    @property
    def group(self) -> int:
        return GROUP

    @property
    def chunk_groups(self) -> int:
        """Groups of a whole chunk."""
        return CHUNK // self.scale_group

    @property
    def micro_at(self) -> int:
        """The first bit of a header behind the fields."""
        return self.chunk_groups * self.scale.field_bits

    @property
    def header_bits(self) -> int:
        """Bits of a header that stand for something."""
        return self.micro_at + self.scale.micro * CHUNK // 2

    @property
    def header_steps(self) -> int:
        """Words, and so steps, of a header, however many columns its chunk has: such a step takes no activations."""
        return -(-self.header_bits // self.word_bits)

    @property
    def bits_per_weight(self) -> float:
        """Of whole chunks, headers and what is added to fill their last words included."""
        return self.element.bits + self.header_steps * self.word_bits / CHUNK

    def blocks(self, cols: int) -> int:
        """Words of a row, those of the headers included."""
        return self.header_steps * -(-cols // CHUNK) + -(-cols // self.step_columns)

    def scale_groups(self, cols: int) -> int:
        """Scales of a row of `cols` columns."""
        return -(-cols // self.scale_group)

    def row_bytes(self, cols: int) -> int:
        return self.blocks(cols) * self.word_bits // 8

    @property
    def _header_bytes(self) -> int:
        return self.header_steps * self.word_bits // 8

    @property
    def _chunk_bytes(self) -> int:
        return self._header_bytes + CHUNK * self.element.bits // 8

    # --- numbers --------------------------------------------------------------------------------------
    @property
    def weight_max(self) -> int:
        return max(self.element.magnitude, scales.ZERO_MAX if self.has_zero_points else 0) << self.scale.micro

    @property
    def factor_max(self) -> int:
        return self.scale.significand

    @property
    def step_shift_max(self) -> int:
        return self.scale.shift_max

    @property
    def rotates(self) -> bool:
        """What a group's scale is for; and others' rows are not rotated."""
        return False

    def largest(self, exp_bias: int = 0) -> float:
        return float(self.weight_max * self.factor_max << self.step_shift_max)

    # --- words ----------------------------------------------------------------------------------------
    def words_layout(self, rows: int, cols: int) -> tuple[type, tuple[int, int]]:
        return np.uint8, (rows, self.row_bytes(cols))

    def words_to_rows(self, words: np.ndarray, cols: int) -> np.ndarray:
        return np.ascontiguousarray(words)

    def rows_to_words(self, data: np.ndarray, cols: int) -> np.ndarray:
        return np.ascontiguousarray(data)

    def assemble(self, codes: np.ndarray, fields: np.ndarray, micro: np.ndarray | None = None) -> np.ndarray:
        """Rows of words from what stands in them: the inverse of `take_apart`.

        Parameters
        ----------
        codes : np.ndarray
            uint8 [rows, cols].
        fields : np.ndarray
            Of the scales, uint32 [rows, scale_groups].
        micro : np.ndarray or None
            Microexponents, uint8 [rows, ceil(cols / 2)], where the format has them.
        """
        rows, cols = codes.shape
        chunks = -(-cols // CHUNK)
        out = np.zeros((rows, chunks, self._chunk_bytes), np.uint8)
        field_bytes = self.micro_at // 8
        per_chunk = _filled(fields, chunks * self.chunk_groups).reshape(-1, self.chunk_groups)
        out[..., :field_bytes] = to_bytes(per_chunk, self.scale.field_bits).reshape(rows, chunks, -1)
        if micro is not None:
            bits = _filled(micro, chunks * CHUNK // 2).reshape(rows, chunks, -1)
            out[..., field_bytes : field_bytes + CHUNK // 16] = np.packbits(bits, axis=-1, bitorder="little")
        packed = _packed(_filled(codes, chunks * CHUNK).reshape(-1, CHUNK), self.element.bits)
        out[..., self._header_bytes :] = packed.reshape(rows, chunks, -1)
        return np.ascontiguousarray(out.reshape(rows, -1)[:, : self.row_bytes(cols)])

    def take_apart(self, words: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Codes, fields and microexponents of words, as `assemble` takes them, for whole chunks."""
        rows = len(words)
        chunks = -(-words.shape[1] // self._chunk_bytes)
        data = _filled(words, chunks * self._chunk_bytes).reshape(rows, chunks, self._chunk_bytes)
        field_bytes = self.micro_at // 8
        fields = data[..., :field_bytes].reshape(rows * chunks, -1)
        fields = from_bytes(fields, self.scale.field_bits, self.chunk_groups, np.uint32).reshape(rows, -1)
        codes = _unpacked(data[..., self._header_bytes :], self.element.bits).reshape(rows, -1)
        if not self.scale.micro:
            return codes, fields, None
        micro = data[..., field_bytes : field_bytes + CHUNK // 16]
        return codes, fields, np.unpackbits(micro, axis=-1, bitorder="little").reshape(rows, -1)

    def _columns(self, words: np.ndarray) -> int:
        """Columns of words of this width, up to a whole step."""
        in_last = (words.shape[1] - 1) % self._chunk_bytes + 1 - self._header_bytes
        return (words.shape[1] - 1) // self._chunk_bytes * CHUNK + in_last * 8 // self.element.bits

    def check_rows(self, data: np.ndarray, cols: int) -> None:
        codes, fields, micro = self.take_apart(data)
        micro = None if micro is None else micro[:, : -(-cols // 2)]
        again = self.assemble(codes[:, :cols], fields[:, : self.scale_groups(cols)], micro)
        bad = (again != data).any(axis=1)
        require(not bad.any(), f"bits of row {int(bad.argmax())} that stand for nothing are not zero")

    def fault(self, words: np.ndarray) -> Fault | None:
        codes, fields, _ = self.take_apart(words)
        columns = self._columns(words)
        bad, what = self.scale.bad(fields[:, : self.scale_groups(columns)])
        if bad.any() or self.element.finite.all():
            return Fault(bad, what, "group")
        return Fault(~self.element.finite[codes[:, :columns]], "weights are NaN or infinite", "column")

    def integers(self, words: np.ndarray, cols: int) -> tuple[np.ndarray, int]:
        codes, fields, micro = self.take_apart(words)
        bad, what = self.scale.bad(fields)
        if bad.any():
            raise SeedLMError(f"the scales of codec {self} must be valid, found that {what}")
        if not self.element.finite.all() and not self.element.finite[codes[:, :cols]].all():
            raise SeedLMError(f"weights of codec {self} must be finite, found NaN or infinity")
        N = self.element.integers[codes].reshape(*fields.shape, self.scale_group)
        zeros = self.scale.zero_points(fields)
        if zeros is not None:
            N -= zeros[..., None]
        if micro is not None:
            pairs = N.reshape(*micro.shape, 2)
            pairs <<= (1 - micro.astype(np.int64))[..., None]
        M, e = self.scale.split(fields)
        used = N.any(axis=-1) & (M != 0)
        lowest = int(e[used].min()) if used.any() else 0
        N *= (M << np.maximum(e - lowest, 0))[..., None]
        return np.ascontiguousarray(N.reshape(len(words), -1)[:, :cols]), lowest

    def values(self, words: np.ndarray, cols: int, exp_bias: int) -> np.ndarray:
        weights, shift = self.integers(words, cols)
        return np.ldexp(weights.astype(np.float64), shift)

    def random_words(self, rows: int, cols: int, rng: np.random.Generator) -> np.ndarray:
        codes = rng.choice(np.flatnonzero(self.element.finite).astype(np.uint8), (rows, cols))
        fields = self.scale.random((rows, self.scale_groups(cols)), rng)
        micro = rng.integers(0, 2, (rows, -(-cols // 2)), dtype=np.uint8) if self.scale.micro else None
        return self.assemble(codes, fields, micro)

    def mend(self, data: np.ndarray) -> None:
        """Any word may be one of a header or of elements: as many of its bits are cleared as keep both valid."""
        step = np.full((1, self.step_columns), self.element.safe, np.uint8)
        mask = to_bytes(step, self.element.bits)[0]
        header = np.full(8 * self._header_bytes, 1, np.uint8)
        for bit in range(self.micro_at):
            header[bit] = self.scale.safe >> bit % self.scale.field_bits & 1
        for word in np.packbits(header, bitorder="little").reshape(self.header_steps, -1):
            mask &= word
        data.reshape(-1, len(mask))[:] &= mask

    # --- the outside ----------------------------------------------------------------------------------
    def register_fields(self) -> dict[str, int]:
        """P: bits of an element; K: the format's number; B: log2 of a group's columns, less 4."""
        size = self.scale_group.bit_length() - 5
        return {"C": self.step_columns, "P": self.element.bits, "K": FORMATS[self.format].number, "B": size}

    @classmethod
    def from_register(cls, fields: Mapping[str, int]) -> Codec:
        for codec in cls.every():
            if all(fields[name] == value for name, value in codec.register_fields().items()):
                return codec
        raise SeedLMError(f"no grouped codec has the number {fields['K']} and groups of {16 << fields['B']} columns")

    def describe(self) -> dict[str, object]:
        return super().describe() | {
            "element": self.element.name, "scale": self.scale.name, "scale_group": self.scale_group,
            "header_steps": self.header_steps, "chunk": CHUNK,
        }  # fmt: skip


FAMILY = GroupedCodec


def _filled(values: np.ndarray, count: int) -> np.ndarray:
    """[rows, n] with zeros up to `count`."""
    return values if values.shape[1] == count else np.pad(values, ((0, 0), (0, count - values.shape[1])))


def _packed(codes: np.ndarray, bits: int) -> np.ndarray:
    """`to_bytes`, with short ways for bytes and halves of bytes."""
    if bits == 8:
        return codes
    return codes[:, ::2] | codes[:, 1::2] << 4 if bits == 4 else to_bytes(codes, bits)


def _unpacked(data: np.ndarray, bits: int) -> np.ndarray:
    """The inverse of `_packed`: uint8 [rows, chunks, bytes] of whole chunks to uint8 [rows * chunks, `CHUNK`]."""
    data = data.reshape(-1, data.shape[-1])
    if bits == 8:
        return data
    if bits != 4:
        return from_bytes(data, bits, CHUNK, np.uint8)
    codes = np.empty((len(data), CHUNK), np.uint8)
    codes[:, ::2], codes[:, 1::2] = data & 15, data >> 4
    return codes
