"""The emitted Verilog in Icarus Verilog, which knows X, in both language modes; and what its text may not hold."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from seedlm.build.bringup import write_images
from seedlm.build.rewrite import modules
from seedlm.build.verilog import TOP, accelerator_verilog
from seedlm.golden.build import Config
from seedlm.golden.codecs import codec
from seedlm.golden.matrix import PackedMatrix
from seedlm.hdl.registers import register

TESTBENCH = Path(__file__).with_name("smoke.v")
SEED = 20241107
PRODUCTS = 2
MEMORY_BYTES = 1 << 15

needs_icarus = pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus Verilog (iverilog) is not installed")


def config(codec_name: str, lanes: int, bus_bits: int = 128, **more: int) -> Config:
    """A small build: an elaboration takes seconds."""
    return Config(codec=codec(codec_name), lanes=lanes, bus_bits=bus_bits, max_cols=64, queue_depth=2, **more)


CONFIGS = {
    "custom": config("c4p2k6b3", 2),
    "row-scales": config("c4p2k6b0r", 4),
    "fp16": config("fp16", 2),
    "int8": config("int8", 3),
}


class Smoke:
    """A product with its memory, run by Icarus in `folder`."""

    def __init__(self, build: Config, folder: Path) -> None:
        rng = np.random.default_rng(SEED)
        self.config, self.folder = build, folder
        rows, cols = 3 * build.lanes + 1, 21
        matrix = PackedMatrix.random(build.codec, rows, cols, rng)
        x = rng.standard_normal(cols).astype(np.float16)
        self.manifest = write_images(folder, build, matrix, x)
        self.regions = {name: (int(r["address"], 16), (folder / r["file"]).read_bytes())
                        for name, r in self.manifest["regions"].items()}  # fmt: skip
        memory = bytearray(b"\xa5" * MEMORY_BYTES)
        for name, (address, data) in self.regions.items():
            if name != "results":
                memory[address : address + len(data)] = data
        self.before = bytes(memory)
        (folder / "memory.hex").write_text("\n".join(f"{byte:02x}" for byte in memory))
        writes = [f"{int(w['offset'], 16):03x}{int(w['value'], 16):08x}" for w in self.manifest["registers"]]
        (folder / "writes.hex").write_text("\n".join(writes))
        self.macros = {
            "BUS_BITS": build.bus_bits, "ADDR_BITS": build.addr_bits, "BYTES": MEMORY_BYTES, "WRITES": len(writes),
            "PRODUCTS": PRODUCTS, "LIMIT": 50_000, "SEED": SEED, "COMPLETED": register("COMPLETED").offset,
            "ERROR": register("ERROR").offset,
        }  # fmt: skip

    def run(self, verilog: str, mode: str, stall: int) -> str:
        """The testbench's last words."""
        (self.folder / "dut.v").write_text(verilog)
        macros = [f"-D{name}={value}" for name, value in {**self.macros, "STALL": stall}.items()]
        for command in (["iverilog", f"-g{mode}", *macros, "-o", "smoke.vvp", str(TESTBENCH), "dut.v"],
                        ["vvp", "-n", "smoke.vvp"]):  # fmt: skip
            done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip().splitlines()[-1]

    def check(self, said: str) -> None:
        """Right results, each beat once, and nothing else written."""
        beats = {name: -(-len(data) // self.config.beat_bytes) for name, (_, data) in self.regions.items()}
        written = PRODUCTS * beats.pop("results")
        read = PRODUCTS * sum(beats.values())
        assert said == f"completed {PRODUCTS} error 0 read_beats {read} write_beats {written}", f"seed {SEED}"
        text = re.sub(r"//.*", "", (self.folder / "after.hex").read_text())
        after = bytes(int(word, 16) for word in text.split())
        address, expected = self.regions["results"]
        end = address + -(-len(expected) // self.config.beat_bytes) * self.config.beat_bytes
        assert after[address : address + len(expected)] == expected
        assert after[:address] + after[end:] == self.before[:address] + self.before[end:]


@needs_icarus
@pytest.mark.parametrize("stall", [0, 100])
@pytest.mark.parametrize("mode", ["2005", "2012"])
@pytest.mark.parametrize("name", CONFIGS)
def test_two_products_in_icarus(name, mode, stall, tmp_path):
    smoke = Smoke(CONFIGS[name], tmp_path)
    smoke.check(smoke.run(accelerator_verilog(CONFIGS[name]), mode, stall))


TEXTS = CONFIGS | {
    "wide": config("seedlm3r", 5, bus_bits=512, segment_bits=20),
    "one-lane": config("c1p1k2b0", 1, bus_bits=256, max_rows=1),
}


@pytest.mark.parametrize("name", TEXTS)
def test_plain_text(name):
    text = accelerator_verilog(TEXTS[name])
    assert re.findall(r".*\\.*", text) == []  # escaped names
    assert re.findall(r".*\[-1:0\].*", text) == []  # wires of no bits
    blocks = len(re.findall(r"^  always @\*", text, re.MULTILINE))
    assert blocks == text.count("    if (time_zero) begin end\n") > 0
    assert text.count("  initial time_zero <= 1'h1;\n") == text.count("  reg time_zero;") > 0
    found = modules(text)
    assert [m.name for m in found].count(TOP) == 1
    assert {part for m in found for part, _ in m.instances} == {m.name for m in found} - {TOP}
