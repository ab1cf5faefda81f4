"""The reference's speed is reported for the bundled model."""

import json
import subprocess
import sys
from pathlib import Path

from seedlm.host.checkpoint import Checkpoint
from tests.seedlm.conftest import environment

MODEL = Path(__file__).parents[2] / "models" / "tiny-python"


def test_report():
    words = ["--codec", "int8", "--prompt-tokens", "9", "--tokens", "2", "--json"]
    done = subprocess.run([sys.executable, "-m", "seedlm.bench_reference", MODEL, *words], capture_output=True,
                          text=True, timeout=120, env=environment())  # fmt: skip
    assert done.returncode == 0, done
    report = json.loads(done.stdout)
    assert (report["prompt_tokens"], report["tokens"]) == (9, 2)
    assert report["tokens_per_second"] > 0
    assert report["decoded_bytes"] == sum(t.shape[0] * t.shape[1] for t in Checkpoint(MODEL).linear.values())
    assert report["peak_bytes"] > report["decoded_bytes"]
    for step in ("decoding", "prompt", "generation"):
        assert report[step]["cpu_seconds"] > 0
