"""The accelerator's memory images: what it reads and what it writes.

Rows are taken in groups of L lanes. For each row group and each column block the L words of the
group's rows follow each other, word i for lane i: one step. Steps are packed back to back, little
endian, over the whole matrix, and filled with zero bits to a whole beat of the bus. Weights,
activations, row scales and results are separate regions; where they lie is the driver's business.
"""

from __future__ import annotations

import numpy as np

from seedlm.golden.activations import check_vector
from seedlm.golden.build import Config
from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.tensors import release
from seedlm.golden.matrix import PackedMatrix
from seedlm.golden.packing import regroup, ungroup

__all__ = [
    "activation_image",
    "parse_results",
    "scale_image",
    "weight_image",
    "words_from_image",
]


def _fill(data: np.ndarray, size: int) -> np.ndarray:
    """uint8 [size]: the bytes of `data`, then zeros."""
    out = np.zeros(size, dtype=np.uint8)
    raw = np.ascontiguousarray(data).view(np.uint8).ravel()
    out[: raw.size] = raw
    return out


def weight_image(config: Config, matrix: PackedMatrix) -> np.ndarray:
    """The weight region of a matrix: uint8 [image_beats * beat_bytes].

    Made from the rows of a packed file where the matrix has them: no word is looked at.

    Raises
    ------
    SeedLMError
        The matrix is of another codec than the build.
    """
    codec = config.codec
    if not codec.same_format(matrix.codec):
        raise SeedLMError(f"this build takes weights of codec {codec}, not {matrix.codec}")
    out = np.zeros(config.image_beats(matrix.rows, matrix.cols) * config.beat_bytes, dtype=np.uint8)
    # A few groups of rows at a time; eight of them end with a whole byte whatever a word has.
    rows, blocks, at = 8 * config.lanes, codec.blocks(matrix.cols), 0
    for start in range(0, matrix.rows, rows):
        stored = matrix.row_slice(start, start + rows).stored
        part = regroup(stored, codec.word_bits, blocks, config.lanes)
        release(stored)
        out[at : at + part.size] = part
        at += part.size
    return out


def words_from_image(config: Config, image: np.ndarray, rows: int, cols: int) -> np.ndarray:
    """The inverse of `weight_image`: the words of a matrix as in `PackedMatrix.words`.

    Padding must be zero, so that an image is accepted only if it is the image of these words.

    Raises
    ------
    SeedLMError
        The size is not that of an image of rows x cols weights, or padding is not zero.
    """
    image = np.asarray(image, dtype=np.uint8)
    codec = config.codec
    size = config.image_beats(rows, cols) * config.beat_bytes
    if image.shape != (size,):
        raise SeedLMError(f"the image of {rows} x {cols} weights has {size} bytes, not shape {list(image.shape)}")
    data = ungroup(image, codec.word_bits, codec.blocks(cols), config.lanes, config.row_groups(rows))
    words = codec.rows_to_words(data[:rows, : codec.row_bytes(cols)], cols)
    if (weight_image(config, PackedMatrix(codec, (rows, cols), words)) != image).any():
        raise SeedLMError(f"the image of {rows} x {cols} weights has padding that is not zero")
    return words


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
    if not config.row_scales:
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
