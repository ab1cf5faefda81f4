"""Compressing with a calibration: what is taken, what is refused, units, keys and files."""

from __future__ import annotations

import json

import numpy as np
import pytest

from seedlm.encoder import compress_matrix
from seedlm.encoder.families import encoder_of
from seedlm.encoder.feedback.factor import feedback_of
from seedlm.encoder.job import encode, seconds_per_block, survey, unfinished, write
from seedlm.encoder.plan import Options, make_plan
from seedlm.encoder.workspace import Workspace
from seedlm.golden.codecs import codec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.calibration import Entry, write_calibration
from seedlm.golden.files.packed import PackedFile
from seedlm.golden.files.sources import open_source
from seedlm.golden.files.tensors import RawTensor, TensorFile, write_tensors
from seedlm.golden.rotation import rotation_for

SHAPES = {"q": (40, 48), "k": (8, 48), "down": (48, 64), "other": (6, 48)}


@pytest.fixture
def source(tmp_path, rng):
    tensors = {name: RawTensor.from_array(rng.normal(0, 0.02, shape), "F16") for name, shape in SHAPES.items()}
    write_tensors(tmp_path / "in", tensors)
    return open_source(tmp_path / "in")


@pytest.fixture
def moments(rng):
    out = {}
    for name, cols in (("q.moments", 48), ("down.moments", 64)):
        x = rng.standard_normal((100, cols)) @ rng.standard_normal((cols, cols))
        out[name] = (x.T @ x).astype(np.float32)
    return out


ENTRIES = {"q": Entry(("q.moments",), 100), "k": Entry(("q.moments",), 100), "down": Entry(("down.moments",), 100)}


@pytest.fixture
def calibration(tmp_path, moments):
    path = tmp_path / "calibration.safetensors"
    write_calibration(path, ENTRIES, moments)
    return path


def options(calibration, name="trellis4", **more):
    return Options(codec=codec(name), chosen=(("k", codec("int8")),), calibration=calibration, **more)


def compress(source, output, plan, jobs=1, stop=None):
    with Workspace(output, survey(plan)) as work:
        encode(unfinished(plan, work)[:stop], work, jobs=jobs)
        if stop is None:
            write(plan, work, source, output)
            work.remove()
    return output.read_bytes() if stop is None else None


def test_every_tensor_with_its_own_moments(source, calibration, moments, tmp_path):
    plan = make_plan(source, options(calibration))
    assert plan.without_feedback(options(calibration)) == ["other"]
    assert plan.without_feedback(Options()) == []
    compress(source, tmp_path / "out", plan)
    file = PackedFile(tmp_path / "out")
    for name, moment in (("q", "q.moments"), ("k", "q.moments"), ("down", "down.moments"), ("other", None)):
        kind, rotation = codec("int8" if name == "k" else "trellis4"), rotation_for(SHAPES[name][1])
        feedback = None
        if moment:
            feedback = feedback_of([moments[moment]], encoder_of(kind).feedback_block(kind), 0.1, rotation)
        w = source.shards["in"].array(name)
        expected = compress_matrix(w, kind, feedback=feedback, rotation=rotation)
        assert file.matrix(name).stored.tobytes() == expected.stored.tobytes()
        assert file.matrix(name).scales.tobytes() == expected.scales.tobytes()


def test_the_same_bytes_however_it_is_done(source, calibration, tmp_path, monkeypatch):
    monkeypatch.setattr("seedlm.encoder.families._base.SLICE", 128)
    monkeypatch.setattr("seedlm.encoder.families._base.FED_ROWS", 16)
    plan = make_plan(source, options(calibration))
    assert len(plan.pieces) > 6
    once = compress(source, tmp_path / "a", plan)
    compress(source, tmp_path / "b", make_plan(source, options(calibration)), stop=3)
    plan = make_plan(source, options(calibration))
    with Workspace(tmp_path / "b", survey(plan)) as work:
        assert len(unfinished(plan, work)) == len(plan.pieces) - 3
    assert compress(source, tmp_path / "b", plan, jobs=2) == once


def test_the_key_tells_what_decides(source, calibration, moments, tmp_path):
    def key(path=calibration, **more):
        return survey(make_plan(source, options(path, **more)))

    keys = {key(), key(damping=0.2), survey(make_plan(source, Options(chosen=(("k", codec("int8")),))))}
    other = tmp_path / "other.safetensors"
    write_calibration(other, ENTRIES, moments)
    assert key(other) in keys
    moments["down.moments"] = moments["down.moments"] + np.eye(64, dtype=np.float32)
    write_calibration(other, ENTRIES, moments)
    assert key(other) not in keys
    assert len(keys) == 3


def test_times_are_measured_by_how_it_is_done(source, calibration):
    speeds = seconds_per_block(make_plan(source, options(calibration)))
    assert set(speeds) == {("trellis4", "with feedback"), ("trellis4", ""), ("int8", "with feedback")}
    assert min(speeds.values()) > 0


# --- refused -----------------------------------------------------------------------------------------
def refusal(source, path, **more):
    with pytest.raises(SeedLMError) as info:
        survey(make_plan(source, options(path, **more)))
    assert "\n" not in str(info.value)
    assert str(path) in str(info.value)
    return str(info.value)


def test_files_that_are_no_calibration(source, calibration, moments, tmp_path):
    assert "'format' is missing, expected 'seedlm-calibration'" in refusal(source, tmp_path / "in")
    assert "cannot read" in refusal(source, tmp_path / "nowhere")
    cut = tmp_path / "cut"
    cut.write_bytes(calibration.read_bytes()[:-100])
    assert "not a complete safetensors file" in refusal(source, cut)
    file = TensorFile(calibration)
    for change, message in (
        ({"version": "2"}, "calibration of an unknown version: '2', expected '1'"),
        ({"matrices": "{"}, "must be a JSON object of moments and tokens"),
        ({"matrices": '{"q": 1}'}, "must be a JSON object of moments and tokens"),
        ({"matrices": json.dumps({"q": {"moments": [], "tokens": 1}})}, "must be a JSON object of moments"),
        ({"matrices": json.dumps({"q": {"moments": ["x"], "tokens": 1}})}, "of 'q': tensor 'x' is missing"),
        ({"matrices": json.dumps({"r": {"moments": ["q.moments"], "tokens": 1}})},
         "has no moments for any tensor that is compressed, as 'down': expected one of r"),
    ):  # fmt: skip
        write_tensors(cut, file.tensors, file.metadata | change)
        assert message in refusal(source, cut)


def test_moments_that_do_not_fit(source, moments, tmp_path):
    path = tmp_path / "bad"

    def write_with(**changes):
        write_calibration(path, ENTRIES, moments | {f"{name}.moments": a for name, a in changes.items()})

    write_with(down=np.eye(48))
    assert "the moments of 'down' are [48, 48]: expected [64, 64] for 64 columns" in refusal(source, path)
    write_with(q=np.ones((48, 47)))
    assert "'q.moments' is F32 [48, 47]: expected F32 with as many rows as columns" in refusal(source, path)
    bad = moments["q.moments"].copy()
    bad[40, 3] = np.nan
    write_with(q=bad)
    assert "'q.moments': expected finite numbers" in refusal(source, path)
    write_with(q=-moments["q.moments"])
    assert "sums of squares that are not negative" in refusal(source, path)
    write_with(q=np.where(np.eye(48), 1, -1))
    with pytest.raises(SeedLMError, match=r"bad: '[qk]': the second moments are not positive definite"):
        compress(source, tmp_path / "out", make_plan(source, options(path)))


def test_options_that_do_not_go_together(source, calibration, tmp_path):
    write_tensors(tmp_path / "i", {"q": RawTensor.from_array(np.ones(48))})
    assert "expected one of --calibration and --importance" in refusal(source, calibration, importance=tmp_path / "i")
    with pytest.raises(SeedLMError, match="codec fp16 rounds every weight: --calibration has no meaning for it"):
        make_plan(source, Options(codec=codec("fp16"), calibration=calibration))
    # Beside codecs that gain, those that do not are left as they are.
    mixed = Options(codec=codec("fp16"), chosen=(("q", codec("trellis4")),), calibration=calibration)
    assert make_plan(source, mixed).without_feedback(mixed) == ["down", "k", "other"]
