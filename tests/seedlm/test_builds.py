"""The options that choose a build: codecs, presets, sizes."""

from __future__ import annotations

import argparse
import json

import pytest

from seedlm.arguments import add_build_arguments, build_config
from seedlm.golden.build import Config
from seedlm.golden.codecs import CODECS
from seedlm.golden.errors import SeedLMError
from seedlm.golden.presets import PRESETS


def build(*words: str) -> Config:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_build_arguments(parser)
    return build_config(parser.parse_args(words))


def test_codecs_and_presets():
    assert build() == Config()
    assert build("--codec", "fp16", "--lanes", "4") == Config(codec=CODECS["fp16"], lanes=4)
    two = build("--codec", "trellis4", "--codec", "fp16")
    assert two == Config(codec=CODECS["trellis4"], more=(CODECS["fp16"],))
    assert build("--preset", "paper") == PRESETS["paper"]
    tiny = build("--preset", "tiny", "--bus-bits", "512", "--lanes", "8")
    assert (tiny.name, tiny.lanes, tiny.bus_bits, tiny.max_cols) == ("trellis4+fp16", 8, 512, 2048)
    other = build("--preset", "tiny", "--codec", "trellis2")
    assert (other.name, other.lanes, other.group) == ("trellis2", 4, 16)
    with pytest.raises(SeedLMError, match="is in this build already"):
        build("--codec", "fp16", "--codec", "fp16")


def test_an_unknown_preset(seedlm):
    ran = seedlm("verilog", "--out", "nowhere", "--preset", "large")
    assert ran.code == 2
    assert "unknown preset 'large': expected tiny, paper, universal" in ran.err


def test_verilog_of_several_codecs(seedlm, tmp_path):
    report = seedlm("verilog", "--preset", "tiny", "--out", tmp_path, "--json").report()
    description = json.loads((tmp_path / "seedlm_accelerator.json").read_text())
    assert report["description"] == description
    assert [entry["name"] for entry in description["more_codecs"]] == ["fp16"]
