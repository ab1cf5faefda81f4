"""The regions of a product: sizes, places, and the registers that describe it."""

import numpy as np
import pytest

from seedlm.golden.build import Config
from seedlm.golden.codecs import codec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.images import activation_image, weight_image
from seedlm.golden.matrix import PackedMatrix
from seedlm.hdl.registers import REGISTERS, register
from seedlm.host.regions import PAGE, Allocator, ProductRegions, region_sizes

BUILDS = [("seedlm4", 16, 512), ("seedlm3r", 5, 256), ("fp16", 4, 128)]


@pytest.mark.parametrize(("name", "lanes", "bus_bits"), BUILDS)
def test_sizes_are_those_of_the_images(name, lanes, bus_bits):
    config = Config(codec=codec(name), lanes=lanes, bus_bits=bus_bits, burst_beats=32)
    for rows, cols in ((1, 1), (37, 100), (16, 2048)):
        sizes = region_sizes(config, rows, cols)
        matrix = PackedMatrix.random(config.codec, rows, cols, np.random.default_rng(0))
        assert sizes["weights"] == weight_image(config, matrix).size
        assert sizes["activations"] == activation_image(config, np.zeros(cols, np.float16)).size
        assert sizes["results"] == -(-4 * rows // config.beat_bytes) * config.beat_bytes
        assert sizes["scales"] == (0 if matrix.scales is None else sizes["results"])


@pytest.mark.parametrize(("name", "lanes", "bus_bits"), BUILDS)
def test_regions_are_apart(name, lanes, bus_bits):
    config = Config(codec=codec(name), lanes=lanes, bus_bits=bus_bits, burst_beats=32)
    allocate = Allocator(5000, 1 << 21)
    products = [ProductRegions.place(config, rows, 300, allocate) for rows in (1500, 3)]
    products.append(ProductRegions.place(config, 3, 300, allocate, weights=0, scales=0, activations=PAGE))
    assert (products[2].weights, products[2].scales, products[2].activations) == (0, 0, PAGE)
    end = 5000
    for regions in products[:2]:
        for region, size in region_sizes(config, regions.rows, 300).items():
            if size:
                address = getattr(regions, region)
                assert address % PAGE == 0
                assert end <= address < end + PAGE
                end = address + size
    assert end <= products[2].results < end + PAGE
    with pytest.raises(SeedLMError, match="bytes left, not 2097152"):
        allocate(1 << 21)


def test_words():
    """Every register from the first address to the flags, in order."""
    regions = ProductRegions(
        rows=5, cols=9, weights=0x1_2345_6000, activations=0x7000, results=0x8_0000_0000, scales=0xFFFF_F000
    )
    words = regions.words(scale=0.1, same=True)
    described = [r.name for r in REGISTERS if register("WEIGHTS_LO").offset <= r.offset <= register("FLAGS").offset]
    assert list(words) == described
    assert list(words.values()) == [0x2345_6000, 1, 0x7000, 0, 0, 8, 0xFFFF_F000, 0, 5, 9, 0x3DCCCCCD, 1]
    plain = ProductRegions(rows=5, cols=9, weights=0, activations=0, results=0).words()
    assert (plain["SCALE"], plain["FLAGS"], plain["SCALES_LO"]) == (0x3F800000, 0, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": -1}, "address of the weights must have 64 bits, not be -0x1"),
        ({"results": 1 << 64}, "address of the results must have 64 bits, not be 0x1"),
        ({"rows": 1 << 32}, "rows must have 32 bits, not be 4294967296"),
        ({"cols": -1}, "cols must have 32 bits, not be -1"),
    ],
)
def test_what_no_register_holds(change, message):
    regions = ProductRegions(**{"rows": 1, "cols": 1, "weights": 0, "activations": 0, "results": 0} | change)
    with pytest.raises(SeedLMError, match=message):
        regions.words()
