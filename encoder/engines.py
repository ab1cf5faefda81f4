"""The search engines behind one function.

All engines find the same words, bit for bit; they differ in speed and in what must be installed.
"""

from __future__ import annotations

from encoder.numpy_engine import NumpyEngine
from encoder.problem import Problem
from golden.errors import SeedLMError

__all__ = ["ENGINES", "make_engine"]

ENGINES = ("auto", "numpy")


def make_engine(problem: Problem, engine: str = "auto"):
    """A search engine for the codec and the importance of `problem`.

    Parameters
    ----------
    problem : Problem
        Its blocks are not used.
    engine : str
        ``auto``: the fastest that is installed.

    Returns
    -------
    object
        With ``run(problem, best=None) -> Best`` for problems of the same codec and importance.
    """
    if engine not in ENGINES:
        raise SeedLMError(f"unknown engine {engine!r}: expected one of {', '.join(ENGINES)}")
    return NumpyEngine(problem)
