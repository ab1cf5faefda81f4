"""What a model remembers of the text so far."""

from __future__ import annotations

import numpy as np

__all__ = ["Cache"]


class Cache:
    """Keys and values of the positions seen so far, float32, for every layer."""

    def __init__(self, layers: int, kv_heads: int, head_dim: int):
        self.length = 0
        empty = np.zeros((kv_heads, 0, head_dim), np.float32)
        self._keys, self._values = [empty] * layers, [empty] * layers

    def extend(self, layer: int, keys: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Add [kv_heads, n, head_dim] after `length` positions; all of them. The caller then moves `length`."""
        end = self.length + keys.shape[1]
        if self._keys[layer].shape[1] < end:
            room = ((0, 0), (0, max(64, 2 * end) - self._keys[layer].shape[1]), (0, 0))
            self._keys[layer] = np.pad(self._keys[layer], room)
            self._values[layer] = np.pad(self._values[layer], room)
        self._keys[layer][:, self.length : end] = keys
        self._values[layer][:, self.length : end] = values
        return self._keys[layer][:, :end], self._values[layer][:, :end]
