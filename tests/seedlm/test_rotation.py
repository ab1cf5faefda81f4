"""Rotated rows from the command's side: compress, info, decompress, sim and the engines of a model."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from seedlm.golden.build import Config
from seedlm.golden.codecs import codec
from seedlm.golden.files.packed import PackedFile
from seedlm.golden.matrix import PackedMatrix
from seedlm.golden.product import product
from seedlm.golden.rotation import Rotation, rotation_for
from seedlm.host.driver import Accelerator
from seedlm.host.engines import AcceleratorEngine, ReferenceEngine
from tests.host.fake_transport import FakeAccelerator

SEED = 5


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Rows with an outlier of 60 standard deviations; the columns of `odd` have no power of two."""
    rng = np.random.default_rng(SEED)
    wide = rng.standard_normal((12, 1024)).astype(np.float32)
    wide[:, 77] = 60
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_file({"wide": wide, "odd": rng.standard_normal((4, 36)).astype(np.float32)}, path)
    return path


@pytest.mark.parametrize("name", ["trellis4", "int8"])
def test_an_outlier_costs_the_row_nothing(name, model, seedlm, tmp_path):
    turned, plain = tmp_path / "turned.safetensors", tmp_path / "plain.safetensors"
    report = seedlm("compress", model, turned, "--codec", name, "--rotate", "--json").report()
    assert {t: entry["rotation"] for t, entry in report["tensors"].items()} == {"wide": 1024, "odd": None}
    assert report["unrotated"] == ["odd"]
    flat = seedlm("compress", model, plain, "--codec", name, "--no-rotate", "--json").report()
    assert flat["unrotated"] == []
    assert "rotation" not in str(PackedFile(plain).file.metadata)
    # The bulk of the rows, with the outlier's own error left out.
    bulk = []
    for packed in (turned, plain):
        out = packed.with_suffix(".out.safetensors")
        seedlm("decompress", packed, out, "--json").report()
        wide, back = load_file(model)["wide"], load_file(out)["wide"]
        rest = np.delete(back - wide, 77, axis=1)
        bulk.append(np.sqrt(np.square(rest).sum() / np.square(np.delete(wide, 77, axis=1)).sum()))
    assert bulk[0] < 0.6 * bulk[1]
    info = seedlm("info", turned, "--json").report()
    assert info["tensors"]["wide"]["rotation"] == 1024
    assert info["tensors"]["wide"]["bits_per_weight"] == flat["tensors"]["wide"]["bits_per_weight"]


def test_who_is_rotated_without_being_asked(model, seedlm, tmp_path):
    for name, expected in (("trellis4", 1024), ("int8", 1024), ("fp16", None)):
        report = seedlm("compress", model, tmp_path / name, "--codec", name, "--json").report()
        assert report["tensors"]["wide"]["rotation"] == expected
    assert "not rotated: odd: no power of two of 16 or more divides its columns" in seedlm(
        "compress", model, tmp_path / "again", "--codec", "trellis4"
    ).out


def test_engines_turn_a_vector_once_for_all_matrices(monkeypatch):
    """Reference and accelerator agree; matrices that share a rotation share the turned vector."""
    rng = np.random.default_rng(SEED)
    config = Config(codec=codec("int8"), lanes=4, bus_bits=128, burst_beats=32, queue_depth=4)
    matrices = {}
    for name, rotation in (("q", rotation_for(96)), ("k", rotation_for(96)), ("plain", None)):
        matrices[name] = PackedMatrix.random(config.codec, 5, 96, rng)
        matrices[name].rotation = rotation
    turns = []
    vectors = Rotation.vectors
    monkeypatch.setattr(Rotation, "vectors", lambda self, x: turns.append(self.block) or vectors(self, x))
    device = FakeAccelerator(config)
    rtl = AcceleratorEngine(Accelerator(device, config), matrices)
    reference = ReferenceEngine(matrices.__getitem__)
    x = rng.standard_normal((2, 96)).astype(np.float32)
    mine, theirs = rtl.products(["q", "k", "plain"], x), reference.products(["q", "k", "plain"], x)
    assert turns == [32, 32]  # one by each engine
    assert [y.tobytes() for y in mine] == [y.tobytes() for y in theirs]
    # The driver by itself, with binary16 vectors.
    accelerator = Accelerator(FakeAccelerator(config), config)
    half = x[0].astype(np.float16)
    for matrix in matrices.values():
        assert accelerator.product(accelerator.load_matrix(matrix), half).tobytes() == product(matrix, half).tobytes()
