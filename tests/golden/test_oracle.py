"""The oracle itself, against values worked out by hand and against the machine's own arithmetic."""

from fractions import Fraction

import numpy as np
import pytest

from tests import oracle


def test_check_value_of_the_paper():
    assert oracle.v_matrix(4, C=4, P=2, K=3) == [[2, 5], [6, 7], [3, 1], [4, 2]]


def test_a_block_by_hand():
    # seedlm4: seed 1, exponent -8, coefficients 7, -8, 1. After seed 1 (taps 0, 1, 3, 12; feedback 1) come
    # 0x8000, then 0x4000 (no tap set), then 0x2000: V - 2**15 = 0, -0x4000, -0x6000.
    word = 1 | 0b1000 << 16 | 0x7 << 20 | 0x8 << 24 | 0x1 << 28
    assert oracle.fields(word, 3, 16, 4) == (1, -8, [7, -8, 1])
    n, _ = oracle.block(word, 8, 3, 16, 4)
    assert n[0] == 7 * 0 + -8 * -0x4000 + 1 * -0x6000 == 106496
    assert oracle.block_weights(word, 8, 3, 16, 4)[0] == Fraction(106496, 256 * 32767)
    assert oracle.block_weights(word, 8, 3, 16, 4, bias=3)[0] == Fraction(106496, 32 * 32767)
    assert oracle.scaled_block_weights(word, 8, 3, 16, 4, 0xC0000000)[0] == Fraction(-106496, 128)


@pytest.mark.parametrize(
    ("value", "bits"),
    [
        (Fraction(0), 0x00000000),
        (Fraction(1), 0x3F800000),
        (Fraction(-2), 0xC0000000),
        (Fraction(2**24 + 1), 0x4B800000),  # tie, even below
        (Fraction(2**24 + 3), 0x4B800002),  # tie, even above
        (Fraction(2**25 - 1), 0x4C000000),  # rounds up to the next power of two
        (Fraction(2) ** -149, 0x00000001),
        (Fraction(2) ** -150, 0x00000000),  # tie at half of the smallest
        (-(Fraction(2) ** -150), 0x80000000),
        (Fraction(3, 2) * Fraction(2) ** -149, 0x00000002),
        (Fraction(2**24 - 1) * Fraction(2) ** -150, 0x00800000),  # rounds up to the smallest normal number
        (Fraction(2**24 - 1) * Fraction(2) ** 104, 0x7F7FFFFF),
        (Fraction(2**25 - 1) * Fraction(2) ** 103, 0x7F800000),  # tie above the largest: infinity
        (Fraction(2**26 - 3) * Fraction(2) ** 102, 0x7F7FFFFF),  # just below that tie
    ],
)
def test_fl32_by_hand(value, bits):
    assert oracle.fl32(value) == bits


def test_zero_keeps_the_sign_of_a_product():
    assert oracle.fl32_mul(0x00000000, 0xBF800000) == 0x80000000
    assert oracle.fl32_mul(0x80000000, 0xBF800000) == 0x00000000
    assert oracle.fl32_mul(0x80000001, 0x00000001) == 0x80000000


def test_fl32_is_the_machines(rng):
    for value in np.ldexp(rng.standard_normal(500), rng.integers(-155, 130, 500)):
        with np.errstate(over="ignore", under="ignore"):
            assert oracle.fl32(Fraction(float(value))) == int(np.float32(value).view(np.uint32))


def test_formats_are_numpys():
    halves = np.arange(1 << 16, dtype=np.uint16)
    for bits, value in zip(halves.tolist(), halves.view(np.float16).tolist(), strict=True):
        expected = Fraction(value) if np.isfinite(value) else None
        assert oracle.binary16(bits) == expected


def test_a_group_by_hand():
    # 1.5, -1 - 2**-10, 2**-24 and nothing else: E = 0, mantissas in units of 2**-16; 2**-24 rounds to 0.
    assert oracle.groups([0x3E00, 0xBC01, 0x0001], 8) == [([98304, -65600, 0, 0, 0, 0, 0, 0], 0)]
    # Ties: with E = 7 the unit is 2**-9. 1 + 2**-10 has its last bit at half a unit: 512.5 -> 512, 513.5 -> 514.
    assert oracle.groups([0x5800, 0x3C01, 0x3C03], 3) == [([65536, 512, 514], 7)]
    # Subnormal numbers and zeros: E = -14.
    assert oracle.groups([0x8001, 0x8000], 2) == [([-64, 0], -14)]
