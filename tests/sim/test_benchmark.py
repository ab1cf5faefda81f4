"""The benchmark's random matrices, its measurements and its checks, on a small accelerator."""

import numpy as np
import pytest

import seedlm.sim.benchmark
from seedlm.golden.build import Config
from seedlm.golden.codecs import codec
from seedlm.golden.images import weight_image
from seedlm.hdl.registers import CATEGORIES
from seedlm.sim.accelerator import Accelerator
from seedlm.sim.benchmark import CHECK_ALL, SAMPLE, RandomMatrix, Readers, measure, record, sample
from seedlm.sim.measure import product_beats

SMALL = {"lanes": 4, "bus_bits": 128, "max_cols": 2048, "burst_beats": 32, "queue_depth": 8}
SEED = 5


def image(matrix):
    parts = list(matrix.image())
    offsets = np.cumsum([0, *(part.size for _, part in parts)])
    assert [offset for offset, _ in parts] == offsets[:-1].tolist()
    assert offsets[-1] == matrix.image_bytes
    return np.concatenate([part for _, part in parts])


@pytest.mark.parametrize("name", ["seedlm4", "seedlm3", "seedlm4r", "seedlm3r", "fp16", "c8p3k15b4"])
@pytest.mark.parametrize(("lanes", "rows", "cols"), [(4, 64, 130), (1, 8, 24), (16, 48, 8), (16, 512, 1000)])
def test_the_image_is_that_of_the_matrix(name, lanes, rows, cols, monkeypatch):
    """Also where a row group ends inside of a byte, and over many pieces."""
    monkeypatch.setattr(seedlm.sim.benchmark, "PIECE_BYTES", 3000)
    config = Config(codec=codec(name), **{**SMALL, "lanes": lanes})
    random = RandomMatrix(config, rows, cols, SEED)
    matrix = random.matrix(np.arange(rows))
    assert matrix.shape == (rows, cols)
    assert len(np.unique(matrix.words)) > min(matrix.words.size, 1 << 16) * 0.5
    assert np.array_equal(image(random), weight_image(config, matrix))
    assert (matrix.scales is not None) == config.codec.row_scales
    assert np.isfinite(matrix.decode()).all()
    # Some rows alone are the same rows.
    some = np.unique(np.random.default_rng(SEED).integers(0, rows, rows // 3))
    part = random.matrix(some)
    assert np.array_equal(part.words, matrix.words[some])
    if matrix.scales is not None:
        assert np.array_equal(part.scales, matrix.scales[some])


def test_sample():
    assert np.array_equal(sample(4096, 4096, SEED), np.arange(4096))
    rows = 4097
    assert rows * 4096 > CHECK_ALL
    chosen = sample(rows, 4096, SEED)
    assert SAMPLE <= chosen.size <= SAMPLE + 2
    assert chosen[0] == 0
    assert chosen[-1] == rows - 1
    assert (np.diff(chosen) > 0).all()
    assert not np.array_equal(chosen, sample(rows, 4096, SEED + 1))


@pytest.fixture(scope="module", params=["seedlm3r", pytest.param("seedlm4", marks=pytest.mark.slow)])
def device(request):
    with Accelerator(Config(codec=codec(request.param), **SMALL), memory="ideal", timeout=2_000_000) as device:
        yield device


@pytest.mark.parametrize(("rows", "cols", "products"), [(33, 100, 1), (100, 33, 5)])
def test_measure(device, rows, cols, products):
    moved = []
    m = measure(device, rows, cols, seed=SEED, products=products, advance=moved.append)
    assert (m.checked, m.equal) == (products * rows, products * rows)
    assert m.data_beats == sum(moved) == products * product_beats(device.config, rows, cols)
    assert sum(m.counters[name] for name in CATEGORIES) == m.cycles
    assert m.data_beats < m.cycles <= m.simulated
    row = record(m, reader=0.5)
    assert row["efficiency"] == m.data_beats / m.cycles
    assert row["relative_efficiency"] == 2 * row["efficiency"]
    assert (row["rows"], row["cols"], row["codec"]) == (rows, cols, device.config.codec.name)
    assert row["microseconds"] == pytest.approx(m.cycles / 200)
    assert row["gigabytes_per_second"] == pytest.approx(16 * m.data_beats / m.cycles * 0.2)
    # The next one finds the memory as free as before.
    with device.scratch():
        assert device.allocate(1) == 0


def test_a_wrong_bit_is_seen(device, monkeypatch):
    def wrong(matrix, x, group):
        y = golden(matrix, x, group=group)
        y.view(np.uint32)[7] ^= 1
        return y

    golden = seedlm.sim.benchmark.product
    monkeypatch.setattr(seedlm.sim.benchmark, "product", wrong)
    m = measure(device, 20, 40, seed=SEED)
    assert (m.checked, m.equal) == (20, 19)


def test_a_wrong_weight_is_seen(device, monkeypatch):
    """Image and reference are made apart: a byte that differs shows in its row."""

    def image(self):
        for offset, piece in parts(self):
            yield offset, piece ^ np.uint8(0x80) if offset == 0 else piece

    parts = RandomMatrix.image
    monkeypatch.setattr(RandomMatrix, "image", image)
    m = measure(device, 20, 40, seed=SEED)
    assert m.equal < m.checked == 20


def test_readers_run_once(monkeypatch):
    readers = Readers(bus_bits=128, burst_beats=32)
    first = readers.efficiency("ideal", 1000)
    assert 0.9 < first < 1
    monkeypatch.setattr(seedlm.sim.benchmark, "Reader", None)
    assert readers.efficiency("ideal", 1001) == first
