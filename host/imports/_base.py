"""What an entry of the registry is: a form in which models are quantised, and what opening one gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seedlm.golden.codecs import Codec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.sources import Source
from seedlm.golden.files.tensors import RawTensor
from seedlm.golden.matrix import PackedMatrix
from seedlm.golden.packed_groups import packed_matrix

__all__ = ["Form", "Inexact", "Matrix", "Parts", "Quantised", "refuse_all"]

# Codes, scales and zero points (or None) of some rows, as `seedlm.golden.packed_groups.packed_matrix` takes them.
Parts = tuple[np.ndarray, np.ndarray, np.ndarray | None]
NAMED = 4  # tensors in a message


class Inexact(SeedLMError):
    """Why a tensor cannot be expressed exactly, without its name."""


@dataclass(frozen=True)
class Matrix:
    """A quantised matrix that a codec expresses exactly; its words are made some rows at a time.

    Parameters
    ----------
    where : str
        File and tensor, for messages.
    codec : Codec
        Of the family of grouped formats.
    shape : tuple of int
        rows (outputs), cols (inputs).
    dtype : str
        What its weights were before: F16, BF16 or F32.
    parts : callable
        Called with (first row, row after the last) gives codes, scales and zero points.
    transposed : bool
        A plain checkpoint has the inputs first.
    """

    where: str
    codec: Codec
    shape: tuple[int, int]
    dtype: str
    parts: Callable[[int, int], Parts]
    transposed: bool = False

    def rows(self, start: int, stop: int) -> PackedMatrix:
        """Rows start to stop - 1; raises `SeedLMError` for what the codec cannot express."""
        codes, scales, zeros = self.parts(start, stop)
        try:
            return packed_matrix(self.codec, codes, scales, zeros, dtype=self.dtype, first_row=start)
        except SeedLMError as error:
            raise SeedLMError(f"{self.where}: {error}") from error


@dataclass(frozen=True)
class Quantised:
    """A model that another program has quantised.

    Parameters
    ----------
    form : str
        How, for people.
    source : Source
        Its files, as the packed model is to have them beside the weights.
    matrices : mapping
        By shard, then by the names that the plain tensors would have.
    other : mapping
        The tensors that are copied, by shard, then by name.
    remarks : tuple of str
        What the user should know, a line each.
    """

    form: str
    source: Source
    matrices: Mapping[str, Mapping[str, Matrix]]
    other: Mapping[str, Mapping[str, RawTensor]]
    remarks: tuple[str, ...] = ()

    @property
    def weights(self) -> int:
        """How many weights are quantised."""
        return sum(m.shape[0] * m.shape[1] for some in self.matrices.values() for m in some.values())


@dataclass(frozen=True)
class Form:
    """A form in which models are quantised.

    Parameters
    ----------
    name : str
        For people.
    kinds : str
        What of it is taken, for people.
    takes : callable
        Whether a model, a path that is there, says that it has this form.
    open : callable
        Opens it; raises `SeedLMError` for what cannot be expressed exactly.
    """

    name: str
    kinds: str
    takes: Callable[[Path], bool]
    open: Callable[[Path], Quantised]


def refuse_all(path: Path, reasons: Mapping[str, str]) -> None:
    """Raise `SeedLMError` if there are tensors with a reason to refuse them, by name."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        by_reason.setdefault(reason, []).append(name)
    if by_reason:
        told = [f"{_some(names)}: {reason}" for reason, names in by_reason.items()]
        raise SeedLMError(f"{path}: cannot be imported exactly: {'; '.join(told)}")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
