"""The demo as `make demo` runs it, in the common cache."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

import seedlm.demo as demo
from tests.seedlm.conftest import environment


@pytest.mark.slow
def test_demo():
    done = subprocess.run(
        [sys.executable, "-m", "seedlm.demo"], capture_output=True, text=True, timeout=1200, cwd=demo.TOP,
        env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, done
    assert done.stderr == ""
    equal = re.findall(r"(\d+)/(\d+) (?:outputs equal to the reference|tokens equal)", done.stdout)
    assert equal == [("512", "512")] * 2 + [("2048", "2048")] * 2 + [(str(demo.TOKENS),) * 2]
    assert "  outputs equal to the reference, bit for bit   5,120/5,120\n" in done.stdout
    # It ends with the model's words, as they came while it wrote them.
    came = done.stdout.partition("--engine rtl --memory ddr3\n")[2].partition("\n\nseedlm4r, rtl:")[0]
    last = done.stdout.rpartition(" tokens from the simulated accelerator")[2].partition("\n\n")[2]
    shown = last.partition("\nAll files are in")[0]
    assert came.startswith(demo.PROMPT)
    assert len(came) > len(demo.PROMPT)
    assert [line.strip() for line in shown.strip().splitlines()] == [line.strip() for line in came.splitlines()]


def test_differing_tokens_stop(monkeypatch, capsys):
    """A token that differs from the reference's is a failure."""
    reports = iter([{"tokens": [1, 2, 3]}, {"tokens": [1, 2, 4]}])
    monkeypatch.setattr(demo, "command", lambda *words: next(reports))
    with pytest.raises(demo.Stop):
        demo.write("ideal")
    assert capsys.readouterr().out == "2/3 tokens equal to the reference's\n"
