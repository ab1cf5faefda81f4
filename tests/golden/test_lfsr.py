import numpy as np
import pytest

from seedlm.golden.errors import SeedLMError
from seedlm.golden.lfsr import TAPS, sequence_masks, states, step, v_matrices, v_matrix, windows
from tests import oracle


def test_taps_are_those_of_the_specification():
    assert TAPS == oracle.TAPS


def test_check_value_of_the_paper():
    # The figure of the K = 3 example.
    assert v_matrix(4, C=4, P=2, K=3).tolist() == [[2, 5], [6, 7], [3, 1], [4, 2]]
    assert v_matrices([4], C=4, P=2, K=3).tolist() == [[[2, 5], [6, 7], [3, 1], [4, 2]]]


@pytest.mark.parametrize("K", range(2, 17))
def test_full_period(K):
    # Every non-zero state comes once before the first comes back.
    seen = states(1, K, (1 << K) - 1)
    assert seen[-1] == 1
    assert len(set(seen)) == (1 << K) - 1
    assert min(seen) == 1
    assert max(seen) == (1 << K) - 1


@pytest.mark.parametrize("K", range(17, 25))
def test_long_registers_have_the_full_period(K):
    # The register is linear: its order divides 2**K - 1 and no quotient by a prime, so it is 2**K - 1.
    def power(n):
        """The columns of the n-th power of the step, by squaring."""
        result, base = [1 << i for i in range(K)], [step(1 << i, K) for i in range(K)]

        def apply(matrix, vector):
            total = 0
            for i in range(K):
                total ^= matrix[i] * (vector >> i & 1)
            return total

        while n:
            if n & 1:
                result = [apply(base, column) for column in result]
            base = [apply(base, column) for column in base]
            n >>= 1
        return result

    period, identity = (1 << K) - 1, [1 << i for i in range(K)]
    primes = [p for p in range(2, 1 << 13) if period % p == 0 and all(p % d for d in range(2, int(p**0.5) + 1))]
    rest = period
    for p in primes:
        while rest % p == 0:
            rest //= p
    if rest > 1:  # what is left has no divisor below 2**13 > sqrt(2**24): a prime
        primes.append(rest)
    assert power(period) == identity
    for p in primes:
        assert power(period // p) != identity


@pytest.mark.parametrize("K", TAPS)
def test_masks_and_windows_are_the_one_step_model(K, rng):
    count = 150  # several pieces of 64 bits
    masks = sequence_masks(K, K + count)
    assert len(masks) == K + count
    assert masks[:K] == [1 << i for i in range(K)]
    seeds = [0, 1, 1 << (K - 1), (1 << K) - 1, *rng.integers(0, 1 << K, 8).tolist()]
    expected = []
    for seed in seeds:
        bits = [(seed & mask).bit_count() & 1 for mask in masks]
        state, model = seed, []
        for n in range(1, count + 1):
            state = oracle.lfsr_step(state, K)
            assert state == sum(bits[n + i] << i for i in range(K))
            model.append(state)
        expected.append(model)
        assert states(seed, K, count) == model
    assert np.array(list(windows(np.array(seeds), K, count))).T.tolist() == expected


def test_masks_of_the_paper_have_at_most_12_taps():
    # K = 16, 24 states: the size of the hardware's XOR network rests on this.
    assert max(mask.bit_count() for mask in sequence_masks(16, 16 + 24)) == 12


def test_step_takes_arrays(rng):
    seeds = rng.integers(0, 1 << 13, 100)
    assert step(seeds, 13).tolist() == [oracle.lfsr_step(s, 13) for s in seeds.tolist()]


@pytest.mark.parametrize(("C", "P", "K"), [(8, 3, 16), (12, 5, 16), (1, 1, 2), (64, 8, 24), (7, 3, 5)])
def test_v_matrices(C, P, K, rng):
    seeds = [0, (1 << K) - 1, *rng.integers(0, 1 << K, 20).tolist()]
    v = v_matrices(np.array(seeds), C, P, K)
    assert v.dtype == np.int64
    assert v.tolist() == [oracle.v_matrix(s, C, P, K) for s in seeds]
    assert v[1].tolist() == v_matrix(seeds[1], C, P, K).tolist()


@pytest.mark.parametrize("K", [1, 25])
def test_unknown_length(K):
    with pytest.raises(SeedLMError, match=rf"^register length K must be 2 to 24, not {K}$"):
        step(1, K)
    with pytest.raises(SeedLMError, match="register length"):
        sequence_masks(K, 10)
