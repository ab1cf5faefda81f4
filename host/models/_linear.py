"""The tensors of a model, as its parts name them, and what computes with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from seedlm.host.models._base import Engine

__all__ = ["Layer", "Linear"]


@dataclass(frozen=True)
class Linear:
    """A matrix that an engine multiplies with.

    Parameters
    ----------
    name : str
        Of the tensor, without what comes before a layer's names and without ``.weight``.
    rows, cols : int
        Outputs and inputs.
    bias : bool
        There is a ``.bias`` too; it is added in FP32.
    transposed : bool
        The checkpoint has it with the inputs first, [cols, rows].
    """

    name: str
    rows: int
    cols: int
    bias: bool = False
    transposed: bool = False


class Layer:
    """What a part computes with: the engine, and the FP32 tensors of its layer by the names that the part gives them.

    Parameters
    ----------
    engine : Engine
    arrays : mapping of str to np.ndarray
        The whole model's tensors that no engine multiplies with.
    prefix : str
        What comes before the layer's names.
    index : int
        The layer's number; 0 for what is outside of all layers.
    """

    def __init__(self, engine: Engine, arrays: Mapping[str, np.ndarray], prefix: str = "", index: int = 0):
        self.index = index
        self._engine, self._arrays, self._prefix = engine, arrays, prefix

    def __getitem__(self, name: str) -> np.ndarray:
        return self._arrays[self._prefix + name]

    def products(self, linears: Sequence[Linear], x: np.ndarray) -> list[np.ndarray]:
        """Products of several matrices with the same vectors, and their biases: float32 [n, rows] each."""
        out = self._engine.products([f"{self._prefix}{linear.name}.weight" for linear in linears], x)
        return [
            y + self[f"{linear.name}.bias"] if linear.bias else y for linear, y in zip(linears, out, strict=True)
        ]
