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
from seedlm.host.regions import PAGE, region_sizes

IRQ_MASK = sum(f.mask for f in register("IRQ_STATUS").fields)
ACCESSES = 20_000  # far more than any test needs


class BusError(Exception):
    """An access that the accelerator answers with an error."""


class NoInterrupt(Exception):
    """Nothing is left that could raise the interrupt."""


class FakeAccelerator:
    """The transport. `faults` gives the code with which a product is to fail, by number.

    `hang` is the number of a product that never ends. `stuck` is how many writes of CONTROL.abort the memory's missing
    answers hold up. `dead` makes every register read all ones, as a link that is down does.
    """

    def __init__(self, config, *, seed=0, faults=None, lazy=0.5, size=1 << 22, hang=None, stuck=0):
        self.config = config
        self.hang, self.stuck, self.dead = hang, stuck, False
        self.aborts = 0
        self.random = random.Random(seed)
        self.lazy = lazy
        self.faults = dict(faults or {})
        self.memory = np.full(size, 0xA5, np.uint8)
        words = configuration_words(config)
        self.registers = {r.name: words.get(r.name, r.reset) or 0 for r in REGISTERS}
        self.by_offset = {r.offset: r for r in REGISTERS}
        self.queue = []
        self.loaded = None
        self.load_error = ErrorCode.NONE
        self.kept = 0
        self.max_level = 0
        self.loads = 0
        self.log = []
        self.accesses = 0

    # --- the transport ---------------------------------------------------------------------------

    @property
    def memory_range(self):
        return 0, self.memory.size

    def read32(self, offset):
        self._progress()
        if self.dead:
            return 0xFFFFFFFF
        r = self.by_offset.get(offset)
        if r is None:
            raise BusError(f"read at {offset:#x}")
        if r.name == "STATUS":
            return register("STATUS").pack(
                busy=self.registers["SUBMITTED"] != self.registers["COMPLETED"],
                error=self.registers["ERROR"] != 0,
                queue_full=len(self.queue) == self.config.queue_depth,
                aborting=self.aborts > 0,
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
        if r.name == "CONTROL":
            abort = register("CONTROL").field("abort").mask
            self.registers["CONTROL"] = value & ~abort
            if value & abort:
                self._abort()
        elif r.access is Access.RW:
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
            if not self._run_one() and not self.irq():
                raise NoInterrupt

    # --- the accelerator -------------------------------------------------------------------------

    def irq(self):
        return bool(self.registers["IRQ_STATUS"] & self.registers["CONTROL"] & IRQ_MASK)

    def _count(self, name):
        self.registers[name] = self.registers[name] + 1 & 0xFFFFFFFF

    def _progress(self):
        self.accesses += 1
        if self.accesses > ACCESSES:
            raise TimeoutError(f"more than {ACCESSES} register accesses: the driver goes round in circles")
        while self.random.random() > self.lazy and self._run_one():
            pass

    def _abort(self, *, force=False):
        """Nothing of the queue runs any more; the end comes when the memory has answered."""
        self.queue.clear()
        self.loaded, self.hang = None, None
        self.aborts += 1
        if force or self.aborts > self.stuck:
            self.aborts = 0
            self.registers["COMPLETED"] = self.registers["SUBMITTED"]

    def _fail(self, number, code):
        self.registers["ERROR"], self.registers["ERROR_PRODUCT"] = int(code), number
        self.registers["IRQ_STATUS"] |= register("IRQ_STATUS").pack(error=1)

    def _run_one(self):
        """Run the next product; False if none may."""
        paused = register("CONTROL").unpack(self.registers["CONTROL"])["pause"]
        if not self.queue or self.registers["ERROR"] or paused:
            return False
        number = self.registers["COMPLETED"]
        if number == self.hang:
            if self.registers["WATCHDOG"]:
                self._abort(force=True)
                self._fail(number, ErrorCode.TIMEOUT)
            return False
        code = self._run(self.queue.pop(0), self.faults.pop(number, None))
        self.log.append(code)
        happened = {"product_done": 1, "idle": not self.queue}
        if code:
            self._fail(number, code)
        self._count("COMPLETED")
        for field, value in happened.items():
            self.registers["IRQ_STATUS"] |= value << register("IRQ_STATUS").field(field).lsb
        return True

    def _run(self, d, fault):
        config = self.config
        rows, cols = d["ROWS"], d["COLS"]

        def region(name, sizes):
            address = d[f"{name.upper()}_LO"] | d[f"{name.upper()}_HI"] << 32
            if address % PAGE or address + sizes[name] > self.memory.size:
                raise LookupError
            return slice(address, address + sizes[name])

        try:
            if not 1 <= rows <= config.max_rows or not 1 <= cols <= config.max_cols:
                raise LookupError
            sizes = region_sizes(config, rows, cols)
            image, results = self.memory[region("weights", sizes)], region("results", sizes)
            scales = self.memory[region("scales", sizes)].view(np.float32)[:rows] if sizes["scales"] else None
            if d["FLAGS"] & 1:
                if self.loaded is None or self.loaded.size != cols:
                    raise LookupError
            else:
                self.loaded = self.memory[region("activations", sizes)].view(np.float16)[:cols].copy()
                self.load_error = fault if fault is ErrorCode.READ_ACTIVATIONS else ErrorCode.NONE
                self.loads += 1
        except LookupError:
            if not d["FLAGS"] & 1:
                self.loaded = None  # what it should have loaded is not there
            return ErrorCode.DESCRIPTOR
        words = words_from_image(config, image, rows, cols)
        matrix = PackedMatrix(config.codec, (rows, cols), words, scales)
        scale = np.uint32(d["SCALE"]).view(np.float32) if scales is None else None
        y = product(matrix, self.loaded, scale)
        fault = fault or self.load_error or None
        if fault:
            y[:] = np.nan
        self.memory[results.start : results.start + 4 * rows] = y.view(np.uint8)
        if fault is not None:
            return fault
        return ErrorCode.NONE if np.isfinite(self.loaded).all() else ErrorCode.NONFINITE
