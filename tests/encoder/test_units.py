"""Units of work: a pure function of their rows, the same in this process, in others, and after a death."""

import os
import pickle
import signal

import numpy as np
import pytest

from seedlm.encoder import compress_matrix
from seedlm.encoder.engines import LANES
from seedlm.encoder.families import encoder_of
from seedlm.encoder.families._base import SLICE
from seedlm.encoder.matrix import slices
from seedlm.encoder.pool import LIVES, encode_here, encode_in_processes
from seedlm.encoder.units import Unit, encode_unit, prepare
from seedlm.golden.codecs import codec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.tensors import RawTensor
from tests.encoder.cases import EVERY

CODEC = "c8p4k8b0r"


def work(codec_name, tensor, step):
    """Units of `step` rows."""
    c = codec(codec_name)
    bias = prepare(tensor, c)[0]
    return [(s, lambda s=s: Unit(tensor.rows(s, s + step), c, "optimal", bias))
            for s in range(0, tensor.shape[0], step)]  # fmt: skip


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
def test_units_are_the_rows_of_the_matrix(name, dtype, rng):
    tensor = RawTensor.from_array(rng.standard_t(4, (11, 20)), dtype)
    whole = compress_matrix(tensor.array(), codec(name), dtype=dtype)
    expected = whole.stored
    found = dict(encode_here(work(name, tensor, 4)))
    assert np.array_equal(np.concatenate([u.data for u in found.values()]), expected)
    if whole.scales is not None:
        assert np.array_equal(np.concatenate([u.scales for u in found.values()]), whole.scales)
    w = tensor.array().astype(np.float64)
    err = ((w - whole.decode(np.float64)) ** 2).sum()
    assert sum(u.loss.err for u in found.values()) == pytest.approx(err, rel=1e-12)
    assert sum(u.loss.norm for u in found.values()) == pytest.approx((w**2).sum(), rel=1e-12)


@pytest.mark.parametrize("shape", [(1, 1), (5000, 24), (3, 1 << 20), (700, 4096)])
@pytest.mark.parametrize("weighted", [False, True])
def test_slices_cover_every_row_once(shape, weighted):
    cut = list(slices(codec("seedlm4"), shape, weighted))
    assert [a for a, _ in cut] == [0, *(b for _, b in cut[:-1])]
    assert cut[-1][1] == shape[0]
    assert all(b > a for a, b in cut)


@pytest.mark.parametrize("exp_bias", ["auto", 3])
def test_prepare(exp_bias, rng):
    w = rng.normal(0, 0.01, (300, 5000)).astype(np.float32)  # more than are looked at together
    tensor = RawTensor.from_array(w)
    seen = []
    bias, digest = prepare(tensor, codec("c8p3k8b4"), exp_bias, progress=seen.append)
    assert bias == (-7 if exp_bias == "auto" else 3)
    assert sum(seen) == w.size
    w[299, 4999] += np.float32(1e-3)
    assert prepare(RawTensor.from_array(w), codec("c8p3k8b4"), exp_bias)[1] != digest
    w[299, 4999] = 66000
    assert prepare(RawTensor.from_array(w), codec(CODEC), exp_bias)[0] == 0
    with pytest.raises(SeedLMError, match=r"tensor x: the weight 66000\.0 in row 299, column 4999 is too large"):
        prepare(RawTensor.from_array(w), codec("fp16"), name="tensor x")
    with pytest.raises(SeedLMError, match="too large for codec c8p3k8b4 with exponent bias -100"):
        prepare(RawTensor.from_array(w), codec("c8p3k8b4"), -100)
    w[299, 4999] = np.nan
    with pytest.raises(SeedLMError, match="row 299, column 4999 is not finite"):
        prepare(RawTensor.from_array(w), codec(CODEC))


@pytest.fixture
def tensor(rng):
    return RawTensor.from_array(rng.normal(0, 0.02, (24, 64)), "F16")


def test_processes_give_the_same(tensor):
    here = dict(encode_here(work(CODEC, tensor, 4)))
    there = dict(encode_in_processes(work(CODEC, tensor, 4), 2))
    assert set(here) == set(there)
    for key, unit in here.items():
        assert np.array_equal(unit.data, there[key].data)
        assert np.array_equal(unit.scales, there[key].scales)
        assert unit.loss == there[key].loss


class Deadly(RawTensor):
    """Rows that kill the process that encodes them, as long as there is a file to remove."""

    def array(self):
        left = sorted(os.listdir(self.folder))
        if left:
            os.unlink(os.path.join(self.folder, left[0]))
            os.kill(os.getpid(), signal.SIGKILL)
        return super().array()


def deadly(tensor, folder):
    out = Deadly(tensor.dtype, tensor.shape, np.array(tensor.data))
    object.__setattr__(out, "folder", str(folder))
    return out


def test_the_work_of_a_dead_worker_is_done_by_another(tensor, tmp_path):
    expected = dict(encode_here(work(CODEC, tensor, 4)))
    units = work(CODEC, tensor, 4)
    victim = units[2][1]()
    bad = Unit(deadly(victim.rows, tmp_path), victim.codec, victim.encoder)
    assert pickle.loads(pickle.dumps(bad)).rows.folder == str(tmp_path)
    units[2] = (units[2][0], lambda: bad)
    for i in range(LIVES - 1):
        (tmp_path / str(i)).touch()
    found = dict(encode_in_processes(units, 2))
    assert not os.listdir(tmp_path), "no worker died"
    assert all(np.array_equal(found[k].data, expected[k].data) for k in expected)
    for i in range(LIVES):
        (tmp_path / str(i)).touch()
    with pytest.raises(SeedLMError, match=f"{LIVES} workers died over one unit, the last with exit code -9"):
        list(encode_in_processes(units, 2))


def test_errors_in_processes_arrive(tensor):
    unit = work(CODEC, tensor, 24)[0][1]()
    bad = Unit(unit.rows, unit.codec, "magic")
    with pytest.raises(SeedLMError, match="unknown encoder 'magic'"):
        list(encode_in_processes([(0, lambda: bad)], 1))


def test_another_version_is_refused(tensor):
    unit = work(CODEC, tensor, 24)[0][1]()
    with pytest.raises(SeedLMError, match="another version"):
        encode_unit(Unit(unit.rows, unit.codec, unit.encoder, code="other"))


@pytest.mark.parametrize("cols", [64, 576, 8192, 28672, 1 << 17])
def test_units_of_a_trellis_are_whole_groups(cols):
    """Of the rows that are searched at once; the last one may be smaller."""
    assert encoder_of(codec("trellis4")).together == LANES
    cut = list(slices(codec("trellis4"), (20 * LANES + 3, cols)))
    assert all((stop - start) % LANES == 0 for start, stop in cut[:-1])
    assert cut[0][1] * cols <= max(LANES * cols, 8 * SLICE)
