"""The matrices of a model for its products: from a packed model, or compressed on first use and kept in the cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from seedlm.encoder.families import encoder_of
from seedlm.encoder.job import encode, survey, unfinished, write_file
from seedlm.encoder.matrix import compress_matrix
from seedlm.encoder.plan import Options, Plan, Task, plan_tensors
from seedlm.encoder.units import code_digest
from seedlm.encoder.workspace import Workspace
from seedlm.golden.codecs import BASELINE, CODECS, Codec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.cache import cache_folder, cached, digest
from seedlm.golden.files.packed import PackedFile, PackedTensor
from seedlm.golden.files.tensors import RawTensor
from seedlm.golden.matrix import PackedMatrix

__all__ = ["FILE", "PackedModel", "open_packed"]

KIND = "packed"
FILE, CHECKSUM, SECONDS = "packed.safetensors", "packed.sha256", "seconds.txt"
CHUNK = 1 << 24

# Called with what is done, how much it is and how to write a speed; the context's function is called with what was
# done since the last call.
Progress = Callable[[str, int, Callable[[float], str]], AbstractContextManager[Callable[[int], None]]]
Say = Callable[[str], None]


class PackedModel(Mapping[str, PackedMatrix]):
    """The matrices of a model's linear layers, each in its codec, read or converted one by one when asked for.

    Attributes
    ----------
    weights : int
        How many they are, all together.
    path : Path or None
        The packed file in the cache; None if there is none.
    encoder : str or None
        How it was searched.
    seconds : float or None
        Processor seconds, of all processes, that went into the packed file when it was made, from the look at the
        weights to the written file. None if there is none, or if an earlier run had begun it.
    """

    def __init__(self, makers: dict[str, Callable[[], PackedMatrix]], codecs: dict[str, Codec], weights: int,
                 path: Path | None = None, encoder: str | None = None) -> None:  # fmt: skip
        self._makers, self._codecs = makers, codecs
        self.seconds = _seconds(path)
        self.weights, self.path, self.encoder = weights, path, encoder

    def __getitem__(self, name: str) -> PackedMatrix:
        return self._makers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)

    @property
    def codec_of(self) -> dict[str, Codec]:
        """The codec of each matrix."""
        return dict(self._codecs)

    @property
    def codecs(self) -> list[Codec]:
        """Those that occur, in the order of their first matrices."""
        return list({codec.name: codec for codec in self._codecs.values()}.values())


def open_packed(
    tensors: Mapping[str, RawTensor | PackedTensor], where: str, options: Options = Options(), *,
    progress: Progress = lambda *what: nullcontext(lambda amount: None), say: Say = lambda text: None,
    warn: Say = lambda text: None, stored_names: Mapping[str, str] | None = None,
) -> PackedModel:  # fmt: skip
    """The matrices of a model, compressed.

    Those that are compressed already are taken as they are, byte for byte; the plain ones beside them are rounded to
    the baseline codec. If none is, all are compressed: with the same units of work, checks and results as by ``seedlm
    compress``. What a run that was interrupted has finished is taken up by the next.

    Parameters
    ----------
    tensors : mapping of str to RawTensor or PackedTensor
        Matrices by name.
    where : str
        Begins messages.
    options : Options
        Codecs and search.
    progress, say, warn : callable
        Show progress, tell why it takes a while, tell what is wrong though it is no error.
    stored_names : mapping of str to str, optional
        What a calibration calls tensors that have another name here.

    Raises
    ------
    SeedLMError
        Weights that are not finite or too large for a codec, words that no encoder gives, a pattern that matches
        nothing; a calibration that does not fit; the cache cannot be written.
    """
    packed = {name: tensor for name, tensor in tensors.items() if isinstance(tensor, PackedTensor)}
    if packed:
        options = Options(codec=CODECS[BASELINE])
    plan = plan_tensors({name: t for name, t in tensors.items() if name not in packed}, options, FILE, where,
                        stored_names)  # fmt: skip
    file = None
    if not all(encoder_of(kind).quick for kind in plan.codecs):
        file = PackedFile(_cached_file(plan, options, where, progress, say, warn))
    makers: dict[str, Callable[[], PackedMatrix]] = {name: tensor.matrix for name, tensor in packed.items()}
    codecs = {name: tensor.codec for name, tensor in packed.items()}
    for task in plan.tasks:
        makers[task.name] = _maker(task, options, file)
        codecs[task.name] = task.codec
    weights = sum(tensor.shape[0] * tensor.shape[1] for tensor in tensors.values())
    searched = file is not None and any(encoder_of(kind).methods for kind in plan.codecs)
    return PackedModel({name: makers[name] for name in tensors}, {name: codecs[name] for name in tensors}, weights,
                       file and file.path, options.encoder if searched else None)  # fmt: skip


def _maker(task: Task, options: Options, file: PackedFile | None) -> Callable[[], PackedMatrix]:
    if file:
        # checked when written; the checksum says it is the same
        return lambda: file.matrix(task.name, check=False)
    given = {"exp_bias": options.exp_bias, "dtype": task.tensor.dtype, "name": task.label, "rotation": task.rotation}
    return lambda: compress_matrix(task.tensor.array(), task.codec, task.encoder, **given)


# --- the cache -------------------------------------------------------------------------------------
def _cached_file(plan: Plan, options: Options, where: str, progress: Progress, say: Say, warn: Say) -> Path:
    """The packed file of some matrices, found by everything that decides on it, or made."""
    names = "+".join(kind.name for kind in plan.codecs)[:64]
    name, key = f"{names}-{options.encoder}", _key(plan, options)

    def make(folder: Path) -> None:
        before, begun = _processor_seconds(), False
        say(f"compressing {where} to {names}, encoder {options.encoder} (once, then kept)")
        with progress("checking", plan.weights, "{:,.0f} weights".format) as advance:
            work = Workspace(cache_folder() / KIND / f"{name}-{key}", survey(plan, options.exp_bias, advance))
        with work:
            todo = unfinished(plan, work)
            if begun := len(todo) < len(plan.pieces):
                say(f"{len(plan.pieces) - len(todo)} of {len(plan.pieces)} units were finished by an earlier run")
            blocks = sum(piece.blocks for piece in todo)
            with progress(f"compressing to {names}", blocks, "{:,.0f} blocks".format) as advance:
                encode(todo, work, advance=advance)
            for result in write_file(folder / FILE, plan.tasks, work):
                for warning in result.warnings:
                    warn(warning)
            work.remove()
        (folder / CHECKSUM).write_text(_checksum(folder / FILE) + "\n")
        if not begun:
            (folder / SECONDS).write_text(f"{_processor_seconds() - before:.2f}\n")

    entry = cached(KIND, name, key, make)
    if not _intact(entry):
        warn(f"{entry / FILE}: damaged; compressing again")
        _remove(entry)
        entry = cached(KIND, name, key, make)
    if not _intact(entry):
        raise SeedLMError(f"{entry / FILE}: what was written cannot be read back: is the disk all right?")
    return entry / FILE


def _key(plan: Plan, options: Options) -> str:
    """Hash of everything that decides on the packed file: the weights, codecs, search and the program."""
    parts: list[object] = [options.encoder, options.exp_bias, code_digest()]
    for task in plan.tasks:
        content = hashlib.sha256()
        step = max(1, CHUNK * task.shape[0] // task.tensor.nbytes)
        for start in range(0, task.shape[0], step):
            content.update(task.tensor.rows(start, start + step).data)
        parts += [task.name, task.codec.name, task.tensor.dtype, task.shape, task.rotation, content.hexdigest()]
        if task.calibration is not None:
            parts.append(task.calibration.digest(task.name))
    return digest(*parts)


def _processor_seconds() -> float:
    """Of this process and of its children that have ended, as those of a pool have."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _seconds(path: Path | None) -> float | None:
    try:
        return path and float((path.parent / SECONDS).read_text())
    except (OSError, ValueError):
        return None


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _intact(entry: Path) -> bool:
    try:
        return (entry / CHECKSUM).read_text().strip() == _checksum(entry / FILE)
    except PermissionError as error:
        where = f"{error.filename}: cannot read: {error.strerror}"  # another user's, which is no damage
        raise SeedLMError(f"{where}: SEEDLM_CACHE names another cache") from error
    except (OSError, UnicodeDecodeError):
        return False


def _remove(entry: Path) -> None:
    """Take an entry out of the cache in one step, so that nobody sees half of it."""
    aside = Path(tempfile.mkdtemp(prefix=".damaged-", dir=cache_folder() / KIND))
    try:
        entry.rename(aside / entry.name)
    except FileNotFoundError:
        pass  # somebody else did
    shutil.rmtree(aside, ignore_errors=True)
