"""A GGUF file as a `Source`: tensors under Hugging Face's names, and the files that would stand beside them."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seedlm.golden.files.json_files import dumps
from seedlm.golden.files.sources import CONFIG, SINGLE, Source
from seedlm.golden.files.tensors import RawTensor
from seedlm.host.gguf.architectures import GgufArchitecture, architecture_of
from seedlm.host.gguf.architectures._base import uniform
from seedlm.host.gguf.header import Header, Stored, read_header
from seedlm.host.gguf.tensors import PLAIN, Change, matrices, open_tensor, type_name
from seedlm.host.gguf.tokenizer import PREFIX, special_tokens, tokenizer_config, tokenizer_json

__all__ = ["GgufFile", "GgufModel", "open_gguf", "read_gguf"]

EMBEDDING, HEAD = "token_embd.weight", "output.weight"
SAMPLING = {"temperature": "temp", "top_k": "top_k", "top_p": "top_p"}


@dataclass(frozen=True)
class GgufFile:
    """What a `TensorFile` offers.

    Parameters
    ----------
    path : Path
    tensors : dict of str to RawTensor
    metadata : dict of str to str
    """

    path: Path
    tensors: dict[str, RawTensor]
    metadata: dict[str, str]


@dataclass(frozen=True)
class GgufModel:
    """What a GGUF file holds.

    Parameters
    ----------
    source : Source
        The file as what Hugging Face's files would hold.
    header : Header
    places : dict
        Where each tensor of the source is, and what was done to it when the file was made.
    """

    source: Source
    header: Header
    places: dict[str, tuple[Stored, Change]]


def open_gguf(path: Path) -> Source:
    """Open a GGUF file, see `read_gguf`."""
    return read_gguf(path).source


def read_gguf(path: Path) -> GgufModel:
    """Open a GGUF file.

    Raises
    ------
    SeedLMError
        Not a whole GGUF file, an architecture, a tensor or a type of tensors that is not known; the package gguf is
        not there.
    """
    header = read_header(path)
    kind = architecture_of(header)
    if header.get("split.count", int, 1) > 1:
        header.refuse(f"one of {header.metadata['split.count']} parts of a model: expected a whole one: join them with"
                      " llama-gguf-split --merge")  # fmt: skip
    config = _config(header, kind)
    places = _places(header, kind, config)
    tensors = {name: open_tensor(header, tensor, change) for name, (tensor, change) in places.items()}
    made = {
        CONFIG: lambda: dumps(config),
        "tokenizer.json": lambda: dumps(tokenizer_json(header)),
        "tokenizer_config.json": lambda: dumps(tokenizer_config(header)),
        "generation_config.json": lambda: dumps(_generation(header)),
    }
    if header.get(f"{PREFIX}model", str, "none") in ("none", "no_vocab"):
        del made["tokenizer.json"], made["tokenizer_config.json"]
    types = Counter(type_name(header, tensor) for tensor in header.tensors)
    quantised = {kind: count for kind, count in types.most_common() if kind not in PLAIN}
    source = Source(path, {SINGLE: GgufFile(path, tensors, {})}, folder=True, made=made, quantised=quantised)
    return GgufModel(source, header, places)


def _config(header: Header, kind: GgufArchitecture) -> dict[str, Any]:
    """What config.json would be."""
    shapes = {tensor.name: tensor.shape for tensor in header.tensors}
    if len(shapes.get(EMBEDDING, ())) != 2:
        header.refuse(f"no matrix {EMBEDDING!r}: expected the embedding of a language model")
    config: dict[str, Any] = {"architectures": [kind.architecture], "model_type": kind.model_type, **kind.constants}
    for entry, key in kind.config.items():
        value = uniform(header, f"{kind.name}.{key}")
        if value is not None:
            config[entry] = value
    heads = config.get("num_attention_heads")
    if "head_dim" in kind.config and "head_dim" not in config and isinstance(heads, int) and heads > 0:
        config["head_dim"] = config.get("hidden_size", 0) // heads
    config["vocab_size"] = shapes[EMBEDDING][0]
    config["tie_word_embeddings"] = HEAD not in shapes
    bos, eos = special_tokens(header)
    config |= {"bos_token_id": bos, "eos_token_id": eos if len(eos) > 1 else next(iter(eos), None)}
    _check(header, kind, config)
    return config | kind.more(header, config)


def _check(header: Header, kind: GgufArchitecture, config: dict[str, Any]) -> None:
    """Refuse what the undoing of changes, and what follows from other entries, could not work with."""
    for entry, key in kind.config.items():
        if entry in config and (isinstance(config[entry], bool) or not isinstance(config[entry], int | float)):
            header.refuse(f"metadata '{kind.name}.{key}' must be a number, not {str(config[entry])[:40]!r}")
    for entry in ("num_attention_heads", "n_head", "num_hidden_layers", "n_layer"):
        if entry in kind.config and config.get(entry, 0) < 1:
            header.refuse(f"metadata '{kind.name}.{kind.config[entry]}' is missing or 0: expected a positive number")
    if "num_key_value_heads" in kind.config:
        config.setdefault("num_key_value_heads", config["num_attention_heads"])
    if "rope_theta" in kind.config:
        config.setdefault("rope_theta", 10000.0)


def _places(header: Header, kind: GgufArchitecture, config: dict[str, Any]) -> dict[str, tuple[Stored, Change]]:
    """The tensors by Hugging Face's names, in the order of the file."""
    out: dict[str, tuple[Stored, Change]] = {}
    unknown = []
    for tensor in header.tensors:
        if tensor.name in kind.said:
            continue
        base, _, part = tensor.name.rpartition(".")
        layer = re.fullmatch(r"(blk\.)(\d+)(\..+)", base)
        pattern, number = (f"{layer[1]}{{}}{layer[3]}", layer[2]) if layer else (base, "")
        if pattern in kind.stacks and len(tensor.shape) == 3:
            for expert, matrix in enumerate(matrices(header, tensor)):
                out[f"{kind.stacks[pattern].format(number, expert)}.{part}"] = matrix, Change()
        elif pattern in kind.tensors:
            make = kind.changes.get(f"{pattern}.{part}") or kind.changes.get(pattern)
            change = make(config) if make else Change()
            out[f"{kind.tensors[pattern].format(number)}.{part}"] = tensor, change
        else:
            unknown.append(tensor.name)
    if unknown:
        more = f" and {len(unknown) - 4} more" if len(unknown) > 4 else ""
        header.refuse(f"tensors that architecture {kind.name!r} does not have: {', '.join(unknown[:4])}{more}")
    return out


def _generation(header: Header) -> dict[str, Any]:
    """What generation_config.json would be: tokens that end a text, and how to sample."""
    bos, eos = special_tokens(header)
    given = {name: header.get(f"general.sampling.{key}", (int, float)) for name, key in SAMPLING.items()}
    sampling = {name: value for name, value in given.items() if value is not None}
    return {"bos_token_id": bos, "eos_token_id": eos} | ({"do_sample": True, **sampling} if sampling else {})
