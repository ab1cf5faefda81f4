"""The driver over device files: ordinary files with an accelerator in Python behind them, which sees every access."""

import errno
import mmap
import os
import socket
import struct
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from seedlm.golden.build import Config
from seedlm.golden.codecs import codec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.matrix import PackedMatrix
from seedlm.golden.product import product
from seedlm.hdl.registers import REGISTERS, ErrorCode, register
from seedlm.host.device import Device, DeviceTimeout
from seedlm.host.driver import Accelerator, AcceleratorError
from tests.host.fake_transport import FakeAccelerator

SIZE = 1 << 22
IRQ = {"IRQ_STATUS": register("IRQ_STATUS").offset, "CONTROL": register("CONTROL").offset}


def make_files(folder, size=SIZE, registers=4096):
    """A file for the registers and one for the memory."""
    paths = folder / "registers", folder / "memory"
    for path, length in zip(paths, (registers, size), strict=True):
        path.write_bytes(b"")
        os.truncate(path, length)
    return paths


class Board(Device):
    """A device whose files are served by a `FakeAccelerator`: what the driver writes is taken from the file, what it
    reads is put there just before."""

    def __init__(self, folder, config, *, base=0, offset=0, **options):
        registers, memory = make_files(folder, registers=4096 + offset)
        super().__init__(registers, memory, register_offset=offset, memory_base=base)
        with open(registers, "r+b") as file:
            self.file = mmap.mmap(file.fileno(), 4096 + offset)
        self.offset = offset
        self.board = FakeAccelerator(config, **options)
        contents = np.memmap(memory, np.uint8, "r+")
        if base:  # the board's addresses begin elsewhere
            self.board.memory = np.concatenate([np.zeros(base, np.uint8), contents])
            self.mem_write, self.mem_read = self._copied_write, self._copied_read
            self.contents = contents
        else:
            self.board.memory = contents

    def _copied_write(self, address, data):
        super().mem_write(address, data)
        self.board.memory[-SIZE:] = self.contents

    def _copied_read(self, address, n):
        self.contents[:] = self.board.memory[-SIZE:]
        return super().mem_read(address, n)

    def write32(self, offset, value):
        super().write32(offset, value)
        self.board.write32(offset, *struct.unpack_from("<I", self.file, self.offset + offset))

    def read32(self, offset):
        struct.pack_into("<I", self.file, self.offset + offset, self.board.read32(offset))
        return super().read32(offset)


@pytest.mark.parametrize("name", ["seedlm4", "seedlm3r", "fp16"])
@pytest.mark.parametrize(("base", "offset"), [(0, 0), (0x80000, mmap.PAGESIZE)])
def test_products_equal_golden(tmp_path, name, base, offset):
    config = Config(codec=codec(name))
    rng = np.random.default_rng(7)
    with Board(tmp_path, config, base=base, offset=offset, seed=3) as device:
        accelerator = Accelerator(device, memory=(base, SIZE))
        assert accelerator.config == config
        for rows, cols in ((1, 1), (40, 33), (17, 130)):
            matrix = PackedMatrix.random(config.codec, rows, cols, rng)
            x = rng.standard_normal(cols).astype(np.float16)
            y = accelerator.product(accelerator.load_matrix(matrix), x)
            assert np.array_equal(y.view(np.uint32), product(matrix, x).view(np.uint32))


def test_errors_come_through(tmp_path):
    config = Config(codec=codec("seedlm4"))
    with Board(tmp_path, config, faults={1: ErrorCode.READ_WEIGHTS}) as device:
        accelerator = Accelerator(device, config)
        handle = accelerator.load_matrix(PackedMatrix.random(config.codec, 5, 9, np.random.default_rng(0)))
        x = np.ones(9, np.float16)
        y = accelerator.product(handle, x)
        with pytest.raises(AcceleratorError, match="product 1 ended with READ_WEIGHTS"):
            accelerator.product(handle, x)
        assert np.array_equal(accelerator.product(handle, x), y)


def test_registers_are_words_of_the_mapping(tmp_path):
    registers, memory = make_files(tmp_path)
    with Device(registers, memory) as device:
        for i, r in enumerate(REGISTERS):
            device.write32(r.offset, 0xA0000000 + i)
        for i, r in enumerate(REGISTERS):
            assert device.read32(r.offset) == 0xA0000000 + i
            assert registers.read_bytes()[r.offset : r.offset + 4] == struct.pack("<I", 0xA0000000 + i)
        with pytest.raises(SeedLMError, match="no register at 0x44c"):
            device.read32(0x44C)
        with pytest.raises(SeedLMError, match="no register at 0x41"):
            device.write32(0x41, 0)
        with pytest.raises(SeedLMError, match="32 bits and cannot hold 0x100000000"):
            device.write32(0x40, 1 << 32)
    with pytest.raises(SeedLMError, match="the device is closed"):
        device.read32(0)
    with pytest.raises(SeedLMError, match="the device is closed"):
        device.mem_read(0, 1)


def test_memory_in_pieces(tmp_path, monkeypatch):
    """Transfers that the system cuts short arrive whole, in both directions, through two files."""
    registers, memory = make_files(tmp_path)
    other = tmp_path / "other"
    os.link(memory, other)
    sizes = []

    def short_write(file, data, place, pwrite=os.pwrite):
        sizes.append(len(data))
        return pwrite(file, data[: max(1, len(data) // 2)], place)

    def short_read(file, buffers, place, preadv=os.preadv):
        sizes.append(len(buffers[0]))
        return preadv(file, [buffers[0][: max(1, len(buffers[0]) // 3)]], place)

    monkeypatch.setattr("seedlm.host.device.CHUNK", 10_000)
    monkeypatch.setattr(os, "pwrite", short_write)
    monkeypatch.setattr(os, "preadv", short_read)
    data = np.random.default_rng(1).integers(0, 256, 100_003, np.uint8)
    with Device(registers, memory, memory_read=other, memory_base=0x1000) as device:
        device.mem_write(0x1000 + 77, data)
        assert np.array_equal(device.mem_read(0x1000 + 77, data.size), data)
        assert max(sizes) == 10_000
        assert memory.read_bytes()[77 : 77 + data.size] == data.tobytes()
        device.mem_write(0x1000, data[:0])
        assert device.mem_read(0x1000, 0).size == 0
        with pytest.raises(SeedLMError, match="below the device's memory, which begins at 0x1000"):
            device.mem_write(0xFFF, data)
        with pytest.raises(SeedLMError, match=f"cannot read memory at {0x1000 + SIZE:#x}: the device's memory ends"):
            device.mem_read(0x1000 + SIZE - 10, 20)


def test_memory_has_the_size_of_its_file(tmp_path):
    """Nothing grows the file, and no memory is given out beyond it."""
    base = 0x10000
    with Board(tmp_path, Config(), base=base) as device:
        assert device.memory_range == (base, SIZE)
        accelerator = Accelerator(device)
        assert accelerator.allocate(SIZE) == base
        with pytest.raises(SeedLMError, match="has 0 bytes left, not 1"):
            accelerator.allocate(1)
        with pytest.raises(SeedLMError, match="a part of the device's 0x400000 bytes at 0x10000"):
            Accelerator(device, memory=(0, SIZE))
    registers, memory = make_files(tmp_path)
    with Device(registers, memory, memory_base=base) as device:
        device.mem_write(base + SIZE - 10, np.ones(10, np.uint8))
        with pytest.raises(
            SeedLMError, match="cannot write 11 bytes at 0x40fff6: the device's memory ends at 0x410000"
        ):
            device.mem_write(base + SIZE - 10, np.ones(11, np.uint8))
    assert memory.stat().st_size == SIZE


def test_a_file_without_a_size(tmp_path):
    """A device file: the driver must be told."""
    registers, _ = make_files(tmp_path)
    with Device(registers, "/dev/zero") as device:
        assert device.memory_range is None
        for r in REGISTERS:
            device.write32(r.offset, FakeAccelerator(Config()).read32(r.offset))
        with pytest.raises(SeedLMError, match=r"not known: expected memory=\(first address, bytes\)"):
            Accelerator(device)
        assert Accelerator(device, memory=(0, 4096)).allocate(4096) == 0


ATTACH = "import sys; from seedlm.host.device import Device; Device(*sys.argv[1:3], register_offset=int(sys.argv[3]))"


def test_a_second_program_is_refused(tmp_path):
    offset = mmap.PAGESIZE
    registers, memory = make_files(tmp_path, registers=4096 + offset)

    def attach(where):
        command = [sys.executable, "-c", ATTACH, str(registers), str(memory), str(where)]
        return subprocess.run(command, capture_output=True, text=True)

    with Device(registers, memory, register_offset=offset):
        second = attach(offset)
        assert second.returncode != 0
        assert f"SeedLMError: {registers}: another program uses this accelerator" in second.stderr
        with pytest.raises(SeedLMError, match="registers: another program uses this accelerator, or another part of"):
            Device(registers, memory, register_offset=offset)
        # Another accelerator in the same file is nobody's.
        assert attach(0).returncode == 0
        Device(registers, memory).close()
    assert attach(offset).returncode == 0


def test_files_that_cannot_be_locked(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError(errno.ENOLCK, "no locks")

    registers, memory = make_files(tmp_path)
    monkeypatch.setattr("fcntl.fcntl", refuse)
    with Device(registers, memory), Device(registers, memory) as device:
        assert device.read32(0) == 0


def raise_irq(registers, status):
    with open(registers, "r+b") as file:
        mapping = mmap.mmap(file.fileno(), 4096)
        struct.pack_into("<I", mapping, IRQ["IRQ_STATUS"], status)


@pytest.mark.parametrize("kind", ["events", "uio", "none"])
def test_interrupts(tmp_path, kind):
    registers, memory = make_files(tmp_path)
    ours, board = socket.socketpair()
    fd = None if kind == "none" else ours.fileno()
    with ours, board, Device(registers, memory, interrupt=fd, interrupt_enable=kind == "uio") as device:
        device.write32(IRQ["CONTROL"], register("CONTROL").pack(irq_idle=1))
        raise_irq(registers, register("IRQ_STATUS").pack(product_done=1))  # not enabled
        with pytest.raises(DeviceTimeout, match=r"no interrupt within 0\.05 s"):
            device.wait_irq(0.05)
        if kind == "uio":
            assert board.recv(4) == struct.pack("<I", 1)
        board.send(b"\1\0\0\0")  # one that means nothing, or that came before
        with pytest.raises(DeviceTimeout):
            device.wait_irq(0.05)

        def later():
            time.sleep(0.02)
            raise_irq(registers, register("IRQ_STATUS").pack(idle=1))
            board.send(b"\2\0\0\0")

        thread = threading.Thread(target=later)
        thread.start()
        assert 0.01 < device.wait_irq(30) < 20
        thread.join()
        assert device.wait_irq(None) < 1  # still high: at once


def test_a_lost_interrupt_is_found(tmp_path):
    registers, memory = make_files(tmp_path)
    ours, board = socket.socketpair()
    with ours, board, Device(registers, memory, interrupt=ours.fileno()) as device:
        device.write32(IRQ["CONTROL"], 7)
        thread = threading.Timer(0.02, raise_irq, (registers, 4))
        thread.start()
        assert device.wait_irq(30) < 20
        thread.join()


def test_an_interrupt_file_that_fails(tmp_path):
    registers, memory = make_files(tmp_path)
    ours, board = socket.socketpair()
    descriptor = ours.fileno()
    with Device(registers, memory, interrupt=descriptor) as device:
        ours.close()
        board.close()
        with pytest.raises(SeedLMError, match=rf"interrupt file \(descriptor {descriptor}\): .*Bad file desc"):
            device.wait_irq(0.05)


def test_files_that_are_not_there(tmp_path):
    registers, memory = make_files(tmp_path)
    for wrong in ((tmp_path / "none", memory), (registers, tmp_path / "none")):
        with pytest.raises(SeedLMError, match=f"{tmp_path / 'none'}: cannot open: No such file"):
            Device(*wrong)
    os.truncate(registers, 100)
    with pytest.raises(SeedLMError, match="registers: cannot map the registers"):
        Device(registers, memory)


def test_names_of_drivers(tmp_path):
    """XDMA: four files of a card. UIO: registers and interrupts of one file."""
    registers, memory = make_files(tmp_path)
    for name in ("xdma1_user", "uio3"):
        os.link(registers, tmp_path / name)
    for name in ("xdma1_h2c_0", "xdma1_c2h_0"):
        os.link(memory, tmp_path / name)
    os.mkfifo(tmp_path / "xdma1_events_0")
    writer = os.open(tmp_path / "xdma1_events_0", os.O_RDWR)
    data = np.arange(10, dtype=np.uint8)
    with Device.xdma(1, folder=tmp_path) as device:
        device.mem_write(5, data)
        assert np.array_equal(device.mem_read(5, 10), data)
        device.write32(0x40, 1)
        raise_irq(registers, 1)
        device.wait_irq(1)
    os.close(writer)
    with Device.uio(3, memory, 0x1000_0000, folder=tmp_path) as device:
        assert device.read32(0x40) == 1
        assert np.array_equal(device.mem_read(0x1000_0005, 10), data)
