"""The cache: made once, whole or not at all, and anew when an input changes."""

import multiprocessing
import time

import pytest

from seedlm.build import verilog
from seedlm.golden.files.cache import cache_folder, cached, digest


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
