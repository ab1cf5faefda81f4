"""The next token from logits."""

from __future__ import annotations

import numpy as np

from seedlm.golden.errors import SeedLMError

__all__ = ["Sampler"]


class Sampler:
    """Chooses tokens.

    Parameters
    ----------
    temperature : float
        0 takes the most likely token (of equal ones the first), 1 samples from the model's distribution.
    seed : int
        The same seed and the same logits give the same tokens.
    """

    def __init__(self, temperature: float = 0.0, seed: int = 0):
        if not 0 <= temperature < float("inf"):
            raise SeedLMError(f"the temperature must be 0 or more, not {temperature}")
        self.temperature = temperature
        self._rng = np.random.default_rng(seed)

    def __call__(self, logits: np.ndarray) -> int:
        """A token for logits [vocab]."""
        if self.temperature == 0:
            return int(np.argmax(logits))
        scaled = (logits.astype(np.float64) - logits.max()) / self.temperature
        chances = np.cumsum(np.exp(scaled))
        return int(np.searchsorted(chances, self._rng.random() * chances[-1], side="right").clip(0, len(logits) - 1))
