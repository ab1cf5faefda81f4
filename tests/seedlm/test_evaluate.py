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
    assert list(rows) == ["original", "fp16", QUICK, "block float 4"]
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
    names = {"name": None, "encoder": None}
    assert [row | names for row in rows] == [row | names for row in expected]
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
    assert [line.split()[0] for line in lines[1:-1]] == ["weights", "original", "fp16", QUICK, QUICK, "block"]


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
