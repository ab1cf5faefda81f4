"""`Simulation` around a stand-in that copies memory: data, faults, rules of the bus, resets, waves, Ctrl-C."""

import signal
import time
from pathlib import Path

import numpy as np
import pytest

from seedlm.golden.errors import SeedLMError
from seedlm.sim.bench_memory import IDEAL
from seedlm.sim.simulation import BusError, Simulation, SimulationError, Timeout, build_system

COPIER = (Path(__file__).parent / "copier.sv").read_text()
SOURCE, TARGET = 0x10000, 0x90000
BUSY, DONE, READ_ERROR, WRITE_ERROR = 1, 2, 4, 8
WRITE_FIRST, EARLY_LAST, WITHDRAW, COUNT, NARROW = 1, 2, 4, 8, 16


def system(**options):
    return Simulation(COPIER, dut="Copier", **{"bus_bits": 128, "memory": "ddr3", **options})


def begin(s, *, bursts=10, beats=16, source=SOURCE, target=TARGET, mode=0, strobes=0xFFFFFFFF):
    values = {0x04: source, 0x08: target, 0x0C: bursts, 0x10: beats, 0x14: mode, 0x18: strobes, 0x00: 1}
    for address, value in values.items():
        s.reg_write(address, value)


def random_bytes(n, seed=1):
    return np.random.default_rng(seed).integers(0, 256, n, np.uint8)


@pytest.mark.parametrize("memory", ["ddr3", "ideal"])
@pytest.mark.parametrize("stall", [0, 0.4])
@pytest.mark.parametrize(
    ("bus_bits", "beats", "mode"), [(128, 256, 0), (128, 1, 0), (128, 7, WRITE_FIRST), (512, 64, 0)]
)
def test_copy(memory, stall, bus_bits, beats, mode):
    beat_bytes = bus_bits // 8
    stride = 4096 if beats == 7 else beats * beat_bytes  # 7 beats from a 4 KiB boundary never cross one
    bursts = 1 if beats == 7 else 20
    data = random_bytes(bursts * stride)
    with system(memory=memory, bus_bits=bus_bits) as s:
        s.mem_fill(0xA5)
        s.stall(stall, seed=3)
        s.reset()
        s.mem_write(SOURCE, data)
        size = bursts * beats * beat_bytes
        s.allow(SOURCE, SOURCE + size)
        s.allow(TARGET, TARGET + size, write=True)
        begin(s, bursts=bursts, beats=beats, mode=mode)
        cycles = s.wait_irq(100_000)
        assert s.reg_read(0) == DONE
        assert np.array_equal(s.mem_read(TARGET, size), data[:size])
        assert (s.mem_read(TARGET + size, 1024) == 0xA5).all()
        assert (s.mem_read(TARGET - 1024, 1024) == 0xA5).all()
        counters = s.counters()
        assert counters["read_beats"] == counters["write_beats"] == bursts * beats
        assert cycles > bursts * beats
        assert s.complaints == (0, "")


def test_reads_and_writes_are_grouped():
    """A copy turns the bus around far less often than once a burst, and gets most of the bandwidth."""
    with system(memory="ideal", bus_bits=512) as s:
        begin(s, bursts=200, beats=16)
        cycles = s.wait_irq(100_000)
        assert 2 <= s.counters()["turnarounds"] <= 40
        assert cycles < 1.4 * 2 * 200 * 16


@pytest.mark.parametrize("name", ["t_wtr", "t_rtw"])
def test_a_turnaround_costs_what_the_settings_say(name):
    cycles, turns = [], []
    for extra in (0, 40):
        with system(memory="ideal", bus_bits=512) as s:
            s._set(name, s.memory.settings()[name] + extra)
            s.reset()
            begin(s, bursts=400, beats=16)
            cycles.append(s.wait_irq(100_000))
            turns.append(s.counters()["turnarounds"] / 2)
    assert turns[1] == pytest.approx(turns[0], rel=0.2)
    assert cycles[1] - cycles[0] == pytest.approx(40 * turns[0], rel=0.3)


def test_rows_that_were_written_close_late():
    """Rows of one bank: each change waits for tWTP after the last write, then tRP and tRCD."""
    cycles = []
    for extra in (0, 40):
        with system(memory=IDEAL.but(bank_row_column=True), bus_bits=512) as s:
            s._set("t_wtp", s.memory.settings()["t_wtp"] + extra)
            s.reset()
            begin(s, bursts=40, beats=64, mode=COUNT)  # 20 rows
            cycles.append(s.wait_irq(100_000))
            assert s.counters()["activates"] == 20
    assert cycles[0] == pytest.approx(40 * 64 + 19 * (6 + 3 + 3 - 1), abs=40 + 64)
    assert cycles[1] - cycles[0] == 19 * 40


def test_responses_that_nobody_takes_hold_writes_up():
    """More bursts of one beat than there is room for responses; the channel pauses most of the time."""
    data = random_bytes(16 * 100)
    with system() as s:
        s.stall({"b": 0.9}, seed=4)
        s.reset()
        s.mem_write(SOURCE, data)
        s.fault(TARGET + 16 * 70, TARGET + 16 * 71, write=True)
        begin(s, bursts=100, beats=1)
        s.wait_irq(20_000)
        assert s.reg_read(0) == DONE | WRITE_ERROR  # no response was lost
        data[16 * 70 : 16 * 71] = 0
        assert np.array_equal(s.mem_read(TARGET, data.size), data)


def test_a_single_write():
    """From the start to the interrupt: 27 cycles of reading, then window, activate, write, response."""
    with system(memory="ideal") as s:
        begin(s, bursts=1, beats=1)
        assert 27 + 4 + 1 + 3 + 4 <= s.wait_irq(100) <= 27 + 4 + 1 + 3 + 4 + 4


def test_writes_wait_for_a_complete_burst_and_do_not_starve():
    """A copy that always has reads under way still gets its writes out, within the patience and a batch."""
    with system(memory="ideal", bus_bits=512) as s:
        begin(s, bursts=60, beats=16)
        s.step(16 * 16 + 27 + 256 + 40)
        assert s.counters()["write_beats"] > 0


def test_strobes():
    data = random_bytes(16 * 16)
    with system() as s:
        s.mem_write(SOURCE, data)
        s.mem_fill(0x5A)
        begin(s, bursts=1, strobes=0b0110)
        s.wait_irq(10_000)
        expected = np.where(np.arange(256) % 4 // 1 % 4 % 3 != 0, data, 0x5A)
        assert np.array_equal(s.mem_read(TARGET, 256), expected)


# --- faults and rules ----------------------------------------------------------------------------


def test_read_fault():
    with system() as s:
        s.mem_write(SOURCE, random_bytes(2560))
        s.fault(SOURCE + 1000, SOURCE + 1001, count=1)
        begin(s)
        s.wait_irq(10_000)
        assert s.reg_read(0) == DONE | READ_ERROR
        begin(s)  # the fault is used up
        s.wait_irq(10_000)
        assert s.reg_read(0) == DONE


def test_write_fault_leaves_the_memory_alone():
    data = random_bytes(2560)
    with system() as s:
        s.mem_write(SOURCE, data)
        s.fault(TARGET + 512, TARGET + 528, write=True)
        begin(s)
        s.wait_irq(10_000)
        assert s.reg_read(0) == DONE | WRITE_ERROR
        expected = data.copy()
        expected[512:528] = 0
        assert np.array_equal(s.mem_read(TARGET, 2560), expected)
        s.clear_rules()
        begin(s)
        s.wait_irq(10_000)
        assert s.reg_read(0) == DONE
        assert np.array_equal(s.mem_read(TARGET, 2560), data)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": SOURCE + 4096 - 128}, "read burst crosses a 4 KiB boundary"),
        ({"target": TARGET + 4096 - 128}, "write burst crosses a 4 KiB boundary"),
        ({"source": SOURCE + 4}, "read burst is not aligned"),
        ({"target": TARGET + 8}, "write burst is not aligned"),
        ({"mode": NARROW}, "read burst is not INCR with full-width beats"),
        ({"mode": EARLY_LAST}, "WLAST is not at the burst's last beat"),
    ],
)
def test_broken_rules(options, message):
    with system() as s:
        begin(s, bursts=1, **options)
        with pytest.raises(BusError, match=message):
            s.wait_irq(10_000)
        s.forget_complaints()
        assert s.complaints == (0, "")


def test_valid_that_falls():
    with system() as s:
        s.stall({"ar": 0.9})
        begin(s, mode=WITHDRAW)
        with pytest.raises(BusError, match=r"ARVALID fell, or its address changed, before ARREADY \(address 0x10000\)"):
            s.step(500)


@pytest.mark.parametrize("write", [False, True])
def test_access_outside_of_the_allowed_range(write):
    with system(check_bus=False) as s:
        where = TARGET if write else SOURCE
        s.allow(where, where + 2560 - 8, write=write)  # all but half of the last beat
        begin(s)
        s.wait_irq(10_000)
        text = f"{'write' if write else 'read'} of 16 bytes at {where + 2544:#x} is outside of the allowed ranges"
        assert s.complaints == (1, text)


def test_register_error_and_strobes():
    with system() as s:
        with pytest.raises(BusError, match="register write at 0x7fc: error response 2"):
            s.reg_write(0x7FC, 1)
        with pytest.raises(BusError, match="register read at 0x7fc: error response 2"):
            s.reg_read(0x7FC)
        s.reg_write(0x18, 0x11223344)
        s.reg_write(0x18, 0xFFFFFFFF, strobes=0b0100)
        assert s.reg_read(0x18) == 0x11FF3344


# --- time ----------------------------------------------------------------------------------------


def test_reset_in_the_middle_of_a_copy():
    data = random_bytes(2560)
    with system() as s:
        s.mem_write(SOURCE, data)
        for cycles in (10, 40, 60, 100, 150):
            begin(s)
            s.step(cycles)
            assert s.reg_read(0) == BUSY
            s.reset()
            assert s.reg_read(0) == 0
        begin(s)
        s.wait_irq(10_000)
        assert s.reg_read(0) == DONE
        assert np.array_equal(s.mem_read(TARGET, 2560), data)


def test_time_is_counted_and_bounded():
    with system() as s:
        before = s.cycles
        s.step(123_456)
        assert s.cycles - before == 123_456
        with pytest.raises(Timeout, match="no interrupt within 70000 cycles"):
            s.wait_irq(70_000)
        assert s.cycles - before == 193_456
        begin(s)
        s.wait_irq(10_000)
        assert s.wait_irq(0) == 0


def test_same_run_twice_takes_the_same_cycles():
    runs = []
    for _ in range(2):
        with system() as s:
            s.stall(0.3, seed=11)
            s.reset()
            begin(s, bursts=50)
            runs.append(s.wait_irq(100_000))
    assert runs[0] == runs[1]


def test_two_systems_at_once():
    a, b = system(), system(memory="ideal")
    try:
        data = random_bytes(2560, 1), random_bytes(2560, 2)
        for s, d in zip((a, b), data, strict=True):
            s.mem_write(SOURCE, d)
            begin(s)
        for _ in range(200):
            a.step(3)
            b.step(2)
        for s, d in zip((a, b), data, strict=True):
            s.wait_irq(10_000)
            assert np.array_equal(s.mem_read(TARGET, 2560), d)
        assert a.cycles != b.cycles
    finally:
        a.close()
        b.close()


def test_control_c():
    with system() as s:
        def interrupt(*_):
            raise KeyboardInterrupt

        old = signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        begun = time.monotonic()
        try:
            with pytest.raises(KeyboardInterrupt):
                s.step(1 << 40)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, old)
        assert time.monotonic() - begun < 5
        begin(s)  # and it goes on
        s.wait_irq(10_000)


def test_closed():
    s = system()
    s.close()
    s.close()
    with pytest.raises(SimulationError, match="closed"):
        s.step()


# --- memory --------------------------------------------------------------------------------------


def test_memory_is_what_was_written():
    generator = np.random.default_rng(2)
    flat = np.zeros(1 << 19, np.uint8)
    base = (1 << 33) - (1 << 18)
    with system() as s:
        for _ in range(200):
            at = int(generator.integers(0, flat.size))
            piece = generator.integers(0, 256, min(int(generator.integers(0, 200_000)), flat.size - at), np.uint8)
            flat[at : at + piece.size] = piece
            s.mem_write(base + at, piece)
            at = int(generator.integers(0, flat.size))
            assert np.array_equal(s.mem_read(base + at, 5000)[: flat.size - at], flat[at : at + 5000])
        assert np.array_equal(s.mem_read(base, flat.size), flat)
        assert s.counters()["pages"] == 8
        s.mem_write(0, b"bytes")
        s.mem_write(5, np.array([1, 2], np.uint16)[::-1])
        assert bytes(s.mem_read(0, 9)) == b"bytes\2\0\1\0"


# --- waves ---------------------------------------------------------------------------------------


def lz4_block(data: bytes) -> bytes:
    """Decompress an LZ4 block, literally as its specification says."""
    out, i = bytearray(), 0
    while i < len(data):
        token = data[i]
        i += 1
        count = token >> 4
        while count >= 15 and (count - 15) % 255 == 0:
            count += data[i]
            i += 1
            if data[i - 1] != 255:
                break
        out += data[i : i + count]
        i += count
        if i == len(data):
            assert count >= 5, "a block ends with five literals"
            break
        offset = data[i] | data[i + 1] << 8
        i += 2
        count = token & 15
        while count >= 15 and (count - 15) % 255 == 0:
            count += data[i]
            i += 1
            if data[i - 1] != 255:
                break
        assert 0 < offset <= len(out)
        for _ in range(count + 4):
            out.append(out[-offset])
    return bytes(out)


def fst_blocks(path: Path) -> list[tuple[int, bytes]]:
    """Type and contents of an FST file's blocks."""
    raw, blocks, at = path.read_bytes(), [], 0
    while at < len(raw):
        length = int.from_bytes(raw[at + 1 : at + 9], "big")
        blocks.append((raw[at], raw[at + 9 : at + 1 + length]))
        at += 1 + length
    return blocks


def test_waves(tmp_path):
    with system(trace=True) as s:
        s.step(100)
        s.trace_open(tmp_path / "a.fst")
        begin(s)
        s.wait_irq(10_000)
        end = s.cycles
        s.trace_close()
        s.step(10)
    blocks = dict(fst_blocks(tmp_path / "a.fst"))
    header, hierarchy = blocks[0], blocks[6]
    assert int.from_bytes(header[:8], "big") == (16 + 100) * 5000
    assert int.from_bytes(header[8:16], "big") == end * 5000
    names = lz4_block(hierarchy[8:])
    assert len(names) == int.from_bytes(hierarchy[:8], "big")
    for name in (b"aclk", b"m_axi_araddr", b"beats_out", b"refresh_wanted"):
        assert name in names


def test_waves_need_no_library_of_the_system():
    binary = build_system(COPIER, dut="Copier", bus_bits=128, trace=True).read_bytes()
    assert b"libz.so" not in binary
    assert b"liblz4" not in binary


def test_waves_that_cannot_be(tmp_path):
    with system() as s, pytest.raises(SimulationError, match="built without waves"):
        s.trace_open(tmp_path / "a.fst")
    with system(trace=True) as s, pytest.raises(SeedLMError, match="cannot write waves"):
        s.trace_open(tmp_path / "missing" / "a.fst")
