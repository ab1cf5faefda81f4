"""Files of second moments: for every matrix of a model H = sum of x x^T over the vectors x that it was multiplied with.

A safetensors file with metadata ``format`` = "seedlm-calibration", ``version`` = "1" and ``matrices``, a JSON object:
the name of a matrix -> {"moments": [names of tensors], "tokens": how many vectors}. Matrices that share their vectors
share the tensors. A tensor is F32 [n, n], symmetric; the columns of a matrix have one, or, if they are more than
`WIDEST`, one for each of their `parts`, the moments between which are not kept.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.tensors import RawTensor, TensorFile, write_tensors
from seedlm.golden.rotation import rotation_for

__all__ = ["WIDEST", "CalibrationFile", "Entry", "parts", "write_calibration"]

FORMAT = "seedlm-calibration"
VERSION = "1"
WIDEST = 16384  # columns of a tensor of moments: 1 GiB in F32
STEP = 1024  # rows looked at together
GRAIN = 48  # parts begin at multiples of so many columns, where words of 8, 12 and 16 begin


def parts(cols: int, widest: int = WIDEST) -> list[tuple[int, int]]:
    """First column and column after the last of each part of `cols` columns; none where they cannot be cut.

    A part is whole blocks of the rotation, which so turns each part's moments by themselves.
    """
    rotation = rotation_for(cols)
    unit = math.lcm(GRAIN, rotation.block if rotation else 1)
    step = cols if cols <= widest else widest // unit * unit
    return [(start, min(start + step, cols)) for start in range(0, cols, step)] if step else []


@dataclass(frozen=True)
class Entry:
    """What the file has for a matrix.

    Parameters
    ----------
    moments : tuple of str
        Names of tensors, for the `parts` of its columns.
    tokens : int
        How many vectors were summed.
    """

    moments: tuple[str, ...]
    tokens: int


def write_calibration(path: str | os.PathLike, matrices: Mapping[str, Entry], moments: Mapping[str, np.ndarray],
                      metadata: Mapping[str, str] | None = None) -> None:  # fmt: skip
    """Write a file of second moments, atomically.

    Parameters
    ----------
    path : path
        Replaced if it exists.
    matrices : mapping of str to Entry
    moments : mapping of str to np.ndarray
        float32 [n, n] by the names that the entries have; may be memory maps.
    metadata : mapping of str to str, optional
        Kept beside the file's own.

    Raises
    ------
    SeedLMError
        The file cannot be written.
    """
    entries = {name: {"moments": list(entry.moments), "tokens": entry.tokens} for name, entry in matrices.items()}
    own = {"format": FORMAT, "version": VERSION, "matrices": json.dumps(entries, ensure_ascii=False)}
    tensors = {name: RawTensor.from_array(array, "F32") for name, array in moments.items()}
    write_tensors(path, tensors, {**(metadata or {}), **own})


class CalibrationFile:
    """A file of second moments, opened lazily.

    Attributes
    ----------
    path : Path
    matrices : dict of str to Entry

    Raises
    ------
    SeedLMError
        Not such a file, of another version, or one that contradicts itself.
    """

    def __init__(self, path: str | os.PathLike):
        self.file = TensorFile(path)
        self.path = self.file.path
        metadata = self.file.metadata
        if metadata.get("format") != FORMAT:
            found = repr(metadata["format"]) if "format" in metadata else "missing"
            raise SeedLMError(f"{path}: not a calibration: metadata 'format' is {found}, expected {FORMAT!r}"
                              " (seedlm calibrate makes one)")  # fmt: skip
        if metadata.get("version") != VERSION:
            raise SeedLMError(f"{path}: calibration of an unknown version: {metadata.get('version')!r}, expected"
                              f" {VERSION!r}")  # fmt: skip
        try:
            entries = json.loads(metadata.get("matrices", ""))
            self.matrices = {name: self._entry(**entry) for name, entry in entries.items()}
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise SeedLMError(f"{path}: metadata 'matrices' must be a JSON object of moments and tokens by the name"
                              f" of a matrix: {error}") from error  # fmt: skip
        for name, entry in self.matrices.items():
            for moment in entry.moments:
                self._check(name, moment)

    @staticmethod
    def _entry(moments: Sequence[str], tokens: int) -> Entry:
        if not (isinstance(moments, list) and moments and all(type(m) is str for m in moments) and type(tokens) is int):
            raise ValueError(f"found moments {moments!r} and tokens {tokens!r}")
        return Entry(tuple(moments), tokens)

    def _check(self, name: str, moment: str) -> None:
        if moment not in self.file.tensors:
            raise SeedLMError(f"{self.path}: the moments of {name!r}: tensor {moment!r} is missing")
        tensor = self.file.tensors[moment]
        if tensor.dtype != "F32" or len(tensor.shape) != 2 or tensor.shape[0] != tensor.shape[1]:
            raise SeedLMError(f"{self.path}: tensor {moment!r} is {tensor.dtype} {list(tensor.shape)}: expected F32"
                              " with as many rows as columns")  # fmt: skip

    def check(self, name: str, cols: int) -> None:
        """Raise `SeedLMError` unless the moments of a matrix, which must be there, are of `cols` columns."""
        wanted = [[stop - start] * 2 for start, stop in parts(cols)]
        found = [list(self.file.tensors[moment].shape) for moment in self.matrices[name].moments]
        if found != wanted:
            raise SeedLMError(f"{self.path}: the moments of {name!r} are {' and '.join(map(str, found))}: expected"
                              f" {' and '.join(map(str, wanted))} for {cols} columns")  # fmt: skip

    def check_finite(self, moment: str) -> None:
        """Raise `SeedLMError` unless a tensor has finite elements and no negative sum of squares."""
        array = self.file.array(moment)
        finite = all(np.isfinite(array[row : row + STEP]).all() for row in range(0, len(array), STEP))
        if not (finite and (array.diagonal() >= 0).all()):
            raise SeedLMError(f"{self.path}: tensor {moment!r}: expected finite numbers and sums of squares that are"
                              " not negative")  # fmt: skip

    def arrays(self, name: str) -> list[np.ndarray]:
        """The moments of a matrix, part by part: float32 memory maps."""
        return [self.file.array(moment) for moment in self.matrices[name].moments]
