"""Models as they come: which files of a folder are the model, what is refused, what is kept."""

import json
import os

import numpy as np
import pytest

from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.atomic import atomic_folder, atomic_path
from seedlm.golden.files.packed import PackedFile, write_stored
from seedlm.golden.files.sources import matches, open_packed_source, open_source, require_output, write_index
from seedlm.golden.files.tensors import RawTensor, TensorFile, write_tensors

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
W = RawTensor.from_array(np.ones((4, 8), np.float16))


def complaint(opener, path) -> str:
    """The one line with which a model is refused."""
    with pytest.raises(SeedLMError) as caught:
        opener(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write_shards(folder, bom: bytes = b""):
    """A folder with two shards and their index."""
    folder.mkdir(exist_ok=True)
    weight_map = {}
    for name in "ab":
        write_tensors(folder / f"{name}.safetensors", {f"{name}.weight": W}, {"format": "pt"})
        weight_map[f"{name}.weight"] = f"{name}.safetensors"
    index = {"metadata": {"total_size": 128, "by": "somebody"}, "weight_map": weight_map}
    (folder / INDEX).write_bytes(bom + json.dumps(index).encode())
    return folder


# --- quantised models ------------------------------------------------------------------------------
def stored(dtype: str, *shape: int) -> RawTensor:
    """Zeros of any dtype."""
    size = {"F8": 1, "I8": 1, "U8": 1, "I3": 4, "F1": 2, "F3": 4, "BF": 2}[dtype[:2]]
    return RawTensor(dtype, shape, np.zeros(size * int(np.prod(shape)), np.uint8))


LAYER = "model.layers.0.mlp.down_proj"
QUANTISED = {
    "FP8": ({"weight": stored("F8_E4M3", 8, 8), "weight_scale_inv": stored("F32", 1, 2)}, "weight_scale_inv"),
    "F8_E5M2": ({"weight": stored("F8_E5M2", 8, 8), "s": stored("F32", 1, 2)}, "weight"),
    "FP8, scales only": ({"weight_scale_inv": stored("F32", 1, 2)}, "weight_scale_inv"),
    "GPTQ": (
        {"qweight": stored("I32", 1, 8), "qzeros": stored("I32", 1, 1), "scales": stored("F16", 1, 8),
         "g_idx": stored("I32", 8)},
        "g_idx",
    ),
    "AWQ": (
        {"qweight": stored("I32", 8, 1), "qzeros": stored("I32", 1, 1), "scales": stored("F16", 1, 8)}, "qweight",
    ),
    "bitsandbytes, 4 bits": (
        {"weight": stored("U8", 32, 1), "weight.absmax": stored("F32", 1), "weight.quant_map": stored("F32", 16),
         "weight.quant_state.bitsandbytes__nf4": stored("U8", 9)},
        "weight.absmax",
    ),
    "bitsandbytes, 8 bits": ({"weight": stored("I8", 8, 8), "SCB": stored("F32", 8)}, "SCB"),
    "bitsandbytes, absmax": ({"weight.absmax": stored("F32", 4, 2)}, "weight.absmax"),
    "bitsandbytes, map": ({"weight.quant_map": stored("F32", 16)}, "weight.quant_map"),
    "bitsandbytes, SCB": ({"SCB": stored("F32", 8)}, "SCB"),
    "compressed-tensors": (
        {"weight_packed": stored("I32", 8, 1), "weight_scale": stored("BF16", 8, 1)}, "weight_packed",
    ),
    "MXFP4": ({"gate_up_proj_blocks": stored("U8", 2, 8, 16)}, "gate_up_proj_blocks"),
    "I32": ({"weight": stored("I32", 8, 1), "scales": stored("F16", 8, 1)}, "weight"),
}  # fmt: skip


@pytest.mark.parametrize("kind", QUANTISED)
@pytest.mark.parametrize("opener", [open_source, open_packed_source])
def test_quantised_tensors(tmp_path, kind, opener):
    """Their scales are floating matrices, and would be compressed for weights."""
    tensors, shown = QUANTISED[kind]
    path = tmp_path / "m.safetensors"
    # a matrix that could be compressed is there in each of them
    write_tensors(path, {"head.weight": W} | {f"{LAYER}.{name}": t for name, t in tensors.items()})
    found = complaint(opener, path)
    assert found.startswith(f"{path}: quantised already by "), found
    assert kind.split(",")[0] in found
    assert f"(tensor '{LAYER}.{shown}')" in found
    assert found.endswith(": expected the original weights as F16, BF16 or F32, or seedlm import first")


@pytest.mark.parametrize("opener", [open_source, open_packed_source])
@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}, "fp8"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "gptq"),
        ({"quantization_config": {"load_in_4bit": True}}, "an unnamed method"),
        ({"compression_config": {"quant_method": "compressed-tensors"}}, "compressed-tensors"),
    ],
)
def test_quantised_by_its_config(tmp_path, opener, config, says):
    write_tensors(tmp_path / SINGLE, {"w": W})
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert complaint(opener, tmp_path).startswith(
        f"{tmp_path / 'config.json'}: quantised already by {says} ('{next(iter(config))}')"
    )
    # A file that was named stands for itself, whatever lies beside it.
    if opener is open_source:
        assert list(open_source(tmp_path / SINGLE).shards) == [SINGLE]
    write_shards(tmp_path / "sharded")
    (tmp_path / "sharded" / "config.json").write_text(json.dumps(config))
    assert says in complaint(opener, tmp_path / "sharded" / INDEX)


def test_what_only_looks_quantised(tmp_path):
    tensors = {
        "weight": W, "head.weight.lora_A": W, "scales": W, "position_ids": stored("I32", 1, 8), "mask": stored("U8", 4),
        "norm.weight": stored("F32", 8), "scale.weight": stored("I32", 8), "logit_scale": stored("F32", 1),
        "double.weight": RawTensor.from_array(np.ones((4, 8))),
    }  # fmt: skip
    write_tensors(tmp_path / SINGLE, tensors)
    (tmp_path / "config.json").write_text('{"quantization_config": null}')
    assert len(list(open_source(tmp_path).tensors())) == len(tensors)


# --- names and patterns ----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "pattern", "same"),
    [
        ("layers[0].weight", "layers[0].weight", True),
        ("layers[0].weight", "layers[?].*", True),
        ("layers[12].weight", "*[1?]*", True),
        ("layers0.weight", "layers[0].weight", False),
        ("layers[0].weight", "layers0*", False),
        ("a[!b]", "a[!b]", True),
        ("a]b[", "a]b[", True),
        ("model.layers.0.w", "*layers.0*", True),
        ("Model.w", "model.w", False),
        ("w.weight", "w", False),
        ("a\nb", "a?b", True),
    ],
)
def test_patterns(name, pattern, same):
    assert matches(name, pattern) is same


# --- folders ---------------------------------------------------------------------------------------
def test_two_models_in_a_folder(tmp_path):
    """The shards of an index and a file of the usual name: there is no telling which one is meant."""
    write_shards(tmp_path)
    write_tensors(tmp_path / SINGLE, {"c.weight": W})
    found = complaint(open_source, tmp_path)
    assert found.startswith(f"{tmp_path}: has both {SINGLE} and {INDEX}: ")
    assert complaint(open_packed_source, tmp_path) == found
    assert list(open_source(tmp_path / INDEX).shards) == ["a.safetensors", "b.safetensors"]
    assert list(open_source(tmp_path / SINGLE).shards) == [SINGLE]
    # An index of the one file is no second model.
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"c.weight": SINGLE}}))
    assert list(open_source(tmp_path).shards) == [SINGLE]


def test_index_with_a_byte_order_mark(tmp_path):
    assert list(open_source(write_shards(tmp_path, b"\xef\xbb\xbf")).shards) == ["a.safetensors", "b.safetensors"]


@pytest.mark.parametrize("name", ["config.json", "1_Pooling/config.json", SINGLE])
def test_links_to_nothing(tmp_path, name):
    """As a cache leaves them when its files are cleared away."""
    write_tensors(tmp_path / "m.safetensors", {"w": W})
    (tmp_path / "modules.json").write_text('[{"path": ""}, {"path": "1_Pooling"}]')
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / name).symlink_to("../../blobs/0123")
    found = complaint(open_source, tmp_path)
    assert found == f"{tmp_path / name}: a symbolic link to ../../blobs/0123, which is missing: expected a file"


def sentence_transformer(folder):
    """A model with a pooling and a dense layer, and what else lies in such folders."""
    write_shards(folder)
    files = {
        "config.json": "{}", "1_Pooling/config.json": "{}", "2_Dense/config.json": "{}", "2_Dense/pytorch_model.bin":
        "weights", "onnx/model.onnx": "another form", ".git/config": "hidden", "pytorch_model.bin": "another form",
        "modules.json": json.dumps([{"path": ""}, {"path": "1_Pooling"}, {"path": "2_Dense"}]),
    }  # fmt: skip
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    write_tensors(folder / "2_Dense" / SINGLE, {"linear.weight": W})
    return folder


def test_parts_of_a_sentence_transformer(tmp_path):
    source = open_source(sentence_transformer(tmp_path / "in"))
    parts = ["1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors", "2_Dense/pytorch_model.bin"]
    assert source.copied == [*parts, "config.json", "modules.json"]
    assert source.remark.startswith("not copied: onnx/, pytorch_model.bin (")
    output = tmp_path / "out"
    for _ in range(2):  # the second time into a folder that has them
        require_output(output, source)
        with atomic_folder(output, last=".index.json") as folder:
            for shard, file in source.shards.items():
                write_tensors(folder / shard, file.tensors)
            write_index(folder, source)
        for name in source.copied:
            assert (output / name).read_bytes() == (tmp_path / "in" / name).read_bytes()
        written = sorted(p.relative_to(output).as_posix() for p in output.rglob("*") if p.is_file())
        assert written == sorted([*source.copied, *source.shards, INDEX])
        assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out"]
    assert json.loads((output / INDEX).read_text())["metadata"] == {"total_size": 128, "by": "somebody"}


@pytest.mark.parametrize("modules", ["", "{}", "[1]", '[{"path": 3}]', '[{"path": "../x"}]', '[{"path": "/"}]'])
def test_odd_lists_of_modules(tmp_path, modules):
    folder = sentence_transformer(tmp_path / "in")
    (folder / "modules.json").write_text(modules)
    source = open_source(folder)
    assert source.copied == ["config.json", "modules.json"]
    assert "1_Pooling/, 2_Dense/" in source.remark


# --- permissions and metadata ----------------------------------------------------------------------
@pytest.fixture(params=[0o022, 0o077, 0o002])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path) -> int:
    return path.stat().st_mode & 0o777


def test_permissions(tmp_path, umask):
    """What the umask leaves, though the safetensors writer puts a private file in place of the temporary one."""
    write_tensors(tmp_path / SINGLE, {"w": W})
    assert mode(tmp_path / SINGLE) == 0o666 & ~umask
    (tmp_path / SINGLE).chmod(0o640)
    write_tensors(tmp_path / SINGLE, {"w": W})
    assert mode(tmp_path / SINGLE) == 0o640, "a file that is replaced keeps its permissions"
    for old in (False, True):
        with atomic_folder(tmp_path / "folder") as folder, atomic_path(folder / "f") as path:
            path.write_text("new")
        assert mode(tmp_path / "folder") == 0o777 & ~umask
        assert mode(tmp_path / "folder" / "f") == (0o604 if old else 0o666 & ~umask)
        (tmp_path / "folder" / "f").chmod(0o604)


def test_folders_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for place, reason in (("none/out", "No such file or directory"), ("file/out", "Not a directory")):
        with pytest.raises(SeedLMError, match=f"{place}: cannot write: {reason}"), atomic_folder(tmp_path / place):
            pass


def test_metadata_of_the_source(tmp_path):
    """Kept beside our own, which win; a key that would pass for another convention of seeds does not make it one."""
    said = {
        "format": "pt", "version": "7", "tensors": "[]", "author": "somebody", "training_seed": "42",
        "source.shift": "1", "source.x": "2",
    }  # fmt: skip
    write_stored(tmp_path / "p", {}, {}, {"w": W}, said)
    file = PackedFile(tmp_path / "p")
    assert file.other == ["w"]
    assert {key: file.file.metadata[key] for key in ("format", "version", "tensors", "author")} == {
        "format": "seedlm", "version": "1", "tensors": "{}", "author": "somebody",
    }  # fmt: skip
    assert file.source_metadata == {key: said[key] for key in said if key not in ("format", "version", "tensors")}
    write_tensors(tmp_path / "q", {"w": W}, TensorFile(tmp_path / "p").metadata | {"lfsr_shift": "left"})
    assert "seeds of another program (metadata 'lfsr_shift'" in complaint(PackedFile, tmp_path / "q")
