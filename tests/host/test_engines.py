"""A model on an accelerator: the same logits as on the reference, bit for bit, and products queued together."""

import numpy as np
import pytest

from seedlm.golden.build import Config
from seedlm.golden.codecs import codec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.matrix import PackedMatrix
from seedlm.hdl.registers import COUNTERS, ErrorCode
from seedlm.host.checkpoint import Checkpoint
from seedlm.host.driver import Accelerator
from seedlm.host.engines import AcceleratorEngine, CheckedEngine, ReferenceEngine
from seedlm.host.models import language_model
from seedlm.host.sampling import Sampler
from tests.host.fake_transport import FakeAccelerator
from tests.host.models.cases import text, write_case
from tests.host.tiny_llama import write_model

SEED = 11


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    print("seed", SEED)
    write_model(folder, np.random.default_rng(SEED))
    return Checkpoint(folder)


def packed(checkpoint, name):
    """Random words with scales that keep activations near 1."""
    rng, out = np.random.default_rng(SEED), {}
    for tensor, raw in checkpoint.linear.items():
        matrix = PackedMatrix.random(codec(name), *raw.shape, rng)
        if matrix.scales is not None:
            matrix.scales = (rng.uniform(0.5, 1.5, raw.shape[0]) * 2.0**-20).astype(np.float32)
        else:
            matrix.exp_bias = -8
        out[tensor] = matrix
    return out


def device_of(name, **options):
    return FakeAccelerator(Config(codec=codec(name), lanes=4, bus_bits=128, burst_beats=32, queue_depth=4), **options)


@pytest.mark.parametrize("name", ["seedlm4", "seedlm3r"])
def test_same_logits(checkpoint, name):
    matrices = packed(checkpoint, name)
    device = device_of(name)
    rtl = language_model(checkpoint, AcceleratorEngine(Accelerator(device, device.config), matrices))
    reference = language_model(checkpoint, ReferenceEngine(matrices.__getitem__))
    caches, step, sampler = (rtl.cache(), reference.cache()), list(b"\0def f"), Sampler()
    for _ in range(6):
        mine, theirs = (m.logits(step, cache, last=True) for m, cache in zip((rtl, reference), caches, strict=True))
        assert np.array_equal(mine.view(np.uint32), theirs.view(np.uint32))
        step = [sampler(mine[0])]


@pytest.mark.parametrize("name", ["gpt2", "bloom", "phi3", "mixtral", "qwen2-moe"])
def test_same_logits_of_other_architectures(name, tmp_path):
    """Fused and transposed matrices, experts that only some positions chose."""
    checkpoint = Checkpoint(write_case(tmp_path, name))
    matrices, device = packed(checkpoint, "seedlm3r"), device_of("seedlm3r")
    rtl = language_model(checkpoint, AcceleratorEngine(Accelerator(device, device.config), matrices))
    reference = language_model(checkpoint, ReferenceEngine(matrices.__getitem__))
    mine, theirs = rtl.logits(text()[:7]), reference.logits(text()[:7])
    assert np.array_equal(mine.view(np.uint32), theirs.view(np.uint32))


def test_shared_activations_are_loaded_once(checkpoint):
    """A token has four loads in each layer and one for the output matrix, for nine products in a layer but two."""
    matrices = packed(checkpoint, "seedlm4")
    device = device_of("seedlm4")
    engine = AcceleratorEngine(Accelerator(device, device.config), matrices)
    model = language_model(checkpoint, engine)
    model.logits([1])
    assert device.loads == 2 * 4 + 1
    assert device.registers["SUBMITTED"] == 2 * 7 + 1
    usage = engine.usage()
    assert set(usage.counters) == set(COUNTERS)


def test_a_failed_product(checkpoint):
    matrices = packed(checkpoint, "seedlm4")
    device = device_of("seedlm4", faults={8: ErrorCode.READ_WEIGHTS})
    model = language_model(checkpoint, AcceleratorEngine(Accelerator(device, device.config), matrices))
    with pytest.raises(SeedLMError, match=r"model.layers.1.self_attn.q_proj.weight.* ended with READ_WEIGHTS"):
        model.logits([1])


def test_other_codec(checkpoint):
    device = device_of("seedlm3")
    with pytest.raises(SeedLMError, match="seedlm"):
        AcceleratorEngine(Accelerator(device, device.config), packed(checkpoint, "seedlm4"))


def test_checked_products(checkpoint):
    """All are compared, and a single bit is seen."""
    matrices, device = packed(checkpoint, "seedlm4"), device_of("seedlm4")
    rtl = AcceleratorEngine(Accelerator(device, device.config), matrices)
    engine = CheckedEngine(rtl, ReferenceEngine(matrices.__getitem__, 10**6))
    logits = language_model(checkpoint, engine).logits([1, 2])
    assert engine.compared == 2 * sum(m.rows for m in matrices.values())
    assert set(engine.usage().counters) == set(COUNTERS)
    assert logits.shape[0] == 2

    class Wrong:
        def products(self, names, x):
            out = rtl.products(names, x)
            out[-1].view(np.uint32)[1, 3] ^= 1
            return out

    name = "model.layers.0.self_attn.q_proj.weight"
    x = np.ones((2, matrices[name].cols), np.float32)
    with pytest.raises(SeedLMError, match=rf"{name}: 1 of \d+ results differ .* the first is row 3 of vector 1"):
        CheckedEngine(Wrong(), engine.expected).products([name], x)


# --- sampling ------------------------------------------------------------------------------------------


def test_greedy():
    assert Sampler()(np.array([0.0, 3, 1, 3], np.float32)) == 1  # the first of equal ones
    assert Sampler(0.0, 5)(np.array([-1e30, -2e30], np.float32)) == 0


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies(temperature):
    """Tokens come as often as the distribution says; the same seed gives the same ones."""
    logits = np.array([1.0, 0.0, -1.0, 2.0, -60.0], np.float32)
    chances = np.exp(logits.astype(float) / temperature)
    chances /= chances.sum()
    sampler, again = Sampler(temperature, 7), Sampler(temperature, 7)
    drawn = [sampler(logits) for _ in range(20_000)]
    assert drawn == [again(logits) for _ in range(20_000)]
    counts = np.bincount(drawn, minlength=5) / len(drawn)
    assert np.abs(counts - chances).max() < 0.015  # 4 standard deviations
    other = Sampler(temperature, 8)
    assert drawn != [other(logits) for _ in range(20_000)]


def test_tiny_temperature():
    sampler = Sampler(1e-6, 1)
    assert {sampler(np.array([5.0, 5.1, 1.0], np.float32)) for _ in range(100)} == {1}


@pytest.mark.parametrize("temperature", [-1.0, float("nan"), float("inf")])
def test_wrong_temperature(temperature):
    with pytest.raises(SeedLMError, match="temperature must be 0 or more"):
        Sampler(temperature)
