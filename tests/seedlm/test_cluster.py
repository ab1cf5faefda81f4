"""compress on a Dask cluster of this machine: the same bytes, whoever dies."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from seedlm.golden.files.tensors import RawTensor, write_tensors
from tests.seedlm.conftest import SEED, command, environment

TOP = Path(__file__).resolve().parents[2]
CODEC = ["--codec", "c8p4k10b0r", "--json"]
needs_dask = pytest.mark.skipif(find_spec("distributed") is None, reason="distributed is not installed")


@pytest.fixture
def many(tmp_path) -> Path:
    rng = np.random.default_rng(SEED)
    path = tmp_path / "many.safetensors"
    write_tensors(path, {f"w{i}": RawTensor.from_array(rng.normal(0, 0.02, (40, 200)), "F16") for i in range(40)})
    return path


@needs_dask
@pytest.mark.slow
def test_a_worker_that_is_killed_changes_nothing(seedlm, many, tmp_path, monkeypatch):
    from distributed import LocalCluster

    seedlm("compress", many, tmp_path / "here", *CODEC).report()
    monkeypatch.setenv("PYTHONPATH", str(TOP))  # the workers' way to this checkout
    out = tmp_path / "there"
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        arguments = ["compress", many, out, *CODEC, "--cluster", "dask", "--scheduler", cluster.scheduler_address]
        process = subprocess.Popen(
            command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), text=True
        )
        try:
            limit = time.monotonic() + 300
            while len(list(tmp_path.glob("there.work-*/[0-9]*.unit"))) < 5:
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < limit
                time.sleep(0.005)
            pids = [worker.pid for worker in cluster.workers.values()]
            os.kill(pids[0], signal.SIGKILL)
            finished = len(list(tmp_path.glob("there.work-*/[0-9]*.unit")))
            text, errors = process.communicate(timeout=300)
        finally:
            process.kill()
            process.wait()
        assert process.returncode == 0, errors
        assert finished < 40, "killed too late to matter"
        assert out.read_bytes() == (tmp_path / "here").read_bytes()
        assert not list(tmp_path.glob("there.work-*"))
        assert '"status": "ok"' in text


@needs_dask
@pytest.mark.slow
def test_errors_of_a_cluster(seedlm, many, tmp_path):
    complaint = seedlm("compress", many, tmp_path / "out", *CODEC[:2], "--cluster", "dask").complaint()
    assert "expected --scheduler ADDRESS" in complaint


@pytest.mark.skipif(find_spec("distributed") is not None, reason="distributed is installed")
def test_without_distributed(seedlm, many, tmp_path):
    flags = ["--cluster", "dask", "--scheduler", "tcp://127.0.0.1:1"]
    complaint = seedlm("compress", many, tmp_path / "out", *CODEC[:2], *flags).complaint()
    assert "needs the package distributed" in complaint
    assert [p.name for p in tmp_path.iterdir()] == ["many.safetensors"]
