"""A checkpoint of Llama-3-70B's shapes whose data are holes: 141 GB of weights that take a few hundred KB of disk.

    python -m tests.sparse_model FOLDER [--packed CODEC]

writes config.json, an index and shards of at most 5 GB; all weights are 0. With --packed the shards are what ``seedlm
compress`` would write: its words and scales are 0, too.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from seedlm.golden.codecs import codec
from seedlm.golden.files.packed import FORMAT, VERSION, TensorInfo, stored_layout
from seedlm.golden.files.sources import INDEX
from seedlm.golden.rotation import rotation_for
from seedlm.host.models import model_config
from seedlm.project import MODELS

SHARD = 5 * 10**9  # bytes of weights in a shard, at most
BYTES = {"BF16": 2, "F32": 4, "U8": 1, "F16": 2}


def write_sparse(folder: Path, config: dict = MODELS["Llama-3-70B"], packed: str | None = None) -> list[Path]:
    """Write the checkpoint; its shards."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    shards = list(_shards(_shapes(config)))
    weight_map, paths = {}, []
    for i, shapes in enumerate(shards):
        name = f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors"
        infos = _infos(shapes, packed) if packed else {}
        tensors = {}
        for tensor, shape in shapes.items():
            parts = stored_layout(tensor, infos[tensor]) if tensor in infos else [(tensor, "BF16", shape)]
            tensors |= {part: (dtype, shape) for part, dtype, shape in parts}
        _write(folder / name, tensors, _metadata(infos) if packed else {"format": "pt"})
        weight_map |= dict.fromkeys(tensors, name)
        paths.append(folder / name)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return paths


def _shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """All tensors, layer by layer, as such a checkpoint has them."""
    model = model_config(config, "config.json")
    body = {**model.linears(), **model.vectors()}
    head = {name: body.pop(name) for name in (model.head, "model.norm.weight")}
    return {model.embedding: (model.vocab, model.hidden)} | dict(sorted(body.items(), key=_layer)) | head


def _layer(item: tuple[str, object]) -> int:
    return int(item[0].split(".")[2])


def _shards(shapes: dict[str, tuple[int, ...]]) -> Iterator[dict[str, tuple[int, ...]]]:
    shard, size = {}, 0
    for name, shape in shapes.items():
        more = 2 * _count(shape)
        if shard and size + more > SHARD:
            yield shard
            shard, size = {}, 0
        shard[name], size = shape, size + more
    yield shard


def _count(shape: tuple[int, ...]) -> int:
    return shape[0] * (shape[1] if len(shape) > 1 else 1)


def _infos(shapes: dict[str, tuple[int, ...]], name: str) -> dict[str, TensorInfo]:
    kind = codec(name)
    return {
        tensor: TensorInfo(kind, shape, 0, "BF16", rotation=rotation_for(shape[1]) if kind.rotates else None)
        for tensor, shape in shapes.items() if len(shape) == 2
    }  # fmt: skip


def _metadata(infos: dict[str, TensorInfo]) -> dict[str, str]:
    entries = {}
    for tensor, info in infos.items():
        entries[tensor] = {
            "shape": info.shape, "codec": info.codec.name, "exp_bias": info.exp_bias, "dtype": info.dtype,
        }  # fmt: skip
        if info.rotation:
            entries[tensor]["rotation"] = info.rotation.metadata()
    return {"format": FORMAT, "version": VERSION, "tensors": json.dumps(entries)}


def _write(path: Path, tensors: dict[str, tuple[str, tuple[int, ...]]], metadata: dict[str, str]) -> None:
    """A header, and a hole for the data."""
    header, at = {"__metadata__": metadata}, 0
    # The library wants the data in the order of falling alignment, as it writes them.
    for name, (dtype, shape) in sorted(tensors.items(), key=lambda item: -BYTES[item[1][0]]):
        end = at + BYTES[dtype] * _count(shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + at)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--packed", metavar="CODEC")
    given = parser.parse_args()
    print(f"{len(write_sparse(given.folder, packed=given.packed))} shards in {given.folder}")
