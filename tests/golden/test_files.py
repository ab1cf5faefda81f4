import hashlib
import json
import mmap
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from seedlm.golden.codecs import CODECS as PRESETS
from seedlm.golden.codecs import codec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.atomic import atomic_path
from seedlm.golden.files.npy import load_npy, save_npy
from seedlm.golden.files.packed import PackedFile, TensorInfo, stored_parts, write_packed, write_stored
from seedlm.golden.files.tensors import RawTensor, TensorFile, release, write_tensors
from seedlm.golden.matrix import PackedMatrix
from seedlm.golden.product import exact, product
from tests import oracle
from tests.families import CODECS
from tests.families.seed import CODECS as SEED_CODECS
from tests.golden.corners import bits32

SEED_ZERO = "blocks have seed 0 and non-zero coefficients, the first in row"


def message(call, *args):
    """The text of the SeedLMError that a call raises: one line."""
    with pytest.raises(SeedLMError) as caught:
        call(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def raw_file(path, header, data=b""):
    """A safetensors file byte by byte, without the library."""
    text = json.dumps(header).encode() if isinstance(header, dict) else header
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def packed_header(entries, **metadata):
    metadata = {"format": "seedlm", "version": "1", "tensors": json.dumps(entries)} | metadata
    return {"__metadata__": {k: v for k, v in metadata.items() if v is not None}}


def one_row(path, entry=None, blocks=None, data=bytes(8), **metadata):
    """A packed file of one seedlm4 tensor `w`, 1 x 9, with parts replaced."""
    entry = {"shape": [1, 9], "codec": "seedlm4", "exp_bias": 0, "dtype": "F32"} | (entry or {})
    header = packed_header({"w": {k: v for k, v in entry.items() if v is not None}}, **metadata)
    header |= blocks if blocks is not None else {"w.blocks": {"dtype": "U8", "shape": [1, 8], "data_offsets": [0, 8]}}
    return raw_file(path, header, data)


# --- packed files ----------------------------------------------------------------------------------
def test_round_trip(tmp_path, rng):
    matrices = {f"layers.0.{kind}.weight": PackedMatrix.random(kind, 5, 50, rng) for kind in CODECS}
    matrices["layers.0.seedlm4.weight"].exp_bias = -3
    matrices["layers.0.seedlm3.weight"].dtype = "BF16"
    other = {
        "norm.weight": RawTensor.from_array(rng.standard_normal(7), "BF16"),
        "ids": RawTensor.from_array(np.arange(5)),
        "flag": RawTensor.from_array(np.array(True)),
        "float8": RawTensor("F8_E5M2", (3,), np.arange(3, dtype=np.uint8)),
        'ünïcode "name"': RawTensor.from_array(np.float32([1, 2])),
        "empty": RawTensor.from_array(np.zeros((0, 4), np.float16)),
    }
    path = tmp_path / "packed.safetensors"
    write_packed(path, matrices, other)
    file = PackedFile(path)
    assert list(file.tensors) == list(matrices)
    assert sorted(file.other) == sorted(other)
    for name, matrix in matrices.items():
        info = file.tensors[name]
        assert (info.codec, info.shape, info.exp_bias, info.dtype) == (
            matrix.codec, matrix.shape, matrix.exp_bias, matrix.dtype,
        )  # fmt: skip
        found = file.matrix(name)
        assert (found.codec, found.shape, found.exp_bias, found.dtype) == (
            matrix.codec, matrix.shape, matrix.exp_bias, matrix.dtype,
        )  # fmt: skip
        assert found.words.tolist() == matrix.words.tolist()
        if matrix.scales is None:
            assert found.scales is None
        else:
            assert bits32(found.scales) == bits32(matrix.scales)
    for name, tensor in other.items():
        found = file.raw(name)
        assert (found.dtype, found.shape, found.data.tobytes()) == (tensor.dtype, tensor.shape, tensor.data.tobytes())
    assert file.array("ids").tolist() == [0, 1, 2, 3, 4]
    assert os.listdir(tmp_path) == ["packed.safetensors"]
    # The library reads it as well.
    with safe_open(path, framework="numpy") as opened:
        assert set(opened.keys()) == set(file.file.tensors)
        assert opened.get_tensor("layers.0.seedlm4.weight.blocks").shape == (5, 28)


def test_file_by_hand(tmp_path):
    # Two rows x 13 columns of seedlm3: two words of 36 bits each, nine bytes; row scales would follow as F32.
    words = [[0x123456789, 0xFEDCBA987], [0x000000001, 0x800000001]]
    path = tmp_path / "hand.safetensors"
    matrix = PackedMatrix(PRESETS["seedlm3"], (2, 13), np.array(words, dtype=np.uint64), exp_bias=-2, dtype="F16")
    write_packed(path, {"w": matrix})
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    assert header["w.blocks"] == {"dtype": "U8", "shape": [2, 9], "data_offsets": [0, 18]}
    assert data[8 + size :].hex() == "896745237198badcfe010000001000000080"
    assert list(header) == ["__metadata__", "w.blocks"]
    metadata = header["__metadata__"]
    assert metadata.keys() == {"format", "version", "tensors"}
    assert (metadata["format"], metadata["version"]) == ("seedlm", "1")
    assert json.loads(metadata["tensors"]) == {
        "w": {"shape": [2, 13], "codec": "seedlm3", "exp_bias": -2, "dtype": "F16"}
    }


def test_row_scales_and_fp16_by_hand(tmp_path):
    path = tmp_path / "hand.safetensors"
    scaled = PackedMatrix(
        PRESETS["seedlm4r"], (2, 8), np.array([[1], [2]], np.uint64), scales=np.array([1.0, -2.0], np.float32)
    )
    halves = PackedMatrix(PRESETS["fp16"], (1, 2), np.array([[0x3C00, 0xBC00]], np.uint16), dtype="BF16")
    write_packed(path, {"a": scaled, "b": halves})
    file = TensorFile(path)
    assert {name: (t.dtype, t.shape, t.data.tobytes().hex()) for name, t in file.tensors.items()} == {
        "a.scales": ("F32", (2,), "0000803f000000c0"),
        "a.blocks": ("U8", (2, 4), "0100000002000000"),
        "b": ("F16", (1, 2), "003c00bc"),
    }
    assert json.loads(file.metadata["tensors"])["b"] == {
        "shape": [1, 2], "codec": "fp16", "exp_bias": 0, "dtype": "BF16",
    }  # fmt: skip


@pytest.mark.parametrize("kind", SEED_CODECS, ids=str)
def test_blocks_equal_the_oracle(kind, tmp_path, rng):
    matrix = PackedMatrix.random(kind, 3, 5 * kind.C - 1 or 1, rng)
    write_packed(tmp_path / "p", {"w": matrix})
    blocks = TensorFile(tmp_path / "p").array("w.blocks")
    assert [row.tobytes() for row in blocks] == [oracle.pack_bits(r, kind.word_bits) for r in matrix.words.tolist()]


def test_int8_by_hand(tmp_path):
    words = np.array([[1, -1, 127], [-127, 0, 2]], np.int8)
    matrix = PackedMatrix(PRESETS["int8"], (2, 3), words, np.array([1.0, -2.0], np.float32))
    write_packed(tmp_path / "p", {"w": matrix})
    file = TensorFile(tmp_path / "p")
    assert {name: (t.dtype, t.shape, t.data.tobytes().hex()) for name, t in file.tensors.items()} == {
        "w.scales": ("F32", (2,), "0000803f000000c0"),
        "w.blocks": ("U8", (2, 3), "01ff7f810002"),
    }
    assert matrix.decode().tolist() == [[1, -1, 127], [254, 0, -4]]
    # x = 1, 2, 4: E = 2, m = x * 2**14; A = (1 - 2 + 508) * 2**14 * 2**16, y = A * 2**-30 * scale
    x = np.array([1, 2, 4], np.float16)
    assert exact(matrix, x).tolist() == [507 << 30, (-127 + 8) << 30]
    assert product(matrix, x).tolist() == [507.0, 238.0]


def test_equal_input_gives_equal_bytes(tmp_path, rng):
    # The library alone writes the metadata in random order: of ten files some would differ.
    matrix = PackedMatrix.random(PRESETS["seedlm4"], 3, 20, rng)
    digests = set()
    for _ in range(10):
        write_packed(tmp_path / "p", {"w": matrix, "é": matrix})
        digests.add(hashlib.sha256((tmp_path / "p").read_bytes()).hexdigest())
    assert len(digests) == 1
    assert list(PackedFile(tmp_path / "p").tensors) == ["w", "é"]


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
def test_transposed_tensor(dtype, rng):
    """What its file has as [cols, rows], row by row and as a whole."""
    stored = RawTensor.from_array(rng.standard_normal((7, 5)), dtype)
    turned = stored.transposed()
    assert (turned.shape, turned.dtype, turned.is_float) == ((5, 7), dtype, True)
    assert np.array_equal(turned.array(), stored.array().T)
    assert np.array_equal(turned.rows(1, 4).array(), stored.array().T[1:4])
    assert np.array_equal(turned.rows(3, 9).array(), stored.array().T[3:])
    assert np.array_equal(RawTensor(dtype, turned.shape, turned.data).array(), stored.array().T)


def test_transposed_entry(tmp_path):
    """Its shape is that of the stored rows; the source's is the other way round."""
    info = PackedFile(one_row(tmp_path / "p", {"transposed": True})).tensors["w"]
    assert (info.shape, info.plain_shape, info.transposed) == ((1, 9), (9, 1), True)
    assert PackedFile(one_row(tmp_path / "q")).tensors["w"].plain_shape == (1, 9)
    for wrong in (False, 1, "yes"):
        complaint = message(PackedFile, one_row(tmp_path / "p", {"transposed": wrong}))
        assert complaint.endswith(f"tensor 'w': transposed must be true, not {wrong!r}")
    stacked = one_row(tmp_path / "p", {"transposed": True}, stacks=json.dumps({"w": [1, 1, 9]}))
    assert "in 'stacks': expected" in message(PackedFile, stacked)


def test_reading_is_lazy(tmp_path, rng):
    matrices = {name: PackedMatrix.random(PRESETS["seedlm4"], 40, 80, rng) for name in "ab"}
    write_packed(tmp_path / "p", matrices, {"c": RawTensor.from_array(np.zeros(1000))})
    file = PackedFile(tmp_path / "p")
    for tensor in file.file.tensors.values():
        assert isinstance(tensor.data, np.memmap)
    # A fault in one tensor is no concern of the other: the data are read when asked for.
    with (tmp_path / "p").open("r+b") as handle:
        content = handle.read()
        place = content.index(matrices["b"].words.astype("<u4").tobytes())
        handle.seek(place)
        handle.write(struct.pack("<I", 0x10000000))
    file = PackedFile(tmp_path / "p")
    assert file.matrix("a").words.tolist() == matrices["a"].words.tolist()
    assert message(file.matrix, "b") == (f"{tmp_path / 'p'}: tensor 'b': 1 of 400 {SEED_ZERO} 0, block 0")
    # An unchecked matrix is for those who want to look at it.
    assert file.matrix("b", check=False).words[0, 0] == 0x10000000


def test_missing_tensor(tmp_path, rng):
    write_packed(tmp_path / "p", {"w": PackedMatrix.random(PRESETS["seedlm4"], 3, 20, rng)})
    file = PackedFile(tmp_path / "p")
    assert message(file.matrix, "v") == f"{tmp_path / 'p'}: no compressed tensor 'v': expected one of w"
    assert message(file.raw, "v") == f"{tmp_path / 'p'}: no tensor 'v': expected one of w.blocks"
    many = {f"t{i}": PackedMatrix.random(PRESETS["seedlm4"], 1, 8, rng) for i in range(10)}
    write_packed(tmp_path / "p", many)
    assert message(PackedFile(tmp_path / "p").matrix, "v").endswith(
        "expected one of t0, t1, t2, t3, t4, t5, t6, t7 and 2 more"
    )
    write_packed(tmp_path / "p", {})
    assert message(PackedFile(tmp_path / "p").matrix, "v").endswith("no compressed tensor 'v': it has none")


# --- files that are refused ------------------------------------------------------------------------
TWO = b"\2\0\0\0\0\0\0\0"  # the size of a header


@pytest.mark.parametrize("content", [b"", b"abc", b"PK\x03\x04" * 10, b"\n" * 100, TWO, TWO + b"[]", TWO + b"\xff\xff"])
@pytest.mark.parametrize("opener", [TensorFile, PackedFile])
def test_not_safetensors(content, opener, tmp_path):
    (tmp_path / "x").write_bytes(content)
    assert message(opener, tmp_path / "x").startswith(f"{tmp_path / 'x'}: not a complete safetensors file: ")


def test_every_truncation(tmp_path, rng):
    write_packed(tmp_path / "p", {"w": PackedMatrix.random(PRESETS["seedlm3r"], 2, 20, rng)})
    content = (tmp_path / "p").read_bytes()
    for size in range(len(content)):
        (tmp_path / "t").write_bytes(content[:size])
        assert message(PackedFile, tmp_path / "t").startswith(f"{tmp_path / 't'}: not a complete safetensors file: ")
    (tmp_path / "t").write_bytes(content + b"x")
    assert "not a complete safetensors file" in message(PackedFile, tmp_path / "t")


def test_unreadable(tmp_path):
    assert message(PackedFile, tmp_path / "none") == f"{tmp_path / 'none'}: cannot read: No such file or directory"
    assert message(PackedFile, tmp_path) == f"{tmp_path}: cannot read: Is a directory"


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        ({"format": "pt"}, "not a SeedLM packed file: metadata 'format' is 'pt', expected 'seedlm'"),
        ({"format": "other"}, "not a SeedLM packed file: metadata 'format' is 'other', expected 'seedlm'"),
        ({"format": None}, "not a SeedLM packed file: metadata 'format' is missing, expected 'seedlm'"),
        ({"version": "2"}, "packed file of an unknown version: '2', expected '1'"),
        ({"version": None}, "packed file of an unknown version: missing, expected '1'"),
        ({"tensors": None}, "metadata 'tensors' must be a JSON object: Expecting value: line 1 column 1 (char 0)"),
        ({"tensors": "[]"}, "metadata 'tensors' must be a JSON object: not an object"),
        ({"tensors": "{}}"}, "metadata 'tensors' must be a JSON object: Extra data: line 1 column 3 (char 2)"),
    ],
)
def test_foreign_files(metadata, text, tmp_path):
    assert message(PackedFile, one_row(tmp_path / "x", **metadata)) == f"{tmp_path / 'x'}: {text}"


def test_plain_models_are_foreign(tmp_path):
    save_file({"w": np.zeros((2, 3), np.float16)}, tmp_path / "x")
    assert message(PackedFile, tmp_path / "x") == (
        f"{tmp_path / 'x'}: not a SeedLM packed file: metadata 'format' is missing, expected 'seedlm'"
    )


@pytest.mark.parametrize(
    ("metadata", "tensors", "text"),
    [
        ({"lfsr_shift": "left"}, {}, "metadata 'lfsr_shift' = 'left'"),
        ({"seed_is": "offset"}, {}, "metadata 'seed_is' = 'offset'"),
        ({"format": "pt", "LFSR": "left"}, {}, "metadata 'LFSR' = 'left'"),
        ({"format": None}, {"layer.seeds": np.arange(4, dtype=np.uint16)}, "tensor 'layer.seeds'"),
        ({"format": "pt"}, {"w/seed_offsets": np.arange(4, dtype=np.int32)}, "tensor 'w/seed_offsets'"),
    ],
)
def test_seeds_of_other_programs(metadata, tensors, text, tmp_path):
    """Left-shifting registers and offsets into the cycle would decode to noise: refused, with the reason."""
    metadata = {"format": "seedlm", "version": "1", "tensors": "{}"} | metadata
    arrays = {"v": np.zeros(2, np.float32)} | tensors
    save_file(arrays, tmp_path / "x", {k: v for k, v in metadata.items() if v is not None})
    found = message(PackedFile, tmp_path / "x")
    assert found.startswith(f"{tmp_path / 'x'}: seeds of another program ({text}): a left-shifting register")
    assert "offsets into the cycle" in found


def test_seeds_among_copied_tensors_are_no_reason(tmp_path):
    write_packed(tmp_path / "x", {}, {"seeds": RawTensor.from_array(np.arange(4))})
    assert PackedFile(tmp_path / "x").other == ["seeds"]
    save_file({"seeds": np.zeros(2, np.float32)}, tmp_path / "y", {"training_seed": "1"})
    assert "metadata 'format' is missing" in message(PackedFile, tmp_path / "y")


KEYS = "metadata must have exactly codec, dtype, exp_bias, shape, found"
BLOCKS = "'w.blocks' is"


def stored(dtype, shape, size):
    return {"blocks": {"w.blocks": {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}}, "data": bytes(size)}


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        # An unknown key may name another convention.
        ({"entry": {"lfsr": "left"}}, f"{KEYS} codec, dtype, exp_bias, lfsr, shape"),
        ({"entry": {"exp_bias": None}}, f"{KEYS} codec, dtype, shape"),
        ({"tensors": '{"w": 3}'}, f"{KEYS} 3"),
        ({"entry": {"codec": 4}}, "codec must be a name, not 4"),
        ({"entry": {"codec": "c8p4k25b4"}}, "register length K must be 2 to 24, not 25"),
        ({"entry": {"shape": [9]}}, "shape must be two positive integers, not [9]"),
        ({"entry": {"shape": [1, 0]}}, "shape must be two positive integers, not [1, 0]"),
        ({"entry": {"shape": [1, 9.0]}}, "shape must be two positive integers, not [1, 9.0]"),
        ({"entry": {"exp_bias": "0"}}, "exp_bias must be an integer, not '0'"),
        ({"entry": {"dtype": "I8"}}, "dtype must be one of F16, BF16, F32, not 'I8'"),
        ({"entry": {"shape": [1, 17]}}, f"{BLOCKS} U8 [1, 8], expected U8 [1, 12]"),
        ({"entry": {"shape": [2, 9]}}, f"{BLOCKS} U8 [1, 8], expected U8 [2, 8]"),
        ({"entry": {"codec": "seedlm3"}}, f"{BLOCKS} U8 [1, 8], expected U8 [1, 5]"),
        ({"entry": {"codec": "seedlm4r"}}, "'w.scales' is missing, expected F32 [1]"),
        ({"entry": {"codec": "fp16"}}, "'w' is missing, expected F16 [1, 9]"),
        ({"blocks": {}, "data": b""}, "'w.blocks' is missing, expected U8 [1, 8]"),
        (stored("I8", [1, 8], 8), f"{BLOCKS} I8 [1, 8], expected U8 [1, 8]"),
        (stored("U8", [8], 8), f"{BLOCKS} U8 [8], expected U8 [1, 8]"),
        (stored("U8", [1, 9], 9), f"{BLOCKS} U8 [1, 9], expected U8 [1, 8]"),
    ],
)
def test_contradictions(parts, text, tmp_path):
    assert message(PackedFile, one_row(tmp_path / "x", **parts)) == f"{tmp_path / 'x'}: tensor 'w': {text}"


def test_unknown_codec(tmp_path):
    text = message(PackedFile, one_row(tmp_path / "x", {"codec": "seedlm5"}))
    assert text.startswith(f"{tmp_path / 'x'}: tensor 'w': unknown codec 'seedlm5': expected seedlm4, seedlm3, ")


def test_bad_words(tmp_path):
    file = PackedFile(one_row(tmp_path / "x", data=b"\0\0\0\0\0\0\0\x80"))
    assert message(file.matrix, "w") == (f"{tmp_path / 'x'}: tensor 'w': 1 of 2 {SEED_ZERO} 0, block 1")
    PackedFile(one_row(tmp_path / "x", data=b"\0\0\x0f\0\1\0\0\x80")).matrix("w")  # a zero block, a plain one
    file = PackedFile(one_row(tmp_path / "x", {"codec": "seedlm3", "shape": [1, 9]}, **stored("U8", [1, 5], 5)))
    assert file.matrix("w").words.tolist() == [[0]]
    part = stored("U8", [1, 5], 5) | {"data": b"\1\0\0\0\x10"}  # 36 bits, then a bit that is no word's
    file = PackedFile(one_row(tmp_path / "x", {"codec": "seedlm3", "shape": [1, 9]}, **part))
    assert message(file.matrix, "w") == (
        f"{tmp_path / 'x'}: tensor 'w': bits after the last word of a row are not zero"
    )


def test_bad_scales_and_halves(tmp_path):
    for bits in (0x7F800000, 0xFF800000, 0x7FC00000):
        blocks = {
            "w.scales": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
            "w.blocks": {"dtype": "U8", "shape": [1, 8], "data_offsets": [4, 12]},
        }
        data = struct.pack("<I", bits) + bytes(8)
        file = PackedFile(one_row(tmp_path / "x", {"codec": "seedlm4r"}, blocks=blocks, data=data))
        assert message(file.matrix, "w") == (
            f"{tmp_path / 'x'}: tensor 'w': 1 of 1 row scales are NaN or infinite, the first in row 0"
        )
    blocks = {"w": {"dtype": "F16", "shape": [1, 2], "data_offsets": [0, 4]}}
    entry = {"codec": "fp16", "shape": [1, 2]}
    file = PackedFile(one_row(tmp_path / "x", entry, blocks=blocks, data=b"\x00\x3c\x00\x7c"))
    assert message(file.matrix, "w") == (
        f"{tmp_path / 'x'}: tensor 'w': 1 of 2 weights are NaN or infinite, the first in row 0, column 1"
    )


# --- source tensors --------------------------------------------------------------------------------
def test_source_tensors(tmp_path):
    bf16 = np.array([0x3F80, 0xC000, 0x0001, 0x7F7F, 0x8000, 0x7F80], dtype="<u2")
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, dtype, shape, content in (
        ("b", "BF16", [2, 3], bf16.tobytes()),
        ("odd", "U8", [1], b"\x07"),  # what follows is not aligned
        ("h", "F16", [2], np.array([1.5, -0.0], "<f2").tobytes()),
        ("f", "F32", [1, 1], np.array([0.1], "<f4").tobytes()),
        ("n", "F8_E4M3", [2], b"\1\2"),
    ):
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    file = TensorFile(raw_file(tmp_path / "m", header, data))
    assert file.metadata == {"format": "pt"}
    assert list(file.tensors) == ["b", "odd", "h", "f", "n"]
    b = file.array("b")
    assert (b.dtype, b.shape) == (np.float32, (2, 3))
    assert bits32(b.ravel()) == [0x3F800000, 0xC0000000, 0x00010000, 0x7F7F0000, 0x80000000, 0x7F800000]
    assert file.array("h").view(np.uint16).tolist() == [0x3E00, 0x8000]
    assert file.array("h").dtype == np.float16
    assert bits32(file.array("f").ravel()) == [0x3DCCCCCD]
    assert [name for name, tensor in file.tensors.items() if tensor.is_float] == ["b", "h", "f"]
    assert message(file.array, "n") == f"{tmp_path / 'm'}: tensor 'n': dtype F8_E4M3 has no NumPy form"
    assert message(file.array, "x") == f"{tmp_path / 'm'}: no tensor 'x': expected one of b, odd, h, f, n"
    # Everything copies byte for byte, the dtypes NumPy does not have included.
    write_tensors(tmp_path / "copy", file.tensors, file.metadata)
    copy = TensorFile(tmp_path / "copy")
    assert copy.metadata == file.metadata
    for name, tensor in file.tensors.items():
        found = copy.tensors[name]
        assert (found.dtype, found.shape, found.data.tobytes()) == (tensor.dtype, tensor.shape, tensor.data.tobytes())


def test_rounding_to_bf16():
    # Ties to even, subnormal numbers, overflow, and NaNs whose payload is in the low bits only.
    cases = {
        0x3F800000: 0x3F80, 0x3F808000: 0x3F80, 0x3F808001: 0x3F81, 0x3F818000: 0x3F82, 0x3F817FFF: 0x3F81,
        0x00008000: 0x0000, 0x00018000: 0x0002, 0x7F7FFFFF: 0x7F80, 0xFF7F8000: 0xFF80, 0x80000000: 0x8000,
        0x7F800000: 0x7F80, 0x7F800001: 0x7FC0, 0xFF80FFFF: 0xFFC0, 0x7FFFFFFF: 0x7FFF,
    }  # fmt: skip
    values = np.array(list(cases), dtype=np.uint32).view(np.float32)
    tensor = RawTensor.from_array(values, "BF16")
    assert (tensor.dtype, tensor.shape) == ("BF16", (len(cases),))
    assert tensor.data.view("<u2").tolist() == list(cases.values())


def test_from_array():
    tensor = RawTensor.from_array(np.array([[1.0, 65520.0]]), "F16")
    assert (tensor.shape, tensor.data.view("<u2").tolist()) == ((1, 2), [0x3C00, 0x7C00])
    assert RawTensor.from_array(np.array([1, 2], ">i4")).dtype == "I32"
    assert RawTensor.from_array(np.array([1, 2], ">i4")).data.tolist() == [1, 0, 0, 0, 2, 0, 0, 0]
    assert message(RawTensor.from_array, np.array(["a"])) == "cannot store <U1 as a safetensors dtype"
    assert message(RawTensor.from_array, np.array([1]), "F7") == "cannot store int64 as F7"


# --- writing ---------------------------------------------------------------------------------------
def test_atomic_replacement(tmp_path):
    target = tmp_path / "y.npy"
    target.write_text("old")
    target.chmod(0o640)
    with atomic_path(target) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".npy"
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert target.stat().st_mode & 0o777 == 0o640

    def interrupted():
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_text() == "new"
    assert os.listdir(tmp_path) == ["y.npy"]


def test_links_stay_links(tmp_path):
    (tmp_path / "real").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "real" / "file")
    for text in ("first", "second"):
        with atomic_path(link) as temporary:
            assert temporary.parent == tmp_path / "real"
            temporary.write_text(text)
        assert link.is_symlink()
        assert (tmp_path / "real" / "file").read_text() == text


def test_paths_that_cannot_be_written(tmp_path, rng):
    matrix = PackedMatrix.random(PRESETS["seedlm4"], 2, 8, rng)
    (tmp_path / "file").write_text("")
    for path, reason in (
        (tmp_path / "none" / "p", "No such file or directory"),
        (tmp_path / "file" / "p", "Not a directory"),
        (tmp_path, "not a regular file"),
        ("/dev/null", "not a regular file"),
    ):
        assert message(write_packed, path, {"w": matrix}) == f"{path}: cannot write: {reason}"
        assert message(save_npy, path, np.zeros(3)) == f"{path}: cannot write: {reason}"
    assert sorted(os.listdir(tmp_path)) == ["file"]


def test_errors_about_other_files_pass_through(tmp_path):
    with pytest.raises(FileNotFoundError, match="elsewhere"), atomic_path(tmp_path / "y"):
        open(tmp_path / "elsewhere").close()
    with pytest.raises(SeedLMError, match="y: cannot write: No space left on device"), atomic_path(tmp_path / "y"):
        raise OSError(28, "No space left on device")
    assert os.listdir(tmp_path) == []


def test_invalid_matrices_are_not_written(tmp_path, rng):
    path = tmp_path / "p"
    matrix = PackedMatrix.random(PRESETS["seedlm4"], 2, 8, rng)
    tensor = RawTensor.from_array(np.zeros(3))
    assert message(write_packed, path, {"w": matrix}, {"w": tensor}) == f"{path}: two tensors would be called 'w'"
    assert message(write_packed, path, {"w": matrix}, {"w.blocks": tensor}) == (
        f"{path}: two tensors would be called 'w.blocks'"
    )
    odd = RawTensor("F4", (2,), np.zeros(1, np.uint8))
    assert message(write_packed, path, {}, {"o": odd}) == f"{path}: tensor 'o' has dtype F4, which cannot be written"
    matrix.words[0, 0] = 0x10000000
    assert message(write_packed, path, {"w": matrix}).startswith("tensor 'w': 1 of 2 blocks have seed 0")
    short = RawTensor("F32", (4,), np.zeros(15, np.uint8))
    assert message(write_packed, path, {}, {"s": short}).startswith(f"{path}: cannot write: ")
    assert os.listdir(tmp_path) == []


# --- NumPy vectors ---------------------------------------------------------------------------------
def test_npy(tmp_path):
    path = tmp_path / "x.npy"
    x = np.array([1.5, -2.0], np.float16)
    save_npy(path, x)
    found = load_npy(path, np.float16, 2)
    assert (found.dtype, found.tolist()) == (np.float16, [1.5, -2.0])
    assert np.load(path).tolist() == [1.5, -2.0]
    save_npy(tmp_path / "no_suffix", x)
    assert sorted(os.listdir(tmp_path)) == ["no_suffix", "x.npy"]
    assert message(load_npy, path, np.float16, 3) == f"{path}: expected a vector of 3 elements, found shape [2]"
    assert message(load_npy, path, np.float32, 2) == f"{path}: expected float32, found float16"
    save_npy(path, np.zeros((1, 2), np.float16))
    assert message(load_npy, path, np.float16, 2) == f"{path}: expected a vector of 2 elements, found shape [1, 2]"
    assert message(load_npy, path) == f"{path}: expected a vector, found shape [1, 2]"
    assert message(load_npy, tmp_path / "none") == f"{tmp_path / 'none'}: cannot read: No such file or directory"
    np.save(path, np.array([{}]), allow_pickle=True)
    assert message(load_npy, path).startswith(f"{path}: not a complete .npy file: ")
    save_npy(path, np.arange(100))
    content = path.read_bytes()
    for size in (0, 5, 20, 100, len(content) - 1):
        path.write_bytes(content[:size])
        assert message(load_npy, path).startswith(f"{path}: not a complete .npy file: ")


def test_custom_codecs_keep_their_name(tmp_path, rng):
    write_packed(tmp_path / "p", {"w": PackedMatrix.random(codec("c8p3k20b0r"), 2, 9, rng)})
    assert PackedFile(tmp_path / "p").matrix("w").codec == codec("c8p3k20b0r")


# --- parts of files --------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
def test_rows_of_a_stored_tensor(dtype, rng):
    tensor = RawTensor.from_array(rng.standard_normal((7, 5)), dtype)
    for start, stop in ((0, 7), (2, 5), (6, 9), (3, 3)):
        part = tensor.rows(start, stop)
        assert np.array_equal(part.array(), tensor.array()[start:stop])
        assert part.shape == part.array().shape
        assert np.shares_memory(part.data, tensor.data) or start == stop


@pytest.mark.parametrize("name", ["seedlm4", "seedlm3r", "fp16"])
def test_stored_form_and_matrices_give_the_same_bytes(name, tmp_path, rng):
    matrix = PackedMatrix.random(codec(name), 5, 30, rng)
    other = {"v": RawTensor.from_array(np.arange(3.0))}
    write_packed(tmp_path / "a", {"w": matrix}, other)
    file = PackedFile(tmp_path / "a")
    parts = [t for stored, t in file.file.tensors.items() if stored.split(".")[0] == "w"]
    parts.sort(key=lambda t: t.dtype != "U8")
    write_stored(tmp_path / "b", file.tensors, {"w": parts}, other)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_pages_are_given_back(tmp_path):
    """What was released is read again with the same content, and only pages of maps are meant."""
    rng = np.random.default_rng(5)
    values = rng.integers(0, 256, (300, 1000), dtype=np.uint8)
    write_tensors(tmp_path / "f", {"a": RawTensor.from_array(values), "b": RawTensor.from_array(values[::-1])})
    file = TensorFile(tmp_path / "f")
    for name, expected in (("a", values), ("b", values[::-1])):
        data = file.raw(name).data
        assert (data.reshape(300, 1000) == expected).all()
        release(data[1001:250_000])
        release(data)
        release(data[:0])
        assert (data.reshape(300, 1000) == expected).all()
    copy = np.array(file.raw("a").data)
    release(copy)
    release(values)
    assert (copy.reshape(300, 1000) == values).all()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="tells what is resident on Linux only")
def test_checking_a_large_matrix_takes_little_memory(tmp_path):
    """Neither the words of all rows nor the pages of the file stay."""
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

    rows, cols = 16384, 8192  # 64 MiB of words, 128 MiB decoded
    kind = codec("trellis4")
    info = TensorInfo(kind, (rows, cols), 0, "F32")
    stored = np.zeros((rows, kind.row_bytes(cols)), np.uint8)
    write_stored(tmp_path / "f", {"a": info}, {"a": stored_parts(info, stored, np.ones(rows, np.float32))})
    del stored
    before = resident()
    matrix = PackedFile(tmp_path / "f").matrix("a")
    assert sum(int(np.count_nonzero(part.words)) for part in matrix.parts()) == 0
    assert resident() - before < 24 << 20
