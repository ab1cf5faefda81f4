"""The driver: one class for an accelerator in simulation and on a board."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np

from seedlm.golden.build import Config
from seedlm.golden.errors import SeedLMError
from seedlm.golden.images import activation_image, parse_results, scale_image, weight_image
from seedlm.golden.matrix import PackedMatrix
from seedlm.hdl.registers import COUNTERS, ErrorCode, counter_registers, register
from seedlm.host.identity import check_identity
from seedlm.host.regions import Allocator, ProductRegions, region_sizes
from seedlm.host.transport import Transport

__all__ = ["Accelerator", "AcceleratorError", "Matrix", "Outcome", "Vector"]

COUNT_MASK = 0xFFFFFFFF  # SUBMITTED and COMPLETED wrap


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


@dataclass(frozen=True)
class Matrix:
    """A weight matrix in the accelerator's memory.

    `scale` is a product's scale where none is given, `scales` the address of the row scales (None: the codec has none).
    """

    rows: int
    cols: int
    address: int
    scale: np.float32
    scales: int | None


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
    """An accelerator with its memory.

    Products run in the order in which they are submitted. When one ends with an error the accelerator holds the next
    ones until the error is cleared.

    Parameters
    ----------
    transport : Transport
        The way to it.
    config : Config, optional
        The build that is expected. Without it, the registers tell.
    memory : tuple of int, optional
        First address and size of the part of the memory that `allocate` gives out. Default: all of it.
    timeout : float, optional
        Longest wait for an interrupt, in the transport's unit.

    Raises
    ------
    SeedLMError
        No accelerator there, another version, another build than expected, or it is at work already.
    """

    def __init__(
        self, transport: Transport, config: Config | None = None, *, memory: tuple[int, int] | None = None,
        timeout: float | None = None,
    ) -> None:  # fmt: skip
        self.transport = transport
        self.timeout = timeout
        self.config = check_identity(self._read, config)

        self._submitted = self._read("SUBMITTED")
        self._completed = self._read("COMPLETED")
        if self._submitted != self._completed:
            count = self._submitted - self._completed & COUNT_MASK
            raise SeedLMError(f"the accelerator is at work: {count} products of another program have not ended")
        self.clear_error()
        self._reported = self._submitted  # the codes of the products before this one were given to the caller
        self._codes: dict[int, ErrorCode] = {}  # of failed products from there on
        self._control = register("CONTROL").unpack(0)
        self._write("CONTROL", 0)
        self._write("IRQ_STATUS", register("IRQ_STATUS").pack(product_done=1, idle=1, error=1))

        first, size = memory or (0, 1 << self.config.addr_bits)
        self._memory = Allocator(first, first + size)

    # --- registers -------------------------------------------------------------------------------

    def _read(self, name: str) -> int:
        return self.transport.read32(register(name).offset)

    def _write(self, name: str, value: int) -> None:
        self.transport.write32(register(name).offset, value)

    def _set_control(self, **values: int) -> None:
        """Change bits of CONTROL."""
        new = {**self._control, **values}
        if new != self._control:
            self._control = new
            self._write("CONTROL", register("CONTROL").pack(new))

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
        """What is allocated inside is free again afterwards."""
        mark = self._memory.next
        try:
            yield
        finally:
            self._memory.next = mark

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
        return self.load_image(
            matrix.rows,
            matrix.cols,
            weight_image(self.config, matrix),
            scales=matrix.scales,
            scale=None if self.config.codec.row_scales else matrix.scale,
        )

    def load_image(
        self, rows: int, cols: int, image: np.ndarray, *, scales: np.ndarray | None = None, scale: float | None = None
    ) -> Matrix:
        """Put a weight image (`golden.images.weight_image`, uint8) and row scales (float32 [rows]) into the memory.

        Raises
        ------
        SeedLMError
            Wrong sizes, row scales that are missing or not wanted, too large for the build or the memory.
        """
        self._check_size(rows, cols)
        size = region_sizes(self.config, rows, cols)["weights"]
        if image.dtype != np.uint8 or image.shape != (size,):
            found = f"{image.dtype} {list(image.shape)}"
            raise SeedLMError(f"the image of {rows} x {cols} weights is uint8 [{size}], not {found}")
        if self.config.codec.row_scales != (scales is not None):
            raise SeedLMError(f"codec {self.config.codec} {'needs' if scales is None else 'has no'} row scales")
        if scales is not None and np.shape(scales) != (rows,):
            raise SeedLMError(f"{rows} rows need {rows} row scales, not shape {list(np.shape(scales))}")
        return Matrix(
            rows=rows,
            cols=cols,
            address=self._store(image),
            scales=None if scales is None else self._store(scale_image(self.config, scales)),
            scale=np.float32(1) if scale is None else np.float32(scale),
        )

    def load_activations(self, x: np.ndarray) -> Vector:
        """Put a float16 vector [cols] into the memory.

        Raises
        ------
        SeedLMError
            Not a float16 vector, or too long for the build or the memory.
        """
        image = activation_image(self.config, x)
        self._check_size(1, x.size)
        return Vector(cols=x.size, address=self._store(image))

    # --- products --------------------------------------------------------------------------------

    def place(self, matrix: Matrix, activations: int) -> ProductRegions:
        """Regions of a product of `matrix` and the activations at that address; the results' region is a new one."""
        return ProductRegions.place(
            self.config, matrix.rows, matrix.cols, self.allocate,
            weights=matrix.address, scales=matrix.scales or 0, activations=activations,
        )  # fmt: skip

    def submit(
        self, regions: ProductRegions, *, scale: float = 1.0, same: bool = False, on_error: str = "raise"
    ) -> int:
        """Queue a product of regions in memory; waits while the queue is full.

        Parameters
        ----------
        regions : ProductRegions
            Shape and addresses.
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
        self._completed += self._read("COMPLETED") - self._completed & COUNT_MASK
        code = ErrorCode(self._read("ERROR"))
        if code is not ErrorCode.NONE:
            # Perhaps one that has ended after COMPLETED was read: the difference has a sign.
            after = self._read("ERROR_PRODUCT") - self._completed + (1 << 31) & COUNT_MASK
            product = self._completed + after - (1 << 31)
            self._codes[product] = code
            if on_error == "raise":
                raise AcceleratorError(code, product)
            self.clear_error()

    def clear_error(self) -> None:
        """Let the products after a failed one go on. Without an error, nothing happens."""
        self._write("ERROR_CLEAR", register("ERROR_CLEAR").pack(clear=1))

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
        self._set_control(pause=1)
        try:
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
            In the order of the jobs. Errors of products are in their codes (and cleared), no exception.

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
            queue, before, address = [], None, 0
            for matrix, x, scale in prepared:
                key = x if isinstance(x, Vector) else x.tobytes()
                same = key == before
                if not same:
                    address = x.address if isinstance(x, Vector) else self._store(x)
                before = key
                queue.append((self.place(matrix, address), scale, same))
            with self.paused() if together and len(queue) <= self.config.queue_depth else nullcontext():
                for regions, scale, same in queue:
                    self.submit(regions, scale=scale, same=same, on_error="continue")
            codes = self.wait(on_error="continue")
            return [Outcome(code, self._results(regions)) for code, (regions, *_) in zip(codes, queue, strict=True)]

    def _results(self, regions: ProductRegions) -> np.ndarray:
        return parse_results(self.config, self.transport.mem_read(regions.results, 4 * regions.rows), regions.rows)

    def _prepare(self, matrix: Matrix, x: np.ndarray | Vector, scale: float | None = None) -> tuple:
        """A job of `products`, checked: the matrix, the vector or its image, the scale."""
        if not isinstance(x, Vector):
            image, cols = activation_image(self.config, x), np.size(x)
        else:
            image, cols = x, x.cols
        if cols != matrix.cols:
            raise SeedLMError(f"the matrix has {matrix.cols} columns, x has {cols} elements")
        if self.config.codec.row_scales and scale is not None:
            raise SeedLMError(f"codec {self.config.codec} has row scales: a product has no scale, not {scale}")
        with np.errstate(over="ignore", under="ignore"):
            factor = matrix.scale if scale is None else np.float32(scale)
        if not np.isfinite(factor):
            raise SeedLMError(f"the scale of a product must be a finite binary32, not {scale}")
        return matrix, image, factor
