"""Compressing a model, step by step: `survey` its weights, find the `unfinished` units, `encode` them, `write` them.

Before these come `seedlm.golden.files.sources.open_source` and `seedlm.encoder.plan.make_plan`. Units wait in a
`Workspace`, so that a run that was interrupted can be continued.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from seedlm.encoder.engines import cores
from seedlm.encoder.families import encoder_of
from seedlm.encoder.feedback.factor import Feedback, Part
from seedlm.encoder.loss import Loss
from seedlm.encoder.matrix import largest_weight, settle
from seedlm.encoder.plan import Piece, Plan, Task
from seedlm.encoder.pool import Work, encode_here, encode_in_processes
from seedlm.encoder.units import Encoded, Unit, code_digest, encode_unit, prepare
from seedlm.encoder.workspace import Workspace
from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.calibration import parts as columns_in_parts
from seedlm.golden.files.packed import stored_parts, write_stored
from seedlm.golden.files.sources import Source, write_index
from seedlm.golden.files.tensors import RawTensor, release
from seedlm.golden.rotation import rotation_for

__all__ = ["Result", "encode", "seconds_per_block", "survey", "unfinished", "write", "write_file"]

# Fewer blocks than this are done before the processes of a pool have started.
WORTH_PROCESSES = 1 << 17
POOR = 0.9  # relative error above which a tensor is of little use
CLIPPED = 0.01  # share of the energy in weights beyond a codec's range that is worth a warning

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Result:
    """What became of a tensor.

    Parameters
    ----------
    task : Task
    loss : Loss
    """

    task: Task
    loss: Loss

    @property
    def warnings(self) -> list[str]:
        """What the user should know, a line each."""
        loss, what = self.loss, f"{self.task.label}: codec {self.task.codec}"
        out = []
        if loss.relative > POOR:
            out.append(f"{what} keeps little of its weights (relative error {loss.relative:.2f}): they are too small"
                       " for it, or a few are too large")  # fmt: skip
        if loss.spoilt:
            out.append(f"{what}: outliers spoil {loss.spoilt:,} of {loss.rows:,} rows: beside them the weights have a"
                       f" relative error of up to {loss.worst:.2f}{self._cure}")  # fmt: skip
        if loss.beyond_share > CLIPPED:
            out.append(f"{what} clips weights with {loss.beyond_share:.1%} of the energy{self._cure}")
        return out

    @property
    def _cure(self) -> str:
        """What would help, where it can be asked for."""
        task = self.task
        if task.rotation or task.importance is not None or rotation_for(task.shape[1]) is None:
            return ""
        return " (--rotate spreads outliers over their rows)"


def survey(plan: Plan, exp_bias: int | str = "auto", advance: Advance | None = None) -> str:
    """Look at all weights: sets the exponent bias of each task.

    Parameters
    ----------
    plan : Plan
    exp_bias : int or str
        b, or ``auto``.
    advance : callable, optional
        Called with the number of weights looked at since the last call.

    Returns
    -------
    str
        The digest of all that decides on the result: the key of a `Workspace`.

    Raises
    ------
    SeedLMError
        A weight is NaN or infinite, or too large for its codec; second moments that are not finite.
    """
    digest = hashlib.blake2b(code_digest().encode(), digest_size=16)
    for task in plan.tasks:
        task.bias, content = prepare(task.tensor, task.codec, exp_bias, task.label, advance)
        weighted = None if task.importance is None else hashlib.blake2b(task.importance.tobytes()).hexdigest()
        fed = None if task.calibration is None else task.calibration.digest(task.name)
        what = (task.shard, task.name, task.tensor.dtype, task.shape, task.codec.name, task.encoder, content, task.bias)
        digest.update(repr((*what, weighted, task.rotation, fed)).encode())
    return digest.hexdigest()


def unfinished(plan: Plan, work: Workspace) -> list[Piece]:
    """The units that are not in the workspace yet; a damaged one is removed and counts as not there."""
    return [piece for piece in plan.pieces if _finished(piece, work) is None]


def _finished(piece: Piece, work: Workspace) -> Encoded | None:
    task = piece.task
    shape = (piece.stop - piece.start, task.codec.row_bytes(task.shape[1]))
    return work.get(task.number, piece.start, shape, task.codec.row_scales)


def _unit(piece: Piece, code: str) -> Unit:
    task = piece.task
    rows = task.tensor.rows(piece.start, piece.stop)
    mapped = rows.data
    rows = RawTensor(rows.dtype, rows.shape, np.array(mapped, subok=False))  # read now, not mapped
    release(mapped)
    return Unit(rows, task.codec, task.encoder, task.bias, task.importance, task.rotation, task.feedback(), code=code)


def encode(pieces: list[Piece], work: Workspace, *, jobs: int | None = None, cluster: bool = False,
           scheduler: str | None = None, advance: Advance | None = None) -> None:  # fmt: skip
    """Encode units and put them into the workspace, each as soon as it is done.

    Parameters
    ----------
    pieces : list of Piece
    work : Workspace
        Entered.
    jobs : int, optional
        Processors to use; all by default. Does not change the result.
    cluster : bool
        On a Dask cluster instead, whose scheduler's address is `scheduler` or what Dask is configured for.
    advance : callable, optional
        Called with the number of blocks that were encoded since the last call.

    Raises
    ------
    SeedLMError
        A unit cannot be written, workers die, the cluster cannot be reached.
    """
    code = code_digest() if cluster else ""
    results = _results([(piece, lambda piece=piece: _unit(piece, code)) for piece in pieces], jobs, cluster, scheduler)
    try:
        for piece, unit in results:
            work.put(piece.task.number, piece.start, unit)
            if advance:
                advance(piece.blocks)
    finally:
        if hasattr(results, "close"):
            results.close()


def _results(work: list[Work], jobs: int | None, cluster: bool, scheduler: str | None) -> Iterator:
    if not work:
        return iter(())
    if cluster:
        from seedlm.encoder.cluster import encode_on_dask  # an optional package

        return encode_on_dask(work, scheduler)
    count = jobs or cores()
    blocks = sum(piece.blocks for piece, _ in work)
    if count > 1 and len(work) > 1 and (jobs or blocks >= WORTH_PROCESSES):
        return encode_in_processes(work, min(count, len(work)))
    return encode_here(work, count)


def write(plan: Plan, work: Workspace, source: Source, output: Path) -> list[Result]:
    """Put the finished units of a model together: shards, index, other files.

    Raises
    ------
    SeedLMError
        A unit is missing, the output cannot be written.
    """
    if source.folder:
        output.mkdir(exist_ok=True)
    results = []
    for shard, file in source.shards.items():
        tasks = [task for task in plan.tasks if task.shard == shard]
        names = {task.name for task in tasks}
        other = {name: tensor for name, tensor in file.tensors.items() if name not in names}
        results += write_file(output / shard if source.folder else output, tasks, work, other, file.metadata)
    if source.folder:
        write_index(output, source)
    return results


def write_file(path: Path, tasks: list[Task], work: Workspace, other: dict[str, RawTensor] | None = None,
               metadata: dict[str, str] | None = None) -> list[Result]:  # fmt: skip
    """Put the finished units of some tensors together to one packed file; see `write_stored`."""
    infos, stored, results = {}, {}, []
    for task in tasks:
        units = [_finished(piece, work) for piece in task.pieces]
        if None in units:
            raise SeedLMError(f"{work.path}: a finished unit of {task.name!r} has gone: run the command again")
        data = work.joined(f"{task.number:06d}", [unit.data for unit in units])
        scales = np.concatenate([unit.scales for unit in units]) if task.codec.row_scales else None
        infos[task.name], stored[task.name] = task.info, stored_parts(task.info, data, scales)
        results.append(Result(task, sum((unit.loss for unit in units), Loss())))
    write_stored(path, infos, stored, other, metadata)
    work.clear_joined()
    return results


def seconds_per_block(plan: Plan, exp_bias: int | str = "auto") -> dict[tuple[str, str], float]:
    """How long a processor of this machine takes, measured on a few rows; by codec and `Task.manner`."""
    largest: dict[tuple[str, str], Task] = {}
    for task in sorted(plan.tasks, key=lambda task: task.weights):
        largest[task.codec.name, task.manner] = task
    return {key: _measure(task, exp_bias) for key, task in largest.items()}


def _measure(task: Task, exp_bias: int | str) -> float:
    rows, cols = task.shape
    if task.importance is not None:  # most of the work is done per column, for all rows of a unit
        rows, cols = min(rows, task.pieces[0].stop), min(cols, 2 * task.codec.step_columns)
    else:
        rows = min(rows, max(encoder_of(task.codec).together, 2048 // task.row_blocks))
    feedback = None
    if task.calibration is not None:  # nothing comes back, in the time that it takes
        rows, block = min(rows, 16), encoder_of(task.codec).feedback_block(task.codec)
        parts = tuple(Part(start, np.zeros((stop - start,) * 2, np.float32)) for start, stop in columns_in_parts(cols))
        feedback = Feedback(block, parts, np.ones(cols))
    w = task.tensor.rows(0, rows).array()[:, :cols]
    if not w.any():  # rows of zeros are searched in no time, and no others are like them
        w = np.random.default_rng(0).normal(0, 0.02, w.shape).astype(np.float32)
    importance = None if task.importance is None else task.importance[:cols]
    bias = settle(w, task.codec, exp_bias, largest_weight([w], task.label), task.label)
    # Rotated as it will be: without that rows have heavier tails, and their scales take longer.
    unit = Unit(RawTensor.from_array(w), task.codec, task.encoder, bias, importance, task.rotation, feedback, threads=1)
    encode_unit(replace(unit, rows=unit.rows.rows(0, 1)))  # compiles, makes tables
    started = time.process_time()  # one thread: what else the machine does meanwhile does not count
    encode_unit(unit)
    return (time.process_time() - started) / (rows * task.codec.blocks(cols))
