"""The driver on a simulated accelerator that is interrupted, hangs or was left behind: the next product is good."""

import os
import random

import numpy as np
import pytest

from seedlm.golden.build import Config
from seedlm.golden.codecs import codec
from seedlm.golden.matrix import PackedMatrix
from seedlm.golden.product import product
from seedlm.hdl.registers import ErrorCode
from seedlm.host.driver import Accelerator as Driver
from seedlm.host.regions import region_sizes
from seedlm.sim.accelerator import Accelerator
from seedlm.sim.simulation import Timeout

CONFIG = Config(codec=codec("seedlm3r"), lanes=4, bus_bits=128, max_cols=512, max_rows=1024, burst_beats=32)


@pytest.fixture(scope="module")
def seed():
    value = int(os.environ.get("SEEDLM_TEST_SEED", random.randrange(1 << 31)))
    print(f"rerun with SEEDLM_TEST_SEED={value}")
    return value


@pytest.fixture(scope="module")
def simulated():
    with Accelerator(CONFIG) as device:
        yield device


@pytest.fixture(params=[0.0, 0.4], ids=["steady", "stalls"])
def device(simulated, request, seed):
    """The accelerator after a reset, its memory with and without random pauses."""
    simulated.simulation.clear_rules()
    simulated.simulation.stall(request.param, seed=seed)
    simulated.timeout = 2_000_000
    simulated.reset()
    simulated.watchdog = 0
    simulated._memory.next = 0
    return simulated


class Job:
    """A matrix in the memory, and a vector for it."""

    def __init__(self, device, rng, rows, cols):
        self.matrix = PackedMatrix.random(CONFIG.codec, rows, cols, rng)
        self.x = rng.standard_normal(cols).astype(np.float16)
        self.expected = product(self.matrix, self.x).view(np.uint32)
        self.handle = device.load_matrix(self.matrix)

    def regions(self, device):
        return device.place(self.handle, device.load_activations(self.x).address)


def assert_works(device, job):
    """Two products give the right bits, touch nothing but their regions, and nothing comes after them."""
    vector = device.load_activations(job.x)
    for _ in range(2):
        regions = device.place(job.handle, vector.address)
        for name, size in region_sizes(CONFIG, regions.rows, regions.cols).items():
            device.simulation.allow(getattr(regions, name), getattr(regions, name) + size, write=name == "results")
        device.submit(regions)
        assert device.wait() == [ErrorCode.NONE]
        y = device.transport.mem_read(regions.results, 4 * regions.rows).view(np.uint32)
        assert np.array_equal(y, job.expected)
        device.simulation.clear_rules()
    device.simulation.step(2000)
    status = device.status()
    assert not any(status.values()), status
    assert device.wait() == []


def test_abort_at_any_time(device, seed):
    """Products and a full queue, aborted somewhere: at rest at once, and the same one is good afterwards."""
    rng = np.random.default_rng(seed)
    job = Job(device, rng, 70, 200)
    for when in [0, 1, 5, 33, 80, *rng.integers(0, 6000, 12).tolist()]:
        with device.scratch():
            for _ in range(CONFIG.queue_depth if when % 2 else 2):
                device.submit(job.regions(device))
            device.simulation.step(when)
            device.abort()
            status = device.status()
            assert not any(status.values()), status
            assert_works(device, job)


def test_abort_with_an_error(device, seed):
    rng = np.random.default_rng(seed)
    job = Job(device, rng, 40, 100)
    device.simulation.fault(job.handle.address, job.handle.address + 16, count=1)
    for _ in range(3):
        device.submit(job.regions(device))
    device.simulation.step(5000)
    assert device.status()["error"] == 1
    device.abort()
    assert_works(device, job)


@pytest.mark.parametrize("channel", ["ar", "r", "aw", "w", "b"])
def test_abort_where_a_channel_hardly_moves(device, channel, seed):
    """Everything that the bus is owed is still done: the checks of the bus are on."""
    rng = np.random.default_rng(seed)
    job = Job(device, rng, 70, 200)
    for when in (300, 5000):
        with device.scratch():
            device.simulation.stall({channel: 0.99}, seed=seed)
            for _ in range(2):
                device.submit(job.regions(device))
            device.simulation.step(when)
            device.simulation.stall(0)
            device.abort()
            assert_works(device, job)


def test_watchdog(device, seed):
    """A limit below the memory's latency ends every product; one above all pauses ends none."""
    rng = np.random.default_rng(seed)
    job = Job(device, rng, 70, 200)
    device.watchdog = 20
    outcomes = device.products([(job.handle, job.x)] * 3, together=True)
    assert [o.code for o in outcomes] == [ErrorCode.TIMEOUT] * 3
    assert not any(device.status().values())
    device.watchdog = 5000
    assert_works(device, job)


def test_a_timeout_gives_no_memory_back_too_early(device, seed):
    rng = np.random.default_rng(seed)
    job = Job(device, rng, 70, 200)
    free = device._memory.next
    for timeout in (30, 200, 1000):
        device.timeout = timeout
        with pytest.raises(Timeout, match=f"within {timeout} cycles"):
            device.products([(job.handle, job.x)] * 4)
        assert device._memory.next == free
        device.timeout = 2_000_000
        with device.scratch():
            other = Job(device, rng, 300, 50)  # where the results would have gone
            device.simulation.step(5000)
            assert np.array_equal(device.product(other.handle, other.x).view(np.uint32), other.expected)
    assert_works(device, job)


@pytest.mark.parametrize("how", ["queued", "paused", "error", "aborting"])
def test_a_program_that_died(device, how, seed):
    """Another driver takes the accelerator over."""
    rng = np.random.default_rng(seed)
    job = Job(device, rng, 70, 200)
    if how == "error":
        device.simulation.fault(job.handle.address, job.handle.address + 16, count=1)
    if how == "paused":
        device._set_control(pause=1)
    for _ in range(3):
        device.submit(job.regions(device))
    device.simulation.step(random.Random(seed).randrange(3000))
    if how == "aborting":
        device._start_abort()
    device.simulation.clear_rules()
    end = device._memory.next
    later = Driver(device.transport, memory=(end, 1 << 24), timeout=2_000_000)
    assert later.config == CONFIG
    assert [device._read(name) for name in ("SUBMITTED", "COMPLETED")] == [3, 3]
    later.simulation = device.simulation
    assert_works(later, job)


def test_a_product_that_died_hanging(device, seed):
    """It does not end in time, so it is aborted."""
    rng = np.random.default_rng(seed)
    job = Job(device, rng, 70, 200)
    for _ in range(3):
        device.submit(job.regions(device))
    later = Driver(device.transport, memory=(device._memory.next, 1 << 24), timeout=100)
    later.timeout = 2_000_000
    later.simulation = device.simulation
    assert_works(later, job)
