"""Block floating point, the yardstick: no other scale and clipping is better."""

import numpy as np
import pytest

from seedlm.encoder.block_float import block_float, block_float_bits
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
