"""A Hugging Face directory: what the model is (config.json) and its tensors, opened lazily."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.json_files import read_json
from seedlm.golden.files.sources import CONFIG, open_source
from seedlm.golden.files.tensors import RawTensor
from seedlm.host.models import architecture_of, model_config

__all__ = ["Checkpoint"]


class Checkpoint:
    """A model directory, its tensors checked by name, shape and dtype.

    Parameters
    ----------
    folder : Path
        With config.json and what `open_source` takes for the model.

    Attributes
    ----------
    folder : Path
    architecture : Architecture
    config : ModelConfig
    linear : dict of str to RawTensor
        The matrices of the linear layers by `ModelConfig.shapes`' names; memory maps. With tied embeddings the
        output matrix is the embedding.

    Raises
    ------
    SeedLMError
        A missing file, an unsupported architecture, a tensor that is missing, not what config.json promises, or one
        that the architecture does not know: its part of the model would be lost.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise SeedLMError(f"{folder}: no such directory: expected a Hugging Face model with {CONFIG}")
        path = self.folder / CONFIG
        content = read_json(path)
        self.architecture = architecture_of(content, str(path))
        self.config = model_config(content, str(path))
        self._tensors = {name: tensor for _, name, tensor in open_source(self.folder).tensors()}
        shapes = self.config.shapes()
        self._refuse_unknown({self.config.embedding, *shapes, *self.config.vectors()})
        if self.config.tied:
            self._tensors[self.config.head] = self._tensor(self.config.embedding)
        expected = {
            self.config.embedding: (self.config.vocab, self.config.hidden),
            **shapes,
            **{name: (n,) for name, n in self.config.vectors().items()},
        }
        for name, shape in expected.items():
            tensor = self._tensor(name)
            if tensor.shape != shape or not tensor.is_float:
                raise SeedLMError(f"{self.folder}: tensor {name!r} is {tensor.dtype} {list(tensor.shape)}:"
                                  f" expected F16, BF16 or F32 {list(shape)}")  # fmt: skip
        self.linear: dict[str, RawTensor] = {name: self._tensors[name] for name in shapes}

    def _tensor(self, name: str) -> RawTensor:
        if name not in self._tensors:
            raise SeedLMError(f"{self.folder}: tensor {name!r} is missing")
        return self._tensors[name]

    def _refuse_unknown(self, known: set[str]) -> None:
        unknown = [name for name in self._tensors if name not in known and not self.config.ignored.fullmatch(name)]
        if unknown:
            more = f" and {len(unknown) - 4} more" if len(unknown) > 4 else ""
            raise SeedLMError(f"{self.folder}: tensors that a model of this {CONFIG} does not have:"
                              f" {', '.join(map(repr, unknown[:4]))}{more}")  # fmt: skip

    def vector(self, name: str) -> np.ndarray:
        """A norm's weight or a bias, float32."""
        return self._tensors[name].array().astype(np.float32)

    def embedding(self, tokens: np.ndarray) -> np.ndarray:
        """Rows of the embedding, float32 [..., hidden]; only these are read."""
        tensor = self._tensors[self.config.embedding]
        width = {"F16": 2, "BF16": 2, "F32": 4}[tensor.dtype] * self.config.hidden
        rows = np.asarray(tensor.data.reshape(self.config.vocab, width)[tokens])
        return RawTensor(tensor.dtype, (*np.shape(tokens), self.config.hidden), rows.reshape(-1)).array().astype("f4")
