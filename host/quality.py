"""How well a model predicts a text, and how far its predictions are from another model's."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from seedlm.host.models import Model

__all__ = ["Predictions", "Quality", "windows"]

IN_MEMORY = 1 << 30  # bytes of predictions that are kept in memory; more go to a temporary file
TOGETHER = 1 << 19  # logits that are worked on together: what is made of them stays in the cache


@dataclass(frozen=True)
class Quality:
    """Figures over all tokens of a text.

    Attributes
    ----------
    bits : float
        Sum of -log2 p over the tokens.
    tokens : int
    divergence : float
        Mean Kullback-Leibler divergence from the other model's predictions to these, in bits per token.
    agreement : float
        Share of the tokens for which both models find the same one the most likely.
    """

    bits: float
    tokens: int
    divergence: float
    agreement: float

    @property
    def perplexity(self) -> float:
        """Per token."""
        return 2 ** (self.bits / self.tokens)


def windows(tokens: Sequence[int], bos: int | None, context: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The text in windows of `context` tokens, each begun afresh: (inputs, targets), int64 [n] each.

    With a token that begins every text it stands in front, the last token is only predicted, and every token counts
    once. Without one, the first token of each window is only read.
    """
    out = []
    for start in range(0, len(tokens), context):
        targets = np.array(tokens[start : start + context], dtype=np.int64)
        if bos is not None:
            out.append((np.concatenate([[bos], targets[:-1]]), targets))
        elif len(targets) > 1:
            out.append((targets[:-1], targets[1:]))
    return out


def _log_chances(logits: np.ndarray) -> np.ndarray:
    """log2 of the model's distributions, float64 [n, vocab]."""
    log = logits.astype(np.float64)
    log -= logits.max(axis=-1, keepdims=True)
    log -= np.log(np.exp(log).sum(axis=-1, keepdims=True))
    log /= np.log(2)
    return log


def _divergence(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Sum over all rows, from log2 of distributions, float32 and float64; the latter are overwritten."""
    wide = ours.astype(np.float64)
    np.subtract(wide, theirs, out=theirs)
    np.exp2(wide, out=wide)
    wide *= theirs
    return float(wide.sum())


class Predictions:
    """The predictions of a model for the windows of a text, to compare others with.

    Parameters
    ----------
    model : Model
    text : list
        From `windows`.
    progress : callable, optional
        Called with the tokens of each window that is done.
    """

    def __init__(self, model: Model, text: list, progress: Callable[[int], None] | None = None):
        self.text = text
        shape = (sum(len(targets) for _, targets in text), model.config.vocab)
        if 4 * shape[0] * shape[1] <= IN_MEMORY:
            self._log2 = np.empty(shape, np.float32)
        else:
            # Unlinked already: gone with the process.
            self._log2 = np.memmap(tempfile.TemporaryFile(), np.float32, "w+", shape=shape)
        self._likely = np.empty(shape[0], np.int64)
        self.quality = self._pass(model, progress, first=True)

    def compare(self, model: Model, progress: Callable[[int], None] | None = None) -> Quality:
        """Another model on the same text."""
        return self._pass(model, progress, first=False)

    def _pass(self, model: Model, progress: Callable[[int], None] | None, first: bool) -> Quality:
        at, bits, divergence, agreement = 0, 0.0, 0.0, 0
        step = max(1, TOGETHER // model.config.vocab)
        for inputs, all_targets in self.text:
            all_logits = model.logits(inputs)
            for start in range(0, len(all_targets), step):
                logits, targets = all_logits[start : start + step], all_targets[start : start + step]
                now, log2 = np.s_[at : at + len(targets)], _log_chances(logits)
                bits -= float(log2[np.arange(len(targets)), targets].sum())
                if first:
                    self._log2[now], self._likely[now] = log2, logits.argmax(axis=1)
                else:
                    divergence += _divergence(self._log2[now], log2)
                agreement += int((self._likely[now] == logits.argmax(axis=1)).sum())
                at += len(targets)
            if progress:
                progress(len(all_targets))
        return Quality(bits, at, divergence / at, agreement / at)
