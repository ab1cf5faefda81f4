"""A simulated system - accelerator, DDR3 and clock - as a plain synchronous Python object.

The Verilated model and a small harness in C++ are one shared library, driven through ctypes. Clock edges and
memory beats never reach Python: a call runs up to `SLICE` cycles in C++, then Python gets a chance to see
Ctrl-C, and goes on.
"""

from __future__ import annotations

import ctypes
import functools
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from seedlm.build.rewrite import modules
from seedlm.golden.errors import SeedLMError
from seedlm.sim import verilator
from seedlm.sim.memories import memory as named_memory
from seedlm.sim.memory import Memory

__all__ = ["BusError", "Simulation", "SimulationError", "Timeout", "build_system", "reader_verilog"]

FOLDER = Path(__file__).resolve().parent
SLICE = 50_000  # cycles between two looks at signals: a quarter of a second or less
REGISTER_LIMIT = 10_000  # cycles that a register access may take
RESET_CYCLES = 16
OPTIMISE = "-O2 -march=native"
SHARED_INSTANCES, SHARED_SIZE = 4, 8000  # modules used so often and with so much text keep code of their own
COUNTERS = ("read_beats", "write_beats", "activates", "refreshes", "turnarounds", "pages")
CHANNELS = ("ar", "r", "aw", "w", "b")  # in the order of the fields of `stalls`


class SimulationError(SeedLMError):
    """Something in the simulated system went wrong; the message says what."""


class Timeout(SimulationError):
    """What was waited for did not happen within the given cycles."""


class BusError(SimulationError):
    """A register access got an error response, or the accelerator broke a rule of AXI."""


def build_system(
    verilog: str, *, dut: str = "SeedLMAccelerator", bus_bits: int = 512, addr_bits: int = 34, row_beats: int = 128,
    memory: str | Memory = "ddr3", trace: bool = False, threads: int = 1, optimise: str = OPTIMISE,
) -> Path:  # fmt: skip
    """The shared library of a system around the module `dut` of `verilog`; from the cache or built now.

    Parameters
    ----------
    verilog : str
        Text with the module `dut`, which has the flat ports of the accelerator. The macros SEEDLM_BUS_BITS
        and SEEDLM_ADDR_BITS are there for modules that have parameters.
    bus_bits, addr_bits : int
        Widths of its AXI4 port.
    row_beats : int
        Beats in a DRAM row.
    memory : str or Memory
        What is behind that port: its controller is built in, its settings are not.
    trace : bool
        Build in waves (slower, a separate entry of the cache).
    """
    spec = verilator.Spec(
        top="system",
        verilog={
            "shared.vlt": _shared(verilog),
            "dut.sv": verilog,
            **named_memory(memory).verilog(bus_bits),
            "system.sv": (FOLDER / "system.sv").read_text(),
        },
        cxx={n: (FOLDER / n).read_text() for n in ("harness.cpp", "store.cpp", "store.h")},
        library=True,
        optimise=optimise,
        trace=trace,
        threads=threads,
        verilator_args=(
            "-O3", "--x-assign", "fast", "--x-initial", "fast", "--no-assert", "--output-split", "20000",
            f"-DSEEDLM_DUT={dut}", f"-DSEEDLM_BUS_BITS={bus_bits}", f"-DSEEDLM_ADDR_BITS={addr_bits}",
            f"-DSEEDLM_ROW_BEATS={row_beats}",
        ),
    )  # fmt: skip
    return verilator.build(spec)


def _shared(verilog: str) -> str:
    """Verilator configuration that keeps large modules with many instances (the lanes) from being inlined.

    Inlined sixteen times they double the time to compile and make the model slower.
    """
    parts = modules(verilog)
    uses = Counter(module for part in parts for module, _ in part.instances)
    names = [p.name for p in parts if uses[p.name] >= SHARED_INSTANCES and len(p.text) >= SHARED_SIZE]
    lines = [f'no_inline -module "{name}"' for name in names]
    return "\n".join(["`verilator_config", *lines, ""])


def reader_verilog() -> str:
    """Verilog of `SequentialReader`, which takes the accelerator's place to measure what a memory gives."""
    return (FOLDER / "reader.sv").read_text()


@functools.cache
def _library(path: Path) -> ctypes.CDLL:
    """The library with the types of its functions declared (the list is the interface of harness.cpp)."""
    library = ctypes.CDLL(str(path))
    p, i, u32, u64 = ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32, ctypes.c_uint64
    text = ctypes.c_char_p
    table: Mapping[str, tuple[object, list[object]]] = {
        "sim_create": (p, []),
        "sim_destroy": (None, [p]),
        "sim_can_trace": (i, []),
        "sim_set": (i, [p, text, u64]),
        "sim_set_period": (None, [p, u64]),
        "sim_counters": (None, [p, p]),
        "sim_cycles": (u64, [p]),
        "sim_reset": (None, [p, u64]),
        "sim_step": (None, [p, u64]),
        "sim_wait_irq": (ctypes.c_int64, [p, u64]),
        "sim_reg_write": (i, [p, u32, u32, u32, u64]),
        "sim_reg_read": (i, [p, u32, p, u64]),
        "sim_mem_write": (None, [p, u64, p, u64]),
        "sim_mem_read": (None, [p, u64, p, u64]),
        "sim_mem_fill": (None, [p, u32]),
        "sim_fault": (None, [p, i, u64, u64, u64]),
        "sim_allow": (None, [p, i, u64, u64]),
        "sim_clear_rules": (None, [p]),
        "sim_complaints": (u64, [p, text, u64]),
        "sim_forget_complaints": (None, [p]),
        "sim_trace_open": (i, [p, text]),
        "sim_trace_close": (None, [p]),
    }
    for name, (result, arguments) in table.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class Simulation:
    """One simulated system, out of reset. Any number of them may live in a process; a context manager.

    Parameters
    ----------
    verilog : str
        Verilog with the module `dut`.
    memory : str or Memory
        One of `seedlm.sim.memories`, or own settings.
    trace : bool
        Build the model with waves, so that `trace_open` works.
    check_bus : bool
        Raise BusError at the end of a call during which the accelerator broke a rule of AXI or left the
        allowed ranges. Without it, `complaints` tells.
    **build
        Passed to `build_system`.

    Raises
    ------
    ToolError
        The model cannot be built.
    """

    def __init__(
        self, verilog: str, *, memory: str | Memory = "ddr3", trace: bool = False, check_bus: bool = True,
        **build: object,
    ) -> None:  # fmt: skip
        self._handle = None
        self.check_bus = check_bus
        self._controller = named_memory(memory).controller
        self._lib = _library(build_system(verilog, memory=memory, trace=trace, **build))  # type: ignore[arg-type]
        self._handle = self._lib.sim_create()
        self._traced = trace
        self.configure(memory)

    # --- life ------------------------------------------------------------------------------------

    def close(self) -> None:
        """Free the model, its memory and its wave file. Closing twice is fine."""
        if self._handle:
            self._lib.sim_destroy(self._handle)
            self._handle = None

    def __enter__(self) -> Simulation:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    @property
    def _h(self) -> int:
        if not self._handle:
            raise SimulationError("the simulation is closed")
        return self._handle

    def _set(self, name: str, value: int) -> None:
        if self._lib.sim_set(self._h, name.encode(), value):
            raise SimulationError(f"the memory model has no setting {name!r}")

    def configure(self, which: str | Memory) -> None:
        """Change the memory and reset the system; the memory's contents stay.

        Raises
        ------
        SimulationError
            Another controller than the one that was compiled.
        """
        new = named_memory(which)
        if new.controller != self._controller:
            raise SimulationError(f"this simulation was built with {self._controller}, not with {new.controller}")
        self.memory = new
        for name, value in self.memory.settings().items():
            self._set(name, value)
        self._lib.sim_set_period(self._h, self.memory.period_ps)
        self.reset()

    def reset(self) -> None:
        """Reset accelerator and memory controller, at any time. Memory contents and `cycles` stay."""
        self._lib.sim_reset(self._h, RESET_CYCLES)

    # --- time ------------------------------------------------------------------------------------

    @property
    def cycles(self) -> int:
        """Clock cycles simulated so far, resets included."""
        return self._lib.sim_cycles(self._h)

    def _sliced(self, limit: int, run: Callable[[int], bool]) -> bool:
        """Call ``run(cycles)`` in slices until it says True (then True) or `limit` cycles went by (then False)."""
        while True:
            n = min(limit, SLICE)
            if run(n):
                return True
            self._check()
            limit -= n
            if limit <= 0:
                return False

    def step(self, n: int = 1) -> None:
        """Run `n` cycles."""

        def run(cycles: int) -> bool:
            self._lib.sim_step(self._h, cycles)
            return False

        self._sliced(n, run)

    def wait_irq(self, max_cycles: int) -> int:
        """Run until the interrupt is high.

        Returns
        -------
        int
            Cycles it took, 0 if it was high already.

        Raises
        ------
        Timeout
            It was not within `max_cycles`.
        BusError
            The accelerator broke a rule of AXI meanwhile.
        """
        begin = self.cycles
        if not self._sliced(max_cycles, lambda n: self._lib.sim_wait_irq(self._h, n) >= 0):
            raise Timeout(f"no interrupt within {max_cycles} cycles")
        self._check()
        return self.cycles - begin

    # --- registers -------------------------------------------------------------------------------

    def reg_write(self, address: int, value: int, strobes: int = 15) -> None:
        """An AXI4-Lite write of 32 bits.

        Raises
        ------
        BusError
            An error response, or none at all.
        """
        result = self._lib.sim_reg_write(self._h, address, value & 0xFFFFFFFF, strobes, REGISTER_LIMIT)
        self._response("write", address, result)

    def reg_read(self, address: int) -> int:
        """An AXI4-Lite read of 32 bits; errors as for `reg_write`."""
        value = ctypes.c_uint32()
        result = self._lib.sim_reg_read(self._h, address, ctypes.byref(value), REGISTER_LIMIT)
        self._response("read", address, result)
        return value.value

    def _response(self, what: str, address: int, result: int) -> None:
        if result < 0:
            raise BusError(f"register {what} at {address:#05x}: no answer within {REGISTER_LIMIT} cycles")
        if result:
            raise BusError(f"register {what} at {address:#05x}: error response {result}")

    # --- memory ----------------------------------------------------------------------------------

    def mem_write(self, address: int, data: np.ndarray | bytes | bytearray | memoryview) -> None:
        """Put bytes into the memory, behind the simulation's back. Arrays are taken as they lie in memory."""
        raw = np.ascontiguousarray(data) if isinstance(data, np.ndarray) else np.frombuffer(data, np.uint8)
        self._lib.sim_mem_write(self._h, address, raw.ctypes.data, raw.nbytes)

    def mem_read(self, address: int, size: int) -> np.ndarray:
        """`size` bytes of the memory as uint8; what was never written reads as the fill byte (0)."""
        raw = np.empty(size, np.uint8)
        self._lib.sim_mem_read(self._h, address, raw.ctypes.data, size)
        return raw

    def mem_fill(self, byte: int) -> None:
        """Value of memory that was never written. Call it first: pages in use stay as they are."""
        self._lib.sim_mem_fill(self._h, byte)

    def counters(self) -> dict[str, int]:
        """Counts of the memory model since the last reset: `COUNTERS`."""
        values = (ctypes.c_uint64 * len(COUNTERS))()
        self._lib.sim_counters(self._h, values)
        return dict(zip(COUNTERS, values, strict=True))

    # --- tests' tools ----------------------------------------------------------------------------

    def fault(self, low: int, high: int, *, write: bool = False, count: int = 1 << 63) -> None:
        """The next `count` beats read from (or written to) [low, high) answer SLVERR; such writes do nothing."""
        self._lib.sim_fault(self._h, int(write), low, high, count)

    def allow(self, low: int, high: int, *, write: bool = False) -> None:
        """Only the ranges named so may be read (or written); other accesses are complaints."""
        self._lib.sim_allow(self._h, int(write), low, high)

    def clear_rules(self) -> None:
        """Forget all faults and allowed ranges."""
        self._lib.sim_clear_rules(self._h)

    def stall(self, chance: float | Mapping[str, float] = 0.0, seed: int = 1) -> None:
        """Random pauses of the memory's channels, off by default.

        Parameters
        ----------
        chance : float or mapping
            Chance of a pause per cycle, 0 to 0.99, for all channels or by name (`CHANNELS`).
        seed : int
            Start of the generator; takes effect with the next reset.
        """
        by_name = dict.fromkeys(CHANNELS, chance) if isinstance(chance, int | float) else chance
        unknown = set(by_name) - set(CHANNELS)
        if unknown or not all(0 <= c < 1 for c in by_name.values()):
            raise SimulationError(f"stalls: expected chances from 0 to 0.99 of {', '.join(CHANNELS)}, not {by_name}")
        value = sum(round(by_name.get(name, 0.0) * 256) << 8 * i for i, name in enumerate(CHANNELS))
        self._set("stalls", value)
        self._set("stall_seed", seed & 0xFFFFFFFF)

    @property
    def complaints(self) -> tuple[int, str]:
        """How often the accelerator broke a rule of the bus so far, and how it did first."""
        text = ctypes.create_string_buffer(256)
        count = self._lib.sim_complaints(self._h, text, len(text))
        return count, text.value.decode()

    def forget_complaints(self) -> None:
        """Start counting anew."""
        self._lib.sim_forget_complaints(self._h)

    def _check(self) -> None:
        if self.check_bus:
            count, text = self.complaints
            if count:
                raise BusError(f"on the memory bus: {text}" + (f" and {count - 1} more" if count > 1 else ""))

    # --- waves -----------------------------------------------------------------------------------

    def trace_open(self, path: str | Path) -> None:
        """Write waves of everything from now on to an FST file.

        Raises
        ------
        SimulationError
            The model was built without waves, or the file cannot be written.
        """
        result = self._lib.sim_trace_open(self._h, str(path).encode())
        if result == -1:
            raise SimulationError("the model was built without waves: Simulation(trace=True)")
        if result:
            raise SimulationError(f"cannot write waves to {path}")

    def trace_close(self) -> None:
        """End the wave file."""
        self._lib.sim_trace_close(self._h)
