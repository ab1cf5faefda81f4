"""What coding has cost, against sums written out here; outliers are told, and rotations cure them."""

import numpy as np
import pytest

from seedlm.encoder.job import Result
from seedlm.encoder.loss import Loss, gaussian_error
from seedlm.encoder.plan import Options, plan_tensors
from seedlm.encoder.units import Unit, encode_unit
from seedlm.golden.codecs import CODECS, codec
from seedlm.golden.files.tensors import RawTensor
from seedlm.golden.rotation import rotation_for

SLOW = ("seedlm3r", "trellis5", "trellis2")  # searched for long, or nothing but more or fewer bits
ONE_SCALE = [
    pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
    for name, kind in CODECS.items() if kind.rotates
]  # fmt: skip


def coded(w, name, rotation=None, method="paper"):
    tensor = RawTensor.from_array(w.astype(np.float32))
    loss = encode_unit(Unit(tensor, codec(name), method, rotation=rotation)).loss
    options = Options(codec=codec(name), encoder=method, rotate=rotation is not None)
    (task,) = plan_tensors({"w": tensor}, options, "w", "here").tasks
    return loss, Result(task, loss).warnings


def rows(outlier, n=2, cols=1024):
    w = np.random.default_rng(3).standard_normal((n, cols))
    w[n // 2, 100] = outlier
    return w


def test_sums_by_hand():
    """A row scale of 0.5 and levels up to 127: all beyond 64 is outside, whatever became of it."""
    w = np.array([[10.0, -63.5, 64.5, -100.0], [1.0, 2.0, 3.0, 4.0]])
    found = np.array([[10.0, -63.5, 63.5, -63.5], [1.0, 2.0, 3.5, 4.0]])
    loss = Loss.of(w, found, codec("int8"), "", np.array([0.5, -0.5], np.float32), 0)
    assert loss.err == 1 + 36.5**2 + 0.5**2
    assert loss.norm == 100 + 63.5**2 + 64.5**2 + 100**2 + 1 + 4 + 9 + 16
    assert loss.beyond == 64.5**2 + 100**2
    assert (loss.rows, loss.spoilt) == (2, 0)
    both = loss + Loss(err=1, norm=2, beyond=3, rows=4, spoilt=5, worst=6.0)
    assert (both.err - loss.err, both.beyond - loss.beyond, both.rows, both.spoilt, both.worst) == (1, 3, 6, 5, 6.0)
    assert Loss().relative == Loss().beyond_share == 0
    assert Loss(err=1.0).relative == 1


def test_text_keeps_every_bit():
    loss = Loss(1 / 3, 1e300, 5e-324, 7, 2, 0.1)
    assert Loss.from_text(loss.to_text()) == loss
    with pytest.raises(KeyError):
        Loss.from_text({"err": "0x0p+0"})


@pytest.mark.parametrize("name", CODECS)
def test_largest_is_what_words_reach(name):
    """No random word is beyond it, and some come near."""
    kind = codec(name)
    words = kind.random_words(64, 512, np.random.default_rng(1))
    found = np.abs(kind.values(words, 512, 0)).max()
    assert kind.largest() / 8 < found <= kind.largest()
    if kind.has_exp_bias:
        assert kind.largest(3) == 8 * kind.largest()


@pytest.mark.parametrize("name", ONE_SCALE)
def test_outliers_are_told_and_rotated_away(name):
    """One weight of 60 standard deviations in 1,024 (issue of every codec with one scale per row)."""
    plain, without = coded(rows(0), name), coded(rows(60), name)
    assert plain[1] == []
    assert plain[0].beyond_share < 0.005
    told = " ".join(without[1])
    assert "'w': codec" in told
    assert "--rotate spreads" in told
    assert ("spoil 1 of 2 rows" in told) or ("clips weights" in told)
    turned = coded(rows(60), name, rotation_for(1024))
    assert turned[1] == []
    assert turned[0].beyond_share < 0.005
    assert turned[0].relative < 1.15 * gaussian_error(codec(name), "paper")


def test_the_rest_of_a_row_with_an_outlier():
    """The rest of a seedlm4r row is left at 0.45 instead of 0.086."""
    loss, warnings = coded(rows(60, n=1), "seedlm4r", method="optimal")
    assert 0.35 < loss.worst < 0.5
    assert loss.relative < 0.25, "which the error as a whole does not show"
    assert f"relative error of up to {loss.worst:.2f}" in warnings[0]


def test_no_cure_is_named_that_there_is_not():
    """Columns that no power of two above 8 divides cannot be rotated."""
    loss, warnings = coded(rows(60, cols=1000), "trellis4")
    assert loss.beyond_share > 0.1
    assert warnings
    assert "--rotate" not in " ".join(warnings)


@pytest.mark.parametrize("name", [name for name, kind in CODECS.items() if kind.row_scales and not kind.rotates])
def test_groups_take_outliers(name):
    """Those beside one lose at most, and nothing is called clipped: a larger scale was there."""
    loss, warnings = coded(rows(60), name, method="nearest")
    assert (loss.beyond, loss.rows) == (0, 2)
    assert loss.worst < 0.4
    assert not any("clips" in warning for warning in warnings)
    alone = np.zeros((2, 256))
    alone[:, 3] = -1.9
    assert coded(alone, name, method="nearest")[1] == []


def test_codecs_without_row_scales_have_no_spoilt_rows():
    loss, warnings = coded(rows(60), "fp16")
    assert (loss.spoilt, loss.beyond, warnings) == (0, 0, [])
