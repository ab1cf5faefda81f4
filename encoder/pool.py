"""Units encoded by several processes of this machine, or by this process.

Processes rather than threads: parts of the work hold Python's lock. They are started anew, not
forked, and end with the process that started them, however it ends. An interrupt from the keyboard
reaches all processes of a terminal; only the first process acts on it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from typing import Any

from seedlm.encoder.units import Encoded, Unit, encode_unit
from seedlm.golden.errors import SeedLMError

__all__ = ["Work", "encode_here", "encode_in_processes"]

# A name for a unit, and the function that makes it: weights are read when their turn comes.
Work = tuple[Any, Callable[[], Unit]]

LIVES = 3  # workers that may die over one unit


def encode_here(work: Iterable[Work], threads: int | None = None) -> Iterator[tuple[Any, Encoded]]:
    """Encode units one after the other in this process."""
    for key, make in work:
        yield key, encode_unit(replace(make(), threads=threads))


def encode_in_processes(work: Iterable[Work], jobs: int) -> Iterator[tuple[Any, Encoded]]:
    """Encode units in `jobs` processes of one thread each; results come in any order.

    Raises
    ------
    SeedLMError
        An error in a unit; a unit over which `LIVES` workers died.
    """
    source = iter(work)
    again: list[tuple[Any, Unit, int]] = []  # units of workers that died
    workers: list[_Worker] = []

    def feed(worker: _Worker) -> None:
        # One unit at a time: two processes that both send would wait for each other.
        if again:
            worker.give(*again.pop())
            return
        key, make = next(source, (None, None))
        if make is not None:
            worker.give(key, replace(make(), threads=1), LIVES)

    try:
        workers = [_Worker() for _ in range(jobs)]
        for worker in workers:
            feed(worker)
        while busy := {w.connection: w for w in workers if w.task}:
            for connection in wait(list(busy)):
                worker = busy[connection]
                key, unit, lives = worker.task
                try:
                    answer = connection.recv()
                except (EOFError, OSError):
                    if lives <= 1:
                        raise SeedLMError(f"{LIVES} workers died over one unit, the last with exit code "
                                          f"{worker.exit_code()}: is there enough memory?") from None  # fmt: skip
                    again.append((key, unit, lives - 1))
                    worker.stop()
                    workers[workers.index(worker)] = worker = _Worker()
                    feed(worker)
                    continue
                if isinstance(answer, BaseException):
                    raise answer
                worker.task = None
                feed(worker)
                yield key, answer
    finally:
        for worker in workers:
            worker.stop()


class _Worker:
    """A process that encodes what comes through its connection."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        with _no_interrupts(), _one_thread():
            self.process.start()
        theirs.close()  # so that the death of the process ends the connection
        self.task: tuple[Any, Unit, int] | None = None

    def give(self, key: Any, unit: Unit, lives: int) -> None:
        self.task = (key, unit, lives)
        try:
            self.connection.send(unit)
        except OSError:
            pass  # it has died; reading its answer finds out

    def exit_code(self) -> int | None:
        self.process.join(1)
        return self.process.exitcode

    def stop(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.join()


def _serve(connection: Connection) -> None:
    while True:
        try:
            unit = connection.recv()
        except (EOFError, OSError):
            return  # the first process is gone
        try:
            answer: Any = encode_unit(unit)
        except (SeedLMError, MemoryError) as error:
            answer = error
        except Exception:
            answer = RuntimeError(f"in a worker: {traceback.format_exc()}")
        try:
            connection.send(answer)
        except OSError:
            return


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """A process started here never sees an interrupt from the keyboard, not even while it starts."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _one_thread() -> Iterator[None]:
    """A process started here uses one thread for NumPy's matrix products."""
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
