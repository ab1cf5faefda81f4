"""The driver on a simulated accelerator: a product, a reset in its middle, settings that reach the memory."""

import numpy as np
import pytest

from seedlm.golden.build import Config
from seedlm.golden.codecs import codec
from seedlm.golden.matrix import PackedMatrix
from seedlm.golden.product import product
from seedlm.sim.accelerator import Accelerator
from seedlm.sim.simulation import SimulationError, Timeout

CONFIG = Config(codec=codec("seedlm4"), lanes=4, bus_bits=128, max_cols=256, max_rows=1024)


def job(rows, cols, seed):
    rng = np.random.default_rng(seed)
    return PackedMatrix.random(CONFIG.codec, rows, cols, rng), rng.standard_normal(cols).astype(np.float16)


def bits(y):
    return y.view(np.uint32).tolist()


@pytest.mark.parametrize("memory", ["ddr3", "ideal"])
def test_product(memory):
    matrix, x = job(200, 250, 1)
    with Accelerator(CONFIG, memory=memory) as accelerator:
        loaded = accelerator.load_matrix(matrix)
        before = accelerator.cycles
        y = accelerator.product(loaded, x)
        assert bits(y) == bits(product(matrix, x))
        assert accelerator.cycles - before > CONFIG.image_beats(200, 250)
        assert (accelerator.simulation.counters()["refreshes"] > 0) == (memory == "ddr3")


def test_reset_in_the_middle_of_a_product():
    matrix, x = job(200, 250, 2)
    with Accelerator(CONFIG) as accelerator:
        loaded = accelerator.load_matrix(matrix)
        vector = accelerator.load_activations(x)
        for cycles in (20, 100, 400):
            accelerator.submit(accelerator.place(loaded, vector.address))
            accelerator.simulation.step(cycles)
            accelerator.reset()
        assert bits(accelerator.product(loaded, vector)) == bits(product(matrix, x))


def test_a_wait_is_bounded():
    matrix, x = job(200, 250, 3)
    with Accelerator(CONFIG, timeout=100) as accelerator, pytest.raises(Timeout, match="within 100 cycles"):
        accelerator.product(accelerator.load_matrix(matrix), x)


def test_waves_need_a_build_with_them(tmp_path):
    with Accelerator(CONFIG) as accelerator, pytest.raises(SimulationError, match="without waves"):
        accelerator.trace_open(tmp_path / "a.fst")
