"""Several codecs in a build, on the simulated memory: equal bits in any order, nothing lost where they alternate."""

import itertools

import numpy as np
import pytest

from seedlm.golden.codecs import CODECS, FAMILIES, codec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.matrix import PackedMatrix
from seedlm.golden.presets import PRESETS
from seedlm.golden.product import product
from seedlm.hdl.registers import ErrorCode, register
from seedlm.host.driver import Accelerator as Driver
from seedlm.host.driver import AcceleratorError
from seedlm.host.regions import region_sizes
from seedlm.sim.accelerator import Accelerator
from seedlm.sim.benchmark import measure
from tests.golden.corners import corner_matrix, corner_vectors
from tests.hdl.builds import build, tiny

# Shifts of columns, of steps and of none; words of two widths, headers; with row scales and without.
FAST = "trellis3+mxfp4+fp16"
EVERY_FAMILY = "+".join(family.presets()[0].name for family in FAMILIES.values())
SLOW = [EVERY_FAMILY, "seedlm4+fp16", "int4g128+q8_0+nvfp4+int8", "trellis2+mx9+mx6+mx4+mxfp6e2m3"]


@pytest.fixture(scope="module", params=[FAST, *(pytest.param(names, marks=pytest.mark.slow) for names in SLOW)])
def accelerator(request):
    with Accelerator(tiny(request.param), memory="ideal", timeout=2_000_000) as device:
        yield device


def assert_equal(y, matrix, x, device):
    expected = product(matrix, x, group=device.config.group)
    wrong = y.view(np.uint32) != expected.view(np.uint32)
    assert not wrong.any(), f"{matrix.codec}: {wrong.sum()} of {wrong.size} differ"


def every(device, rng, rows, cols, corners=False):
    """A matrix in each codec of the build: on the device, and as it is."""
    make = corner_matrix if corners else PackedMatrix.random
    matrices = [make(kind, rows, cols, rng) for kind in device.config.codecs]
    return [(device.load_matrix(matrix), matrix) for matrix in matrices]


@pytest.mark.parametrize("stall", [0.0, 0.4])
@pytest.mark.parametrize("memory", ["ideal", "ddr3"])
def test_shapes(fresh, memory, stall, seed):
    """Every codec in every shape, with and without pauses; nothing outside of a product's regions is touched."""
    sim = fresh.simulation
    sim.stall(stall, seed=seed)
    sim.configure(memory)
    fresh.reset()
    rng = np.random.default_rng(seed)
    for rows, cols in [(1, 1), (4, 16), (5, 33), (3, 129), (9, 256), (17, 300), (2, 2048)]:
        with fresh.scratch():
            loaded = every(fresh, rng, rows, cols)
            rng.shuffle(loaded)
            for handle, matrix in loaded:
                x = rng.standard_normal(cols).astype(np.float16)
                regions = fresh.place(handle, fresh.load_activations(x).address)
                guard = rng.integers(0, 256, 4096, np.uint8)
                sim.mem_write(regions.results, guard)
                for name, size in region_sizes(fresh.config.of(matrix.codec), rows, cols).items():
                    if size:
                        address = getattr(regions, name)
                        sim.allow(address, address + size, write=name == "results")
                fresh.submit(regions, scale=handle.scale)
                assert fresh.wait() == [ErrorCode.NONE]
                sim.step(200)  # nothing extra comes
                after = sim.mem_read(regions.results, guard.size)
                assert_equal(after[: 4 * rows].view(np.float32), matrix, x, fresh)
                assert np.array_equal(after[4 * rows :], guard[4 * rows :])
                sim.clear_rules()


def test_corner_values(fresh, seed):
    """The largest and smallest words and activations of every codec."""
    rng = np.random.default_rng(seed)
    vectors = [x for x in corner_vectors(203, rng) if np.isfinite(x).all()]
    jobs = [(handle, matrix, x) for handle, matrix in every(fresh, rng, 13, 203, corners=True) for x in vectors]
    rng.shuffle(jobs)
    for outcome, (_, matrix, x) in zip(fresh.products([(h, x) for h, _, x in jobs]), jobs, strict=True):
        assert outcome.code is ErrorCode.NONE
        assert_equal(outcome.y, matrix, x, fresh)


@pytest.mark.parametrize("memory", ["ideal", "ddr3"])
def test_activations_are_shared_across_codecs(fresh, memory, seed):
    """`same` works from one codec to another: each vector is loaded once."""
    fresh.simulation.configure(memory)
    fresh.reset()
    rng = np.random.default_rng(seed)
    cols = 160
    loaded = every(fresh, rng, 21, cols) + every(fresh, rng, 6, cols)
    vectors = [rng.standard_normal(cols).astype(np.float16) for _ in range(4)]
    jobs = [(handle, matrix, x) for x in vectors for handle, matrix in rng.permutation(np.array(loaded, object))]
    before = fresh.counters()["activation_beats"]
    outcomes = fresh.products([(handle, x) for handle, _, x in jobs])
    for outcome, (_, matrix, x) in zip(outcomes, jobs, strict=True):
        assert outcome.code is ErrorCode.NONE
        assert_equal(outcome.y, matrix, x, fresh)
    loads = fresh.counters()["activation_beats"] - before
    assert loads == len(vectors) * fresh.config.activation_beats(cols)


def test_an_unknown_codec(fresh, seed):
    """A number that no codec has ends the product with DESCRIPTOR; the next one is right."""
    rng = np.random.default_rng(seed)
    (handle, matrix), *_ = every(fresh, rng, 7, 40)
    x = rng.standard_normal(40).astype(np.float16)
    regions = fresh.place(handle, fresh.load_activations(x).address)
    fresh.submit(regions.__class__(**vars(regions) | {"codec": 1 << 20}), scale=handle.scale)
    with pytest.raises(AcceleratorError, match="DESCRIPTOR"):
        fresh.wait()
    fresh.clear_error()
    assert fresh.wait() == [ErrorCode.DESCRIPTOR]
    assert_equal(fresh.product(handle, x), matrix, x, fresh)


def test_the_registers_tell_all_codecs(fresh):
    assert Driver(fresh.transport).config == fresh.config
    names = [f"CODEC_{n}" for n in range(1, len(fresh.config.codecs))]
    for name, kind in zip(names, fresh.config.more, strict=True):
        fields = register(name).unpack(fresh.transport.read32(register(name).offset))
        assert type(kind).from_register(fields).same_format(kind)


def test_a_codec_that_the_build_has_not(fresh, seed):
    missing = next(kind for kind in CODECS.values() if not any(kind.same_format(c) for c in fresh.config.codecs))
    matrix = PackedMatrix.random(missing, 4, 16, np.random.default_rng(seed))
    with pytest.raises(SeedLMError, match=f"this build takes weights of codec .*, not {missing}"):
        fresh.load_matrix(matrix)


@pytest.mark.parametrize("shape", [(64, 512)])
def test_codecs_may_alternate(fresh, shape):
    """Queued products of all codecs in turn take at most ten cycles each more than those of one codec."""
    kinds, count = fresh.config.codecs, 8

    def cycles(*codecs):
        fresh.reset()
        measured = measure(fresh, *shape, seed=1, products=count, codecs=codecs)
        assert measured.status == "ok"
        return measured.cycles

    for first, second in itertools.pairwise(kinds):
        alone = (cycles(first) + cycles(second)) / 2
        assert cycles(first, second) <= alone + 10 * count, f"{first} and {second}"


def test_bad_builds():
    for names, values, message in [
        ("trellis4+trellis4x16", {}, "codec trellis4x16 is in this build already, as trellis4"),
        ("seedlm3+trellis4", {}, "groups of 16 columns cannot be cut into the 12 columns that codec seedlm3 takes"),
        ("trellis4+fp16", {"group": 24}, "a power of two of columns in an activation group, not 24"),
        ("trellis4+fp16", {"group": 4}, "groups of 4 columns cannot be cut into the 8 columns that codec trellis4"),
    ]:
        with pytest.raises(SeedLMError, match=message):
            build(names, **values)
    with pytest.raises(SeedLMError, match="32 codecs at most, not 33"):
        build("+".join(["fp16"] * 33))


def test_presets():
    assert {name: config.name for name, config in PRESETS.items() if name != "universal"} == {
        "tiny": "trellis4+fp16", "paper": "seedlm4+fp16",
    }  # fmt: skip
    universal = PRESETS["universal"]
    assert (universal.columns, universal.group, universal.lanes * 16) == (16, 16, 256)
    for name in ("trellis4", "trellis3", "trellis2", "int8", "fp16"):
        assert universal.of(codec(name)).codec.same_format(codec(name))
