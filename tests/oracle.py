"""The numeric contract a second time: plain Python integers and fractions, one value at a time.

Written from the text of the specification and nothing else: no NumPy, nothing from `golden`, no
tricks, so that a mistake in one of the two shows as a difference. Values that have a format are
passed as its bits (binary16 and binary32 as unsigned integers, words as integers).
"""

from __future__ import annotations

from fractions import Fraction

TAPS = {
    2: (0, 1), 3: (0, 1), 4: (0, 1), 5: (0, 2), 6: (0, 1), 7: (0, 1), 8: (0, 2, 3, 4), 9: (0, 4), 10: (0, 3),
    11: (0, 2), 12: (0, 1, 2, 8), 13: (0, 1, 2, 5), 14: (0, 1, 2, 12), 15: (0, 1), 16: (0, 1, 3, 12), 17: (0, 3),
    18: (0, 7), 19: (0, 1, 2, 5), 20: (0, 3), 21: (0, 2), 22: (0, 1), 23: (0, 5), 24: (0, 1, 2, 7),
}  # fmt: skip

NAN = 0x7FC00000


# --- the shift register ----------------------------------------------------------------------------
def lfsr_step(state: int, K: int) -> int:
    feedback = 0
    for tap in TAPS[K]:
        feedback ^= (state >> tap) & 1
    return (state >> 1) | (feedback << (K - 1))


def v_matrix(seed: int, C: int, P: int, K: int) -> list[list[int]]:
    state = seed
    rows = []
    for _ in range(C):
        row = []
        for _ in range(P):
            state = lfsr_step(state, K)
            row.append(state)
        rows.append(row)
    return rows


# --- block words -----------------------------------------------------------------------------------
def twos_complement(field: int, bits: int) -> int:
    return field - (1 << bits) if bits > 0 and field >= 1 << (bits - 1) else field


def fields(word: int, P: int, K: int, B: int) -> tuple[int, int, list[int]]:
    """Seed, exponent, coefficients."""
    seed = word % 2**K
    exponent = twos_complement((word >> K) % 2**B, B)
    q = [twos_complement((word >> (K + B + 4 * p)) % 16, 4) for p in range(P)]
    return seed, exponent, q


def block(word: int, C: int, P: int, K: int, B: int) -> tuple[list[int], int]:
    """The integer weights N of a block and its exponent."""
    seed, exponent, q = fields(word, P, K, B)
    v = v_matrix(seed, C, P, K)
    return [sum(q[p] * (v[c][p] - 2 ** (K - 1)) for p in range(P)) for c in range(C)], exponent


def block_weights(word: int, C: int, P: int, K: int, B: int, bias: int = 0) -> list[Fraction]:
    """The paper's form: N * 2**(e + b) / (2**(K-1) - 1)."""
    n, e = block(word, C, P, K, B)
    return [value * Fraction(2) ** (e + bias) / (2 ** (K - 1) - 1) for value in n]


def scaled_block_weights(word: int, C: int, P: int, K: int, B: int, scale: int) -> list[Fraction]:
    """With row scales: N * 2**e * scale, the scale as binary32 bits."""
    n, e = block(word, C, P, K, B)
    return [value * Fraction(2) ** e * binary32(scale) for value in n]


def pack_bits(words: list[int], bits: int) -> bytes:
    """Words back to back, little endian, filled with zero bits to whole bytes."""
    number = 0
    for i, word in enumerate(words):
        number += word << (i * bits)
    return number.to_bytes((len(words) * bits + 7) // 8, "little")


def image(rows: list[list[int]], bits: int, lanes: int, beat_bytes: int) -> bytes:
    """The memory image of rows of words."""
    blocks = len(rows[0])
    stream = []
    for first in range(0, len(rows), lanes):
        for j in range(blocks):
            for lane in range(lanes):
                stream.append(rows[first + lane][j] if first + lane < len(rows) else 0)
    data = pack_bits(stream, bits)
    return data + bytes(-len(data) % beat_bytes)


# --- floating point --------------------------------------------------------------------------------
def binary16(bits: int) -> Fraction | None:
    """The value of a binary16; None for NaN and the infinities. -0 is 0."""
    sign, exponent, mantissa = bits >> 15, (bits >> 10) % 32, bits % 1024
    if exponent == 31:
        return None
    if exponent == 0:
        value = mantissa * Fraction(2) ** -24
    else:
        value = (1024 + mantissa) * Fraction(2) ** (exponent - 25)
    return -value if sign else value


def binary32(bits: int) -> Fraction | None:
    """The value of a binary32; None for NaN and the infinities. -0 is 0."""
    sign, exponent, mantissa = bits >> 31, (bits >> 23) % 256, bits % 2**23
    if exponent == 255:
        return None
    if exponent == 0:
        value = mantissa * Fraction(2) ** -149
    else:
        value = (2**23 + mantissa) * Fraction(2) ** (exponent - 150)
    return -value if sign else value


def floor_log2(value: Fraction) -> int:
    """Of a positive number, by counting from a guess."""
    n = value.numerator.bit_length() - value.denominator.bit_length()
    while Fraction(2) ** (n + 1) <= value:
        n += 1
    while Fraction(2) ** n > value:
        n -= 1
    return n


def round_even(value: Fraction) -> int:
    """The nearest integer, the even one of two."""
    below = value.numerator // value.denominator
    rest = value - below
    if rest > Fraction(1, 2) or (rest == Fraction(1, 2) and below % 2 == 1):
        return below + 1
    return below


def fl32(value: Fraction, negative: bool | None = None) -> int:
    """The binary32 nearest to `value`, as bits; `negative` is the sign of a zero."""
    if negative is None:
        negative = value < 0
    sign = 1 << 31 if negative else 0
    magnitude = abs(value)
    if magnitude == 0:
        return sign
    exponent = max(floor_log2(magnitude), -126)
    mantissa = round_even(magnitude / Fraction(2) ** (exponent - 23))
    if mantissa == 2**24:
        mantissa, exponent = 2**23, exponent + 1
    if exponent > 127:
        return sign | 0x7F800000
    if mantissa < 2**23:
        return sign | mantissa
    return sign | (exponent + 127) << 23 | (mantissa - 2**23)


def fl32_mul(a: int, b: int) -> int:
    """The product of two finite binary32, as bits."""
    return fl32(binary32(a) * binary32(b), negative=(a >> 31) != (b >> 31))


def default_scale(K: int, bias: int = 0) -> int:
    return fl32(Fraction(2) ** bias / (2 ** (K - 1) - 1))


# --- activations and product -----------------------------------------------------------------------
def groups(x: list[int], G: int) -> list[tuple[list[int], int]]:
    """Mantissas and exponent of each group of G finite binary16 activations."""
    out = []
    for start in range(0, len(x), G):
        values = [binary16(bits) for bits in x[start : start + G]]
        values += [Fraction(0)] * (G - len(values))
        E = max([-14, *(floor_log2(abs(value)) for value in values if value != 0)])
        out.append(([round_even(value * Fraction(2) ** (16 - E)) for value in values], E))
    return out


def half_term(bits: int) -> tuple[int, int]:
    """M and z + 24 of a finite binary16 weight M * 2**z."""
    exponent, mantissa = (bits >> 10) % 32, bits % 1024
    M, z = (mantissa, -24) if exponent == 0 else (1024 + mantissa, exponent - 25)
    return (-M if bits >> 15 else M), z + 24


def exact(rows: list[list[tuple[int, int]]], x: list[int], G: int) -> list[int]:
    """A of every row; a row is (N, shift) of every weight, and may be longer than x."""
    vector = [(m, E) for group, E in groups(x, G) for m in group]
    out = []
    for row in rows:
        total = 0
        for (n, shift), (m, E) in zip(row, vector, strict=False):
            total += (n * m) << (shift + E + 14)
        out.append(total)
    return out


def results(A: list[int], fraction_bits: int, scales: list[int]) -> list[int]:
    """y of every row: two roundings, as binary32 bits."""
    return [fl32_mul(fl32(a * Fraction(2) ** -fraction_bits), scale) for a, scale in zip(A, scales, strict=True)]


def product(
    rows: list[list[tuple[int, int]]], x: list[int], G: int, fraction_bits: int, scales: list[int]
) -> list[int]:
    if any(binary16(bits) is None for bits in x):
        return [NAN] * len(rows)
    return results(exact(rows, x, G), fraction_bits, scales)
