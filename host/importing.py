"""Writing a model that another program has quantised as a packed model, one matrix after the other.

`seedlm.host.imports.open_quantised` opens it. No weight is rounded: a codec's words say what the other program's did.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.atomic import atomic_folder
from seedlm.golden.files.packed import TensorInfo, stored_parts, write_stored
from seedlm.golden.files.sources import write_index
from seedlm.golden.files.tensors import LazyTensor, RawTensor
from seedlm.host.imports import Matrix, Quantised

__all__ = ["write_quantised"]

WEIGHTS = 1 << 20  # of a matrix at a time
TOGETHER = 64  # rows begin at multiples of so many, where words of several outputs begin

Advance = Callable[[int], None]


def write_quantised(model: Quantised, output: Path, advance: Advance = lambda weights: None) -> dict[str, TensorInfo]:
    """Write the packed model: a folder, or one file; whole or not at all.

    Parameters
    ----------
    model : Quantised
    output : Path
        See `seedlm.golden.files.sources.require_output`.
    advance : callable, optional
        Called with the number of weights that were taken since the last call.

    Returns
    -------
    dict
        What the packed matrices are, by name.

    Raises
    ------
    SeedLMError
        A matrix that its codec cannot express, by name; the output cannot be written.
    """
    infos: dict[str, TensorInfo] = {}
    folder = model.source.folder
    with atomic_folder(output, last=".index.json") if folder else nullcontext() as parent:
        for shard, file in model.source.shards.items():
            with _spool_folder(output) as place:
                spool = _Spool(Path(place))
                stored, some = {}, {}
                for name, matrix in model.matrices[shard].items():
                    some[name], stored[name] = spool.matrix(matrix, advance)
                other = {name: spool.plain(tensor) for name, tensor in model.other[shard].items()}
                write_stored(parent / shard if folder else output, some, stored, other, file.metadata)
            infos |= some
        if folder:
            write_index(parent, model.source)
    return infos


def _spool_folder(output: Path) -> tempfile.TemporaryDirectory:
    """A folder beside the output, where there is room for as much again."""
    place = output.resolve().parent
    try:
        return tempfile.TemporaryDirectory(prefix=f".{output.name}.", suffix=".tmp", dir=place)
    except OSError as error:
        raise SeedLMError(f"{output}: cannot write: {error.strerror}") from error


class _Spool:
    """Tensors in files of a folder, as memory maps: a packed file is written from all of them at once."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._count = folder, 0

    def matrix(self, matrix: Matrix, advance: Advance) -> tuple[TensorInfo, list[RawTensor]]:
        """A matrix as it is stored."""
        (rows, cols), scales = matrix.shape, []
        info = TensorInfo(matrix.codec, matrix.shape, 0, matrix.dtype, transposed=matrix.transposed)

        def pieces():
            for start, stop in _slices(rows, cols):
                part = matrix.rows(start, stop)
                scales.append(part.scales)
                yield part.stored
                advance((stop - start) * cols)

        data = self._map(pieces())
        return info, stored_parts(info, data, np.concatenate(scales) if matrix.codec.row_scales else None)

    def plain(self, tensor: RawTensor) -> RawTensor:
        """A tensor that is copied; if its bytes have to be made, they are made some rows at a time."""
        if not isinstance(tensor, LazyTensor):
            return tensor
        rows, cols = tensor.shape[0], int(np.prod(tensor.shape[1:]))
        data = self._map(tensor.rows(start, stop).data for start, stop in _slices(rows, cols))
        return RawTensor(tensor.dtype, tensor.shape, data)

    def _map(self, pieces) -> np.ndarray:
        path = self._folder / f"{self._count:06d}"
        self._count += 1
        try:
            with path.open("wb") as file:
                for piece in pieces:
                    file.write(np.ascontiguousarray(piece).data)
        except OSError as error:
            raise SeedLMError(f"{path}: cannot write: {error.strerror}") from error
        return np.memmap(path, dtype=np.uint8, mode="r")


def _slices(rows: int, cols: int):
    """Rows of a matrix that are taken together."""
    step = max(TOGETHER, WEIGHTS // cols // TOGETHER * TOGETHER)
    return ((start, min(rows, start + step)) for start in range(0, rows, step))
