"""70 billion weights on a small machine: what the verbs that read such checkpoints need of memory.

The checkpoint's data are holes (`tests.sparse_model`), so that it takes no disk.
"""

import json
import os
import subprocess

import pytest

from seedlm.golden.files.packed import PackedFile
from seedlm.golden.files.sources import open_packed_source, open_source
from seedlm.project import MODELS
from tests.seedlm.conftest import command, environment
from tests.sparse_model import write_sparse

WEIGHTS = 70_552_387_584  # of the matrices, embedding included
LIMIT = 1 << 30  # bytes that a process may have in memory at any time, pages of files included
SMALL = MODELS["Llama-3-70B"] | {"num_hidden_layers": 2, "hidden_size": 128, "intermediate_size": 256, "vocab_size": 99}


def test_sparse_model(tmp_path):
    """It is read as any other, plain and packed."""
    small = SMALL | {"num_attention_heads": 8}
    write_sparse(tmp_path / "plain", small)
    source = open_source(tmp_path / "plain")
    shapes = {name: tensor.shape for _, name, tensor in source.tensors()}
    assert shapes["model.layers.1.mlp.down_proj.weight"] == (128, 256)
    assert len(shapes) == 1 + 2 * 9 + 2
    write_sparse(tmp_path / "packed", small, "trellis4")
    packed = open_packed_source(tmp_path / "packed")
    assert {name: info.shape for name, info in packed.tensors.items()} == {n: s for n, s in shapes.items() if s[1:]}
    assert packed.matrix("lm_head.weight").rotation.block == 128


def run(*arguments):
    """(report, the most memory that it had): a command that ends well."""
    process = subprocess.Popen(command(*arguments, "--json"), stdout=subprocess.PIPE, text=True, env=environment())
    out = process.stdout.read()
    process.stdout.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return json.loads(out), usage.ru_maxrss * 1024


@pytest.mark.slow
def test_plan(tmp_path):
    shards = write_sparse(tmp_path / "model")
    assert len(shards) == 30
    assert sum(path.stat().st_size for path in shards) > 141 * 10**9
    assert sum(512 * path.stat().st_blocks for path in shards) < 1 << 20
    report, peak = run("compress", tmp_path / "model", tmp_path / "out", "--plan", "--jobs", 2)
    assert peak < LIMIT
    assert report["weights"] == WEIGHTS
    assert (len(report["tensors"]), len(report["shards"])) == (562, 30)
    assert report["output_bytes"] == pytest.approx(WEIGHTS / 2, rel=0.01)
    # Not the time of zeros, which are searched in none: a weight takes a microsecond or two of a processor.
    assert report["seconds"] / WEIGHTS * 2 > 0.2e-6
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_packed(tmp_path):
    """A layer's image, and every word of a shard."""
    shards = write_sparse(tmp_path / "model", packed="trellis4")
    name = "model.layers.40.mlp.down_proj.weight"
    report, peak = run("image", tmp_path / "model", "--tensor", name, "--out", tmp_path / "image")
    assert peak < LIMIT
    assert report["manifest"]["regions"]["weights"]["bytes"] == 8192 * 28672 // 2
    weights = sum(info.shape[0] * info.shape[1] for info in PackedFile(shards[9]).tensors.values())
    report, peak = run("info", shards[9])
    assert peak < LIMIT // 4
    assert report["words_checked"] == weights > 2 * 10**9
