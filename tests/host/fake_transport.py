"""An accelerator in pure Python behind the driver's transport: registers as in the table, products by golden.

Products make progress whenever the transport is used, a random number of them at a time, so that a driver which
looks at things in the wrong order is found out.
"""

import random

import numpy as np

from seedlm.golden.images import words_from_image
from seedlm.golden.matrix import PackedMatrix
from seedlm.golden.product import product
from seedlm.hdl.registers import COUNTERS, REGISTERS, Access, ErrorCode, configuration_words, register

ACCESSES = 20_000  # far more than any test needs


class BusError(Exception):
    """An access that the accelerator answers with an error."""


class NoInterrupt(Exception):
    """Nothing is left that could raise the interrupt."""


class FakeAccelerator:
    """The transport. `faults` gives the code with which a product is to fail, by number."""

    def __init__(self, config, *, seed=0, faults=None, lazy=0.5, size=1 << 22):
        self.config = config
        self.random = random.Random(seed)
        self.lazy = lazy
        self.faults = dict(faults or {})
        self.memory = np.full(size, 0xA5, np.uint8)
        words = configuration_words(config)
        self.registers = {r.name: words.get(r.name, r.reset) or 0 for r in REGISTERS}
        self.by_offset = {r.offset: r for r in REGISTERS}
        self.queue = []
        self.loaded = None
        self.kept = 0
        self.max_level = 0
        self.loads = 0
        self.log = []
        self.accesses = 0

    # --- the transport ---------------------------------------------------------------------------

    def read32(self, offset):
        self._progress()
        r = self.by_offset.get(offset)
        if r is None:
            raise BusError(f"read at {offset:#x}")
        if r.name == "STATUS":
            return register("STATUS").pack(
                busy=self.registers["SUBMITTED"] != self.registers["COMPLETED"],
                error=self.registers["ERROR"] != 0,
                queue_full=len(self.queue) == self.config.queue_depth,
                queue_level=len(self.queue),
            )
        if r.name.endswith("_HI") and r.offset >= 0x100:
            return self.kept
        if r.name.endswith("_LO") and r.offset >= 0x100:
            self.kept = self.registers[r.name[:-3] + "_HI"]
        return 0 if r.access is Access.WO else self.registers[r.name]

    def write32(self, offset, value):
        self._progress()
        r = self.by_offset.get(offset)
        if r is None or not r.access.writable or not 0 <= value < 1 << 32:
            raise BusError(f"write of {value:#x} at {offset:#x}")
        if r.access is Access.RW:
            self.registers[r.name] = value
        elif r.access is Access.W1C:
            self.registers[r.name] &= ~value
        elif r.name == "ERROR_CLEAR" and value & 1:
            self.registers["ERROR"] = 0
        elif r.name == "COUNTER_CLEAR" and value & 1:
            for name in COUNTERS:
                self.registers[f"{name.upper()}_LO"] = self.registers[f"{name.upper()}_HI"] = 0
        elif r.name == "SUBMIT":
            if len(self.queue) == self.config.queue_depth:
                raise BusError("the queue is full")
            self.queue.append(dict(self.registers))
            self.max_level = max(self.max_level, len(self.queue))
            self._count("SUBMITTED")
        self._progress()

    def mem_write(self, address, data):
        assert data.dtype == np.uint8
        self.memory[address : address + data.size] = data

    def mem_read(self, address, n):
        return self.memory[address : address + n].copy()

    def wait_irq(self, timeout):
        while not self.irq():
            if not self._run_one():
                raise NoInterrupt

    # --- the accelerator -------------------------------------------------------------------------

    def irq(self):
        return bool(self.registers["IRQ_STATUS"] & self.registers["CONTROL"] & 7)

    def _count(self, name):
        self.registers[name] = self.registers[name] + 1 & 0xFFFFFFFF

    def _progress(self):
        self.accesses += 1
        if self.accesses > ACCESSES:
            raise TimeoutError(f"more than {ACCESSES} register accesses: the driver goes round in circles")
        while self.random.random() > self.lazy and self._run_one():
            pass

    def _run_one(self):
        """Run the next product; False if none may."""
        paused = register("CONTROL").unpack(self.registers["CONTROL"])["pause"]
        if not self.queue or self.registers["ERROR"] or paused:
            return False
        number = self.registers["COMPLETED"]
        code = self._run(self.queue.pop(0), self.faults.pop(number, None))
        self.log.append(code)
        happened = {"product_done": 1, "idle": not self.queue, "error": code != 0}
        if code:
            self.registers["ERROR"], self.registers["ERROR_PRODUCT"] = int(code), number
        self._count("COMPLETED")
        for field, value in happened.items():
            self.registers["IRQ_STATUS"] |= value << register("IRQ_STATUS").field(field).lsb
        return True

    def _run(self, d, fault):
        config = self.config
        rows, cols = d["ROWS"], d["COLS"]

        def region(name, size):
            address = d[f"{name}_LO"] | d[f"{name}_HI"] << 32
            if address % 4096 or address + size > self.memory.size:
                raise LookupError
            return slice(address, address + size)

        try:
            if not 1 <= rows <= config.max_rows or not 1 <= cols <= config.max_cols:
                raise LookupError
            beat = config.beat_bytes
            image = self.memory[region("WEIGHTS", config.image_beats(rows, cols) * beat)]
            results = region("RESULTS", config.result_beats(rows) * beat)
            if d["FLAGS"] & 1:
                if self.loaded is None or self.loaded.size != cols:
                    raise LookupError
            else:
                place = region("ACTIVATIONS", config.activation_beats(cols) * beat)
                self.loaded = self.memory[place].view(np.float16)[:cols].copy()
                self.loads += 1
            scales = None
            if config.codec.row_scales:
                scales = self.memory[region("SCALES", config.scale_beats(rows) * beat)].view(np.float32)[:rows]
        except LookupError:
            return ErrorCode.DESCRIPTOR
        words = words_from_image(config, image, rows, cols)
        matrix = PackedMatrix(config.codec, (rows, cols), words, scales)
        scale = None if config.codec.row_scales else np.uint32(d["SCALE"]).view(np.float32)
        y = product(matrix, self.loaded, scale)
        if fault:
            y[:] = np.nan
        self.memory[results.start : results.start + 4 * rows] = y.view(np.uint8)
        if fault is not None:
            return fault
        return ErrorCode.NONE if np.isfinite(self.loaded).all() else ErrorCode.NONFINITE
