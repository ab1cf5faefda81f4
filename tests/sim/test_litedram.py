"""LiteDRAM behind the accelerator's port: what a bare reader gets, contents, and what is said where it is missing."""

import importlib.util

import numpy as np
import pytest

import seedlm.sim.memories.litedram as litedram
from seedlm.golden.build import Config
from seedlm.golden.errors import SeedLMError
from seedlm.golden.matrix import PackedMatrix
from seedlm.golden.product import product
from seedlm.sim.accelerator import Accelerator
from seedlm.sim.bench_memory import LITEDRAM, LITEDRAM_CASES, Reader, run_case
from seedlm.sim.simulation import SimulationError, build_system
from seedlm.sim.verilator import ToolError

needs_litedram = pytest.mark.skipif(
    not importlib.util.find_spec("litedram"), reason="LiteDRAM is not installed (make litedram)"
)


@needs_litedram
def test_the_same_lines_each_time():
    text = litedram._generate()
    assert sorted(text.splitlines()) == sorted(litedram._generate().splitlines())
    assert text.count("litedram_bank #") == 8
    assert "module litedram_core" in text


@needs_litedram
@pytest.mark.slow
def test_a_bare_reader():
    (case,) = LITEDRAM_CASES
    reading, _ = run_case(case, 60_000)
    assert 100 * reading.efficiency == pytest.approx(case.expected, abs=0.3)


@needs_litedram
@pytest.mark.slow
def test_contents():
    """Over all banks, rows and columns of a stretch of memory."""
    data = np.random.default_rng(1).integers(0, 1 << 32, 64 * 16 * 300, np.uint32)
    reader = Reader(memory=LITEDRAM)
    with reader.simulation as s:
        s.mem_write(0x2345_6000, data)
        reading = reader.read(base=0x2345_6000, bursts=300)
        assert reading.checksum == np.bitwise_xor.reduce(data)
        assert s.counters()["read_beats"] == reading.beats == 300 * 64
        with pytest.raises(SimulationError, match="built with litedram, not with ddr3"):
            s.configure("ideal")


@needs_litedram
@pytest.mark.slow
def test_products():
    rng = np.random.default_rng(2)
    with Accelerator(Config(), memory="litedram", timeout=2_000_000) as device:
        for rows, cols in [(1001, 203), (16, 64), (1, 1)]:
            matrix = PackedMatrix.random(device.config.codec, rows, cols, rng)
            x = rng.standard_normal(cols).astype(np.float16)
            y = device.product(device.load_matrix(matrix), x)
            assert np.array_equal(y.view(np.uint32), product(matrix, x).view(np.uint32))


def test_without_the_packages(monkeypatch):
    monkeypatch.setattr(litedram, "PACKAGES", ("a-package-that-nobody-has",))
    with pytest.raises(ToolError, match="needs the Python package a-package-that-nobody-has: run make litedram"):
        litedram.litedram_verilog()


def test_what_cannot_be_built():
    with pytest.raises(SeedLMError, match="unknown memory 'sram': expected ideal, ddr3, litedram"):
        build_system("", memory="sram")
    with pytest.raises(SeedLMError, match="bus of 512 bits, not 128"):
        build_system("", memory="litedram", bus_bits=128)
