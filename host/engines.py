"""What multiplies the matrices of a model: FP32 as the model was trained, the reference, an accelerator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from seedlm.golden.codecs import Codec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.tensors import RawTensor
from seedlm.golden.matrix import PackedMatrix
from seedlm.golden.product import Prepared, Vectors, product
from seedlm.golden.rotation import Rotation
from seedlm.hdl.registers import ErrorCode
from seedlm.host.driver import Accelerator, Matrix
from seedlm.host.traffic import Counted

__all__ = [
    "AcceleratorEngine", "Activations", "ApproximateEngine", "CheckedEngine", "FloatEngine", "ReferenceEngine", "Usage",
]  # fmt: skip

Kind = tuple[Rotation | None, int]  # what decides on a matrix's vectors: its rotation, and the columns of a group

LARGEST_HALF = np.float32(65504)
MEMORY = 4 << 30  # bytes that decoded matrices may take: 2 billion weights of a trellis


@dataclass
class Activations:
    """The one rule by which FP32 activations become FP16, for every engine.

    Rounded to nearest, ties to even; finite values beyond the largest FP16 become that (and are counted), NaN and
    infinities are an error.

    Attributes
    ----------
    clipped : int
        How many were beyond.
    """

    clipped: int = 0

    def half(self, x: np.ndarray, rotation: Rotation | None = None) -> np.ndarray:
        """`x`, float32, as float16; turned first if the matrices are."""
        if not np.isfinite(x).all():
            raise SeedLMError("an activation is NaN or infinite: the model's weights or its computation overflow FP32")
        if rotation is not None:
            x = rotation.vectors(x)
        beyond = np.abs(x) > LARGEST_HALF
        if beyond.any():
            self.clipped += int(np.count_nonzero(beyond))
            x = np.clip(x, -LARGEST_HALF, LARGEST_HALF)
        return x.astype(np.float16)

    def vectors(self, x: np.ndarray, kinds: Iterable[Kind]) -> dict[Kind, Vectors]:
        """`x` for matrices of these kinds, turned and rounded once for all that share one."""
        kinds = dict.fromkeys(kinds)
        halves = {rotation: self.half(x, rotation) for rotation, _ in kinds}
        return {kind: Vectors(halves[kind[0]], kind[1]) for kind in kinds}


class FloatEngine:
    """FP32 weights and FP32 activations: the original model.

    Parameters
    ----------
    tensors : mapping of str to RawTensor
        Widened to FP32 when first used, and kept.
    """

    def __init__(self, tensors: Mapping[str, RawTensor]):
        self._tensors = tensors
        self._weights: dict[str, np.ndarray] = {}

    def products(self, names: list[str], x: np.ndarray) -> list[np.ndarray]:
        for name in names:
            if name not in self._weights:
                weights = np.asarray(self._tensors[name].array(), dtype=np.float32)
                if not np.isfinite(weights).all():
                    raise SeedLMError(f"tensor {name!r} has NaN or infinity: expected finite weights")
                self._weights[name] = weights
        return [x @ self._weights[name].T for name in names]


class ReferenceEngine:
    """The exact product of `golden.product` on FP16 activations.

    Matrices are decoded once and kept, in the order of their first use, while there is room for them; the others are
    decoded for every product, some rows at a time.

    Parameters
    ----------
    matrix : callable
        Gives the packed matrix of a name; asked once for each.
    memory : int
        Bytes that decoded matrices may take.
    group : int, optional
        G of the build that is modelled, for all matrices (default: each codec's own).

    Attributes
    ----------
    decoded_bytes : int
        Bytes that they take.
    """

    def __init__(self, matrix: Callable[[str], PackedMatrix], memory: int = MEMORY, group: int | None = None):
        self.activations = Activations()
        self.decoded_bytes = 0
        self._matrix, self._memory, self._group = matrix, memory, group
        self._ready: dict[str, Prepared | PackedMatrix] = {}
        self._kinds: dict[str, Kind] = {}

    def products(self, names: list[str], x: np.ndarray) -> list[np.ndarray]:
        for name in names:
            if name not in self._ready:
                self._ready[name] = self._prepared(name)
        vectors = self.activations.vectors(x, (self._kinds[name] for name in names))
        return [product(self._ready[name], vectors[self._kinds[name]], group=self._group) for name in names]

    def _prepared(self, name: str) -> Prepared | PackedMatrix:
        matrix = self._matrix(name)
        self._kinds[name] = matrix.rotation, self._group or matrix.codec.group
        room = self._memory - self.decoded_bytes
        if matrix.rows * matrix.cols > room:  # a weight takes a byte at least
            return matrix
        prepared = Prepared(matrix, group=self._group)
        if prepared.nbytes > room:
            return matrix
        self.decoded_bytes += prepared.nbytes
        return prepared


class ApproximateEngine:
    """As the reference, but summed in FP32: for measurements over many tokens.

    The weights are the decoded ones and the activations have the mantissas that the accelerator gives them; only the
    order and the rounding of the sums differ.

    Parameters
    ----------
    weights : callable
        Gives the decoded matrix of a name, float32, rotated if it is stored so; asked once for each.
    codec : callable
        Gives the codec of a name, by which activations are grouped. None: FP16 without groups.
    rotation : callable
        Gives the rotation of a name, or None.
    """

    def __init__(self, weights: Callable[[str], np.ndarray], codec: Callable[[str], Codec | None],
                 rotation: Callable[[str], Rotation | None] = lambda name: None):  # fmt: skip
        self.activations = Activations()
        self._weights, self._codec, self._rotation = weights, codec, rotation
        self._ready: dict[str, np.ndarray] = {}

    def products(self, names: list[str], x: np.ndarray) -> list[np.ndarray]:
        kinds = [self._kind(name) for name in names]
        vectors = self.activations.vectors(x, kinds)
        grouped = {kind: vectors[kind].values.astype(np.float32) for kind in vectors}
        for name in names:
            if name not in self._ready:
                self._ready[name] = self._weights(name)
        return [grouped[kind] @ self._ready[name].T for name, kind in zip(names, kinds, strict=True)]

    def _kind(self, name: str) -> Kind:
        codec = self._codec(name)
        return self._rotation(name), 1 if codec is None else codec.group  # a group of one keeps every bit


class CheckedEngine:
    """An engine whose every product is compared with another's, bit for bit.

    Parameters
    ----------
    engine : AcceleratorEngine
        Whose products are given.
    expected : ReferenceEngine
        What they must equal.

    Attributes
    ----------
    compared : int
        Results that were found equal.
    """

    def __init__(self, engine: AcceleratorEngine, expected: ReferenceEngine):
        self.engine, self.expected, self.compared = engine, expected, 0

    @property
    def activations(self) -> Activations:
        """Of the engine whose products are given."""
        return self.engine.activations

    def usage(self) -> Usage:
        """What the engine whose products are given has used since the last call."""
        return self.engine.usage()

    def products(self, names: list[str], x: np.ndarray) -> list[np.ndarray]:
        found, expected = self.engine.products(names, x), self.expected.products(names, x)
        for name, y, wanted in zip(names, found, expected, strict=True):
            wrong = y.view(np.uint32) != wanted.view(np.uint32)
            if wrong.any():
                vector, row = (int(i) for i in np.argwhere(wrong)[0])
                raise SeedLMError(f"{name}: {np.count_nonzero(wrong)} of {wrong.size} results differ from the"
                                  f" reference: the first is row {row} of vector {vector}, {y[vector, row]!r}"
                                  f" instead of {wanted[vector, row]!r}")  # fmt: skip
            self.compared += wrong.size
        return found


@dataclass
class Usage(Counted):
    """What products have cost on an accelerator.

    Attributes
    ----------
    counters : dict of str to int
        All its counters, `hdl.registers.COUNTERS`.
    """

    counters: dict[str, int] = field(default_factory=dict)


class AcceleratorEngine:
    """Every product on an accelerator, the weights resident in its memory.

    Parameters
    ----------
    accelerators : Accelerator or sequence of Accelerator
        A build that has all codecs of the matrices, or several that have them together. Products of several builds run
        one after the other, and their counters are added up.
    matrices : mapping of str to PackedMatrix
        Loaded now, all of them.
    progress : callable, optional
        Called with the number of weights of each matrix that was loaded.

    Raises
    ------
    SeedLMError
        They do not fit the build or its memory, or there is no build for a codec.
    """

    def __init__(
        self, accelerators: Accelerator | Sequence[Accelerator], matrices: Mapping[str, PackedMatrix],
        progress: Callable[[int], None] | None = None,
    ) -> None:  # fmt: skip
        self.activations = Activations()
        self.accelerators = [accelerators] if isinstance(accelerators, Accelerator) else list(accelerators)
        self._loaded: dict[str, tuple[Accelerator, Matrix]] = {}
        self._rotations: dict[str, Rotation | None] = {}
        for name in matrices:
            matrix = matrices[name]
            accelerator = self._accelerator(matrix.codec)
            # The vectors are turned here, once for all matrices that share a rotation.
            self._loaded[name] = accelerator, replace(accelerator.load_matrix(matrix), rotation=None)
            self._rotations[name] = matrix.rotation
            if progress:
                progress(matrix.rows * matrix.cols)
        for accelerator in self.accelerators:
            accelerator.clear_counters()

    def _accelerator(self, codec: Codec) -> Accelerator:
        """The one that has this codec; if none has, the first, which says what is wrong."""
        fitting = [a for a in self.accelerators if any(codec.same_format(own) for own in a.config.codecs)]
        return (fitting or self.accelerators)[0]

    def products(self, names: list[str], x: np.ndarray) -> list[np.ndarray]:
        found: dict[str, np.ndarray] = {}
        for rotation in dict.fromkeys(self._rotations[name] for name in names):
            half = self.activations.half(x, rotation)
            some = [name for name in dict.fromkeys(names) if self._rotations[name] == rotation]
            for accelerator in self.accelerators:
                here = [name for name in some if self._loaded[name][0] is accelerator]
                if here:
                    found |= self._run(accelerator, here, half)
        return [found[name] for name in names]

    def _run(self, accelerator: Accelerator, names: list[str], half: np.ndarray) -> dict[str, np.ndarray]:
        # Vector by vector, so that the matrices share the activations that were loaded for the first of them.
        jobs = [(self._loaded[name][1], row) for row in half for name in names]
        # Started when all are queued: what a token costs is then the accelerator's time, not that of a host which
        # writes registers, as in `sim.timing`.
        outcomes = accelerator.products(jobs, together=True)
        for outcome in outcomes:
            if outcome.code is not ErrorCode.NONE:
                raise SeedLMError(f"a product of {', '.join(names)} ended with {outcome.code.name}: {outcome.code.doc}")
        rows = [outcome.y for outcome in outcomes]
        return {name: np.stack(rows[i :: len(names)]) for i, name in enumerate(names)}

    def usage(self) -> Usage:
        """What was used since the last call, all accelerators together."""
        total: dict[str, int] = {}
        for accelerator in self.accelerators:
            counters = accelerator.counters()
            accelerator.clear_counters()
            total = {name: total.get(name, 0) + count for name, count in counters.items()}
        return Usage(total)
