"""compressed-tensors, pack-quantized: 4-bit codes or bytes, a word along the inputs, rows are outputs already."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seedlm.host.imports._base import Form, Inexact, Matrix, Quantised
from seedlm.host.imports._integers import fields, integer_matrix, scale_groups
from seedlm.host.imports._modules import SCALES, Layer, open_layers
from seedlm.host.imports._settings import Settings, settings_of

__all__ = ["FORM"]

FORMAT = "pack-quantized"
NAME, KINDS = "compressed-tensors", f"{FORMAT}: 4 bits, or 8 bits without zero points"
METHOD, OLDER_KEY = "compressed-tensors", "compression_config"  # which needs no name of a method
PARTS = ("weight_packed", "weight_scale", "weight_zero_point", "weight_shape", "weight_g_idx")
MIXED = "mixed-precision"  # the format stands in each group of the configuration
# Parts of the configuration that change what a model computes, and what they are.
MORE = {"kv_cache_scheme": "keys and values", "transform_config": "rotations of weights"}
DENSE = ("", "dense")


@dataclass(frozen=True)
class Scheme:
    """How some layers are quantised.

    Parameters
    ----------
    bits, group : int
        Of a code; columns that share a scale, -1: a row.
    symmetric : bool
    """

    bits: int
    group: int
    symmetric: bool

    def fits(self, cols: int, words: int, groups: int, symmetric: bool) -> bool:
        """Whether a layer can be quantised so."""
        sizes = -(-cols * self.bits // 32), scale_groups(cols, self.group)
        return sizes == (words, groups) and self.symmetric == symmetric


def _takes(path: Path) -> bool:
    settings = settings_of(path)
    if settings is None:
        return False
    return settings.method == METHOD or (settings.key == OLDER_KEY and not settings.method)


def _open(path: Path) -> Quantised:
    settings = settings_of(path)
    schemes = _schemes(settings)
    return open_layers(path, settings, NAME, PARTS, lambda layers: (lambda layer: _matrix(layer, schemes), []))


def _schemes(settings: Settings) -> list[Scheme]:
    """All that the configuration has; refuses what is more than weights in this format."""
    for key, what in MORE.items():
        if settings.get(key):
            settings.refuse(f"{key!r} is set: {what} are changed too, which is not expressed: expected weights only")
    sparse = settings.get("sparsity_config", default={})
    if isinstance(sparse, dict) and str(sparse.get("format") or "") not in DENSE:
        settings.refuse(f"sparsity format {sparse['format']!r}: expected dense weights")
    groups = settings.get("config_groups", default={})
    if not isinstance(groups, dict) or not groups or not all(isinstance(some, dict) for some in groups.values()):
        settings.refuse("'config_groups' is not there, or not an object of objects: expected how layers are quantised")
    return [_scheme(settings, name, some) for name, some in groups.items()]


def _scheme(settings: Settings, name: str, some: dict[str, Any]) -> Scheme:
    form = settings.word("format")
    if form in ("", MIXED) or some.get("format"):
        form = str(some.get("format"))
    if form != FORMAT:
        settings.refuse(f"format {form!r} of {name}: expected {FORMAT!r}")
    for key in ("input_activations", "output_activations"):
        if some.get(key):
            settings.refuse(f"{key!r} of {name} is set: activations are quantised too, which is not expressed: expected"
                            " weights only")  # fmt: skip
    weights = some.get("weights")
    if not isinstance(weights, dict):
        settings.refuse(f"'weights' of {name} is {weights!r}: expected how they are quantised")
    bits, kind, group = weights.get("num_bits"), weights.get("type", "int"), weights.get("group_size")
    strategy = weights.get("strategy") or ("group" if group else "channel")
    if bits not in (4, 8) or kind != "int":
        settings.refuse(f"weights of {name} are {bits} bits of type {kind!r}: expected 4 or 8 bits of type 'int'")
    if strategy not in ("group", "channel"):
        settings.refuse(f"strategy {strategy!r} of {name}: expected 'group' or 'channel'")
    if strategy == "group" and (type(group) is not int or (group < 1 and group != -1)):
        settings.refuse(f"'group_size' of {name} is {group!r}: expected a positive integer")
    return Scheme(bits, group if strategy == "group" else -1, bool(weights.get("symmetric", True)))


def _matrix(layer: Layer, schemes: list[Scheme]) -> Matrix:
    packed, stored = layer.part("weight_packed", ("I32",)), layer.part("weight_scale", SCALES)
    said = layer.part("weight_shape", ("I32", "I64"), (2,)).array()
    rows, cols = (int(n) for n in said)
    symmetric = "weight_zero_point" not in layer.parts
    scheme = next((s for s in schemes if s.fits(cols, packed.shape[1], stored.shape[1], symmetric)), None)
    if scheme is None or packed.shape[0] != rows:
        raise Inexact(f"weight_shape {[rows, cols]}, weight_packed {list(packed.shape)}, weight_scale"
                      f" {list(stored.shape)} {'without' if symmetric else 'with'} zero points fit none of"
                      f" {', '.join(map(_told, schemes))}")  # fmt: skip
    bits, word = scheme.bits, 32 // scheme.bits
    groups = scale_groups(cols, scheme.group)
    scales = layer.part("weight_scale", SCALES, (rows, groups))
    zeros = None if symmetric else layer.part("weight_zero_point", ("I32",), (-(-rows // word), groups))
    if "weight_g_idx" in layer.parts:
        order = layer.part("weight_g_idx", ("I32", "I64"), (cols,)).array()
        if (order != np.arange(cols) // (cols if scheme.group == -1 else scheme.group)).any():
            raise Inexact("its columns are in the groups in another order than they stand in (weight_g_idx, actorder):"
                          " a codec's groups are neighbouring columns")  # fmt: skip

    def zero_rows(start: int, stop: int) -> np.ndarray:
        first = start // word
        return fields(zeros.array()[first : -(-stop // word)].T, bits)[:, start - first * word : stop - first * word].T

    return integer_matrix(
        f"{layer.where}: {layer.name}", (rows, cols), scales, bits=bits, group=scheme.group,
        codes=lambda start, stop: fields(packed.array()[start:stop], bits)[:, :cols],
        scale_rows=lambda start, stop: scales.array()[start:stop], zero_rows=None if symmetric else zero_rows,
    )  # fmt: skip


def _told(scheme: Scheme) -> str:
    group = "a row" if scheme.group == -1 else f"{scheme.group} columns"
    return f"{scheme.bits} bits, a scale for {group}{'' if scheme.symmetric else ', zero points'}"


FORM = Form(NAME, KINDS, _takes, _open)
