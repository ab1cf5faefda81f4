"""Scales of groups: by the formats' own rules, and by a small search for the smallest squared error.

A search tries some scales around that of the rule, all groups at once, and keeps for every group what came out best;
it begins with the rule's own, so that it never does worse.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from seedlm.encoder.grouped.rounding import codes_of, largest_exponent, reach, rounded
from seedlm.golden.codecs import _scales as scales
from seedlm.golden.codecs._elements import E4M3
from seedlm.golden.codecs._scales import Scale
from seedlm.golden.codecs.grouped import GroupedCodec
from seedlm.golden.matrix import PackedMatrix
from seedlm.golden.packed_groups import packed_matrix

__all__ = ["encode_groups", "largest_scaled"]

HALF_MAX = 65504.0
# Scales of the search, in parts of the one with which the largest weight has the largest element. Smaller ones clip it.
FACTORS = {4: tuple(k / 16 for k in range(19, 9, -1)), 8: tuple(k / 64 for k in range(65, 58, -1))}
ZERO_STEPS = (0, -1, 1)
POWERS = (1, -1, -2, -3)  # beside the rule's exponent; one above it no weight is clipped any more
REFINED = 2  # times
E4M3_STEPS = (*range(1, 8), *range(-1, -7, -1))  # codes of the scale: up to twice as large, where all is as before


@dataclass
class Groups:
    """Weights float64 [rows, groups, columns], the last group filled with zeros, and how much each counts, [groups,
    columns]: nothing where it only fills."""

    w: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, w: np.ndarray, columns: int, importance: np.ndarray | None) -> Groups:
        """Cut rows into groups."""
        rows, cols = w.shape
        count = -(-cols // columns)
        padding = count * columns - cols
        weights = np.pad(w.astype(np.float64), ((0, 0), (0, padding))).reshape(rows, count, columns)
        counts = np.pad(np.ones(cols) if importance is None else importance, (0, padding))
        return cls(weights, counts.reshape(count, columns))

    @property
    def largest(self) -> np.ndarray:
        """The largest magnitude of what counts, [rows, groups]."""
        return np.where(self.counts > 0, np.abs(self.w), 0).max(axis=-1)

    def error(self, found: np.ndarray) -> np.ndarray:
        """Squared error, [rows, groups]."""
        return np.einsum("rgc,gc->rg", np.square(self.w - found), self.counts)

    def fitted(self, n: np.ndarray) -> np.ndarray:
        """The scales that suit integers best, [rows, groups]; 0 where none does."""
        energy = np.einsum("rgc,rgc,gc->rg", n, n, self.counts)
        product = np.einsum("rgc,rgc,gc->rg", n, self.w, self.counts)
        return np.divide(product, energy, out=np.zeros_like(energy), where=energy > 0)


class Best:
    """What came out best for every group.

    Parameters
    ----------
    error : np.ndarray
        [rows, groups].
    **parts
        Arrays [rows, groups] or [rows, groups, columns]; copied.
    """

    def __init__(self, error: np.ndarray, **parts: np.ndarray) -> None:
        self.error, self.parts = error, {name: part.copy() for name, part in parts.items()}

    def offer(self, error: np.ndarray, **parts: np.ndarray) -> None:
        """Take what is better."""
        better = error < self.error
        np.copyto(self.error, error, where=better)
        for name, new in parts.items():
            np.copyto(self.parts[name], new, where=better[..., None] if new.ndim == 3 else better)


def encode_groups(w: np.ndarray, codec: GroupedCodec, search: bool, importance: np.ndarray | None) -> PackedMatrix:
    """Rows in a grouped format.

    Parameters
    ----------
    w : np.ndarray
        Float [rows, cols], finite, below `largest_scaled`.
    codec : GroupedCodec
    search : bool
        For the scales with the smallest error, instead of those by the format's rule.
    importance : np.ndarray or None
        float64 [cols]: the squared error of a column counts this much in a search.
    """
    groups = Groups.of(w, codec.scale_group, importance if search else None)
    return _WAYS[type(codec.scale), codec.scale.micro](groups, codec, search, w.shape[1])


def largest_scaled(codec: GroupedCodec) -> float:
    """The largest weight that scales reach; infinite where all finite binary32 are."""
    if not isinstance(codec.scale, scales.Binary16):
        return np.inf
    return HALF_MAX * int(codec.element.integers.max() if codec.element.bits == 8 else 7)


def _half(x: np.ndarray) -> np.ndarray:
    """Rounded to binary16."""
    return np.clip(x, -HALF_MAX, HALF_MAX).astype(np.float16)


def _over(x: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """x / scale of groups, 0 where the scale is 0."""
    scale = scale.astype(np.float64)[..., None]
    return np.divide(x, scale, out=np.zeros_like(x), where=scale != 0)


def _packed(codec: GroupedCodec, n: np.ndarray, stored: np.ndarray, cols: int, **more: np.ndarray) -> PackedMatrix:
    """From integers [rows, groups, columns] and the format's scales."""
    codes = codes_of(n, codec.element).reshape(len(n), -1)[:, :cols]
    return packed_matrix(codec, codes, stored, dtype="F32", **more)


# --- a binary16 for every group ---------------------------------------------------------------------
def _halves(groups: Groups, codec: GroupedCodec, search: bool, cols: int) -> PackedMatrix:
    """GGUF: the weight of largest magnitude becomes -8 of q4_0 or +-127 of q8_0, computed in binary32."""
    element = codec.element
    w = groups.w.astype(np.float32)
    if element.bits == 4:
        at = np.abs(w).argmax(axis=-1, keepdims=True)
        scale = np.take_along_axis(w, at, axis=-1)[..., 0] / np.float32(-8)
        n = np.trunc(w * _inverse(scale)[..., None] + np.float32(8.5)).clip(0, 15) - 8
    else:
        scale = np.abs(w).max(axis=-1) / np.float32(127)
        ratio = w * _inverse(scale)[..., None]
        n = np.copysign(np.floor(np.abs(ratio) + np.float32(0.5)), ratio)
    best = Best(**_tried(groups, n.astype(np.float64), _half(scale)))
    starts = [factor * sign * groups.largest / -reach(element)[0] for factor in FACTORS[element.bits]
              for sign in ((1, -1) if element.bits == 4 else (1,))]  # fmt: skip
    for scale in map(_half, starts if search else ()):
        best.offer(**_tried(groups, rounded(_over(groups.w, scale), element), scale))
    for _ in range(REFINED if search else 0):
        scale = _half(groups.fitted(best.parts["n"]))
        best.offer(**_tried(groups, rounded(_over(groups.w, scale), element), scale))
    return _packed(codec, best.parts["n"], best.parts["scale"], cols)


def _inverse(scale: np.ndarray) -> np.ndarray:
    """1 / scale in binary32, 0 where nothing is left of the scale as a binary16."""
    return np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=_half(scale) != 0)


def _tried(groups: Groups, n: np.ndarray, scale: np.ndarray, **more: np.ndarray) -> dict[str, np.ndarray]:
    """Integers and a binary16 scale, for `Best`."""
    return {"error": groups.error(n * scale.astype(np.float64)[..., None]), "n": n, "scale": scale, **more}


def _halves_with_zero(groups: Groups, codec: GroupedCodec, search: bool, cols: int) -> PackedMatrix:
    """From the smallest to the largest weight of a group, zero among them, in 15 steps."""
    counted = np.where(groups.counts > 0, groups.w, 0)
    low, high = np.minimum(counted.min(axis=-1), 0), np.maximum(counted.max(axis=-1), 0)
    whole = _half((high - low) / 15)
    zero = np.clip(np.rint(_over(-low[..., None], whole)[..., 0]), 0, 15)

    def part(scale: np.ndarray, zero: np.ndarray) -> dict[str, np.ndarray]:
        n = rounded(_over(groups.w, scale), codec.element, -zero[..., None], 15 - zero[..., None])
        return _tried(groups, n, scale, zero=zero)

    best = Best(**part(whole, zero))
    for factor in FACTORS[4] if search else ():
        for step in ZERO_STEPS:
            best.offer(**part(_half(factor * (high - low) / 15), np.clip(zero + step, 0, scales.ZERO_MAX)))
    for _ in range(REFINED if search else 0):
        best.offer(**part(_half(groups.fitted(best.parts["n"])), best.parts["zero"]))
    n, scale, zero = (best.parts[name] for name in ("n", "scale", "zero"))
    return _packed(codec, n + zero[..., None], scale, cols, zeros=zero.astype(np.int64))


# --- powers of two ----------------------------------------------------------------------------------
def _exponents(groups: Groups, codec: GroupedCodec, above: int) -> tuple[np.ndarray, np.ndarray]:
    """The exponents of OCP's rule and the smallest ones, [rows, groups] and [rows, 1], so that every row keeps to the
    exponents that it can have, even if the largest ones become larger by `above`."""
    element, kept = codec.element, codec.scale.shift_max
    largest = groups.largest
    top = largest_exponent(element) + codec.scale.micro  # which has a binary place for the halved ones
    rule = np.where(largest > 0, np.frexp(largest)[1] - 1 - top, -scales.E8M0_BIAS)
    rule = np.minimum(rule, scales.E8M0_BIAS)
    low = np.minimum(rule.max(axis=1, keepdims=True) + above, scales.E8M0_BIAS) - kept
    low = np.maximum(low, scales.NORMAL[0] + element.fraction_bits)
    return np.maximum(rule, low), low


def _powers(groups: Groups, codec: GroupedCodec, search: bool, cols: int) -> PackedMatrix:
    """E = floor(log2 max |w|) - emax, elements to nearest, ties to even, the largest for all beyond."""
    element = codec.element
    rule, low = _exponents(groups, codec, max(POWERS) if search else 0)

    def part(E: np.ndarray) -> dict:
        units = E - element.fraction_bits
        n = rounded(np.ldexp(groups.w, -units[..., None]), element)
        return {"error": groups.error(np.ldexp(n, units[..., None])), "n": n, "E": E}

    best = Best(**part(rule))
    for step in POWERS if search else ():
        best.offer(**part(np.clip(rule + step, low, scales.E8M0_BIAS)))
    return _packed(codec, best.parts["n"], (best.parts["E"] + scales.E8M0_BIAS).astype(np.uint8), cols)


def _powers_with_micro(groups: Groups, codec: GroupedCodec, search: bool, cols: int) -> PackedMatrix:
    """E = floor(log2 max |w|) of the group; a pair whose own is smaller has half the steps. In a search every pair has
    the steps that suit it better."""
    element = codec.element
    rule, low = _exponents(groups, codec, max(POWERS) if search else 0)
    pairs = (*groups.w.shape[:2], -1, 2)
    counts = groups.counts.reshape(1, *pairs[1:2], -1, 2)
    w = groups.w.reshape(*pairs)

    def part(E: np.ndarray) -> dict:
        found = []
        for micro in (0, 1):
            units = (E - element.fraction_bits + 1 - micro)[..., None]
            n = rounded(np.ldexp(groups.w, -units), element)
            found.append((n.reshape(w.shape), np.ldexp(n, units).reshape(w.shape)))
        if search:
            errors = [(np.square(w - value) * counts).sum(axis=-1) for _, value in found]
            micro = errors[1] < errors[0]
        else:
            micro = np.abs(w).max(axis=-1) < np.ldexp(1.0, E)[..., None]
        n, value = (np.where(micro[..., None], b, a).reshape(groups.w.shape) for a, b in zip(*found, strict=True))
        return {"error": groups.error(value), "n": n, "E": E, "micro": micro}

    best = Best(**part(rule))
    for step in POWERS if search else ():
        best.offer(**part(np.clip(rule + step, low, scales.E8M0_BIAS)))
    micro = best.parts["micro"].reshape(len(w), -1)[:, : -(-cols // 2)].astype(np.uint8)
    return _packed(codec, best.parts["n"], (best.parts["E"] + scales.E8M0_BIAS).astype(np.uint8), cols, micro=micro)


# --- e4m3 -------------------------------------------------------------------------------------------
def _small_floats(groups: Groups, codec: GroupedCodec, search: bool, cols: int) -> PackedMatrix:
    """NVFP4, but with the second scale for every row instead of the tensor: with it a row's largest group has the
    largest scale. The search leaves it at 256 of 448, so that there are larger ones to try."""
    element = codec.element
    most = float(element.integers.max()) * 2.0**-element.fraction_bits
    top = 256.0 if search else float(E4M3.integers.max()) * 2.0**-E4M3.fraction_bits
    largest = groups.largest
    of_row = (largest.max(axis=1) / (most * top)).astype(np.float32)
    least = np.float32(np.ldexp(1.0, scales.NORMAL[0] + E4M3.fraction_bits + element.fraction_bits))
    of_row = np.where(of_row < least, np.where(of_row > 0, least, np.float32(1)), of_row)
    unit = of_row.astype(np.float64)[:, None]
    rule = codes_of(rounded(np.ldexp(largest / most / unit, E4M3.fraction_bits), E4M3), E4M3).astype(np.int64)

    def part(code: np.ndarray) -> dict:
        steps = np.ldexp(E4M3.integers[code] * unit, -E4M3.fraction_bits - element.fraction_bits)
        n = rounded(_over(groups.w, steps), element)
        return {"error": groups.error(n * steps[..., None]), "n": n, "code": code}

    best = Best(**part(rule))
    for step in E4M3_STEPS if search else ():
        best.offer(**part(np.clip(rule + step, 1, 0x7E)))
    packed = _packed(codec, best.parts["n"], best.parts["code"].astype(np.uint8), cols)
    packed.scales = packed.scales * of_row  # exact: those are powers of two
    return packed


_WAYS: dict[tuple[type[Scale], bool], Callable[[Groups, GroupedCodec, bool, int], PackedMatrix]] = {
    (scales.Binary16, False): _halves, (scales.Binary16Zero, False): _halves_with_zero,
    (scales.RelativeExponent, False): _powers, (scales.RelativeExponent, True): _powers_with_micro,
    (scales.E4M3Scale, False): _small_floats,
}  # fmt: skip
