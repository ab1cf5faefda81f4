"""What the tests of whole accelerators share; each module has an ``accelerator`` of its own."""

from __future__ import annotations

import os
import random

import pytest


@pytest.fixture(scope="module")
def seed():
    value = int(os.environ.get("SEEDLM_TEST_SEED", random.randrange(1 << 31)))
    print(f"rerun with SEEDLM_TEST_SEED={value}")
    return value


@pytest.fixture
def fresh(accelerator):
    """The accelerator with an ideal memory, no stalls, no faults."""
    accelerator.simulation.clear_rules()
    accelerator.simulation.stall(0)
    accelerator.simulation.configure("ideal")
    accelerator.reset()
    return accelerator
