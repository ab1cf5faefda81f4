"""Scales of groups: the formats' own rules against other implementations, the search against all scales there are."""

import ml_dtypes
import numpy as np
import pytest

from seedlm.encoder.families import METHODS, encoder_of, method_of
from seedlm.encoder.grouped.rounding import codes_of, largest_exponent, rounded
from seedlm.encoder.matrix import compress_matrix, relative_error
from seedlm.golden.codecs import CODECS, codec
from seedlm.golden.codecs import _elements as elements
from seedlm.golden.codecs.grouped import FAMILY
from seedlm.golden.errors import SeedLMError
from seedlm.golden.packed_groups import packed_matrix

EVERY = FAMILY.every()
DTYPES = {
    "mxfp8e4m3": "float8_e4m3fn", "mxfp8e5m2": "float8_e5m2", "mxfp6e2m3": "float6_e2m3fn",
    "mxfp6e3m2": "float6_e3m2fn", "mxfp4": "float4_e2m1fn",
}  # fmt: skip
# Of Gaussian weights, by the rule and by search: measured on 524,288 of them.
ERRORS = {
    "int4g128": (0.1008, 0.0953), "q4_0": (0.0862, 0.0814), "q8_0": (0.00537, 0.00505), "mxint8": (0.00761, 0.00757),
    "mxfp8e4m3": (0.0293, 0.0265), "mxfp6e2m3": (0.0281, 0.0279), "mxfp6e3m2": (0.0538, 0.0527),
    "mxfp4": (0.1141, 0.1115), "nvfp4": (0.0953, 0.0813), "mx9": (0.00465, 0.00464), "mx6": (0.0379, 0.0375),
    "mx4": (0.1615, 0.1544),
}  # fmt: skip


def weights(rng, shape=(6, 160)):
    return (rng.standard_t(4, shape) * rng.uniform(0.001, 10, (shape[0], 1))).astype(np.float32)



# --- rounding --------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", DTYPES)
def test_rounding_is_that_of_ml_dtypes(name, rng):
    """To nearest, ties to even; beyond the largest that one."""
    element, dtype = codec(name).element, getattr(ml_dtypes, DTYPES[name])
    values = np.ldexp(element.integers[element.finite].astype(float), -element.fraction_bits)
    middles = (np.sort(values)[1:] + np.sort(values)[:-1]) / 2
    x = np.concatenate([values, middles, rng.standard_normal(5000) * rng.choice([0.01, 1, values.max()], 5000)])
    x = np.clip(x, values.min(), values.max())
    found = rounded(np.ldexp(x, element.fraction_bits), element)
    assert (np.ldexp(found, -element.fraction_bits) == x.astype(dtype).astype(float)).all()
    assert (element.integers[codes_of(found, element)] == found).all()
    assert rounded(np.array([1e300, -1e300]), element).tolist() == [element.magnitude, -element.magnitude]


def test_exponents_of_the_largest_elements():
    """OCP Microscaling 1.0, table 1 and section 6.3."""
    names = ("E4M3", "E5M2", "E2M3", "E3M2", "E2M1", "FIXED8")
    assert [largest_exponent(getattr(elements, name)) for name in names] == [8, 15, 2, 4, 2, 0]


# --- the rules -------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["q4_0", "q8_0", "mxfp4"])
def test_the_rules_of_gguf(name, rng):
    """Element for element what its own package makes."""
    gguf = pytest.importorskip("gguf")
    w = weights(rng, (8, 256))
    w[0, :32] = 0
    qtype = getattr(gguf.GGMLQuantizationType, name.upper())
    expected = gguf.quants.dequantize(gguf.quants.quantize(w, qtype), qtype)
    assert compress_matrix(w, CODECS[name], "nearest").decode().tolist() == expected.tolist()


@pytest.mark.parametrize("name", DTYPES)
def test_the_rule_of_ocp(name, rng):
    """E = floor(log2 max) - emax, written out with casts to the other package's types."""
    w = weights(rng, (4, 64))
    element, dtype = codec(name).element, getattr(ml_dtypes, DTYPES[name])
    largest = float(ml_dtypes.finfo(dtype).max)
    for row, found in zip(w, compress_matrix(w, codec(name), "nearest").decode(np.float64), strict=True):
        for group in (slice(0, 32), slice(32, 64)):
            scale = 2.0 ** (np.floor(np.log2(np.abs(row[group]).max())) - np.floor(np.log2(largest)))
            values = np.clip(row[group] / scale, -largest, largest).astype(dtype).astype(float) * scale
            assert found[group].tolist() == values.tolist()
    assert largest == np.ldexp(float(element.magnitude), -element.fraction_bits)


def test_shared_microexponents_by_hand():
    """mx4: 1.5 has the group's exponent 0; a pair below 1 has steps of 1/4 instead of 1/2; 1.9 is clipped to 1.5."""
    w = np.zeros((1, 16), np.float32)
    w[0, :6] = [1.9, -0.3, 0.8, 0.3, 1.0, 0.3]
    found = compress_matrix(w, CODECS["mx4"], "nearest")
    assert found.decode()[0, :6].tolist() == [1.5, -0.5, 0.75, 0.25, 1.0, 0.5]
    assert CODECS["mx4"].take_apart(found.words)[2][0, :8].tolist() == [0, 1, 0, 1, 1, 1, 1, 1]


def test_int4_by_hand():
    """From -1 to 2 in steps of 0.2: the zero point is 5."""
    w = np.array([[-1.0, 2.0, 0.0, 0.29, 0.31, -0.45]], np.float32)
    found = compress_matrix(w, CODECS["int4g128"], "nearest")
    codes, fields, _ = CODECS["int4g128"].take_apart(found.words)
    assert codes[0, :6].tolist() == [0, 15, 5, 6, 7, 3]
    assert (fields >> 16).tolist() == [[5]]
    assert (fields & 0xFFFF).tolist() == [[int(np.float16(0.2).view(np.uint16))]]


def test_nvfp4_by_hand():
    """The row's largest group has the scale 448 of e4m3; half of it is 224, and 6 is the largest element."""
    w = np.zeros((1, 32), np.float32)
    w[0, [0, 1, 16, 17]] = [6, -1.5, 3, 0.26]
    found = compress_matrix(w, CODECS["nvfp4"], "nearest")
    assert CODECS["nvfp4"].take_apart(found.words)[1][0, :2].tolist() == [0x7E, 0x76]
    assert found.decode()[0, [0, 1, 16, 17]].tolist() == pytest.approx([6, -1.5, 3, 0.25], rel=1e-6)


# --- the search ------------------------------------------------------------------------------------
def least(w, kind, counts, every):
    """The smallest error of single groups over `every` (scales, zeros): nearest elements, by a table."""
    table = kind.element.integers[kind.element.finite].astype(float)
    best = np.inf
    for scale, zero in every:
        values = (table - zero) * scale
        near = values[np.abs(w[:, None] - values).argmin(axis=1)]
        best = min(best, (counts * (w - near) ** 2).sum())
    return best


def tried(kind, w, counts):
    packed = compress_matrix(w[None], kind, "optimal", importance=None if counts is None else counts)
    return ((1 if counts is None else counts) * (w - packed.decode(np.float64)[0]) ** 2).sum(), packed


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", ["mxint8", "mxfp8e4m3", "mxfp6e2m3", "mxfp6e3m2", "mxfp4"])
def test_no_other_power_of_two_is_better(name, weighted, rng):
    kind = CODECS[name]
    powers = [(2.0**e, 0) for e in range(-30, 12)]
    for _ in range(12):
        w = weights(rng, (1, 32))[0]
        counts = rng.uniform(0.2, 3, 32) if weighted else None
        best = least(w.astype(float), kind, np.ones(32) if counts is None else counts, powers)
        assert tried(kind, w, counts)[0] <= best * (1 + 1e-9)


def test_no_other_e4m3_is_better(rng):
    kind = CODECS["nvfp4"]
    for _ in range(20):
        w = weights(rng, (1, 16))[0]
        found, packed = tried(kind, w, None)
        codes = [(float(elements.E4M3.integers[c]) * float(packed.scales[0]), 0) for c in range(1, 0x7F)]
        assert found <= least(w.astype(float), kind, np.ones(16), codes) * (1 + 1e-9)


@pytest.mark.parametrize("name", ["mx9", "mx6", "mx4"])
def test_no_other_microexponents_are_better(name, rng):
    kind = CODECS[name]
    for _ in range(12):
        w = weights(rng, (1, 16))[0]
        best = min(
            sum(min(least(pair, kind, np.ones(2), [(2.0**e / (1 + micro), 0)]) for micro in (0, 1))
                for pair in w.astype(float).reshape(8, 2))
            for e in range(-24, 6)
        )  # fmt: skip
        assert tried(kind, w, None)[0] <= best * (1 + 1e-9)


@pytest.mark.parametrize(("name", "most"), [("q4_0", 1.06), ("q8_0", 1.45), ("int4g32", 1.12)])
def test_few_binary16_are_better(name, most, rng):
    """Of all that there are: little squared error is left. Among 5,000 for steps of 8 bits chance finds better ones."""
    kind, found, best = codec(name), 0.0, 0.0
    for _ in range(4):
        w = weights(rng, (1, 32))[0]
        top = np.abs(w).max() / kind.element.integers.max()
        zeros = range(17) if kind.has_zero_points else (0,)
        start, end = (int(np.float16(top * factor).view(np.uint16)) for factor in (0.3, 1.2))
        halves = np.arange(start, end, 1 if name == "q8_0" else 7, dtype=np.uint16).view(np.float16).astype(float)
        signs = (1, -1) if name == "q4_0" else (1,)
        best += least(w.astype(float), kind, np.ones(32), [(s * h, z) for h in halves for s in signs for z in zeros])
        found += tried(kind, w, None)[0]
    assert found <= most * best


@pytest.mark.parametrize("name", ERRORS)
def test_errors_on_gaussian_weights(name, rng):
    w = rng.normal(0, 0.02, (32, 512)).astype(np.float32)
    for method, expected in zip(("nearest", "optimal"), ERRORS[name], strict=True):
        assert relative_error(w, compress_matrix(w, CODECS[name], method)) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("kind", EVERY, ids=str)
def test_a_search_is_never_worse(kind, rng):
    """Row by row, with outliers, few different weights, sizes far apart, and rows of nothing."""
    w = weights(rng, (9, 150))
    w[1, 7] = 1000
    w[2] = rng.choice([0.5, -0.25, 0], 150)
    w[3, 32:64] *= 2.0**-30
    w[4, 1:] = 0
    w[5] = 0
    w[6] = np.abs(w[6])
    w[7] *= 2.0**-120
    w[8, ::3] = 2.0**-149
    w[8, 32:64] *= 2.0**-140
    rule, search = (compress_matrix(w, kind, method) for method in ("nearest", "optimal"))
    for packed in (rule, search):
        packed.check()
        kind.check_rows(packed.stored, 150)
        assert not packed.decode()[5].any()
    lost = [((w - packed.decode(np.float64)) ** 2).sum(axis=1) for packed in (rule, search)]
    norm = (w.astype(float) ** 2).sum(axis=1)
    assert (lost[1] <= lost[0] + 1e-13 * norm).all()  # of nvfp4 the row's own scale differs, and is rounded
    assert (lost[0] <= norm).all()


@pytest.mark.parametrize("kind", [k for k in EVERY if np.isinf(encoder_of(k).limit(k, 0))], ids=str)
def test_weights_of_any_size(kind, rng):
    w = weights(rng, (1, 64))
    for exponent in (-100, -60, 0, 60, 100):
        scaled = np.ldexp(w, exponent)
        error = relative_error(scaled.astype(float), compress_matrix(scaled, kind))
        assert error == pytest.approx(relative_error(w, compress_matrix(w, kind)), rel=1e-6)


@pytest.mark.parametrize(("name", "limit"), [("int4g128", 458528), ("q4_0", 458528), ("q8_0", 8319008)])
def test_weights_that_are_too_large(name, limit):
    w = np.full((1, 4), limit, np.float32)
    with pytest.raises(SeedLMError, match=f"is too large for codec {name}"):
        compress_matrix(w, CODECS[name])
    w = np.nextafter(w, 0)
    for method in ("nearest", "optimal"):
        assert relative_error(w, compress_matrix(w, CODECS[name], method)) < 0.07


@pytest.mark.parametrize("kind", EVERY, ids=str)
def test_columns_that_do_not_count(kind, rng):
    """An outlier in one is clipped without a thought, where it would cost the others; not in floating point of 8 bits.
    Where columns count equally nothing changes."""
    w = rng.normal(0, 1, (4, 128)).astype(np.float32)
    w[:, ::32] = 200
    plain = compress_matrix(w, kind)
    assert compress_matrix(w, kind, importance=np.full(128, 2.5)).words.tolist() == plain.words.tolist()
    importance = np.ones(128)
    importance[::32] = 0
    lost = [(importance * (w - packed.decode(np.float64)) ** 2).sum()
            for packed in (plain, compress_matrix(w, kind, importance=importance))]  # fmt: skip
    assert lost[1] <= (1 if "mxfp8" in kind.name else 0.9) * lost[0]


# --- methods ---------------------------------------------------------------------------------------
def test_any_method_may_be_asked_for(rng):
    """One is given for a whole model: families without it take their best."""
    assert set(METHODS) == {"optimal", "paper", "nearest"}
    found = {name: [method_of(codec(name), method) for method in ("optimal", "paper", "nearest")]
             for name in ("seedlm4", "mxfp4", "trellis4", "fp16")}  # fmt: skip
    assert found == {
        "seedlm4": ["optimal", "paper", "optimal"], "mxfp4": ["optimal", "optimal", "nearest"],
        "trellis4": [None] * 3, "fp16": [None] * 3,
    }  # fmt: skip
    w = weights(rng, (2, 16))
    for name in ("c4p2k6b0r", "nvfp4", "int8"):
        optimal, paper, nearest = (compress_matrix(w, codec(name), method, engine="numpy").decode()
                                   for method in ("optimal", "paper", "nearest"))  # fmt: skip
        other = {"c4p2k6b0r": nearest, "nvfp4": paper, "int8": paper}[name]
        assert other.tolist() == optimal.tolist()
        assert (paper.tolist() == nearest.tolist()) == (name == "int8")
    for name in CODECS:
        with pytest.raises(SeedLMError, match=r"^unknown encoder 'magic': expected optimal or "):
            method_of(CODECS[name], "magic")


def test_words_are_those_of_the_parts(rng):
    """What the encoder gives is what an importer would make of the same parts."""
    w = weights(rng, (3, 40))
    found = compress_matrix(w, CODECS["mxint8"], "nearest")
    exponents = np.floor(np.log2(np.maximum(np.abs(w[:, :32]).max(axis=1), 1e-30)))
    rest = np.floor(np.log2(np.abs(w[:, 32:]).max(axis=1)))
    stored = (np.stack([exponents, rest], axis=1) + 127).astype(np.uint8)
    units = np.repeat(2.0 ** (stored.astype(int) - 127 - 6), (32, 8), axis=1)
    codes = np.clip(np.rint(w / units), -127, 127).astype(np.int8).view(np.uint8)
    expected = packed_matrix(CODECS["mxint8"], codes, stored)
    assert found.words.tolist() == expected.words.tolist()
    assert found.scales.tolist() == expected.scales.tolist()
