"""Where a model's weights come from, plain or packed: one safetensors file, shards with an index, a folder."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from seedlm.arguments import require_new, require_writable
from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.atomic import atomic_path
from seedlm.golden.files.packed import FORMAT, PackedFile, TensorInfo, foreign_seeds
from seedlm.golden.files.tensors import RawTensor, TensorFile
from seedlm.golden.matrix import PackedMatrix

__all__ = [
    "INDEX",
    "PackedSource",
    "Source",
    "atomic_folder",
    "open_packed_source",
    "open_source",
    "require_output",
    "write_index",
]

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
# Files of a folder that hold weights in another form: not copied.
WEIGHTS = {".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".gguf", ".ot", ".npz"}


@dataclass(frozen=True)
class Source:
    """An opened model; the data of tensors are memory maps.

    Parameters
    ----------
    path : Path
        What the user named.
    shards : dict of str to TensorFile
        By file name; a tensor is in one of them only.
    index : str or None
        Name of the index file, if there is one.
    folder : bool
        True if the output is a folder too.
    others : list of Path
        Files of a folder to copy: configuration, tokenizer.
    """

    path: Path
    shards: dict[str, TensorFile]
    index: str | None = None
    folder: bool = False
    others: list[Path] = field(default_factory=list)

    def tensors(self) -> Iterator[tuple[str, str, RawTensor]]:
        """(shard, name, tensor) in the order of the files."""
        for shard, file in self.shards.items():
            for name, tensor in file.tensors.items():
                yield shard, name, tensor

    def label(self, shard: str) -> Path:
        """A shard's path, for messages."""
        return self.shards[shard].path

    @property
    def bytes(self) -> int:
        """Size of the shards."""
        return sum(file.path.stat().st_size for file in self.shards.values())


def open_source(path: Path) -> Source:
    """Open a model.

    Parameters
    ----------
    path : Path
        A safetensors file, the index of a sharded one (``*.index.json``), or a folder with either.

    Raises
    ------
    SeedLMError
        Nothing of that kind, an index that contradicts its shards, a file that is packed already.
    """
    source = _open(path)
    seen: dict[str, str] = {}
    for shard, name, _ in source.tensors():
        if name in seen:
            raise SeedLMError(f"{source.label(shard)}: tensor {name!r} is in {seen[name]} too")
        seen[name] = shard
    for file in source.shards.values():
        if file.metadata.get("format") == FORMAT:
            raise SeedLMError(f"{file.path}: is a packed file already: expected weights as F16, BF16 or F32")
        foreign = foreign_seeds(file)
        if foreign:
            raise SeedLMError(f"{file.path}: {foreign}")
    return source


@dataclass(frozen=True)
class PackedSource:
    """An opened packed model, file by file; offers what `PackedFile` does, over all files.

    Parameters
    ----------
    source : Source
        The files as they are stored.
    files : dict of str to PackedFile
        By file name.
    """

    source: Source
    files: dict[str, PackedFile]

    @property
    def tensors(self) -> dict[str, TensorInfo]:
        """The compressed tensors, in the order of the files."""
        return {name: info for file in self.files.values() for name, info in file.tensors.items()}

    @property
    def other(self) -> dict[str, RawTensor]:
        """The tensors that are copied as they were."""
        return {name: file.raw(name) for file in self.files.values() for name in file.other}

    def matrix(self, name: str) -> PackedMatrix:
        """Read one compressed tensor, see `PackedFile.matrix`."""
        for file in self.files.values():
            if name in file.tensors or len(self.files) == 1:
                return file.matrix(name)
        some = ", ".join(list(self.tensors)[:8])
        raise SeedLMError(f"{self.source.path}: no compressed tensor {name!r} in {len(self.files)} files:"
                          f" expected one of {len(self.tensors)}, such as {some}")  # fmt: skip


def open_packed_source(path: Path) -> PackedSource:
    """Open a packed model: what `open_source` takes, with packed files.

    Raises
    ------
    SeedLMError
        Nothing of that kind, an index that contradicts its shards, a file that is not packed.
    """
    source = _open(path)
    return PackedSource(source, {shard: PackedFile(file.path) for shard, file in source.shards.items()})


def require_output(output: Path, source: Source) -> None:
    """Raise `SeedLMError` now if the output of a model, a file or a folder, could not be written later."""
    if not source.folder:
        require_new(output, source.path)
        require_writable(output)
        return
    folder = source.path if source.path.is_dir() else source.path.parent
    if output.exists():
        if output.is_dir() and output.samefile(folder):
            raise SeedLMError(f"{output}: is the input: choose another output")
        if not output.is_dir():
            raise SeedLMError(f"{output}: cannot write: {source.path.name} needs a folder, and this is a file")
        foreign = [p.name for p in output.glob("*.safetensors") if p.name not in source.shards]
        if foreign:
            raise SeedLMError(f"{output}: has another model's {foreign[0]}: choose an empty folder")
        require_writable(output / next(iter(source.shards)))
    require_writable(output.parent / f".{output.name}.tmp")


@contextmanager
def atomic_folder(output: Path) -> Iterator[Path]:
    """A folder to write into, whose files are in `output` afterwards; none of them is if an exception ends it."""
    temporary = output.with_name(f".{output.name}.{secrets.token_hex(4)}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        if not output.exists():
            temporary.rename(output)
            return
        # The index last: until it is there, readers take the folder for what it was.
        for path in sorted(temporary.iterdir(), key=lambda p: p.name.endswith(".index.json")):
            path.replace(output / path.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_index(output: Path, source: Source) -> None:
    """Write what a folder has beside its shards, which must be there: the index, and copies of the other files."""
    for path in source.others:
        with atomic_path(output / path.name) as temporary:
            shutil.copyfile(path, temporary)
    if source.index:
        weight_map, size = {}, 0
        for shard in source.shards:
            written = TensorFile(output / shard).tensors
            weight_map |= dict.fromkeys(written, shard)
            size += sum(t.data.nbytes for t in written.values())
        index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(weight_map.items()))}
        with atomic_path(output / source.index) as temporary:
            temporary.write_text(json.dumps(index, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _open(path: Path) -> Source:
    if path.is_dir():
        return _folder(path)
    if path.name.endswith(".index.json"):
        return Source(path, _shards(path), path.name, folder=True)
    return Source(path, {path.name: TensorFile(path)})


def _folder(path: Path) -> Source:
    files = sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))
    names = [p.name for p in files]
    indices = [n for n in names if n.endswith(".safetensors.index.json")]
    tensors = [n for n in names if n.endswith(".safetensors")]
    if indices and (INDEX in indices or len(indices) == 1):
        index = INDEX if INDEX in indices else indices[0]
        shards = _shards(path / index)
    elif SINGLE in tensors or len(tensors) == 1:
        index, name = None, SINGLE if SINGLE in tensors else tensors[0]
        shards = {name: TensorFile(path / name)}
    else:
        found = f"found {len(tensors)} safetensors files without an index" if tensors else "found no safetensors file"
        raise SeedLMError(f"{path}: expected {INDEX} or {SINGLE} in the folder, {found}")
    skip = {*indices, *shards}
    others = [p for p in files if p.name not in skip and p.suffix not in WEIGHTS]
    others = [p for p in others if not p.name.endswith(".index.json")]
    return Source(path, shards, index, folder=True, others=others)


def _shards(path: Path) -> dict[str, TensorFile]:
    """The shards of an index, checked against it."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        good = isinstance(entries, dict) and all(isinstance(v, str) for v in entries.values())
    except OSError as error:
        raise SeedLMError(f"{path}: cannot read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, RecursionError):
        good = False
    if not good or not entries:
        raise SeedLMError(f"{path}: not an index of a sharded model: expected JSON with 'weight_map', names to files")
    shards: dict[str, TensorFile] = {}
    for name in sorted(set(entries.values())):
        if Path(name).name != name or name in (".", ".."):
            raise SeedLMError(f"{path}: the shard {name!r} must be a file in the same folder")
        if not (path.parent / name).exists():
            raise SeedLMError(f"{path}: the shard {name!r} is missing: expected it in the same folder")
        shards[name] = TensorFile(path.parent / name)
    for name, shard in entries.items():
        if name not in shards[shard].tensors:
            raise SeedLMError(f"{path}: tensor {name!r} is not in {shard}, where the index has it")
    for shard, file in shards.items():
        for name in file.tensors:
            if entries.get(name) != shard:
                raise SeedLMError(f"{path}: tensor {name!r} of {shard} is not in the index")
    return shards
