"""The wheel: it brings one import name, and what it installs works from an empty folder.

The packages that seedlm needs are those of this environment, so nothing is downloaded.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

ROOT = Path(__file__).resolve().parents[2]
SUFFIXES = {".py", ".sv", ".cpp", ".h", ".tcl", ".in", ".json"}

pytestmark = pytest.mark.skipif(
    not (importlib.util.find_spec("hatchling") and importlib.util.find_spec("pip")),
    reason="building a wheel without downloads needs hatchling and pip in this environment",
)

# Imports the modules that are named; prints the packages of other projects that some of them miss, and where seedlm is.
IMPORT_ALL = """
import importlib, json, sys
import seedlm
missing = []
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name.split(".")[0] == "seedlm":
            raise
        missing.append(error.name)
print(json.dumps({"file": seedlm.__file__, "missing": missing}))
"""


def run(*command: object, **options: object) -> str:
    """Standard output of a command that has to succeed."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=600, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", folder, ROOT)
    (path,) = folder.glob("*.whl")
    return path


class Installed:
    """The wheel in an environment of its own, used from an empty folder."""

    def __init__(self, wheel: Path, folder: Path) -> None:
        self.venv, self.cwd = folder / "venv", folder / "empty"
        run(sys.executable, "-m", "venv", "--without-pip", self.venv)
        self.site = Path(sysconfig.get_path("purelib", "venv", {"base": str(self.venv)}))
        python = self.venv / "bin" / "python"
        run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel)
        # A plain path: the links of editable installs that are there do not count.
        (self.site / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n")
        self.cwd.mkdir()
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "SEEDLM"))}
        self.environment = kept | {"SEEDLM_CACHE": str(folder / "cache"), "HOME": str(folder)}

    def python(self, *words: object) -> str:
        return run(self.venv / "bin" / "python", *words, cwd=self.cwd, env=self.environment)

    def seedlm(self, *words: object) -> str:
        return run(self.venv / "bin" / "seedlm", *words, cwd=self.cwd, env=self.environment)


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Installed:
    return Installed(wheel, tmp_path_factory.mktemp("installed"))


def test_one_import_name(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name.partition("/")[0] for name in archive.namelist()}
    version = wheel.name.split("-")[1]
    assert names == {"seedlm", f"seedlm-{version}.dist-info"}


def test_every_file_of_the_folders_is_there(wheel):
    """Sources that are not Python too: models of the memory, harness, Tcl, templates of constraints."""
    with zipfile.ZipFile(wheel) as archive:
        found = set(archive.namelist())
    folders = ("golden", "encoder", "hdl", "sim", "build", "host", "constraints")
    sources = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in SUFFIXES]
    assert {path.suffix for path in sources} == SUFFIXES
    assert {f"seedlm/{path.relative_to(ROOT).as_posix()}" for path in sources} - found == set()


def test_every_module_can_be_imported(wheel, installed):
    with zipfile.ZipFile(wheel) as archive:
        files = [Path(name).with_suffix("") for name in archive.namelist() if name.endswith(".py")]
    names = [".".join(path.parts) for path in files if path.name not in ("__init__", "__main__")]
    assert len(names) > 100
    report = json.loads(installed.python("-c", IMPORT_ALL, *names))
    assert Path(report["file"]).is_relative_to(installed.site)
    assert set(report["missing"]) <= {"amaranth_boards", "distributed", "litedram", "matplotlib", "tokenizers"}


def test_the_command(installed):
    from seedlm import __version__

    assert (installed.venv / "bin" / "seedlm").read_text().startswith(f"#!{installed.venv}")
    assert installed.seedlm("--version") == f"seedlm {__version__}\n"
    assert "--part" in installed.seedlm("vivado", "--help")
    weights = np.random.default_rng(1).standard_normal((3, 16)).astype(np.float32)
    save_file({"a.weight": weights}, installed.cwd / "model.safetensors")
    installed.seedlm("compress", "model.safetensors", "packed.safetensors", "--codec", "int8", "--quiet")
    info = json.loads(installed.seedlm("info", "packed.safetensors", "--json"))
    assert "a.weight" in json.dumps(info)
    installed.seedlm("verilog", "--out", "rtl", "--codec", "c4p2k6b3", "--lanes", "2", "--bus-bits", "1024",
                     "--max-cols", "64", "--quiet")  # fmt: skip
    assert "module SeedLMAccelerator" in (installed.cwd / "rtl" / "seedlm_accelerator.v").read_text()
