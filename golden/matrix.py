"""A compressed weight matrix in memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from seedlm.golden.codecs import Codec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.tensors import SOURCE_DTYPES, release
from seedlm.golden.rotation import Rotation

__all__ = ["PackedMatrix"]

CHUNK_WEIGHTS = 1 << 20  # weights decoded at a time


class PackedMatrix:
    """A weight matrix [rows, cols] in a codec.

    Its words are held in one of two forms: as the codec's words in memory, or as the rows of a packed file, from
    which an image is made without a look at the words. `words` changes the second into the first when it is asked for.

    Parameters
    ----------
    codec : Codec
        How the words are to be read.
    shape : tuple of int
        rows (outputs), cols (inputs).
    words : np.ndarray, optional
        As `Codec.words_layout` says; else `stored`.
    scales : np.ndarray or None
        float32 [rows] if the codec has row scales, else None.
    exp_bias : int
        b: the weights have the factor 2**b. 0 where the codec has no exponent bias.
    dtype : str
        What the weights were before compression: F16, BF16 or F32.
    stored : np.ndarray, optional
        uint8 [rows, row_bytes], the rows of a packed file.
    rotation : Rotation or None
        The matrix that is stored is W D H; products take rotated vectors.

    Nothing is checked on construction, see `check`.
    """

    def __init__(
        self, codec: Codec, shape: tuple[int, int], words: np.ndarray | None = None, scales: np.ndarray | None = None,
        exp_bias: int = 0, dtype: str = "F32", *, stored: np.ndarray | None = None, rotation: Rotation | None = None,
    ) -> None:  # fmt: skip
        self.codec, self.shape, self.scales, self.exp_bias, self.dtype = codec, shape, scales, exp_bias, dtype
        self.rotation = rotation
        self._words, self._stored = words, stored

    @property
    def rows(self) -> int:
        return self.shape[0]

    @property
    def cols(self) -> int:
        return self.shape[1]

    @property
    def words(self) -> np.ndarray:
        """The words in memory, see `Codec.words_layout`."""
        if self._words is None:
            self._words, self._stored = self.codec.rows_to_words(self._stored, self.cols), None
        return self._words

    @words.setter
    def words(self, words: np.ndarray) -> None:
        self._words, self._stored = words, None

    @property
    def stored(self) -> np.ndarray:
        """The rows as a packed file has them, uint8 [rows, row_bytes]."""
        return self.codec.words_to_rows(self._words, self.cols) if self._stored is None else self._stored

    @property
    def scale(self) -> np.float32:
        """The product's scale where there are no row scales."""
        return self.codec.default_scale(self.exp_bias)

    @property
    def stored_bits(self) -> int:
        """Bits of the words and the row scales in a packed file."""
        return self.codec.stored_bits(*self.shape)

    def row_slice(self, start: int, stop: int) -> PackedMatrix:
        """Rows start to stop - 1, sharing the words."""
        start, stop, _ = slice(start, stop).indices(self.rows)
        words, stored = (None if part is None else part[start:stop] for part in (self._words, self._stored))
        scales = None if self.scales is None else self.scales[start:stop]
        shape = (max(0, stop - start), self.cols)
        return PackedMatrix(
            self.codec, shape, words, scales, self.exp_bias, self.dtype, stored=stored, rotation=self.rotation
        )

    def parts(self) -> Iterator[PackedMatrix]:
        """Some rows after the other, about `CHUNK_WEIGHTS` at a time; neither words nor pages of a file are kept."""
        step = max(1, CHUNK_WEIGHTS // max(1, self.cols))
        for start in range(0, self.rows, step):
            yield self.row_slice(start, start + step)
            if self._stored is not None:
                release(self._stored[start : start + step])

    @property
    def coded(self) -> PackedMatrix:
        """The matrix that is stored: of a rotated one W D H, sharing the words."""
        return PackedMatrix(self.codec, self.shape, self._words, self.scales, self.exp_bias, self.dtype,
                            stored=self._stored)  # fmt: skip

    def decode(self, dtype: type = np.float32) -> np.ndarray:
        """The weights [rows, cols], computed in float64, rotated back, and rounded to `dtype`."""
        out = np.empty(self.shape, dtype=dtype)
        start = 0
        for part in self.parts():
            weights = self.codec.values(part.words, self.cols, self.exp_bias)
            if part.scales is not None:
                weights *= part.scales[:, None].astype(np.float64)
            if self.rotation is not None:
                weights = self.rotation.restore(weights)
            with np.errstate(over="ignore", under="ignore"):
                out[start : start + part.rows] = weights
            start += part.rows
        return out

    def check(self, where: str = "matrix") -> None:
        """Raise `SeedLMError`, with `where` in front, if this is not what an encoder may give.

        Refused: sizes that do not agree, words that the codec refuses (`Codec.fault`), row scales that are not finite,
        an exponent bias with which the scale is not a positive finite binary32, a rotation that does not fit.
        """
        try:
            self._check_sizes()
            if self.rotation is not None:
                self.rotation.check(self.cols)
            self._check_scales()
            found, start = [], 0
            for part in self.parts():
                found.append(part._fault(start, self.rows))
                start += part.rows
        except SeedLMError as error:
            raise SeedLMError(f"{where}: {error}") from error
        found = [f for f in found if f is not None]
        if found:
            count, (what, place) = sum(f[0] for f in found), found[0][1]
            raise SeedLMError(f"{where}: {count} of {found[0][2]} {what}, the first in {place}")

    def _fault(self, start: int, rows: int) -> tuple[int, tuple[str, str], int] | None:
        """Of rows from `start` on of a matrix of `rows`: how many words are refused, what they are and where the first
        is, and all words there are."""
        if self._stored is not None:
            self.codec.check_rows(self._stored, self.cols)
        words = self.words
        fault = self.codec.fault(words)
        if fault is None or not fault.bad.any():
            return None
        row, column = (int(i) for i in np.argwhere(fault.bad)[0])
        place = f"row {start + row}, {fault.unit} {column}"
        return int(np.count_nonzero(fault.bad)), (fault.what, place), fault.bad.shape[1] * rows

    def _check_sizes(self) -> None:
        codec, (rows, cols) = self.codec, self.shape
        if not (rows > 0 and cols > 0):
            raise SeedLMError(f"rows and columns must be positive, not {rows} x {cols}")
        if self.dtype not in SOURCE_DTYPES:
            raise SeedLMError(f"source dtype must be one of {', '.join(SOURCE_DTYPES)}, not {self.dtype!r}")
        if self._words is None:
            expected, found, what = (np.uint8, (rows, codec.row_bytes(cols))), self._stored, "stored rows"
        else:
            expected, found, what = codec.words_layout(rows, cols), self._words, "words"
        if (found.dtype, found.shape) != expected:
            raise SeedLMError(
                f"the {what} of {rows} x {cols} weights in codec {codec} must be"
                f" {np.dtype(expected[0])} {list(expected[1])}, not {found.dtype} {list(found.shape)}"
            )

    def _check_scales(self) -> None:
        codec, scales, rows = self.codec, self.scales, self.rows
        if codec.row_scales != (scales is not None):
            raise SeedLMError(f"codec {codec} {'needs' if codec.row_scales else 'has no'} row scales")
        if scales is not None:
            if scales.dtype != np.float32 or scales.shape != (rows,):
                raise SeedLMError(f"row scales must be float32 [{rows}], not {scales.dtype} {list(scales.shape)}")
            bad = np.flatnonzero(~np.isfinite(scales)).tolist()
            if bad:
                raise SeedLMError(f"{len(bad)} of {rows} row scales are NaN or infinite, the first in row {bad[0]}")
        if not codec.has_exp_bias:
            if self.exp_bias != 0:
                raise SeedLMError(f"codec {codec} has no exponent bias, found {self.exp_bias}")
        elif not (abs(self.exp_bias) < 256 and np.isfinite(self.scale) and self.scale > 0):
            raise SeedLMError(f"exponent bias {self.exp_bias} does not give a positive finite binary32 scale")

    @classmethod
    def random(cls, codec: Codec, rows: int, cols: int, rng: np.random.Generator) -> PackedMatrix:
        """Random bits in every word, so that the matrix passes `check`; row scales of either sign around 2**-17."""
        words = codec.random_words(rows, cols, rng)
        scales = None
        if codec.row_scales:
            scales = np.ldexp(rng.standard_normal(rows), -17).astype(np.float32)
        return cls(codec, (rows, cols), words, scales)
