"""The formula for the cycles of a product, against the RTL on the ideal memory: equal, everywhere it answers."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest

from seedlm.golden.build import Config
from seedlm.golden.codecs import CODECS, codec
from seedlm.golden.errors import SeedLMError
from seedlm.host.regions import Allocator, ProductRegions, region_sizes
from seedlm.sim.accelerator import Accelerator
from seedlm.sim.cycles import product_cycles
from seedlm.sim.measure import Job, run
from seedlm.sim.memories import MEMORIES

DOCS = Path(__file__).resolve().parents[2] / "docs"
SMALL = {"lanes": 4, "bus_bits": 128, "max_cols": 2048, "burst_beats": 32, "queue_depth": 8}
BUILDS = {
    "small": SMALL,
    "default": {},
    "half": {"lanes": 8, "bus_bits": 256, "max_cols": 4096},
    "two steps to a beat": {"lanes": 8, "max_cols": 4096},
}
FAST = [("seedlm4", "small"), ("seedlm3r", "small"), ("trellis4", "small")]
ANSWERED = [name for name, kind in CODECS.items() if not kind.header_steps]
SLOW = [
    *((name, build) for name in ANSWERED for build in ("small", "default") if (name, build) not in FAST),
    ("seedlm3r", "half"), ("fp16", "half"), ("seedlm4", "two steps to a beat"),
]  # fmt: skip
CASES = [*FAST, *(pytest.param(case, marks=pytest.mark.slow) for case in SLOW)]
LARGEST = 6_000  # beats of weights


@pytest.fixture(scope="module")
def rng():
    seed = int(os.environ.get("SEEDLM_TEST_SEED", random.randrange(1 << 31)))
    print(f"rerun with SEEDLM_TEST_SEED={seed}")
    return random.Random(seed)


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def device(request):
    name, build = request.param
    with Accelerator(Config(codec=codec(name), **BUILDS[build]), memory="ideal", timeout=100_000) as device:
        yield device


def measured(device, regions):
    device.reset()
    return run(device, [Job(regions)]).cycles


def shapes(config, rng, count):
    """Shapes with a formula, of all sizes alike."""
    while count:
        rows, cols = (int(2 ** rng.uniform(0, 12.5)) for _ in range(2))
        fits = cols <= config.max_cols and config.image_beats(rows, cols) <= LARGEST
        if (
            fits
            and config.result_beats(rows) <= config.burst_beats
            and config.activation_beats(cols) <= config.activation_fifo_beats
        ):
            count -= 1
            yield rows, cols


def scattered(config, rows, cols, rng):
    """Regions in any order and with gaps, so that their ends meet in the same banks and rows, or do not."""
    allocate = Allocator(0, 1 << config.addr_bits)
    placed = {}
    for name, size in rng.sample(sorted(region_sizes(config, rows, cols).items()), 4):
        allocate(4096 * rng.choice([0, 0, 0, 1, 2, 3, 15, 16]))
        placed[name] = allocate(size)
    return ProductRegions(rows=rows, cols=cols, **placed)


def test_every_small_shape(device):
    """Rows around the lanes and the beats of results, columns from one weight to where the memory is the limit."""
    config = device.config
    c, lanes = config.codec.step_columns, config.lanes
    rows = {1, 2, lanes - 1, lanes, lanes + 1, lanes + 2, lanes + 5, 2 * lanes - 1, 3 * lanes, 5 * lanes + 3}
    cols = {1, c, c + 1, lanes * c, lanes * c + 1, (lanes + 8) * c, 2 * lanes * c, 3 * lanes * c, 40 * c}
    for n in sorted(rows):
        for k in sorted(cols):
            regions = ProductRegions.place(config, n, k, Allocator(0, 1 << config.addr_bits))
            assert product_cycles(config, regions) == measured(device, regions), (n, k)


def test_any_shape_anywhere(device, rng):
    config = device.config
    for rows, cols in shapes(config, rng, 60):
        regions = scattered(config, rows, cols, rng)
        assert product_cycles(config, regions) == measured(device, regions), regions


def test_the_largest_with_a_formula(device):
    """All results in one burst; all activations in their buffer."""
    config = device.config
    most_cols = min(config.max_cols, config.activation_fifo_beats * config.activations_per_beat)
    for rows, cols in ((config.burst_beats * config.results_per_beat, 100), (config.lanes + 1, most_cols)):
        regions = ProductRegions.place(config, rows, cols, Allocator(0, 1 << config.addr_bits))
        assert product_cycles(config, regions) == measured(device, regions), (rows, cols)


def test_results_between_the_weights(device, rng):
    """So many rows that whole bursts of results are written while weights are read."""
    config = device.config
    if config.row_scales or config.burst_beats * config.results_per_beat < 512:
        pytest.skip("this build has no formula for more results than a burst")
    c, lanes = config.codec.step_columns, config.lanes
    for _ in range(12):
        rows = config.burst_beats * config.results_per_beat + rng.randrange(1, 3000)
        cols = rng.randrange(lanes * c, 4 * lanes * c)
        regions = scattered(config, rows, cols, rng)
        assert product_cycles(config, regions) == measured(device, regions), regions


def test_equal_to_the_published_benchmark():
    """Every row of docs/benchmarks on the ideal memory that it answers for."""
    answered = 0
    for row in json.loads((DOCS / "benchmarks" / "bench.json").read_text())["rows"]:
        config = Config(codec=codec(row["codec"]))
        regions = ProductRegions.place(config, row["rows"], row["cols"], Allocator(0, 1 << config.addr_bits))
        if row["memory"] == "ideal" and row["cols"] <= 4096 and (row["rows"] <= 1024 or not config.row_scales):
            assert product_cycles(config, regions) == row["cycles"], row
            answered += 1
    assert answered >= 20


@pytest.mark.parametrize(
    ("name", "rows", "cols", "memory", "message"),
    [
        ("seedlm4r", 1025, 4096, "ideal", "1025 x 4096 weights: 65 beats of row scales, and it ends at 64"),
        ("seedlm4", 1025, 64, "ideal", "1025 x 64 weights: 65 beats of results, and it ends at 64"),
        ("seedlm4", 16, 4097, "ideal", "129 beats of activations, and it ends at 128"),
        ("mxfp4", 16, 64, "ideal", "codec mxfp4: its rows have steps without weights"),
        ("seedlm4", 16, 64, "ddr3", "on the ideal memory only, not on ddr3"),
        ("seedlm4", 16, 64, "litedram", "on the ideal memory only, not on litedram"),
    ],
)
def test_refused_where_it_would_be_wrong(name, rows, cols, memory, message):
    config = Config(codec=codec(name))
    regions = ProductRegions.place(config, rows, cols, Allocator(0, 1 << 34))
    with pytest.raises(SeedLMError, match=message):
        product_cycles(config, regions, MEMORIES[memory])
