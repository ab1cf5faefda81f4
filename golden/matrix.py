"""A compressed weight matrix in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seedlm.golden.build import Codec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.tensors import SOURCE_DTYPES
from seedlm.golden.fp32 import fl32_from_ratio
from seedlm.golden.words import unpack, weights_int

__all__ = ["PackedMatrix", "SOURCE_DTYPES", "default_scale"]




def default_scale(codec: Codec, exp_bias: int = 0) -> np.float32:
    """The binary32 by which a product is multiplied where nothing else is said.

    fl32(2**exp_bias / (2**(K-1) - 1)); 1 for ``fp16``.
    """
    if codec.is_fp16:
        return np.float32(1)
    return fl32_from_ratio(1 << max(0, exp_bias), codec.denominator << max(0, -exp_bias))


@dataclass(eq=False)
class PackedMatrix:
    """A weight matrix [rows, cols] as block words, or as binary16 for ``fp16``.

    Parameters
    ----------
    codec : Codec
        How the words are to be read.
    shape : tuple of int
        rows (outputs), cols (inputs).
    words : np.ndarray
        uint64 [rows, blocks], one block word each; for ``fp16`` uint16 [rows, cols], the halves.
    scales : np.ndarray or None
        float32 [rows] if the codec has row scales, else None.
    exp_bias : int
        b: the weights have the factor 2**b. 0 with row scales and for ``fp16``.
    dtype : str
        What the weights were before compression: F16, BF16 or F32.

    Nothing is checked on construction, see `check`.
    """

    codec: Codec
    shape: tuple[int, int]
    words: np.ndarray
    scales: np.ndarray | None = None
    exp_bias: int = 0
    dtype: str = "F32"

    @property
    def rows(self) -> int:
        return self.shape[0]

    @property
    def cols(self) -> int:
        return self.shape[1]

    @property
    def scale(self) -> np.float32:
        """The product's scale where there are no row scales."""
        return default_scale(self.codec, self.exp_bias)

    @property
    def stored_bits(self) -> int:
        """Bits of the words and the row scales in a packed file."""
        per_row = 16 * self.cols if self.codec.is_fp16 else 8 * self.codec.row_stride(self.cols)
        return self.rows * (per_row + (32 if self.codec.row_scales else 0))

    def row_slice(self, start: int, stop: int) -> PackedMatrix:
        """Rows start to stop - 1, sharing the words."""
        words = self.words[start:stop]
        scales = None if self.scales is None else self.scales[start:stop]
        return PackedMatrix(self.codec, (len(words), self.cols), words, scales, self.exp_bias, self.dtype)

    def halves(self) -> np.ndarray:
        """The weights of an ``fp16`` matrix, float16 [rows, cols]."""
        return np.ascontiguousarray(self.words).view(np.float16)

    def decode(self, dtype: type = np.float32) -> np.ndarray:
        """The weights [rows, cols], computed in float64 and rounded to `dtype`.

        With row scales and for ``fp16`` the float64 values are exact, otherwise the division by
        2**(K-1) - 1 is rounded once.
        """
        if self.codec.is_fp16:
            return self.halves().astype(dtype)
        out = np.empty(self.shape, dtype=dtype)
        step = max(1, (1 << 20) // max(1, self.cols))
        for start in range(0, self.rows, step):
            words = self.words[start : start + step]
            exponent = unpack(self.codec, words)[1]
            weights = weights_int(self.codec, words).astype(np.float64)
            weights = np.ldexp(weights, (exponent + self.exp_bias)[..., None])
            weights = weights.reshape(len(words), -1)[:, : self.cols]
            if self.scales is None:
                weights /= self.codec.denominator
            else:
                weights *= self.scales[start : start + step, None].astype(np.float64)
            with np.errstate(over="ignore", under="ignore"):
                out[start : start + step] = weights
        return out

    def check(self, where: str = "matrix") -> None:
        """Raise `SeedLMError`, with `where` in front, if this is not what an encoder may give.

        Refused: sizes that do not agree, bits above the width of a word, a seed of 0 with a non-zero
        coefficient, row scales or binary16 weights that are not finite, an exponent bias with which
        the scale is not a positive finite binary32.
        """
        codec, (rows, cols) = self.codec, self.shape

        def require(condition: bool, message: str) -> None:
            if not condition:
                raise SeedLMError(f"{where}: {message}")

        require(rows > 0 and cols > 0, f"rows and columns must be positive, not {rows} x {cols}")
        require(
            self.dtype in SOURCE_DTYPES, f"source dtype must be one of {', '.join(SOURCE_DTYPES)}, not {self.dtype!r}"
        )
        expected = (np.uint16, (rows, cols)) if codec.is_fp16 else (np.uint64, (rows, codec.blocks(cols)))
        require(
            (self.words.dtype, self.words.shape) == expected,
            f"the words of {rows} x {cols} weights in codec {codec} must be"
            f" {np.dtype(expected[0])} {list(expected[1])}, not {self.words.dtype} {list(self.words.shape)}",
        )
        if codec.row_scales:
            require(self.scales is not None, f"codec {codec} needs row scales")
            require(
                self.scales.dtype == np.float32 and self.scales.shape == (rows,),
                f"row scales must be float32 [{rows}], not {self.scales.dtype} {list(self.scales.shape)}",
            )
            bad = np.flatnonzero(~np.isfinite(self.scales)).tolist()
            if bad:
                require(False, f"{len(bad)} of {rows} row scales are NaN or infinite, the first in row {bad[0]}")
        else:
            require(self.scales is None, f"codec {codec} has no row scales")
        if codec.row_scales or codec.is_fp16:
            require(self.exp_bias == 0, f"codec {codec} has no exponent bias, found {self.exp_bias}")
        else:
            plausible = abs(self.exp_bias) < 256 and np.isfinite(self.scale) and self.scale > 0
            require(plausible, f"exponent bias {self.exp_bias} does not give a positive finite binary32 scale")
        if codec.is_fp16:
            bad = (self.words & 0x7C00) == 0x7C00
            fault = "weights are NaN or infinite"
        else:
            if codec.word_bits < 64:
                bad = self.words >> np.uint64(codec.word_bits) != 0
                require(not bad.any(), f"{np.count_nonzero(bad)} words have more than {codec.word_bits} bits")
            fields = self.words >> np.uint64(codec.K + codec.B)
            bad = (self.words & np.uint64(codec.seeds) == 0) & (fields != 0)
            fault = "blocks have seed 0 and non-zero coefficients"
        if bad.any():
            row, column = (int(i) for i in np.argwhere(bad)[0])
            unit = "column" if codec.is_fp16 else "block"
            require(False, f"{np.count_nonzero(bad)} of {bad.size} {fault}, the first in row {row}, {unit} {column}")

    @classmethod
    def random(cls, codec: Codec, rows: int, cols: int, rng: np.random.Generator) -> PackedMatrix:
        """Random bits in every word (``fp16``: random finite halves), row scales of either sign around 2**-17.

        Words of seed 0 are given seed 1, so that the matrix passes `check`.
        """
        if codec.is_fp16:
            halves = rng.integers(0, 1 << 16, (rows, cols), dtype=np.uint16)
            halves[halves & 0x7C00 == 0x7C00] ^= 0x4000
            return cls(codec, (rows, cols), halves, dtype="F16")
        words = rng.integers(0, 1 << 64, (rows, codec.blocks(cols)), dtype=np.uint64)
        words >>= np.uint64(64 - codec.word_bits)
        words[words & np.uint64(codec.seeds) == 0] |= np.uint64(1)
        scales = None
        if codec.row_scales:
            scales = np.ldexp(rng.standard_normal(rows), -17).astype(np.float32)
        return cls(codec, (rows, cols), words, scales)
