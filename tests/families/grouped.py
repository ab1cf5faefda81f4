"""Elements with a scale per group of columns, from what the formats' own texts say of a number.

Words are the bytes of a row here, and not any byte may stand anywhere: extreme rows are put together from extreme parts
(`corner_rows`).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from seedlm.golden.codecs import Codec, codec
from tests import oracle

# One of each width of words and each rule of scales; the others differ in numbers only.
QUICK = ("int4g128", "mxfp4", "mxfp6e3m2", "mx6")
NAMES = (*QUICK, "q4_0", "q8_0", "mxint8", "mxfp8e4m3", "mxfp6e2m3", "nvfp4", "mx9", "mx4", "int4g32", "mxfp8e5m2")
CODECS = [codec(name) for name in NAMES]
FRACTION_BITS = 30
CHUNK = 128


@dataclass(frozen=True)
class Layout:
    """`bits` of an element, `columns` of a word and `group` of a scale; how elements and scales are to be read."""

    bits: int
    columns: int
    group: int
    element: str
    scale: str


LAYOUTS = {
    "int4g128": Layout(4, 8, 128, "unsigned", "half and zero"),
    "int4g64": Layout(4, 8, 64, "unsigned", "half and zero"),
    "int4g32": Layout(4, 8, 32, "unsigned", "half and zero"),
    "q4_0": Layout(4, 8, 32, "less 8", "half"),
    "q8_0": Layout(8, 4, 32, "complement", "half"),
    "mxint8": Layout(8, 4, 32, "complement", "power"),
    "mxfp8e4m3": Layout(8, 4, 32, "e4m3", "power"),
    "mxfp8e5m2": Layout(8, 4, 32, "e5m2", "power"),
    "mxfp6e2m3": Layout(6, 8, 32, "e2m3", "power"),
    "mxfp6e3m2": Layout(6, 8, 32, "e3m2", "power"),
    "mxfp4": Layout(4, 8, 32, "e2m1", "power"),
    "nvfp4": Layout(4, 8, 16, "e2m1", "e4m3"),
    "mx9": Layout(8, 4, 16, "sign", "power and micro"),
    "mx6": Layout(5, 8, 16, "sign", "power and micro"),
    "mx4": Layout(3, 16, 16, "sign", "power and micro"),
}
FIELD_BITS = {"half": 16, "half and zero": 24, "power": 6, "e4m3": 8, "power and micro": 6}
# Exponent and mantissa bits and bias of the small floating point formats.
FLOATS = {"e4m3": (4, 3, 7), "e5m2": (5, 2, 15), "e2m3": (2, 3, 1), "e3m2": (3, 2, 3), "e2m1": (2, 1, 1)}
LARGEST_EXPONENT = {"mxfp8e5m2": 25}  # of the others 39


def small_float(kind: str, code: int) -> Fraction | None:
    """The value of a code; None for what is not a number."""
    E, M, bias = FLOATS[kind]
    sign, exponent, mantissa = code >> E + M, code >> M & (1 << E) - 1, Fraction(code & (1 << M) - 1, 1 << M)
    if (kind == "e4m3" and code & 0x7F == 0x7F) or (kind == "e5m2" and exponent == 31):
        return None
    value = mantissa * Fraction(2) ** (1 - bias) if exponent == 0 else (1 + mantissa) * Fraction(2) ** (exponent - bias)
    return -value if sign else value


def integer(layout: Layout, code: int) -> int | None:
    """N of a code, without zero point and microexponent."""
    if layout.element in FLOATS:
        smallest = small_float(layout.element, 1)
        value = small_float(layout.element, code)
        return None if value is None else int(value / smallest)
    if layout.element == "sign":
        magnitude = code % (1 << layout.bits - 1)
        return -magnitude if code >> layout.bits - 1 else magnitude
    if layout.element == "complement":
        return oracle.twos_complement(code, layout.bits)
    return code - 8 if layout.element == "less 8" else code


def scale(layout: Layout, field: int) -> tuple[int, int, int]:
    """M, e and the zero point of a field."""
    if layout.scale.startswith("half"):
        return *oracle.half_term(field % 2**16), field >> 16
    if layout.scale == "e4m3":
        value = int(small_float("e4m3", field) * 2**9)
        shift = max((field >> 3) - 1, 0)
        return value >> shift, shift, 0
    return 1, field, 0


def header_words(layout: Layout) -> int:
    bits = CHUNK // layout.group * FIELD_BITS[layout.scale] + ("micro" in layout.scale) * CHUNK // 2
    return -(-bits // (layout.columns * layout.bits))


def terms(kind: Codec, row: list[int]) -> list[tuple[int, int]]:
    """From the bits of the row, one after the other; of all columns that its words have."""
    layout, out = LAYOUTS[kind.name], []
    word = layout.columns * layout.bits
    bits, length = int.from_bytes(bytes(row), "little"), 8 * len(row)
    at = 0
    while at < length:
        header, at = at, at + header_words(layout) * word
        micro = header + CHUNK // layout.group * FIELD_BITS[layout.scale]
        for column in range(min(CHUNK, (length - at) // layout.bits)):
            field = bits >> header + column // layout.group * FIELD_BITS[layout.scale]
            M, e, zero = scale(layout, field % (1 << FIELD_BITS[layout.scale]))
            n = integer(layout, bits >> at + column * layout.bits & (1 << layout.bits) - 1) - zero
            if "micro" in layout.scale and not bits >> micro + column // 2 & 1:
                n *= 2
            out.append((n * M, e))
        at += CHUNK * layout.bits
    return out


def weights(kind: Codec, row: list[int], bias: int = 0) -> list[Fraction]:
    return [n * Fraction(2) ** e for n, e in terms(kind, row)]


def default_scale(kind: Codec, bias: int = 0) -> int:
    raise AssertionError("has row scales")


# --- rows from their parts --------------------------------------------------------------------------
def compose(kind: Codec, codes: list[int], fields: list[int], micro: list[int]) -> list[int]:
    """The bytes of a row."""
    layout, bits, at = LAYOUTS[kind.name], 0, 0
    word, size = layout.columns * layout.bits, FIELD_BITS[layout.scale]
    for first in range(0, len(codes), CHUNK):
        part = codes[first : first + CHUNK]
        groups = fields[first // layout.group :][: -(-len(part) // layout.group)]
        for n, field in enumerate(groups):
            bits |= field << at + n * size
        if "micro" in layout.scale:
            for n, one in enumerate(micro[first // 2 :][: -(-len(part) // 2)]):
                bits |= one << at + CHUNK // layout.group * size + n
        at += header_words(layout) * word
        for n, code in enumerate(part):
            bits |= code << at + n * layout.bits
        at += -(-len(part) // layout.columns) * word
    return list(bits.to_bytes(at // 8, "little"))


def corner_codes(layout: Layout) -> list[int]:
    """The smallest and largest of either sign, zeros of either sign, and what lies around the middle."""
    half = 1 << layout.bits - 1
    codes = {code % (2 * half) for edge in (0, half) for code in (edge - 2, edge - 1, edge, edge + 1)}
    if layout.element in FLOATS:
        E, M, _ = FLOATS[layout.element]
        codes |= {(1 << M) - 1, 1 << M, (1 << M) + 1, (1 << E + M) - 5}
    return sorted(code for code in codes if integer(layout, code) is not None)


def corner_fields(kind: Codec) -> list[int]:
    layout = LAYOUTS[kind.name]
    if layout.scale.startswith("half"):
        halves = [0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x0400, 0x3C00, 0xBC01, 0x7BFF, 0xFBFF]
        zeros = [0, 1, 8, 15, 16] if layout.scale == "half and zero" else [0]
        return [zero << 16 | half for half in halves for zero in zeros]
    if layout.scale == "e4m3":
        return [0x00, 0x01, 0x07, 0x08, 0x09, 0x38, 0x77, 0x7E]
    top = LARGEST_EXPONENT.get(kind.name, 39)
    return [0, 1, top // 2, top - 1, top]


def corner_rows(kind: Codec, rows: int, cols: int, rng: np.random.Generator) -> np.ndarray:
    """Words of rows that are made of extreme parts."""
    layout = LAYOUTS[kind.name]
    codes, fields = corner_codes(layout), corner_fields(kind)
    out = []
    for _ in range(rows):
        chosen = rng.choice(fields, -(-cols // layout.group)).tolist()
        out.append(compose(kind, rng.choice(codes, cols).tolist(), chosen, rng.integers(0, 2, -(-cols // 2)).tolist()))
    return np.array(out, dtype=np.uint8)


def largest_row(kind: Codec, count: int) -> list[int]:
    """Of `count` bytes, all weights the largest of one sign (of nvfp4: with the largest M, not the largest scale)."""
    layout = LAYOUTS[kind.name]
    header = header_words(layout) * layout.columns * layout.bits // 8
    chunk = header + CHUNK * layout.bits // 8
    cols = sum((min(chunk, count - at) - header) * 8 // layout.bits for at in range(0, count, chunk))
    field = max(corner_fields(kind), key=lambda f: (abs(scale(layout, f)[0]), *scale(layout, f)[1:]))
    zero = scale(layout, field)[2]
    every = [code for code in range(1 << layout.bits) if integer(layout, code) is not None]
    code = max(every, key=lambda c: abs(integer(layout, c) - zero))
    return compose(kind, [code] * cols, [field] * -(-cols // layout.group), [0] * -(-cols // 2))
