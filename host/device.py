"""The way to an accelerator on a board: device files of the operating system.

Registers are a memory mapping, memory is read and written at offsets of a file, the interrupt is a file that becomes
readable. Linux offers all three for a PCIe card (AMD's XDMA driver) and for logic beside a processor (UIO and a
buffer for direct memory access such as u-dma-buf).
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import select
import stat
import struct
import sys
import time
from pathlib import Path

import numpy as np

from seedlm.golden.errors import SeedLMError
from seedlm.hdl.registers import ADDRESS_BITS, REGISTERS, register

__all__ = ["Device", "DeviceTimeout"]

CHUNK = 1 << 24  # bytes per system call: drivers limit the length of a transfer
DEFAULT_TIMEOUT = 60.0  # seconds
LOOK = 0.1  # seconds after which the registers are looked at again, should an interrupt have been lost
POLL = 50e-6  # seconds between looks where there is no interrupt file
ENABLE = (1).to_bytes(4, "little")  # to a UIO file: unmask the interrupt

_OFFSETS = frozenset(r.offset for r in REGISTERS)


def _has_size(file: int) -> bool:
    """Whether the end of this file is that of the memory: not so for character devices."""
    mode = os.fstat(file).st_mode
    return stat.S_ISREG(mode) or stat.S_ISBLK(mode)


class DeviceTimeout(SeedLMError):
    """The interrupt has not come in time."""


class Device:
    """A `host.transport.Transport` over device files; a context manager. Times are in seconds.

    An access that the accelerator answers with an error shows in another way on every system (a PCIe read gives all
    ones, others end the process), so offsets without a register are refused here.

    The registers are locked for this object where the system has such locks, until it is closed or its process ends:
    two programs on one accelerator would end each other's products.

    Parameters
    ----------
    registers : path
        File whose mapping holds the registers.
    memory : path
        File that is the accelerator's memory, for both directions or for writing.
    memory_read : path, optional
        The file for reading, if it is another one.
    interrupt : path or int, optional
        File (or its descriptor) that can be read, 4 bytes at a time, when the interrupt has come. Without it the
        registers are polled.
    interrupt_enable : bool
        The interrupt must be enabled before each wait by writing 1 (UIO).
    register_offset : int
        Where the registers begin in their file, a multiple of the page size.
    memory_base : int
        Address, as the accelerator sees it, of the first byte of the memory file.

    Attributes
    ----------
    memory_range : tuple of int or None
        First address and bytes of the memory, from the size of its file. None for a file without one (most device
        files): ``Accelerator(device, memory=(first address, bytes))`` must tell.

    Raises
    ------
    SeedLMError
        A file cannot be opened or mapped; another program has the registers.
    """

    def __init__(
        self,
        registers: str | Path,
        memory: str | Path,
        *,
        memory_read: str | Path | None = None,
        interrupt: str | Path | int | None = None,
        interrupt_enable: bool = False,
        register_offset: int = 0,
        memory_base: int = 0,
    ) -> None:
        if sys.byteorder != "little":
            raise SeedLMError("the registers are little endian, this machine is not")
        self._base = memory_base
        self._enable = interrupt_enable
        self._files: list[int] = []
        self._mapping: mmap.mmap | None = None
        self._words: dict[int, ctypes.c_uint32] = {}
        self.memory_range: tuple[int, int] | None = None
        try:
            file = self._open(registers, os.O_RDWR | os.O_SYNC)
            self._lock(file, register_offset, registers)
            try:
                self._mapping = mmap.mmap(file, 1 << ADDRESS_BITS, offset=register_offset)
            except (OSError, ValueError) as error:
                raise SeedLMError(f"{registers}: cannot map the registers: {error}") from None
            # One 32-bit load or store for each access, which slices of a mapping do not promise.
            self._words = {offset: ctypes.c_uint32.from_buffer(self._mapping, offset) for offset in _OFFSETS}
            self._write_file = self._open(memory, os.O_WRONLY if memory_read else os.O_RDWR)
            self._read_file = self._open(memory_read, os.O_RDONLY) if memory_read else self._write_file
            size = os.lseek(self._write_file, 0, os.SEEK_END) if _has_size(self._write_file) else 0
            self.memory_range = (memory_base, size) if size else None
            if interrupt is None or isinstance(interrupt, int):
                self._interrupt = interrupt
            else:
                self._interrupt = self._open(interrupt, os.O_RDWR if interrupt_enable else os.O_RDONLY)
        except BaseException:
            self.close()
            raise

    def _lock(self, file: int, offset: int, path: str | Path) -> None:
        """Lock these registers for this object; the lock ends with the file."""
        if not hasattr(fcntl, "F_OFD_SETLK"):
            return  # not Linux: the driver compares what was submitted
        # struct flock. Of the open file, not of the process: two objects of one program are kept apart, too.
        lock = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, offset, 1 << ADDRESS_BITS, 0)
        try:
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, lock)
        except (BlockingIOError, PermissionError):
            raise SeedLMError(f"{path}: another program uses this accelerator, or another part of this one") from None
        except OSError:
            return  # this kind of file has no locks

    @classmethod
    def xdma(cls, index: int = 0, *, channel: int = 0, folder: str | Path = "/dev") -> Device:
        """A PCIe card behind AMD's XDMA core and driver.

        Registers on the AXI4-Lite master, memory on the DMA's AXI4 master, ``irq`` on user interrupt 0. The driver must
        be told how much memory there is: ``Accelerator(device, memory=(0, size))``.
        """
        prefix = f"{folder}/xdma{index}"
        return cls(
            f"{prefix}_user", f"{prefix}_h2c_{channel}", memory_read=f"{prefix}_c2h_{channel}",
            interrupt=f"{prefix}_events_0",
        )  # fmt: skip

    @classmethod
    def uio(cls, index: int, memory: str | Path, memory_base: int, *, folder: str | Path = "/dev") -> Device:
        """Logic beside a processor: registers and interrupt of ``/dev/uio<index>``, memory a buffer at `memory_base`.

        With u-dma-buf `memory` is ``/dev/udmabuf0`` and `memory_base` what its ``phys_addr`` in sysfs says; give the
        driver the buffer's size: ``Accelerator(device, memory=(memory_base, size))``.
        """
        file = f"{folder}/uio{index}"
        return cls(file, memory, interrupt=file, interrupt_enable=True, memory_base=memory_base)

    def _open(self, path: str | Path, flags: int) -> int:
        try:
            file = os.open(path, flags | os.O_CLOEXEC)
        except OSError as error:
            raise SeedLMError(f"{path}: cannot open: {error.strerror}") from None
        self._files.append(file)
        return file

    def close(self) -> None:
        """Close the files; the accelerator goes on with what it was given."""
        self._words.clear()  # they hold the mapping
        if self._mapping is not None:
            self._mapping.close()
            self._mapping = None
        while self._files:
            os.close(self._files.pop())

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # --- registers -----------------------------------------------------------------------------------
    def _word(self, offset: int) -> ctypes.c_uint32:
        try:
            return self._words[offset]
        except KeyError:
            raise SeedLMError("the device is closed" if not self._words else f"no register at {offset:#x}") from None

    def read32(self, offset: int) -> int:
        """The register at byte `offset`. Raises SeedLMError if there is none."""
        return self._word(offset).value

    def write32(self, offset: int, value: int) -> None:
        """Write the register at byte `offset`. Raises SeedLMError if there is none."""
        if not 0 <= value < 1 << 32:
            raise SeedLMError(f"a register has 32 bits and cannot hold {value:#x}")
        self._word(offset).value = value

    # --- memory --------------------------------------------------------------------------------------
    def _place(self, address: int) -> int:
        if address < self._base:
            raise SeedLMError(f"address {address:#x} is below the device's memory, which begins at {self._base:#x}")
        return address - self._base

    def mem_write(self, address: int, data: np.ndarray) -> None:
        """Put the bytes of `data` (uint8) into the memory. Raises SeedLMError if it takes less."""
        view = memoryview(np.ascontiguousarray(data, np.uint8)).cast("B")
        place, done = self._place(address), 0
        if self.memory_range and place + len(view) > self.memory_range[1]:  # an ordinary file would grow
            end = sum(self.memory_range)
            raise SeedLMError(f"cannot write {len(view)} bytes at {address:#x}: the device's memory ends at {end:#x}")
        while done < len(view):
            self._check()
            try:
                count = os.pwrite(self._write_file, view[done : done + CHUNK], place + done)
            except OSError as error:
                raise SeedLMError(f"cannot write memory at {address + done:#x}: {error.strerror}") from None
            if count == 0:
                raise SeedLMError(f"cannot write memory at {address + done:#x}: the device takes no more")
            done += count

    def mem_read(self, address: int, n: int) -> np.ndarray:
        """`n` bytes of the memory, uint8. Raises SeedLMError if there are fewer."""
        data = np.empty(n, np.uint8)
        view = memoryview(data)
        place, done = self._place(address), 0
        while done < n:
            self._check()
            try:
                count = os.preadv(self._read_file, [view[done : done + CHUNK]], place + done)
            except OSError as error:
                raise SeedLMError(f"cannot read memory at {address + done:#x}: {error.strerror}") from None
            if count == 0:
                raise SeedLMError(f"cannot read memory at {address + done:#x}: the device's memory ends there")
            done += count
        return data

    def _check(self) -> None:
        if not self._files:
            raise SeedLMError("the device is closed")

    # --- interrupt -----------------------------------------------------------------------------------
    def _irq(self) -> bool:
        """Whether the interrupt is high: an enabled bit is set."""
        pending = register("IRQ_STATUS").unpack(self.read32(register("IRQ_STATUS").offset))
        enabled = register("CONTROL").unpack(self.read32(register("CONTROL").offset))
        return any(bit and enabled[f"irq_{name}"] for name, bit in pending.items())

    def wait_irq(self, timeout: float | None) -> float:
        """Wait until the interrupt is high; how many seconds it took.

        Raises
        ------
        DeviceTimeout
            Not within `timeout` seconds (None: `DEFAULT_TIMEOUT`).
        """
        timeout = DEFAULT_TIMEOUT if timeout is None else timeout
        began = time.monotonic()
        while not self._irq():
            left = began + timeout - time.monotonic()
            if left <= 0:
                raise DeviceTimeout(f"no interrupt within {timeout:g} s")
            self._sleep(min(left, LOOK))
        return time.monotonic() - began

    def _sleep(self, longest: float) -> None:
        """Until the interrupt file says something, `longest` seconds at most."""
        if self._interrupt is None:
            time.sleep(min(longest, POLL))
            return
        try:
            if self._enable:
                # A level that is high by now raises the interrupt at once, so none is missed.
                os.write(self._interrupt, ENABLE)
            ready, _, _ = select.select([self._interrupt], [], [], longest)
            if ready:
                os.read(self._interrupt, 4)  # the count of interrupts; the registers say the rest
        except (OSError, ValueError) as error:
            raise SeedLMError(f"the interrupt file (descriptor {self._interrupt}): {error}") from error
