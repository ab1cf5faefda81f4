"""Paths through a trellis: both engines equal, and equal to the best of every path there is."""

from __future__ import annotations

import itertools
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from seedlm.encoder.matrix import compress_matrix, relative_error
from seedlm.encoder.trellis import numpy_engine
from seedlm.encoder.trellis.problem import RESOLUTION, Costs, column_weights, limit, targets
from seedlm.encoder.trellis.rows import encode_rows
from seedlm.golden.codecs import codec
from seedlm.golden.codecs.trellis import TABLES
from seedlm.golden.files.sources import open_source
from seedlm.golden.rotation import rotation_for
from tests.families import family_tests

MODEL = Path(__file__).parents[2] / "models" / "tiny-python" / "model.safetensors"
TARGETS = [("trellis4", 0.0690), ("trellis3", 0.1350), ("trellis2", 0.2655), ("trellis5", 0.0353), ("trellis6", 0.0182)]
needs_numba = pytest.mark.skipif(not find_spec("numba"), reason="numba is not installed")
ENGINES = ["numpy", pytest.param("numba", marks=needs_numba)]


def paths(engine, table, target, costs):
    if engine == "numpy":
        return numpy_engine.best_paths(table, target, costs)
    from seedlm.encoder.trellis import numba_engine

    return numba_engine.best_paths(table, target, costs)


def cost(kind, symbols, target, costs):
    """Of one row, by the contract's oracle and the definition of a cost."""
    total = 0
    for j, (n, _) in enumerate(family_tests(kind).terms(kind, symbols)):
        square = (int(target[j]) - RESOLUTION // kind.definition.unit * n) ** 2
        total += square if costs.weights is None else square * int(costs.weights[j]) >> costs.shift
    return total


def rows_of_all_kinds(table, rng, cols):
    w = rng.standard_normal((20, cols))
    w[1] = 0
    w[2] *= 100  # all beyond the levels
    w[3, cols // 2] = -200
    w[4] = np.rint(w[4] * 4) / 4  # ties
    w[5] = 1
    return targets(table, w, np.full(20, 1 / table.unit))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("name", "cols"), [("trellis4", 4), ("trellis3", 5), ("trellis2", 7), ("trellis5", 3), ("trellis6", 3)]
)
def test_equal_to_every_path(name, cols, weighted, engine, rng):
    kind = codec(name)
    target = rows_of_all_kinds(kind.definition, rng, cols)
    costs = column_weights(rng.exponential(1, cols), kind.definition) if weighted else Costs()
    found = paths(engine, kind.definition, target, costs)
    every = np.array(list(itertools.product(range(1 << kind.k), repeat=cols)), np.uint8)
    square = (target[:, None, :] - RESOLUTION // kind.definition.unit * kind.integers(every, cols)[0]) ** 2
    if weighted:
        square = square * costs.weights >> costs.shift
    least = square.sum(axis=2).min(axis=1)
    assert [cost(kind, row.tolist(), t, costs) for row, t in zip(found, target, strict=True)] == least.tolist()


@needs_numba
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("cols", [1, 2, 3, 13, 200])
def test_engines_agree_word_for_word(name, cols, weighted, rng):
    table = codec(name).definition
    target = rows_of_all_kinds(table, rng, cols)  # a group of 16 rows and a part of one
    costs = column_weights(rng.exponential(1, cols) ** 3, table) if weighted else Costs()
    assert paths("numpy", table, target, costs).tolist() == paths("numba", table, target, costs).tolist()


@needs_numba
def test_the_largest_sums_fit_32_bits(rng):
    """Targets at the limit in turns, the heaviest weight: costs grow as fast as they can."""
    for name in TABLES:
        table = codec(name).definition
        target = limit(table) * rng.choice([-1, 1], (16, 300)).astype(np.int32)
        for costs in (Costs(), column_weights(np.where(np.arange(300) % 20, 1e-9, 1.0), table)):
            assert paths("numpy", table, target, costs).tolist() == paths("numba", table, target, costs).tolist()


@needs_numba
@pytest.mark.parametrize("weighted", [False, True])
def test_rows_are_the_same_with_both_engines_and_any_threads(weighted, rng):
    w = (rng.standard_normal((40, 60)) * np.exp(rng.standard_normal((40, 1)))).astype(np.float32)
    w[3] = 0
    importance = rng.exponential(1, 60) if weighted else None
    for name in TABLES:
        one = encode_rows(w, codec(name), importance=importance, engine="numpy")
        for options in ({"engine": "numba", "threads": 1}, {"engine": "numba", "threads": 3}):
            other = encode_rows(w, codec(name), importance=importance, **options)
            assert one[0].tolist() == other[0].tolist()
            assert one[1].tobytes() == other[1].tobytes()
        part = encode_rows(w[10:13], codec(name), importance=importance)
        assert part[0].tolist() == one[0][10:13].tolist()


def relative(w, kind, **options):
    symbols, scales = encode_rows(w, kind, **options)
    rest = w.astype(np.float64) - kind.values(symbols, w.shape[1], 0) * scales.astype(np.float64)[:, None]
    energy = np.square(w.astype(np.float64)).sum(axis=1)
    return np.sqrt(np.square(rest).sum(axis=1) / np.where(energy > 0, energy, 1)), rest, scales


@needs_numba
@pytest.mark.parametrize(("name", "bound"), TARGETS)
def test_error_of_gaussian_rows(name, bound, rng):
    error, _, _ = relative(rng.standard_normal((32, 4096)) * 0.02, codec(name))
    assert np.sqrt(np.square(error).mean()) < bound


def test_rows_at_the_edge(rng):
    kind = codec("trellis4")
    w = rng.standard_normal((7, 64)).astype(np.float32)
    w[0] = 0
    w[1] = 0
    w[1, 3] = 5  # one weight
    w[2] *= np.float32(1e-38)
    w[3, 7] = 200
    w[4] *= np.float32(6e37)
    w[5, 63] = -200  # in the last column
    error, rest, scales = relative(w, kind)
    assert scales[0] == 0
    assert not rest[0].any()
    assert (error[[2, 4, 6]] < 0.12).all()
    assert (error[[1, 3, 5]] < 0.4).all()
    assert np.isfinite(scales).all()


@needs_numba
def test_importance_moves_the_error(rng):
    w = rng.standard_normal((16, 512))
    importance = np.where(np.arange(512) < 256, 8.0, 1.0)
    for name in TABLES:
        _, plain, _ = relative(w, codec(name))
        _, weighted, _ = relative(w, codec(name), importance=importance)
        assert np.square(weighted[:, :256]).sum() < np.square(plain[:, :256]).sum()
        measure = np.square(np.stack([plain, weighted])) @ importance
        assert measure[1].sum() < measure[0].sum()


@needs_numba
@pytest.mark.parametrize(
    ("name", "bound"),
    [TARGETS[0], *(pytest.param(*values, marks=pytest.mark.slow) for values in TARGETS[1:])],
)
def test_error_of_every_matrix_of_a_model(name, bound):
    """Rotated rows of real weights are as good as Gaussian ones."""
    for _, tensor_name, tensor in open_source(MODEL).tensors():
        if len(tensor.shape) == 2:
            w = tensor.rows(0, 48).array()
            rotation = rotation_for(w.shape[1])
            error = relative_error(w, compress_matrix(w, codec(name), rotation=rotation))
            assert error < 1.05 * bound, tensor_name
