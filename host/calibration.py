"""Second moments of the vectors that a model's matrices are multiplied with, and the model's own samples to take them
from.

The vectors are seen where every one of them passes: at the engine. A pass keeps the sums of as many groups of matrices
as there is room for; if that is not all, the tokens go through the model again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from threadpoolctl import ThreadpoolController

from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.calibration import parts
from seedlm.host.models import Engine, Model
from seedlm.host.sampling import Sampler

__all__ = ["Moments", "own_samples", "second_moments"]

Advance = Callable[[int], None]

TOGETHER = 16  # texts that are written at the same time


@dataclass(eq=False)
class Moments:
    """Of the vectors that some matrices share.

    Attributes
    ----------
    names : tuple of str
        The matrices.
    totals : list of np.ndarray
        Sums of x x^T, float64 [n, n], for the `golden.files.calibration.parts` of the columns; none if these are too
        many.
    tokens : int
        How many vectors were summed.
    """

    names: tuple[str, ...]
    totals: list[np.ndarray]
    tokens: int = 0

    @classmethod
    def empty(cls, names: tuple[str, ...], cols: int) -> Moments:
        return cls(names, [np.zeros((stop - start, stop - start)) for start, stop in parts(cols)])

    @staticmethod
    def bytes(cols: int) -> int:
        """Of the sums for so many columns."""
        return sum(8 * (stop - start) ** 2 for start, stop in parts(cols))

    def add(self, x: np.ndarray) -> None:
        """Vectors, float32 [n, cols]."""
        for (start, stop), total in zip(parts(x.shape[1]), self.totals, strict=False):
            some = x[:, start:stop]
            total += some.T @ some  # a window's sums in FP32, all of them in FP64
        self.tokens += len(x)

    @property
    def diagonal(self) -> np.ndarray:
        """Mean squares of the vectors' elements, float64 [cols]."""
        return np.concatenate([total.diagonal() for total in self.totals]) / self.tokens


class _Recorder:
    """An engine that looks at the vectors of `wanted` matrices on their way to another."""

    def __init__(self, engine: Engine, wanted: set[str], done: set[str], room: int) -> None:
        self.engine, self.wanted, self.done, self.room = engine, wanted, done, room
        self.found: dict[tuple[str, ...], Moments] = {}
        self.full = False

    def products(self, names: list[str], x: np.ndarray) -> list[np.ndarray]:
        group = tuple(name for name in names if name in self.wanted)
        if group and not self.done.issuperset(group):
            self._record(group, x)
        return self.engine.products(names, x)

    def _record(self, group: tuple[str, ...], x: np.ndarray) -> None:
        if group not in self.found:
            need = Moments.bytes(x.shape[1])
            if self.found and need > self.room:
                self.full = True  # another pass
                return
            self.room -= need
            self.found[group] = Moments.empty(group, x.shape[1])
        self.found[group].add(x)


def second_moments(model: Callable[[Engine], Model], engine: Engine, texts: Sequence[np.ndarray], wanted: set[str],
                   room: int, progress: Advance | None = None) -> Iterator[Moments]:  # fmt: skip
    """The second moments of every group of matrices that share their vectors, each group once.

    Parameters
    ----------
    model : callable
        Makes the model around an engine.
    engine : Engine
        What multiplies.
    texts : sequence of np.ndarray
        Tokens, int64 [n] each, of texts that are begun afresh.
    wanted : set of str
        The matrices.
    room : int
        Bytes of sums that are kept at a time; one group at least is.
    progress : callable, optional
        Called with the tokens of each text that went through the model.

    Raises
    ------
    SeedLMError
        An activation is not finite.
    """
    done: set[str] = set()
    while True:
        recorder = _Recorder(engine, wanted, done, room)
        through = model(recorder)
        # The output matrix meets the vectors of all tokens only where it is asked for all of them.
        last = through.config.head not in wanted or through.config.head in done
        for text in texts:
            through.logits(text, last=last)
            if progress:
                progress(len(text))
        for moments in recorder.found.values():
            if not all(np.isfinite(total).all() for total in moments.totals):
                raise SeedLMError(f"the vectors of {moments.names[0]!r} are not finite or their squares are too large")
            done.update(moments.names)
            yield moments
        if not recorder.full:
            return


# --- the model's own samples -------------------------------------------------------------------------
class _Together:
    """An engine for several threads: vectors that wait for the same matrices are multiplied at once.

    The time of a token is that of reading the weights; read once, they serve all.
    """

    def __init__(self, engine: Engine, threads: int) -> None:
        self._engine, self._threads = engine, threads
        self._changed = threading.Condition()
        self._waiting: dict[int, tuple[tuple[str, ...], np.ndarray]] = {}
        self._given: dict[int, list[np.ndarray]] = {}
        self._error: BaseException | None = None

    def products(self, names: list[str], x: np.ndarray) -> list[np.ndarray]:
        me = threading.get_ident()
        with self._changed:
            self._waiting[me] = tuple(names), x
            self._multiply()
            while me not in self._given and self._error is None:
                self._changed.wait()
            if self._error is not None:
                raise self._error
            return self._given.pop(me)

    def leave(self) -> None:
        """A thread asks for no more."""
        with self._changed:
            self._threads -= 1
            self._multiply()

    def fail(self, error: BaseException) -> None:
        """No thread gets anything more."""
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def _multiply(self) -> None:
        """Once all wait: one product for each group of matrices."""
        if len(self._waiting) < self._threads or not self._waiting or self._error is not None:
            return
        for names in dict.fromkeys(names for names, _ in self._waiting.values()):
            who = [me for me, (others, _) in self._waiting.items() if others == names]
            rows = [self._waiting[me][1] for me in who]
            cuts = np.cumsum([len(x) for x in rows])[:-1]
            split = [np.split(y, cuts) for y in self._engine.products(list(names), np.concatenate(rows))]
            self._given |= {me: [y[i] for y in split] for i, me in enumerate(who)}
        self._waiting.clear()
        self._changed.notify_all()


def own_samples(model: Callable[[Engine], Model], engine: Engine, count: int, length: int, first: int, seed: int,
                progress: Advance | None = None) -> list[np.ndarray]:  # fmt: skip
    """Texts as the model writes them at temperature 1.

    A token that ends a text is one like any other: what the model writes after it belongs to its samples, too.

    Parameters
    ----------
    model : callable
        Makes the model around an engine.
    engine : Engine
    count, length : int
        How many texts, of how many tokens each.
    first : int
        The token that they begin with.
    seed : int
        Text i is sampled with the seed (seed, i), whatever their number.
    progress : callable, optional
        Called with the number of new tokens.

    Returns
    -------
    list of np.ndarray
        int64 [length].
    """
    def write(i: int, together: _Together) -> np.ndarray:
        try:
            own, sampler = model(together), Sampler(1.0, (seed, i))
            tokens, cache = [first], own.cache()
            while len(tokens) < length:
                tokens.append(sampler(own.logits(np.array(tokens[-1:]), cache, last=True)[0]))
                if progress:
                    progress(1)
        except BaseException as error:
            together.fail(error)
            raise
        together.leave()
        return np.array(tokens, dtype=np.int64)

    out: list[np.ndarray] = []
    for start in range(0, count, TOGETHER):
        some = range(start, min(start + TOGETHER, count))
        together = _Together(engine, len(some))
        # Models set the number of the BLAS's threads for themselves and put back what they found: with several at once
        # the last to leave may find another's.
        with ThreadpoolController().limit(limits=None), ThreadPoolExecutor(len(some)) as pool:
            try:
                out += pool.map(write, some, [together] * len(some))
            except BaseException as error:  # an interrupt: the threads must not go on
                together.fail(error)
                raise
    return out
