"""The command as a user runs it: a process of its own, on small files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SEED = 20240811
# An 8-bit register: the exhaustive search takes milliseconds instead of seconds.
QUICK = "c8p3k8b4"


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "seedlm", *map(str, arguments)]


def environment(**extra: str) -> dict[str, str]:
    """The environment without a debugging session's variables."""
    return {k: v for k, v in os.environ.items() if k != "SEEDLM_DEBUG"} | extra


class Ran:
    """What a finished command left: exit code and both outputs."""

    def __init__(self, arguments: tuple, **extra: str) -> None:
        settings = {"capture_output": True, "text": True, "timeout": 600}
        done = subprocess.run(command(*arguments), env=environment(**extra), **settings)
        self.arguments = arguments
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    def __repr__(self) -> str:
        return f"seedlm {' '.join(map(str, self.arguments))} -> {self.code}\n{self.out}\n{self.err}"

    def report(self) -> dict:
        """The one JSON object on standard output; fails if there is anything else there, or on standard error."""
        assert self.code == 0, self
        assert self.err == "", self
        return json.loads(self.out)

    def complaint(self, code: int = 1) -> str:
        """The one-line error."""
        assert self.code == code, self
        assert self.out == "", self
        lines = self.err.splitlines()
        assert len(lines) == 1, self
        assert lines[0].startswith("seedlm: error: "), self
        assert "unexpected" not in lines[0], self
        return lines[0].removeprefix("seedlm: error: ")


@pytest.fixture(scope="session")
def seedlm():
    """``seedlm("info", path, ...) -> Ran``."""
    return lambda *arguments, **extra: Ran(arguments, **extra)


def bfloat16(values: np.ndarray) -> np.ndarray:
    """The upper halves of float32 values, as uint16 (truncated)."""
    return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)


def write_safetensors(path: Path, tensors: dict[str, tuple[str, np.ndarray]], metadata: dict | None = None) -> None:
    """A safetensors file written by hand from the format's description, so that BF16 needs no library."""
    header: dict = {"__metadata__": metadata} if metadata else {}
    data = b""
    for name, (dtype, array) in tensors.items():
        raw = np.ascontiguousarray(array).tobytes()
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


@pytest.fixture(scope="session")
def source(tmp_path_factory) -> Path:
    """A model file: F16, F32 and BF16 matrices of odd shapes, a vector, integers, and a 3-D tensor."""
    rng = np.random.default_rng(SEED)

    def normal(*shape: int) -> np.ndarray:
        return (0.02 * rng.standard_normal(shape)).astype(np.float32)

    path = tmp_path_factory.mktemp("source") / "model.safetensors"
    write_safetensors(
        path,
        {
            "half.weight": ("F16", normal(24, 40).astype(np.float16)),
            "single.weight": ("F32", normal(5, 19)),
            "brain.weight": ("BF16", bfloat16(normal(17, 8))),
            "norm.weight": ("F32", normal(40)),
            "steps": ("I64", np.arange(6).reshape(2, 3)),
            "cube": ("F32", normal(2, 3, 4)),
        },
    )
    return path


@pytest.fixture(scope="session")
def packed(source, seedlm, tmp_path_factory) -> Path:
    """`source` compressed with the `QUICK` codec."""
    path = tmp_path_factory.mktemp("packed") / "packed.safetensors"
    seedlm("compress", source, path, "--codec", QUICK, "--json").report()
    return path
