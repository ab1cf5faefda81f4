"""The cache: made once, whole or not at all, and anew when an input changes."""

import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from seedlm.build import verilog
from seedlm.encoder import packed_model
from seedlm.golden.errors import SeedLMError
from seedlm.golden.files import cache
from seedlm.golden.files.cache import cache_folder, cached, digest
from tests.seedlm.conftest import QUICK

TOP = Path(__file__).resolve().parents[2]
NOWHERE = "/dev/null/nothing"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SEEDLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def slow_entry(path):
    with open(path.parent.parent.parent / "made", "a") as f:
        f.write("x")
    time.sleep(0.3)
    (path / "text").write_text("whole")


def use(_):
    return (cached("kind", "name", "key", slow_entry) / "text").read_text()


def test_several_processes_make_an_entry_once(folder):
    cache_folder()
    with multiprocessing.get_context("fork").Pool(4) as pool:
        assert pool.map(use, range(8)) == ["whole"] * 8
    assert (folder.parent / "made").read_text() == "x"
    assert [p.name for p in (folder / "kind").iterdir()] == ["name-key"]


def test_a_failure_leaves_nothing(folder):
    def broken(path):
        (path / "half").write_text("half")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        cached("kind", "name", "key", broken)
    assert list((folder / "kind").iterdir()) == []
    assert use(0) == "whole"


def test_digest_sees_boundaries():
    assert digest("ab", "c") != digest("a", "bc") != digest("abc")
    assert digest("a", 1) == digest(b"a", "1")


def test_designs_are_elaborated_again_only_if_something_changed(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(verilog, "verilog_text", lambda component, name: f"module {name} {component};")
    monkeypatch.setattr(verilog, "_LOADED", time.time() + 3600)  # after all that is written here
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.py").write_text("1")

    def text(parameters, name="top"):
        def make():
            made.append(parameters)
            return parameters

        return verilog.remembered_verilog_text(make, name, parameters=parameters, sources=[source])

    assert text(1) == text(1) == "module top 1;"
    assert text(2) == "module top 2;"
    assert text(1, "other") == "module other 1;"
    assert made == [1, 2, 1]
    (source / "a.py").write_text("2")
    assert text(1) == "module top 1;"
    assert made == [1, 2, 1, 1]
    # A file that is newer than the program that uses it: the component is not what the file says.
    monkeypatch.setattr(verilog, "_LOADED", time.time() - 3600)
    assert text(1) == text(1) == "module top 1;"
    assert made == [1, 2, 1, 1, 1, 1]


# --- the place -------------------------------------------------------------------------------------
@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout, a home directory, and nothing else that names a place."""
    for name in ("SEEDLM_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(cache, "__file__", str(tmp_path / "top" / "golden" / "files" / "cache.py"))
    (tmp_path / "top").mkdir()
    (tmp_path / "top" / "pyproject.toml").write_text("")
    return tmp_path / "top"


def test_place_in_a_checkout(checkout, tmp_path, monkeypatch):
    assert cache_folder() == checkout / ".cache"
    assert (checkout / ".cache").is_dir()
    monkeypatch.setenv("SEEDLM_CACHE", str(tmp_path / "chosen" / "deep"))
    assert cache_folder() == tmp_path / "chosen" / "deep"


@pytest.mark.parametrize("why", ["not a checkout", "not writable"])
def test_place_of_a_user(checkout, tmp_path, monkeypatch, why):
    if why == "not writable":
        (checkout / ".cache").write_text("nothing can be made in here, by root neither")
    else:  # site-packages/seedlm/golden/files/cache.py
        (checkout / "pyproject.toml").unlink()
    assert cache_folder() == tmp_path / "home" / ".cache" / "seedlm"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_folder() == tmp_path / "home" / "Library" / "Caches" / "seedlm"
    for name, used in ((str(tmp_path / "xdg"), tmp_path / "xdg" / "seedlm"), ("relative", cache_folder())):
        monkeypatch.setenv("XDG_CACHE_HOME", name)
        assert cache_folder() == used


def test_a_chosen_place_that_cannot_be(monkeypatch):
    """Another place than the one that was asked for would be a surprise."""
    monkeypatch.setenv("SEEDLM_CACHE", NOWHERE)
    with pytest.raises(SeedLMError, match=rf"^{NOWHERE}: cannot be the cache \(SEEDLM_CACHE\): Not a directory$"):
        cache_folder()


def test_a_cache_that_cannot_be_written(folder):
    assert use(0) == "whole"
    folder.joinpath("other").write_text("")
    with pytest.raises(SeedLMError, match=r"other: cannot write to the cache: .*: SEEDLM_CACHE names another"):
        cached("other", "name", "key", slow_entry)


def test_entries_have_the_permissions_that_the_umask_leaves(folder):
    before = os.umask(0o027)
    try:
        entry = cached("kind", "name", "key", slow_entry)
    finally:
        os.umask(before)
    assert entry.stat().st_mode & 0o777 == 0o750
    assert (entry / "text").stat().st_mode & 0o777 == 0o640


def run(code: str, user: tuple[str, ...] = (), **variables: str) -> tuple[str, str]:
    """What a program of its own says on both outputs, where nothing but `variables` names a place."""
    kept = ("HOME", "SEEDLM_CACHE", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR", "SEEDLM_DEBUG")
    environment = {k: v for k, v in os.environ.items() if k not in kept} | {"PYTHONPATH": str(TOP)} | variables
    done = subprocess.run(
        [*user, sys.executable, "-B", "-c", code], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


INSTALLED = "from seedlm.golden.files import cache; cache.__file__ = '/dev/null/seedlm/golden/files/cache.py';"


def test_without_a_place_it_is_temporary(tmp_path):
    """One for the process and all that it starts, and gone at the end."""
    code = INSTALLED + """
import os, pathlib, subprocess, sys
place = cache.cached("kind", "name", "key", lambda folder: (folder / "text").write_text("x")).parents[1]
assert cache.cache_folder() == place
if os.fork() == 0:
    sys.exit()  # a child that ends takes nothing with it
os.wait()
assert (place / "kind" / "name-key" / "text").exists()
print(place)
print(subprocess.check_output([sys.executable, "-c",
    "from seedlm.golden.files.cache import cache_folder; print(cache_folder())"], text=True), end="")
"""
    out, err = run(code, HOME=NOWHERE, TMPDIR=str(tmp_path))
    first, second = out.splitlines()
    assert first == second
    assert Path(first).parent == tmp_path
    assert list(tmp_path.iterdir()) == []
    assert err == "no place for the cache, so it is temporary and each run works anew: SEEDLM_CACHE names one\n"


@pytest.mark.skipif(find_spec("numba") is None, reason="no numba")
@pytest.mark.parametrize("place", ["chosen", NOWHERE])
def test_compiled_code_is_kept_there_too(tmp_path, place):
    """Beside the sources is no place: they may belong to another user. Without any it is compiled each time."""
    code = """
from seedlm.encoder.seed.kernels import projectors
print(projectors.stats.cache_path)
"""
    out, err = run(code, SEEDLM_CACHE=place if place == NOWHERE else str(tmp_path / place))
    assert err == ""
    assert out == "None\n" if place == NOWHERE else Path(out).parents[1] == tmp_path / "chosen" / "numba"


def another_user() -> tuple[str, ...]:
    """A command that starts others as nobody, who may read all and write nothing of ours."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can be another user, with setpriv")
    caps = [f"--{kind}=-all,+dac_read_search" for kind in ("inh-caps", "ambient-caps", "bounding-set")]
    command = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *caps)
    if subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("setpriv may not change the user here")
    return command


@pytest.mark.parametrize("home", [False, True])
def test_another_user_than_the_installer(tmp_path, home):
    """The tree is read-only for them, HOME is not set or theirs: compression and its numba code work all the same."""
    user = another_user()
    work = tmp_path / "work"
    work.mkdir()
    os.chown(work, 65534, 65534)
    code = f"""
import sys, pathlib
import numpy as np
from seedlm.cli import main
from seedlm.golden.files import cache
from seedlm.golden.files.tensors import RawTensor, write_tensors
assert not cache.writable(pathlib.Path({str(TOP)!r}) / ".cache")
work = pathlib.Path({str(work)!r})
write_tensors(work / "in", {{"w": RawTensor.from_array(np.eye(8, dtype=np.float32))}})
assert main(["compress", str(work / "in"), str(work / "out"), "--codec", {QUICK!r}, "--quiet"]) == 0
print(cache.cache_folder())
"""
    out, err = run(code, user, **({"HOME": str(work)} if home else {}), TMPDIR=str(work))
    if home:
        assert out == f"{work}/.cache/seedlm\n"
        assert err == ""
    else:
        assert out.startswith(f"{work}/seedlm-cache-")
        assert len(err.splitlines()) == 1
        assert "no place for the cache" in err
        assert sorted(p.name for p in work.iterdir()) == ["in", "out"]


def test_an_entry_of_another_user_is_not_damaged(tmp_path, monkeypatch):
    def forbidden(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(packed_model, "_checksum", forbidden)
    (tmp_path / packed_model.CHECKSUM).write_text("")
    with pytest.raises(SeedLMError, match="cannot read: Permission denied: SEEDLM_CACHE names another cache"):
        packed_model._intact(tmp_path)


# --- tools that keep something of their own ----------------------------------------------------------
@pytest.mark.parametrize("home", [False, True])
def test_tools_have_a_place(folder, tmp_path, monkeypatch, home):
    """Yosys fails without one. Where the user has a cache directory, it is that."""
    seen = []
    monkeypatch.setattr(verilog.rtlil, "convert", lambda *_, **__: "text")
    monkeypatch.setattr(verilog.verilog, "_convert_rtlil_text", lambda *_, **__: seen.append(os.environ.copy()) or "")
    monkeypatch.setattr(verilog.rewrite, "rewrite", lambda *_: "")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home") if home else NOWHERE)
    verilog.verilog_text(None, "name")
    assert [variables["XDG_CACHE_HOME"] for variables in seen] == ["" if home else str(folder / "tools")]


def test_the_runtime_of_yosys_takes_that_place(tmp_path):
    if find_spec("wasmtime") is None:
        pytest.skip("Yosys is not WebAssembly here")
    code = """
from seedlm.golden.files.cache import lend_to_tools
lend_to_tools()
import wasmtime
wasmtime.Config().cache = True
"""
    assert run(code, HOME=NOWHERE, SEEDLM_CACHE=str(tmp_path)) == ("", "")
    assert (tmp_path / "tools").is_dir()
