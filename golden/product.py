"""The exact matrix-vector product and its rounding to binary32.

With W_{r,c} = N_{r,c} << e and X_c = m_c << E the exact result is the integer product W X, up to 106
bits wide. It is computed here by float64 matrix multiplications that cannot round: W and X are cut
into digits so small that every sum of absolute products stays below 2**53, whatever the order of
summation. Usually one digit of W and two of X are enough.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from seedlm.golden.activations import check_vector, groups
from seedlm.golden.errors import SeedLMError
from seedlm.golden.fp32 import PAIR_BITS, QUIET_NAN, fl32_from_int, fl32_from_pair, fl32_mul
from seedlm.golden.matrix import PackedMatrix

__all__ = ["Prepared", "exact", "fl32_from_int", "fl32_mul", "product"]

EXACT_BITS = 53  # integers up to 2**53 are exact in float64
MIN_DIGIT_BITS = 9  # smaller digits of X would cost more than a second digit of W
CHUNK_WEIGHTS = 1 << 20  # weights decoded at a time where the matrix is used once


def _digits(values: np.ndarray, bits: int) -> Iterator[np.ndarray]:
    """Balanced digits of int64 values, base 2**bits, lowest first; each -2**(bits-1) to 2**(bits-1) - 1."""
    half, mask = 1 << (bits - 1), (1 << bits) - 1
    while values.any():
        digit = (values + half & mask) - half
        yield digit
        values = values - digit >> bits


class Prepared:
    """A matrix decoded once, for many products.

    Parameters
    ----------
    matrix : PackedMatrix
        Takes 8 bytes per weight, 16 if its integers need two digits.
    group : int, optional
        G, the columns that share an activation exponent; by default the codec's own.

    Raises
    ------
    SeedLMError
        Row scales or binary16 weights that are not finite.
    """

    def __init__(self, matrix: PackedMatrix, group: int | None = None):
        self.matrix = matrix
        self.group = matrix.codec.group if group is None else group
        if matrix.scales is not None and not np.isfinite(matrix.scales).all():
            raise SeedLMError("row scales must be finite, found NaN or infinity")
        weights, self._shift = matrix.codec.integers(matrix.words, matrix.cols)
        # (digit as float64 [rows, cols], its place, width of the digits of X it can take)
        self._digits: list[tuple[np.ndarray, int, int]] = []
        width = self._x_bits(weights)
        if width >= MIN_DIGIT_BITS:
            self._digits.append((weights.astype(np.float64), 0, width))
        else:
            bits = int(np.abs(weights).max()).bit_length() // 2 + 1
            for i, digit in enumerate(_digits(weights, bits)):
                self._digits.append((digit.astype(np.float64), i * bits, self._x_bits(digit)))

    @staticmethod
    def _x_bits(weights: np.ndarray) -> int:
        """The largest b such that sum |w| * 2**(b-1) <= 2**53 in every row."""
        total = int(np.abs(weights).sum(axis=1).max())
        return EXACT_BITS + 1 - (total - 1).bit_length() if total else EXACT_BITS

    def pair(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Exact products of finite float16 vectors [n, cols]: A = high * 2**56 + low, int64 [n, rows]."""
        m, E = groups(x, self.group)
        used = (m != 0).any(axis=-1)
        lowest = int(E[used].min()) if used.any() else -14
        X = m.astype(np.int64) << np.maximum(E - lowest, 0)[..., None]
        X = X.reshape(len(x), -1)[:, : self.matrix.cols]
        high = np.zeros((len(x), self.matrix.rows), dtype=np.int64)
        low = np.zeros_like(high)
        for weights, place, bits in self._digits:
            for i, digit in enumerate(_digits(X, bits)):
                part = (digit.astype(np.float64) @ weights.T).astype(np.int64)
                shift = self._shift + lowest + 14 + place + i * bits
                if shift >= PAIR_BITS:
                    high += part << (shift - PAIR_BITS)
                else:
                    high += part >> (PAIR_BITS - shift)
                    low += (part & ((1 << (PAIR_BITS - shift)) - 1)) << shift
        return high + (low >> PAIR_BITS), low & ((1 << PAIR_BITS) - 1)

    def _vectors(self, x: np.ndarray, rotated: bool) -> np.ndarray:
        x = check_vector(x, self.matrix.cols).reshape(-1, self.matrix.cols)
        return x if rotated or self.matrix.rotation is None else self.matrix.rotation.half(x)

    def exact(self, x: np.ndarray, *, rotated: bool = False) -> np.ndarray:
        """A as Python integers, see `exact`."""
        high, low = self.pair(self._vectors(x, rotated))
        A = (high.astype(object) << PAIR_BITS) + low.astype(object)
        return A.reshape(*np.shape(x)[:-1], self.matrix.rows)

    def product(self, x: np.ndarray, scale: float | None = None, *, rotated: bool = False) -> np.ndarray:
        """y as float32, see `product`."""
        vectors = self._vectors(x, rotated)
        matrix = self.matrix
        factor = _scale(matrix, scale)
        good = np.isfinite(vectors).all(axis=1)
        y = np.full((len(vectors), matrix.rows), QUIET_NAN, dtype=np.float32)
        if good.any():
            high, low = self.pair(vectors[good])
            y[good] = fl32_mul(fl32_from_pair(high, low, matrix.codec.fraction_bits), factor)
        return y.reshape(*np.shape(x)[:-1], matrix.rows)


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


def _chunks(matrix: PackedMatrix, group: int | None) -> Iterator[Prepared]:
    step = max(1, CHUNK_WEIGHTS // max(1, matrix.cols))
    for start in range(0, matrix.rows, step):
        yield Prepared(matrix.row_slice(start, start + step), group)


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
    return np.concatenate([part.exact(x, rotated=rotated) for part in _chunks(matrix, group)], axis=-1)


def product(
    matrix: PackedMatrix | Prepared, x: np.ndarray, scale: float | None = None, *, group: int | None = None,
    rotated: bool = False,
) -> np.ndarray:  # fmt: skip
    """y = fl32(fl32(A * 2**-fraction_bits) * scale), bit for bit what the accelerator gives.

    Parameters
    ----------
    matrix : PackedMatrix or Prepared
        The weights [rows, cols]; prepare those that are used many times.
    x : np.ndarray
        float16 [..., cols]: one vector or several.
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
    return np.concatenate([part.product(x, scale, rotated=rotated) for part in _chunks(matrix, group)], axis=-1)
