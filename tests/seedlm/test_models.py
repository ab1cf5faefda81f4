"""compress of whole models: shards, folders, resuming, workers, plans, importance."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from seedlm.encoder import compress_matrix
from seedlm.golden.codecs import codec
from seedlm.golden.files.packed import PackedFile, write_packed
from seedlm.golden.files.tensors import RawTensor, TensorFile, write_tensors
from tests.seedlm.conftest import QUICK, SEED, command, environment

ROWS = "c8p4k8b0r"  # row scales with a register of 8 bits


def weights(rng, rows: int, cols: int, dtype: str = "F16") -> RawTensor:
    return RawTensor.from_array(0.02 * rng.standard_t(5, (rows, cols)), dtype)


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """A Hugging Face folder of two shards."""
    rng = np.random.default_rng(SEED)
    folder = tmp_path_factory.mktemp("hf") / "model"
    folder.mkdir()
    shards = {
        "model-00001-of-00002.safetensors": {
            "embed.weight": weights(rng, 33, 24, "BF16"),
            "layers.0.up.weight": weights(rng, 40, 24),
            "layers.0.norm.weight": RawTensor.from_array(np.ones(24), "F16"),
        },
        "model-00002-of-00002.safetensors": {
            "layers.1.up.weight": weights(rng, 40, 24, "F32"),
            "layers.1.down.weight": weights(rng, 24, 40),
        },
    }
    for name, tensors in shards.items():
        write_tensors(folder / name, tensors, {"format": "pt"})
    weight_map = {tensor: name for name, tensors in shards.items() for tensor in tensors}
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text('{"hidden_size": 24}')
    (folder / "tokenizer.model").write_bytes(b"\0\1")
    (folder / "pytorch_model.bin").write_bytes(b"the same weights again")
    (folder / ".hidden").write_text("no")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="session")
def packed_model(model, seedlm, tmp_path_factory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("packed") / "packed"
    return out, seedlm("compress", model, out, "--codec", ROWS, "--json").report()


def test_folder_with_shards(model, packed_model):
    out, report = packed_model
    assert set(contents(out)) == {
        "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json",
        "config.json", "tokenizer.model",
    }  # fmt: skip
    assert report["files_copied"] == ["config.json", "tokenizer.model"]
    assert (out / "tokenizer.model").read_bytes() == (model / "tokenizer.model").read_bytes()
    index = json.loads((out / "model.safetensors.index.json").read_text())
    size = 0
    for shard in report["shards"]:
        stored = TensorFile(out / shard).tensors
        assert {name for name, where in index["weight_map"].items() if where == shard} == set(stored)
        size += sum(t.data.nbytes for t in stored.values())
    assert index["metadata"]["total_size"] == size
    assert not list(out.parent.glob("packed.work*"))


def test_shards_are_what_the_encoder_makes(model, packed_model, tmp_path):
    out, report = packed_model
    for shard in report["shards"]:
        source = TensorFile(model / shard)
        matrices, other = {}, {}
        for name, tensor in source.tensors.items():
            if len(tensor.shape) == 2:
                matrices[name] = compress_matrix(source.array(name), codec(ROWS), dtype=tensor.dtype)
            else:
                other[name] = tensor
        write_packed(tmp_path / shard, matrices, other)
        assert (out / shard).read_bytes() == (tmp_path / shard).read_bytes()


def test_index_alone(seedlm, model, packed_model, tmp_path):
    report = seedlm(
        "compress", model / "model.safetensors.index.json", tmp_path / "out", "--codec", ROWS, "--json"
    ).report()
    assert report["files_copied"] == []
    expected = contents(packed_model[0])
    assert contents(tmp_path / "out") == {k: v for k, v in expected.items() if "safetensors" in k}


@pytest.mark.parametrize("flags", [["--jobs", "1"], ["--jobs", "2"]])
@pytest.mark.parametrize("name", [ROWS, QUICK, "fp16", "int8"])
def test_workers_do_not_change_the_bytes(seedlm, model, packed_model, tmp_path, name, flags):
    if name == ROWS:
        expected = packed_model[0]
    else:
        expected = tmp_path / "expected"
        seedlm("compress", model, expected, "--codec", name, "--json").report()
    seedlm("compress", model, tmp_path / "out", "--codec", name, *flags, "--json").report()
    assert contents(tmp_path / "out") == contents(expected)


def test_folder_with_one_file(seedlm, source, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "model.safetensors").write_bytes(source.read_bytes())
    seedlm("compress", tmp_path / "in", tmp_path / "out", "--codec", QUICK, "--json").report()
    seedlm("compress", source, tmp_path / "single", "--codec", QUICK, "--json").report()
    assert contents(tmp_path / "out") == {"model.safetensors": (tmp_path / "single").read_bytes()}


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "wait4"), reason="no wait4")
def test_memory_for_a_large_layer(tmp_path):
    """4096 x 4096: all processes together stay below 2 GiB, also when they compile the search first."""
    rng = np.random.default_rng(SEED)
    w = rng.normal(0, 0.02, (4096, 4096)).astype(np.float32)
    write_tensors(tmp_path / "in", {"w": RawTensor.from_array(w)})
    jobs = 2
    process = subprocess.Popen(
        command("compress", tmp_path / "in", tmp_path / "out", "--codec", "seedlm4", "--jobs", jobs), env=environment()
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    largest = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)  # of the command and its workers
    print(f"largest process: {largest / 2**20:.0f} MiB")
    assert w.nbytes < largest * 4, "not the processes that were meant"
    assert largest * (jobs + 1) < 2 << 30


def test_a_codec_for_each_tensor(seedlm, model, packed_model, tmp_path):
    """As many codecs as wanted in one folder; the rest as without."""
    flags = ["--set", "embed*=int8", "--set", "*.1.up*=fp16"]
    report = seedlm("compress", model, tmp_path / "out", "--codec", ROWS, *flags, "--json").report()
    assert report["codecs"] == ["int8", ROWS, "fp16"]
    info = seedlm("info", tmp_path / "out", "--json").report()["tensors"]
    expected = dict.fromkeys(packed_model[1]["tensors"], ROWS)
    expected |= {"embed.weight": "int8", "layers.1.up.weight": "fp16"}
    assert {name: t["codec"] for name, t in info.items()} == expected
    plan = seedlm("compress", model, tmp_path / "out", "--codec", ROWS, *flags, "--json", "--plan").report()
    assert {name: t["codec"] for name, t in plan["tensors"].items()} == expected
    flags += ["--set", "*.9.*=int8"]
    complaint = seedlm("compress", model, tmp_path / "new", *flags, "--plan").complaint()
    assert complaint.startswith(f"{model}: --set '*.9.*' matches no")
    assert "expected GLOB=CODEC" in seedlm("compress", model, tmp_path / "new", "--set", "int8").complaint(2)
    assert "unknown codec 'x'" in seedlm("compress", model, tmp_path / "new", "--set", "*=x").complaint(2)


# --- packed folders --------------------------------------------------------------------------------
INDEX = "model.safetensors.index.json"


def test_info_of_a_folder(seedlm, model, packed_model):
    out, compressed = packed_model
    report = seedlm("info", out, "--json").report()
    assert report == seedlm("info", out / INDEX, "--json").report() | {"file": str(out)}
    assert report["shards"] == compressed["shards"]
    assert report["bytes"] == compressed["output_bytes"]
    assert list(report["tensors"]) == list(compressed["tensors"])
    for name, tensor in report["tensors"].items():
        assert tensor["shape"] == compressed["tensors"][name]["shape"]
        assert tensor["bits_per_weight"] == compressed["tensors"][name]["bits_per_weight"]
    assert report["other"] == {"layers.0.norm.weight": {"dtype": "F16", "shape": [24]}}
    assert report["words_checked"] == 33 * 3 + 40 * 3 + 40 * 3 + 24 * 5
    text = seedlm("info", out)
    assert text.code == 0
    assert "in 2 files" in text.out


@pytest.mark.parametrize("dtype", ["original", "F32"])
def test_decompress_of_a_folder(seedlm, model, packed_model, tmp_path, dtype):
    out, compressed = packed_model
    report = seedlm("decompress", out, tmp_path / "plain", "--dtype", dtype, "--json").report()
    assert set(contents(tmp_path / "plain")) == set(contents(out))
    assert report["files_copied"] == ["config.json", "tokenizer.model"]
    size = 0
    for shard in compressed["shards"]:
        # the folder's files are those that decompress makes of each alone
        seedlm("decompress", out / shard, tmp_path / shard, "--dtype", dtype, "--json").report()
        assert (tmp_path / "plain" / shard).read_bytes() == (tmp_path / shard).read_bytes()
        tensors = TensorFile(tmp_path / shard).tensors
        original = TensorFile(model / shard).tensors
        assert {n: t.shape for n, t in tensors.items()} == {n: t.shape for n, t in original.items()}
        if dtype == "original":
            assert {n: t.dtype for n, t in tensors.items()} == {n: t.dtype for n, t in original.items()}
        size += sum(t.data.nbytes for t in tensors.values())
    index = json.loads((tmp_path / "plain" / INDEX).read_text())
    assert index["weight_map"] == json.loads((model / INDEX).read_text())["weight_map"]
    assert index["metadata"]["total_size"] == size
    # and so it is a model again
    again = seedlm("compress", tmp_path / "plain", tmp_path / "again", "--codec", "fp16", "--json").report()
    assert set(again["tensors"]) == set(compressed["tensors"])


def test_decompress_of_a_folder_is_whole_or_not_at_all(seedlm, tmp_path):
    """The second shard does not fit F16: of the first one nothing stays, and what was there before does."""
    (tmp_path / "in").mkdir()
    shards = {"a.weight": ("model-1.safetensors", 1.0), "b.weight": ("model-2.safetensors", 1e5)}
    for name, (shard, value) in shards.items():
        tensor = RawTensor.from_array(np.full((8, 16), value, np.float32), "F32")
        write_tensors(tmp_path / "in" / shard, {name: tensor}, {})
    index = {"weight_map": {name: shard for name, (shard, _) in shards.items()}}
    (tmp_path / "in" / INDEX).write_text(json.dumps(index))
    seedlm("compress", tmp_path / "in", tmp_path / "packed", "--codec", QUICK, "--json").report()
    out = tmp_path / "plain"
    words = ("decompress", tmp_path / "packed", out, "--dtype")
    assert "too large for F16" in seedlm(*words, "F16").complaint()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "packed"]
    seedlm(*words, "F32", "--json").report()
    before = contents(out)
    assert "too large for F16" in seedlm(*words, "F16").complaint()
    assert contents(out) == before
    seedlm(*words, "BF16", "--json").report()
    assert contents(out).keys() == before.keys()
    assert contents(out) != before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "packed", "plain"]


def test_folder_of_one_packed_file(seedlm, source, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "model.safetensors").write_bytes(source.read_bytes())
    seedlm("compress", tmp_path / "in", tmp_path / "packed", "--codec", QUICK, "--json").report()
    report = seedlm("info", tmp_path / "packed", "--json").report()
    alone = seedlm("info", tmp_path / "packed" / "model.safetensors", "--json").report()
    assert report == alone | {"file": str(tmp_path / "packed")}
    seedlm("decompress", tmp_path / "packed", tmp_path / "plain", "--json").report()
    assert set(contents(tmp_path / "plain")) == {"model.safetensors"}


def test_product_of_a_tensor_in_a_folder(seedlm, packed_model, tmp_path):
    out, compressed = packed_model
    x = np.random.default_rng(SEED).standard_normal(40).astype(np.float16)
    np.save(tmp_path / "x.npy", x)
    name = "layers.1.down.weight"
    results = []
    for path in (out, out / INDEX, out / compressed["tensors"][name]["shard"]):
        y = tmp_path / "y.npy"
        seedlm("reference", path, "--tensor", name, "--x", tmp_path / "x.npy", "--out", y, "--json").report()
        results.append(y.read_bytes())
    assert results[0] == results[1] == results[2]
    complaint = seedlm("sim", out, "--tensor", "nope").complaint()
    assert complaint.startswith(f"{out}: no compressed tensor 'nope' in 2 files: expected one of 4, such as ")


@pytest.mark.parametrize("verb", ["info", "decompress", "reference", "sim", "image"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f, i: (f / "model-00002-of-00002.safetensors").unlink(), "-00002.safetensors' is missing"),
        (lambda f, i: i["weight_map"].update({"w.blocks": "gone.safetensors"}), "'gone.safetensors' is missing"),
        (lambda f, i: i["weight_map"].pop("embed.weight.scales"), "'embed.weight.scales' of model-00001"),
    ],
)
def test_broken_packed_folders(seedlm, packed_model, tmp_path, verb, change, message):
    folder = broken(packed_model[0], tmp_path / "in", change)
    np.save(tmp_path / "x.npy", np.zeros(24, np.float16))
    flags = {
        "info": [],
        "decompress": [tmp_path / "out"],
        "reference": ["--tensor", "embed.weight", "--x", tmp_path / "x.npy", "--out", tmp_path / "y.npy"],
        "sim": ["--tensor", "embed.weight"],
        "image": ["--tensor", "embed.weight", "--out", tmp_path / "out"],
    }[verb]
    complaint = seedlm(verb, folder, *flags).complaint()
    assert complaint.startswith(f"{folder / INDEX}: ")
    assert message in complaint
    assert not (tmp_path / "out").exists()


def test_folders_that_are_not_packed(seedlm, model, packed_model, tmp_path):
    shard = model / "model-00001-of-00002.safetensors"
    assert seedlm("info", model).complaint().startswith(f"{shard}: not a SeedLM packed file")
    assert "found no safetensors file" in seedlm("info", tmp_path).complaint()
    out = packed_model[0]
    assert "is the input" in seedlm("decompress", out, out).complaint()
    (tmp_path / "file").touch()
    assert "needs a folder" in seedlm("decompress", out, tmp_path / "file").complaint()
    assert "cannot write" in seedlm("decompress", out / "model-00001-of-00002.safetensors", tmp_path).complaint()


# --- resuming --------------------------------------------------------------------------------------
UNITS = 24


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    """A file of many small matrices: a unit of work each."""
    rng = np.random.default_rng(SEED + 1)
    path = tmp_path_factory.mktemp("many") / "many.safetensors"
    write_tensors(path, {f"layer.{i}.weight": weights(rng, 60, 200) for i in range(UNITS)})
    return path


RESUMED = ["--codec", "c8p4k10b0r", "--json"]


@pytest.fixture(scope="module")
def whole(many, seedlm, tmp_path_factory) -> tuple[bytes, float]:
    """An uninterrupted run: its bytes and its time."""
    out = tmp_path_factory.mktemp("whole") / "out"
    started = time.perf_counter()
    report = seedlm("compress", many, out, *RESUMED).report()
    assert report["units"] == UNITS
    assert report["units_resumed"] == 0
    return out.read_bytes(), time.perf_counter() - started


@pytest.mark.parametrize(
    ("jobs", "number"),
    [
        (1, signal.SIGKILL),
        (2, signal.SIGINT),
        pytest.param(1, signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(2, signal.SIGKILL, marks=pytest.mark.slow),
    ],
)
def test_killed_at_random_moments(seedlm, many, whole, tmp_path, jobs, number):
    rng = random.Random(SEED + jobs)
    print("seed", SEED + jobs)
    out = tmp_path / "out"
    arguments = ["compress", many, out, *RESUMED, "--jobs", jobs]
    kills = 0
    for _ in range(3):
        process = subprocess.Popen(
            command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment()
        )
        work = started = None
        limit = time.monotonic() + 60
        wanted = rng.randrange(1, 7)  # new units, then a random delay
        while process.poll() is None and time.monotonic() < limit:
            work = next(tmp_path.glob("out.work-*"), None)
            units = len(list(work.glob("[0-9]*.unit"))) if work else 0
            if started is None and work:
                started = units
            if started is not None and units >= started + wanted:
                time.sleep(rng.random() * 0.05)
                break
            time.sleep(0.005)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        if process.returncode == 0:
            break
        kills += 1
        assert process.returncode == (-9 if number == signal.SIGKILL else 130)
        if number == signal.SIGINT:
            assert b"the same command continues" in err
            assert b"Traceback" not in err
        assert not out.exists()
    assert kills > 0, "every run ended before it could be killed"
    report = seedlm(*arguments).report() if not out.exists() else None
    assert out.read_bytes() == whole[0]
    assert report is None or report["units_resumed"] > 0
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def interrupted(many: Path, out: Path, units: int = 3) -> Path:
    """The work folder of a run that was killed after some units."""
    process = subprocess.Popen(
        command("compress", many, out, *RESUMED, "--jobs", 1), stdout=subprocess.DEVNULL, env=environment()
    )
    try:
        limit = time.monotonic() + 120
        while len(list(out.parent.glob("out.work-*/[0-9]*.unit"))) < units:
            assert process.poll() is None, "the run ended too early"
            assert time.monotonic() < limit
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    return next(out.parent.glob("out.work-*"))


def test_damaged_units_are_done_again(seedlm, many, whole, tmp_path):
    out = tmp_path / "out"
    work = interrupted(many, out)
    units = sorted(work.glob("[0-9]*.unit"))
    data = bytearray(units[0].read_bytes())
    data[-1] ^= 1
    units[0].write_bytes(data)
    units[1].write_bytes(b"")
    report = seedlm("compress", many, out, *RESUMED).report()
    assert report["units_resumed"] == len(units) - 2
    assert out.read_bytes() == whole[0]


def test_other_options_and_inputs_do_not_resume(seedlm, many, tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    shutil.copyfile(many, source)
    interrupted(source, out)
    assert seedlm("compress", source, out, *RESUMED, "--encoder", "paper").report()["units_resumed"] == 0
    stat = source.stat()
    data = bytearray(source.read_bytes())
    data[-1] ^= 1  # one bit of one weight, in a file of the same name, size and time
    source.write_bytes(data)
    os.utime(source, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert seedlm("compress", source, out, *RESUMED).report()["units_resumed"] == 0
    assert len(list(tmp_path.glob("out.work-*"))) == 1, "the first run's units are still there"
    assert len(seedlm("compress", source, out, *RESUMED).report()["leftovers"]) == 1


def test_two_runs_on_one_output(seedlm, many, tmp_path):
    out = tmp_path / "out"
    process = subprocess.Popen(
        command("compress", many, out, *RESUMED, "--jobs", 1), stdout=subprocess.DEVNULL, env=environment()
    )
    try:
        while not list(tmp_path.glob("out.work-*/[0-9]*.unit")):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGSTOP)
        for other in ([], ["--encoder", "paper"]):
            complaint = seedlm("compress", many, out, "--codec", RESUMED[1], *other).complaint()
            assert "another run is at work" in complaint
    finally:
        process.kill()
        process.wait()


# --- plan and importance ---------------------------------------------------------------------------
def test_plan_writes_nothing_and_is_right(seedlm, model, packed_model, tmp_path):
    plan = seedlm("compress", model, tmp_path / "out", "--codec", ROWS, "--plan", "--json").report()
    assert not any(tmp_path.iterdir())
    out, done = packed_model
    assert plan["units"] == done["units"]
    assert plan["blocks"] == done["blocks"]
    assert plan["bits_per_weight"] == done["bits_per_weight"]
    assert plan["files_copied"] == done["files_copied"]
    assert set(plan["tensors"]) == set(done["tensors"])
    assert set(plan["copied"]) == set(done["copied"])
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert plan["output_bytes"] == index["metadata"]["total_size"]
    for name, tensor in plan["tensors"].items():
        stored = [t for n, t in TensorFile(out / tensor["shard"]).tensors.items() if n.startswith(f"{name}.")]
        assert tensor["output_bytes"] == sum(t.data.nbytes for t in stored)
        assert tensor["seconds"] > 0
    text = seedlm("compress", model, tmp_path / "out", "--codec", ROWS, "--plan", "--jobs", 3)
    assert text.code == 0
    assert "with 3 processes" in text.out
    assert "layers.1.down.weight" in text.out


def test_importance(seedlm, model, tmp_path):
    rng = np.random.default_rng(SEED)
    a = 10.0 ** rng.uniform(-3, 1, 24)
    write_tensors(tmp_path / "a", {"layers.0.up.weight": RawTensor.from_array(a)})
    file = model / "model-00001-of-00002.safetensors"
    flags = ["--codec", ROWS, "--json"]
    seedlm("compress", file, tmp_path / "plain", *flags).report()
    seedlm("compress", file, tmp_path / "weighted", *flags, "--importance", tmp_path / "a").report()
    plain, weighted = PackedFile(tmp_path / "plain"), PackedFile(tmp_path / "weighted")
    w = TensorFile(file).array("layers.0.up.weight").astype(np.float64)
    error = [(a * (w - f.matrix("layers.0.up.weight").decode(np.float64)) ** 2).sum() for f in (plain, weighted)]
    assert error[1] < 0.8 * error[0]
    expected = compress_matrix(w.astype(np.float16), codec(ROWS), importance=a)
    assert np.array_equal(weighted.matrix("layers.0.up.weight").words, expected.words)
    # the others are as they were
    assert np.array_equal(weighted.matrix("embed.weight").words, plain.matrix("embed.weight").words)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("layers.0.up.weight", np.ones(23), "vector of 24 elements"),
        ("layers.0.up.weight", -np.ones(24), "non-negative"),
        ("layers.0.up.weight", np.full(24, np.nan), "finite"),
        ("layers.0.norm.weight", np.ones(24), "not a 2-D tensor"),
        ("nope", np.ones(24), "not a 2-D tensor"),
    ],
)
def test_wrong_importance(seedlm, model, tmp_path, name, values, message):
    write_tensors(tmp_path / "a", {name: RawTensor.from_array(values)})
    complaint = seedlm("compress", model, tmp_path / "out", "--importance", tmp_path / "a").complaint()
    assert complaint.startswith(f"{tmp_path / 'a'}: {name!r}")
    assert message in complaint


# --- what can be wrong -----------------------------------------------------------------------------
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
def test_weights_that_are_not_finite(seedlm, tmp_path, dtype, value):
    rng = np.random.default_rng(SEED)
    w = rng.standard_normal((300, 4096)).astype(np.float32)  # more than are looked at together
    w[290, 17] = value
    tensors = {"good": weights(rng, 8, 8), "bad.weight": RawTensor.from_array(w, dtype)}
    write_tensors(tmp_path / "in", tensors)
    complaint = seedlm("compress", tmp_path / "in", tmp_path / "out", "--codec", ROWS).complaint()
    assert "'bad.weight'" in complaint
    assert f"the weight {value} in row 290, column 17 is not finite" in complaint
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_seeds_of_another_program(seedlm, tmp_path):
    tensors = {"w": RawTensor.from_array(np.ones((4, 8)), "F16")}
    write_tensors(tmp_path / "in", tensors | {"v.seeds": RawTensor.from_array(np.arange(5, dtype=np.uint16))})
    complaint = seedlm("compress", tmp_path / "in", tmp_path / "out", "--codec", QUICK).complaint()
    assert "seeds of another program (tensor 'v.seeds')" in complaint
    assert "seeds of another program" in seedlm("info", tmp_path / "in").complaint()


def broken(model: Path, folder: Path, change) -> Path:
    """A copy of a folder in which `change(folder, index)` broke something."""
    folder.mkdir()
    for name, data in contents(model).items():
        (folder / name).write_bytes(data)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    change(folder, index)
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f, i: i.pop("weight_map"), "not an index"),
        (lambda f, i: i["weight_map"].update(x="../escape.safetensors"), "same folder"),
        (lambda f, i: i["weight_map"].update(x="model-00001-of-00002.safetensors"), "'x' is not in"),
        (lambda f, i: i["weight_map"].pop("embed.weight"), "'embed.weight' of model-00001"),
        (lambda f, i: (f / "model-00002-of-00002.safetensors").unlink(), "-00002.safetensors' is missing"),
    ],
)
def test_broken_index(seedlm, model, tmp_path, change, message):
    folder = broken(model, tmp_path / "in", change)
    complaint = seedlm("compress", folder, tmp_path / "out").complaint()
    assert complaint.startswith(str(folder))
    assert message in complaint
    assert not (tmp_path / "out").exists()


def test_folders_that_cannot_be(seedlm, model, packed_model, source, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "found no safetensors file" in seedlm("compress", tmp_path / "empty", tmp_path / "out").complaint()
    assert "is the input" in seedlm("compress", model, model).complaint()
    assert "needs a folder" in seedlm("compress", model, source).complaint()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "older.safetensors").write_bytes(b"")
    assert "older.safetensors" in seedlm("compress", model, tmp_path / "out").complaint()
    assert "packed file already" in seedlm("compress", packed_model[0], tmp_path / "new").complaint()
    assert "--cluster" in seedlm("compress", model, tmp_path / "new", "--scheduler", "tcp://x:1").complaint()
