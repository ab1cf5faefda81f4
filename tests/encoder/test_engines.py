"""The engines against the plain search, and the plain search against literal code."""

import itertools
from importlib.util import find_spec

import numpy as np
import pytest

from seedlm.encoder.seed.engines import make_engine
from seedlm.encoder.seed.exhaustive import ExhaustiveSearch
from seedlm.encoder.seed.problem import Problem
from seedlm.golden.codecs import codec
from seedlm.golden.codecs.seed import pack, unpack, weights_int
from seedlm.golden.lfsr import step, v_matrix
from tests.encoder.cases import literal_quantise, mixed_blocks, mixed_problem

NUMBA = find_spec("numba") is not None
needs_numba = pytest.mark.skipif(not NUMBA, reason="no numba")
ENGINES = ["numpy", pytest.param("numba", marks=needs_numba)]
PRESETS = ["seedlm4", "seedlm3", "seedlm4r", "seedlm3r"]
FAST_AND_MANY = [80, pytest.param(20000, marks=pytest.mark.slow)]


def problem_of(name, blocks, encoder="paper", **kwargs):
    return Problem(codec(name), np.ascontiguousarray(blocks.T), encoder, **kwargs)


def brute_force(problem, **kwargs):
    from tests.encoder.brute import brute_force

    return brute_force(problem, **kwargs)


def plain_search(problem):
    return ExhaustiveSearch(problem).run(problem)


def equal(found, expected, problem):
    """The same words and, bit for bit, the same errors."""
    c = problem.codec
    different = np.flatnonzero((found.words(c) != expected.words(c)) | (found.err != expected.err))
    assert not len(different), f"{len(different)} blocks differ, the first: {problem.blocks[:, different[0]].tolist()}"


# --- the definitions, against literal code -------------------------------------------------------
def literal_paper(c, w):
    """Algorithm 3 in plain Python and LAPACK: (error, seed, e, q)."""
    best = (float((w * w).sum()), 0, 0, [0] * c.P)
    for seed in range(1, c.seeds + 1):
        u = (v_matrix(seed, c.C, c.P, c.K) - (1 << (c.K - 1))) / c.denominator
        e, q = literal_quantise(np.linalg.lstsq(u, w, rcond=1e-12)[0], c.exponent_min, c.exponent_max)
        err = float(((w - u @ np.array(q) * 2.0**e) ** 2).sum())
        if err < best[0] * (1 - 1e-12):
            best = (err, seed, e, q)
    return best


@pytest.mark.parametrize("search", [plain_search, pytest.param(brute_force, marks=needs_numba)])
@pytest.mark.parametrize("name", ["c8p3k8b4", "c6p2k9b3"])
def test_paper_means_algorithm_3(name, search, rng):
    c = codec(name)
    w = rng.normal(0, 0.5, (20, c.C))
    found = search(problem_of(name, w))
    for i in range(len(w)):
        err, seed, e, q = literal_paper(c, w[i])
        assert (found.seed[i], found.e[i], list(found.q[:, i])) == (seed, e, q)
        assert found.err[i] == pytest.approx(err, rel=1e-9)


@needs_numba
@pytest.mark.parametrize("name", PRESETS)
def test_plain_search_equals_brute_force(name, rng):
    problem = mixed_problem(name, 12, rng)
    equal(plain_search(problem), brute_force(problem), problem)


@needs_numba
@pytest.mark.parametrize("name", ["c4p2k5b4", "c5p3k4b2", "c6p3k6b0r", "c8p3k5b2"])
@pytest.mark.parametrize("weighted", [False, True])
def test_brute_force_may_take_the_nearest_coefficient(name, weighted, rng):
    """The one shortcut of the brute force for `optimal`: the first coefficient by rounding, instead of all 16."""
    importance = rng.lognormal(0, 1, codec(name).C) if weighted else None
    problem = mixed_problem(name, 100, rng, "optimal", importance=importance)
    equal(brute_force(problem), brute_force(problem, every=True), problem)


def test_mixed_blocks_are_what_they_are_called(rng):
    c = codec("c8p3k10b4")
    kinds = {kind: blocks for kind, (blocks, _) in mixed_blocks(c, 1000, rng).items()}
    assert 1000 <= sum(map(len, kinds.values())) < 1030
    assert all(np.isfinite(b).all() for b in kinds.values())
    words = {kind: plain_search(problem_of(c.name, b[:20])) for kind, b in kinds.items()}
    for kind, e in (("Gaussian, sigma 0.001", -8), ("Gaussian, sigma 300", 7), ("lattice, least exponent", -8),
                    ("the largest words", 7)):  # fmt: skip
        assert (words[kind].e == e).mean() > 0.25, kind
    for kind in ("lattice", "lattice, least exponent", "lattice, greatest exponent", "the largest words"):
        assert (words[kind].err == 0).any(), kind
        assert (words[kind].err <= 1e-20 * (kinds[kind][:20] ** 2).sum(axis=1)).mean() > 0.5, kind
    assert not (words["near the lattice"].err == 0).any()
    assert ((kinds["one-hot"] != 0).sum(axis=1) == 1).all()
    assert np.array_equal(kinds["binary16"], kinds["binary16"].astype(np.float16))
    assert not (kinds["BF16"].astype(np.float32).view(np.uint32) & 0xFFFF).any()
    for kind in ("zeros", "1e-30", "Gaussian, sigma 1e-30"):
        assert not words[kind].seed.any()
    assert 0 < (words["near the smallest words"].seed == 0).sum() < 20
    assert (np.abs(kinds["300"]) == 300).all()
    unit = mixed_blocks(codec("c8p3k10b0r"), 1000, rng)["lattice"][1]
    assert np.unique(unit).size > 10


# --- the engines, against brute force ------------------------------------------------------------
@needs_numba
@pytest.mark.parametrize("count", FAST_AND_MANY)
@pytest.mark.parametrize("name", PRESETS)
def test_paper_equals_brute_force(name, count, rng):
    problem = mixed_problem(name, count, rng)
    assert len(problem) == count
    expected = brute_force(problem)
    for engine in ("numpy", "numba"):
        equal(make_engine(problem, engine).run(problem), expected, problem)


# Registers short enough for all words of all seeds; those of 14 bits use the structured bound.
SHORT = [("c8p3k8b1", 500), ("c8p4k6b0r", 500), ("c8p2k14b0r", 200)]
LONG = [("c8p3k8b2", 20000), ("c8p3k10b0r", 20000), ("c8p3k9b4", 1000), ("c8p4k8b0r", 2500), ("c6p4k8b1", 1000),
        ("c8p2k14b1", 5000), ("c8p3k14b0r", 500)]  # fmt: skip


@needs_numba
@pytest.mark.parametrize(("name", "count"), [*SHORT, *(pytest.param(*x, marks=pytest.mark.slow) for x in LONG)])
def test_optimum_equals_brute_force(name, count, rng):
    problem = mixed_problem(name, count, rng, "optimal")
    assert len(problem) == count
    expected = brute_force(problem)
    for engine in ("numpy", "numba"):
        equal(make_engine(problem, engine).run(problem), expected, problem)


@needs_numba
@pytest.mark.slow
@pytest.mark.parametrize(("name", "count"), [("seedlm4", 10), ("seedlm4r", 10), ("seedlm3", 2), ("seedlm3r", 1)])
def test_optimum_of_presets_equals_brute_force(name, count, rng):
    """All words of the real codecs, 4 * 10^9 to 7 * 10^10 for each block: as many blocks as there is time for."""
    c = codec(name)
    blocks = rng.standard_normal((count, c.C))
    unit = np.resize([0.28, 0.4], count) / c.denominator if c.row_scales else None
    problem = problem_of(name, blocks, "optimal", unit=unit)
    expected = brute_force(problem)
    for engine in ("numpy", "numba"):
        equal(make_engine(problem, engine).run(problem), expected, problem)


@needs_numba
@pytest.mark.parametrize("count", FAST_AND_MANY)
@pytest.mark.parametrize("name", PRESETS)
def test_optimum_is_the_same_in_both_engines(name, count, rng):
    """Their bounds have nothing in common: a product of projectors, and the structure of the register."""
    problem = mixed_problem(name, count, rng, "optimal")
    assert len(problem) == count
    equal(make_engine(problem, "numba").run(problem), make_engine(problem, "numpy").run(problem), problem)


@needs_numba
@pytest.mark.parametrize(
    "name", ["c8p2k14b1", *(pytest.param(name, marks=pytest.mark.slow) for name in ("c7p1k10b3", "c9p6k6b0r"))]
)
def test_optimum_is_the_same_for_other_codecs(name, rng):
    problem = mixed_problem(name, 60 if codec(name).P < 6 else 12, rng, "optimal")
    equal(make_engine(problem, "numba").run(problem), make_engine(problem, "numpy").run(problem), problem)


@needs_numba
def test_threads_do_not_show(rng):
    problem = problem_of("seedlm4", rng.standard_t(3, (100, 8)), "optimal")
    expected = make_engine(problem, "numba", 1).run(problem)
    for threads in (2, 5):
        equal(make_engine(problem, "numba", threads).run(problem), expected, problem)


@pytest.mark.parametrize("engine", ENGINES)
def test_known_words_do_not_change_the_result(engine, rng):
    problem = problem_of("c8p3k12b4", rng.normal(0, 1, (60, 8)), "optimal")
    expected = make_engine(problem, engine).run(problem)
    paper = problem_of("c8p3k12b4", problem.blocks.T)
    known = make_engine(paper, engine).run(paper)
    equal(make_engine(problem, engine).run(problem, known), expected, problem)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["c8p3k10b4", "c4p4k8b2", "c3p5k9b0", "c12p5k11b1", "c8p4k12b0r"])
def test_paper_equals_plain_search_for_other_codecs(name, engine, rng):
    problem = mixed_problem(name, 100, rng)
    equal(make_engine(problem, engine).run(problem), plain_search(problem), problem)


@pytest.mark.parametrize("engine", ENGINES)
def test_importance_equals_plain_search(engine, rng):
    importance = np.array([1, 0.1, 4, 0, 1e-3, 2, 7, 1.5])
    problem = mixed_problem("c8p3k12b4", 100, rng, importance=importance)
    equal(make_engine(problem, engine).run(problem), plain_search(problem), problem)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("start", [0.9999, 0.5])
@pytest.mark.parametrize("name", ["c8p3k12b4", "c8p3k14b4"])  # the second with the structured bound
def test_start_decides_the_time_only(name, start, engine, rng):
    problem = mixed_problem(name, 200, rng)
    engine = type(make_engine(problem, engine))(problem, start)
    equal(engine.run(problem), plain_search(problem), problem)
    if start > 0.99:
        assert engine.second_sweeps > 100


def literal_optimum(c, w, unit=1.0):
    """All words, in the order of candidates."""
    best = (float((w * w).sum()), 0, 0, (0,) * c.P)
    q = np.array(list(itertools.product(range(-8, 8), repeat=c.P)))
    for seed in range(1, c.seeds + 1):
        n = q @ (v_matrix(seed, c.C, c.P, c.K) - (1 << (c.K - 1))).T
        for e in range(c.exponent_min, c.exponent_max + 1):
            weight = n * 2.0**e * unit / (1 if c.row_scales else c.denominator)
            err = ((w - weight) ** 2).sum(axis=1)
            i = int(err.argmin())
            if err[i] < best[0] * (1 - 1e-12):
                best = (float(err[i]), seed, e, tuple(q[i]))
    return best


@pytest.mark.parametrize("search", ["numpy", pytest.param("numba", marks=needs_numba),
                                    pytest.param("brute force", marks=needs_numba)])  # fmt: skip
@pytest.mark.parametrize("name", ["c4p2k5b4", "c5p3k4b2", "c6p3k6b0r"])
def test_optimum_against_all_words(name, search, rng):
    c = codec(name)
    unit = 0.25 * 0.5 / c.denominator if c.row_scales else 1.0
    w = rng.normal(0, 0.5, (8, c.C))
    problem = problem_of(name, w, "optimal", unit=np.full(len(w), unit))
    found = brute_force(problem) if search == "brute force" else make_engine(problem, search).run(problem)
    for i in range(len(w)):
        err, seed, _, _ = literal_optimum(c, w[i], unit)
        assert found.err[i] == pytest.approx(err, rel=1e-9)
        assert found.seed[i] == seed


def test_words_decode_to_the_error(rng):
    c = codec("seedlm4")
    problem = problem_of("seedlm4", rng.standard_normal((50, c.C)))
    best = make_engine(problem).run(problem)
    words = best.words(c)
    weights = weights_int(c, words) * 2.0 ** unpack(c, words)[1][:, None] / c.denominator
    assert np.allclose(((weights - problem.blocks.T) ** 2).sum(axis=1), best.err, rtol=1e-12)


def test_tie_goes_to_the_smallest_seed(rng):
    # Column p of A(s) is column p-1 of A(next state): (0, a, b) of s and (a, b, 0) of the next state decode alike.
    c = codec("c8p3k12b4")
    seeds = np.arange(1, c.seeds + 1)
    nexts = np.array([step(int(s), c.K) for s in seeds])
    pick = rng.integers(0, len(seeds), 40)
    words, alike = pack_q(c, seeds[pick], (0, 7, -5)), pack_q(c, nexts[pick], (7, -5, 0))
    w = weights_int(c, words) / c.denominator
    assert np.array_equal(w, weights_int(c, alike) / c.denominator)
    problem = problem_of("c8p3k12b4", w)
    found = make_engine(problem).run(problem)
    assert (found.err < 1e-20).all()
    assert (found.seed <= np.minimum(seeds[pick], nexts[pick])).all()


def pack_q(c, seeds, q):
    return pack(c, seeds, np.zeros(len(seeds), int), np.tile(q, (len(seeds), 1)))


def test_zero_blocks_are_the_zero_word():
    problem = problem_of("seedlm4", np.array([np.zeros(8), np.full(8, 1e-30)]))
    assert make_engine(problem).run(problem).words(codec("seedlm4")).tolist() == [0, 0]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["c8p3k12b4", "c8p4k12b0r"])
def test_blocks_near_the_smallest_words(name, engine, rng):
    c = codec(name)
    sizes = 2.0 ** rng.uniform(-14, -2, (80, 1)) * (0.28 if c.row_scales else 2.0**-8)
    unit = np.full(80, 0.28 / c.denominator) if c.row_scales else None
    problem = problem_of(name, sizes * rng.standard_normal((80, c.C)), unit=unit)
    found = make_engine(problem, engine).run(problem)
    assert 0 < (found.seed == 0).sum() < 80
    equal(found, plain_search(problem), problem)
