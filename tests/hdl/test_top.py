"""The whole accelerator on the simulated memory: results, errors, and what it costs, against the golden product."""

from dataclasses import replace

import numpy as np
import pytest

from seedlm.golden.build import Config
from seedlm.golden.codecs import CODECS
from seedlm.golden.matrix import PackedMatrix
from seedlm.golden.product import product
from seedlm.hdl.registers import CATEGORIES, ErrorCode
from seedlm.host.driver import AcceleratorError
from seedlm.host.regions import region_sizes
from seedlm.sim.accelerator import Accelerator
from tests.golden.corners import corner_matrix, corner_vectors
from tests.hdl.builds import tiny

NAN = 0x7FC00000
# A scale per product, a scale per row, headers and factors. Others are in tests/hdl/test_several.py; a gearbox also in
# tests/hdl/test_abort.py.
FAST_CODECS = ["seedlm4", "trellis4", "int4g128"]
SLOW_CODECS = [name for name in [*CODECS, "c8p4k16b4", "c8p3k20b0"] if name not in FAST_CODECS]
ALL_CODECS = [*FAST_CODECS, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW_CODECS)]


@pytest.fixture(scope="module", params=ALL_CODECS)
def accelerator(request):
    """One small accelerator per codec, used by all tests of the module; each test leaves it idle."""
    with Accelerator(tiny(request.param), memory="ideal", timeout=2_000_000) as device:
        yield device


def bits(y):
    return np.asarray(y, np.float32).view(np.uint32)


def assert_equal(got, expected):
    assert np.array_equal(bits(got), bits(expected)), f"{(bits(got) != bits(expected)).sum()} of {len(expected)} differ"


def random_product(device, rng, rows, cols, *, corners=False):
    """A matrix on the device, the matrix, and a vector."""
    kind = device.config.codec
    matrix = corner_matrix(kind, rows, cols, rng) if corners else PackedMatrix.random(kind, rows, cols, rng)
    x = rng.standard_normal(cols).astype(np.float16)
    return device.load_matrix(matrix), matrix, x


def fence(device, regions):
    """Only the regions of this product may be touched."""
    for name, size in region_sizes(device.config, regions.rows, regions.cols).items():
        if size:
            # Whole beats of results, too; the bytes behind the last row are the guard that the test looks at.
            address = getattr(regions, name)
            device.simulation.allow(address, address + size, write=name == "results")


SHAPES = [(1, 1), (1, 8), (4, 9), (5, 8), (3, 2048), (16, 64), (17, 100), (130, 33), (300, 7), (64, 512)]


@pytest.mark.parametrize("stall", [0.0, 0.4])
@pytest.mark.parametrize("memory", ["ideal", "ddr3"])
def test_shapes(fresh, memory, stall, seed):
    """Every shape, also with random pauses on every AXI channel; nothing outside of the regions is touched."""
    fresh.simulation.stall(stall, seed=seed)
    fresh.simulation.configure(memory)
    fresh.reset()
    rng = np.random.default_rng(seed)
    for rows, cols in SHAPES:
        with fresh.scratch():
            matrix, golden, x = random_product(fresh, rng, rows, cols)
            vector = fresh.load_activations(x)
            regions = fresh.place(matrix, vector.address)
            fresh.allocate(4096)  # the end of the guard
            guard = rng.integers(0, 256, 4 * rows + 4096, np.uint8)
            fresh.transport.mem_write(regions.results, guard)
            fence(fresh, regions)
            fresh.submit(regions, scale=matrix.scale)
            assert fresh.wait() == [ErrorCode.NONE]
            fresh.simulation.step(200)  # nothing extra comes
            after = fresh.transport.mem_read(regions.results, guard.size)
            assert_equal(after[: 4 * rows].view(np.float32), product(golden, x))
            assert np.array_equal(after[4 * rows :], guard[4 * rows :])
            fresh.simulation.clear_rules()


def test_corner_values(fresh, seed):
    """Seed 0, coefficients of -8, extreme exponents and scales; subnormal, zero, -0 and largest activations."""
    rng = np.random.default_rng(seed)
    matrix = corner_matrix(fresh.config.codec, 37, 203, rng)
    handle = fresh.load_matrix(matrix)
    vectors = [x for x in corner_vectors(203, rng) if np.isfinite(x).all()]
    assert len(vectors) >= 4
    for outcome, x in zip(fresh.products([(handle, x) for x in vectors]), vectors, strict=True):
        assert outcome.code is ErrorCode.NONE
        assert_equal(outcome.y, product(matrix, x))


def test_scales(fresh, seed):
    """The product's scale is any finite binary32: subnormal results, overflow, signed zeros."""
    rng = np.random.default_rng(seed)
    handle, matrix, x = random_product(fresh, rng, 21, 40)
    if fresh.config.codec.row_scales:
        pytest.skip("row scales: covered by test_corner_values")
    scales = [1e-45, -1e-40, 3.4e38, -3.4e38, 0.0, -0.0, 1.17549435e-38, 7.0]
    for outcome, scale in zip(fresh.products([(handle, x, s) for s in scales]), scales, strict=True):
        with np.errstate(over="ignore"):
            assert_equal(outcome.y, product(matrix, x, scale=scale))


@pytest.mark.parametrize("memory", ["ideal", "ddr3"])
def test_queue(fresh, memory, seed):
    """More products than the queue holds, some with the activations of the one before."""
    fresh.simulation.configure(memory)
    fresh.reset()
    rng = np.random.default_rng(seed)
    cols = 96
    handles = [random_product(fresh, rng, rows, cols)[:2] for rows in (1, 40, 7, 65)]
    vectors = [rng.standard_normal(cols).astype(np.float16) for _ in range(3)]
    order = [(i % 4, i // 2 % 3) for i in range(20)]
    outcomes = fresh.products([(handles[h][0], vectors[v]) for h, v in order])
    for outcome, (h, v) in zip(outcomes, order, strict=True):
        assert outcome.code is ErrorCode.NONE
        assert_equal(outcome.y, product(handles[h][1], vectors[v]))
    # Half of the products used the vector that was there.
    assert fresh.counters()["activation_beats"] == 10 * fresh.config.activation_beats(cols)


def test_same_activations_without_load(fresh, seed):
    """After a reset there is nothing to be the same as."""
    handle, _, _ = random_product(fresh, np.random.default_rng(seed), 4, 8)
    fresh.submit(fresh.place(handle, 0), same=True)
    with pytest.raises(AcceleratorError, match="DESCRIPTOR"):
        fresh.wait()


@pytest.mark.parametrize("region", ["weights", "activations", "results", "scales"])
@pytest.mark.parametrize("where", [0.0, 0.5, 1.0])
def test_bus_error(fresh, region, where, seed):
    """An error response in a product: its code, no further product until it is cleared, then good products."""
    rng = np.random.default_rng(seed)
    rows, cols = 50, 300
    handle, matrix, x = random_product(fresh, rng, rows, cols)
    vector, sim = fresh.load_activations(x), fresh.simulation
    products = [fresh.place(handle, vector.address) for _ in range(3)]
    results = [p.results for p in products]
    if region == "scales" and handle.scales is None:
        pytest.skip("no row scales")
    beat = fresh.config.beat_bytes
    beats = region_sizes(fresh.config, rows, cols)[region] // beat
    address = getattr(products[1], region) + round(where * (beats - 1)) * beat
    fresh.submit(products[0], scale=handle.scale)
    assert fresh.wait() == [ErrorCode.NONE]
    sim.mem_write(results[2], np.full(4 * rows, 0xA5, np.uint8))
    sim.fault(address, address + beat, write=region == "results", count=1)
    fresh.submit(products[1], scale=handle.scale)
    fresh.submit(products[2], scale=handle.scale)
    code = ErrorCode.WRITE if region == "results" else ErrorCode[f"READ_{region.upper()}"]
    with pytest.raises(AcceleratorError, match=code.name):
        fresh.wait()
    sim.step(20_000)
    assert fresh.status()["error"] == 1
    assert (sim.mem_read(results[2], 4 * rows) == 0xA5).all(), "written before the error was cleared"
    fresh.clear_error()
    assert fresh.wait() == [code, ErrorCode.NONE]
    for address in (results[0], results[2]):
        assert_equal(sim.mem_read(address, 4 * rows).view(np.float32), product(matrix, x))
    if region == "weights" and where == 0.0:
        assert (sim.mem_read(results[1], 4 * rows).view(np.uint32) == NAN).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("position", [0, 57, 299])
def test_nonfinite_activation(fresh, value, position, seed):
    """Every output is the quiet NaN; the same vector again fails again; the next good one is good."""
    rng = np.random.default_rng(seed)
    handle, matrix, x = random_product(fresh, rng, 22, 300)
    bad = x.copy()
    bad[position] = value
    outcomes = fresh.products([(handle, bad), (handle, bad), (handle, x)])
    assert [o.code for o in outcomes] == [ErrorCode.NONFINITE, ErrorCode.NONFINITE, ErrorCode.NONE]
    assert all((bits(o.y) == NAN).all() for o in outcomes[:2])
    assert_equal(outcomes[2].y, product(matrix, x))


@pytest.mark.parametrize(
    "change",
    [{"rows": 0}, {"cols": 0}, {"cols": 2049}, {"rows": (1 << 20) + 1}, {"weights": 4096 + 64}, {"results": 32},
     {"activations": 1}, {"weights": (1 << 34) - 4096}, {"weights": 1 << 40}],
    ids=str,
)  # fmt: skip
def test_bad_descriptor(fresh, change, seed):
    """An invalid product touches no memory; the one after it runs."""
    handle, matrix, x = random_product(fresh, np.random.default_rng(seed), 200, 300)
    vector = fresh.load_activations(x)
    good = fresh.place(handle, vector.address)
    before = fresh.simulation.counters()
    fresh.submit(replace(good, **change), scale=handle.scale)
    with pytest.raises(AcceleratorError, match="DESCRIPTOR"):
        fresh.wait()
    fresh.simulation.step(1000)
    after = fresh.simulation.counters()
    assert (after["read_beats"], after["write_beats"]) == (before["read_beats"], before["write_beats"])
    fresh.clear_error()
    fresh.submit(good, scale=handle.scale)
    assert fresh.wait()[-1] is ErrorCode.NONE
    assert_equal(fresh.simulation.mem_read(good.results, 800).view(np.float32), product(matrix, x))


@pytest.mark.parametrize("when", [3, 40, 77, 150, 400, 700])
def test_reset_in_a_product(fresh, when, seed):
    rng = np.random.default_rng(seed)
    handle, matrix, x = random_product(fresh, rng, 60, 250)
    vector = fresh.load_activations(x)
    fresh.submit(fresh.place(handle, vector.address), scale=handle.scale)
    fresh.simulation.step(when)
    fresh.reset()
    assert_equal(fresh.product(handle, x), product(matrix, x))


@pytest.mark.parametrize("when", [3, 77, 400])
def test_abort_in_a_product(fresh, when, seed):
    """The driver's abort, with more products in the queue: no result of them counts, and the next one is right."""
    rng = np.random.default_rng(seed)
    handle, matrix, x = random_product(fresh, rng, 60, 250)
    vector = fresh.load_activations(x)
    for _ in range(3):
        fresh.submit(fresh.place(handle, vector.address), scale=handle.scale)
    fresh.simulation.step(when)
    fresh.abort()
    assert fresh.status()["busy"] == 0
    assert_equal(fresh.product(handle, x), product(matrix, x))


@pytest.mark.parametrize("memory", ["ideal", "ddr3"])
def test_counters_explain_every_cycle(fresh, memory, seed):
    fresh.simulation.configure(memory)
    fresh.reset()
    handle, _, x = random_product(fresh, np.random.default_rng(seed), 100, 500)
    fresh.products([(handle, x)])
    counters, config = fresh.counters(), fresh.config
    assert sum(counters[name] for name in CATEGORIES) == counters["cycles"]
    assert counters["streaming"] == counters["steps"] == config.steps(100, 500)
    assert counters["weight_beats"] == config.image_beats(100, 500)
    assert counters["activation_beats"] == config.activation_beats(500)
    assert counters["scale_beats"] == config.scale_beats(100)
    assert counters["result_beats"] == config.result_beats(100)
    moved = fresh.simulation.counters()
    assert moved["read_beats"] == sum(counters[f"{n}_beats"] for n in ("weight", "activation", "scale"))


@pytest.fixture(scope="module")
def full():
    """The accelerator as it is shipped: 16 lanes, 512 bits."""
    with Accelerator(Config(), memory="ideal", timeout=2_000_000) as device:
        yield device


def test_one_step_per_clock(full, seed):
    """1024 x 1024 on the ideal memory: at most 3 % more cycles than beats of weights and activations."""
    full.simulation.configure("ideal")
    full.reset()
    handle, matrix, x = random_product(full, np.random.default_rng(seed), 1024, 1024)
    assert_equal(full.product(handle, x), product(matrix, x))
    counters = full.counters()
    assert counters["weight_beats"] == 8192
    assert counters["cycles"] <= 1.03 * (8192 + counters["activation_beats"])


def test_largest_shapes(full, seed):
    """2048 x 2048 on the DDR3, and rows and columns that fill neither lanes nor blocks."""
    full.simulation.configure("ddr3")
    full.reset()
    rng = np.random.default_rng(seed)
    for rows, cols in [(2048, 2048), (1001, 1023), (15, 4093), (1, 1)]:
        with full.scratch():
            handle, matrix, x = random_product(full, rng, rows, cols)
            assert_equal(full.product(handle, x), product(matrix, x))
