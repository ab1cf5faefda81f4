"""seedlm evaluate: the figures against the definitions, computed once more."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from seedlm.encoder import relative_error
from seedlm.golden.files.packed import PackedFile
from seedlm.host.checkpoint import Checkpoint
from seedlm.host.engines import FloatEngine, ReferenceEngine
from seedlm.host.models import language_model
from seedlm.host.quality import windows
from tests.host.tiny_llama import BUNDLED, write_model
from tests.seedlm.conftest import QUICK

CONTEXT = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    print("seed 14")
    write_model(path, np.random.default_rng(14), max_position_embeddings=CONTEXT)
    (path / "heldout.txt").write_text("größe = 1\nfor i in range(3):\n    print(i)\n")
    return path


def log2_chances(model, tokens):
    logits = model.logits(np.array(tokens)).astype(np.float64)
    chances = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.log2(chances / chances.sum(axis=1, keepdims=True))


def test_figures(seedlm, folder, tmp_path, monkeypatch):
    """Every figure of the original and of a codec, by the definitions, on exact products."""
    monkeypatch.setenv("SEEDLM_CACHE", str(tmp_path / "cache"))
    out, picture = tmp_path / "quality.json", tmp_path / "quality.png"
    files = ("--out", out, "--picture", picture)
    report = seedlm("evaluate", folder, "--codec", QUICK, "--encoder", "paper", "--exact", *files, "--json").report()
    assert json.loads(out.read_text()) == report
    assert picture.read_bytes().startswith(b"\x89PNG")
    rows = {row["name"]: row for row in report["rows"]}
    assert list(rows) == ["original", "fp16", QUICK, "block float 4", "block float 3"]
    data = (folder / "heldout.txt").read_bytes()
    assert (report["bytes"], report["tokens"], report["context"]) == (len(data), len(data), CONTEXT)

    checkpoint = Checkpoint(folder)
    (path,) = (tmp_path / "cache").glob("packed/*/packed.safetensors")
    packed = PackedFile(path)
    original = language_model(checkpoint, FloatEngine(checkpoint.linear))
    other = language_model(checkpoint, ReferenceEngine(packed.matrix))
    bits, divergence, same = {"original": 0.0, QUICK: 0.0}, 0.0, 0
    for start in range(0, len(data), CONTEXT):
        window = list(data[start : start + CONTEXT])
        p, q = (log2_chances(model, [0, *window[:-1]]) for model in (original, other))
        for i, token in enumerate(window):
            bits["original"] -= p[i, token]
            bits[QUICK] -= q[i, token]
            divergence += math.fsum(2 ** p[i] * (p[i] - q[i]))
            same += p[i].argmax() == q[i].argmax()
    for name, total in bits.items():
        assert math.isclose(rows[name]["bits_per_byte"], total / len(data), rel_tol=1e-9)
        assert math.isclose(rows[name]["perplexity"], 2 ** (total / len(data)), rel_tol=1e-9)
    assert math.isclose(rows[QUICK]["kl_bits_per_token"], divergence / len(data), rel_tol=1e-5)
    assert rows[QUICK]["agreement"] == same / len(data)
    assert (rows["original"]["kl_bits_per_token"], rows["original"]["agreement"]) == (0, 1)
    assert rows["fp16"]["kl_bits_per_token"] < 1e-4 < rows["block float 4"]["kl_bits_per_token"]
    assert rows["block float 4"]["kl_bits_per_token"] < rows["block float 3"]["kl_bits_per_token"]
    assert {name: row["encode_seconds"] is None for name, row in rows.items()} == {
        "original": True, "fp16": True, QUICK: False, "block float 4": False, "block float 3": False}  # fmt: skip
    assert 0.01 < rows[QUICK]["encode_seconds"] < 60
    names = list(packed.tensors)
    arrays = [checkpoint.linear[name].array().astype(np.float64) for name in names]
    energy = [np.square(w).sum() for w in arrays]
    error = sum(relative_error(w, packed.matrix(n)) ** 2 * e for w, n, e in zip(arrays, names, energy, strict=True))
    assert math.isclose(rows[QUICK]["rel_error"], math.sqrt(error / sum(energy)), rel_tol=1e-6)
    stored = sum(packed.matrix(name).stored_bits for name in names)
    assert math.isclose(rows[QUICK]["bits_per_weight"], stored / sum(w.size for w in arrays))


def test_float_sums_tell_the_same(seedlm, folder, tmp_path, monkeypatch):
    """The quick way differs from the exact one by rounding only (a sum may round to another FP16 activation)."""
    monkeypatch.setenv("SEEDLM_CACHE", str(tmp_path / "cache"))
    options = ("evaluate", folder, "--codec", QUICK, "--encoder", "paper", "--json")
    quick, exact = (seedlm(*options, *more).report()["rows"] for more in ((), ("--exact",)))
    for a, b in zip(quick, exact, strict=True):
        assert math.isclose(a["bits_per_byte"], b["bits_per_byte"], abs_tol=2e-4)
        assert math.isclose(a["kl_bits_per_token"], b["kl_bits_per_token"], abs_tol=2e-4)


def test_packed_model(seedlm, folder, tmp_path, monkeypatch):
    """The same figures as those of the original compressed on the way, and the text of the packed folder."""
    monkeypatch.setenv("SEEDLM_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "packed"
    codecs = ("--codec", QUICK, "--set", "*v_proj*=int8")
    seedlm("compress", folder, out, *codecs, "--encoder", "paper", "--exclude", "*embed*", "--json").report()
    rows = seedlm("evaluate", out, "--original", folder, "--json").report()["rows"]
    assert [row["name"] for row in rows] == ["original", "packed"]
    assert not list((tmp_path / "cache").glob("packed/*"))
    expected = seedlm("evaluate", folder, *codecs, "--encoder", "paper", "--json").report()["rows"]
    expected = [row for row in expected if row["name"] in ("original", QUICK)]
    what = {"name": None, "encoder": None, "rotated": None, "encode_seconds": None}
    assert [row | what for row in rows] == [row | what for row in expected]
    alone = seedlm("evaluate", out, "--json").report()["rows"]
    assert alone[1]["bits_per_byte"] == rows[1]["bits_per_byte"]
    assert alone[1]["rel_error"] == 0
    assert "needs a packed model" in seedlm("evaluate", folder, "--original", folder).complaint()
    assert "compressed already" in seedlm("evaluate", out, "--codec", QUICK).complaint()


def test_windows():
    """Every token is predicted once; each window begins afresh."""
    parts = windows([5, 6, 7, 8, 9], 0, 2)
    assert [(list(a), list(b)) for a, b in parts] == [([0, 5], [5, 6]), ([0, 7], [7, 8]), ([0], [9])]
    parts = windows([5, 6, 7, 8, 9], None, 2)
    assert [(list(a), list(b)) for a, b in parts] == [([5], [6]), ([7], [8])]


def test_table(seedlm, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("SEEDLM_CACHE", str(tmp_path / "cache"))
    ran = seedlm("evaluate", folder, "--codec", QUICK, "--bytes", 20, "--context", 8)
    assert ran.code == 0, ran
    lines = ran.out.splitlines()
    assert lines[0].endswith("20 tokens in windows of 8")
    assert [line.split()[0] for line in lines[1:-1]] == ["weights", "original", "fp16", QUICK, QUICK, "block", "block"]


def test_texts_and_calibrations(seedlm, folder, tmp_path, monkeypatch):
    """Two texts in one report as each alone; what is calibrated as by compress; the rest of a report added later."""
    monkeypatch.setenv("SEEDLM_CACHE", str(tmp_path / "cache"))
    own, prose, out = (tmp_path / name for name in ("own.safetensors", "prose.txt", "q.json"))
    prose.write_text("A banker lends you his umbrella when the sun is shining.\n")
    seedlm("calibrate", folder, "--self", 2, "--out", own, "--json").report()
    texts = ("--text", folder / "heldout.txt", "--text", prose)
    common = ("evaluate", folder, *texts, "--codec", "int8", "--set", "lm_head.weight=fp16", "--out", out)
    before = seedlm(*common, "--json").report()
    ran = seedlm(*common, "--calibration", own, "--continue")
    assert ran.code == 0, ran
    report = json.loads(out.read_text())
    rows = {(row["name"], row["calibration"]): row for row in report["rows"]}
    assert report["rows"][: len(before["rows"])] == before["rows"]
    plain = ["original", "fp16", "int8", "block float 4", "block float 3"]
    assert list(rows) == [*((name, None) for name in plain), *((name, "own") for name in plain[2:])]
    assert rows["int8", None]["rotated"] is True
    assert "same 2" in ran.out
    assert len([line for line in ran.out.splitlines() if " own " in line]) == 3

    packed = tmp_path / "packed"
    left = ("--exclude", "*embed*", "--exclude", "lm_head.weight")
    seedlm("compress", folder, packed, "--codec", "int8", "--calibration", own, *left, "--json").report()
    for i, path in enumerate((folder / "heldout.txt", prose)):
        alone = seedlm("evaluate", packed, "--original", folder, "--text", path, "--json").report()
        assert (alone["tokens"], alone["bytes"]) == (report["texts"][i]["tokens"], report["texts"][i]["bytes"])
        assert alone["rows"][0]["texts"][0] == rows["original", None]["texts"][i]
        assert alone["rows"][1]["texts"][0] == rows["int8", "own"]["texts"][i]
    for bits in (3, 4):  # fed back, more of the weights is lost, and less of the predictions
        one, two = rows[f"block float {bits}", None], rows[f"block float {bits}", "own"]
        assert one["bits_per_weight"] == two["bits_per_weight"]
        assert one["rel_error"] < two["rel_error"]
    assert "cannot continue it: context is" in seedlm(*common, "--continue", "--context", 8).complaint()


def test_what_is_measured(tmp_path):
    """All there is, with and without rotation; of several search methods the best is calibrated."""
    from seedlm.cli import parser
    from seedlm.variants import variants

    def measured(*options):
        args = parser().parse_args(["evaluate", "model", *options])
        return [tuple(v.about.values()) for v in variants(args)]

    found = measured("--calibration", "own.safetensors", "--calibration", "both.safetensors")
    assert len(set(found)) == len(found)
    trellis = [row for row in found if row[0] == "trellis4"]
    assert trellis == [("trellis4", None, turned, fed) for turned, fed in ((True, None), (False, None), (True, "own"),
                                                                           (True, "both"))]  # fmt: skip
    paper = [("seedlm4", "optimal", None), ("seedlm4", "paper", None), ("seedlm4", "optimal", "own"),
             ("seedlm4", "optimal", "both")]  # fmt: skip
    assert [(name, encoder, fed) for name, encoder, _, fed in found if name == "seedlm4"] == paper
    for name in ("mixed3", "block float 3", "int8"):
        assert {row[3] for row in found if row[0] == name} == {None, "own", "both"}
    assert {row[3] for row in found if row[0] == "fp16"} == {None}
    found = measured("--codec", "trellis4", "--no-rotate")
    assert [row[:3] for row in found if row[0] == "trellis4"] == [("trellis4", None, False)]


def test_complaints(seedlm, folder, tmp_path):
    assert "choose a text with --text" in seedlm("evaluate", write(tmp_path / "m")).complaint()
    (tmp_path / "latin.txt").write_bytes(b"gr\xfc\xdf")
    assert "not UTF-8 at byte 2" in seedlm("evaluate", folder, "--text", tmp_path / "latin.txt").complaint()
    (tmp_path / "empty.txt").write_text("")
    assert "is empty" in seedlm("evaluate", folder, "--text", tmp_path / "empty.txt").complaint()
    line = seedlm("evaluate", folder, "--out", tmp_path / "none" / "q.json").complaint()
    assert "cannot write" in line
    line = seedlm("evaluate", folder, "--picture", tmp_path / "q.txt").complaint()
    assert line.endswith("q.txt: expected a name that ends with .png, .svg or .pdf")
    assert not (tmp_path / "q.txt").exists()
    assert "--continue needs --out FILE.json" in seedlm("evaluate", folder, "--continue").complaint()
    assert "--damping needs --calibration FILE" in seedlm("evaluate", folder, "--damping", 1).complaint()


def write(folder):
    write_model(folder, np.random.default_rng(1))
    return folder


@pytest.mark.slow
def test_the_page_of_the_bundled_model(seedlm):
    """The figure that the model's own page states for its held-out text."""
    page = (BUNDLED / "README.md").read_text()
    stated = next(line.split("|")[3] for line in page.splitlines() if line.startswith("| `heldout.txt`"))
    report = seedlm("evaluate", BUNDLED, "--codec", "fp16", "--json").report()
    assert report["rows"][0]["bits_per_byte"] == pytest.approx(float(stated), abs=1e-4)
