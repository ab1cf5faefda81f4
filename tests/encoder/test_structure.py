"""The fast bound, proven for every seed of the presets."""

import numpy as np
import pytest

from seedlm.encoder.seed.geometry import centred, orthonormal, ranks
from seedlm.encoder.seed.structure import LIMIT, SLACK, WARM, build, cycle, deviation, rounding, vectors_at
from seedlm.golden.codecs import codec
from seedlm.golden.lfsr import step

PRESETS = ["seedlm4", "seedlm3", "seedlm4r", "seedlm3r"]


@pytest.mark.parametrize("K", [2, 9, 16])
def test_cycle(K):
    order = cycle(K, 5)
    period = (1 << K) - 1
    assert np.array_equal(np.sort(order[:period]), np.arange(1, period + 1))
    assert np.array_equal(order[1:], step(order[:-1].astype(np.int64), K))


@pytest.mark.parametrize("name", PRESETS)
def test_slack_holds_for_every_seed(name):
    c = codec(name)
    s = build(c)
    order = cycle(c.K, (c.C + 1) * c.P)
    assert len(s.direct) < 0.03 * c.seeds
    covered = np.ones(c.seeds, bool)
    covered[s.direct] = False
    worst = 0.0
    for first in range(0, c.seeds, 1 << 14):
        count = min(1 << 14, c.seeds - first)
        part = slice(first, first + count)
        q, _ = orthonormal(centred(c, order[part]))
        difference = deviation(c, s.constants[part], vectors_at(c, s.signs, first, count), q)[:, :, covered[part]]
        # The error of the bound for the worst block is the largest eigenvalue of the difference.
        worst = max(worst, np.abs(np.linalg.eigvalsh(difference.transpose(2, 0, 1))).max())
        assert rounding(c, s.constants[part]).max() < LIMIT / 2
    print(f"{name}: largest difference {worst:.2e}, {len(s.direct)} seeds bounded directly")
    assert 1e-5 < worst < LIMIT < SLACK


@pytest.mark.parametrize("name", PRESETS)
def test_vectors_of_the_structure_span_the_range(name, rng):
    # Independently of the tables: the sign vectors are the top bits of the states, h is their running sum.
    c = codec(name)
    s = build(c)
    order = cycle(c.K, (c.C + 1) * c.P).astype(np.int64)
    for n in rng.integers(0, c.seeds - 1, 20):
        for m in range(1, c.P):
            top = order[(n + 1 + m + c.P * np.arange(c.C)) % c.seeds] >> (c.K - 1)
            assert s.signs[WARM + n + 1 + m] == (top << np.arange(c.C)).sum()
        h = vectors_at(c, s.signs, int(n), 1)[-1, :, 0]
        first = centred(c, order[n : n + 1])[0, :, 0] / (1 << (c.K - 1))
        assert np.abs(h * np.sqrt(c.C) / 2 - first).max() < 2.0 ** -(c.K - 2)


def test_exact_ranks():
    c = codec("c8p4k16b0")
    seeds = np.arange(1, 4000)
    _, r = orthonormal(centred(c, seeds))
    found = (np.einsum("ppn->pn", r) > 0).sum(axis=0)
    assert np.array_equal(found, ranks(c, seeds, np.ones(8, bool)))
    assert (ranks(c, seeds[:50], np.arange(8) < 3) <= 3).all()
