"""The search engines behind one function.

All engines find the same words, bit for bit; they differ in speed and in what must be installed.
"""

from __future__ import annotations

from seedlm.encoder.engines import is_compiled
from seedlm.encoder.seed.numpy_engine import NumpyEngine
from seedlm.encoder.seed.problem import Problem

__all__ = ["make_engine"]


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
    if not is_compiled(engine):
        return NumpyEngine(problem)
    from seedlm.encoder.seed.numba_engine import NumbaEngine  # compiles or loads its kernels: only where used

    return NumbaEngine(problem, threads=threads)
