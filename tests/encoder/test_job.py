"""Compressing a model step by step: the plan, what it refuses, the units, the files."""

from dataclasses import replace

import numpy as np
import pytest

from seedlm.encoder import compress_matrix, job, relative_error
from seedlm.encoder.families import encoder_of
from seedlm.encoder.families._base import BIAS_LIMIT
from seedlm.encoder.job import encode, seconds_per_block, survey, unfinished, write
from seedlm.encoder.plan import Layout, Options, make_plan, plan_tensors
from seedlm.encoder.workspace import Workspace
from seedlm.golden.codecs import codec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.packed import PackedFile
from seedlm.golden.files.sources import open_source
from seedlm.golden.files.tensors import RawTensor, write_tensors
from seedlm.golden.rotation import rotation_for
from tests.encoder.cases import EVERY

QUICK, ROWS = codec("c8p3k8b4"), codec("c8p4k8b0r")


@pytest.fixture
def write_model(tmp_path, rng):
    """``write_model({name: shape or tensor})``: an opened model."""

    def make(shapes, dtype="F16"):
        tensors = {}
        for name, shape in shapes.items():
            is_shape = isinstance(shape, tuple)
            tensors[name] = RawTensor.from_array(rng.normal(0, 0.02, shape), dtype) if is_shape else shape
        write_tensors(tmp_path / "in", tensors)
        return open_source(tmp_path / "in")

    return make


def compress(source, output, options, layout=Layout()):
    plan = make_plan(source, options, layout)
    with Workspace(output, survey(plan)) as work:
        encode(unfinished(plan, work), work, jobs=1)
        results = write(plan, work, source, output)
        work.remove()
    return plan, {result.task.name: result for result in results}


# --- plan ------------------------------------------------------------------------------------------
def test_a_codec_for_each_tensor(write_model):
    """The last pattern that matches wins; what none matches has the common codec."""
    source = write_model({"a.x": (4, 16), "a.y": (4, 16), "b[0].x": (4, 16)})
    chosen = (("*.x", codec("int8")), ("a.*", codec("fp16")), ("b[0]*", ROWS))
    plan = make_plan(source, Options(codec=QUICK, chosen=chosen))
    assert {t.name: t.codec.name for t in plan.tasks} == {"a.x": "fp16", "a.y": "fp16", "b[0].x": ROWS.name}
    plan = make_plan(source, Options(codec=QUICK, chosen=chosen[:1]))
    assert {t.name: t.codec.name for t in plan.tasks} == {"a.x": "int8", "a.y": QUICK.name, "b[0].x": "int8"}
    with pytest.raises(SeedLMError, match=r"--set 'c\*' matches no"):
        make_plan(source, Options(chosen=(("*", QUICK), ("c*", QUICK))))
    with pytest.raises(SeedLMError, match=r"here: --set 'c\*' matches no"):
        plan_tensors({"a": RawTensor.from_array(np.ones((2, 8)), "F16")}, Options(chosen=(("c*", QUICK),)), "f", "here")


@pytest.mark.parametrize("name", EVERY)
def test_what_would_grow_is_kept(write_model, name):
    source = write_model({"column": (1000, 1), "matrix": (8, 64)})
    plan = make_plan(source, Options(codec=codec(name)))
    task = next(t for t in plan.tasks if t.name == "matrix")
    assert task.stored_bits <= 16 * task.weights
    if name == "fp16":  # as large as before
        assert plan.kept == {}
    else:
        assert plan.kept["column"].startswith("would grow from 16 to ")
    source = write_model({"column": (1000, 1)})
    if name != "fp16":
        with pytest.raises(SeedLMError, match="nothing to compress: 1 tensors stay as they are: 'column' would grow"):
            make_plan(source, Options(codec=codec(name)))


def test_what_an_architecture_says(write_model, tmp_path, rng):
    """A matrix with the inputs first is compressed as its transpose would be; what is looked up stays as it is."""
    kind = codec("int8")
    w = rng.normal(0, 0.02, (40, 24)).astype(np.float32)
    source = write_model({"conv": RawTensor.from_array(w, "F32"), "positions": (32, 24), "w": (8, 24)})
    layout = Layout(transposed=frozenset({"conv"}), looked_up=frozenset({"positions"}))
    plan, _ = compress(source, tmp_path / "out", Options(codec=kind), layout)
    assert {t.name: (t.shape, t.transposed) for t in plan.tasks} == {"conv": ((24, 40), True), "w": ((8, 24), False)}
    assert plan.kept == {"positions": "is looked up, not multiplied with (--set compresses it)"}
    packed = PackedFile(tmp_path / "out")
    assert packed.tensors["conv"].plain_shape == (40, 24)
    expected = compress_matrix(w.T.copy(), kind)
    assert np.array_equal(packed.matrix("conv").words, expected.words)
    assert np.array_equal(packed.matrix("conv").scales, expected.scales)
    chosen = Options(codec=kind, chosen=(("positions", QUICK),))
    assert {t.name for t in make_plan(source, chosen, layout).tasks} == {"conv", "positions", "w"}
    write_tensors(tmp_path / "i", {"conv": RawTensor.from_array(np.ones(40))})
    weighted = make_plan(source, Options(codec=kind, importance=tmp_path / "i"), layout)
    assert weighted.tasks[0].importance.shape == (40,)


def test_mixtures_of_experts(write_model):
    """Their 3-D experts are matrices, their routers stay; a gate without experts is an ordinary layer."""
    shapes = {
        "l.0.moe.gate.weight": (4, 32), "l.0.moe.experts.up": (4, 6, 32), "l.0.moe.shared_expert_gate.weight": (1, 32),
        "l.0.mlp.gate.weight": (8, 32), "l.1.mlp.router.weight": (4, 32), "l.1.mlp.router.layer.weight": (4, 32),
        "l.1.mlp.gate_proj.weight": (8, 32),
    }  # fmt: skip
    source = write_model(shapes)
    plan = make_plan(source, Options(codec=QUICK))
    assert {t.name for t in plan.tasks} == {"l.0.moe.experts.up", "l.0.mlp.gate.weight", "l.1.mlp.gate_proj.weight"}
    assert set(plan.kept) == set(shapes) - {t.name for t in plan.tasks}
    assert all("is a router" in why for why in plan.kept.values())
    plan = make_plan(source, Options(codec=QUICK, chosen=(("*moe.gate.*", QUICK),)))
    assert "l.0.moe.gate.weight" in {t.name for t in plan.tasks}


def test_stacks_of_matrices(write_model, tmp_path):
    """Stored as one matrix, whose rows are those of the matrices, one after the other."""
    source = write_model({"experts": (3, 4, 19), "w": (4, 19)})
    _, results = compress(source, tmp_path / "out", Options(codec=ROWS))
    file = PackedFile(tmp_path / "out")
    assert file.tensors["experts"].shape == (12, 19)
    assert file.tensors["experts"].plain_shape == (3, 4, 19)
    assert file.tensors["w"].stack is None
    array = source.shards["in"].array("experts")
    for i in range(3):
        expected = compress_matrix(array[i], ROWS, dtype="F16")
        assert np.array_equal(file.matrix("experts").row_slice(4 * i, 4 * i + 4).stored, expected.stored)
    assert results["experts"].loss.relative < 0.4


@pytest.mark.parametrize(("tensors", "message"), [
    ({"w": (4, 16), "w.blocks": (4, 16)}, "two tensors would be called 'w.blocks'"),
    ({"w": (4, 16), "w.scales": RawTensor.from_array(np.ones(3))}, "two tensors would be called 'w.scales'"),
    ({"w": (4, 16), "x": RawTensor("F4", (2, 4), np.zeros(4, np.uint8))}, "'x' has dtype F4, which cannot be copied"),
])  # fmt: skip
def test_refused_before_the_search(write_model, monkeypatch, tensors, message):
    if "x" in tensors:  # the writer does not write it, so that the test has to
        source = write_model({"w": (4, 16)})
        source.shards["in"].tensors["x"] = tensors["x"]
    else:
        source = write_model(tensors)
    with pytest.raises(SeedLMError, match=message):
        make_plan(source, Options(codec=ROWS))


def test_importance_needs_a_codec_that_knows_it(write_model, tmp_path):
    source = write_model({"a": (4, 16), "b": (4, 16)})
    write_tensors(tmp_path / "i", {"b": RawTensor.from_array(np.ones(16))})
    options = Options(codec=codec("fp16"), chosen=(("b", QUICK),), importance=tmp_path / "i")
    assert [t.importance is not None for t in make_plan(source, options).tasks] == [False, True]
    with pytest.raises(SeedLMError, match="'b': codec fp16 rounds every weight"):
        make_plan(source, Options(codec=codec("fp16"), importance=tmp_path / "i"))


def test_importance_is_of_columns_that_are_not_rotated(write_model, tmp_path):
    source = write_model({"a": (4, 16), "b": (4, 16)})
    write_tensors(tmp_path / "i", {"b": RawTensor.from_array(np.ones(16))})
    options = Options(codec=codec("trellis4"), importance=tmp_path / "i")
    plan = make_plan(source, options)
    assert [task.rotation for task in plan.tasks] == [rotation_for(16), None]
    assert plan.unrotated(options) == []
    with pytest.raises(SeedLMError, match="an importance is of columns, which --rotate mixes"):
        make_plan(source, replace(options, rotate=True))
    with pytest.raises(SeedLMError, match="an importance is of columns, which a rotation mixes"):
        compress_matrix(np.ones((1, 16)), codec("trellis4"), importance=np.ones(16), rotation=rotation_for(16))


# --- survey ----------------------------------------------------------------------------------------
def test_the_key_tells_everything_that_decides(write_model):
    keys = set()
    tensors = {"a": RawTensor.from_array(np.full((4, 16), 0.5), "F16"), "b": (4, 16)}
    for options, bias in (
        (Options(codec=QUICK), "auto"), (Options(codec=ROWS), "auto"), (Options(codec=QUICK, encoder="paper"), "auto"),
        (Options(codec=QUICK, chosen=(("a", ROWS),)), "auto"), (Options(codec=QUICK), 3),
    ):  # fmt: skip
        source = write_model({"a": tensors["a"], "b": RawTensor.from_array(np.ones((4, 16)), "F16")})
        keys.add(survey(make_plan(source, options), bias))
        assert survey(make_plan(source, options), bias) in keys
    source = write_model({"a": tensors["a"], "b": RawTensor.from_array(np.full((4, 16), 2.0), "F16")})
    keys.add(survey(make_plan(source, Options(codec=QUICK))))
    assert len(keys) == 6


@pytest.mark.parametrize("name", EVERY)
def test_weights_of_any_size_end(write_model, name):
    """The largest finite weight and the smallest: refused in one line, or a valid result; not a search without end."""
    w = np.random.default_rng(5).normal(0, 0.02, (3, 64)).astype(np.float32)
    w[1, 7] = 3e38
    plan = make_plan(write_model({"w": RawTensor.from_array(w, "BF16")}), Options(codec=codec(name)))
    if encoder_of(codec(name)).limit(codec(name), BIAS_LIMIT) == np.inf:
        survey(plan)
        compress_matrix(w, codec(name)).check()
    else:
        with pytest.raises(SeedLMError, match=r"'w': the weight [23].*e\+38 in row 1, column 7 is too large for codec"):
            survey(plan)
    for magnitude in (1e-38, 1e-44):
        m = compress_matrix((w * magnitude).astype(np.float32)[[0, 2]], codec(name))
        m.check()
        assert np.isfinite(m.decode()).all()


@pytest.mark.parametrize("name", ["c8p4k8b0r", "seedlm4r", "int8"])
def test_tiny_rows_keep_their_shape(name, rng):
    w = rng.normal(0, 1e-38, (1, 64)).astype(np.float32)
    assert relative_error(w, compress_matrix(w, codec(name))) < 0.4


def test_what_is_lost_is_told(write_model, tmp_path):
    w = np.random.default_rng(5).normal(0, 1e-30, (3, 64)).astype(np.float32)
    _, results = compress(write_model({"w": RawTensor.from_array(w)}), tmp_path / "out", Options(codec=codec("fp16")))
    assert "'w': codec fp16 keeps little of its weights (relative error 1.00)" in results["w"].warnings[0]
    _, results = compress(write_model({"w": (3, 64)}), tmp_path / "out", Options(codec=codec("fp16")))
    assert results["w"].warnings == []
    assert results["w"].loss.relative == 0


# --- encode and write ------------------------------------------------------------------------------
def test_units_are_taken_up_again(write_model, tmp_path):
    source = write_model({f"w{i}": (8, 64) for i in range(5)})
    out = tmp_path / "out"
    compress(source, tmp_path / "whole", Options(codec=ROWS))
    plan = make_plan(source, Options(codec=ROWS))
    key = survey(plan)
    with Workspace(out, key) as work:
        encode(unfinished(plan, work)[:2], work)
    plan, done = make_plan(source, Options(codec=ROWS)), []
    assert survey(plan) == key
    with Workspace(out, key) as work:
        todo = unfinished(plan, work)
        assert len(todo) == 3
        encode(todo, work, advance=done.append)
        assert sum(done) == sum(piece.blocks for piece in todo)
        write(plan, work, source, out)
        work.remove()
    assert out.read_bytes() == (tmp_path / "whole").read_bytes()


@pytest.mark.parametrize("name", EVERY)
def test_files_hold_what_the_encoder_makes(write_model, tmp_path, name):
    kind = codec(name)
    source = write_model({"a": (5, 40), "b": (3, 32), "v": RawTensor.from_array(np.ones(4))})
    _, results = compress(source, tmp_path / "out", Options(codec=kind))
    file = PackedFile(tmp_path / "out")
    assert file.other == ["v"]
    for name in ("a", "b"):
        rotation = rotation_for(40 if name == "a" else 32) if kind.rotates else None
        expected = compress_matrix(source.shards["in"].array(name), kind, dtype="F16", rotation=rotation)
        found = file.matrix(name)
        assert found.rotation == rotation == results[name].task.rotation
        assert np.array_equal(found.stored, expected.stored)
        assert (found.scales is None) == (expected.scales is None)
        assert found.scales is None or np.array_equal(found.scales, expected.scales)
        assert found.exp_bias == expected.exp_bias == results[name].task.bias


def test_one_run_on_an_output(write_model, tmp_path):
    """Whatever the input and the options; and a lock that a killed run left is no lock."""
    out = tmp_path / "out"
    (tmp_path / ".out.busy").touch()
    with Workspace(out, "a" * 32), pytest.raises(SeedLMError, match="another run is at work on the same output"):
        Workspace(out, "b" * 32).__enter__()
    with Workspace(out, "b" * 32):
        pass
    assert not list(tmp_path.iterdir())


def test_work_of_others_is_known(tmp_path):
    (tmp_path / f"out.work-{'a' * 16}").mkdir()
    assert [p.name for p in Workspace(tmp_path / "out", "b" * 32).leftovers] == [f"out.work-{'a' * 16}"]


def test_times_are_measured_for_each_codec(write_model):
    plan = make_plan(write_model({"a": (8, 64), "b": (8, 64)}), Options(codec=QUICK, chosen=(("b", codec("int8")),)))
    seconds = seconds_per_block(plan)
    assert set(seconds) == {(QUICK.name, ""), ("int8", "")}
    assert all(s > 0 for s in seconds.values())


def test_the_time_of_zeros_is_not_taken(write_model, monkeypatch):
    """Rows of zeros are searched in no time: a plan measures others in their place."""
    seen = []
    monkeypatch.setattr(job, "encode_unit", lambda unit: seen.append(unit))
    source = write_model({"a": RawTensor.from_array(np.zeros((64, 512), np.float32))})
    seconds_per_block(make_plan(source, Options(codec=codec("trellis4"))))
    assert all(unit.rows.array().any(axis=1).all() for unit in seen)
    assert len(seen) == 2


def test_a_plan_times_what_is_searched_together(write_model, monkeypatch):
    """Fewer rows than a trellis takes at once would take as long: the time of a weight would be far too long."""
    seen = []
    monkeypatch.setattr(job, "encode_unit", lambda unit: seen.append(unit))
    w = np.random.default_rng(1).normal(0, 0.02, (40, 16384)).astype("f4")
    seconds_per_block(make_plan(write_model({"a": RawTensor.from_array(w)}), Options(codec=codec("trellis4"))))
    assert [unit.rows.shape for unit in seen] == [(1, 16384), (16, 16384)]
    assert seen[1].rotation.block == 16384
