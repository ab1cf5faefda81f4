"""The driver against an accelerator in Python: products bit for bit, full queues, errors, wrong devices."""

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest

from seedlm.golden.build import Config
from seedlm.golden.codecs import CODECS, codec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.matrix import PackedMatrix
from seedlm.golden.product import product
from seedlm.hdl.registers import COUNTERS, ErrorCode, register
from seedlm.host.driver import Accelerator, AcceleratorError, AcceleratorShared
from tests.host.fake_transport import FakeAccelerator, NoInterrupt

BUILDS = [
    {"codec": "seedlm4"},
    {"codec": "seedlm3", "lanes": 5, "bus_bits": 256},
    {"codec": "seedlm4r", "queue_depth": 2},
    {"codec": "fp16", "queue_depth": 3},
    {"codec": "c8p4k16b4", "max_cols": 64, "max_rows": 50},
]
BUILDS += [{"codec": name} for name in CODECS if name not in {build["codec"] for build in BUILDS}]


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


def test_vectors_of_different_length_are_not_the_same():
    """Their images are filled with zeros and may be equal."""
    config = config_from(BUILDS[0])
    rng = np.random.default_rng(4)
    _, accelerator = open_device(config)
    matrices = [PackedMatrix.random(config.codec, 3, cols, rng) for cols in (10, 12)]
    xs = [np.ones(10, np.float16), np.concatenate([np.ones(10, np.float16), np.zeros(2, np.float16)])]
    jobs = [(accelerator.load_matrix(m), x) for m, x in zip(matrices, xs, strict=True)]
    outcomes = accelerator.products(jobs)
    assert [o.code for o in outcomes] == [ErrorCode.NONE] * 2
    assert all(same_bits(o.y, product(m, x)) for o, m, x in zip(outcomes, matrices, xs, strict=True))


@pytest.mark.parametrize("code", [ErrorCode.DESCRIPTOR, ErrorCode.READ_ACTIVATIONS])
def test_nothing_is_the_same_as_what_was_not_loaded(code, seed):
    """A failed load costs its own product alone, also where the vector before has the same length."""
    config = config_from(BUILDS[0])
    rng = np.random.default_rng(seed)
    faults = {1: code} if code is ErrorCode.READ_ACTIVATIONS else {}
    _, accelerator = open_device(config, seed, faults=faults)
    matrix = PackedMatrix.random(config.codec, 3, 10, rng)
    good = accelerator.load_matrix(matrix)
    bad = good if faults else replace(good, address=good.address + 64)
    before, x = vector(rng, 10), vector(rng, 10)
    outcomes = accelerator.products([(good, before), (bad, x), (good, x), (good, x)])
    assert [o.code for o in outcomes] == [ErrorCode.NONE, code, ErrorCode.NONE, ErrorCode.NONE]
    assert same_bits(outcomes[0].y, product(matrix, before))
    assert all(same_bits(o.y, product(matrix, x)) for o in outcomes[2:])


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
        ("VERSION", 1 << 16, r"version 1.0 of the registers, this driver needs 1.1 or a later 1.x"),
        ("STEP", 0, "does not fit its own sizes: word_bits is 0"),
        ("WIDTHS", 0, "describe no build"),
    ],
)
def test_wrong_device(name, value, message):
    device = FakeAccelerator(Config())
    device.registers[name] = value
    with pytest.raises(SeedLMError, match=message):
        Accelerator(device)


def leave_behind(device, config, *, clear_error=False, count=3):
    """What a program leaves that dies with products queued; the matrix and vector that it used."""
    accelerator = Accelerator(device, config)
    matrix = PackedMatrix.random(config.codec, 5, 9, np.random.default_rng(0))
    handle, x = accelerator.load_matrix(matrix), np.ones(9, np.float16)
    for _ in range(count):
        submit(accelerator, handle, x)
    return matrix, x


def assert_works(accelerator, matrix, x):
    """A product gives the right bits, twice, and nothing of earlier ones is reported."""
    handle = accelerator.load_matrix(matrix)
    for _ in range(2):
        assert same_bits(accelerator.product(handle, x), product(matrix, x))
    assert accelerator.wait() == []


@pytest.mark.parametrize("faults", [{}, {0: ErrorCode.WRITE}, {1: ErrorCode.READ_WEIGHTS, 2: ErrorCode.WRITE}])
@pytest.mark.parametrize("paused", [False, True])
def test_a_program_died_with_products_queued(faults, paused, seed):
    """The next one waits for them, errors or not, and goes on."""
    config = config_from(BUILDS[0])
    device = FakeAccelerator(config, seed=seed, lazy=1.0, faults=faults)
    job = leave_behind(device, config)
    device.registers["CONTROL"] = register("CONTROL").pack(pause=int(paused), irq_product_done=1)
    accelerator = Accelerator(device)
    assert device.log == [faults.get(n, ErrorCode.NONE) for n in range(3)]  # waited for, not aborted
    assert_works(accelerator, *job)


def test_a_program_died_with_an_error_not_cleared(seed):
    config = config_from(BUILDS[0])
    device = FakeAccelerator(config, seed=seed, lazy=0.0, faults={2: ErrorCode.WRITE})
    job = leave_behind(device, config)
    assert device.registers["ERROR"] == ErrorCode.WRITE
    assert_works(Accelerator(device), *job)


@pytest.mark.parametrize("stuck", [0, 1])
@pytest.mark.parametrize("hang", [0, 2])
def test_a_program_died_in_a_hang(hang, stuck, seed):
    """What does not end is aborted, by force if the memory does not answer."""
    config = config_from(BUILDS[0])
    device = FakeAccelerator(config, seed=seed, hang=hang, stuck=stuck)
    job = leave_behind(device, config)
    accelerator = Accelerator(device)
    assert device.registers["SUBMITTED"] == device.registers["COMPLETED"] == 3
    assert_works(accelerator, *job)


def test_what_cannot_be_aborted():
    config = config_from(BUILDS[0])
    device = FakeAccelerator(config, hang=0, stuck=9)
    leave_behind(device, config)
    with pytest.raises(SeedLMError, match=r"STATUS.aborting is 1 after 8192 reads: reset the accelerator"):
        Accelerator(device)


def test_numbers_wrap_between_two_programs():
    config = config_from(BUILDS[0])
    device = FakeAccelerator(config, lazy=1.0, faults={0xFFFFFFFF: ErrorCode.WRITE})
    device.registers["SUBMITTED"] = device.registers["COMPLETED"] = 0xFFFFFFFE
    job = leave_behind(device, config)
    assert_works(Accelerator(device), *job)


def test_abort(seed):
    """Products in the queue end unwritten and unreported; the next ones are good."""
    config = config_from(BUILDS[0])
    device, accelerator = open_device(config, seed, lazy=1.0, hang=1)
    matrix = PackedMatrix.random(config.codec, 5, 9, np.random.default_rng(seed))
    handle, x = accelerator.load_matrix(matrix), np.ones(9, np.float16)
    for _ in range(3):
        submit(accelerator, handle, x)
    with pytest.raises(NoInterrupt):
        accelerator.wait()
    accelerator.abort()
    assert device.log == [ErrorCode.NONE]
    assert accelerator.wait() == []
    assert_works(accelerator, matrix, x)
    accelerator.abort()  # with nothing to do
    assert_works(accelerator, matrix, x)


def test_watchdog(seed):
    """The product without progress and all after it end with TIMEOUT; the next ones are good."""
    config = config_from(BUILDS[0])
    device = FakeAccelerator(config, seed=seed, hang=2)
    accelerator = Accelerator(device, config, watchdog=1000)
    assert (accelerator.watchdog, device.registers["WATCHDOG"]) == (1000, 1000)
    matrix = PackedMatrix.random(config.codec, 5, 9, np.random.default_rng(seed))
    handle, x = accelerator.load_matrix(matrix), np.ones(9, np.float16)
    outcomes = accelerator.products([(handle, x)] * 5, together=True)
    assert [o.code for o in outcomes] == [ErrorCode.NONE] * 2 + [ErrorCode.TIMEOUT] * 3
    assert all(same_bits(o.y, product(matrix, x)) for o in outcomes[:2])
    assert_works(accelerator, matrix, x)
    device.hang = device.registers["SUBMITTED"]
    with pytest.raises(AcceleratorError, match="ended with TIMEOUT: no progress for WATCHDOG clocks"):
        accelerator.product(handle, x)
    assert_works(accelerator, matrix, x)
    with pytest.raises(SeedLMError, match="must have 32 bits, not be 4294967296"):
        accelerator.watchdog = 1 << 32
    accelerator.watchdog = 0
    assert device.registers["WATCHDOG"] == 0
    # What the last program has set is not this one's.
    device.registers["WATCHDOG"] = 5
    Accelerator(device)
    assert device.registers["WATCHDOG"] == 0


class Interrupting(FakeAccelerator):
    """Waits are given up as long as `error` is set, and at the `n`-th access to a register."""

    error = None
    n = None

    def wait_irq(self, timeout):
        if self.error:
            raise self.error
        super().wait_irq(timeout)

    def _progress(self):
        super()._progress()
        if self.n is not None:
            self.n -= 1
            if self.n < 0:
                self.n = None
                raise KeyboardInterrupt


@pytest.mark.parametrize("error", [NoInterrupt, KeyboardInterrupt])
@pytest.mark.parametrize("together", [False, True])
def test_memory_is_not_given_back_under_products(error, together, seed):
    """A wait in `products` is given up: what is loaded next, at the same addresses, is not overwritten later."""
    config = config_from(BUILDS[0])
    rng = np.random.default_rng(seed)
    device = Interrupting(config, seed=seed, lazy=1.0)
    accelerator = Accelerator(device, config)
    first = PackedMatrix.random(config.codec, 50, 60, rng)
    handle, x = accelerator.load_matrix(first), vector(rng, 60)
    device.error = error
    with pytest.raises(error):
        accelerator.products([(handle, x)] * 5, together=together)
    device.error = None
    second = PackedMatrix.random(config.codec, 200, 60, rng)
    other = accelerator.load_matrix(second)
    accelerator.wait(on_error="continue")
    device.lazy = 0.0
    assert same_bits(accelerator.product(other, x), product(second, x))
    assert same_bits(accelerator.product(handle, x), product(first, x))


@pytest.mark.parametrize(("count", "together"), [(4, False), (2, True)])
def test_interrupted_anywhere(count, together, seed):
    """Ctrl-C at every access to a register in turn: later products are good, and no memory is lost."""
    config = config_from({"codec": "seedlm4", "queue_depth": 2})
    rng = np.random.default_rng(seed)
    device = Interrupting(config, seed=seed)
    accelerator = Accelerator(device, config)
    matrix = PackedMatrix.random(config.codec, 20, 30, rng)
    handle, x = accelerator.load_matrix(matrix), vector(rng, 30)
    free = accelerator._memory.next
    n, interrupted = 0, True
    while interrupted:
        device.n, device.accesses, interrupted = n, 0, False
        try:
            accelerator.products([(handle, x)] * count, together=together)
        except KeyboardInterrupt:
            interrupted = True
        device.n = None
        assert accelerator._memory.next == free
        assert device.registers["SUBMITTED"] == device.registers["COMPLETED"]
        assert same_bits(accelerator.product(handle, x), product(matrix, x))
        n += 1
    assert n > 25


def test_buffers_are_kept_if_nothing_helps():
    config = config_from(BUILDS[0])
    _, accelerator = open_device(config, hang=0, stuck=9)
    handle = accelerator.load_matrix(PackedMatrix.random(config.codec, 5, 9, np.random.default_rng(0)))
    free = accelerator._memory.next
    with pytest.raises(NoInterrupt):
        accelerator.product(handle, np.ones(9, np.float16))
    assert accelerator._memory.next > free
    with pytest.raises(SeedLMError, match="not waited for"):
        accelerator.product(handle, np.ones(9, np.float16))


def test_scratch_is_not_left_with_products_in_it():
    config = config_from(BUILDS[0])
    device, accelerator = open_device(config, lazy=1.0)
    matrix = PackedMatrix.random(config.codec, 5, 9, np.random.default_rng(0))
    handle, x = accelerator.load_matrix(matrix), np.ones(9, np.float16)
    outside = accelerator.place(handle, accelerator.load_activations(x).address)
    accelerator.submit(outside, scale=handle.scale)
    with pytest.raises(ValueError, match="a reason of its own"), accelerator.scratch():
        raise ValueError("a reason of its own")
    assert accelerator.wait() == [ErrorCode.NONE]  # was not aborted: its regions are none of the scratch's
    with pytest.raises(SeedLMError, match="under products that were not waited for"), accelerator.scratch():
        submit(accelerator, handle, x)
    assert device.log == [ErrorCode.NONE]
    assert_works(accelerator, matrix, x)


def test_two_programs():
    """Where no lock keeps the second out, it is named instead of a hang."""
    config = config_from(BUILDS[0])
    device = FakeAccelerator(config, lazy=1.0)
    first, second = Accelerator(device, config), Accelerator(device, config)
    matrix = PackedMatrix.random(config.codec, 5, 9, np.random.default_rng(0))
    handle, x = first.load_matrix(matrix), np.ones(9, np.float16)
    assert same_bits(first.product(handle, x), product(matrix, x))
    message = "SUBMITTED reads 2, this program has submitted up to 1: another program uses the accelerator, or it was"
    with pytest.raises(AcceleratorShared, match=message):
        second.product(handle, x)


def test_two_programs_at_attach():
    """The other one is at work: a product that ends while another comes is not waited for again and again."""

    class Busy(FakeAccelerator):
        def wait_irq(self, timeout):
            super().wait_irq(timeout)
            self.queue.append(dict(self.registers))
            self._count("SUBMITTED")

    config = config_from(BUILDS[0])
    device = Busy(config, lazy=1.0)
    leave_behind(device, config)
    with pytest.raises(AcceleratorShared, match="SUBMITTED reads 4, this program has submitted up to 3: another"):
        Accelerator(device)
    assert device.aborts == 0


def test_reset_in_between():
    config = config_from(BUILDS[0])
    device, accelerator = open_device(config, lazy=1.0)
    handle, x = accelerator.load_matrix(PackedMatrix.random(config.codec, 5, 9, np.random.default_rng(0))), np.ones(9)
    submit(accelerator, handle, x.astype(np.float16))
    device.queue.clear()
    device.registers["SUBMITTED"] = 0
    with pytest.raises(AcceleratorShared, match=r"SUBMITTED reads 0, this program has submitted up to 1: .*was reset"):
        accelerator.wait()


class Unplugged(FakeAccelerator):
    """All registers read all ones after so many reads."""

    left = 1 << 30

    def read32(self, offset):
        self.left -= 1
        self.dead = self.left < 0
        return super().read32(offset)


def test_link_dies_in_the_constructor():
    def attach(reads):
        device = Unplugged(config_from(BUILDS[0]))
        device.left = reads
        try:
            Accelerator(device)
        except SeedLMError as error:
            return str(error)
        return None

    messages = list(itertools.takewhile(lambda m: m is not None, map(attach, range(100))))
    assert 10 < len(messages) < 100
    assert messages[0] == "no accelerator there: the ID register reads 0xffffffff, expected 0x53444c4d"
    assert all(re.fullmatch(r"the accelerator does not answer: registers \w+ and ID .*", m) for m in messages[1:])


@pytest.mark.parametrize("reads", range(12))
def test_link_dies_later(reads):
    """One line, wherever it happens."""
    device = Unplugged(config_from(BUILDS[0]))
    accelerator = Accelerator(device)
    matrix = PackedMatrix.random(accelerator.config.codec, 5, 9, np.random.default_rng(0))
    jobs = [(accelerator.load_matrix(matrix), np.ones(9, np.float16))] * 10
    device.left = reads
    message = r"the accelerator does not answer: registers \w+ and ID read 0xffffffff"
    with pytest.raises(SeedLMError, match=message):
        accelerator.products(jobs)
    for use in (accelerator.counters, accelerator.status, accelerator.wait, accelerator.abort):
        with pytest.raises(SeedLMError, match=message):
            use()


def test_answers_that_nothing_asked_for():
    """They may have been taken for those of a product. Told once; what was there before is not this program's."""
    config = config_from(BUILDS[0])
    device = FakeAccelerator(config)
    stray = register("IRQ_STATUS").pack(stray=1)
    device.registers["IRQ_STATUS"] = stray
    accelerator = Accelerator(device, config)
    matrix = PackedMatrix.random(config.codec, 5, 9, np.random.default_rng(0))
    assert_works(accelerator, matrix, np.ones(9, np.float16))
    device.registers["IRQ_STATUS"] |= stray
    with pytest.raises(SeedLMError, match=r"the memory gave an answer that nothing had asked for: .* reset the accel"):
        accelerator.product(accelerator.load_matrix(matrix), np.ones(9, np.float16))
    assert_works(accelerator, matrix, np.ones(9, np.float16))


def test_a_code_that_nobody_knows():
    device, accelerator = open_device(config_from(BUILDS[0]))
    device.registers["ERROR"] = 0x80000001
    with pytest.raises(SeedLMError, match="register ERROR reads 0x80000001: expected a code up to 0x7"):
        accelerator.wait()


def test_all_ones_in_a_register_are_no_dead_link():
    device, accelerator = open_device(Config())
    device.registers["CYCLES_LO"] = device.registers["STEPS_HI"] = 0xFFFFFFFF
    counters = accelerator.counters()
    assert (counters["cycles"], counters["steps"]) == (0xFFFFFFFF, 0xFFFFFFFF << 32)


@pytest.mark.parametrize(
    ("memory", "message"),
    [
        ((0, (1 << 34) + 1), "memory of 0x400000001 bytes at 0x0: expected a part of the build's 34-bit addresses"),
        (((1 << 34) - 4096, 8192), "memory of 0x2000 bytes at 0x3fffff000: expected a part of the build's 34-bit"),
        ((-4096, 8192), "memory of 0x2000 bytes at -0x1000: expected a part of the build's"),
        ((0, 0), "memory of 0x0 bytes at 0x0: expected a part of the build's"),
        (
            (0, (1 << 22) + 4096),
            "memory of 0x401000 bytes at 0x0: expected a part of the device's 0x400000 bytes at 0x0",
        ),
    ],
)
def test_memory_that_is_not_there(memory, message):
    with pytest.raises(SeedLMError, match=message):
        Accelerator(FakeAccelerator(Config()), memory=memory)


def test_memory_of_unknown_size():
    class Unknown(FakeAccelerator):
        memory_range = None

    with pytest.raises(SeedLMError, match=r"memory is not known: expected memory=\(first address, bytes\)"):
        Accelerator(Unknown(Config()))
    assert Accelerator(Unknown(Config()), memory=(0, 1 << 20)).allocate(1 << 20) == 0


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
