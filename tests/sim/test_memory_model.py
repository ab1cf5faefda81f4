"""The DDR3 model against the figures it is validated with, seen by a bare sequential reader."""

import numpy as np
import pytest

from seedlm.golden.errors import SeedLMError
from seedlm.sim.bench_memory import CASES, DDR3, IDEAL, Reader, run_case

BEATS = 60_000


@pytest.mark.parametrize("case", [c for c in CASES if c.expected], ids=lambda c: c.name)
def test_efficiency(case):
    reading, _ = run_case(case, BEATS)
    assert 100 * reading.efficiency == pytest.approx(case.expected, abs=0.3)


def test_ideal_memory_loses_only_the_first_latency():
    reader = Reader(memory=IDEAL)
    with reader.simulation as s:
        reading = reader.read(bursts=100)
        assert s.counters()["refreshes"] == 0
    assert (reading.beats, reading.latency) == (6400, 27)
    assert reading.cycles == 6400 + 27


@pytest.mark.parametrize("bus_bits", [128, 512])
def test_idle_latency_beats_and_data(bus_bits):
    reader = Reader(bus_bits=bus_bits)
    data = np.random.default_rng(1).integers(0, 1 << 32, 64 * bus_bits // 32 * 40, np.uint32)
    with reader.simulation as s:
        s.mem_write(0x1_2345_6000, data)
        s.allow(0x1_2345_6000, 0x1_2345_6000 + data.nbytes)
        for _ in range(3):  # the row is closed again each time
            reading = reader.read(base=0x1_2345_6000, bursts=40)
            assert reading.latency == 27
            assert reading.beats == 64 * 40
            assert reading.checksum == np.bitwise_xor.reduce(data)
            assert not reading.failed
        assert s.counters()["read_beats"] == 3 * 64 * 40


def test_refresh_rate_and_activates():
    reader = Reader(memory=DDR3)
    with reader.simulation as s:
        reading = reader.read(bursts=1000)
        counters = s.counters()
    assert counters["refreshes"] == pytest.approx(reading.cycles / 1560, abs=1.5)
    # a row holds 128 beats; a refresh closes the row in use and perhaps the next one
    assert 500 <= counters["activates"] <= 500 + 2 * counters["refreshes"]
    assert counters["turnarounds"] == 0


def test_one_bank_pays_for_every_row():
    """Same bank, another row with every burst: 16 beats, then tRTP + tRP + tRCD with one cycle of overlap."""
    reader = Reader(memory=IDEAL)
    with reader.simulation:
        reading = reader.read(bursts=1000, beats=16, stride=65536, outstanding=16)
    assert reading.cycles == pytest.approx(1000 * (16 + 2 + 3 + 3 - 1), abs=30)


@pytest.mark.parametrize(
    ("pattern", "memory", "period"),
    [
        # Rows of one bank: tRTP, tRP and tRCD between the bursts, and each counts.
        ({"beats": 16, "stride": 65536}, {"rtp": 12.5}, 16 + 3 + 3 + 3 - 1),
        ({"beats": 16, "stride": 65536}, {"rp": 20.0}, 16 + 2 + 4 + 3 - 1),
        ({"beats": 16, "stride": 65536}, {"rcd": 25.0}, 16 + 2 + 3 + 5 - 1),
        # One beat of each row: tRAS + tRP.
        ({"beats": 1, "stride": 65536}, {}, 7 + 3),
        ({"beats": 1, "stride": 65536}, {"ras": 50.0}, 10 + 3),
        # One beat of each bank in turn: tRRD, or a quarter of tFAW.
        ({"beats": 1, "stride": 8192}, {}, 2),
        ({"beats": 1, "stride": 8192}, {"faw": 60.0}, 3),
        ({"beats": 1, "stride": 8192}, {"rrd": 25.0}, 5),
        # The same stride within one bank with the other address map.
        ({"beats": 1, "stride": 8192}, {"bank_row_column": True}, 7 + 3),
    ],
)
def test_row_timing(pattern, memory, period):
    reader = Reader(memory=IDEAL.but(**memory))
    with reader.simulation:
        reading = reader.read(bursts=1000, outstanding=16, **pattern)
    assert reading.cycles == pytest.approx(1000 * period, abs=40)


@pytest.mark.parametrize("beats", [1, 2, 3, 4, 128, 256])
def test_burst_lengths(beats):
    reader = Reader(memory=IDEAL, bus_bits=128)
    with reader.simulation:
        reading = reader.read(bursts=2000 // beats + 1, beats=beats, stride=4096, outstanding=16)
    assert reading.beats == (2000 // beats + 1) * beats
    assert not reading.failed


def test_stalls_cost_time_and_change_no_data():
    data = np.arange(64 * 16 * 20, dtype=np.uint32)
    cycles, sums = [], []
    for stalls in ({}, {"r": 0.5}, {"ar": 0.9, "r": 0.1}):
        reader = Reader(memory=IDEAL)
        with reader.simulation as s:
            s.mem_write(0, data)
            s.stall(stalls, seed=5)
            s.reset()
            reading = reader.read(bursts=20)
        cycles.append(reading.cycles)
        sums.append(reading.checksum)
    assert sums == [np.bitwise_xor.reduce(data)] * 3
    assert cycles[1] > 1.7 * cycles[0]
    assert cycles[2] > 1.05 * cycles[0]


def test_a_row_stays_open_for_those_who_wait():
    """The R channel holds everything up, a beat behind wants another row of the bank: still one activate a burst."""
    reader = Reader(memory=IDEAL)
    with reader.simulation as s:
        s.stall({"r": 0.7})
        reader.read(bursts=100, beats=16, stride=65536, outstanding=16)
        assert s.counters()["activates"] == 100


def test_settings_of_a_faster_grade():
    settings = DDR3.but(clock_mhz=1866.667 / 8).settings()
    assert settings["t_refi"] == 1820
    assert settings["t_rfc"] == 61
    assert (settings["t_rcd"], settings["t_rp"], settings["t_rtp"]) == (4, 4, 2)
    assert DDR3.settings()["t_rfc"] == 52


def test_unknown_memory():
    with pytest.raises(SeedLMError, match="unknown memory 'ddr5': expected ideal, ddr3"):
        Reader(memory="ddr5")
