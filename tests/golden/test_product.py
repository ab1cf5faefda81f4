import numpy as np
import pytest

from seedlm.golden import product as product_module
from seedlm.golden.activations import groups
from seedlm.golden.codecs import CODECS as PRESETS
from seedlm.golden.codecs import codec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.matrix import PackedMatrix
from seedlm.golden.product import Prepared, Vectors, exact, product
from tests import oracle
from tests.families import CODECS, family_tests
from tests.golden.corners import bits32, corner_matrix, corner_vectors, random_halves


def oracle_exact(matrix, x):
    kind = matrix.codec
    rows = [family_tests(kind).terms(kind, row) for row in matrix.words.tolist()]
    return oracle.exact(rows, x.view(np.uint16).tolist(), kind.group)


def check(matrix, x, scale=None):
    """The product and its exact form, prepared or not, against the oracle."""
    kind = matrix.codec
    A = oracle_exact(matrix, x)
    if kind.row_scales:
        scales = bits32(matrix.scales)
    elif scale is None:
        scales = [family_tests(kind).default_scale(kind, matrix.exp_bias)] * matrix.rows
    else:
        scales = bits32(np.float32(scale)) * matrix.rows
    y = oracle.results(A, family_tests(kind).FRACTION_BITS, scales)
    prepared = Prepared(matrix)
    assert exact(matrix, x).tolist() == A
    assert exact(prepared, x).tolist() == A
    assert bits32(product(matrix, x, scale)) == y
    assert bits32(product(prepared, x, scale)) == y
    assert bits32(prepared.product(x, scale)) == y


def test_by_hand():
    # seedlm4, seed 1: V - 2**15 of the first row is 0, -0x4000, -0x6000; with q = 0, 0, -1 N = 0x6000. e = -8.
    word = 1 | 0x8 << 16 | 0xF << 28
    matrix = PackedMatrix(PRESETS["seedlm4"], (1, 1), np.array([[word]], dtype=np.uint64))
    x = np.array([-3.0], dtype=np.float16)  # E = 1, m = -3 * 2**15
    assert exact(matrix, x).tolist() == [(0x6000 * -3 * 2**15) << (-8 + 8 + 1 + 14)]
    # y = 0x6000 * 2**-8 * -3 / 32767; with the scale 1 -288, with 2**-149 * 3/288 rounded
    assert product(matrix, x, scale=1.0).tolist() == [-288.0]
    assert bits32(product(matrix, x)) == [int(np.float32(-288.0 * np.float32(1 / 32767)).view(np.uint32))]
    # fp16: 1.5 * -3
    matrix = PackedMatrix(PRESETS["fp16"], (1, 1), np.array([[0x3E00]], dtype=np.uint16))
    assert exact(matrix, x).tolist() == [(1536 * (-3 << 15)) << (-10 + 24 + 1 + 14)]
    assert product(matrix, x).tolist() == [-4.5]


@pytest.mark.parametrize("kind", CODECS, ids=str)
def test_random(kind, rng):
    for rows, cols in ((1, 1), (3, 2 * kind.group + 1), (5, 70)):
        check(PackedMatrix.random(kind, rows, cols, rng), random_halves(cols, rng))


@pytest.mark.parametrize("kind", CODECS, ids=str)
def test_corners(kind, rng):
    cols = 3 * kind.group - 1
    for x in corner_vectors(cols, rng):
        check(corner_matrix(kind, 9, cols, rng), x)


@pytest.mark.parametrize("kind", CODECS, ids=str)
def test_largest_sums(kind):
    # Every weight and activation as large as it can be and of the same sign: the widest accumulator.
    cols = 5 * kind.group
    dtype, shape = kind.words_layout(2, cols)
    words = np.resize(np.array(family_tests(kind).largest_row(kind, shape[1]), dtype), shape)
    scales = np.array([1, -1], dtype=np.float32) if kind.row_scales else None
    matrix = PackedMatrix(kind, (2, cols), words, scales)
    x = np.full(cols, 0x7BFF, dtype=np.uint16).view(np.float16)
    check(matrix, x)
    check(matrix, -x)
    terms = family_tests(kind).terms(kind, words[0].tolist())[:cols]
    assert max(abs(n) for n, _ in terms) == kind.weight_max * kind.factor_max
    assert exact(matrix, x).tolist() == [sum(n * (2047 << 6) << (shift + 29) for n, shift in terms)] * 2


@pytest.mark.parametrize("kind", CODECS, ids=str)
def test_wide_and_long(kind, rng):
    # Long rows take more digits. The oracle would be slow: integer arithmetic on the decoded fields instead.
    rows, cols = 2, 20000
    for matrix in (PackedMatrix.random(kind, rows, cols, rng), corner_matrix(kind, rows, cols, rng)):
        for x in (random_halves(cols, rng), np.full(cols, -65504.0, dtype=np.float16)):
            W, shift = kind.integers(matrix.words, matrix.cols)
            m, E = product_module.groups(x, kind.group)
            X = (m.astype(object) << (E.astype(object) + 14)[:, None]).ravel()[:cols]
            expected = [int(w.astype(object) @ X) << shift for w in W]
            assert exact(matrix, x).tolist() == expected


def test_digits_are_cut_where_needed(rng):
    """Both forms of the weights (one digit and two) come up in this file."""
    kind = codec("c64p8k24b4")
    assert len(Prepared(PackedMatrix.random(kind, 2, 20000, rng)).parts[0].digits) == 2
    assert len(Prepared(PackedMatrix.random(PRESETS["seedlm4"], 2, 100, rng)).parts[0].digits) == 1
    for values in ([0], [1, -1, 511, 512, -512, -513], [(1 << 46) - 1, -(1 << 46)]):
        values = np.array(values)
        for bits in (2, 5, 10, 30):
            digits = list(product_module._digits(values, bits))
            assert (
                sum(d.astype(object) << (i * bits) for i, d in enumerate(digits)).tolist() == values.tolist()
                if digits
                else not values.any()
            )
            assert all(abs(d).max() <= 1 << (bits - 1) for d in digits)


def test_no_sum_can_round():
    # The width of a digit of X is the largest with which no sum of absolute products exceeds 2**53.
    for row in ([1], [1, 1], [3], [2**20] * 7, [2**40 - 1, 1], [5, -7, 11]):
        bits = product_module._Rows.x_bits(np.array([[0] * len(row), row]))
        total = sum(abs(w) for w in row)
        assert total * 2 ** (bits - 1) <= 2**53 < total * 2**bits


def test_many_rows_in_pieces(rng, monkeypatch):
    matrix = PackedMatrix.random(PRESETS["seedlm3r"], 50, 40, rng)
    x = random_halves(40, rng)
    whole = product(Prepared(matrix), x)
    monkeypatch.setattr(product_module, "CHUNK_WEIGHTS", 7 * 40)
    assert bits32(product(matrix, x)) == bits32(whole)
    assert exact(matrix, x).tolist() == oracle_exact(matrix, x)


@pytest.mark.parametrize("name", PRESETS)
def test_several_vectors(name, rng):
    matrix = PackedMatrix.random(PRESETS[name], 6, 33, rng)
    x = random_halves(5 * 33, rng).reshape(5, 33)
    x[2] = np.ldexp(np.ones(33), -24)  # of quite another size than the others
    x[3, 32] = np.inf
    y = Prepared(matrix).product(x)
    assert y.shape == (5, 6)
    for i in range(5):
        assert bits32(y[i]) == bits32(product(matrix, x[i]))
    assert exact(matrix, x[:2]).tolist() == [oracle_exact(matrix, v) for v in x[:2]]
    assert product(matrix, x[:0]).shape == (0, 6)


@pytest.mark.parametrize("kind", CODECS, ids=str)
def test_batches(kind, rng):
    """Vectors of one multiplication and of several together: each as alone, and as in plain integers."""
    cols = 6 * kind.group + 3
    wide = np.zeros(cols, dtype=np.float16)  # as far apart as can be, with a group of zeros between them
    wide[: kind.group], wide[2 * kind.group :] = 65504.0, np.ldexp(1.0, -24)
    x = np.stack([*corner_vectors(cols, rng), wide, -wide, rng.standard_normal(cols).astype(np.float16)])
    for matrix in (PackedMatrix.random(kind, 7, cols, rng), corner_matrix(kind, 7, cols, rng)):
        prepared = Prepared(matrix)
        y = prepared.product(x)
        for i, vector in enumerate(x):
            A = oracle_exact(matrix, vector)
            scales = matrix.scales if kind.row_scales else np.full(7, matrix.scale)
            assert bits32(y[i]) == oracle.results(A, family_tests(kind).FRACTION_BITS, bits32(scales))
            assert bits32(prepared.product(vector)) == bits32(y[i])
        shared = Vectors(x, kind.group)
        assert bits32(product(prepared, shared)) == bits32(product(matrix, shared)) == bits32(y)


def test_both_ways_are_taken(rng):
    """A trellis takes one multiplication but for vectors of the widest range."""
    x = np.array([[1.0] * 8 + [2.0**-24] * 1992, [1.0] * 8 + [2.0**-12] * 1992], dtype=np.float16)
    part = Prepared(PackedMatrix.random(PRESETS["trellis4"], 3, 2000, rng)).parts[0]
    direct = [part.direct(Vectors(v[None] * np.float16(factor), 8)).tolist() for v in x for factor in (1, 65504)]
    assert direct == [[True], [False], [True], [True]]


@pytest.mark.parametrize("name", ["trellis4", "trellis2", "int8", "seedlm4"])
def test_one_multiplication_is_exact(name, rng):
    """Where it is taken no sum can leave 53 bits, whatever the order of its terms; elsewhere three bits more could."""
    matrix = PackedMatrix.random(PRESETS[name], 4, 960, rng)
    part, taken = Prepared(matrix).parts[0], []
    total = int(np.abs(matrix.codec.integers(matrix.words, matrix.cols)[0]).sum(axis=1).max())
    for exponent in range(-14, 16):
        x = np.full((1, 960), 2.0**exponent, dtype=np.float16)
        x[:, :48] = 65504
        vectors = Vectors(x, 48)
        (direct,) = part.direct(vectors)
        largest = total * int(np.abs(vectors.integers(np.array([True]))[0]).max())
        assert largest <= 2**53 if direct else largest > 2**50
        taken.append(direct)
    assert taken == sorted(taken)


def test_what_is_kept(rng):
    """Bytes of a decoded weight: the smallest type that holds all integers of the rows."""
    for name, most in {"trellis4": 2, "trellis2": 2, "int8": 1, "seedlm4": 4, "seedlm3r": 4, "fp16": 8}.items():
        prepared = Prepared(PackedMatrix.random(PRESETS[name], 64, 96, rng))
        assert 0 < prepared.nbytes <= most * 64 * 96
        assert name == "fp16" or prepared.nbytes == most * 64 * 96
    for value, kind in ((-128, np.int8), (128, np.int16), (-32769, np.float32), (1 << 24, np.float32),
                        ((1 << 24) + 1, np.float64), ((1 << 53) - 1, np.float64)):  # fmt: skip
        kept = product_module._compact(np.array([[0, 1, value]]))
        assert kept.dtype == kind
        assert [int(v) for v in kept[0]] == [0, 1, value]


def test_vectors_that_do_not_fit(rng):
    prepared = Prepared(PackedMatrix.random(PRESETS["trellis4"], 2, 16, rng))
    for x in (Vectors(np.zeros((1, 16), np.float16), 16), Vectors(np.zeros((1, 24), np.float16), 8)):
        with pytest.raises(SeedLMError, match=r"^vectors of \d+ elements in groups of \d+ do not fit a matrix of 16"):
            product(prepared, x)


def test_values_of_vectors(rng):
    """Made with floats, equal to the mantissas of the contract."""
    x = np.stack([*corner_vectors(96, rng), *(random_halves(96, rng) for _ in range(200))])
    for group in (8, 12, 16):
        m, E = groups(x, group)
        vectors = Vectors(x, group)
        assert (vectors.values == np.ldexp(m.astype(float), E[..., None] - 16).reshape(len(x), -1)).all()
        X, lowest = vectors.integers(vectors.good)
        assert (X == vectors.values * 2.0 ** (16 - lowest)).all()
        for i, vector in enumerate(x):
            X, _ = Vectors(vector[None], group).integers(np.array([True]))
            assert abs(X).max() <= 2 ** int(vectors.bits[i])


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("bits", [0x7C00, 0xFC00, 0x7C01, 0x7E00, 0xFFFF])
def test_activations_that_are_not_finite(name, bits, rng):
    matrix = PackedMatrix.random(PRESETS[name], 3, 20, rng)
    for place in (0, 19):
        x = random_halves(20, rng)
        x.view(np.uint16)[place] = bits
        assert bits32(product(matrix, x)) == [0x7FC00000] * 3
        assert oracle.product([[(0, 0)]] * 3, x.view(np.uint16).tolist(), 8, 30, [0] * 3) == [0x7FC00000] * 3


def test_zeros(rng):
    for kind in CODECS:
        matrix = PackedMatrix.random(kind, 4, 10, rng)
        if kind.row_scales:
            matrix.scales = np.array([1, -1, 0.0, -0.0], dtype=np.float32)
            assert bits32(product(matrix, np.full(10, -0.0, np.float16))) == [0, 0x80000000, 0, 0x80000000]
        else:
            # fl32(0) is +0 whatever the signs of the factors; the scale gives the sign.
            assert bits32(product(matrix, np.full(10, -0.0, np.float16), scale=2.0)) == [0] * 4
            assert bits32(product(matrix, np.zeros(10, np.float16), scale=-2.0)) == [0x80000000] * 4


@pytest.mark.parametrize("scale", [1.0, -2.5, 3.4e38, 1e-38, 1e-45, -1e-45, 0.0, -0.0, 1e-300, 0.1])
@pytest.mark.parametrize("name", ["seedlm4", "fp16", "c8p3k20b0"])
def test_scales(name, scale, rng):
    # Overflow to infinity, subnormal results and results that vanish.
    check(PackedMatrix.random(codec(name), 12, 30, rng), random_halves(30, rng), scale)


@pytest.mark.parametrize("bias", [-150, -40, -1, 1, 40, 140])
def test_exponent_bias(bias, rng):
    matrix = PackedMatrix.random(PRESETS["seedlm3"], 5, 30, rng)
    matrix.exp_bias = bias
    check(matrix, random_halves(30, rng))


def test_product_of_the_decoded_weights(rng):
    """Not only the formula's letter: y is close to W x in floating point."""
    for kind in CODECS:
        matrix = PackedMatrix.random(kind, 20, 100, rng)
        x = rng.standard_normal(100).astype(np.float16)
        y = matrix.decode(np.float64) @ x.astype(np.float64)
        # The activations are rounded at 2**-17 of a group's largest; everything else is far smaller.
        bound = np.abs(matrix.decode(np.float64)).sum(axis=1) * np.abs(x).max() * 2**-16
        assert (np.abs(product(matrix, x) - y) < bound).all()


@pytest.mark.parametrize("scale", [np.inf, -np.inf, np.nan, 3.5e38])
def test_refused_scale(scale, rng):
    matrix = PackedMatrix.random(PRESETS["seedlm4"], 2, 8, rng)
    with pytest.raises(
        SeedLMError, match=rf"^the scale of a product must be a finite binary32, not {scale}$".replace("+", r"\+")
    ):
        product(matrix, np.zeros(8, np.float16), scale)


def test_refused(rng):
    x = np.zeros(8, np.float16)
    matrix = PackedMatrix.random(PRESETS["seedlm4"], 2, 8, rng)
    with pytest.raises(SeedLMError, match=r"^activations must have 8 elements, not shape \[9\]$"):
        product(matrix, np.zeros(9, np.float16))
    with pytest.raises(SeedLMError, match=r"^activations must be float16, not float64$"):
        product(matrix, np.zeros(8))
    with pytest.raises(SeedLMError, match=r"^activations must be finite, found NaN or infinity$"):
        exact(matrix, np.full(8, np.nan, np.float16))
    matrix.exp_bias = 143
    with pytest.raises(SeedLMError, match=r"^the scale of a product must be a finite binary32, not inf$"):
        product(matrix, x)
    matrix = PackedMatrix.random(PRESETS["seedlm4r"], 2, 8, rng)
    with pytest.raises(
        SeedLMError, match=r"^codec seedlm4r has row scales: expected no scale for the product, not 1.0$"
    ):
        product(matrix, x, 1.0)
    matrix.scales[1] = np.inf
    with pytest.raises(SeedLMError, match=r"^row scales must be finite, found NaN or infinity$"):
        product(matrix, x)
    matrix = PackedMatrix.random(PRESETS["fp16"], 2, 8, rng)
    matrix.words[1, 7] = 0xFC00
    with pytest.raises(SeedLMError, match=r"^binary16 weights must be finite, found NaN or infinity$"):
        product(matrix, x)


@pytest.mark.parametrize("kind", [k for k in CODECS if k.name in PRESETS], ids=str)
@pytest.mark.parametrize("group", [16, 24])
def test_the_group_is_an_argument(kind, group, rng):
    """A build may have larger activation groups than the codec by itself."""
    matrix, x = PackedMatrix.random(kind, 3, 50, rng), random_halves(50, rng)
    rows = [family_tests(kind).terms(kind, row) for row in matrix.words.tolist()]
    expected = oracle.exact(rows, x.view(np.uint16).tolist(), group)
    assert exact(matrix, x, group=group).tolist() == expected
    assert Prepared(matrix, group).exact(x).tolist() == expected
    assert bits32(product(matrix, x, group=group)) == bits32(Prepared(matrix, group).product(x))
