"""Every build that `Config` accepts can be made and computes; every one that it refuses is told the wrong value."""

from __future__ import annotations

import random
import re
import signal
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from amaranth.back import rtlil

from seedlm.build.verilog import TOP
from seedlm.golden.build import Config
from seedlm.golden.codecs import CODECS, codec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.matrix import PackedMatrix
from seedlm.golden.product import product
from seedlm.hdl.top import SeedLMAccelerator
from seedlm.sim.accelerator import Accelerator

SECONDS = 300  # an elaboration that takes longer hangs
CYCLES = 100_000  # that a product of this size may take
FIFOS = [f"{name}_fifo_beats" for name in ("weight", "activation", "scale", "result")]

REFUSED = [
    ({"lanes": 0}, "lanes must be 1 to 64, not 0"),
    ({"lanes": 65}, "lanes must be 1 to 64, not 65"),
    ({"bus_bits": 64}, "bus width must be .* not 64"),
    ({"addr_bits": 12}, "address width must be .* not 12"),
    ({"max_cols": 63}, "max_cols must be .* not 63"),
    ({"max_rows": 0}, "max_rows must be .* not 0"),
    ({"burst_beats": 0}, "burst length must be .* not 0"),
    ({"burst_beats": 48}, "burst length must be a power of two, not 48"),
    ({"burst_beats": 64, "bus_bits": 1024}, "a burst of 64 beats of 128 bytes crosses 4 KiB"),
    *[({name: 63}, f"{name} must hold a burst of 64 beats, not 63") for name in FIFOS],
    ({"scale_fifo_beats": 1, "burst_beats": 1}, "scale_fifo_beats must be at least 2 .* not 1"),
    ({"scale_fifo_beats": 16, "burst_beats": 1, "lanes": 64, "bus_bits": 128}, "must be at least 17 for 64 .* not 16"),
    ({"result_fifo_beats": 2, "burst_beats": 1}, "result_fifo_beats must be at least 3 .* not 2"),
    ({"result_fifo_beats": 64, "burst_beats": 64, "lanes": 64, "bus_bits": 128}, None),
    ({"queue_depth": 1}, "queue depth must be .* not 1"),
    ({"segment_bits": 49}, "accumulator segments must have .* not 49"),
    ({"codec": codec("c8p8k24b0")}, "a weight of codec c8p8k24b0 has 31 bits"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "words"), REFUSED, ids=lambda value: str(value))
def test_refused_with_the_value(changes, words):
    if words is None:  # just inside
        Config(**changes)
        return
    with pytest.raises(SeedLMError, match=words) as error:
        Config(**changes)
    assert "\n" not in str(error.value)


def test_the_default_burst_fits_the_bus():
    assert [Config(bus_bits=bits).burst_beats for bits in (128, 256, 512, 1024)] == [64, 64, 64, 32]


def draw(rng: random.Random, lanes: int) -> dict:
    """Parameters of a build of up to `lanes` lanes, corners more often than the rest; not all of them are accepted."""
    custom = (f"c{rng.randint(1, 16)}p{rng.randint(1, 5)}k{rng.randint(5, 24)}b{rng.randint(0, 4)}"
              f"{rng.choice(['', 'r'])}")  # fmt: skip
    burst = rng.choice([1, 2, 4, 8, 16, 64, 256])
    return {
        "codec": codec(rng.choice([custom, *CODECS])),
        "lanes": rng.choice([1, 2, 3, rng.randint(1, lanes), lanes]),
        "bus_bits": rng.choice([128, 256, 512, 1024]),
        "addr_bits": rng.choice([16, 20, 34, 64]),
        "max_cols": rng.choice([64, 65, 100, 128, 1000, 65536]),
        "max_rows": rng.choice([1, 2, 15, 16, 17, 1 << 20, 1 << 24]),
        "burst_beats": rng.choice([None, burst, burst]),
        **{name: rng.choice([burst, burst + 1, 2 * burst, rng.randint(1, 300)]) for name in FIFOS},
        "queue_depth": rng.choice([2, 3, 16, 256]),
        "segment_bits": rng.choice([8, 34, 48, rng.randint(8, 48)]),
    }


def accepted(seed: int, lanes: int) -> Config:
    """The first build drawn from `seed` that is accepted; the refusals on the way name a value that was drawn."""
    rng = random.Random(seed)
    while True:
        values = draw(rng, lanes)
        try:
            return Config(**values)
        except SeedLMError as error:
            message = str(error)
        assert set(re.findall(r"\w+", message)) & {str(value) for value in values.values()}, (values, message)


@contextmanager
def bounded(seconds: int):
    """Ends what it wraps after `seconds`."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"not done within {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def many(fast: int, slow: int) -> list:
    """Seeds: the first few for every run of the tests, more for the slow ones."""
    return [*range(fast), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(fast, slow))]


@pytest.mark.parametrize("seed", many(6, 100))
def test_what_is_accepted_elaborates(seed):
    config = accepted(seed, lanes=4 if seed < 50 else 64)
    print(config)
    with bounded(SECONDS):
        text = rtlil.convert(SeedLMAccelerator(config=config), name=TOP, emit_src=False)
    assert f"module \\{TOP}\n" in text


def tight(lanes: int, bus_bits: int, name: str, **more: int) -> Config:
    """Buffers as small as they may be."""
    row_group = -(-lanes * 32 // bus_bits)
    sizes = {"weight_fifo_beats": 1, "activation_fifo_beats": 1, "scale_fifo_beats": row_group + 1,
             "result_fifo_beats": row_group + 2, "burst_beats": 1}  # fmt: skip
    return Config(codec=codec(name), lanes=lanes, bus_bits=bus_bits, max_cols=128, queue_depth=2, **{**sizes, **more})


SMALL = "c2p1k5b0r"
CORNERS = {
    "1024 bits": Config(codec=codec(SMALL), lanes=2, bus_bits=1024, max_cols=64),
    "tight": tight(5, 128, SMALL),
}
SLOW_CORNERS = {
    "one lane, one row": tight(1, 512, "seedlm4", max_rows=1),
    "a burst beside a row group": tight(15, 128, SMALL, scale_fifo_beats=8, burst_beats=4, result_fifo_beats=9,
                                        weight_fifo_beats=4, activation_fifo_beats=4),
    "64 lanes on 128 bits": tight(64, 128, SMALL),
    "binary16, tight": tight(3, 256, "fp16"),
}  # fmt: skip


def check_product(config: Config, seed: int) -> None:
    """Two products of random sizes, one after the other, are equal to the reference."""
    rng = np.random.default_rng(seed)
    print(config, "seed", seed)
    with Accelerator(config, memory="ideal", timeout=CYCLES, optimise="-O0") as accelerator:
        for _ in range(2):
            rows = int(rng.integers(1, min(config.max_rows, 3 * config.lanes + 2) + 1))
            cols = int(rng.integers(1, min(config.max_cols, 70) + 1))
            matrix = PackedMatrix.random(config.codec, rows, cols, rng)
            x = rng.standard_normal(cols).astype(np.float16)
            y = accelerator.product(accelerator.load_matrix(matrix), x)
            assert np.array_equal(y.view(np.uint32), product(matrix, x).view(np.uint32)), (rows, cols)


@pytest.mark.parametrize("name", [*CORNERS, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW_CORNERS)])
def test_corners_compute(name):
    check_product({**CORNERS, **SLOW_CORNERS}[name], seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1012))
def test_what_is_accepted_computes(seed):
    config = accepted(seed, lanes=8)
    # The model of the DDR3 memory has eight banks of at least one row.
    check_product(replace(config, addr_bits=max(config.addr_bits, 20)), seed)
