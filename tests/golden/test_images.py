import numpy as np
import pytest

from seedlm.golden.build import Config
from seedlm.golden.codecs import CODECS as PRESETS
from seedlm.golden.codecs import codec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.images import (
    activation_image,
    parse_results,
    scale_image,
    weight_image,
    words_from_image,
)
from seedlm.golden.matrix import PackedMatrix
from tests import oracle
from tests.families import CODECS


def config(kind, lanes=16, bus_bits=512):
    return Config(codec=kind, lanes=lanes, bus_bits=bus_bits, burst_beats=4)


def buildable(kind):
    return kind.weight_bits <= 25


BUILDABLE = [kind for kind in CODECS if buildable(kind)]


def test_layout_of_seedlm4_by_hand():
    # 17 rows x 9 columns: two row groups of two steps. Word (row, block) is 0x01RR0B00 | 1.
    words = np.array([[1 << 24 | r << 16 | b << 8 | 1 for b in range(2)] for r in range(17)], dtype=np.uint64)
    matrix = PackedMatrix(PRESETS["seedlm4"], (17, 9), words)
    image = weight_image(config(PRESETS["seedlm4"]), matrix)
    beats = image.view("<u4").reshape(4, 16)  # a step is a beat, lane i in bits 32 i to 32 i + 31
    assert beats[0].tolist() == [0x01000001 | r << 16 for r in range(16)]
    assert beats[1].tolist() == [0x01000101 | r << 16 for r in range(16)]
    assert beats[2].tolist() == [0x01100001] + [0] * 15
    assert beats[3].tolist() == [0x01100101] + [0] * 15


def test_layout_of_seedlm3_by_hand():
    # Two lanes of 36 bits, three rows x two blocks, a bus of 128 bits. Steps: (r0, r1) of block 0, of block 1,
    # (r2, padding) of block 0, of block 1: in hexadecimal digits from the top, nine per word.
    words = np.array(
        [[0x111111111, 0x222222222], [0x333333333, 0x444444444], [0x555555555, 0x666666666]], dtype=np.uint64
    )
    matrix = PackedMatrix(PRESETS["seedlm3"], (3, 20), words)
    image = weight_image(config(PRESETS["seedlm3"], lanes=2, bus_bits=128), matrix)
    digits = "000000000666666666000000000555555555444444444222222222333333333111111111"
    assert image.size == 48  # 288 bits in three beats
    assert image[::-1].tobytes().hex() == digits.rjust(96, "0")


def test_layout_of_fp16_by_hand():
    # A step is two columns of every lane: the lower column in the lower half of the lane's 32 bits.
    words = np.array([[0x3C00, 0x3C01, 0x3C02], [0x4000, 0x4001, 0x4002]], dtype=np.uint16)
    matrix = PackedMatrix(PRESETS["fp16"], (2, 3), words)
    image = weight_image(config(PRESETS["fp16"], lanes=4, bus_bits=128), matrix)
    assert image.view("<u2").tolist() == [
        0x3C00, 0x3C01, 0x4000, 0x4001, 0, 0, 0, 0,
        0x3C02, 0, 0x4002, 0, 0, 0, 0, 0,
    ]  # fmt: skip


@pytest.mark.parametrize(("lanes", "bus_bits"), [(16, 512), (3, 128), (1, 1024), (8, 256)])
@pytest.mark.parametrize("kind", BUILDABLE, ids=str)
def test_equal_to_the_oracle_and_back(kind, lanes, bus_bits, rng):
    build = config(kind, lanes, bus_bits)
    for rows, cols in ((1, 1), (16, 4 * kind.group), (33, 50), (5, 2 * kind.group + 1)):
        matrix = PackedMatrix.random(kind, rows, cols, rng)
        image = weight_image(build, matrix)
        assert image.dtype == np.uint8
        assert image.size == build.image_beats(rows, cols) * build.beat_bytes
        # A row is a string of bits, of which a lane takes a word per step.
        strings = [int.from_bytes(row.tobytes(), "little") for row in matrix.stored]
        mask, steps = (1 << kind.word_bits) - 1, range(kind.blocks(cols))
        lane_rows = [[string >> kind.word_bits * step & mask for step in steps] for string in strings]
        assert image.tobytes() == oracle.image(lane_rows, kind.word_bits, lanes, build.beat_bytes)
        back = words_from_image(build, image, rows, cols)
        assert back.dtype == matrix.words.dtype
        assert back.tolist() == matrix.words.tolist()


def test_steps_of_the_presets():
    # One step per beat for seedlm4, seedlm4r and fp16; of the 36-bit codecs 8 steps in 9 beats.
    for name in ("seedlm4", "seedlm4r"):
        assert Config(codec=PRESETS[name]).image_beats(16, 8 * 100) == 100
    assert Config(codec=PRESETS["fp16"]).image_beats(16, 2 * 100) == 100
    assert Config(codec=PRESETS["int8"]).image_beats(16, 4 * 100) == 100
    for name in ("seedlm3", "seedlm3r"):
        assert Config(codec=PRESETS[name]).image_beats(16, 12 * 8) == 9


def test_every_bit_of_padding_is_checked(rng):
    build = config(PRESETS["seedlm3"], lanes=3, bus_bits=128)
    matrix = PackedMatrix.random(PRESETS["seedlm3"], 4, 13, rng)  # 4 steps of 108 bits: 432 of 512
    image = weight_image(build, matrix)
    padding = 0
    for bit in range(8 * image.size):
        image[bit // 8] ^= 1 << bit % 8
        try:
            assert words_from_image(build, image, 4, 13).tolist() != matrix.words.tolist()
        except SeedLMError as error:
            assert str(error) == "the image of 4 x 13 weights has padding that is not zero"  # noqa: PT017
            padding += 1
        image[bit // 8] ^= 1 << bit % 8
    assert padding == 80 + 4 * 36  # past the steps, and the words of two lanes without a row in two steps


@pytest.mark.parametrize("kind", BUILDABLE, ids=str)
def test_made_from_the_rows_of_a_file_without_a_look_at_the_words(kind, rng, monkeypatch):
    build = config(kind, 3, 128)
    matrix = PackedMatrix.random(kind, 7, 29, rng)
    image = weight_image(build, matrix)
    stored = PackedMatrix(kind, matrix.shape, None, matrix.scales, stored=matrix.stored)
    monkeypatch.setattr(type(kind), "rows_to_words", None)
    assert weight_image(build, stored).tolist() == image.tolist()


def test_activations():
    x = np.arange(33, dtype=np.float16)
    image = activation_image(config(PRESETS["seedlm4"]), x)
    assert image.size == 128
    assert image.view("<u2").tolist() == x.view(np.uint16).tolist() + [0] * 31
    assert activation_image(config(PRESETS["seedlm4"]), x[::-1]).view("<f2")[:33].tolist() == x[::-1].tolist()
    assert activation_image(config(PRESETS["seedlm4"]), x[:32]).size == 64


def test_scales_and_results(rng):
    build = config(PRESETS["seedlm4r"])
    scales = rng.standard_normal(17).astype(np.float32)
    image = scale_image(build, scales)
    assert image.size == 128
    assert image.view("<f4").tolist() == scales.tolist() + [0.0] * 15
    results = parse_results(build, image, 17)
    assert results.dtype == np.float32
    assert results.tolist() == scales.tolist()
    assert parse_results(build, image.tobytes()[:68], 17).tolist() == scales.tolist()


def test_refused(rng):
    seedlm4, seedlm4r = config(PRESETS["seedlm4"]), config(PRESETS["seedlm4r"])
    matrix = PackedMatrix.random(PRESETS["seedlm4"], 4, 16, rng)
    with pytest.raises(SeedLMError, match=r"^this build takes weights of codec seedlm4r, not seedlm4$"):
        weight_image(seedlm4r, matrix)
    with pytest.raises(SeedLMError, match=r"^the image of 4 x 17 weights has 192 bytes, not shape \[128\]$"):
        words_from_image(seedlm4, weight_image(seedlm4, matrix), 4, 17)
    with pytest.raises(SeedLMError, match=r"^codec seedlm4 has no row scales$"):
        scale_image(seedlm4, np.ones(3, np.float32))
    with pytest.raises(SeedLMError, match=r"^row scales must be a float32 vector, not float64 \[3\]$"):
        scale_image(seedlm4r, np.ones(3))
    with pytest.raises(SeedLMError, match=r"^row scales must be finite, found NaN or infinity$"):
        scale_image(seedlm4r, np.full(3, np.nan, np.float32))
    with pytest.raises(SeedLMError, match=r"^an activation image holds one vector, not shape \[2, 8\]$"):
        activation_image(seedlm4, np.zeros((2, 8), np.float16))
    for size in (67, 129):
        with pytest.raises(SeedLMError, match=rf"^17 results take 68 to 128 bytes, not {size}$"):
            parse_results(seedlm4, bytes(size), 17)


def test_a_codec_by_another_name_is_the_same_codec(rng):
    matrix = PackedMatrix.random(codec("c8p3k16b4"), 4, 16, rng)
    weight_image(config(PRESETS["seedlm4"]), matrix)
