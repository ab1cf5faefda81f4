"""A model's matrices in a codec: compressed on first use, kept in the cache by what went into them."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from seedlm.console import Console, warn
from seedlm.encoder import compress_matrix
from seedlm.encoder.families import encoder_of
from seedlm.encoder.units import code_digest
from seedlm.golden.build import Codec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.cache import cache_folder, cached, digest
from seedlm.golden.files.packed import PackedFile, write_packed
from seedlm.golden.matrix import PackedMatrix
from seedlm.host.checkpoint import Checkpoint

__all__ = ["PackedModel", "open_packed"]

KIND = "packed"
FILE, CHECKSUM = "packed.safetensors", "packed.sha256"
CHUNK = 1 << 24


class PackedModel(Mapping[str, PackedMatrix]):
    """The matrices of a model's linear layers in one codec, read or converted one by one when asked for.

    Attributes
    ----------
    codec : Codec
    path : Path or None
        The packed file; None for codecs that need no search.
    """

    def __init__(self, checkpoint: Checkpoint, codec: Codec, path: Path | None):
        self.codec, self.path = codec, path
        self._checkpoint = checkpoint
        self._file = PackedFile(path) if path else None

    def __getitem__(self, name: str) -> PackedMatrix:
        if self._file:
            return self._file.matrix(name, check=False)  # checked when written; the checksum says it is the same
        tensor = self._checkpoint.linear[name]
        where = f"{self._checkpoint.folder}: tensor {name!r}"
        return compress_matrix(tensor.array(), self.codec, dtype=tensor.dtype, name=where)

    def __iter__(self) -> Iterator[str]:
        return iter(self._checkpoint.linear)

    def __len__(self) -> int:
        return len(self._checkpoint.linear)

    @property
    def weights(self) -> int:
        """How many they are, all together."""
        return sum(tensor.shape[0] * tensor.shape[1] for tensor in self._checkpoint.linear.values())


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _key(checkpoint: Checkpoint, codec: Codec, search: str) -> str:
    """Hash of everything that decides the packed file: the weights, codec, encoder and its program."""
    parts: list[object] = [codec.name, search, code_digest()]
    for name, tensor in checkpoint.linear.items():
        h = hashlib.sha256()
        for start in range(0, len(tensor.data), CHUNK):
            h.update(tensor.data[start : start + CHUNK])
        parts += [name, tensor.dtype, tensor.shape, h.hexdigest()]
    return digest(*parts)


def _intact(entry: Path) -> bool:
    try:
        return (entry / CHECKSUM).read_text().strip() == _checksum(entry / FILE)
    except PermissionError as error:
        where = f"{error.filename}: cannot read: {error.strerror}"  # another user's, which is no damage
        raise SeedLMError(f"{where}: SEEDLM_CACHE names another cache") from error
    except (OSError, UnicodeDecodeError):
        return False


def open_packed(checkpoint: Checkpoint, codec: Codec, search: str, console: Console) -> PackedModel:
    """The model's matrices in `codec`, from the cache or compressed now.

    Parameters
    ----------
    checkpoint : Checkpoint
    codec : Codec
    search : str
        The encoder: ``optimal`` or ``paper``.
    console : Console
        Shows the progress.

    Raises
    ------
    SeedLMError
        Weights that are not finite or too large for binary16; the cache cannot be written.
    """
    if not encoder_of(codec).methods:
        return PackedModel(checkpoint, codec, None)
    name, key = f"{codec.name}-{search}", _key(checkpoint, codec, search)

    def make(folder: Path) -> None:
        matrices = {}
        total = sum(tensor.shape[0] * tensor.shape[1] for tensor in checkpoint.linear.values())
        console.hint(f"compressing {checkpoint.folder} to {codec.name}, encoder {search} (once, then kept)")
        with console.progress(f"compressing to {codec.name}", total, "{:,.0f} weights".format) as advance:
            for tensor_name, tensor in checkpoint.linear.items():
                where = f"{checkpoint.folder}: tensor {tensor_name!r}"
                matrices[tensor_name] = compress_matrix(
                    tensor.array(), codec, search, dtype=tensor.dtype, name=where
                )
                advance(tensor.shape[0] * tensor.shape[1])
        write_packed(folder / FILE, matrices)
        (folder / CHECKSUM).write_text(_checksum(folder / FILE) + "\n")

    entry = cached(KIND, name, key, make)
    if not _intact(entry):
        warn(f"{entry / FILE}: damaged; compressing again")
        _remove(entry)
        entry = cached(KIND, name, key, make)
    if not _intact(entry):
        raise SeedLMError(f"{entry / FILE}: what was written cannot be read back: is the disk all right?")
    return PackedModel(checkpoint, codec, entry / FILE)


def _remove(entry: Path) -> None:
    """Take an entry out of the cache in one step, so that nobody sees half of it."""
    aside = Path(tempfile.mkdtemp(prefix=".damaged-", dir=cache_folder() / KIND))
    try:
        entry.rename(aside / entry.name)
    except FileNotFoundError:
        pass  # somebody else did
    shutil.rmtree(aside, ignore_errors=True)
