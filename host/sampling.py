"""The next token from logits, and what a model's own files say of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.sources import Source
from seedlm.host.models import Fields, ModelConfig

__all__ = ["GENERATION", "Sampler", "Settings", "settings_of"]

GENERATION = "generation_config.json"


@dataclass(frozen=True)
class Settings:
    """How a model wants to be used.

    Parameters
    ----------
    temperature : float
    top_k : int
    top_p : float
        See `Sampler`.
    eos : tuple of int
        Any of these ends a text.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    eos: tuple[int, ...] = ()


def settings_of(source: Source, config: ModelConfig) -> Settings:
    """What generation_config.json says; without one the most likely token, and the end that config.json says.

    Its sampling counts if it has ``do_sample``. A token beyond the vocabulary ends nothing.

    Raises
    ------
    SeedLMError
        A value that is invalid.
    """
    said = source.json(GENERATION)
    if said is None:
        return Settings(eos=config.eos)
    fields = Fields(said, str(source.place(GENERATION)))
    eos = fields.get("eos_token_id", list(config.eos))
    eos = eos if isinstance(eos, list) else [eos]
    if not all(type(token) is int for token in eos):
        fields.refuse(f"eos_token_id must be tokens, not {eos!r}")
    ends = tuple(token for token in eos if 0 <= token < config.vocab)
    if not fields.flag("do_sample"):
        return Settings(eos=ends)
    top_p = fields.number("top_p", 1.0, float)
    top_k = fields.get("top_k", 0)
    temperature = fields.get("temperature", 1.0)
    if type(top_k) is not int or top_k < 0 or top_p > 1:
        fields.refuse(f"top_k must be an integer of 0 or more and top_p at most 1, not {top_k!r} and {top_p!r}")
    if temperature != 0:
        temperature = fields.number("temperature", 1.0, float)
    return Settings(float(temperature), top_k, top_p, ends)


class Sampler:
    """Chooses tokens.

    Parameters
    ----------
    temperature : float
        0 takes the most likely token (of equal ones the first), 1 samples from the model's distribution.
    seed : int or tuple of int
        The same seed and the same logits give the same tokens.
    top_k : int
        Only the so many most likely tokens, and those as likely as the last of them; 0: all.
    top_p : float
        Of these only the most likely ones that together have this probability.
    """

    def __init__(
        self, temperature: float = 0.0, seed: int | tuple[int, ...] = 0, *, top_k: int = 0, top_p: float = 1.0
    ):  # fmt: skip
        if not 0 <= temperature < float("inf"):
            raise SeedLMError(f"the temperature must be 0 or more, not {temperature}")
        if top_k < 0 or not 0 < top_p <= 1:
            raise SeedLMError(f"top k must be 0 or more and top p above 0 up to 1, not {top_k} and {top_p}")
        self.temperature, self.top_k, self.top_p = temperature, top_k, top_p
        self._rng = np.random.default_rng(seed)

    def __call__(self, logits: np.ndarray) -> int:
        """A token for logits [vocab]."""
        if self.temperature == 0:
            return int(np.argmax(logits))
        scaled = (logits.astype(np.float64) - logits.max()) / self.temperature
        weights = np.exp(scaled)
        if 0 < self.top_k < len(weights):
            weights[scaled < np.partition(scaled, -self.top_k)[-self.top_k]] = 0
        if self.top_p < 1:
            order = np.argsort(-weights, kind="stable")
            before = np.cumsum(weights[order]) - weights[order]  # of the tokens that are more likely
            weights[order[before >= self.top_p * weights.sum()]] = 0
        chances = np.cumsum(weights)
        found = np.searchsorted(chances, self._rng.random() * chances[-1], side="right")
        return int(min(found, np.flatnonzero(weights)[-1]))  # rounding may lead beyond the last
