"""Shared fixtures: random numbers that can be repeated."""

import os

import numpy as np
import pytest


@pytest.fixture
def rng():
    """A generator with the seed $SEEDLM_TEST_SEED (default 2025), printed so that a failure can be repeated."""
    seed = int(os.environ.get("SEEDLM_TEST_SEED", "2025"))
    print(f"SEEDLM_TEST_SEED={seed}")
    return np.random.default_rng(seed)
