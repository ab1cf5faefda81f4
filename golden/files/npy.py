"""Vectors as NumPy files."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.atomic import atomic_path

__all__ = ["load_npy", "save_npy"]


def load_npy(path: str | os.PathLike, dtype: Any = None, length: int | None = None) -> np.ndarray:
    """A vector from a .npy file.

    Parameters
    ----------
    path : path
    dtype : dtype, optional
        What it must be.
    length : int, optional
        How many elements it must have.

    Raises
    ------
    SeedLMError
        No such file, not a .npy file, not one-dimensional, another dtype or length.
    """
    try:
        with open(path, "rb") as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
    except OSError as error:
        raise SeedLMError(f"{path}: cannot read: {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        raise SeedLMError(f"{path}: not a complete .npy file: {str(error).splitlines()[0]}") from error
    if dtype is not None and array.dtype != np.dtype(dtype):
        raise SeedLMError(f"{path}: expected {np.dtype(dtype)}, found {array.dtype}")
    if array.ndim != 1 or (length is not None and array.size != length):
        raise SeedLMError(
            f"{path}: expected a vector{'' if length is None else f' of {length} elements'},"
            f" found shape {list(array.shape)}"
        )
    return array


def save_npy(path: str | os.PathLike, array: np.ndarray) -> None:
    """Write an array as a .npy file, atomically; raises `SeedLMError` if it cannot be written."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)
