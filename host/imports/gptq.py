"""GPTQ: 4-bit codes or bytes, a word along the inputs; zero points less one (`gptq`) or as they are (`gptq_v2`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from seedlm.host.imports._base import Form, Inexact, Matrix, Quantised
from seedlm.host.imports._integers import fields, integer_matrix, scale_groups
from seedlm.host.imports._modules import SCALES, Layer, Prepared, open_layers
from seedlm.host.imports._settings import Settings, settings_of

__all__ = ["FORM"]

NAME, KINDS = "GPTQ", "4 bits, or 8 bits without zero points"
METHOD, OLDER = "gptq", "quantize_config.json"
PARTS = ("qweight", "qzeros", "scales", "g_idx")
V1, V2 = "gptq", "gptq_v2"
ADDED = {V1: 1, V2: 0}  # to a stored zero point
EXCLUDED = "-"  # begins an entry of `dynamic` that leaves layers as they were


def _takes(path: Path) -> bool:
    settings = settings_of(path, OLDER, METHOD)
    return settings is not None and settings.method == METHOD


def _open(path: Path) -> Quantised:
    settings = settings_of(path, OLDER, METHOD)
    bits, group, said = _checked(settings)

    def prepare(layers: list[Layer]) -> Prepared:
        found = _told_by_value(layers, bits) if settings.get("sym", default=True) else ""
        added = ADDED[found or said]
        remarks = _other_version(settings, said, found, bits)
        above = 0 if not added else sum(_largest(layer, bits) for layer in layers)
        if above:
            remarks.append(f"{above:,} zero points are stored as {(1 << bits) - 1} and are {1 << bits} with the one"
                           " that this version leaves out: some programs take them for 0")  # fmt: skip
        return lambda layer: _matrix(layer, bits, group, added), remarks

    return open_layers(path, settings, NAME, PARTS, prepare, OLDER)


def _checked(settings: Settings) -> tuple[int, int, str]:
    """Bits, columns of a group, and the version that the file names; refuses what is not known."""
    bits, said = settings.number("bits"), settings.word("checkpoint_format", "format", default=V1)
    if bits not in (4, 8):
        settings.refuse(f"GPTQ with {bits} bits: expected 4 or 8")
    if said not in ADDED:
        settings.refuse(f"checkpoint format {said!r}, whose words are packed in another way: expected {V1} or {V2}")
    dynamic = settings.get("dynamic", default={})
    other = [key for key in dynamic if not str(key).startswith(EXCLUDED)]
    if other:
        settings.refuse(f"'dynamic' has settings of their own for layers that match {other[0]!r}: expected the same for"
                        " all")  # fmt: skip
    return bits, settings.group("group_size"), said


def _told_by_value(layers: list[Layer], bits: int) -> str:
    """The version, if the zero points of a symmetric model tell: all are the middle of the codes, or one less."""
    middle = 1 << bits - 1
    for version, added in ADDED.items():
        byte = middle - added if bits == 8 else (middle - added) * 0x11
        if all((layer.part("qzeros", ("I32",)).data == byte).all() for layer in layers):
            return version
    return ""


def _other_version(settings: Settings, said: str, found: str, bits: int) -> list[str]:
    if found in ("", said):
        return []
    stored = (1 << bits - 1) - ADDED[found]
    line = f"{settings.path} says {said}, but all zero points are stored as {stored}, as {found} has them: read as that"
    return [line]


def _largest(layer: Layer, bits: int) -> int:
    """How many zero points are stored as the largest number that there is."""
    words = layer.part("qzeros", ("I32",)).array()
    return int(np.count_nonzero(fields(words, bits) == (1 << bits) - 1))


def _matrix(layer: Layer, bits: int, group: int, added: int) -> Matrix:
    word = 32 // bits
    qweight = layer.part("qweight", ("I32",))
    cols, rows = word * qweight.shape[0], qweight.shape[1]
    groups = scale_groups(cols, group)
    qzeros = layer.part("qzeros", ("I32",), (groups, -(-rows // word)))
    scales = layer.part("scales", SCALES, (groups, rows))
    if "g_idx" in layer.parts:
        order = layer.part("g_idx", ("I32",), (cols,)).array()
        if (order != np.arange(cols) // (cols if group == -1 else group)).any():
            raise Inexact("its columns are in the groups in another order than they stand in (g_idx, desc_act): a"
                          " codec's groups are neighbouring columns")  # fmt: skip

    def zero_rows(start: int, stop: int) -> np.ndarray:
        first = start // word
        found = fields(qzeros.array()[:, first : -(-stop // word)], bits)
        return found[:, start - first * word : stop - first * word].T.astype(np.int16) + added

    return integer_matrix(
        f"{layer.where}: {layer.name}", (rows, cols), scales, bits=bits, group=group,
        codes=lambda start, stop: fields(qweight.array()[:, start:stop].T, bits),
        scale_rows=lambda start, stop: scales.array()[:, start:stop].T, zero_rows=zero_rows,
    )  # fmt: skip


FORM = Form(NAME, KINDS, _takes, _open)
