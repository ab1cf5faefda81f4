"""Norms, in FP32."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seedlm.host.models._linear import Layer

__all__ = ["LayerNorm", "Norm", "RmsNorm"]


@dataclass(frozen=True)
class RmsNorm:
    """x divided by its root mean square, times a weight.

    Parameters
    ----------
    name : str
        Of the tensor, without ``.weight``.
    size : int
    eps : float
    plus_one : bool
        The weight is 1 more than what is stored, as in Gemma.
    """

    name: str
    size: int
    eps: float
    plus_one: bool = False

    def vectors(self) -> dict[str, tuple[int, ...]]:
        """Shapes of its tensors."""
        return {f"{self.name}.weight": (self.size,)}

    def __call__(self, layer: Layer, x: np.ndarray) -> np.ndarray:
        mean = np.mean(x * x, axis=-1, keepdims=True, dtype=np.float32)
        weight = layer[f"{self.name}.weight"]
        return x / np.sqrt(mean + np.float32(self.eps)) * (1 + weight if self.plus_one else weight)


@dataclass(frozen=True)
class LayerNorm:
    """x less its mean, divided by its standard deviation, times a weight, plus a bias; parameters as `RmsNorm`'s."""

    name: str
    size: int
    eps: float

    def vectors(self) -> dict[str, tuple[int, ...]]:
        """Shapes of its tensors."""
        return {f"{self.name}.weight": (self.size,), f"{self.name}.bias": (self.size,)}

    def __call__(self, layer: Layer, x: np.ndarray) -> np.ndarray:
        x = x - np.mean(x, axis=-1, keepdims=True, dtype=np.float32)
        variance = np.mean(x * x, axis=-1, keepdims=True, dtype=np.float32)
        scaled = x / np.sqrt(variance + np.float32(self.eps))
        return scaled * layer[f"{self.name}.weight"] + layer[f"{self.name}.bias"]


Norm = RmsNorm | LayerNorm
