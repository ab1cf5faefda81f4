"""What is to be compressed, with which codec, and what stays as it is: decided without a look at any weight."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from seedlm.encoder.calibration import DAMPING, Calibration
from seedlm.encoder.families import encoder_of, method_of
from seedlm.encoder.feedback.factor import Feedback
from seedlm.encoder.matrix import slices
from seedlm.golden.codecs import CODECS, DEFAULT_CODEC, Codec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.packed import TensorInfo, stored_layout
from seedlm.golden.files.sources import Source, matches
from seedlm.golden.files.tensors import RawTensor, TensorFile, TransposedTensor, can_write, some_names
from seedlm.golden.rotation import Rotation, rotation_for

__all__ = ["Layout", "Options", "Piece", "Plan", "Task", "make_plan", "plan_tensors"]

# A router is small, and which experts a token gets hangs on small differences. Beside the experts it may be called a
# gate; alone that name is also given to ordinary layers.
_ROUTER = re.compile(r"(.*\.)?router\.(.*\.)?weight")
_GATE = re.compile(r"(?P<block>.*\.)?(gate|shared_expert_gate|gate\.wg)\.weight")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What decides on the bytes that come out, beside the weights.

    Parameters
    ----------
    codec : Codec
        Of every tensor for which nothing else is said.
    chosen : tuple of (str, Codec)
        Patterns and the codecs of the tensors whose names they match; the last match wins.
    encoder : str
        How words are searched, where a codec's family has several methods; one without this takes its best.
    include, exclude : tuple of str
        Patterns of names: only these, and these not.
    exp_bias : int or str
        b, or ``auto``.
    recipe : mapping of str to Codec
        Codecs of tensors by their names, where no pattern says anything (`seedlm.golden.recipes`).
    recipe_name : str
        For people.
    importance : Path or None
        File with a vector [columns] for each tensor that has one.
    calibration : Path or None
        File of second moments: errors are fed back in the tensors that it has.
    damping : float
        Of these moments, above 0.
    rotate : bool or None
        Rotate the rows, where the columns allow it. None: as the codec is used to (`Codec.rotates`), but no tensor with
        an importance, which is of columns that a rotation would mix.
    """

    codec: Codec = CODECS[DEFAULT_CODEC]
    chosen: tuple[tuple[str, Codec], ...] = ()
    recipe: Mapping[str, Codec] = field(default_factory=dict)
    recipe_name: str = ""
    encoder: str = "optimal"
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    exp_bias: int | str = "auto"
    importance: Path | None = None
    calibration: Path | None = None
    damping: float = DAMPING
    rotate: bool | None = None

    def asked(self, name: str) -> Codec | None:
        """The codec that was chosen for a tensor of this name by a pattern, None if none was."""
        return next((kind for pattern, kind in reversed(self.chosen) if matches(name, pattern)), None)

    def codec_of(self, name: str) -> Codec:
        """The codec of a tensor of this name."""
        return self.asked(name) or self.recipe.get(name, self.codec)

    def wants_rotation(self, codec: Codec, weighted: bool) -> bool:
        """Whether rows are rotated if their columns allow it; `weighted`: with an importance."""
        return codec.rotates and not weighted if self.rotate is None else self.rotate


@dataclass(frozen=True)
class Layout:
    """What a model's architecture says of its tensors, by their names.

    Parameters
    ----------
    transposed : frozenset of str
        Matrices that are stored with the inputs first: they are compressed with the outputs first.
    looked_up : frozenset of str
        Tensors that no product is made with: they stay as they are, unless a pattern chooses a codec.
    """

    transposed: frozenset[str] = frozenset()
    looked_up: frozenset[str] = frozenset()


@dataclass(eq=False)
class Task:
    """A tensor to compress.

    Parameters
    ----------
    number : int
        Its place in the plan.
    shard, name, label : str
        File, tensor, both for messages.
    tensor : RawTensor or TransposedTensor
        [rows, cols]; of a stack all rows, matrix after matrix.
    stack : tuple of int or None
        The shape of a stack of matrices [n, rows, cols].
    codec : Codec
    encoder : str
    importance : np.ndarray or None
        float64 [cols].
    rotation : Rotation or None
        Of the rows, before they are coded.
    calibration : Calibration or None
        Has the second moments for this tensor, where errors are fed back.
    bias : int
        The exponent bias, once `seedlm.encoder.job.survey` has seen the weights.
    """

    number: int
    shard: str
    name: str
    label: str
    tensor: RawTensor | TransposedTensor
    stack: tuple[int, ...] | None
    codec: Codec
    encoder: str
    importance: np.ndarray | None = None
    rotation: Rotation | None = None
    calibration: Calibration | None = None
    bias: int = 0

    @property
    def manner(self) -> str:
        """How columns count, by which the time differs; empty if all are alike."""
        return "weighted" if self.importance is not None else "with feedback" if self.calibration is not None else ""

    def feedback(self) -> Feedback | None:
        """How errors are fed back; None if they are not."""
        return None if self.calibration is None else self.calibration.feedback(self.name, self.codec, self.rotation)

    @property
    def shape(self) -> tuple[int, int]:
        return self.tensor.shape[0], self.tensor.shape[1]

    @property
    def weights(self) -> int:
        return self.shape[0] * self.shape[1]

    @property
    def row_blocks(self) -> int:
        """Words per row, by which work is measured."""
        return self.codec.blocks(self.shape[1])

    @property
    def blocks(self) -> int:
        return self.shape[0] * self.row_blocks

    @property
    def stored_bits(self) -> int:
        return self.codec.stored_bits(*self.shape)

    @property
    def info(self) -> TensorInfo:
        return TensorInfo(
            self.codec, self.shape, self.bias, self.tensor.dtype, self.stack, self.rotation, self.transposed
        )

    @property
    def transposed(self) -> bool:
        """The source has it with rows and columns exchanged."""
        return isinstance(self.tensor, TransposedTensor)

    @property
    def pieces(self) -> list[Piece]:
        """The units of work, each some rows."""
        cut = slices(self.codec, self.shape, self.importance is not None, self.calibration is not None)
        return [Piece(self, start, stop) for start, stop in cut]


@dataclass(frozen=True)
class Piece:
    """Rows start to stop - 1 of a task: a unit of work."""

    task: Task
    start: int
    stop: int

    @property
    def blocks(self) -> int:
        return (self.stop - self.start) * self.task.row_blocks


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    Parameters
    ----------
    tasks : list of Task
    kept : dict of str to str
        Matrices that stay as they are though nobody asked for that, and why.
    """

    tasks: list[Task]
    kept: dict[str, str] = field(default_factory=dict)

    @property
    def pieces(self) -> list[Piece]:
        return [piece for task in self.tasks for piece in task.pieces]

    def unrotated(self, options: Options) -> list[str]:
        """Tensors that would be rotated if a power of two that is large enough divided their columns."""
        return [
            task.name for task in self.tasks
            if task.rotation is None and options.wants_rotation(task.codec, task.importance is not None)
        ]  # fmt: skip

    def without_feedback(self, options: Options) -> list[str]:
        """Tensors in which no errors are fed back, though there is a calibration."""
        return [task.name for task in self.tasks if task.calibration is None] if options.calibration else []

    @property
    def weights(self) -> int:
        return sum(task.weights for task in self.tasks)

    @property
    def blocks(self) -> int:
        return sum(task.blocks for task in self.tasks)

    @property
    def bits_per_weight(self) -> float:
        return sum(task.stored_bits for task in self.tasks) / self.weights

    @property
    def codecs(self) -> list[Codec]:
        """Those that occur, in the order of their first tensors."""
        return list({task.codec.name: task.codec for task in self.tasks}.values())


def make_plan(source: Source, options: Options, layout: Layout = Layout()) -> Plan:
    """What compressing a model means.

    Parameters
    ----------
    source : Source
    options : Options
    layout : Layout, optional

    Raises
    ------
    SeedLMError
        Nothing to compress, a pattern that matches nothing, an importance or a calibration that does not fit, a tensor
        that cannot be copied, two that would have one name in the output.
    """
    chosen, kept = _chosen(source, options, layout)
    importance = _importance(source, options, layout)
    plan = Plan([], kept)
    for shard, name, tensor in chosen:
        label = f"{source.label(shard)}: tensor {name!r}"
        matrix = tensor.transposed() if name in layout.transposed and len(tensor.shape) == 2 else tensor
        task = _task(len(plan.tasks), shard, name, label, matrix, options, importance.get(name))
        if task.stored_bits > 8 * tensor.nbytes:
            before, after = (bits / task.weights for bits in (8 * tensor.nbytes, task.stored_bits))
            kept[name] = f"would grow from {before:g} to {after:.4g} bits per weight in codec {task.codec}"
        else:
            plan.tasks.append(task)
    if not plan.tasks:
        name, why = next(iter(kept.items()))
        raise SeedLMError(f"{source.path}: nothing to compress: {len(kept)} tensors stay as they are: {name!r} {why}")
    _calibrate(plan, options)
    _check_output(source, plan)
    return plan


def plan_tensors(tensors: dict[str, RawTensor], options: Options, shard: str, where: str,
                 stored_names: Mapping[str, str] | None = None) -> Plan:  # fmt: skip
    """What compressing every one of some matrices into one file means.

    `where` begins messages; `stored_names`: what the model's files, and so a calibration, call matrices that have
    another name here.

    Raises
    ------
    SeedLMError
        A pattern that matches nothing, a calibration that does not fit.
    """
    _check_patterns(options, tensors, where)
    tasks = [_task(i, shard, name, f"{where}: tensor {name!r}", tensor, options)
             for i, (name, tensor) in enumerate(tensors.items())]  # fmt: skip
    plan = Plan(tasks)
    _calibrate(plan, options, stored_names)
    return plan


def _task(number: int, shard: str, name: str, label: str, tensor: RawTensor | TransposedTensor,
          options: Options, importance: np.ndarray | None = None) -> Task:  # fmt: skip
    stack = tensor.shape if len(tensor.shape) == 3 else None
    if stack and isinstance(tensor, RawTensor):
        tensor = RawTensor(tensor.dtype, (stack[0] * stack[1], stack[2]), tensor.data)
    kind = options.codec_of(name)
    rotate = options.wants_rotation(kind, importance is not None)
    rotation = rotation_for(tensor.shape[1]) if rotate else None
    method = method_of(kind, options.encoder) or options.encoder
    return Task(number, shard, name, label, tensor, stack, kind, method, importance, rotation)


def _check_patterns(options: Options, names: Iterable[str], where: object) -> None:
    names = list(names)
    patterns = [("--include", p) for p in options.include] + [("--set", p) for p, _ in options.chosen]
    for flag, pattern in patterns:
        if not any(matches(name, pattern) for name in names):
            raise SeedLMError(f"{where}: {flag} {pattern!r} matches no 2-D floating tensor; one is {names[0]!r}")


def _chosen(
    source: Source, options: Options, layout: Layout
) -> tuple[list[tuple[str, str, RawTensor]], dict[str, str]]:
    """The tensors to compress, in the order of the files, and why others stay as they are."""
    possible = [x for x in source.tensors() if x[2].is_float and len(x[2].shape) in (2, 3) and all(x[2].shape)]
    if not possible:
        raise SeedLMError(f"{source.path}: nothing to compress: it has no 2-D tensor of F16, BF16 or F32")
    names = [name for _, name, _ in possible]
    _check_patterns(options, names, source.path)
    included = [n for n in names if not options.include or any(matches(n, p) for p in options.include)]
    wanted = [n for n in included if not any(matches(n, p) for p in options.exclude)]
    if not wanted:
        raise SeedLMError(f"{source.path}: nothing to compress: --exclude leaves none of {len(included)} tensors")
    left = dict.fromkeys(layout.looked_up, "is looked up, not multiplied with (--set compresses it)")
    left |= dict.fromkeys(_routers(names), "is a router (--set compresses it)")
    kept = {n: left[n] for n in wanted if n in left and not options.asked(n)}
    return [x for x in possible if x[1] in set(wanted) - set(kept)], kept


def _routers(names: list[str]) -> Iterator[str]:
    """Those that choose among the experts of a mixture."""
    for name in names:
        gate = _GATE.fullmatch(name)
        if gate:
            block = f"{gate['block'] or ''}experts."
            if any(other.startswith(block) for other in names):
                yield name
        elif _ROUTER.fullmatch(name):
            yield name


def _importance(source: Source, options: Options, layout: Layout) -> dict[str, np.ndarray]:
    """The vectors of an importance file, checked: float64 by tensor name."""
    path = options.importance
    if path is None:
        return {}
    if options.rotate:
        raise SeedLMError(f"{path}: an importance is of columns, which --rotate mixes: expected one of the two options")
    file = TensorFile(path)
    matrices = {name: tensor.shape for _, name, tensor in source.tensors() if len(tensor.shape) in (2, 3)}
    out = {}
    for name in file.tensors:
        if name not in matrices:
            raise SeedLMError(f"{path}: {name!r} is not a 2-D tensor of {source.path}")
        kind = options.codec_of(name)
        if not encoder_of(kind).uses_importance:
            raise SeedLMError(f"{path}: {name!r}: codec {kind} rounds every weight: --importance has no meaning for it")
        vector = file.array(name)
        cols = matrices[name][0 if name in layout.transposed else -1]
        if vector.shape != (cols,) or vector.dtype.kind != "f":
            raise SeedLMError(f"{path}: {name!r}: expected a floating vector of {cols} elements, one per column,"
                              f" found {vector.dtype} {list(vector.shape)}")  # fmt: skip
        vector = vector.astype(np.float64)
        if not (np.isfinite(vector) & (vector >= 0)).all():
            raise SeedLMError(f"{path}: {name!r}: expected finite non-negative numbers")
        out[name] = vector
    if not out:
        raise SeedLMError(f"{path}: has no tensor: expected a vector for each tensor that has an importance")
    return out


def _calibrate(plan: Plan, options: Options, stored_names: Mapping[str, str] | None = None) -> None:
    """Give the tensors that a file of second moments has, and whose codec gains by it, the calibration."""
    if options.calibration is None:
        return
    if options.importance is not None:
        raise SeedLMError(f"{options.calibration}: second moments know how much a column counts: expected one of"
                          " --calibration and --importance")  # fmt: skip
    calibration = Calibration(options.calibration, options.damping, stored_names)
    gaining = [task for task in plan.tasks if encoder_of(task.codec).feedback_block(task.codec)]
    known = [task for task in gaining if task.name in calibration and task.stack is None]
    if not gaining:
        kinds = ", ".join(kind.name for kind in plan.codecs)
        raise SeedLMError(f"{options.calibration}: codec {kinds} rounds every weight: --calibration has no meaning for"
                          " it")  # fmt: skip
    if not known:
        raise SeedLMError(f"{options.calibration}: has no moments for any tensor that is compressed, as"
                          f" {gaining[0].name!r}: {some_names(calibration.file.matrices)}")  # fmt: skip
    for task in known:
        calibration.check(task.name, task.shape[1])
        task.calibration = calibration


def _check_output(source: Source, plan: Plan) -> None:
    """Refuse now what could not be written after the whole search."""
    tasks = {task.name: task for task in plan.tasks}
    seen: dict[str, str] = {}
    for shard, name, tensor in source.tensors():
        task = tasks.get(name)
        if task is None and not can_write(tensor.dtype):
            label = source.label(shard)
            raise SeedLMError(f"{label}: tensor {name!r} has dtype {tensor.dtype}, which cannot be copied")
        made = {name, *(part for part, _, _ in stored_layout(name, task.info))} if task else {name}
        for part in made:
            if part in seen:
                raise SeedLMError(f"{source.label(shard)}: two tensors would be called {part!r} in the output: a part"
                                  f" of {name!r} and of {seen[part]!r}: leave one out with --exclude")  # fmt: skip
            seen[part] = name
