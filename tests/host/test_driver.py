"""The driver against an accelerator in Python: products bit for bit, full queues, errors, wrong devices."""

from dataclasses import replace

import numpy as np
import pytest

from seedlm.golden.build import Config, codec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.matrix import PackedMatrix
from seedlm.golden.product import product
from seedlm.hdl.registers import COUNTERS, ErrorCode
from seedlm.host.driver import Accelerator, AcceleratorError
from tests.host.fake_transport import FakeAccelerator, NoInterrupt

BUILDS = [
    {"codec": "seedlm4"},
    {"codec": "seedlm3", "lanes": 5, "bus_bits": 256},
    {"codec": "seedlm4r", "queue_depth": 2},
    {"codec": "fp16", "queue_depth": 3},
    {"codec": "c8p4k16b4", "max_cols": 64, "max_rows": 50},
]


def config_from(build):
    values = dict(build)
    return Config(codec=codec(values.pop("codec")), **values)


@pytest.fixture(params=range(3))
def seed(request):
    print(f"seed {request.param}")
    return request.param


@pytest.fixture(params=BUILDS, ids=lambda b: b["codec"])
def config(request):
    return config_from(request.param)


def same_bits(a, b):
    return a.dtype == b.dtype == np.float32 and np.array_equal(a.view(np.uint32), b.view(np.uint32))


def vector(rng, cols):
    return rng.standard_normal(cols).astype(np.float16)


def open_device(config, seed=0, **options):
    device = FakeAccelerator(config, seed=seed, **options)
    return device, Accelerator(device, config)


def test_products_equal_golden(config, seed):
    rng = np.random.default_rng(seed)
    device, accelerator = open_device(config, seed)
    shapes = rng.integers(1, [50, 64], (4, 2)).tolist()
    matrices = [PackedMatrix.random(config.codec, rows, cols, rng) for rows, cols in shapes]
    handles = [accelerator.load_matrix(m) for m in matrices]
    for matrix, handle in zip(matrices, handles, strict=True):
        x = vector(rng, matrix.cols)
        assert same_bits(accelerator.product(handle, x), product(matrix, x))
        if not config.codec.row_scales:
            assert same_bits(accelerator.product(handle, x, 0.37), product(matrix, x, 0.37))
    # Many at once, some with the x of the one before, as an array or as a vector in memory.
    loads = device.loads
    jobs, expected, fresh, n, x, given = [], [], 0, 0, None, None
    for _ in range(40):
        if x is None or rng.random() < 0.7:
            n = int(rng.integers(4))
            x = vector(rng, matrices[n].cols)
            given = accelerator.load_activations(x) if rng.random() < 0.5 else x
            fresh += 1
        jobs.append((handles[n], given))
        expected.append(product(matrices[n], x))
    outcomes = accelerator.products(jobs)
    assert [o.code for o in outcomes] == [ErrorCode.NONE] * len(jobs)
    assert all(same_bits(o.y, y) for o, y in zip(outcomes, expected, strict=True))
    assert device.loads - loads == fresh
    assert device.max_level <= config.queue_depth


def test_same_activations_only_if_equal():
    config = config_from(BUILDS[0])
    rng = np.random.default_rng(1)
    device, accelerator = open_device(config)
    matrix = PackedMatrix.random(config.codec, 3, 10, rng)
    handle = accelerator.load_matrix(matrix)
    x = vector(rng, 10)
    expected = []

    def jobs():  # one array, changed in place between the jobs
        for value in (1.0, 2.0, 2.0):
            x[0] = value
            expected.append(product(matrix, x))
            yield handle, x

    outcomes = accelerator.products(jobs())
    assert all(same_bits(o.y, y) for o, y in zip(outcomes, expected, strict=True))
    assert device.loads == 2


def test_together():
    """The first product starts when all are queued, where they have room; more of them go one by one."""
    config = config_from(BUILDS[0])
    rng = np.random.default_rng(3)
    matrix = PackedMatrix.random(config.codec, 3, 10, rng)
    room = config.queue_depth
    for count, together, level in ((room, True, room), (room, False, 1), (room + 1, True, 1)):
        device, accelerator = open_device(config, lazy=0.0)  # a product ends with the next access to a register
        handle = accelerator.load_matrix(matrix)
        xs = [vector(rng, 10) for _ in range(count)]
        outcomes = accelerator.products([(handle, x) for x in xs], together=together)
        assert all(same_bits(o.y, product(matrix, x)) for o, x in zip(outcomes, xs, strict=True))
        assert device.max_level == level
        assert same_bits(accelerator.product(handle, xs[0]), product(matrix, xs[0]))  # not paused any more


def test_nothing_to_do():
    assert open_device(config_from(BUILDS[0]))[1].products([]) == []


def test_errors_in_a_queue(config, seed):
    rng = np.random.default_rng(seed)
    faults = {n: code for n, code in enumerate([*ErrorCode, *ErrorCode]) if code}
    device, accelerator = open_device(config, seed, faults=faults)
    matrix = PackedMatrix.random(config.codec, 20, 30, rng)
    handle = accelerator.load_matrix(matrix)
    xs = [vector(rng, 30) for _ in range(20)]
    xs[17][3] = np.inf
    outcomes = accelerator.products((handle, x) for x in xs)
    for n, (outcome, x) in enumerate(zip(outcomes, xs, strict=True)):
        assert outcome.code == (ErrorCode.NONFINITE if n == 17 else faults.get(n, ErrorCode.NONE))
        if n not in faults:
            assert same_bits(outcome.y, product(matrix, x))
    assert device.registers["ERROR"] == 0


def test_error_is_an_exception(seed):
    config = config_from(BUILDS[0])
    rng = np.random.default_rng(seed)
    _, accelerator = open_device(config, seed, faults={1: ErrorCode.READ_WEIGHTS})
    matrix = PackedMatrix.random(config.codec, 5, 9, rng)
    handle = accelerator.load_matrix(matrix)
    x = vector(rng, 9)
    assert same_bits(accelerator.product(handle, x), product(matrix, x))
    with pytest.raises(AcceleratorError, match="product 1 ended with READ_WEIGHTS: the memory") as error:
        accelerator.product(handle, x)
    assert (error.value.code, error.value.product) == (ErrorCode.READ_WEIGHTS, 1)
    # It was cleared.
    assert same_bits(accelerator.product(handle, x), product(matrix, x))
    x[0] = np.nan
    with pytest.raises(AcceleratorError, match="NONFINITE"):
        accelerator.product(handle, x)


def submit(accelerator, handle, x, **changes):
    regions = accelerator.place(handle, accelerator.load_activations(x).address)
    return accelerator.submit(replace(regions, **changes), scale=handle.scale)


def test_submit_and_wait(seed):
    config = config_from({"codec": "seedlm4", "queue_depth": 4})
    rng = np.random.default_rng(seed)
    device, accelerator = open_device(config, seed, faults={3: ErrorCode.WRITE})
    matrix = PackedMatrix.random(config.codec, 5, 9, rng)
    handle = accelerator.load_matrix(matrix)
    x = vector(rng, 9)
    assert accelerator.wait() == []
    assert [submit(accelerator, handle, x) for _ in range(3)] == [0, 1, 2]
    assert accelerator.wait() == [ErrorCode.NONE] * 3
    with accelerator.paused():
        assert submit(accelerator, handle, x) == 3
        assert submit(accelerator, handle, x, weights=handle.address + 64) == 4
        assert submit(accelerator, handle, x) == 5
    for _ in range(2):  # it stays until it is cleared
        with pytest.raises(AcceleratorError, match="product 3 ended with WRITE"):
            accelerator.wait()
    accelerator.clear_error()
    with pytest.raises(AcceleratorError, match="product 4 ended with DESCRIPTOR"):
        accelerator.wait()
    with pytest.raises(SeedLMError, match="not waited for"):
        accelerator.products([(handle, x)])
    accelerator.clear_error()
    assert accelerator.wait() == [ErrorCode.WRITE, ErrorCode.DESCRIPTOR, ErrorCode.NONE]
    assert submit(accelerator, handle, x, rows=1 << 20 | 1) == 6
    assert submit(accelerator, handle, x) == 7
    assert accelerator.wait(on_error="continue") == [ErrorCode.DESCRIPTOR, ErrorCode.NONE]
    assert device.log[-2:] == [ErrorCode.DESCRIPTOR, ErrorCode.NONE]
    with pytest.raises(SeedLMError, match="on_error"):
        accelerator.wait(on_error="ignore")


def test_error_while_the_queue_is_full():
    config = config_from({"codec": "seedlm4", "queue_depth": 2})
    _, accelerator = open_device(config, faults={0: ErrorCode.WRITE}, lazy=1.0)
    matrix = PackedMatrix.random(config.codec, 5, 9, np.random.default_rng(0))
    handle = accelerator.load_matrix(matrix)
    x = np.ones(9, np.float16)
    submit(accelerator, handle, x)
    submit(accelerator, handle, x)
    submit(accelerator, handle, x)  # room was made by the failing product
    with pytest.raises(AcceleratorError, match="product 0 ended with WRITE"):
        submit(accelerator, handle, x)
    accelerator.clear_error()
    assert accelerator.wait() == [ErrorCode.WRITE, ErrorCode.NONE, ErrorCode.NONE]


def test_full_and_paused():
    config = config_from({"codec": "seedlm4", "queue_depth": 2})
    device, accelerator = open_device(config, lazy=0.0)
    handle = accelerator.load_matrix(PackedMatrix.random(config.codec, 5, 9, np.random.default_rng(0)))
    x = np.ones(9, np.float16)
    with accelerator.paused():
        submit(accelerator, handle, x)
        submit(accelerator, handle, x)
        assert device.log == []
        with pytest.raises(SeedLMError, match="2 products are queued and paused"):
            submit(accelerator, handle, x)
    assert accelerator.wait() == [ErrorCode.NONE] * 2


def test_numbers_wrap(seed):
    config = config_from(BUILDS[0])
    device = FakeAccelerator(config, seed=seed, faults={0: ErrorCode.WRITE})
    device.registers["SUBMITTED"] = device.registers["COMPLETED"] = 0xFFFFFFFE
    accelerator = Accelerator(device)
    handle = accelerator.load_matrix(PackedMatrix.random(config.codec, 5, 9, np.random.default_rng(0)))
    codes = [o.code for o in accelerator.products([(handle, np.full(9, n, np.float16)) for n in range(5)])]
    assert codes == [ErrorCode.NONE, ErrorCode.NONE, ErrorCode.WRITE, ErrorCode.NONE, ErrorCode.NONE]


def test_a_lost_interrupt_is_the_transports_error():
    config = config_from(BUILDS[0])
    device, accelerator = open_device(config, lazy=1.0)
    handle = accelerator.load_matrix(PackedMatrix.random(config.codec, 5, 9, np.random.default_rng(0)))
    device._run_one = lambda: False
    with pytest.raises(NoInterrupt):
        accelerator.product(handle, np.ones(9, np.float16))


def test_configuration_from_registers(config):
    device = FakeAccelerator(config)
    found = Accelerator(device).config
    assert found == config
    assert found.codec.name == config.codec.name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codec": codec("seedlm3")}, "C is 8, expected 12"),
        ({"lanes": 8}, "lanes is 16, expected 8"),
        ({"max_rows": 100}, "max_rows is 1048576, expected 100"),
        ({"burst_beats": 32}, "burst_beats is 64, expected 32"),
        ({"codec": codec("seedlm4")}, "P is 4, expected 3"),
    ],
)
def test_other_build(change, message):
    with pytest.raises(SeedLMError, match=message):
        Accelerator(FakeAccelerator(Config()), Config(**change))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ID", 0xFFFFFFFF, "no accelerator there: the ID register reads 0xffffffff"),
        ("VERSION", 2 << 16, "version 2.0 of the registers"),
        ("SUBMITTED", 3, "at work: 3 products"),
        ("STEP", 0, "does not fit its own sizes: word_bits is 0"),
        ("WIDTHS", 0, "describe no build"),
    ],
)
def test_wrong_device(name, value, message):
    device = FakeAccelerator(Config())
    device.registers[name] = value
    with pytest.raises(SeedLMError, match=message):
        Accelerator(device)


def test_leftover_error_is_cleared():
    device = FakeAccelerator(Config())
    device.registers["ERROR"] = 4
    Accelerator(device)
    assert device.registers["ERROR"] == 0


def test_counters():
    device, accelerator = open_device(Config())
    for n, name in enumerate(COUNTERS):
        device.registers[f"{name.upper()}_LO"], device.registers[f"{name.upper()}_HI"] = n, 100 + n
    assert accelerator.counters() == {name: (100 + n) << 32 | n for n, name in enumerate(COUNTERS)}
    accelerator.clear_counters()
    assert set(accelerator.counters().values()) == {0}


def test_memory():
    device = FakeAccelerator(Config())
    accelerator = Accelerator(device, memory=(4097, 16 * 4096))
    assert [accelerator.allocate(n) for n in (1, 4096, 4097, 1)] == [8192, 12288, 16384, 24576]
    with accelerator.scratch():
        assert accelerator.allocate(1) == 28672
    assert accelerator.allocate(1) == 28672
    with pytest.raises(SeedLMError, match="bytes left, not 1000000"):
        accelerator.allocate(1_000_000)
    assert accelerator.allocate(1) == 32768


def test_bad_input():
    config = config_from(BUILDS[4])
    _, accelerator = open_device(config)
    rng = np.random.default_rng(0)
    handle = accelerator.load_matrix(PackedMatrix.random(config.codec, 5, 9, rng))
    x = np.ones(9, np.float16)
    with pytest.raises(SeedLMError, match="9 columns, x has 8"):
        accelerator.product(handle, x[:8])
    with pytest.raises(SeedLMError, match="float16"):
        accelerator.product(handle, x.astype(np.float32))
    with pytest.raises(SeedLMError, match="finite binary32, not inf"):
        accelerator.product(handle, x, float("inf"))
    with pytest.raises(SeedLMError, match="up to 50 x 64 weights, not 51 x 9"):
        accelerator.load_matrix(PackedMatrix.random(config.codec, 51, 9, rng))
    with pytest.raises(SeedLMError, match="not 5 x 65"):
        accelerator.load_matrix(PackedMatrix.random(config.codec, 5, 65, rng))
    with pytest.raises(SeedLMError, match="codec"):
        accelerator.load_matrix(PackedMatrix.random(codec("seedlm3"), 5, 9, rng))
    with pytest.raises(SeedLMError, match="uint8"):
        accelerator.load_image(5, 9, np.zeros(64, np.uint8))
    with pytest.raises(SeedLMError, match="has no row scales"):
        accelerator.load_image(5, 9, np.zeros(64 * 2 * 2, np.uint8)[: config.image_beats(5, 9) * 64], scales=np.ones(5))
    with pytest.raises(SeedLMError, match="64 bits"):
        submit(accelerator, handle, x, weights=-1)
    with pytest.raises(SeedLMError, match="rows must have 32 bits"):
        submit(accelerator, handle, x, rows=1 << 32)
    # Nothing of all this was queued.
    assert accelerator.wait() == []


def test_row_scales_and_a_scale():
    config = config_from(BUILDS[2])
    _, accelerator = open_device(config)
    matrix = PackedMatrix.random(config.codec, 5, 9, np.random.default_rng(0))
    handle = accelerator.load_matrix(matrix)
    with pytest.raises(SeedLMError, match="has row scales: a product has no scale"):
        accelerator.product(handle, np.ones(9, np.float16), 2.0)
    image = accelerator.transport.mem_read(handle.address, config.image_beats(5, 9) * config.beat_bytes)
    with pytest.raises(SeedLMError, match="needs row scales"):
        accelerator.load_image(5, 9, image)
    with pytest.raises(SeedLMError, match="5 row scales"):
        accelerator.load_image(5, 9, image, scales=matrix.scales[:4])
