"""The driver: one class for an accelerator in simulation and on a board."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace

import numpy as np

from seedlm.golden.activations import check_vector
from seedlm.golden.build import Config
from seedlm.golden.codecs import Codec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.images import activation_image, parse_results, scale_image, weight_image
from seedlm.golden.matrix import PackedMatrix
from seedlm.golden.rotation import Rotation
from seedlm.hdl.registers import COUNTERS, ErrorCode, counter_registers, register
from seedlm.host.identity import check_identity
from seedlm.host.regions import Allocator, ProductRegions, region_sizes
from seedlm.host.transport import Transport

__all__ = ["Accelerator", "AcceleratorError", "AcceleratorShared", "Matrix", "Outcome", "Vector"]

COUNT_MASK = 0xFFFFFFFF  # SUBMITTED and COMPLETED wrap
NO_ANSWER = 0xFFFFFFFF  # what a read gives where nothing answers it (PCIe)
ABORT_READS = 4096  # of STATUS: far longer than a working memory takes for what it was asked
# How a product may end because the activations of an earlier one, which it was to use again, were not loaded.
LOAD_FAILED = (ErrorCode.DESCRIPTOR, ErrorCode.READ_ACTIVATIONS)


class AcceleratorError(SeedLMError):
    """A product ended with an error code.

    Attributes
    ----------
    code : ErrorCode
        What went wrong.
    product : int
        Number of the product, as `Accelerator.submit` gave it.
    """

    def __init__(self, code: ErrorCode, product: int) -> None:
        super().__init__(f"product {product} ended with {code.name}: {code.doc}")
        self.code = code
        self.product = product


class AcceleratorShared(SeedLMError):
    """SUBMITTED is not what this program has submitted: somebody else uses the accelerator, or has reset it."""


@dataclass(frozen=True)
class Matrix:
    """A weight matrix in the accelerator's memory.

    `scale` is a product's scale where none is given, `scales` the address of the row scales (None: the codec has none),
    `codec` one of the build's.
    `rotation` is that of the rows (None: none): vectors are turned before they are stored.
    """

    rows: int
    cols: int
    address: int
    scale: np.float32
    scales: int | None
    codec: Codec
    rotation: Rotation | None = None


@dataclass(frozen=True)
class Vector:
    """Activations in the accelerator's memory."""

    cols: int
    address: int


@dataclass(frozen=True)
class Outcome:
    """What came of a product.

    `y` holds the float32 results [rows]. With another code than NONE or NONFINITE they mean nothing.
    """

    code: ErrorCode
    y: np.ndarray


class Accelerator:
    """An accelerator with its memory, which belong to this object alone.

    Products run in the order in which they are submitted. When one ends with an error the accelerator holds the next
    ones until the error is cleared.

    What an earlier program left behind is put in order: a paused queue goes on, errors are cleared, products that run
    are waited for and, if they do not end in time, aborted. The transport keeps a second program out if it can
    (`host.device.Device` does); if it cannot, `AcceleratorShared` tells as soon as the other one submits something.

    Parameters
    ----------
    transport : Transport
        The way to it.
    config : Config, optional
        The build that is expected. Without it, the registers tell.
    memory : tuple of int, optional
        First address and size of the part of the memory that `allocate` gives out. Default: all that the transport
        knows of.
    timeout : float, optional
        Longest wait for an interrupt, in the transport's unit.
    watchdog : int
        See the property.

    Raises
    ------
    SeedLMError
        No accelerator there, another version, another build than expected; `memory` lies beyond the build's addresses
        or the transport's memory, or is missing and the transport does not know it; what another program left there
        cannot be ended.
    """

    def __init__(
        self, transport: Transport, config: Config | None = None, *, memory: tuple[int, int] | None = None,
        timeout: float | None = None, watchdog: int = 0,
    ) -> None:  # fmt: skip
        self.transport = transport
        self.timeout = timeout
        self.config = check_identity(self._read, config)
        self._memory = self._allocator(memory)
        self._control = register("CONTROL").unpack(0)  # as wanted
        self._control_word: int | None = None  # as written; None: not known
        self._attach()
        self.watchdog = watchdog

    def _allocator(self, memory: tuple[int, int] | None) -> Allocator:
        """Of the memory that may be used, which is checked."""
        known = self.transport.memory_range
        if memory is None and known is None:
            raise SeedLMError(
                "the size of the accelerator's memory is not known: expected memory=(first address, bytes)"
            )
        first, size = memory or known
        bits = self.config.addr_bits
        if first < 0 or size <= 0 or first + size > 1 << bits:
            raise SeedLMError(
                f"memory of {size:#x} bytes at {first:#x}: expected a part of the build's {bits}-bit addresses"
            )
        if known and not known[0] <= first <= first + size <= sum(known):
            raise SeedLMError(
                f"memory of {size:#x} bytes at {first:#x}: expected a part of the device's {known[1]:#x} bytes"
                f" at {known[0]:#x}"
            )
        return Allocator(first, first + size)

    def _attach(self) -> None:
        """Bring the accelerator to rest, whatever state it is in."""
        self._set_control(pause=0)
        self._clear_interrupts()
        status = self.status()
        self._forget()
        if status["busy"]:
            self._take_over()
        elif status["error"]:
            self.clear_error()

    def _take_over(self) -> None:
        """Wait for the products of a program that is gone, or abort them."""
        # The numbers of products go on beyond the 32 bits of the registers.
        self._completed = self._read("COMPLETED")
        self._submitted = self._reported = self._completed + (self._submitted - self._completed & COUNT_MASK)
        try:
            self.wait(on_error="continue")
        except AcceleratorShared:
            raise
        except Exception:
            # What it is depends on the transport. A link that is down shows again, in one line.
            self.abort()
        self._codes.clear()  # the products were another program's

    def _forget(self) -> None:
        """Begin counting with what the accelerator says; nothing that was submitted before is reported any more."""
        self._submitted = self._completed = self._read("SUBMITTED")
        self._reported = self._submitted  # the codes of the products before this one were given to the caller
        self._codes: dict[int, ErrorCode] = {}  # of failed products from there on

    def _clear_interrupts(self) -> None:
        fields = register("IRQ_STATUS").fields
        self._write("IRQ_STATUS", register("IRQ_STATUS").pack({f.name: 1 for f in fields}))

    # --- registers -------------------------------------------------------------------------------

    def _read(self, name: str) -> int:
        value = self.transport.read32(register(name).offset)
        if value == NO_ANSWER and name != "ID" and self._read("ID") == NO_ANSWER:
            raise SeedLMError(f"the accelerator does not answer: registers {name} and ID read {NO_ANSWER:#x}")
        return value

    def _write(self, name: str, value: int) -> None:
        self.transport.write32(register(name).offset, value)

    def _set_control(self, **values: int) -> None:
        """Change bits of CONTROL."""
        self._control |= values
        word = register("CONTROL").pack(self._control)
        if word != self._control_word:
            self._control_word = None  # an interrupted write may have been one or not
            self._write("CONTROL", word)
            self._control_word = word

    def status(self) -> dict[str, int]:
        """The fields of the STATUS register."""
        return register("STATUS").unpack(self._read("STATUS"))

    def counters(self) -> dict[str, int]:
        """All counters by name (`hdl.registers.COUNTERS`)."""
        values = {}
        for name in COUNTERS:
            low, high = counter_registers(name)
            # Reading the low half freezes the high half.
            values[name] = self._read(low.name) | self._read(high.name) << 32
        return values

    def clear_counters(self) -> None:
        """Set all counters to 0."""
        self._write("COUNTER_CLEAR", register("COUNTER_CLEAR").pack(clear=1))

    @property
    def watchdog(self) -> int:
        """Clocks without progress after which a product ends with the code TIMEOUT, and all after it with it; 0: never.

        Anything that moves is progress, so a limit of a few refresh intervals of the memory (some 10,000 clocks) is on
        the safe side. Raises SeedLMError if set to what 32 bits do not hold.
        """
        return self._watchdog

    @watchdog.setter
    def watchdog(self, clocks: int) -> None:
        if not 0 <= clocks < 1 << 32:
            raise SeedLMError(f"the watchdog's limit must have 32 bits, not be {clocks}")
        self._write("WATCHDOG", clocks)
        self._watchdog = clocks

    # --- memory ----------------------------------------------------------------------------------

    def allocate(self, nbytes: int) -> int:
        """Address of a free region of `nbytes`, at a 4 KiB boundary.

        Regions are given out one after the other and are freed only by leaving `scratch`.

        Raises
        ------
        SeedLMError
            There is not that much left.
        """
        return self._memory(nbytes)

    @contextmanager
    def scratch(self) -> Iterator[None]:
        """What is allocated inside is free again afterwards.

        Products that were submitted inside have ended then. If the inside is left by an exception (a timeout, an
        interrupted program), they are aborted; if even that fails, nothing is freed.

        Raises
        ------
        SeedLMError
            The end is reached with products that were submitted inside and not waited for. They are aborted.
        """
        mark, first = self._memory.next, self._submitted
        try:
            yield
            if self._reported < self._submitted != first:
                raise SeedLMError("scratch memory would be freed under products that were not waited for")
        except BaseException:
            if self._at_rest_since(first):
                self._memory.next = mark
            raise
        self._memory.next = mark

    def _at_rest_since(self, first: int) -> bool:
        """Abort all products if some were submitted since `first`; whether none of them can write any more."""
        try:
            # The register, too: the program may have been interrupted between submitting and counting.
            if self._submitted != first or self._read("SUBMITTED") != first & COUNT_MASK:
                self.abort()
        except Exception:
            return False  # the exception that led here says more
        return True

    def _store(self, image: np.ndarray) -> int:
        address = self.allocate(image.size)
        self.transport.mem_write(address, image)
        return address

    def _check_size(self, rows: int, cols: int) -> None:
        c = self.config
        if not 1 <= rows <= c.max_rows or not 1 <= cols <= c.max_cols:
            raise SeedLMError(f"this build takes up to {c.max_rows} x {c.max_cols} weights, not {rows} x {cols}")

    def load_matrix(self, matrix: PackedMatrix) -> Matrix:
        """Put a matrix into the memory.

        Raises
        ------
        SeedLMError
            Another codec than the build's, too large for the build or the memory.
        """
        self._check_size(matrix.rows, matrix.cols)
        loaded = self.load_image(
            matrix.rows,
            matrix.cols,
            weight_image(self.config.of(matrix.codec), matrix),
            codec=matrix.codec,
            scales=matrix.scales,
            scale=matrix.scale if matrix.scales is None else None,
        )
        return replace(loaded, rotation=matrix.rotation)

    def load_image(
        self, rows: int, cols: int, image: np.ndarray, *, codec: Codec | None = None, scales: np.ndarray | None = None,
        scale: float | None = None,
    ) -> Matrix:  # fmt: skip
        """Put a weight image (`golden.images.weight_image`, uint8) and row scales (float32 [rows]) into the memory.

        The image is one in `codec`; by default the build's first.

        Raises
        ------
        SeedLMError
            A codec that the build has not, wrong sizes, row scales that are missing or not wanted, too large for the
            build or the memory.
        """
        self._check_size(rows, cols)
        build = self.config.of(codec or self.config.codec)
        size = region_sizes(build, rows, cols)["weights"]
        if image.dtype != np.uint8 or image.shape != (size,):
            found = f"{image.dtype} {list(image.shape)}"
            raise SeedLMError(f"the image of {rows} x {cols} weights is uint8 [{size}], not {found}")
        if bool(build.scale_beats(rows)) != (scales is not None):
            raise SeedLMError(f"codec {build.codec} {'needs' if scales is None else 'has no'} row scales")
        if scales is not None and np.shape(scales) != (rows,):
            raise SeedLMError(f"{rows} rows need {rows} row scales, not shape {list(np.shape(scales))}")
        return Matrix(
            rows=rows,
            cols=cols,
            address=self._store(image),
            codec=build.codec,
            scales=None if scales is None else self._store(scale_image(build, scales)),
            scale=np.float32(1) if scale is None else np.float32(scale),
        )

    def load_activations(self, x: np.ndarray, rotation: Rotation | None = None) -> Vector:
        """Put a float16 vector [cols] into the memory, turned for matrices with that rotation.

        Raises
        ------
        SeedLMError
            Not a float16 vector, or too long for the build or the memory.
        """
        image = self._activations(x, rotation)
        self._check_size(1, x.size)
        return Vector(cols=x.size, address=self._store(image))

    def _activations(self, x: np.ndarray, rotation: Rotation | None) -> np.ndarray:
        return activation_image(self.config, x if rotation is None else rotation.half(check_vector(x)))

    # --- products --------------------------------------------------------------------------------

    def place(self, matrix: Matrix, activations: int) -> ProductRegions:
        """Regions of a product of `matrix` and the activations at that address; the results' region is a new one."""
        return ProductRegions.place(
            self.config, matrix.rows, matrix.cols, self.allocate, codec=matrix.codec,
            weights=matrix.address, scales=matrix.scales or 0, activations=activations,
        )  # fmt: skip

    def submit(
        self, regions: ProductRegions, *, scale: float = 1.0, same: bool = False, on_error: str = "raise"
    ) -> int:
        """Queue a product of regions in memory; waits while the queue is full.

        From here until `wait` has said that it ended, the regions are the accelerator's. It reads ahead: inputs of a
        queued product may be read long before the product before it has ended. So

        - queued products may share weights, row scales and activations, but their inputs must not be the results of a
          product that has not ended;
        - the regions of results must not touch anything that a queued product reads. Two products may have the same:
          the later one's results stay;
        - the program must not write to the inputs, and finds nothing defined in the results.

        After a wait that was given up (a timeout, Ctrl-C) all this still holds, until another `wait` or `abort` comes
        to its end. `scratch`, and with it `product` and `products`, sees to that by itself.

        Parameters
        ----------
        regions : ProductRegions
            Shape and addresses. All must be multiples of 4 KiB, and all of their beats lie within the build's address
            bits; else the product ends with DESCRIPTOR and touches nothing.
        scale : float
            The product's scale, rounded to binary32; without row scales only.
        same : bool
            The activations are those that were loaded last; ``regions.activations`` does not matter.
        on_error : "raise" or "continue"
            As for `wait`, while the queue is full.

        Returns
        -------
        int
            The number of the product.

        Raises
        ------
        AcceleratorError
            The queue is full, and a product before has ended with an error that is not cleared.
        SeedLMError
            A value that its register cannot hold (values that the accelerator refuses give the code DESCRIPTOR), or a
            queue that is full and paused.
        """
        for name, word in regions.words(scale=scale, same=same).items():
            self._write(name, word)
        while self.status()["queue_full"]:
            if self._control["pause"]:
                raise SeedLMError(f"{self.config.queue_depth} products are queued and paused: no room for more")
            self._set_control(irq_product_done=1, irq_idle=0, irq_error=1)
            self._service(on_error)
            if self.status()["queue_full"]:
                self.transport.wait_irq(self.timeout)
        self._write("SUBMIT", 1)
        number = self._submitted
        self._submitted += 1
        return number

    def _service(self, on_error: str) -> None:
        """Take note of what has ended since the last time."""
        pending = self._read("IRQ_STATUS")
        if pending:
            # Cleared before the looking: what happens in between sets its bit again.
            self._write("IRQ_STATUS", pending)
        if register("IRQ_STATUS").unpack(pending)["stray"]:
            raise SeedLMError(
                "the memory gave an answer that nothing had asked for: results since the last wait may be wrong;"
                " reset the accelerator and its memory together"
            )
        submitted, own = self._read("SUBMITTED"), self._submitted & COUNT_MASK
        if submitted != own:
            raise AcceleratorShared(
                f"SUBMITTED reads {submitted}, this program has submitted up to {own}: another program uses the"
                " accelerator, or it was reset"
            )
        self._count_completed()
        code = self._error()
        if code is not ErrorCode.NONE:
            # Perhaps one that has ended after COMPLETED was read: the difference has a sign.
            after = self._read("ERROR_PRODUCT") - self._completed + (1 << 31) & COUNT_MASK
            product = self._completed + after - (1 << 31)
            self._codes[product] = code
            if code is ErrorCode.TIMEOUT:
                self._count_completed()  # those after it have ended with it
                self._codes |= dict.fromkeys(range(product, self._completed), code)
            if on_error == "raise":
                raise AcceleratorError(code, product)
            self.clear_error()

    def _count_completed(self) -> None:
        self._completed += self._read("COMPLETED") - self._completed & COUNT_MASK

    def _error(self) -> ErrorCode:
        word = self._read("ERROR")
        try:
            return ErrorCode(word)
        except ValueError:
            raise SeedLMError(f"register ERROR reads {word:#x}: expected a code up to {max(ErrorCode):#x}") from None

    def clear_error(self) -> None:
        """Let the products after a failed one go on. Without an error, nothing happens."""
        self._write("ERROR_CLEAR", register("ERROR_CLEAR").pack(clear=1))

    def abort(self) -> None:
        """End all products now: the way out where they do not end by themselves.

        Nothing of them is written any more, errors are cleared, and none of them is reported by `wait`. The memory's
        outstanding answers are waited for; if they do not come within some thousand clocks, the accelerator gives them
        up. Where one comes after all, a later `wait` says so.

        Raises
        ------
        SeedLMError
            The accelerator does not come to rest.
        """
        self._start_abort()
        self._end_abort()
        self.clear_error()
        self._clear_interrupts()
        submitted, completed = self._read("SUBMITTED"), self._read("COMPLETED")
        if completed != submitted:
            raise SeedLMError(f"after an abort COMPLETED reads {completed}, expected {submitted} as SUBMITTED")
        self._forget()

    def _start_abort(self) -> None:
        self._write("CONTROL", register("CONTROL").pack({**self._control, "abort": 1}))

    def _end_abort(self) -> None:
        """Wait until nothing is being aborted; the second request does not wait for the memory."""
        for last in (False, True):
            for _ in range(ABORT_READS):
                if not self.status()["aborting"]:
                    return
            if not last:
                self._start_abort()
        raise SeedLMError(f"STATUS.aborting is 1 after {2 * ABORT_READS} reads: reset the accelerator")

    def wait(self, *, on_error: str = "raise") -> list[ErrorCode]:
        """Wait until all submitted products have ended.

        Parameters
        ----------
        on_error : "raise" or "continue"
            "raise": an error is an exception. It is not cleared, so the products after it wait; `clear_error` and
            another `wait` go on with them. "continue": errors are cleared as they come.

        Returns
        -------
        list of ErrorCode
            How each product ended that was submitted since the list was given last.

        Raises
        ------
        AcceleratorError
            A product has failed.
        AcceleratorShared
            Another program has submitted products, too.
        SeedLMError
            The accelerator does not answer, or its memory gave answers that it had not asked for.
        Exception
            The transport's own, if no interrupt comes in time. The products go on: wait again, or `abort`.
        """
        if on_error not in ("raise", "continue"):
            raise SeedLMError(f"on_error must be 'raise' or 'continue', not {on_error!r}")
        self._set_control(irq_product_done=0, irq_idle=1, irq_error=1)
        while True:
            self._service(on_error)
            if self._completed == self._submitted:
                break
            self.transport.wait_irq(self.timeout)
        codes = [self._codes.pop(n, ErrorCode.NONE) for n in range(self._reported, self._submitted)]
        self._reported = self._submitted
        return codes

    @contextmanager
    def paused(self) -> Iterator[None]:
        """No product submitted inside starts before the end (except one that the planner may have taken before).

        At most ``config.queue_depth`` products can be submitted inside.
        """
        try:
            self._set_control(pause=1)
            yield
        finally:
            self._set_control(pause=0)

    def product(self, matrix: Matrix, x: np.ndarray | Vector, scale: float | None = None) -> np.ndarray:
        """y = W x * scale: float32 [rows], equal to `golden.product.product` bit for bit.

        Parameters
        ----------
        matrix : Matrix
            From `load_matrix`.
        x : np.ndarray or Vector
            float16 [cols], or what `load_activations` gave.
        scale : float, optional
            Instead of the matrix's own; not for codecs with row scales.

        Raises
        ------
        AcceleratorError
            The product failed; the error is cleared. An activation that is NaN or infinite counts as failure, too.
        SeedLMError
            x or scale does not fit the matrix.
        """
        first = self._submitted
        (outcome,) = self.products([(matrix, x, scale)])
        if outcome.code is not ErrorCode.NONE:
            raise AcceleratorError(outcome.code, first)
        return outcome.y

    def products(self, jobs: Iterable[tuple], *, together: bool = False) -> list[Outcome]:
        """Many products, queued so that the accelerator always knows the next one.

        Parameters
        ----------
        jobs : iterable of tuples
            Arguments of `product`: (matrix, x) or (matrix, x, scale). A product with the same x as the one before does
            not load it again.
        together : bool
            The first one starts when all are queued (if the queue has room for them). The cycles that the accelerator
            counts then do not depend on how fast registers are written. By default it starts at once.

        Returns
        -------
        list of Outcome
            In the order of the jobs. Errors of products are in their codes (and cleared), no exception. If this is left
            by another exception (a timeout, Ctrl-C), the products are aborted.

        Raises
        ------
        SeedLMError
            x or scale does not fit its matrix, no room in the memory, products submitted before that were not waited
            for: nothing was started.
        """
        if self._submitted != self._reported:
            raise SeedLMError("there are submitted products that were not waited for")
        prepared = [self._prepare(*job) for job in jobs]
        if not prepared:
            return []
        with self.scratch():
            queue = self._place_all(prepared)
            codes = self._run(queue, together=together)
            # Where a load has failed, all that were to use it have failed, too: now each loads for itself.
            for n, (regions, scale, same) in enumerate(queue):
                if same and codes[n] in LOAD_FAILED:
                    (codes[n],) = self._run([(regions, scale, False)])
            return [Outcome(code, self._results(regions)) for code, (regions, *_) in zip(codes, queue, strict=True)]

    def _place_all(self, prepared: list[tuple]) -> list[tuple[ProductRegions, np.float32, bool]]:
        """What to submit for jobs of `_prepare`: regions, scale, and whether the activations are those before."""
        queue, before, address = [], None, 0
        for matrix, x, scale in prepared:
            # Images of vectors of different length may be equal: they are filled with zeros.
            key = x if isinstance(x, Vector) else (matrix.cols, x.tobytes())
            same = key == before
            if not same:
                address = x.address if isinstance(x, Vector) else self._store(x)
            before = key
            queue.append((self.place(matrix, address), scale, same))
        return queue

    def _run(self, queue: list[tuple[ProductRegions, np.float32, bool]], *, together: bool = False) -> list[ErrorCode]:
        """Submit what `_place_all` gave and wait for it; how each ended."""
        with self.paused() if together and len(queue) <= self.config.queue_depth else nullcontext():
            for regions, scale, same in queue:
                self.submit(regions, scale=scale, same=same, on_error="continue")
        return self.wait(on_error="continue")

    def _results(self, regions: ProductRegions) -> np.ndarray:
        return parse_results(self.config, self.transport.mem_read(regions.results, 4 * regions.rows), regions.rows)

    def _prepare(self, matrix: Matrix, x: np.ndarray | Vector, scale: float | None = None) -> tuple:
        """A job of `products`, checked: the matrix, the vector or its image, the scale."""
        cols = x.cols if isinstance(x, Vector) else np.size(x)
        if cols != matrix.cols:
            raise SeedLMError(f"the matrix has {matrix.cols} columns, x has {cols} elements")
        image = x if isinstance(x, Vector) else self._activations(x, matrix.rotation)
        if matrix.scales is not None and scale is not None:
            raise SeedLMError(f"codec {matrix.codec} has row scales: a product has no scale, not {scale}")
        with np.errstate(over="ignore", under="ignore"):
            factor = matrix.scale if scale is None else np.float32(scale)
        if not np.isfinite(factor):
            raise SeedLMError(f"the scale of a product must be a finite binary32, not {scale}")
        return matrix, image, factor
