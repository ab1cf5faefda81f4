"""Matrices of the grouped formats from what other programs store: codes of elements, scales, zero points."""

from __future__ import annotations

import numpy as np

from seedlm.golden.codecs._scales import refuse
from seedlm.golden.codecs.grouped import GroupedCodec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.matrix import PackedMatrix

__all__ = ["packed_matrix"]


def packed_matrix(codec: GroupedCodec, codes: np.ndarray, scales: np.ndarray, zeros: np.ndarray | None = None, *,
                  micro: np.ndarray | None = None, tensor_scale: float = 1.0, dtype: str = "F16",
                  first_row: int = 0) -> PackedMatrix:  # fmt: skip
    """A matrix of exactly the weights that a format's parts stand for. Rows are independent: it may be made in slices.

    Parameters
    ----------
    codec : GroupedCodec
    codes : np.ndarray
        uint8 [rows, cols]: the bits of every element, as the format has them.
    scales : np.ndarray
        [rows, groups], the last group may have fewer columns: float16 (int4, q4_0, q8_0), the bytes of E8M0 (mx...) or
        of e4m3 (nvfp4) as uint8. Shared microexponents: E + 127, where 2**E is the place of the leading bit of a
        mantissa that no microexponent halves.
    zeros : np.ndarray, optional
        Integers [rows, groups], 0 to 16, of int4 and of nothing else: a weight is (code - zero) * scale.
    micro : np.ndarray, optional
        uint8 [rows, ceil(cols / 2)], of shared microexponents and of nothing else: 1 halves a pair of columns.
    tensor_scale : float
        A binary32 that all weights are multiplied with (nvfp4).
    dtype : str
        What the weights were before: F16, BF16 or F32.
    first_row : int
        The number of the first row, for messages.

    Raises
    ------
    SeedLMError
        Shapes and types that do not fit; NaN and infinities; exponents of a row that are too far apart; row scales that
        are not exact. The message names the place.
    """
    rows, cols = codes.shape
    groups = codec.scale_groups(cols)
    _expect("codes", codes, (rows, cols), np.uint8)
    _expect("scales", scales, (rows, groups))
    for name, array, wanted, shape in (
        ("zero points", zeros, codec.has_zero_points, (rows, groups)),
        ("microexponents", micro, codec.scale.micro, (rows, -(-cols // 2))),
    ):
        if (array is not None) != wanted:
            raise SeedLMError(f"codec {codec} {'needs' if wanted else 'has no'} {name}")
        if array is not None:
            _expect(name, array, shape)
    if (codes >> codec.element.bits).any() or (micro is not None and (micro > 1).any()):
        raise SeedLMError(f"codes of codec {codec} have {codec.element.bits} bits and microexponents one, found more")
    refuse(~codec.element.finite[codes], "weights are NaN or infinite", "column", first_row)
    padded = np.pad(codec.element.integers[codes] != 0, ((0, 0), (0, groups * codec.scale_group - cols)))
    empty = ~padded.reshape(rows, groups, codec.scale_group).any(axis=-1)
    fields, row_scales = codec.scale.store(
        scales, zeros, empty, codec.element.fraction_bits, float(tensor_scale), first_row
    )
    return PackedMatrix(codec, (rows, cols), codec.assemble(codes, fields, micro), row_scales, dtype=dtype)


def _expect(what: str, array: np.ndarray, shape: tuple[int, int], dtype: type | None = None) -> None:
    if array.shape != shape or dtype not in (None, array.dtype.type):
        kind = "" if dtype is None else f"{np.dtype(dtype)} "
        raise SeedLMError(f"{what} must be {kind}{list(shape)}, not {array.dtype} {list(array.shape)}")
