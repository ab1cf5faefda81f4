"""The grouped formats: elements against another implementation, layouts and scales by hand, what is refused."""

import ml_dtypes
import numpy as np
import pytest

from seedlm.golden.codecs import CODECS, codec
from seedlm.golden.codecs import _elements as elements
from seedlm.golden.codecs.grouped import FAMILY
from seedlm.golden.errors import SeedLMError
from seedlm.golden.matrix import PackedMatrix
from seedlm.golden.packed_groups import packed_matrix
from seedlm.golden.product import exact, product
from tests.families import grouped as family

EVERY = FAMILY.every()
QUICK = [codec(name) for name in family.QUICK]


# --- elements --------------------------------------------------------------------------------------
@pytest.mark.parametrize(("element", "name"), [
    (elements.E4M3, "float8_e4m3fn"), (elements.E5M2, "float8_e5m2"), (elements.E2M3, "float6_e2m3fn"),
    (elements.E3M2, "float6_e3m2fn"), (elements.E2M1, "float4_e2m1fn"),
])  # fmt: skip
def test_small_floats_are_those_of_ml_dtypes(element, name):
    expected = np.arange(1 << element.bits, dtype=np.uint8).view(getattr(ml_dtypes, name)).astype(np.float64)
    assert element.finite.tolist() == np.isfinite(expected).tolist()
    found = np.ldexp(element.integers.astype(np.float64), -element.fraction_bits)
    assert found[element.finite].tolist() == expected[element.finite].tolist()


def test_tables_by_hand():
    """OCP Microscaling 1.0, section 5.3; GGUF's block_q4_0; the paper on shared microexponents."""
    e2m1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    assert (elements.E2M1.integers / 2).tolist() == e2m1 + [-value for value in e2m1]
    assert [elements.E4M3.integers[code] for code in (0x01, 0x08, 0x38, 0x7E)] == [1, 8, 512, 448 * 512]
    assert [elements.E5M2.integers[code] / 2**16 for code in (0x01, 0x3C, 0x7B)] == [2.0**-16, 1, 57344]
    assert [elements.E2M3.integers[code] / 8 for code in (0x01, 0x08, 0x1F, 0x3F)] == [0.125, 1, 7.5, -7.5]
    assert [elements.E3M2.integers[code] / 16 for code in (0x01, 0x0C, 0x1F, 0x3F)] == [0.0625, 1, 28, -28]
    assert [elements.FIXED8.integers[code] / 64 for code in (0x01, 0x7F, 0x80)] == [2.0**-6, 127 / 64, -2]
    assert elements.OFFSET4.integers.tolist() == list(range(-8, 8))
    assert elements.SIGNED3.integers.tolist() == [0, 1, 2, 3, 0, -1, -2, -3]
    assert elements.SIGNED5.integers[[15, 16, 31]].tolist() == [15, 0, -15]


# --- layouts ---------------------------------------------------------------------------------------
def test_rates():
    """Stored bits, and those of the format itself where padding makes them more."""
    rates = {kind.name: kind.bits_per_weight for kind in EVERY}
    assert rates == {
        "int4g128": 4.25, "int4g64": 4.5, "int4g32": 4.75, "q4_0": 4.5, "q8_0": 8.5, "mxint8": 8.25,
        "mxfp8e4m3": 8.25, "mxfp8e5m2": 8.25, "mxfp6e2m3": 6.375, "mxfp6e3m2": 6.375, "mxfp4": 4.25, "nvfp4": 4.5,
        "mx9": 9.0, "mx6": 5.9375, "mx4": 4.125,
    }  # fmt: skip
    for kind in EVERY:
        assert kind.row_bytes(8192) * 8 == 8192 * kind.bits_per_weight
        assert kind.header_steps * kind.word_bits >= kind.header_bits
        assert kind.weight_max <= 1 << 19 or kind.name == "mxfp8e5m2"


def test_a_row_of_mxfp4_by_hand():
    """Three groups of 1.5, -6 and 0.5 in 67 columns; the largest exponent has the field 39."""
    kind = CODECS["mxfp4"]
    codes = np.repeat(np.array([[0x3, 0xF, 0x1]], np.uint8), (32, 32, 3), axis=1)
    matrix = packed_matrix(kind, codes, np.array([[127, 120, 125]], np.uint8))
    # 39 | 32 << 6 | 37 << 12 = 0x25827; 16 words of threes and fs; the last word has three elements.
    assert matrix.words.tobytes().hex() == "27580200" + "33" * 16 + "ff" * 16 + "11010000"
    assert matrix.scales.tolist() == [2.0 ** (-39 - 1)]
    assert matrix.decode(np.float64)[0].tolist() == [1.5] * 32 + [-6 * 2.0**-7] * 32 + [0.5 * 2.0**-2] * 3


def test_a_row_of_int4_by_hand():
    """(q - z) s with s = -0.5 (0xB800) and z = 16, then 2**-24 and 3."""
    kind = codec("int4g32")
    codes = np.array([[0, 15, 16 - 1, 3] + [1] * 28 + [4, 0]], np.uint8)
    matrix = packed_matrix(kind, codes, np.array([[-0.5, 2.0**-24]], np.float16), np.array([[16, 3]]))
    assert matrix.words[0, :12].tobytes().hex() == "00b810" + "010003" + "00" * 6
    assert matrix.words[0, 12:].tobytes().hex() == "f03f" + "11" * 14 + "04000000"
    expected = [8, 0.5, 0.5, 6.5] + [7.5] * 28 + [2.0**-24, -3 * 2.0**-24]
    assert matrix.decode(np.float64)[0].tolist() == expected


def test_a_row_of_mx6_by_hand():
    """A pair of 5 and -15 as it is and one that is halved: steps of 2**-3 and 2**-4 where E is 0."""
    kind = CODECS["mx6"]
    matrix = packed_matrix(kind, np.array([[5, 31, 5, 31]], np.uint8), np.array([[127]], np.uint8),
                           micro=np.array([[0, 1]], np.uint8))  # fmt: skip
    header = 39 | 1 << 48 + 1
    elements_ = 5 | 31 << 5 | 5 << 10 | 31 << 15
    assert matrix.words.tobytes() == header.to_bytes(15, "little") + elements_.to_bytes(5, "little")
    assert matrix.decode(np.float64)[0].tolist() == [5 / 8, -15 / 8, 5 / 16, -15 / 16]


def test_a_row_of_nvfp4_by_hand():
    """e4m3 1.5 (0x3C) and 2**-9 (0x01), the tensor's scale 3."""
    codes = np.repeat(np.array([[0x7, 0x9]], np.uint8), 16, axis=1)
    matrix = packed_matrix(CODECS["nvfp4"], codes, np.array([[0x3C, 0x01]], np.uint8), tensor_scale=3.0)
    assert matrix.words.tobytes().hex() == "3c01" + "00" * 6 + "77" * 8 + "99" * 8
    assert matrix.decode(np.float64)[0].tolist() == [6 * 1.5 * 3] * 16 + [-0.5 * 2.0**-9 * 3] * 16


@pytest.mark.parametrize("name", ["q4_0", "q8_0", "mxfp4", "nvfp4"])
def test_blocks_of_gguf(name, rng):
    """Random blocks as GGUF files have them, decoded by its own package."""
    gguf = pytest.importorskip("gguf")
    kind, size, blocks = CODECS[name], 64 if name == "nvfp4" else 32, 6
    groups, data = size // kind.scale_group, rng.integers(0, 256, (5, blocks, size * CODECS[name].element.bits // 8))
    scales = rng.integers(0, 0x7F, (5, blocks, groups))  # e4m3
    if name == "mxfp4":
        scales = rng.integers(110, 150, (5, blocks, 1))
    if name in ("q4_0", "q8_0"):
        scales = rng.standard_normal((5, blocks, 1)).astype(np.float16)
        raw = np.concatenate([scales.view(np.uint8), data.astype(np.uint8)], axis=-1)
    else:
        scales = scales.astype(np.uint8)
        raw = np.concatenate([scales, data.astype(np.uint8)], axis=-1)
    expected = gguf.quants.dequantize(raw.reshape(5, -1), getattr(gguf.GGMLQuantizationType, name.upper()))
    codes = data.astype(np.uint8).reshape(5, blocks * groups, -1)
    if kind.element.bits == 4:  # of a group the first half in the low nibbles, then the second
        codes = np.concatenate([codes & 15, codes >> 4], axis=-1)
    matrix = packed_matrix(kind, codes.reshape(5, -1), scales.reshape(5, -1))
    assert matrix.decode().tolist() == expected.tolist()


@pytest.mark.parametrize("kind", EVERY, ids=str)
def test_parts_make_the_words_of_the_oracle(kind, rng):
    for cols in (1, 16, 29, 127, 128, 130, 300):
        words = kind.random_words(3, cols, rng)
        codes, fields, micro = kind.take_apart(words)
        micro = np.zeros((3, cols), np.uint8) if micro is None else micro
        count = -(-cols // kind.scale_group)
        for r in range(3):
            parts = codes[r, :cols].tolist(), fields[r, :count].tolist(), micro[r, : -(-cols // 2)].tolist()
            assert family.compose(kind, *parts) == words[r].tolist()


def test_the_widest_sums():
    """65,536 of the largest weights times the largest activations, still exact: two digits of the weights."""
    for name in ("mxfp8e4m3", "q8_0"):
        kind, cols = CODECS[name], 1 << 16
        words = np.array([family.largest_row(kind, kind.row_bytes(cols))], np.uint8)
        matrix = PackedMatrix(kind, (1, cols), words, np.ones(1, np.float32))
        x = np.full(cols, -65504, np.float16)
        n, e = family.terms(kind, words[0, : kind.row_bytes(128)].tolist())[0]
        A = -cols * (n * (2047 << 6) << e + 29)
        assert exact(matrix, x).tolist() == [A]
        assert product(matrix, x).tolist() == [float(np.float32(A * 2.0**-30))]


def test_weights_take_the_shift_that_they_need(rng):
    """Exponents far below the row's largest are nothing in the integers of rows that have no such."""
    kind = CODECS["mxfp4"]
    scales = np.full((2, 4), 100, np.uint8)
    scales[:, 1] = 103
    matrix = packed_matrix(kind, rng.integers(1, 8, (2, 128), dtype=np.uint8), scales)
    W, shift = kind.integers(matrix.words, 128)
    assert shift == 36
    assert W.max() <= 12 << 3
    scales[1, 2] = 64
    matrix = packed_matrix(kind, rng.integers(1, 8, (2, 128), dtype=np.uint8), scales)
    assert kind.integers(matrix.words, 128)[1] == 0


# --- names and registers ---------------------------------------------------------------------------
def test_names():
    assert [codec(kind.name) for kind in EVERY] == list(EVERY)
    assert "mxfp8e5m2" not in CODECS, "no multiplier takes it"
    assert codec("mxfp8e5m2").weight_bits == 33
    with pytest.raises(SeedLMError, match=r"^codec int4g16: a group has 32, 64 or 128 columns$"):
        codec("int4g16")
    with pytest.raises(SeedLMError, match=r"^unknown codec 'mxfp5'"):
        codec("mxfp5")


def test_registers_tell_them_apart():
    fields = [tuple(kind.register_fields().items()) for kind in EVERY]
    assert len(set(fields)) == len(EVERY)
    for kind in EVERY:
        assert FAMILY.from_register(kind.register_fields()) == kind
    with pytest.raises(SeedLMError, match=r"^no grouped codec has the number 31 and groups of 32 columns$"):
        FAMILY.from_register({"C": 8, "P": 4, "K": 31, "B": 1})


@pytest.mark.parametrize("kind", EVERY, ids=str)
def test_mended_bytes_are_valid_wherever_rows_begin(kind, rng):
    data = rng.integers(0, 256, 1000 * kind.word_bits // 8, dtype=np.uint8)
    kind.mend(data)
    for cols in (3, 128, 200):
        rows = data[: data.size // kind.row_bytes(cols) * kind.row_bytes(cols)].reshape(-1, kind.row_bytes(cols))
        assert not kind.fault(rows).bad.any()
        assert kind.integers(rows, cols)[0].any()


# --- what is refused -------------------------------------------------------------------------------
def parts(name, rows=3, cols=70, **changes):
    """What `packed_matrix` takes, all of it valid; then changed."""
    kind = codec(name)
    groups = kind.scale_groups(cols)
    scales = np.full((rows, groups), 0x38, np.uint8)
    if kind.scale.field_bits >= 16:
        scales = np.ones((rows, groups), np.float16)
    given = {"codec": kind, "codes": np.ones((rows, cols), np.uint8), "scales": scales}
    if kind.has_zero_points:
        given["zeros"] = np.full((rows, groups), 8)
    if kind.scale.micro:
        given["micro"] = np.zeros((rows, cols // 2), np.uint8)
    return given | changes


def changed(array, value, row=2, n=1):
    array[row, n] = value
    return array


def poked(name, part, value):
    given = parts(name)
    given[part] = changed(given[part], value)
    return given


REFUSED = [
    (poked("mxfp4", "scales", 255), "1 of 9 block exponents are 255, which is NaN, the first in row 12, group 1"),
    (poked("mxfp4", "scales", 0x38 + 40), "row 12: block exponents spread over 41 powers of two: this format keeps 40"),
    (poked("mxfp8e5m2", "scales", 0x38 + 26),
     "row 12: block exponents spread over 27 powers of two: this format keeps 26"),
    (parts("mxfp4", scales=np.ones((3, 3), np.uint8)),
     "row 10: a block exponent of 1 is too small: expected 2 or more"),
    (poked("mxfp8e4m3", "codes", 0xFF), "1 of 210 weights are NaN or infinite, the first in row 12, column 1"),
    (poked("mxfp8e5m2", "codes", 0x7C), "1 of 210 weights are NaN or infinite, the first in row 12, column 1"),
    (poked("q8_0", "scales", np.inf), "1 of 9 scales are NaN or infinite, the first in row 12, group 1"),
    (poked("int4g32", "scales", np.nan), "1 of 9 scales are NaN or infinite, the first in row 12, group 1"),
    (poked("int4g32", "zeros", 17), "1 of 9 zero points are not 0 to 16, the first in row 12, group 1"),
    (poked("int4g32", "zeros", -1), "1 of 9 zero points are not 0 to 16, the first in row 12, group 1"),
    (poked("nvfp4", "scales", 0x7F), "1 of 15 scales are NaN or negative, the first in row 12, group 1"),
    (poked("nvfp4", "scales", 0x80), "1 of 15 scales are NaN or negative, the first in row 12, group 1"),
    (parts("nvfp4", tensor_scale=0.1), "the tensor's scale must be a finite binary32, not 0.1"),
    (parts("nvfp4", tensor_scale=2.0**-120),
     f"row 10: the row's scale would be {2.0**-120} * 2**-10: expected a normal binary32"),
    (poked("mx6", "micro", 2), "codes of codec mx6 have 5 bits and microexponents one, found more"),
    (poked("mx6", "codes", 32), "codes of codec mx6 have 5 bits and microexponents one, found more"),
    (parts("q4_0", zeros=np.ones((3, 3))), "codec q4_0 has no zero points"),
    (parts("int4g128", zeros=None), "codec int4g128 needs zero points"),
    (parts("mx9", micro=None), "codec mx9 needs microexponents"),
    (parts("mxfp4", scales=np.ones((3, 2), np.uint8)), "scales must be [3, 3], not uint8 [3, 2]"),
    (parts("mxfp4", scales=np.ones((3, 3), np.float16)), "scales must be uint8, not float16"),
    (parts("q4_0", scales=np.ones((3, 3), np.float32)), "scales must be float16, not float32"),
    (parts("q4_0", codes=np.ones((3, 70), np.int8)), "codes must be uint8 [3, 70], not int8 [3, 70]"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_parts_that_are_refused(given, message):
    kind, rest = given["codec"], {name: value for name, value in given.items() if name != "codec"}
    with pytest.raises(SeedLMError) as caught:
        packed_matrix(kind, **rest, first_row=10)
    assert str(caught.value) == message


@pytest.mark.parametrize("kind", EVERY, ids=str)
def test_parts_that_are_taken(kind):
    given = parts(kind.name)
    del given["codec"]
    packed_matrix(kind, **given).check()


def test_groups_of_zeros_have_any_exponent():
    """Also one that is far from the row's others; and rows of nothing but zeros."""
    codes = np.full((2, 64), 0x2, np.uint8)
    codes[0, :32], codes[1] = 0x8, 0x0  # -0 is a zero
    for far in (0, 254):
        matrix = packed_matrix(CODECS["mxfp4"], codes, np.array([[far, 127], [far, far]], np.uint8))
        matrix.check()
        assert matrix.scales.tolist() == [2.0**-40, 1.0]
        assert matrix.decode()[0].tolist() == [0.0] * 32 + [1.0] * 32
        assert not matrix.decode()[1].any()


def test_small_rows_are_kept_as_long_as_the_row_scale_is_normal():
    """Where 39 below the largest would be too small the row's fields end lower."""
    matrix = packed_matrix(CODECS["mxfp4"], np.ones((1, 64), np.uint8), np.array([[2, 12]], np.uint8))
    assert matrix.scales.tolist() == [2.0**-126]
    assert matrix.decode(np.float64)[0, ::32].tolist() == [2.0**-126, 2.0**-116]


FAULTS = [
    ("mxfp4", 0, 0x28, "block exponents are above 39, the first in row 1, group 0"),
    ("int4g128", 2, 17, "zero points are above 16, the first in row 1, group 0"),
    ("q8_0", 3, 0x7C, "scales are NaN or infinite, the first in row 1, group 1"),
    ("nvfp4", 1, 0xFF, "scales are NaN or negative, the first in row 1, group 1"),
    ("mxfp8e4m3", 4 + 5, 0x7F, "weights are NaN or infinite, the first in row 1, column 5"),
]


@pytest.mark.parametrize(("name", "byte", "value", "message"), FAULTS)
def test_words_that_are_refused(name, byte, value, message):
    kind = CODECS[name]
    given = parts(name, 3, 64)
    del given["codec"]
    matrix = packed_matrix(kind, **given)
    matrix.words[1, byte] = value
    with pytest.raises(SeedLMError) as caught:
        matrix.check("w")
    count = 3 * 64 if "column" in message else 3 * kind.scale_groups(64)
    assert str(caught.value) == f"w: 1 of {count} {message}"
    with pytest.raises(SeedLMError, match=f"codec {name} must be"):
        product(matrix, np.zeros(64, np.float16))


@pytest.mark.parametrize("kind", QUICK, ids=str)
def test_every_bit_that_stands_for_nothing(kind, rng):
    """All bits of a row of 130 columns are turned: 130 elements, their scales and microexponents may be."""
    row = PackedMatrix.random(kind, 1, 130, rng).stored
    refused = 0
    for bit in range(8 * row.size):
        other = row.copy()
        other[0, bit // 8] ^= 1 << bit % 8
        try:
            kind.check_rows(other, 130)
        except SeedLMError as error:
            assert str(error) == "bits of row 0 that stand for nothing are not zero"  # noqa: PT017
            refused += 1
    used = 130 * kind.element.bits + kind.scale_groups(130) * kind.scale.field_bits + kind.scale.micro * 65
    assert refused == 8 * row.size - used
