"""The tensors of quantised layers in safetensors files: which belong together, and whether they fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.json_files import dumps, read_json
from seedlm.golden.files.quantised import KEYS
from seedlm.golden.files.sources import CONFIG, Source, open_stored
from seedlm.golden.files.tensors import RawTensor
from seedlm.host.imports._base import Inexact, Matrix, Quantised, refuse_all
from seedlm.host.imports._settings import Settings
from seedlm.host.models import ModelConfig, model_config

__all__ = ["SCALES", "Layer", "Prepared", "open_layers"]

SCALES = ("F16", "BF16", "F32")  # what scales may be stored as


@dataclass(frozen=True)
class Layer:
    """A quantised layer.

    Parameters
    ----------
    name : str
        Without the last part of its tensors' names.
    where : str
        File and layer, for messages.
    parts : mapping of str to RawTensor
        By the last part of their names.
    """

    name: str
    where: str
    parts: Mapping[str, RawTensor]

    def part(self, name: str, dtypes: tuple[str, ...], shape: tuple[int, ...] | None = None, *,
             dimensions: int = 2) -> RawTensor:  # fmt: skip
        """A tensor of the layer; raises `SeedLMError` if it is missing or not as it must be."""
        expected = f"expected {' or '.join(dtypes)}"
        expected += f" of {dimensions} dimensions" if shape is None else f" {list(shape)}"
        tensor = self.parts.get(name)
        if tensor is None:
            raise SeedLMError(f"{self.where}: tensor '{self.name}.{name}' is missing, {expected}")
        fits = len(tensor.shape) == dimensions and 0 not in tensor.shape if shape is None else tensor.shape == shape
        if tensor.dtype not in dtypes or not fits:
            raise SeedLMError(f"{self.where}: tensor '{self.name}.{name}' is {tensor.dtype} {list(tensor.shape)},"
                              f" {expected}")  # fmt: skip
        return tensor


# What makes the matrix of a layer, and lines that the user should know.
Prepared = tuple[Callable[[Layer], Matrix], list[str]]


def open_layers(path: Path, settings: Settings, form: str, parts: tuple[str, ...],
                prepare: Callable[[list[Layer]], Prepared], older: str = "") -> Quantised:  # fmt: skip
    """A model whose quantised layers are several tensors each.

    Parameters
    ----------
    path, settings : Path, Settings
    form : str
        For people.
    parts : tuple of str
        Last parts of the names of a layer's tensors; the first one is the codes, and every layer has it.
    prepare : callable
        Called with all layers gives what makes the matrix of one, and remarks. An `Inexact` of that maker is why a
        layer cannot be expressed.
    older : str
        A file that says how the model was quantised, if there is one; not copied.

    Raises
    ------
    SeedLMError
        Tensors that are missing or do not fit; layers that cannot be expressed exactly, all of them by name.
    """
    source = open_stored(path)
    layers, shards, other = _collect(source, parts)
    if not layers:
        settings.refuse(f"says {settings.method}, but no tensor is called {parts[0]!r}: expected quantised layers")
    make, remarks = prepare(list(layers.values()))
    known = _architecture(source)
    turned = _transposed(known, layers)
    matrices: dict[str, dict[str, Matrix]] = {shard: {} for shard in source.shards}
    reasons = {}
    for name, layer in layers.items():
        weight = f"{name}.weight"
        try:
            matrices[shards[name]][weight] = replace(make(layer), transposed=weight in turned)
        except Inexact as error:
            reasons[name] = str(error)
    refuse_all(path, reasons)
    remarks += _drop_empty_biases(known, layers, other)
    return Quantised(form, _plain(source, older), matrices, other, tuple(remarks))


def _collect(source: Source, parts: tuple[str, ...]) -> tuple[dict[str, Layer], dict[str, str], dict]:
    """Layers by name, the shards of their codes, and all other tensors by shard; a layer may be in several shards."""
    found: dict[str, dict[str, RawTensor]] = {}
    shards: dict[str, str] = {}
    other: dict[str, dict[str, RawTensor]] = {shard: {} for shard in source.shards}
    for shard, name, tensor in source.tensors():
        base, _, part = name.rpartition(".")
        if part not in parts:
            other[shard][name] = tensor
            continue
        found.setdefault(base, {})[part] = tensor
        if part == parts[0]:
            shards[base] = shard
    for base, some in found.items():
        if base not in shards:
            raise SeedLMError(f"{source.path}: tensor '{base}.{parts[0]}' is missing: '{base}.{next(iter(some))}' is"
                              " there and belongs to it")  # fmt: skip
        if any(f"{base}.weight" in tensors for tensors in other.values()):
            raise SeedLMError(f"{source.path}: '{base}.weight' is there beside '{base}.{parts[0]}': expected one of"
                              " the two")  # fmt: skip
    layers = {base: Layer(base, str(source.path), found[base]) for base in shards}
    return layers, shards, other


def _architecture(source: Source) -> ModelConfig | None:
    """What config.json says of the model before it was quantised; None if there is no architecture that we have."""
    content = source.json(CONFIG)
    try:
        return None if content is None else model_config(_without(content), str(source.place(CONFIG)))
    except SeedLMError:
        return None


def _transposed(known: ModelConfig | None, layers: Mapping[str, Layer]) -> set[str]:
    """The weights that a plain checkpoint has with the inputs first."""
    names = known.canonical(f"{layer}.weight" for layer in layers) if known else {}
    return {name for name, canonical in names.items() if canonical in known.transposed}


def _drop_empty_biases(known: ModelConfig | None, layers: Mapping[str, Layer],
                       other: dict[str, dict[str, RawTensor]]) -> list[str]:  # fmt: skip
    """Leave out biases of zeros that the architecture does not have: some programs write one to every layer."""
    if known is None:
        return []
    dropped = []
    for tensors in other.values():
        names = known.canonical(tensors)
        vectors = known.vectors()
        for name in list(tensors):
            base, _, part = name.rpartition(".")
            if part == "bias" and base in layers and names[name] not in vectors and not tensors[name].array().any():
                dropped.append(name)
                del tensors[name]
    return [f"left out: {len(dropped)} biases of zeros that the architecture does not have"] if dropped else []


def _without(config: dict) -> dict:
    """A config.json that does not say how the model was quantised."""
    return {key: value for key, value in config.items() if key not in KEYS}


def _plain(source: Source, older: str) -> Source:
    """The files as the packed model has them: nothing says that another program has quantised it."""
    own = [place for place in source.others if place.name == older]
    said = [place for place in source.others if place == source.root / CONFIG]
    others = [place for place in source.others if place not in own + said]
    made = {CONFIG: lambda: dumps(_without(read_json(said[0])))} if said else {}
    return replace(source, others=others, made=made, left_out=[*source.left_out, *own])
