"""The search engines behind one function.

All engines find the same words, bit for bit; they differ in speed and in what must be installed.
"""

from __future__ import annotations

from importlib.util import find_spec

from seedlm.encoder.seed.numpy_engine import NumpyEngine
from seedlm.encoder.seed.problem import Problem
from seedlm.golden.errors import SeedLMError

__all__ = ["ENGINES", "make_engine"]

ENGINES = ("auto", "numba", "numpy")


def make_engine(problem: Problem, engine: str = "auto", threads: int | None = None):
    """A search engine for the codec and the importance of `problem`.

    Parameters
    ----------
    problem : Problem
        Its blocks are not used.
    engine : str
        ``auto``: the fastest that is installed.
    threads : int or None
        For the compiled engine; None: one per processor.

    Returns
    -------
    object
        With ``run(problem, best=None) -> Best`` for problems of the same codec and importance.
    """
    if engine not in ENGINES:
        raise SeedLMError(f"unknown engine {engine!r}: expected one of {', '.join(ENGINES)}")
    installed = find_spec("numba") is not None
    if engine == "numba" and not installed:
        raise SeedLMError("engine numba needs the package numba, which is not installed")
    if engine == "numpy" or not installed:
        return NumpyEngine(problem)
    from seedlm.encoder.seed.numba_engine import NumbaEngine  # compiles or loads its kernels: only where used

    return NumbaEngine(problem, threads=threads)
