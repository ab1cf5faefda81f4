from fractions import Fraction

import numpy as np
import pytest

from seedlm.golden.fp32 import QUIET_NAN, fl32_from_int, fl32_from_pair, fl32_from_ratio, fl32_mul, split
from tests import oracle
from tests.golden.corners import bits32


def rounding_corners():
    """Integers around every place where a rounding decision falls, of 1 to 110 bits."""
    out = [0]
    for width in range(1, 111):
        base = 1 << (width - 1)
        out += [base - 1, base, base + 1]
        if width > 25:
            ulp = 1 << (width - 24)
            for m in (base, base + ulp, 2 * base - ulp):  # even, odd, and the last before a power of two
                out += [m + ulp // 2 + d for d in (-1, 0, 1)]
                # the digit that decides is many places below
                out += [m + ulp // 2 + 1, m + ulp // 2 - 1, m + 1, m - 1]
    return out + [-a for a in out]


@pytest.mark.parametrize("fraction_bits", [0, 38, 54, 150, 200])
def test_rounding_of_integers(fraction_bits, rng):
    values = rounding_corners()
    mantissas, shifts = rng.integers(-(1 << 62), 1 << 62, 300).tolist(), rng.integers(0, 50, 300).tolist()
    values += [a << s for a, s in zip(mantissas, shifts, strict=True)]
    expected = [oracle.fl32(a * Fraction(2) ** -fraction_bits) for a in values]
    assert bits32(fl32_from_int(values, fraction_bits)) == expected
    assert bits32(fl32_from_pair(*split(values), fraction_bits)) == expected


def test_integers_of_any_size():
    assert bits32(fl32_from_int([1 << 300, -(1 << 300), 3 << 200, 1 << 127], 0)) == [
        0x7F800000, 0xFF800000, 0x7F800000, 0x7F000000,
    ]  # fmt: skip
    assert bits32(fl32_from_int((1 << 400) + (1 << 376) + 1, 400)) == [0x3F800001]  # a tie but for the last of 400 bits
    assert fl32_from_int(np.arange(6).reshape(2, 3), 1).tolist() == [[0.0, 0.5, 1.0], [1.5, 2.0, 2.5]]


def test_split_is_the_integer():
    for value in (0, 1, -1, (1 << 56) - 1, -(1 << 56), -(1 << 56) - 1, (1 << 117) + 5, -(1 << 117)):
        high, low = split([value])
        assert (int(high[0]) << 56) + int(low[0]) == value
        assert 0 <= low[0] < 1 << 56


def test_zero_is_positive_and_takes_the_sign_of_the_scale():
    zero = fl32_from_int(0, 38)
    assert bits32(zero) == [0x00000000]
    assert bits32(fl32_from_pair(*split([0]), 38)) == [0x00000000]
    assert bits32(fl32_mul(zero, np.float32(-3))) == [0x80000000]
    # A negative result that vanishes keeps its sign.
    assert bits32(fl32_from_int(-1, 151)) == [0x80000000]


CORNERS = [
    0x00000000, 0x00000001, 0x00000002, 0x007FFFFF, 0x00800000, 0x00800001, 0x3F000000, 0x3F000001, 0x3F7FFFFF,
    0x3F800000, 0x3F800001, 0x1FFFFFFF, 0x20000000, 0x5F800000, 0x7F000000, 0x7F7FFFFE, 0x7F7FFFFF,
]  # fmt: skip


def test_multiplication(rng):
    corners = [b | s for b in CORNERS for s in (0, 1 << 31)]
    # Around 2**-75 the products are subnormal, around 2**64 they overflow.
    near = rng.integers(50 << 23, 54 << 23, 300, dtype=np.uint32).tolist()
    near += rng.integers(189 << 23, 192 << 23, 100, dtype=np.uint32).tolist()
    anywhere = rng.integers(0, 255 << 23, 200, dtype=np.uint32).tolist()
    a = [x for x in corners for _ in corners] + near + anywhere
    b = [y for _ in corners for y in corners] + near[::-1] + anywhere[::-1]
    found = fl32_mul(np.array(a, np.uint32).view(np.float32), np.array(b, np.uint32).view(np.float32))
    assert bits32(found) == [oracle.fl32_mul(x, y) for x, y in zip(a, b, strict=True)]
    with np.errstate(all="ignore"):
        machine = np.array(a, np.uint32).view(np.float32) * np.array(b, np.uint32).view(np.float32)
    assert bits32(found) == bits32(machine)


def test_multiplication_by_hand():
    def mul(a, b):
        return bits32(fl32_mul(np.uint32(a).view(np.float32), np.uint32(b).view(np.float32)))[0]

    assert mul(0x3FC00001, 0x3FC00001) == 0x40100002  # (1.5 + u)**2 = 2.25 + 3u + u**2, u = 2**-23; the unit is 2u
    assert mul(0x00000001, 0x3F000000) == 0x00000000  # half of the smallest: tie to even, 0
    assert mul(0x00000003, 0x3F000000) == 0x00000002  # 1.5 of the smallest: tie to even, 2
    assert mul(0x00FFFFFF, 0x3F000000) == 0x00800000  # rounds up into the normal numbers
    assert mul(0x7F7FFFFF, 0x3F800001) == 0x7F800000
    assert mul(0x7F7FFFFF, 0xC0000000) == 0xFF800000


@pytest.mark.parametrize("K", range(2, 25))
def test_ratio(K):
    for bias in (-140, -30, -1, 0, 1, 17, 100, 200):
        denominator = (1 << (K - 1)) - 1
        found = fl32_from_ratio(1 << max(bias, 0), denominator << max(-bias, 0))
        assert bits32(found) == [oracle.default_scale(K, bias)]
    # Just above a tie, told by the remainder only.
    assert bits32(fl32_from_ratio((1 << 200) + (1 << 176) + 1, 1 << 200)) == [0x3F800001]
    assert bits32(fl32_from_ratio(-2, 3)) == [oracle.fl32(Fraction(-2, 3))]


def test_default_scale_by_hand():
    # 1/32767 = 2**-15 (1 + 2**-15 + 2**-30 + ...): the last place is 2**-23, 2**-30 is below half of it.
    assert bits32(fl32_from_ratio(1, 32767)) == [(127 - 15) << 23 | 1 << 8]


def test_quiet_nan():
    assert bits32(QUIET_NAN) == [0x7FC00000]
