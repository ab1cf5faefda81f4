"""A model, plain or packed: what it is (config.json) and its tensors, opened lazily."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.json_files import read_json
from seedlm.golden.files.packed import PackedTensor
from seedlm.golden.files.sources import CONFIG, PackedSource, Source, open_model
from seedlm.golden.files.tensors import RawTensor, TransposedTensor
from seedlm.golden.matrix import PackedMatrix
from seedlm.host.formats import format_of
from seedlm.host.models import architecture_of, model_config

__all__ = ["Checkpoint"]

Tensor = RawTensor | TransposedTensor | PackedTensor


class Checkpoint:
    """A model directory, its tensors checked by name, shape and dtype.

    Parameters
    ----------
    path : Path
        A folder with config.json and what `open_model` takes for the model; a file beside its config.json; or a file of
        another form, see `host.formats`.

    Attributes
    ----------
    folder : Path
        The folder of the model's files.
    source : Source
        Its files as they are stored.
    architecture : Architecture
    config : ModelConfig
    packed : bool
        It is what ``seedlm compress`` wrote.
    linear : dict of str to RawTensor or PackedTensor
        The matrices of the linear layers by `ModelConfig.linears`' names, outputs first however they are stored;
        memory maps. With tied embeddings the output matrix is the embedding.
    stored_names : dict of str to str
        What the files call the tensors, by the names of the architecture.

    Raises
    ------
    SeedLMError
        A missing file, an unsupported architecture, a tensor that is missing, not what config.json promises, or one
        that the architecture does not know: its part of the model would be lost.
    """

    def __init__(self, path: Path):
        path = Path(path)
        if not path.exists():
            raise SeedLMError(f"{path}: no such directory: expected a Hugging Face model with {CONFIG}")
        self.folder = path if path.is_dir() else path.parent
        form = format_of(path)
        made = form.open(path) if form else None
        content = made.json(CONFIG) if made else read_json(self.folder / CONFIG)
        place = str(path if made else self.folder / CONFIG)
        self.architecture = architecture_of(content, place)
        self.config = model_config(content, place)
        source = made or open_model(path)
        self.packed = isinstance(source, PackedSource)
        self.source: Source = source.source if isinstance(source, PackedSource) else source
        self._tensors: dict[str, Tensor] = (
            source.packed | source.other if self.packed else {name: tensor for _, name, tensor in source.tensors()}
        )
        names = self.config.canonical(self._tensors)
        self.stored_names = {canonical: name for name, canonical in names.items()}
        self._tensors = {names[name]: tensor for name, tensor in self._tensors.items()}
        self._embedding: PackedMatrix | None = None  # checked and kept once it was asked for
        shapes, vectors, turned = self.config.linears(), self.config.vectors(), self.config.transposed
        self._refuse_unknown({self.config.embedding, *shapes, *vectors})
        if self.config.tied:
            self._tensors[self.config.head] = self._tensor(self.config.embedding)
        expected = {self.config.embedding: (self.config.vocab, self.config.hidden), **shapes, **vectors}
        for name, shape in expected.items():
            tensor = self._upright(name, name in turned)
            if tensor.shape != shape or not tensor.is_float:
                found, wanted = (list(s)[:: -1 if name in turned else 1] for s in (tensor.shape, shape))
                raise SeedLMError(f"{self.folder}: tensor {name!r} is {tensor.dtype} {found}:"
                                  f" expected F16, BF16 or F32 {wanted}")  # fmt: skip
        self.linear = {name: self._tensors[name] for name in shapes}

    def _tensor(self, name: str) -> Tensor:
        if name not in self._tensors:
            raise SeedLMError(f"{self.folder}: tensor {name!r} is missing")
        return self._tensors[name]

    def _upright(self, name: str, turned: bool) -> Tensor:
        """A tensor with the outputs first; `turned`: the checkpoint has the inputs first."""
        tensor = self._tensor(name)
        if isinstance(tensor, PackedTensor) and tensor.info.transposed != turned:
            how = "as it is stored" if turned else "with rows and columns exchanged"
            raise SeedLMError(f"{self.folder}: tensor {name!r} was compressed {how}, and its rows are not outputs:"
                              f" compress the folder with its {CONFIG} anew")  # fmt: skip
        if turned:
            tensor = self._tensors[name] = tensor.transposed()
        return tensor

    def _refuse_unknown(self, known: set[str]) -> None:
        unknown = [name for name in self._tensors if name not in known and not self.config.ignored.fullmatch(name)]
        if unknown:
            more = f" and {len(unknown) - 4} more" if len(unknown) > 4 else ""
            raise SeedLMError(f"{self.folder}: tensors that a model of this {CONFIG} does not have:"
                              f" {', '.join(map(repr, unknown[:4]))}{more}")  # fmt: skip

    def vector(self, name: str) -> np.ndarray:
        """One of `ModelConfig.vectors`, float32."""
        return self._tensors[name].array().astype(np.float32)

    def embedding(self, tokens: np.ndarray) -> np.ndarray:
        """Rows of the embedding, float32 [..., hidden]; only these are read."""
        tensor = self._tensors[self.config.embedding]
        if isinstance(tensor, PackedTensor):
            return self._packed_embedding(tensor, tokens)
        return tensor.take(tokens).array().astype(np.float32)

    def _packed_embedding(self, tensor: PackedTensor, tokens: np.ndarray) -> np.ndarray:
        matrix = self._embedding = self._embedding or tensor.matrix()
        chosen, places = np.unique(tokens, return_inverse=True)
        rows = np.concatenate([matrix.row_slice(int(token), int(token) + 1).decode() for token in chosen])
        return rows[places].reshape(*np.shape(tokens), self.config.hidden)
