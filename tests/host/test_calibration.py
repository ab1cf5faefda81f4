"""Second moments from a small random model, and its own samples."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.calibration import CalibrationFile, Entry, parts, write_calibration
from seedlm.host.calibration import Moments, own_samples, second_moments
from seedlm.host.checkpoint import Checkpoint
from seedlm.host.engines import FloatEngine
from seedlm.host.models import language_model
from seedlm.host.sampling import Sampler
from tests.host.tiny_llama import stored_tensors, write_model

ROOM = 1 << 30


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    write_model(path, np.random.default_rng(3))
    return Checkpoint(path)


def model(checkpoint):
    return lambda engine: language_model(checkpoint, engine)


class Watched(FloatEngine):
    """Keeps every vector of every matrix."""

    def __init__(self, tensors):
        super().__init__(tensors)
        self.vectors = {name: [] for name in tensors}

    def products(self, names, x):
        for name in names:
            self.vectors[name].append(x.astype(np.float64))
        return super().products(names, x)


def test_moments_are_sums_over_all_tokens(checkpoint):
    rng = np.random.default_rng(4)
    texts = [rng.integers(0, 256, n) for n in (40, 7, 1)]
    watched = Watched(checkpoint.linear)
    for text in texts:
        model(checkpoint)(watched).logits(text)
    engine, passed = FloatEngine(checkpoint.linear), []
    found = list(second_moments(model(checkpoint), engine, texts, set(checkpoint.linear), ROOM, passed.append))
    assert passed == [40, 7, 1]
    assert sorted(name for moments in found for name in moments.names) == sorted(checkpoint.linear)
    layer = "model.layers.1."
    groups = {moments.names for moments in found}
    assert tuple(f"{layer}self_attn.{c}_proj.weight" for c in "qkv") in groups
    assert (f"{layer}mlp.gate_proj.weight", f"{layer}mlp.up_proj.weight") in groups
    for moments in found:
        x = np.concatenate(watched.vectors[moments.names[0]])
        assert moments.tokens == len(x) == 48
        (total,) = moments.totals
        assert np.allclose(total, x.T @ x, rtol=1e-4, atol=1e-3)
        assert np.allclose(moments.diagonal, np.mean(x * x, axis=0), rtol=1e-4)
    # The first layer's, by the formula.
    t = stored_tensors(checkpoint.folder)
    x = t["model.embed_tokens.weight"][np.concatenate(texts)]
    x = x / np.sqrt(np.mean(x * x, axis=1, keepdims=True) + 1e-5)
    x *= t["model.layers.0.input_layernorm.weight"]
    first = next(m for m in found if "model.layers.0.self_attn.q_proj.weight" in m.names)
    assert np.allclose(first.totals[0], x.T @ x, rtol=1e-4, atol=1e-3)


def test_little_room_takes_several_passes(checkpoint):
    texts = [np.arange(30)]
    engine, wanted = FloatEngine(checkpoint.linear), set(checkpoint.linear) - {"lm_head.weight"}
    once = list(second_moments(model(checkpoint), engine, texts, wanted, ROOM))
    passed = []
    room = 2 * Moments.bytes(72)
    several = list(second_moments(model(checkpoint), engine, texts, wanted, room, passed.append))
    assert len(passed) > 2
    one = list(second_moments(model(checkpoint), engine, texts, wanted, 1))  # one group at least
    expected = {moments.names: moments.totals[0].tobytes() for moments in once}
    for other in (several, one):
        assert {moments.names: moments.totals[0].tobytes() for moments in other} == expected
        assert len(other) == len(expected)


def test_samples_are_the_models_own(checkpoint):
    """Written together, token by token the same as each by itself."""
    engine, count, length = FloatEngine(checkpoint.linear), 3, 20
    passed = []
    together = own_samples(model(checkpoint), engine, count, length, 5, 9, passed.append)
    assert sum(passed) == count * (length - 1)
    for i, found in enumerate(together):
        alone, sampler = model(checkpoint)(engine), Sampler(1.0, (9, i))
        cache, tokens = alone.cache(), [5]
        while len(tokens) < length:
            tokens.append(sampler(alone.logits(np.array(tokens[-1:]), cache, last=True)[0]))
        assert found.tolist() == tokens
    assert len({tuple(text) for text in together}) == count
    assert own_samples(model(checkpoint), engine, 1, length, 5, 9)[0].tolist() == together[0].tolist()


def test_an_error_in_one_text_ends_all(checkpoint):
    class Failing(FloatEngine):
        left = 40

        def products(self, names, x):
            self.left -= 1
            if not self.left:
                raise SeedLMError("the weights are gone")
            return super().products(names, x)

    before = threading.active_count()
    with pytest.raises(SeedLMError, match="the weights are gone"):
        own_samples(model(checkpoint), Failing(checkpoint.linear), 4, 30, 0, 0)
    assert threading.active_count() == before


def test_activations_that_are_not_finite(checkpoint):
    class Broken(FloatEngine):
        def products(self, names, x):
            return [y * np.float32(3e38) for y in super().products(names, x)]

    with pytest.raises(SeedLMError, match="not finite or their squares are too large"), np.errstate(all="ignore"):
        list(second_moments(model(checkpoint), Broken(checkpoint.linear), [np.arange(5)], set(checkpoint.linear), ROOM))


# --- files -------------------------------------------------------------------------------------------
def test_parts_of_many_columns():
    assert parts(28672) == [(0, 12288), (12288, 24576), (24576, 28672)]  # whole blocks of 4,096
    assert parts(16384) == [(0, 16384)]
    assert parts(40, widest=48) == [(0, 40)]
    assert parts(100, widest=50) == [(0, 48), (48, 96), (96, 100)]  # not rotated: whole words
    assert parts(32768) == []  # one block of the rotation
    assert Moments.bytes(28672) == 8 * (2 * 12288**2 + 4096**2)


def test_files_keep_everything(tmp_path):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((9, 5)).astype(np.float32)
    h = x.T @ x
    path = tmp_path / "c.safetensors"
    write_calibration(path, {"a": Entry(("m",), 9), "b": Entry(("m",), 9)}, {"m": h}, {"model": "x"})
    file = CalibrationFile(path)
    assert file.matrices == {"a": Entry(("m",), 9), "b": Entry(("m",), 9)}
    assert [array.tobytes() for array in file.arrays("b")] == [h.tobytes()]
    assert file.file.metadata["model"] == "x"
    file.check("a", 5)
    with pytest.raises(SeedLMError, match=r"moments of 'a' are \[5, 5\]: expected \[6, 6\] for 6 columns"):
        file.check("a", 6)
