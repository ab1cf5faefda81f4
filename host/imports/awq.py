"""AWQ: eight 4-bit codes to a word along the outputs, in the order that its kernels unpack."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from seedlm.host.imports._base import Form, Matrix, Quantised
from seedlm.host.imports._integers import fields, integer_matrix, scale_groups
from seedlm.host.imports._modules import SCALES, Layer, open_layers
from seedlm.host.imports._settings import Settings, settings_of

__all__ = ["FORM"]

NAME, KINDS = "AWQ", "4 bits, gemm"
METHOD, OLDER = "awq", "quant_config.json"
PARTS = ("qweight", "qzeros", "scales")
WORD = 8  # codes of a word
# Field i of a word belongs to output (0, 2, 4, 6, 1, 3, 5, 7)[i] of its eight; so output j is in this field:
FIELD = (0, 4, 1, 5, 2, 6, 3, 7)


def _takes(path: Path) -> bool:
    settings = settings_of(path, OLDER, METHOD)
    return settings is not None and settings.method == METHOD


def _open(path: Path) -> Quantised:
    settings = settings_of(path, OLDER, METHOD)
    group = _checked(settings)
    return open_layers(path, settings, NAME, PARTS, lambda layers: (lambda layer: _matrix(layer, group), []), OLDER)


def _checked(settings: Settings) -> int:
    """Columns of a group; refuses what is not the form that is known."""
    bits, version = settings.number("bits", "w_bit"), settings.word("version", "format", default="gemm")
    if bits != 4:
        settings.refuse(f"AWQ with {bits} bits: expected 4")
    if version != "gemm":
        settings.refuse(f"AWQ of version {version!r}, whose words are packed in another way: expected 'gemm'")
    if settings.get("zero_point", default=True) is not True:
        settings.refuse(f"'zero_point' is {settings.get('zero_point')!r}: expected true")
    return settings.group("group_size", "q_group_size")


def _matrix(layer: Layer, group: int) -> Matrix:
    qweight = layer.part("qweight", ("I32",))
    cols, rows = qweight.shape[0], WORD * qweight.shape[1]
    groups = scale_groups(cols, group)
    qzeros = layer.part("qzeros", ("I32",), (groups, rows // WORD))
    scales = layer.part("scales", SCALES, (groups, rows))
    return integer_matrix(
        f"{layer.where}: {layer.name}", (rows, cols), scales, bits=4, group=group,
        codes=lambda start, stop: _outputs(qweight.array(), start, stop),
        scale_rows=lambda start, stop: scales.array()[:, start:stop].T,
        zero_rows=lambda start, stop: _outputs(qzeros.array(), start, stop),
    )  # fmt: skip


def _outputs(words: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Fields of words [n, outputs / 8] as uint8 [stop - start, n]."""
    first = start // WORD
    found = fields(words[:, first : -(-stop // WORD)], 4)
    ordered = found.reshape(len(words), -1, WORD)[..., FIELD].reshape(len(words), -1)
    return np.ascontiguousarray(ordered[:, start - first * WORD : stop - first * WORD].T)


FORM = Form(NAME, KINDS, _takes, _open)
