"""Block floating point, the yardstick: no other scale and clipping is better."""

import numpy as np
import pytest

from seedlm.encoder.block_float import _scales, block_float, block_float_bits, block_float_fed
from seedlm.encoder.feedback.factor import Feedback, feedback_of
from seedlm.golden.errors import SeedLMError


@pytest.fixture
def rng():
    print("seed 4")
    return np.random.default_rng(4)


def errors(w, found, group):
    """Squared error of every group, [rows, groups]."""
    parts = range(0, w.shape[1], group)
    return np.stack([np.square(found - w)[:, s : s + group].sum(axis=1) for s in parts], axis=1)


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("kind", ["normal", "student", "outlier", "positive"])
def test_no_scale_is_better(rng, bits, kind):
    """Against every binary16 scale in the range that can matter, of either sign."""
    w = {
        "normal": lambda: 0.02 * rng.standard_normal((6, 40)),
        "student": lambda: 0.02 * rng.standard_t(3, (6, 40)),
        "outlier": lambda: np.where(rng.random((6, 40)) < 0.03, 0.5, 0.02 * rng.standard_normal((6, 40))),
        "positive": lambda: np.abs(0.02 * rng.standard_normal((6, 40))),
    }[kind]()
    group = 16  # 40 columns: two whole groups and a short one
    mine = errors(w, block_float(w, bits, group), group)
    best = np.full_like(mine, np.inf)
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1
    for half in np.arange(np.float16(2.0**-12).view(np.uint16), np.float16(1.0).view(np.uint16), dtype=np.uint16):
        for sign in (1, -1):
            s = sign * float(half.view(np.float16))
            best = np.minimum(best, errors(w, np.clip(np.rint(w / s), low, high) * s, group))
    # The scale is found among the reals and then rounded: a neighbour may be better by as much as the rounding.
    assert (mine <= best * (1 + 1e-3)).all()
    assert (mine >= best * (1 - 1e-12)).all()


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_every_weight_is_in_the_format(rng, bits):
    w = 0.02 * rng.standard_normal((5, 300))
    found = block_float(w, bits, 128)
    for start in (0, 128, 256):
        for row in found[:, start : start + 128]:
            values = np.unique(row[row != 0])
            integers = np.arange(-(1 << bits - 1), 1 << bits - 1)
            scales = [values[0] / q for q in integers if q]
            assert any(np.float16(s) == s and np.isin(row / s, integers).all() for s in scales)


def test_gaussian_error(rng):
    """The optimal uniform quantiser of 16 levels for a Gaussian has a relative error of 0.107; a group does better."""
    w = 0.02 * rng.standard_normal((64, 1024))
    error = np.linalg.norm(block_float(w) - w) / np.linalg.norm(w)
    assert 0.094 < error < 0.099
    assert block_float_bits(1024) == 4.125
    assert block_float_bits(192) == 4 + 32 / 192


def test_corners():
    assert not block_float(np.zeros((2, 130))).any()
    one = np.zeros((1, 128))
    one[0, 3] = 0.3
    assert np.isclose(block_float(one)[0, 3], 0.3, rtol=1e-3)
    assert block_float(np.full((1, 4), 1e9))[0, 0] == 8 * 65504  # beyond any binary16 scale: as near as it gets
    for bad in (np.nan, np.inf):
        with pytest.raises(SeedLMError, match="finite"):
            block_float(np.full((1, 4), bad))
    for bits, group in ((1, 128), (9, 128), (4, 0)):
        with pytest.raises(SeedLMError, match="block floating point of 2 to 8 bits"):
            block_float(np.zeros((1, 4)), bits, group)


# --- errors fed back ---------------------------------------------------------------------------------
DAMPING = 0.05


def moments(rng, cols):
    """Of inputs whose elements go together, and those moments as the loss knows them."""
    x = rng.standard_normal((4 * cols, cols)) * np.exp(rng.standard_normal(cols))
    x += x @ rng.standard_normal((cols, cols)) / cols**0.5
    h = (x.T @ x).astype(np.float32)
    wide = h.astype(np.float64)
    wide /= np.mean(np.diag(wide))
    return h, wide + DAMPING * np.eye(cols)


def by_the_book(w, h, bits, group):
    """GPTQ as its authors have it: the inverse's Cholesky factor, errors divided by its diagonal, column by column."""
    upper = np.linalg.cholesky(np.linalg.inv(h)).T
    rest, found = w.copy(), np.zeros_like(w)
    for c in range(w.shape[1]):
        if c % group == 0:
            scales = _scales(rest[:, c : c + group], bits)  # with no feedback that of block_float, tested above
        found[:, c] = np.clip(np.rint(rest[:, c] / scales), -(1 << bits - 1), (1 << bits - 1) - 1) * scales
        error = (rest[:, c] - found[:, c]) / upper[c, c]
        rest[:, c:] -= error[:, None] * upper[c, c:]
    return found


@pytest.mark.parametrize("bits", [3, 4])
def test_feedback_is_what_gptq_does(rng, bits):
    h, wide = moments(rng, 40)
    w = 0.02 * rng.standard_normal((6, 40))
    found = block_float_fed(w, feedback_of([h], 1, DAMPING), bits, 16)
    assert np.allclose(found, by_the_book(w, wide, bits, 16), rtol=1e-12)
    assert np.array_equal(found, block_float_fed(w, feedback_of([h], 1, DAMPING), bits, 16, engine="numpy"))

    def loss(found):
        return np.einsum("ij,jk,ik->", found - w, wide, found - w)

    assert loss(found) < 0.6 * loss(block_float(w, bits, 16))


def test_feedback_of_columns_that_know_nothing_of_each_other(rng):
    w = 0.02 * rng.standard_normal((700, 150))  # more rows than are coded together
    feedback = feedback_of([np.diag(np.arange(1, 151)).astype(np.float32)], 1, DAMPING)
    assert np.array_equal(block_float_fed(w, feedback, 3), block_float(w, 3))
    for wrong in (feedback_of([np.eye(150)], 2, DAMPING), feedback_of([np.eye(50), np.eye(100)], 1, DAMPING)):
        assert isinstance(wrong, Feedback)
        with pytest.raises(SeedLMError, match="in blocks of 1 column and in parts of whole groups of 128"):
            block_float_fed(w, wrong, 3)
