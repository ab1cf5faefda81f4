"""The exact matrix-vector product and its rounding to binary32.

With W_{r,c} = N_{r,c} << e and X_c = m_c << E the exact result is the integer product W X, up to 106
bits wide. It is computed here by float64 matrix multiplications that cannot round: W and X are cut
into digits so small that every sum of absolute products stays below 2**53, whatever the order of
summation. Usually one digit of each is enough; the product is then one matrix multiplication, and
its rounding to float32 the contract's first. Else it takes one digit of W and two of X.

Weights are decoded some rows at a time and kept in the smallest type that holds them: two bytes for
those of a trellis. They are widened, while they are in the processor's cache, when they are used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from seedlm.golden.activations import check_vector, groups
from seedlm.golden.errors import SeedLMError
from seedlm.golden.fp32 import PAIR_BITS, QUIET_NAN, fl32_from_int, fl32_from_pair, fl32_mul
from seedlm.golden.matrix import PackedMatrix

__all__ = ["Prepared", "Vectors", "exact", "fl32_from_int", "fl32_mul", "product"]

EXACT_BITS = 53  # integers up to 2**53 are exact in float64
MIN_DIGIT_BITS = 9  # smaller digits of X would cost more than a second digit of W
CHUNK_WEIGHTS = 1 << 18  # weights decoded and widened at a time: 2 MiB as float64
KEPT = (np.int8, np.int16, np.float32, np.float64)  # how weights are kept, the first that holds them


def _digits(values: np.ndarray, bits: int) -> Iterator[np.ndarray]:
    """Balanced digits of int64 values, base 2**bits, lowest first; each -2**(bits-1) to 2**(bits-1) - 1."""
    half, mask = 1 << (bits - 1), (1 << bits) - 1
    while values.any():
        digit = (values + half & mask) - half
        yield digit
        values = values - digit >> bits


def _compact(values: np.ndarray) -> np.ndarray:
    """Integers below 2**53 in the first type of `KEPT` that holds them all."""
    for kind in KEPT:
        found = values.astype(kind)
        if (found == values).all():
            return found
    raise AssertionError("weights have 53 bits at most")


class Vectors:
    """Activation vectors, made ready once for the products of several matrices.

    Parameters
    ----------
    x : np.ndarray
        float16 [n, cols], rotated as the matrices are.
    group : int
        G, the columns that share an exponent.

    Attributes
    ----------
    good : np.ndarray
        bool [n]: no element is NaN or infinite.
    values : np.ndarray
        float64 [n, cols]: m * 2**(E - 16), what the accelerator makes of x; 0 where not good.
    bits : np.ndarray
        int [n]: every X of the vector is a multiple of its smallest place and at most 2**bits of these.

    Raises
    ------
    SeedLMError
        x is not float16.
    """

    def __init__(self, x: np.ndarray, group: int):
        self.x, self.group = check_vector(x), group
        n, cols = x.shape
        count = -(-cols // group)
        padded = np.pad(x, ((0, 0), (0, count * group - cols))).reshape(n, count, group)
        largest = (padded.view(np.uint16) & np.uint16(0x7FFF)).max(axis=-1, initial=0)
        self.good = (largest < 0x7C00).all(axis=1)
        exponent = np.maximum(largest >> 10, 1).astype(np.int32) - 15
        top = exponent.max(axis=1, initial=-14)
        self.bits = 17 + top - np.where(largest > 0, exponent, top[:, None]).min(axis=1, initial=15)
        # Beside 1.5 * 2**(E + 7) a binary32 has its last place at 2**(E - 16): the sum is rounded there, ties to even.
        place = np.ldexp(np.float32(1.5), exponent + 7)[..., None]
        with np.errstate(invalid="ignore"):
            rounded = padded.astype(np.float32) + place - place
        self.values = rounded.reshape(n, count * group)[:, :cols].astype(np.float64)
        self.values[~self.good] = 0
        self._integers: tuple[bytes, np.ndarray, int] = (b"", np.zeros((0, cols), np.int64), 0)

    def __len__(self) -> int:
        return len(self.x)

    def integers(self, some: np.ndarray) -> tuple[np.ndarray, int]:
        """X of some good vectors (by a bool [n]), int64 [k, cols], and E of their common last place."""
        key = some.tobytes()
        if self._integers[0] != key:  # mostly the same ones for all rows of a matrix
            m, E = groups(self.x[some], self.group)
            used = (m != 0).any(axis=-1)
            lowest = int(E[used].min()) if used.any() else -14
            X = m.astype(np.int64) << np.maximum(E - lowest, 0)[..., None]
            self._integers = key, X.reshape(len(m), X.shape[1] * self.group)[:, : self.x.shape[1]], lowest
        return self._integers[1:]


class _Rows:
    """Some rows of a matrix, decoded.

    Attributes
    ----------
    shift : int
        See `Codec.integers`.
    digits : list of (np.ndarray, int, int)
        A digit of W as `_compact` keeps it, its place, and the width of the digits of X that it can take.
    """

    def __init__(self, matrix: PackedMatrix):
        weights, self.shift = matrix.codec.integers(matrix.words, matrix.cols)
        self.count = len(weights)
        self.digits: list[tuple[np.ndarray, int, int]] = []
        width = self.x_bits(weights)
        if width >= MIN_DIGIT_BITS:
            self.digits.append((_compact(weights), 0, width))
        else:
            bits = int(np.abs(weights).max()).bit_length() // 2 + 1
            for i, digit in enumerate(_digits(weights, bits)):
                self.digits.append((_compact(digit), i * bits, self.x_bits(digit)))

    @staticmethod
    def x_bits(weights: np.ndarray) -> int:
        """The largest b such that sum |w| * 2**(b-1) <= 2**53 in every row."""
        # In float64, since int64 may be too narrow: exact up to 2**53, and what lies above stays above.
        total = int(np.abs(weights).sum(axis=1, dtype=np.float64).max(initial=0))
        return EXACT_BITS + 1 - (total - 1).bit_length() if total else EXACT_BITS

    @property
    def nbytes(self) -> int:
        return sum(digit.nbytes for digit, _, _ in self.digits)

    def direct(self, vectors: Vectors) -> np.ndarray:
        """Whether one multiplication of floats gives the exact product, by vector: bool [n]."""
        width = self.digits[0][2] if len(self.digits) == 1 else 0
        return vectors.bits < width

    def product(self, values: np.ndarray, fraction_bits: int) -> np.ndarray:
        """fl32(A * 2**-fraction_bits) of `Vectors.values` for which `direct` holds, float32 [k, rows]."""
        A = values @ self.digits[0][0].T.astype(np.float64)
        A *= 2.0 ** (self.shift + 30 - fraction_bits)
        A += 0.0  # a sum of nothing but zeros must not be -0
        return A.astype(np.float32)

    def pair(self, X: np.ndarray, lowest: int) -> tuple[np.ndarray, np.ndarray]:
        """Exact products with `Vectors.integers`: A = high * 2**56 + low, int64 [k, rows]."""
        high = np.zeros((len(X), self.count), dtype=np.int64)
        low = np.zeros_like(high)
        for kept, place, bits in self.digits:
            weights = kept.T.astype(np.float64)
            for i, digit in enumerate(_digits(X, bits)):
                part = (digit.astype(np.float64) @ weights).astype(np.int64)
                shift = self.shift + lowest + 14 + place + i * bits
                if shift >= PAIR_BITS:
                    high += part << (shift - PAIR_BITS)
                else:
                    high += part >> (PAIR_BITS - shift)
                    low += (part & ((1 << (PAIR_BITS - shift)) - 1)) << shift
        return high + (low >> PAIR_BITS), low & ((1 << PAIR_BITS) - 1)


def _decoded(matrix: PackedMatrix) -> Iterator[_Rows]:
    """A matrix, some rows at a time."""
    step = max(1, CHUNK_WEIGHTS // max(1, matrix.cols))
    for start in range(0, matrix.rows, step):
        yield _Rows(matrix.row_slice(start, start + step))


class Prepared:
    """A matrix decoded once, for many products.

    Parameters
    ----------
    matrix : PackedMatrix
        Takes 2 bytes per weight in memory of a trellis, 4 of the codecs with seeds; see `nbytes`.
    group : int, optional
        G, the columns that share an activation exponent; by default the codec's own.

    Raises
    ------
    SeedLMError
        Row scales or binary16 weights that are not finite.
    """

    def __init__(self, matrix: PackedMatrix, group: int | None = None):
        _check_scales(matrix)
        self.matrix = matrix
        self.group = matrix.codec.group if group is None else group
        self.parts = list(_decoded(matrix))

    @property
    def nbytes(self) -> int:
        """What the decoded weights take."""
        return sum(part.nbytes for part in self.parts)

    def exact(self, x: np.ndarray, *, rotated: bool = False) -> np.ndarray:
        """A as Python integers, see `exact`."""
        return _exact(self.matrix, self.parts, self.group, x, rotated)

    def product(self, x: np.ndarray | Vectors, scale: float | None = None, *, rotated: bool = False) -> np.ndarray:
        """y as float32, see `product`."""
        return _product(self.matrix, self.parts, self.group, x, scale, rotated)


def _check_scales(matrix: PackedMatrix) -> None:
    if matrix.scales is not None and not np.isfinite(matrix.scales).all():
        raise SeedLMError("row scales must be finite, found NaN or infinity")


def _vectors(matrix: PackedMatrix, group: int, x: np.ndarray, rotated: bool) -> Vectors:
    x = check_vector(x, matrix.cols).reshape(-1, matrix.cols)
    return Vectors(x if rotated or matrix.rotation is None else matrix.rotation.half(x), group)


def _exact(matrix: PackedMatrix, parts: Iterable[_Rows], group: int, x: np.ndarray, rotated: bool) -> np.ndarray:
    vectors = _vectors(matrix, group, x, rotated)
    X, lowest = vectors.integers(np.full(len(vectors), True))
    pairs = [part.pair(X, lowest) for part in parts]
    A = [(high.astype(object) << PAIR_BITS) + low.astype(object) for high, low in pairs]
    return np.concatenate(A, axis=-1).reshape(*np.shape(x)[:-1], matrix.rows)


def _product(matrix: PackedMatrix, parts: Iterable[_Rows], group: int, x: np.ndarray | Vectors,
             scale: float | None, rotated: bool) -> np.ndarray:  # fmt: skip
    shape = (len(x),) if isinstance(x, Vectors) else np.shape(x)[:-1]
    vectors = x if isinstance(x, Vectors) else _vectors(matrix, group, x, rotated)
    if vectors.group != group or vectors.x.shape[1] != matrix.cols:
        raise SeedLMError(f"vectors of {vectors.x.shape[1]} elements in groups of {vectors.group} do not fit a matrix"
                          f" of {matrix.cols} columns in groups of {group}")  # fmt: skip
    factor, bits, at = _scale(matrix, scale), matrix.codec.fraction_bits, 0
    y = np.zeros((len(vectors), matrix.rows), dtype=np.float32)
    for part in parts:
        direct, out = part.direct(vectors), y[:, at : at + part.count]
        if direct.all():
            out[:] = part.product(vectors.values, bits)
        else:
            if direct.any():
                out[direct] = part.product(vectors.values[direct], bits)
            rest = ~direct & vectors.good
            if rest.any():
                out[rest] = fl32_from_pair(*part.pair(*vectors.integers(rest)), bits)
        at += part.count
    y = fl32_mul(y, factor)
    y[~vectors.good] = QUIET_NAN
    return y.reshape(*shape, matrix.rows)


def _scale(matrix: PackedMatrix, scale: float | None) -> np.ndarray | np.float32:
    if matrix.scales is not None:
        if scale is not None:
            raise SeedLMError(f"codec {matrix.codec} has row scales: expected no scale for the product, not {scale}")
        return matrix.scales
    with np.errstate(over="ignore", under="ignore"):
        factor = matrix.scale if scale is None else np.float32(scale)
    if not np.isfinite(factor):
        raise SeedLMError(f"the scale of a product must be a finite binary32, not {factor if scale is None else scale}")
    return factor


def exact(
    matrix: PackedMatrix | Prepared, x: np.ndarray, *, group: int | None = None, rotated: bool = False
) -> np.ndarray:
    """The exact integers A_r = y_r / scale * 2**fraction_bits of the product.

    Parameters
    ----------
    matrix : PackedMatrix or Prepared
        The weights.
    x : np.ndarray
        float16 [..., cols], finite.
    group : int, optional
        As for `Prepared`, which has its own.
    rotated : bool
        x is rotated already, as the matrix is; otherwise that is done here, where the matrix is.

    Returns
    -------
    np.ndarray
        Python integers (dtype object) [..., rows].

    Raises
    ------
    SeedLMError
        x of the wrong length or dtype or not finite, weights that are not finite.
    """
    if isinstance(matrix, Prepared):
        return matrix.exact(x, rotated=rotated)
    _check_scales(matrix)
    return _exact(matrix, _decoded(matrix), matrix.codec.group if group is None else group, x, rotated)


def product(
    matrix: PackedMatrix | Prepared, x: np.ndarray | Vectors, scale: float | None = None, *, group: int | None = None,
    rotated: bool = False,
) -> np.ndarray:  # fmt: skip
    """y = fl32(fl32(A * 2**-fraction_bits) * scale), bit for bit what the accelerator gives.

    Parameters
    ----------
    matrix : PackedMatrix or Prepared
        The weights [rows, cols]; prepare those that are used many times.
    x : np.ndarray or Vectors
        float16 [..., cols]: one vector or several; or what was made of them for several matrices.
    scale : float, optional
        Rounded to binary32; by default the tensor's own. Must be None where it has row scales.
    group : int, optional
        As for `Prepared`, which has its own.
    rotated : bool
        x is rotated already, as the matrix is; otherwise that is done here, where the matrix is.

    Returns
    -------
    np.ndarray
        float32 [..., rows]. If a vector holds a NaN or an infinity, all its results are the quiet
        NaN 0x7FC00000.

    Raises
    ------
    SeedLMError
        x of the wrong length or dtype; weights, row scales or scale not finite.
    """
    if isinstance(matrix, Prepared):
        return matrix.product(x, scale, rotated=rotated)
    _check_scales(matrix)
    return _product(matrix, _decoded(matrix), matrix.codec.group if group is None else group, x, scale, rotated)
