"""Where a model's weights come from, plain or packed: one safetensors file, shards with an index, a folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.atomic import atomic_path, require_new, require_writable
from seedlm.golden.files.json_files import dumps, parse_json, read_json
from seedlm.golden.files.packed import FORMAT, PackedFile, PackedTensor, TensorInfo, foreign_seeds
from seedlm.golden.files.quantised import quantised_config, quantised_tensor
from seedlm.golden.files.tensors import RawTensor, TensorFile
from seedlm.golden.matrix import PackedMatrix

__all__ = [
    "CONFIG",
    "INDEX",
    "SINGLE",
    "PackedSource",
    "Source",
    "foreign_quantisation",
    "matches",
    "open_model",
    "open_packed_source",
    "open_source",
    "open_stored",
    "require_output",
    "write_index",
]

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
# The list of a sentence-transformers model: its parts are sub-folders.
MODULES = "modules.json"
# Files of a folder that hold weights in another form: not copied.
WEIGHTS = {".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".gguf", ".ot", ".npz"}


def matches(name: str, pattern: str) -> bool:
    """True if `pattern` matches the whole name of a tensor: * and ? are wild, all else stands for itself."""
    return fnmatchcase(name, pattern.replace("[", "[[]"))  # names have brackets: layers[0].weight


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
        Files of a folder to copy: configuration, tokenizer, parts of a sentence-transformers model.
    left_out : list of Path
        Files that hold weights in another form, and other sub-folders: not copied.
    made : mapping of str to callable
        Files that a folder would have beside its weights and that are made here, from a model in another form: by
        name, what gives their content.
    quantised : mapping of str to int
        How many tensors were quantised before, by the names of their types; their values are what that has left.
    """

    path: Path
    shards: dict[str, TensorFile]
    index: str | None = None
    folder: bool = False
    others: list[Path] = field(default_factory=list)
    left_out: list[Path] = field(default_factory=list)
    made: Mapping[str, Callable[[], bytes]] = field(default_factory=dict)
    quantised: Mapping[str, int] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        """The folder of the shards."""
        return self.path if self.path.is_dir() else self.path.parent

    @property
    def copied(self) -> list[str]:
        """The files that a folder has beside its weights, by their names in it."""
        return [path.relative_to(self.root).as_posix() for path in self.others] + list(self.made)

    def place(self, name: str) -> Path:
        """A file beside the weights, for messages: its path, or the model's if the file is made."""
        return self.path if name in self.made else self.root / name

    def read(self, name: str) -> bytes | None:
        """The content of a file beside the weights; None if there is none of that name.

        Raises
        ------
        SeedLMError
            It cannot be read, or cannot be made.
        """
        if name in self.made:
            return self.made[name]()
        if self.made:
            return None
        try:
            return (self.root / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SeedLMError(f"{self.root / name}: cannot read: {error.strerror or error}") from error

    def json(self, name: str) -> dict | None:
        """The JSON object in a file beside the weights; None if there is none of that name."""
        content = self.read(name)
        return None if content is None else parse_json(content, str(self.place(name)))

    @property
    def history(self) -> str:
        """What has been done to the weights before, in one line; empty if nothing is known."""
        if not self.quantised:
            return ""
        types = ", ".join(f"{count} {'tensor' if count == 1 else 'tensors'} {kind}"
                          for kind, count in self.quantised.items())  # fmt: skip
        return f"the weights were quantised before: {types}"

    @property
    def remark(self) -> str:
        """What is not copied, in one line; empty if there is nothing."""
        names = [path.name + "/" * path.is_dir() for path in self.left_out]
        return f"not copied: {', '.join(names)} (weights in another form, or not part of the model)" if names else ""

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
        Nothing of that kind, an index that contradicts its shards, a file that is packed already, weights that another
        program has quantised.
    """
    source = open_stored(path)
    _refuse_quantised(source)
    return source


def open_stored(path: Path) -> Source:
    """Open a model as its files hold it, quantised or not; else as `open_source`."""
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


def foreign_quantisation(source: Source) -> str:
    """How another program has quantised a model and what shows it, in words that begin with the file; else empty.

    A folder's config.json says so, or a tensor does by its name or dtype.
    """
    if source.folder and (source.root / CONFIG).exists():
        path = source.root / CONFIG
        if found := quantised_config(read_json(path)):
            return f"{path}: quantised already by {found}"
    found = quantised_tensor({name: tensor for _, name, tensor in source.tensors()})
    return f"{source.path}: quantised already by {found}" if found else ""


def _refuse_quantised(source: Source) -> None:
    if found := foreign_quantisation(source):
        raise SeedLMError(f"{found}: expected the original weights as F16, BF16 or F32, or seedlm import first")


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
    def packed(self) -> dict[str, PackedTensor]:
        """The compressed tensors as what they stand for."""
        return {name: PackedTensor(file, name) for file in self.files.values() for name in file.tensors}

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
    _refuse_quantised(source)
    return PackedSource(source, {shard: PackedFile(file.path) for shard, file in source.shards.items()})


def open_model(path: Path) -> Source | PackedSource:
    """Open a model, plain or packed: what `open_source` or `open_packed_source` takes."""
    packed = any(file.metadata.get("format") == FORMAT for file in _open(path).shards.values())
    return open_packed_source(path) if packed else open_source(path)


def require_output(output: Path, source: Source) -> None:
    """Raise `SeedLMError` now if the output of a model, a file or a folder, could not be written later."""
    if not source.folder:
        require_new(output, source.path)
        require_writable(output)
        return
    if output.exists():
        if output.is_dir() and output.samefile(source.root):
            raise SeedLMError(f"{output}: is the input: choose another output")
        if not output.is_dir():
            raise SeedLMError(f"{output}: cannot write: {source.path.name} needs a folder, and this is a file")
        foreign = [p.name for p in output.glob("*.safetensors") if p.name not in source.shards]
        if foreign:
            raise SeedLMError(f"{output}: has another model's {foreign[0]}: choose an empty folder")
        require_writable(output / next(iter(source.shards)))
    require_writable(output.parent / f".{output.name}.tmp")


def write_index(output: Path, source: Source) -> None:
    """Write what a folder has beside its shards, which must be there: the index, and copies of the other files."""
    for path in source.others:
        name = path.relative_to(source.root).as_posix()
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(output / name) as temporary:
            shutil.copyfile(path, temporary)
    for name, content in source.made.items():
        with atomic_path(output / name) as temporary:
            temporary.write_bytes(content())
    if source.index:
        weight_map, size = {}, 0
        for shard in source.shards:
            written = TensorFile(output / shard).tensors
            weight_map |= dict.fromkeys(written, shard)
            size += sum(t.data.nbytes for t in written.values())
        said = read_json(source.root / source.index).get("metadata")
        kept = said if isinstance(said, dict) else {}
        index = {"metadata": kept | {"total_size": size}, "weight_map": dict(sorted(weight_map.items()))}
        with atomic_path(output / source.index) as temporary:
            temporary.write_bytes(dumps(index))


def _open(path: Path) -> Source:
    if path.is_dir():
        return _folder(path)
    if path.name.endswith(".index.json"):
        return Source(path, _shards(path), path.name, folder=True)
    return Source(path, {path.name: TensorFile(path)})


def _folder(path: Path) -> Source:
    index, names = _weights(path)
    shards = _shards(path / index) if index else {name: TensorFile(path / name) for name in names}
    others, left_out = _beside(path, {index, *shards})
    return Source(path, shards, index, folder=True, others=others, left_out=left_out)


def _weights(path: Path) -> tuple[str | None, list[str]]:
    """Which files of a folder hold the model: the name of an index, else the one file.

    The usual names come first, then the only index, then the only file. Two models under the usual names are refused:
    there is no telling which one is meant.
    """
    try:
        places = sorted(p for p in path.iterdir() if not p.name.startswith("."))
    except OSError as error:
        raise SeedLMError(f"{path}: cannot read: {error.strerror}") from error
    _refuse_broken_links(places)
    names = [p.name for p in places if p.is_file()]
    indices = [n for n in names if n.endswith(".safetensors.index.json")]
    files = [n for n in names if n.endswith(".safetensors")]
    index = INDEX if INDEX in indices else indices[0] if len(indices) == 1 else None
    single = SINGLE if SINGLE in files else None
    if index and single and single not in _weight_map(path / index).values():
        raise SeedLMError(f"{path}: has both {single} and {index}: expected one model: remove the one that is not"
                          " meant, or name a file")  # fmt: skip
    if index:
        return index, []
    if single or len(files) == 1:
        return None, [single or files[0]]
    found = f"found {len(files)} safetensors files without an index" if files else "found no safetensors file"
    raise SeedLMError(f"{path}: expected {INDEX} or {SINGLE} in the folder, {found}")


def _beside(path: Path, weights: set[str | None]) -> tuple[list[Path], list[Path]]:
    """What a folder has beside its weights: files to copy, and what is left out. Hidden files are neither."""
    copied: list[Path] = []
    left_out: list[Path] = []
    modules = _modules(path)
    for place in sorted(p for p in path.iterdir() if not p.name.startswith(".") and p.name not in weights):
        if place.is_dir() and place.name not in modules:
            left_out.append(place)
            continue
        if place.is_dir():
            inside = sorted(place.rglob("*"))
            _refuse_broken_links(inside)
            copied += [p for p in inside if p.is_file()]
        elif place.is_file():
            other_form = place.suffix in WEIGHTS or place.name.endswith(".index.json")
            (left_out if other_form else copied).append(place)
    return copied, left_out


def _refuse_broken_links(places: list[Path]) -> None:
    """As a cache leaves them when its files are cleared away: the model is not whole."""
    for place in places:
        if place.is_symlink() and not place.exists():
            raise SeedLMError(f"{place}: a symbolic link to {place.readlink()}, which is missing: expected a file")


def _modules(path: Path) -> set[str]:
    """Sub-folders that are parts of a sentence-transformers model; what is unreadable names none."""
    try:
        listed = json.loads((path / MODULES).read_bytes())
        return {Path(module["path"]).parts[0] for module in listed if module["path"]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return set()


def _weight_map(path: Path) -> dict[str, str]:
    """The files of an index by tensor."""
    entries = read_json(path).get("weight_map")
    if not isinstance(entries, dict) or not entries or not all(isinstance(v, str) for v in entries.values()):
        raise SeedLMError(f"{path}: not an index of a sharded model: expected JSON with 'weight_map', names to files")
    return entries


def _shards(path: Path) -> dict[str, TensorFile]:
    """The shards of an index, checked against it."""
    entries = _weight_map(path)
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
