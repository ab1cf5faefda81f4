"""Where a model's weights come from: one safetensors file, shards with an index, a Hugging Face folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from golden.errors import SeedLMError
from golden.files import FORMAT, RawTensor, TensorFile, foreign_seeds

__all__ = ["INDEX", "Source", "open_source"]

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
    if path.is_dir():
        source = _folder(path)
    elif path.name.endswith(".index.json"):
        source = Source(path, _shards(path), path.name, folder=True)
    else:
        source = Source(path, {path.name: TensorFile(path)})
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
        shards[name] = TensorFile(path.parent / name)
    for name, shard in entries.items():
        if name not in shards[shard].tensors:
            raise SeedLMError(f"{path}: tensor {name!r} is not in {shard}, where the index has it")
    for shard, file in shards.items():
        for name in file.tensors:
            if entries.get(name) != shard:
                raise SeedLMError(f"{path}: tensor {name!r} of {shard} is not in the index")
    return shards
