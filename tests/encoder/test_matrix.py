import numpy as np
import pytest

from seedlm.encoder import compress_matrix, encode_blocks, relative_error
from seedlm.encoder.families.seed import exponent_bias
from seedlm.encoder.seed.rows import RowSearch, encode_rows
from seedlm.golden.codecs import codec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.matrix import PackedMatrix
from tests.encoder.cases import EVERY


@pytest.mark.parametrize(("name", "encoder", "sigma", "rows", "low", "high"), [
    ("seedlm4", "paper", 0.02, 48, 0.122, 0.124), ("seedlm3", "paper", 0.02, 24, 0.222, 0.230),
    ("seedlm4", "optimal", 0.02, 48, 0.118, 0.1195), ("seedlm3", "optimal", 0.02, 24, 0.215, 0.220),
    ("seedlm4", "optimal", 0.001, 48, 0.118, 0.120),
    ("seedlm4r", "optimal", 0.02, 8, 0.083, 0.087), ("seedlm3r", "optimal", 0.02, 8, 0.172, 0.180),
])  # fmt: skip
def test_relative_error_on_gaussian_weights(name, encoder, sigma, rows, low, high, rng):
    w = rng.normal(0, sigma, (rows, 1536)).astype(np.float32)
    m = compress_matrix(w, codec(name), encoder)
    m.check()
    assert m.exp_bias == (0 if codec(name).row_scales else int(np.floor(np.log2(sigma))))
    assert low <= relative_error(w, m) <= high


@pytest.mark.slow
@pytest.mark.parametrize(("name", "sigma", "most"), [
    ("seedlm4", 0.02, 0.1195), ("seedlm3", 0.02, 0.2200), ("seedlm4r", 0.02, 0.0885), ("seedlm3r", 0.02, 0.1870),
    ("seedlm4", 0.001, 0.1195),
])  # fmt: skip
def test_targets_on_gaussian_weights(name, sigma, most, rng):
    """On 87,000 blocks or more: the figure is then certain to about 0.0001."""
    w = rng.normal(0, sigma, (512, 2048)).astype(np.float32)
    found = relative_error(w, compress_matrix(w, codec(name)))
    print(f"{name}, sigma {sigma}: relative error {found:.5f}")
    assert found <= most


def test_padding_columns_and_chunks(rng, monkeypatch):
    c = codec("c8p3k10b4")
    w = rng.normal(0, 1, (7, 13)).astype(np.float32)
    m = compress_matrix(w, c)
    assert m.words.shape == (7, 2)
    padded = np.concatenate([w, np.zeros((7, 3), np.float32)], axis=1).astype(float)
    words, err = encode_blocks(np.ldexp(padded.reshape(14, 8), -m.exp_bias), c)
    assert np.array_equal(words.reshape(7, 2), m.words)
    assert err.sum() == pytest.approx(np.ldexp(((padded - m_padded(m)) ** 2).sum(), -2 * m.exp_bias))
    calls = []
    monkeypatch.setattr("seedlm.encoder.families._base.SLICE", 4)
    monkeypatch.setattr("seedlm.encoder.seed.rows.CHUNK", 3)
    again = compress_matrix(w, c, progress=lambda done, total: calls.append((done, total)))
    assert np.array_equal(again.words, m.words)
    assert calls[-1] == (14, 14)
    assert len(calls) == 4


def m_padded(m):
    return PackedMatrix(m.codec, (m.rows, 16), m.words, None, m.exp_bias).decode(np.float64)


@pytest.mark.parametrize("sigma", [1e-3, 1e-30, 1e30])
def test_bias_makes_the_error_independent_of_scale(sigma, rng):
    c = codec("c8p3k10b4")
    w = rng.normal(0, 1, (8, 256))
    a, b = (relative_error(x, compress_matrix(x, c)) for x in (w, (sigma * w).astype(np.float32)))
    assert b == pytest.approx(a, rel=0.05)
    assert relative_error(w * 1e-3, compress_matrix(w * 1e-3, c, exp_bias=0)) > 1.2 * a


@pytest.mark.parametrize(("value", "bias"), [(1.0, 0), (0.999, -1), (2.0, 1), (0.0, 0), (1e-45, -100), (1e38, 100)])
def test_exponent_bias(value, bias):
    assert exponent_bias(np.full((2, 3), value)) == bias


@pytest.mark.parametrize("name", ["c8p3k8b4", "c8p3k8b0r"])
def test_zero_matrix(name):
    m = compress_matrix(np.zeros((3, 20), np.float32), codec(name))
    m.check()
    assert not m.words.any()
    assert not m.decode().any()


def test_row_scales_are_independent_of_each_other(rng):
    c = codec("c8p4k10b0r")
    w = rng.normal(0, 1, (4, 64)).astype(np.float32)
    w[1] = w[0] * 2**-20
    w[2] = 0
    m = compress_matrix(w, c)
    assert np.array_equal(m.words[0], m.words[1])
    assert m.scales[1] == m.scales[0] * np.float32(2**-20)
    assert not m.words[2].any()


def test_refit_is_the_least_squares_scale(rng):
    c = codec("c8p4k10b0r")
    w = rng.normal(0, 1, (4, 64)).astype(np.float32)
    m = compress_matrix(w, c)
    base = relative_error(w, m)
    for factor in (0.999, 1.001):
        m.scales *= np.float32(factor)
        assert relative_error(w, m) > base
        m.scales = RowSearch(c, w).refit(m.words, m.scales)
        assert relative_error(w, m) == pytest.approx(base, rel=1e-12)


@pytest.mark.parametrize("tails", ["normal", "t"])
def test_scale_search_beats_a_fine_grid(tails, rng):
    c = codec("c8p4k10b0r")
    w = (rng.standard_normal((6, 512)) if tails == "normal" else rng.standard_t(3, (6, 512))).astype(np.float32)
    m = compress_matrix(w, c)
    found = ((w - m.decode(np.float64)) ** 2).sum(axis=1)
    search = RowSearch(c, w)
    row, column = np.repeat(np.arange(6), 64), np.tile(np.arange(64), 6)
    grid = []
    for factor in 2.0 ** np.arange(-3, 1, 0.125):
        scales = (factor * np.sqrt((w.astype(float) ** 2).mean(axis=1)) / c.denominator).astype(np.float32)
        grid.append(search.search(row, column, scales)[1].reshape(6, 64).sum(axis=1))
    best = np.min(grid, axis=0)  # of 32 scales, so partly luck
    assert found.sum() <= 1.015 * best.sum()
    assert (found <= 1.05 * best).all()


@pytest.mark.parametrize("name", ["c8p3k10b4", "c8p4k10b0r"])
def test_rows_are_independent(name, rng):
    c = codec(name)
    w = rng.standard_t(3, (9, 100)).astype(np.float32)
    importance = rng.random(100)
    for options in ({}, {"importance": importance}):
        words, scales = encode_rows(w, c, **options)
        if c.row_scales and options:
            continue  # the blocks that scales are compared on are then chosen for all rows together
        for part in (slice(0, 4), slice(4, 9), slice(8, 9)):
            some, its_scales = encode_rows(w[part], c, **options)
            assert np.array_equal(some, words[part])
            assert scales is None or np.array_equal(its_scales, scales[part])


def weighted_error(w, m, importance):
    return (importance * (w - m.decode(np.float64)) ** 2).sum()


@pytest.mark.parametrize("name", ["c8p3k10b4", "c8p4k10b0r"])
def test_importance(name, rng):
    c = codec(name)
    w = rng.standard_normal((12, 60)).astype(np.float32)
    plain = compress_matrix(w, c)
    assert np.array_equal(compress_matrix(w, c, importance=np.full(60, 2.5)).words, plain.words)
    importance = rng.lognormal(0, 1.5, 60)
    importance[:9] = 0
    weighted = compress_matrix(w, c, importance=importance)
    assert weighted_error(w, weighted, importance) < 0.8 * weighted_error(w, plain, importance)
    assert not weighted.words[:, 0].any()


@pytest.mark.parametrize("bad", [np.ones(59), np.full(60, -1.0), np.full(60, np.nan)])
def test_bad_importance(bad):
    with pytest.raises(SeedLMError, match="importance must be 60 finite non-negative numbers"):
        compress_matrix(np.ones((2, 60), np.float32), codec("c8p3k8b4"), importance=bad)


def test_half(rng):
    w = rng.normal(0, 1, (5, 7)).astype(np.float32)
    m = compress_matrix(w, codec("fp16"))
    m.check()
    assert np.array_equal(m.decode(), w.astype(np.float16).astype(np.float32))
    w[3, 2] = 65520
    with pytest.raises(SeedLMError, match=r"tensor x: the weight 65520\.0 in row 3, column 2 is too large"):
        compress_matrix(w, codec("fp16"), name="tensor x")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(bad):
    w = np.zeros((3, 8), np.float32)
    w[1, 5] = bad
    with pytest.raises(SeedLMError, match=f"tensor y: the weight {bad} in row 1, column 5 is not finite"):
        compress_matrix(w, codec("c8p3k8b4"), name="tensor y")


@pytest.mark.parametrize("options", [{"encoder": "best"}, {"engine": "gpu"}, {"exp_bias": 1000}, {"exp_bias": "x"}])
def test_unknown_options(options):
    with pytest.raises(SeedLMError, match=r"expected|must be"):
        compress_matrix(np.ones((1, 8), np.float32), codec("c8p3k8b4"), **options)


def test_bias_too_small_for_the_weights():
    with pytest.raises(SeedLMError, match=r"tensor z: the weight 1\..*e\+30 in row 0, .* bias 0: expected auto"):
        compress_matrix(np.full((1, 8), 1e30, np.float32), codec("c8p3k8b4"), exp_bias=0, name="tensor z")


def test_not_a_matrix():
    with pytest.raises(SeedLMError, match="expected a matrix"):
        compress_matrix(np.ones(8, np.float32), codec("seedlm4"))


@pytest.mark.parametrize("name", EVERY)
def test_rows_of_every_codec(name, rng):
    """Ordinary rows, outliers, zeros, tiny rows, a single column: valid, and no worse than nothing."""
    c = codec(name)
    w = rng.normal(0, 0.02, (6, 43)).astype(np.float32)
    w[1, 7] = 200 * 0.02
    w[2] = 0
    w[3] *= np.float32(2**-10)
    for part in (w, w[:, :1], w[:1, :4]):
        m = compress_matrix(part, c)
        m.check()
        assert not m.decode()[part == 0].any()
        assert relative_error(part, m) < 0.6
    found = compress_matrix(w, c)
    for r in range(len(w)):  # rows do not depend on each other, but for what the whole tensor decides
        alone = compress_matrix(w[r : r + 1], c, exp_bias=found.exp_bias if c.has_exp_bias else "auto")
        assert np.array_equal(alone.stored, found.stored[r : r + 1])


# --- integers --------------------------------------------------------------------------------------
def test_int8_on_gaussian_weights(rng):
    w = rng.normal(0, 0.02, (64, 1024)).astype(np.float32)
    m = compress_matrix(w, codec("int8"))
    m.check()
    assert 0.0065 < relative_error(w, m) < 0.008


def test_int8_scales_are_near_the_best(rng):
    """Beside a fine grid of scales, on rows with light and heavy tails."""
    for w in (rng.normal(0, 1, (8, 2000)), rng.standard_t(3, (8, 2000))):
        m = compress_matrix(w, codec("int8"))
        error = ((w - m.decode(np.float64)) ** 2).sum(axis=1)
        largest = np.abs(w).max(axis=1, keepdims=True)
        grid = []
        for factor in np.linspace(0.2, 1.05, 200):
            scale = factor * largest / 127
            grid.append(((w - scale * np.clip(np.rint(w / scale), -127, 127)) ** 2).sum(axis=1))
        assert (error <= 1.1 * np.min(grid, axis=0)).all()


@pytest.mark.parametrize("magnitude", [1e-45, 1e-38, 1e-10, 1e38])
def test_int8_of_any_magnitude(magnitude, rng):
    w = (rng.uniform(-1, 1, (3, 40)) * magnitude * 3).astype(np.float32)
    m = compress_matrix(w, codec("int8"))
    m.check()
    assert relative_error(w, m) < 0.01


def test_int8_zero_rows_have_scale_1(rng):
    w = rng.normal(0, 1, (3, 20)).astype(np.float32)
    w[1] = 0
    m = compress_matrix(w, codec("int8"))
    assert m.scales[1] == 1
    assert not m.words[1].any()


def test_int8_importance(rng):
    """A column that does not count is clipped without a thought; where columns count equally nothing changes."""
    w = rng.normal(0, 1, (6, 60)).astype(np.float32)
    w[:, 5] = 50
    plain = compress_matrix(w, codec("int8"))
    assert np.array_equal(compress_matrix(w, codec("int8"), importance=np.full(60, 2.5)).words, plain.words)
    importance = np.ones(60)
    importance[5] = 0
    weighted = compress_matrix(w, codec("int8"), importance=importance)
    assert weighted_error(w, weighted, importance) < 0.05 * weighted_error(w, plain, importance)
    assert (weighted.words[:, 5] == 127).all()
