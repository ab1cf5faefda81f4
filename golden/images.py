"""The accelerator's memory images: what it reads and what it writes.

Rows are taken in groups of L lanes. For each row group and each column block the L words of the
group's rows follow each other, word i for lane i: one step. Steps are packed back to back, little
endian, over the whole matrix, and filled with zero bits to a whole beat of the bus. Weights,
activations, row scales and results are separate regions; where they lie is the driver's business.
"""

from __future__ import annotations

import numpy as np

from seedlm.golden.activations import check_vector
from seedlm.golden.build import Codec, Config
from seedlm.golden.errors import SeedLMError
from seedlm.golden.matrix import PackedMatrix
from seedlm.golden.words import from_bytes, to_bytes

__all__ = [
    "activation_image",
    "lane_words",
    "pad_rows",
    "parse_results",
    "scale_image",
    "weight_image",
    "words_from_image",
]


def _same_numbers(a: Codec, b: Codec) -> bool:
    """Whether two codecs differ in name at most."""
    return a.is_fp16 == b.is_fp16 and (a.C, a.P, a.K, a.B, a.row_scales) == (b.C, b.P, b.K, b.B, b.row_scales)


def _fill(data: np.ndarray, size: int) -> np.ndarray:
    """uint8 [size]: the bytes of `data`, then zeros."""
    out = np.zeros(size, dtype=np.uint8)
    raw = np.ascontiguousarray(data).view(np.uint8).ravel()
    out[: raw.size] = raw
    return out


def lane_words(matrix: PackedMatrix) -> np.ndarray:
    """What the lanes take, step by step: uint64 [rows, blocks].

    The block words; for ``fp16`` pairs of halves, the lower column in the lower half and 0 past the
    last column.
    """
    if not matrix.codec.is_fp16:
        return matrix.words
    halves = np.zeros((matrix.rows, 2 * matrix.codec.blocks(matrix.cols)), dtype=np.uint64)
    halves[:, : matrix.cols] = matrix.words
    return halves[:, ::2] | halves[:, 1::2] << np.uint64(16)


def pad_rows(words: np.ndarray, lanes: int) -> np.ndarray:
    """Words [rows, blocks] with rows of zero words added up to a multiple of `lanes`."""
    missing = -len(words) % lanes
    return np.concatenate([words, np.zeros((missing, words.shape[1]), words.dtype)]) if missing else words


def weight_image(config: Config, matrix: PackedMatrix) -> np.ndarray:
    """The weight region of a matrix: uint8 [image_beats * beat_bytes].

    Raises
    ------
    SeedLMError
        The matrix is of another codec than the build.
    """
    if not _same_numbers(config.codec, matrix.codec):
        raise SeedLMError(f"this build takes weights of codec {config.codec}, not {matrix.codec}")
    words = pad_rows(lane_words(matrix), config.lanes)
    steps = words.reshape(-1, config.lanes, words.shape[1]).transpose(0, 2, 1)
    # The whole image is one row of words.
    stream = to_bytes(config.codec, steps.reshape(1, -1))
    return _fill(stream, config.image_beats(matrix.rows, matrix.cols) * config.beat_bytes)


def words_from_image(config: Config, image: np.ndarray, rows: int, cols: int) -> np.ndarray:
    """The inverse of `weight_image`: the words of a matrix as in `PackedMatrix.words`.

    Padding must be zero, so that an image is accepted only if it is the image of these words.

    Raises
    ------
    SeedLMError
        The size is not that of an image of rows x cols weights, or padding is not zero.
    """
    image = np.asarray(image, dtype=np.uint8)
    codec, lanes, blocks = config.codec, config.lanes, config.codec.blocks(cols)
    size = config.image_beats(rows, cols) * config.beat_bytes
    if image.shape != (size,):
        raise SeedLMError(f"the image of {rows} x {cols} weights has {size} bytes, not shape {list(image.shape)}")
    count = config.row_groups(rows) * lanes * blocks
    used = -(-count * codec.word_bits // 8)
    stream = from_bytes(codec, image[None, :used], count)
    lanes_words = stream.reshape(-1, blocks, lanes).transpose(0, 2, 1).reshape(-1, blocks)
    words = lanes_words[:rows]
    extra = 0
    if codec.is_fp16:
        halves = np.ascontiguousarray(words.astype(np.uint32)).view(np.uint16).reshape(rows, -1)
        words, extra = halves[:, :cols], halves[:, cols:].any()
    # A last byte that the words share with padding must be what packing gives.
    if extra or lanes_words[rows:].any() or (_fill(to_bytes(codec, stream.reshape(1, -1)), size) != image).any():
        raise SeedLMError(f"the image of {rows} x {cols} weights has padding that is not zero")
    return np.ascontiguousarray(words)


def activation_image(config: Config, x: np.ndarray) -> np.ndarray:
    """The activation region of a float16 vector [cols]: uint8 [activation_beats * beat_bytes]."""
    x = check_vector(x)
    if x.ndim != 1:
        raise SeedLMError(f"an activation image holds one vector, not shape {list(x.shape)}")
    return _fill(x.astype("<f2", copy=False), config.activation_beats(x.size) * config.beat_bytes)


def scale_image(config: Config, scales: np.ndarray) -> np.ndarray:
    """The row-scale region of float32 scales [rows]: uint8 [scale_beats * beat_bytes].

    Raises
    ------
    SeedLMError
        The build's codec has no row scales; not a float32 vector, or not finite.
    """
    scales = np.asarray(scales)
    if not config.codec.row_scales:
        raise SeedLMError(f"codec {config.codec} has no row scales")
    if scales.dtype != np.float32 or scales.ndim != 1:
        raise SeedLMError(f"row scales must be a float32 vector, not {scales.dtype} {list(scales.shape)}")
    if not np.isfinite(scales).all():
        raise SeedLMError("row scales must be finite, found NaN or infinity")
    return _fill(scales.astype("<f4", copy=False), config.scale_beats(scales.size) * config.beat_bytes)


def parse_results(config: Config, data: np.ndarray | bytes, rows: int) -> np.ndarray:
    """The float32 results [rows] from the bytes of a result region (the whole region, or just the rows).

    Raises
    ------
    SeedLMError
        Fewer bytes than results, or more than the region has.
    """
    raw = np.frombuffer(bytes(data), dtype=np.uint8)
    most = config.result_beats(rows) * config.beat_bytes
    if not 4 * rows <= raw.size <= most:
        raise SeedLMError(f"{rows} results take {4 * rows} to {most} bytes, not {raw.size}")
    return raw[: 4 * rows].view("<f4").astype(np.float32)
