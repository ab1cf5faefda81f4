"""compress, info, decompress and reference on small files: results, reports, what stands in the files."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from seedlm.golden.codecs import CODECS
from seedlm.golden.files.packed import PackedFile
from seedlm.golden.files.tensors import TensorFile
from seedlm.golden.product import product
from tests.seedlm.conftest import QUICK, SEED, write_safetensors

COMPRESSED = {
    "half.weight": ([24, 40], "F16"), "single.weight": ([5, 19], "F32"), "brain.weight": ([17, 8], "BF16"),
    "cube": ([2, 3, 4], "F32"),
}  # fmt: skip
COPIED = {"norm.weight", "steps"}


def relative_error(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(np.sqrt(((a - b) ** 2).sum() / (a**2).sum()))


def test_compress_reports_every_tensor(seedlm, source, tmp_path):
    out = tmp_path / "packed.safetensors"
    report = seedlm("compress", source, out, "--codec", QUICK, "--json").report()
    assert set(report["tensors"]) == set(COMPRESSED)
    assert set(report["copied"]) == COPIED
    packed, plain = PackedFile(out), TensorFile(source)
    for name, (shape, dtype) in COMPRESSED.items():
        entry = report["tensors"][name]
        assert entry["codec"] == QUICK
        assert entry["shape"] == shape
        assert packed.tensors[name].dtype == dtype
        assert packed.tensors[name].exp_bias == entry["exp_bias"]
        # the error of the weights that the written file decodes to
        error = relative_error(plain.array(name), packed.matrix(name).decode(np.float64).reshape(shape))
        assert entry["rel_error"] == pytest.approx(error, rel=1e-12)
        assert 0.1 < error < 0.5
        stored = packed.file.tensors[f"{name}.blocks"].data.nbytes
        assert entry["bits_per_weight"] == 8 * stored / math.prod(shape)
    for name in COPIED:
        assert bytes(packed.raw(name).data) == bytes(plain.raw(name).data)
    assert report["output_bytes"] == out.stat().st_size


def test_compress_text_has_the_same_figures(seedlm, source, tmp_path):
    ran = seedlm("compress", source, tmp_path / "a", "--codec", QUICK)
    report = seedlm("compress", source, tmp_path / "b", "--codec", QUICK, "--json").report()
    assert ran.code == 0
    assert ran.err == "", "no progress bar unless standard error is a terminal"
    for name, entry in report["tensors"].items():
        line = next(line for line in ran.out.splitlines() if line.startswith(name))
        assert f"{entry['rel_error']:.4f}" in line
        assert f"{entry['bits_per_weight']:.3f}" in line
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes(), "compression is reproducible"


@pytest.mark.parametrize(
    ("flags", "codec", "bits", "low", "high"),
    [
        ([], "trellis4", 4.25, 0.060, 0.075),
        (["--codec", "seedlm4"], "seedlm4", 4.0, 0.112, 0.126),  # 0.119 on average; these are 256 blocks
        (["--codec", "seedlm4", "--encoder", "paper"], "seedlm4", 4.0, 0.115, 0.131),  # 0.122 on average
    ],
)
def test_presets_have_their_error(seedlm, tmp_path, flags, codec, bits, low, high):
    rng = np.random.default_rng(SEED)
    write_safetensors(tmp_path / "in", {"w": ("F32", (0.02 * rng.standard_normal((16, 128))).astype(np.float32))})
    report = seedlm("compress", tmp_path / "in", tmp_path / "out", *flags, "--json").report()
    entry = report["tensors"]["w"]
    assert report["encoder"] == ("paper" if "paper" in flags else "optimal")
    assert entry["codec"] == codec
    assert entry["bits_per_weight"] == bits
    assert low < entry["rel_error"] < high


@pytest.mark.parametrize("codec", ["c4p2k6b0r", "c12p4k7b3", *(n for n, c in CODECS.items() if c.family != "seed")])
def test_every_kind_of_codec_goes_round(seedlm, source, tmp_path, codec):
    packed, plain = tmp_path / "packed", tmp_path / "plain"
    report = seedlm("compress", source, packed, "--codec", codec, "--json").report()
    info = seedlm("info", packed, "--json").report()
    seedlm("decompress", packed, plain, "--json").report()
    out = TensorFile(plain)
    # A header in front of rows of 4 or 8 columns can take more than they are worth: such a matrix stays as it is.
    assert set(COMPRESSED) - {"brain.weight", "cube"} <= set(report["tensors"]) <= set(COMPRESSED)
    for name in report["tensors"]:
        assert info["tensors"][name]["codec"] == codec
        assert info["tensors"][name]["bits_per_weight"] == report["tensors"][name]["bits_per_weight"]
        decoded = PackedFile(packed).matrix(name).decode(np.float32).reshape(out.raw(name).shape)
        np.testing.assert_array_equal(out.array(name).view(np.uint32), decoded.view(np.uint32))
        assert list(decoded.shape) == COMPRESSED[name][0] == info["tensors"][name]["shape"]
        error = relative_error(TensorFile(source).array(name), decoded)
        assert error == pytest.approx(report["tensors"][name]["rel_error"], rel=1e-4)


@pytest.mark.parametrize(
    ("flags", "chosen"),
    [
        (["--include", "half*"], {"half.weight"}),
        (["--include", "half*", "--include", "brain.weight"], {"half.weight", "brain.weight"}),
        (["--exclude", "*e.weight"], {"half.weight", "brain.weight", "cube"}),
        (["--include", "*a*", "--exclude", "brain*"], {"half.weight"}),
    ],
)
def test_include_and_exclude(seedlm, source, tmp_path, flags, chosen):
    report = seedlm("compress", source, tmp_path / "out", "--codec", QUICK, "--json", *flags).report()
    assert set(report["tensors"]) == chosen
    assert set(report["copied"]) == set(COMPRESSED) - chosen | COPIED


def test_brackets_in_names_stand_for_themselves(seedlm, tmp_path):
    w = ("F16", np.ones((2, 8), np.float16))
    write_safetensors(tmp_path / "in", {"layers[0].weight": w, "layers[1].weight": w, "layers0.weight": w})
    for flags, chosen in (
        (["--include", "layers[0].weight"], {"layers[0].weight"}),
        (["--include", "layers[?].*"], {"layers[0].weight", "layers[1].weight"}),
        (["--exclude", "layers[0]*"], {"layers[1].weight", "layers0.weight"}),
    ):
        report = seedlm("compress", tmp_path / "in", tmp_path / "out", "--codec", QUICK, "--json", *flags).report()
        assert set(report["tensors"]) == chosen


def test_files_have_the_permissions_of_others_and_keep_metadata(seedlm, tmp_path):
    """On the way there and back."""
    said = {"format": "pt", "author": "somebody", "training_seed": "42"}
    write_safetensors(tmp_path / "in", {"w": ("F16", np.ones((2, 8), np.float16))}, said)
    seedlm("compress", tmp_path / "in", tmp_path / "packed", "--codec", QUICK, "--json").report()
    seedlm("decompress", tmp_path / "packed", tmp_path / "out", "--json").report()
    assert TensorFile(tmp_path / "packed").metadata["author"] == "somebody"
    assert TensorFile(tmp_path / "out").metadata == said
    (tmp_path / "plain").write_text("")
    for name in ("packed", "out"):
        assert (tmp_path / name).stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_exponent_bias_is_kept(seedlm, source, tmp_path):
    report = seedlm("compress", source, tmp_path / "o", "--codec", QUICK, "--exp-bias", "-7", "--json").report()
    assert {t["exp_bias"] for t in report["tensors"].values()} == {-7}
    assert {t.exp_bias for t in PackedFile(tmp_path / "o").tensors.values()} == {-7}


def test_info_lists_everything(seedlm, packed):
    report = seedlm("info", packed, "--json").report()
    assert report["format"] == "seedlm"
    assert report["version"] == "1"
    assert {n: (t["shape"], t["dtype"]) for n, t in report["tensors"].items()} == COMPRESSED
    assert set(report["other"]) == COPIED
    assert report["other"]["steps"] == {"dtype": "I64", "shape": [2, 3]}
    assert report["words_checked"] == 24 * 5 + 5 * 3 + 17 * 1 + 6 * 1
    text = seedlm("info", packed)
    assert text.code == 0
    for name in [*COMPRESSED, *COPIED]:
        assert name in text.out


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16", "original"])
def test_decompress_dtypes(seedlm, packed, tmp_path, dtype):
    report = seedlm("decompress", packed, tmp_path / "out", "--dtype", dtype, "--json").report()
    plain, file = TensorFile(tmp_path / "out"), PackedFile(packed)
    for name, (shape, original) in COMPRESSED.items():
        expected = original if dtype == "original" else dtype
        assert report["tensors"][name] == {"dtype": expected, "shape": shape}
        assert plain.raw(name).dtype == expected
        weights = file.matrix(name).decode(np.float64).reshape(shape)
        step = {"F32": 2**-24, "F16": 2**-11, "BF16": 2**-8}[expected]
        assert (np.abs(plain.array(name) - weights) <= np.abs(weights) * step).all()
    for name in COPIED:
        assert bytes(plain.raw(name).data) == bytes(file.raw(name).data)


@pytest.mark.parametrize("scale", [None, "0.37"])
def test_reference_is_the_golden_product(seedlm, packed, tmp_path, scale):
    x = np.random.default_rng(SEED).standard_normal(19).astype(np.float16)
    np.save(tmp_path / "x.npy", x)
    flags = [] if scale is None else ["--scale", scale]
    report = seedlm(
        "reference", packed, "--tensor", "single.weight", "--x", tmp_path / "x.npy", "--out", tmp_path / "y.npy",
        "--json", *flags,
    ).report()  # fmt: skip
    matrix = PackedFile(packed).matrix("single.weight")
    expected = product(matrix, x, None if scale is None else float(scale))
    y = np.load(tmp_path / "y.npy")
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y.view(np.uint32), expected.view(np.uint32))
    assert report["scale"] == float(np.float32(scale if scale else matrix.scale))
    assert (report["rows"], report["cols"], report["x_finite"]) == (5, 19, True)
    # and the product means what it should: close to that of the decoded weights
    if scale is None:
        np.testing.assert_allclose(y, matrix.decode(np.float64) @ x.astype(np.float64), rtol=1e-3, atol=1e-6)


def test_reference_of_a_vector_with_nan(seedlm, packed, tmp_path):
    x = np.zeros(19, np.float16)
    x[7] = np.nan
    np.save(tmp_path / "x.npy", x)
    ran = seedlm(
        "reference", packed, "--tensor", "single.weight", "--x", tmp_path / "x.npy", "--out", tmp_path / "y.npy"
    )
    assert ran.code == 0
    assert "NaN" in ran.out
    assert (np.load(tmp_path / "y.npy").view(np.uint32) == 0x7FC00000).all()


def test_quiet_says_nothing(seedlm, packed):
    ran = seedlm("info", packed, "--quiet")
    assert (ran.code, ran.out, ran.err) == (0, "", "")


def test_json_is_json_with_quiet_too(seedlm, packed):
    assert json.loads(seedlm("info", packed, "--quiet", "--json").out)["status"] == "ok"
