import numpy as np
import pytest

from seedlm.golden.activations import finite, groups
from seedlm.golden.build import ACTIVATION_EXPONENT_MAX, MANTISSA_BITS
from seedlm.golden.codecs import CODECS, codec
from seedlm.golden.errors import SeedLMError
from tests import oracle
from tests.golden.corners import corner_vectors, random_halves


def check(kind, x):
    m, E = groups(x, kind.group)
    assert m.dtype == np.int32
    assert E.dtype == np.int32
    assert list(zip(m.tolist(), E.tolist(), strict=True)) == oracle.groups(x.view(np.uint16).tolist(), kind.group)
    return m, E


def test_by_hand():
    # 1.5, -1 - 2**-10, 2**-24: E = 0, the unit is 2**-16.
    m, E = groups(np.array([1.5, -1 - 2**-10, 2**-24], dtype=np.float16), CODECS["seedlm4"].group)
    assert m.tolist() == [[98304, -65600, 0, 0, 0, 0, 0, 0]]
    assert E.tolist() == [0]


@pytest.mark.parametrize("name", ["seedlm4", "seedlm3", "fp16", "c5p3k7b2r", "c1p1k24b3"])
@pytest.mark.parametrize("cols", [1, 7, 8, 12, 61])
def test_equal_to_the_oracle(name, cols, rng):
    for x in [*corner_vectors(cols, rng), random_halves(cols, rng)]:
        check(codec(name), x)


def test_every_half_beside_every_exponent():
    # All finite halves, each rounded in the group of each power of two: every shift, every tie.
    halves = np.arange(1 << 16, dtype=np.uint16)
    halves = halves[halves & 0x7C00 != 0x7C00]
    values = halves.view(np.float16).astype(np.float64)
    for field in range(1, 31):
        pairs = np.stack([halves, np.full_like(halves, field << 10)], axis=1).view(np.float16)
        m, E = groups(pairs.ravel(), 2)
        largest = np.maximum(np.maximum(halves >> 10 & 31, 1), field).astype(np.int64) - 15
        assert E.tolist() == largest.tolist()
        # rint rounds ties to even and both sides are exact in float64
        assert (m[:, 0] == np.rint(np.ldexp(values, 16 - largest))).all()
        assert np.abs(m).max() < 1 << (MANTISSA_BITS - 1)
        assert E.min() + 14 >= 0
        assert E.max() + 14 <= ACTIVATION_EXPONENT_MAX


def test_several_vectors_at_once(rng):
    x = random_halves(4 * 30, rng).reshape(2, 2, 30)
    m, E = groups(x, CODECS["seedlm3"].group)
    assert m.shape == (2, 2, 3, 12)
    assert E.shape == (2, 2, 3)
    for i in np.ndindex(2, 2):
        one = groups(x[i], CODECS["seedlm3"].group)
        assert m[i].tolist() == one[0].tolist()
        assert E[i].tolist() == one[1].tolist()


@pytest.mark.parametrize("bits", [0x7C00, 0xFC00, 0x7C01, 0x7E00, 0xFFFF])
def test_not_finite(bits):
    x = np.zeros(9, dtype=np.float16)
    assert finite(x)
    x.view(np.uint16)[8] = bits
    assert not finite(x)
    with pytest.raises(SeedLMError, match=r"^activations must be finite, found NaN or infinity$"):
        groups(x, CODECS["seedlm4"].group)


def test_wrong_dtype():
    with pytest.raises(SeedLMError, match=r"^activations must be float16, not float32$"):
        groups(np.zeros(8, dtype=np.float32), CODECS["seedlm4"].group)
