"""Error feedback: its algebra against brute force, engines bit for bit, every family that uses it."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

from seedlm.encoder import compress_matrix
from seedlm.encoder.families import encoder_of
from seedlm.encoder.feedback.factor import Feedback, Part, feedback_of
from seedlm.encoder.feedback.rows import code_blocks, spread
from seedlm.encoder.trellis import numpy_engine
from seedlm.encoder.trellis.problem import Costs, fed_weights, targets
from seedlm.encoder.trellis.rows import AHEAD, BLOCK
from seedlm.golden.codecs import codec
from seedlm.golden.codecs.trellis import TABLES
from seedlm.golden.errors import SeedLMError
from seedlm.golden.rotation import rotation_for

needs_numba = pytest.mark.skipif(not find_spec("numba"), reason="numba is not installed")


def moments(rng, cols, tokens=None):
    """Of inputs whose elements go together, and differ in size by a factor of 10 or so."""
    x = rng.standard_normal((tokens or 4 * cols, cols)) * np.exp(rng.standard_normal(cols))
    x += x @ rng.standard_normal((cols, cols)) / cols**0.5
    return (x.T @ x).astype(np.float32)


def damped(h, damping):
    h = h.astype(np.float64)
    h /= np.mean(np.diag(h))
    return h + damping * np.eye(len(h))


def least(h, fixed, errors, free):
    """The errors in `free` columns that lose least, given those in `fixed` ones, when all others are free, too."""
    rest = np.setdiff1d(np.arange(len(h)), fixed)
    best = np.linalg.solve(h[np.ix_(rest, rest)], -h[np.ix_(rest, fixed)] @ errors)
    return best[np.searchsorted(rest, free)]


# --- algebra -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("block", [1, 3, 4, 16])
def test_targets_are_those_of_least_expected_loss(block, rng):
    h, cols = moments(rng, 13), 13
    feedback = feedback_of([h], block, 0.03)
    (part,), full = feedback.parts, damped(h, 0.03)
    e = rng.standard_normal(cols)
    for start in range(0, cols, block):
        now = np.arange(start, min(start + block, cols))
        before = np.arange(start)
        # The block's errors that lose least, with the columns behind it free: the target is the weight minus these.
        wanted = -least(full, before, e[:start], now)
        assert np.allclose(part.matrix[now] @ e, wanted, rtol=1e-5, atol=1e-6)
        # What an error beside that target costs: the Schur complement.
        after = np.arange(now[-1] + 1, cols)
        own = full[np.ix_(now, now)]
        if len(after):
            cross = full[np.ix_(now, after)]
            own = own - cross @ np.linalg.solve(full[np.ix_(after, after)], cross.T)
        assert np.allclose(feedback.measure[now], np.diag(own), rtol=1e-9)
    # The whole loss is the sum over the blocks, so that nothing is counted twice or forgotten.
    if block == 1:
        a = e + part.matrix.astype(np.float64) @ e
        assert np.isclose((feedback.measure * a * a).sum(), e @ full @ e, rtol=1e-5)


def test_moments_turn_with_the_rows(rng):
    """H' = R^T H R for rows W R: the same as the moments of the vectors R^T x."""
    rotation = rotation_for(48)
    turn = rotation.weights(np.eye(48))
    x = rng.standard_normal((200, 48)) * np.arange(1, 49)
    vectors = rotation.vectors(x.astype(np.float32)).astype(np.float64)
    assert np.allclose(vectors, x @ turn, rtol=1e-4, atol=1e-3)
    one = feedback_of([x.T @ x], 4, 0.1, rotation)
    two = feedback_of([turn.T @ (x.T @ x) @ turn], 4, 0.1)
    assert np.allclose(one.parts[0].matrix, two.parts[0].matrix, atol=1e-5)
    assert np.allclose(one.measure, two.measure)


def test_inputs_that_are_always_zero_feed_nothing_back(rng):
    feedback = feedback_of([np.zeros((6, 6), np.float32)], 2, 0.1)
    assert not feedback.parts[0].matrix.any()
    assert (feedback.measure == 1).all()


def test_moments_that_no_inputs_have():
    with pytest.raises(SeedLMError, match="not positive definite: expected a larger damping"):
        feedback_of([np.array([[1, 3], [3, 1]], np.float32)], 1, 0.1)


@needs_numba
@pytest.mark.parametrize("cols", [1, 31, 32, 33, 100])
def test_engines_have_the_same_bits(cols, rng):
    h = moments(rng, cols)
    one, two = (feedback_of([h], 4, 0.1, engine=engine) for engine in ("numpy", "numba"))
    assert one.parts[0].matrix.tobytes() == two.parts[0].matrix.tobytes()
    assert one.measure.tobytes() == two.measure.tobytes()
    rest = rng.standard_normal((2, cols, 7))
    rest[1] = rest[0]
    for engine, some in zip(("numpy", "numba"), rest, strict=True):
        spread(some, one.parts[0].matrix, (0, cols // 2), (cols // 2, cols), engine)
    assert rest[0].tobytes() == rest[1].tobytes()


# --- families ----------------------------------------------------------------------------------------
def test_integers_are_chosen_one_after_the_other(rng):
    """Every integer is the nearest to the best there is, by the definition, for scales that are the encoder's own."""
    kind, h, cols = codec("int8"), moments(rng, 9), 9
    w = rng.standard_normal((5, cols))
    feedback = feedback_of([h], encoder_of(kind).feedback_block(kind), 0.1)
    words, scales = encoder_of(kind).encode(w, kind, "", feedback=feedback)
    assert scales.tobytes() == encoder_of(kind).encode(w, kind, "")[1].tobytes()
    full, differ = damped(h, 0.1), 0
    for row, found, scale in zip(w, words, scales.astype(np.float64), strict=True):
        e = np.zeros(cols)
        for c in range(cols):
            target = row[c] - least(full, np.arange(c), e[:c], np.array([c]))[0]
            expected = np.clip(np.rint(target / scale), -127, 127)
            assert found[c] == expected or abs(abs(target / scale - np.floor(target / scale)) - 0.5) < 1e-4
            differ += expected != np.rint(row[c] / scale)
            e[c] = row[c] - found[c] * scale
    assert differ > 5


def viterbi(table, target, state):
    """Literal, one row: (symbols, states) of the best path from a state, least predecessors and last states on ties."""
    k, mask = table.bits, table.states - 1
    sums = {state: (0, [], [state])}
    levels = 256 // table.unit * table.weights
    for t in target:
        new = {}
        for s, (total, symbols, states) in sorted(sums.items()):
            for symbol in range(1 << k):
                window = symbol << table.window - k | s
                entry = total + (int(t) - int(levels[window])) ** 2
                after = window >> k
                # Of equal predecessors the one with the smaller oldest symbol.
                if after not in new or (entry, s & (1 << k) - 1) < new[after][:2]:
                    new[after] = entry, s & (1 << k) - 1, [*symbols, symbol], [*states, after]
        sums = {s: (total, symbols, states) for s, (total, _, symbols, states) in new.items()}
        assert all(s <= mask for s in sums)
    least = min(total for total, _, _ in sums.values())
    return next(sums[s][1:] for s in sorted(sums) if sums[s][0] == least)


def test_without_correlation_blocks_are_coded_one_by_one(rng):
    """The identity feeds nothing back: every block's path is the best from where the one before has ended."""
    table, cols = codec("trellis4").definition, BLOCK + 9
    x = rng.standard_normal((2, cols)) * table.unit
    feedback = feedback_of([np.eye(cols, dtype=np.float32)], BLOCK, 0.1)
    found = numpy_engine.fed_paths(table, x, feedback, AHEAD)
    assert (fed_weights(feedback.measure, BLOCK, AHEAD, table).weights == 16).all()  # and so drops no bit that counts
    for row, symbols in zip(x, found, strict=True):
        state, expected = 0, []
        for start in range(0, cols, BLOCK):
            ahead, states = viterbi(table, np.rint(256 // table.unit * row[start : start + BLOCK + AHEAD]), state)
            expected += ahead[:BLOCK]
            state = states[min(BLOCK, cols - start)]
        assert symbols.tolist() == expected
    # One block is the whole row: what is done without feedback.
    short = feedback_of([np.eye(BLOCK, dtype=np.float32)], BLOCK, 0.1)
    plain = numpy_engine.best_paths(table, targets(table, x[:, :BLOCK], np.ones(2)), Costs())
    assert numpy_engine.fed_paths(table, x[:, :BLOCK], short, AHEAD).tolist() == plain.tolist()


@needs_numba
@pytest.mark.parametrize("name", TABLES)
def test_trellis_engines_agree_word_for_word(name, rng):
    from seedlm.encoder.trellis import numba_engine

    table = codec(name).definition
    x = rng.standard_normal((19, 90)) * table.unit
    x[1] = 0
    x[2] *= 50  # beyond all levels
    x[3] = np.rint(x[3] / 64) * 64
    for sizes in ([90], [48, 42]):
        feedback = feedback_of([moments(rng, n) for n in sizes], BLOCK, 0.1)
        one = numpy_engine.fed_paths(table, x, feedback, AHEAD)
        for threads in (1, 2):
            assert numba_engine.fed_paths(table, x, feedback, AHEAD, threads).tolist() == one.tolist()


FAMILIES = ["trellis4", "trellis3", "int8", "c8p3k8b4", "c12p3k8b4", "c8p3k8b0r"]


@pytest.mark.parametrize("name", FAMILIES)
def test_less_is_lost(name, rng):
    """Of what reaches the layer's output, with columns that fill no last block; with any engine and threads."""
    kind, cols = codec(name), 100
    h = moments(rng, cols)
    w = (rng.standard_normal((24, cols)) * 0.02).astype(np.float32)
    w[3] = 0
    w[4, 7] = 0.1  # five standard deviations
    feedback = feedback_of([h], encoder_of(kind).feedback_block(kind), 0.1)
    plain, fed = compress_matrix(w, kind), compress_matrix(w, kind, feedback=feedback)
    errors = [w - m.decode(np.float64) for m in (plain, fed)]
    loss = [np.einsum("ij,jk,ik->i", e, damped(h, 0.1), e) for e in errors]
    assert loss[1].sum() < 0.9 * loss[0].sum()
    assert not fed.decode()[3].any()
    fed.check()
    if find_spec("numba"):
        other = compress_matrix(w, kind, feedback=feedback, engine="numpy")
        assert other.stored.tobytes() == fed.stored.tobytes()
        assert other.scales is None or other.scales.tobytes() == fed.scales.tobytes()


def test_parts_take_no_errors_from_one_another(rng):
    """Two parts are coded as two matrices are, where no state goes on."""
    kind, w = codec("c8p3k8b4"), rng.standard_normal((6, 72)) * 0.02
    h = [moments(rng, 48), moments(rng, 24)]
    whole = compress_matrix(w, kind, exp_bias=-6, feedback=feedback_of(h, 8, 0.1))
    for columns, part in ((slice(0, 48), h[0]), (slice(48, 72), h[1])):
        alone = compress_matrix(w[:, columns], kind, exp_bias=-6, feedback=feedback_of([part], 8, 0.1))
        assert np.array_equal(whole.words[:, columns.start // 8 : columns.stop // 8], alone.words)
    with pytest.raises(SeedLMError, match="do not begin with a word of 12 columns"):
        compress_matrix(w, codec("c12p3k8b4"), feedback=feedback_of([h[1][:20, :20], np.eye(52)], 12, 0.1))


def test_an_importance_beside_feedback_is_refused():
    with pytest.raises(SeedLMError, match="expected no importance beside it"):
        compress_matrix(np.ones((1, 8)), codec("int8"), importance=np.ones(8),
                        feedback=feedback_of([np.eye(8)], 1, 0.1))  # fmt: skip


def test_blocks_come_from_left_to_right():
    """Each with the targets that the blocks before it leave."""
    matrix = np.tril(np.ones((5, 5), np.float32), -1)
    matrix[1, 0] = matrix[3, 2] = 0  # within blocks of two
    calls = []

    def code(first, last, targets):
        calls.append((first, last, targets.copy()))
        return np.zeros_like(targets)

    code_blocks(np.arange(1.0, 6)[None], Feedback(2, (Part(0, matrix),), np.ones(5)), code)
    assert [(first, last) for first, last, _ in calls] == [(0, 2), (2, 4), (4, 5)]
    assert [t.tolist() for *_, t in calls] == [[[1, 2]], [[3 + 3, 4 + 3]], [[5 + 10]]]
