"""`seedlm image`: files for a board, against the images and the reference they are made from."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pytest

from seedlm.build.bringup import write_images
from seedlm.cli import main
from seedlm.golden.build import Config
from seedlm.golden.codecs import codec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.packed import write_packed
from seedlm.golden.images import parse_results, words_from_image
from seedlm.golden.matrix import PackedMatrix
from seedlm.golden.presets import PRESETS
from seedlm.golden.product import product
from seedlm.hdl.registers import REGISTERS, register

SEED = 20240907


def case(name: str, rows: int = 37, cols: int = 50) -> tuple[Config, PackedMatrix, np.ndarray]:
    rng = np.random.default_rng(SEED)
    kind = codec(name)
    matrix = PackedMatrix.random(kind, rows, cols, rng)
    return Config(codec=kind), matrix, rng.standard_normal(cols).astype(np.float16)


@pytest.fixture
def packed(tmp_path) -> Path:
    """A packed file with one tensor, `half.weight`."""
    path = tmp_path / "packed.safetensors"
    write_packed(path, {"half.weight": case("seedlm4")[1]})
    return path


@pytest.mark.parametrize("name", ["seedlm4", "seedlm3r", "fp16"])
def test_files_hold_what_the_manifest_says(name, tmp_path):
    config, matrix, x = case(name)
    manifest = write_images(tmp_path, config, matrix, x, base=0x10000, name="layer")
    assert json.loads((tmp_path / "manifest.json").read_text()) == manifest
    regions = manifest["regions"]
    assert set(regions) == {"weights", "activations", "results"} | ({"scales"} if config.codec.row_scales else set())
    assert {p.name for p in tmp_path.iterdir()} == {entry["file"] for entry in regions.values()} | {"manifest.json"}

    data = {}
    end = 0x10000
    for region, entry in regions.items():
        data[region] = np.fromfile(tmp_path / entry["file"], dtype=np.uint8)
        assert (data[region].size, zlib.crc32(data[region])) == (entry["bytes"], int(entry["crc32"], 16))
        start = int(entry["address"], 16)
        assert start % 4096 == 0
        assert start >= end  # no two overlap
        end = start + entry["bytes"]

    assert np.array_equal(words_from_image(config, data["weights"], *matrix.shape), matrix.words)
    assert np.array_equal(data["activations"].view(np.float16)[: x.size], x)
    if config.codec.row_scales:
        assert np.array_equal(data["scales"].view(np.float32)[: matrix.rows], matrix.scales)
    y = parse_results(config, data["results"].tobytes(), matrix.rows)
    assert np.array_equal(y.view(np.uint32), product(matrix, x).view(np.uint32))


def test_a_build_of_several_codecs(packed, tmp_path):
    """The image is that of the matrix's codec, the registers say which one it is, and G is the build's."""
    assert main(["image", str(packed), "--tensor", "half.weight", "--preset", "paper", "--out", str(tmp_path)]) == 0
    several = json.loads((tmp_path / "manifest.json").read_text())
    _, matrix, x = case("seedlm4")
    preset = PRESETS["paper"]
    manifest = write_images(tmp_path / "other", preset, matrix, x)
    alone = write_images(tmp_path / "alone", preset.of(matrix.codec), matrix, x)
    assert several["regions"]["weights"]["sha256"] == alone["regions"]["weights"]["sha256"]
    written = {entry["name"]: int(entry["value"], 16) for entry in manifest["registers"]}
    checked = {entry["name"]: int(entry["value"], 16) for entry in manifest["check"]}
    assert written["WEIGHT_CODEC"] == 0
    assert register("SEGMENT").unpack(checked["SEGMENT"])["more_codecs"] == 1
    assert register("CODEC_1").unpack(checked["CODEC_1"])["family"] == codec("fp16").family_number
    y = np.fromfile(tmp_path / "other" / "expected.bin", "<f4")
    assert np.array_equal(y.view(np.uint32), product(matrix, x, group=preset.group).view(np.uint32))


def test_register_writes_describe_the_product(tmp_path):
    config, matrix, x = case("seedlm4")
    manifest = write_images(tmp_path, config, matrix, x, base=0x2_0000_0000, scale=0.5)
    values = {entry["name"]: int(entry["value"], 16) for entry in manifest["registers"]}
    for entry in manifest["registers"]:
        assert register(entry["name"]).access.writable
        assert int(entry["offset"], 16) == register(entry["name"]).offset
    assert manifest["registers"][-1]["name"] == "SUBMIT"
    weights = int(manifest["regions"]["weights"]["address"], 16)
    assert values["WEIGHTS_LO"] | values["WEIGHTS_HI"] << 32 == weights == 0x2_0000_0000
    results = int(manifest["regions"]["results"]["address"], 16)
    assert values["RESULTS_LO"] | values["RESULTS_HI"] << 32 == results
    assert (values["ROWS"], values["COLS"], values["SCALE"], values["FLAGS"]) == (37, 50, 0x3F000000, 0)
    read_only = {r.name for r in REGISTERS if not r.access.writable}
    assert {entry["name"] for entry in manifest["check"]} <= read_only
    assert manifest["expect"]["error"]["value"] == "0x00000000"


def test_activations_that_are_not_finite(tmp_path):
    config, matrix, x = case("seedlm4")
    x[7] = np.inf
    manifest = write_images(tmp_path, config, matrix, x)
    assert manifest["expect"]["error"]["value"] == "0x00000002"
    assert set(np.fromfile(tmp_path / "expected.bin", dtype="<u4")) == {0x7FC00000}


def test_the_same_bytes_again(tmp_path):
    config, matrix, x = case("seedlm4r")
    for folder in ("a", "b"):
        write_images(tmp_path / folder, config, matrix, x)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base": 100}, "must be a multiple of 4096"),
        ({"base": (1 << 34) - 4096}, "above the 34 address bits"),
        ({"config": Config(codec=codec("seedlm3"))}, "takes weights of codec seedlm3, not seedlm4"),
        ({"config": Config(max_rows=16)}, "takes up to 16 x 32768 weights, not 37 x 50"),
        ({"x": np.zeros(49, np.float16)}, "49"),
        ({"scale": np.inf}, "finite"),
    ],
)
def test_refused_before_anything_is_written(change, message, tmp_path):
    config, matrix, x = case("seedlm4")
    arguments = {"config": config, "matrix": matrix, "x": x} | change
    with pytest.raises(SeedLMError, match=message):
        write_images(tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_the_command(packed, tmp_path, capsys):
    out = tmp_path / "image"
    arguments = ["image", str(packed), "--tensor", "half.weight", "--out", str(out), "--lanes", "4"]
    assert main([*arguments, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["status"] == "ok"
    assert report["manifest"] == json.loads((out / "manifest.json").read_text())
    assert report["manifest"]["config"]["lanes"] == 4
    assert main(arguments) == 0
    assert "13 register writes" in capsys.readouterr().out
    assert main(["image", str(packed), "--tensor", "nothing", "--out", str(out)]) == 1
    assert "no compressed tensor 'nothing'" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main([*arguments, "--base", "high"])


def test_paths_are_relative(packed, tmp_path):
    out = tmp_path / "image"
    assert main(["image", str(packed), "--tensor", "half.weight", "--out", str(out), "--quiet"]) == 0
    text = (out / "manifest.json").read_text()
    assert str(Path.home()) not in text
    assert str(tmp_path) not in text
