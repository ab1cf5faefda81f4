"""GGUF files, which the gguf library writes here, against the same models as Hugging Face directories."""

from __future__ import annotations

import contextlib
import struct
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.tensors import LazyTensor, TensorFile
from seedlm.host.checkpoint import Checkpoint
from seedlm.host.engines import FloatEngine
from seedlm.host.formats import format_of, open_plain
from seedlm.host.gguf import tensors as gguf_tensors
from seedlm.host.gguf.architectures import ARCHITECTURES
from seedlm.host.gguf.header import read_header
from seedlm.host.gguf.model import open_gguf
from seedlm.host.gguf.tensors import open_tensor
from seedlm.host.models import language_model
from tests.host.tiny_gguf import EVEN, add_tensor, finish, gguf, write_gguf
from tests.host.tiny_llama import SCALED, VARIANTS, tensors, write_model

CASES = VARIANTS | {
    # What GGUF files hold is Llama 3.1's own scaling: with another original length it cannot be told.
    "llama3": VARIANTS["llama3"] | {
        "rope_scaling": SCALED | {"original_max_position_embeddings": 8192}, "rope_theta": 500000.0,
    },
}  # fmt: skip


def both(tmp_path: Path, dtype: str = "F32", **changes) -> tuple[Path, Path]:
    """The same random model as a directory and as a GGUF file."""
    folder = tmp_path / "folder"
    config = write_model(folder, np.random.default_rng(5), dtype=dtype, bos_token_id=None, eos_token_id=None, **changes)
    values = {
        name: tensor.array().astype("f4") for name, tensor in TensorFile(folder / "model.safetensors").tensors.items()
    }
    return folder, write_gguf(tmp_path / "model.gguf", config, values, dtype)


@pytest.mark.parametrize("case", CASES)
def test_same_model(tmp_path, case):
    """Every tensor with the same bytes, the same dimensions, the same logits bit for bit."""
    folder, path = both(tmp_path, **CASES[case])
    plain = {name: tensor for _, name, tensor in open_plain(folder).tensors()}
    mine = {name: tensor for _, name, tensor in open_plain(path).tensors()}
    assert set(mine) == set(plain)
    for name, tensor in plain.items():
        assert (mine[name].dtype, mine[name].shape, mine[name].nbytes) == ("F32", tensor.shape, tensor.nbytes), name
        assert np.array_equal(mine[name].data, tensor.data), name
        assert np.array_equal(mine[name].rows(1, 4).data, tensor.rows(1, 4).data), name
        assert np.array_equal(mine[name].take([[2, 0], [2, 1]]).data, tensor.take([[2, 0], [2, 1]]).data), name
    models = [Checkpoint(p) for p in (folder, path)]
    assert models[0].config == models[1].config
    tokens = np.arange(20) * 7 % 256
    logits = [language_model(m, FloatEngine(m.linear)).logits(tokens) for m in models]
    assert np.array_equal(logits[0].view(np.uint32), logits[1].view(np.uint32))


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_halves_stay(tmp_path, dtype):
    """Matrices of 16 bits are taken as they are, also those whose rows are put back in order."""
    folder, path = both(tmp_path, dtype)
    source = open_gguf(path)
    assert not source.quantised
    assert source.history == ""
    for name, tensor in TensorFile(folder / "model.safetensors").tensors.items():
        found = source.shards["model.safetensors"].tensors[name]
        if len(tensor.shape) == 2:
            assert found.dtype == dtype
            assert np.array_equal(found.data, tensor.data), name
        assert np.array_equal(found.array(), tensor.array()), name


# --- quantised types -------------------------------------------------------------------------------
def halves(data: bytes) -> list[float]:
    return [struct.unpack_from("<e", data, 2 * i)[0] for i in range(len(data) // 2)]


def q8_0(block: bytes) -> list[float]:
    (d,) = halves(block[:2])
    return [d * q for q in struct.unpack("<32b", block[2:])]


def q4_0(block: bytes) -> list[float]:
    (d,) = halves(block[:2])
    return [d * ((b & 15) - 8) for b in block[2:]] + [d * ((b >> 4) - 8) for b in block[2:]]


def q4_1(block: bytes) -> list[float]:
    d, m = halves(block[:4])
    return [d * (b & 15) + m for b in block[4:]] + [d * (b >> 4) + m for b in block[4:]]


def q6_k(block: bytes) -> list[float]:
    low, high, scales = block[:128], block[128:192], struct.unpack("<16b", block[192:208])
    (d,) = halves(block[208:])
    out = [0.0] * 256
    for half in range(2):
        for quarter in range(4):
            for i in range(32):
                four = low[64 * half + 32 * (quarter % 2) + i] >> (4 * (quarter // 2)) & 15
                two = high[32 * half + i] >> (2 * quarter) & 3
                scale = scales[8 * half + 2 * quarter + i // 16]
                out[128 * half + 32 * quarter + i] = d * scale * ((four | two << 4) - 32)
    return out


LITERAL = {"Q8_0": (q8_0, 32, 34), "Q4_0": (q4_0, 32, 18), "Q4_1": (q4_1, 32, 20), "Q6_K": (q6_k, 256, 210)}


@pytest.mark.parametrize("kind", LITERAL)
def test_quantised_values(tmp_path, kind):
    """Every value by the description of its type, in Python's own numbers; rows, rows by number, and a vector."""
    decode, block, size = LITERAL[kind]
    rng = np.random.default_rng(3)
    blocks = rng.integers(0, 256, (9, 2, size), dtype=np.uint8)
    places = {"Q6_K": [208], "Q4_1": [0, 2]}.get(kind, [0])
    for place in places:
        scales = rng.uniform(-2, 2, (9, 2, 1)).astype("<f2")
        blocks[:, :, place : place + 2] = scales.view(np.uint8)
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    number = gguf.GGMLQuantizationType[kind]
    writer.add_tensor("matrix", blocks.reshape(9, -1), raw_dtype=number)
    writer.add_tensor("vector", blocks[0, 0], raw_dtype=number)
    finish(writer)
    header = read_header(tmp_path / "x.gguf")
    matrix, vector = (open_tensor(header, tensor) for tensor in header.tensors)
    expected = np.array([[v for b in row for v in decode(b.tobytes())] for row in blocks], dtype=np.float64)
    assert (matrix.dtype, matrix.shape, vector.shape) == ("F32", (9, 2 * block), (block,))
    largest = np.abs(expected).max()
    assert np.allclose(matrix.array(), expected, rtol=1e-6, atol=1e-6 * largest)
    assert np.array_equal(matrix.rows(2, 5).array(), matrix.array()[2:5])
    assert np.array_equal(matrix.take([8, 0, 8]).array(), matrix.array()[[8, 0, 8]])
    assert matrix.rows(9, 12).array().shape == (0, 2 * block)
    assert np.array_equal(vector.array(), matrix.array()[0, :block])


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q4_1"])
def test_quantised_model(tmp_path, kind):
    """A whole model: near its original, with rows in Hugging Face's order; the types are told."""
    config = write_model(tmp_path / "folder", np.random.default_rng(5), dtype="F32", **EVEN)
    values = tensors(config, np.random.default_rng(5))
    source = open_gguf(write_gguf(tmp_path / "m.gguf", config, values, kind))
    assert source.quantised == {kind: 16}
    assert source.history == f"the weights were quantised before: 16 tensors {kind}"
    steps = {"Q8_0": 127, "Q4_0": 7, "Q4_1": 7}[kind]
    for _, name, tensor in source.tensors():
        error = np.abs(tensor.array() - values[name]).max()
        assert error <= (np.abs(values[name]).max() / steps if tensor.shape[1:] else 0), name


def test_only_rows_are_widened(tmp_path, monkeypatch):
    """No part of a matrix is widened for rows that nobody asked for, and never more than a share at a time."""
    config = write_model(tmp_path / "folder", np.random.default_rng(5), dtype="F32", **EVEN)
    path = write_gguf(tmp_path / "m.gguf", config, tensors(config, np.random.default_rng(5)), "Q8_0")
    widened, real = [], gguf_tensors._dequantize
    monkeypatch.setattr(gguf_tensors, "_dequantize", lambda data, name: widened.append(len(data)) or real(data, name))
    monkeypatch.setattr(gguf_tensors, "READ_WEIGHTS", 64 * 5)
    checkpoint = Checkpoint(path)
    assert widened == []
    checkpoint.embedding(np.array([7, 200, 7]))
    assert widened == [1, 1]
    tensor = checkpoint.linear["model.layers.0.self_attn.q_proj.weight"]
    assert isinstance(tensor, LazyTensor)
    tensor.rows(10, 23)
    assert widened[2:] == [5, 5, 3]


# --- other architectures ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ARCHITECTURES, ids=lambda kind: kind.model_type)
def test_names_are_the_librarys(kind):
    """The library's own table gives for every name of Hugging Face's the one that is mapped to it here."""
    (number,) = (n for n, name in gguf.MODEL_ARCH_NAMES.items() if name == kind.name)
    table = gguf.get_tensor_name_map(number, 12)
    has = {gguf.TENSOR_NAMES[tensor] for tensor in gguf.MODEL_TENSORS[number]}
    for mine, theirs in kind.tensors.items():
        if mine.replace("{}", "{bid}") in has:
            full = theirs.format(11)  # the table has some with the model's own name before them, some without
            assert mine.format(11) in (table.get_name(full), table.get_name(full.removeprefix("transformer."))), theirs


def write_other(path: Path, name: str, numbers: dict, values: dict[str, np.ndarray]) -> Path:
    writer = gguf.GGUFWriter(path, name)
    for key, value in numbers.items():
        (writer.add_uint32 if isinstance(value, int) else writer.add_float32)(f"{name}.{key}", value)
    for tensor, value in values.items():
        add_tensor(writer, tensor, value)
    finish(writer)
    return path


def test_gpt2(tmp_path):
    """Matrices are [inputs, outputs] in Hugging Face's files; biases and the embeddings are as they were."""
    rng = np.random.default_rng(1)
    values = {
        "token_embd.weight": rng.normal(size=(40, 8)).astype("f4"), "position_embd.weight": np.ones((16, 8), "f4"),
        "blk.0.attn_qkv.weight": rng.normal(size=(24, 8)).astype("f4"),
        "blk.0.attn_qkv.bias": np.arange(24, dtype="f4"),
    }  # fmt: skip
    numbers = {"block_count": 1, "context_length": 16, "embedding_length": 8, "feed_forward_length": 32,
               "attention.head_count": 2, "attention.layer_norm_epsilon": 1e-5}  # fmt: skip
    source = open_gguf(write_other(tmp_path / "x.gguf", "gpt2", numbers, values))
    found = {name: tensor for _, name, tensor in source.tensors()}
    matrix = found["transformer.h.0.attn.c_attn.weight"]
    assert matrix.shape == (8, 24)
    assert np.array_equal(matrix.array(), values["blk.0.attn_qkv.weight"].T)
    assert np.array_equal(matrix.rows(3, 5).array(), values["blk.0.attn_qkv.weight"].T[3:5])
    assert np.array_equal(found["transformer.h.0.attn.c_attn.bias"].array(), values["blk.0.attn_qkv.bias"])
    assert np.array_equal(found["transformer.wpe.weight"].array(), values["position_embd.weight"])
    expected = {
        "architectures": ["GPT2LMHeadModel"], "n_layer": 1, "n_positions": 16, "n_embd": 8, "n_inner": 32, "n_head": 2,
        "layer_norm_epsilon": 1e-5, "vocab_size": 40, "tie_word_embeddings": True,
    }  # fmt: skip
    assert source.json("config.json").items() >= expected.items()


def test_quantised_and_transposed(tmp_path):
    """Columns of quantised rows, also from the middle of a block."""
    value = np.random.default_rng(1).normal(size=(6, 96)).astype("f4")
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "gpt2")
    add_tensor(writer, "m", value, "Q8_0")
    finish(writer)
    header = read_header(tmp_path / "x.gguf")
    plain = open_tensor(header, header.tensors[0]).array()
    turned = open_tensor(header, header.tensors[0], gguf_tensors.Change(transposed=True))
    assert np.array_equal(turned.array(), plain.T)
    for start, stop in ((0, 1), (30, 34), (5, 90), (95, 96)):
        assert np.array_equal(turned.rows(start, stop).array(), plain.T[start:stop])


def test_bloom(tmp_path):
    """The rows of queries, keys and values: head by head in Hugging Face's files, by kind in GGUF."""
    heads, width, hidden = 3, 2, 6
    original = np.arange(3 * hidden * hidden, dtype="f4").reshape(3 * hidden, hidden)
    rows = [
        original[(head * 3 + which) * width + i] for which in range(3) for head in range(heads) for i in range(width)
    ]
    values = {"token_embd.weight": np.ones((10, hidden), "f4"), "blk.0.attn_qkv.weight": np.stack(rows)}
    numbers = {"block_count": 1, "context_length": 16, "embedding_length": hidden, "attention.head_count": heads}
    source = open_gguf(write_other(tmp_path / "x.gguf", "bloom", numbers, values))
    found = {name: tensor for _, name, tensor in source.tensors()}
    assert np.array_equal(found["transformer.h.0.self_attention.query_key_value.weight"].array(), original)


def test_gemma(tmp_path):
    """A norm's weights are stored with 1 added."""
    values = {"token_embd.weight": np.ones((10, 8), "f4"), "output_norm.weight": np.arange(8, dtype="f4") / 8 + 1}
    numbers = {"block_count": 1, "context_length": 16, "embedding_length": 8, "attention.head_count": 2,
               "attention.key_length": 6}  # fmt: skip
    source = open_gguf(write_other(tmp_path / "x.gguf", "gemma", numbers, values))
    found = {name: tensor for _, name, tensor in source.tensors()}
    assert np.array_equal(found["model.norm.weight"].array(), np.arange(8) / 8)
    assert source.json("config.json")["head_dim"] == 6


# --- the header ------------------------------------------------------------------------------------
@pytest.fixture
def path(tmp_path) -> Path:
    """A small whole file with values of every kind."""
    config = write_model(tmp_path / "folder", np.random.default_rng(5), dtype="F32")
    kinds = gguf.GGUFValueType
    return write_gguf(
        tmp_path / "model.gguf", config, tensors(config, np.random.default_rng(5)), "F16",
        test__small=(-3, kinds.INT8), test__wide=(2**63, kinds.UINT64), test__real=(0.1, kinds.FLOAT64),
        test__word=("größer", kinds.STRING), test__no=(False, kinds.BOOL), test__list=([1.5, 2.5], kinds.ARRAY),
        test__words=(["a", "", "日本"], kinds.ARRAY), test__short=(0.1, kinds.FLOAT32),
    )  # fmt: skip


def test_header_is_what_the_library_reads(path):
    reader, header = gguf.GGUFReader(path), read_header(path)
    theirs = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    assert header.metadata.keys() == theirs.keys()
    for key, value in theirs.items():
        found = header.metadata[key]
        assert np.float32(found) == np.float32(value) if isinstance(value, float) else found == value, key
    assert header.metadata["test.short"] == 0.1  # the shortest number that is the same in float32
    assert [(t.name, t.kind, t.shape) for t in header.tensors] == [
        (t.name, t.tensor_type, tuple(int(n) for n in t.shape[::-1])) for t in reader.tensors
    ]


def refused(path: Path) -> str:
    with pytest.raises(SeedLMError) as caught:
        open_gguf(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_truncated(path):
    """Wherever a file ends too early: one line, at once."""
    content = path.read_bytes()
    end = len(content) - len(read_header(path).data)
    for size in (*range(0, end, 97), end, end + 4, len(content) - 1):
        path.write_bytes(content[:size])
        assert "not a" in refused(path), size


def test_lengths_are_not_believed(path):
    """Any eight bytes of the header as a huge number: no big memory, no long work, one line or a model."""
    content = path.read_bytes()
    end = min(len(content) - len(read_header(path).data), 1200)
    tracemalloc.start()
    started = time.perf_counter()
    try:
        for place in range(8, end, 13):
            path.write_bytes(content[:place] + struct.pack("<Q", 2**62 + place) + content[place + 8 :])
            with contextlib.suppress(SeedLMError):  # what hangs on it decides
                open_gguf(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20 << 20
    assert time.perf_counter() - started < 20


def test_not_such_a_file(path, tmp_path):
    content = path.read_bytes()
    for change, expected in {
        b"": "it is empty",
        b"GGML" + content[4:]: "begins with b'GGML', expected b'GGUF'",
        content[:4] + struct.pack("<I", 1) + content[8:]: "GGUF version 1: expected 2 or 3",
        content[:4] + struct.pack(">I", 3) + content[8:]: "of the other byte order",
    }.items():
        path.write_bytes(change)
        assert expected in refused(path)
    assert format_of(tmp_path) is None
    (tmp_path / "other").write_bytes(content)
    assert format_of(tmp_path / "other").name == "GGUF"  # by its first bytes
    assert format_of(tmp_path / "folder" / "model.safetensors") is None


def test_what_is_not_known(tmp_path):
    """Architecture, tensor, type, one of several parts: what was found and what there is."""
    ones = np.ones((8, 32), "f4")
    numbers = {"block_count": 1, "embedding_length": 32, "attention.head_count": 2}
    path = tmp_path / "x.gguf"
    assert "unsupported architecture 'mamba': expected bloom, gemma, gemma2, gpt2, llama, phi3" in refused(
        write_other(path, "mamba", {}, {})
    )
    assert "no matrix 'token_embd.weight'" in refused(write_other(path, "llama", numbers, {}))
    write_other(path, "llama", numbers, {"token_embd.weight": ones, "blk.0.ssm_in.weight": ones})
    assert refused(path).endswith("tensors that architecture 'llama' does not have: blk.0.ssm_in.weight")
    write_other(path, "llama", {"split.count": 1}, {"token_embd.weight": ones})
    assert "'llama.attention.head_count' is missing or 0" in refused(path)
    write_other(
        path, "llama", numbers | {"attention.head_count": 3}, {"token_embd.weight": ones, "blk.0.attn_q.weight": ones}
    )
    assert "'blk.0.attn_q.weight' has shape [8, 32], which the numbers of heads" in refused(path)
    content = bytearray(write_other(path, "llama", numbers, {"token_embd.weight": ones}).read_bytes())
    place = content.index(b"token_embd.weight") + len(b"token_embd.weight") + 4 + 16
    content[place : place + 4] = struct.pack("<I", 200)
    path.write_bytes(content)
    assert "has type number 200, which cannot be read: expected F32, F16, Q4_0" in refused(path)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint16("split.count", 3)
    finish(writer)
    assert "one of 3 parts of a model" in refused(path)


def test_without_the_library(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    gguf_tensors.readable.cache_clear()
    assert "needs the package gguf: pip install 'seedlm[gguf]'" in refused(path)
