"""GGUF files with quantised tensors, which the gguf library makes: every weight is what the library says it is."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.sources import PackedSource, open_packed_source
from seedlm.host import importing
from seedlm.host.importing import write_quantised
from seedlm.host.imports import open_quantised
from seedlm.host.models import model_config
from tests.host.models.cases import CASES
from tests.host.models.cases import tensors as case_tensors
from tests.host.models.test_gguf import write_gguf_case
from tests.host.tiny_gguf import EVEN, add_tensor, finish, gguf, write_gguf
from tests.host.tiny_llama import CONFIG, tensors

CODECS = {"Q4_0": "q4_0", "Q8_0": "q8_0", "MXFP4": "mxfp4"}
MIXTRAL = CASES["mixtral"] | {"hidden_size": 64, "intermediate_size": 96, "head_dim": 16, "num_attention_heads": 4}


def imported(path: Path) -> PackedSource:
    write_quantised(open_quantised(path), path.parent / "out")
    return open_packed_source(path.parent / "out")


def as_stored(array: np.ndarray, kind: str) -> np.ndarray:
    """What the library makes of an array and of that: rows are quantised by themselves, in whatever order."""
    number = gguf.GGMLQuantizationType[kind]
    return gguf.dequantize(gguf.quantize(array, number), number)


@pytest.mark.parametrize("kind", CODECS)
def test_llama(tmp_path, kind):
    """Rows of queries and keys in Hugging Face's order; vectors and matrices of halves as they are."""
    config = CONFIG | EVEN
    values = tensors(config, np.random.default_rng(41))
    values["model.layers.0.mlp.up_proj.weight"][3, 32:64] = 0  # a block of zeros has no scale
    plain = ("token_embd.weight", "blk.1.attn_q.weight")
    write_gguf(tmp_path / "m.gguf", config, values, lambda name: "F16" if name in plain else kind)
    source = imported(tmp_path / "m.gguf")
    assert {info.codec.name for info in source.tensors.values()} == {CODECS[kind]}
    assert set(source.tensors) | set(source.other) == set(values)
    assert len(source.other) == 7
    for name in source.tensors:
        assert np.array_equal(source.matrix(name).decode(), as_stored(values[name], kind)), name
    for name, tensor in source.other.items():
        assert tensor.dtype == ("F32" if values[name].ndim == 1 else "F16")
        assert np.array_equal(tensor.array(), values[name].astype(tensor.array().dtype)), name


@pytest.mark.parametrize("kind", CODECS)
def test_any_bits(tmp_path, kind):
    """Blocks that no quantiser makes: any codes, scales of both signs and of any size that a row can have."""
    rng = np.random.default_rng(42)
    number = gguf.GGMLQuantizationType[kind]
    size = gguf.GGML_QUANT_SIZES[number][1]
    blocks = rng.integers(0, 256, (40, 6, size), dtype=np.uint8)
    if kind == "MXFP4":
        blocks[..., 0] = rng.integers(20, 59, (40, 6)) + rng.integers(0, 190, (40, 1))
    else:
        halves = rng.integers(0, 1 << 16, (40, 6, 1), dtype=np.uint16)
        halves[halves & 0x7C00 == 0x7C00] ^= 0x4000
        blocks[..., :2] = halves.view(np.uint8)
    config = CONFIG | {"vocab_size": 40, "hidden_size": 192, "num_attention_heads": 4, "head_dim": 48}
    values = {"model.norm.weight": np.ones(192, "f4")}
    path = tmp_path / "m.gguf"
    write_gguf(path, config, values, tokenizer=lambda writer: writer.add_tensor(
        "token_embd.weight", blocks.reshape(40, -1), raw_dtype=number))  # fmt: skip
    found = imported(path).matrix("model.embed_tokens.weight").decode()
    assert np.array_equal(found, gguf.dequantize(blocks.reshape(40, -1), number))


def test_other_architectures(tmp_path):
    """A GPT-2's matrices are transposed, the experts of a mixture are taken out of their stack."""
    config = CASES["gpt2"] | {"n_embd": 64}
    values = case_tensors(model_config(config, "here"))
    (tmp_path / "a").mkdir()
    source = imported(write_gguf_case(tmp_path / "a" / "m.gguf", config, values, "Q8_0"))
    turned = {name for name, info in source.tensors.items() if info.transposed}
    assert {name.split(".")[-2] for name in turned} == {"c_attn", "c_proj", "c_fc"}
    for name, tensor in source.packed.items():
        expected = as_stored(values[name].T.copy(), "Q8_0").T if name in turned else as_stored(values[name], "Q8_0")
        assert np.array_equal(tensor.array(), expected), name
    values = case_tensors(model_config(MIXTRAL, "here"))
    (tmp_path / "b").mkdir()
    source = imported(write_gguf_case(tmp_path / "b" / "m.gguf", MIXTRAL, values, "Q8_0"))
    assert any(".experts.1." in name for name in source.tensors)
    for name, tensor in source.packed.items():
        assert np.array_equal(tensor.array(), as_stored(values[name], "Q8_0")), name


# --- what is refused -------------------------------------------------------------------------------
def refused(path: Path) -> str:
    """In one line, and nothing is left of the output."""
    before = sorted(p.name for p in path.parent.iterdir())
    with pytest.raises(SeedLMError) as error:
        write_quantised(open_quantised(path), path.parent / "out")
    assert sorted(p.name for p in path.parent.iterdir()) == before
    assert "\n" not in str(error.value)
    return str(error.value)


def test_types(tmp_path):
    """By name and type, all of them."""
    config = CONFIG | EVEN
    values = tensors(config, np.random.default_rng(43))
    kinds = {"output.weight": "Q5_0", "token_embd.weight": "F16"}
    kinds |= {f"blk.{i}.ffn_{name}.weight": "Q4_1" for i in range(2) for name in ("up", "gate", "down")}
    write_gguf(tmp_path / "m.gguf", config, values, lambda name: kinds.get(name, "Q8_0"))
    line = refused(tmp_path / "m.gguf")
    assert "m.gguf: cannot be imported exactly: blk.0.ffn_gate.weight (Q4_1), " in line
    assert " and 3 more: no codec expresses these types: expected Q4_0, Q8_0, MXFP4" in line
    write_gguf(tmp_path / "plain.gguf", config, values, "F16")
    assert "plain.gguf: no tensor is quantised: expected Q4_0, Q8_0, MXFP4; seedlm compress" in refused(
        tmp_path / "plain.gguf")  # fmt: skip


def damaged(path: Path, kind: str, change) -> Path:
    """A model whose second layer has changed bytes in the down projection."""
    number = gguf.GGMLQuantizationType[kind]
    config = CONFIG | EVEN
    values = tensors(config, np.random.default_rng(44))

    def tokenizer(writer) -> None:
        data = gguf.quantize(values.pop("model.layers.1.mlp.down_proj.weight"), number)
        change(data)
        writer.add_tensor("blk.1.ffn_down.weight", data, raw_dtype=number)

    return write_gguf(path, config, values, kind, tokenizer)


def test_scales(tmp_path):
    """NaN and what a row has no room for, with tensor, row and group, after other tensors were written."""
    nan = np.frombuffer(np.float16(np.nan).tobytes(), np.uint8)

    def not_a_number(data: np.ndarray) -> None:
        data[5, 34:36] = nan

    line = refused(damaged(tmp_path / "nan.gguf", "Q8_0", not_a_number))
    assert "nan.gguf: blk.1.ffn_down.weight: 1 of " in line
    assert "scales are NaN or infinite, the first in row 5, group 1" in line
    for byte, said in ((255, "block exponents are 255, which is NaN, the first in row 5"),
                       (40, "row 5: block exponents spread over ")):  # fmt: skip

        def exponent(data: np.ndarray, byte: int = byte) -> None:
            data[5, 0] = byte

        assert said in refused(damaged(tmp_path / f"{byte}.gguf", "MXFP4", exponent))


def test_rows_of_later_slices(tmp_path, monkeypatch):
    """A message has the row's number in the tensor."""
    monkeypatch.setattr(importing, "WEIGHTS", 1)
    monkeypatch.setattr(importing, "TOGETHER", 9)

    def infinite(data: np.ndarray) -> None:
        data[50, :2] = np.frombuffer(np.float16(np.inf).tobytes(), np.uint8)

    line = refused(damaged(tmp_path / "m.gguf", "Q4_0", infinite))
    assert "blk.1.ffn_down.weight: 1 of 27 scales are NaN or infinite, the first in row 50, group 0" in line


def test_truncated(tmp_path):
    path = damaged(tmp_path / "m.gguf", "Q8_0", lambda data: None)
    path.write_bytes(path.read_bytes()[:-100])
    assert "not a complete GGUF file: tensor" in refused(path)


def test_memory(tmp_path):
    """A share of a matrix at a time: less than the file has."""
    rows = 16384
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "gpt2")
    for key, value in {"block_count": 1, "context_length": 16, "embedding_length": 512, "feed_forward_length": 32,
                       "attention.head_count": 2}.items():  # fmt: skip
        writer.add_uint32(f"gpt2.{key}", value)
    writer.add_float32("gpt2.attention.layer_norm_epsilon", 1e-5)
    add_tensor(writer, "output_norm.weight", np.ones(512, "f4"))
    block = gguf.quantize(np.random.default_rng(45).normal(size=(64, 512)).astype("f4"), gguf.GGMLQuantizationType.Q8_0)
    for name in ("token_embd.weight", "output.weight"):
        writer.add_tensor(name, np.tile(block, (rows // 64, 1)), raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    finish(writer)
    model = open_quantised(tmp_path / "m.gguf")
    tracemalloc.start()
    write_quantised(model, tmp_path / "out")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 48 << 20 < 2 * rows * 512 * 4
    assert model.weights == 2 * rows * 512
