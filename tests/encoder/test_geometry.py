import numpy as np
import pytest

from seedlm.encoder.seed.geometry import centred, fit, orthonormal, project
from seedlm.encoder.seed.quantise import quantise
from seedlm.golden.codecs import CODECS, codec
from seedlm.golden.lfsr import v_matrices
from tests.encoder.cases import literal_quantise


@pytest.mark.parametrize("name", ["seedlm4", "seedlm3", "seedlm4r", "seedlm3r", "c5p2k7b3"])
def test_bases_against_lapack(name, rng):
    c = codec(name)
    seeds = rng.integers(1, c.seeds + 1, 300)
    a = centred(c, seeds)
    expected = v_matrices(seeds, c.C, c.P, c.K) - (1 << (c.K - 1))
    assert np.array_equal(a.transpose(2, 1, 0), expected)
    q, r = orthonormal(a)
    gram = np.einsum("pcn,qcn->npq", q, q)
    independent = np.einsum("ppn->np", r) > 0
    assert np.abs(gram - np.eye(c.P) * independent[:, None, :]).max() < 1e-14
    assert np.abs(np.einsum("pcn,pqn->qcn", q, r) - a).max() < 1e-9 * np.abs(a).max()
    w = rng.standard_normal((c.C, len(seeds)))
    t = fit(r, project(q, w))
    lapack = np.stack([np.linalg.pinv(m.astype(float)) @ x for m, x in zip(expected, w.T, strict=True)]).T
    full = independent.all(axis=1)
    assert full.sum() > 250
    condition = np.linalg.cond(expected[full].astype(float))
    assert (np.abs(t - lapack).max(axis=0)[full] <= 1e-12 * condition * np.abs(lapack).max(axis=0)[full]).all()


def test_dependent_columns():
    a = np.array([[3.0, 4.0], [6.0, 8.0], [1.0, 0.0]])[:, :, None]  # column 1 is twice column 0
    q, r = orthonormal(a)
    assert r[1, 1, 0] == 0
    assert not q[1].any()
    t = fit(r, project(q, np.array([[3.0], [5.0]])))
    assert t[1, 0] == 0
    assert np.allclose((a[:, :, 0].T @ t)[:, 0], [3, 5])


@pytest.mark.parametrize("name", ["seedlm4", "c8p3k8b2", "seedlm4r"])
def test_quantiser_against_literal_rule(name, rng):
    c = codec(name)
    t = rng.standard_normal((c.P, 2000)) * 2.0 ** rng.integers(-14, 14, 2000)
    t[:, :200] = np.rint(t[:, :200] * 4) / 4  # ties and powers of two
    t[:, 200:300] = 2.0 ** rng.integers(-12, 12, 100)
    t[:, 300:350] = np.nextafter(t[:, 200:250], 0)  # just below a power of two
    t[:, 350] = 0
    e, q = quantise(c, t)
    for i in range(t.shape[1]):
        assert (e[i], list(q[:, i])) == literal_quantise(t[:, i], c.exponent_min, c.exponent_max), t[:, i]


def test_exponents_of_presets():
    assert (CODECS["seedlm4"].exponent_min, CODECS["seedlm4"].exponent_max) == (-8, 7)
