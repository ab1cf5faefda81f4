"""What the tests know of each codec family: one module per family, found by itself under the family's name.

A module says the numeric contract a second time, in plain Python integers from the text of the specification:

- ``CODECS``: the codecs that tests run over, presets and extreme parameters
- ``FRACTION_BITS``: binary places of the exact product
- ``corner_words(kind)``: words of every combination of extreme fields, in the dtype of the words in memory; or, where
  not any word may stand anywhere, ``corner_rows(kind, rows, cols, rng)``: rows of words with extreme fields
- ``QUICK``: names of the codecs that stand for all of a family that has many; tests of the others are slow ones
- ``largest_row(kind, count)``: a row of words with the largest sum of weights of one sign, or at least the largest
  weight
- ``terms(kind, row)``: (N, shift) of every weight of a row of words (list of int); its term is N m << (shift + E + 14)
- ``weights(kind, row, bias)``: the weights without row scales, as fractions
- ``default_scale(kind, bias)``: the product's scale where none is given, as binary32 bits
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from seedlm.golden.codecs import FAMILIES, Codec
from seedlm.golden.registry import modules

__all__ = ["CODECS", "corner_rows", "family_tests", "mixed_rows", "quick", "steps_of"]

_TESTS: dict[str, ModuleType] = {module.__name__.rsplit(".", 1)[-1]: module for module in modules(__name__)}
assert set(_TESTS) == set(FAMILIES), f"families {sorted(FAMILIES)} have tests {sorted(_TESTS)}"

CODECS: list[Codec] = [kind for name in FAMILIES for kind in _TESTS[name].CODECS]


def family_tests(kind: Codec) -> ModuleType:
    """The module of a codec's family."""
    return _TESTS[kind.family]


def corner_rows(kind: Codec, rows: int, cols: int, rng: np.random.Generator) -> np.ndarray:
    """Words of a matrix with nothing but extreme fields."""
    family = family_tests(kind)
    if hasattr(family, "corner_rows"):
        return family.corner_rows(kind, rows, cols, rng)
    return rng.choice(family.corner_words(kind), kind.words_layout(rows, cols)[1])


def mixed_rows(kind: Codec, rows: int, cols: int, rng: np.random.Generator) -> np.ndarray:
    """Words of random rows with extreme words among them; where those cannot stand anywhere, rows of either sort."""
    words = kind.random_words(rows, cols, rng)
    corners = corner_rows(kind, rows, cols, rng)
    anywhere = not hasattr(family_tests(kind), "corner_rows")
    return np.where(rng.random(words.shape if anywhere else (rows, 1)) < (0.3 if anywhere else 0.5), corners, words)


def steps_of(kind: Codec, cols: int) -> list[int | None]:
    """The first column of every step of a row; None for those that bring no weights."""
    out: list[int | None] = []
    for column in range(0, cols, kind.step_columns):
        if kind.header_steps and column % kind.chunk == 0:
            out += [None] * kind.header_steps
        out.append(column)
    return out


def quick(kind: Codec) -> bool:
    """Tests of a codec belong to the fast ones, as far as its family decides."""
    names = getattr(_TESTS.get(kind.family), "QUICK", None)  # a test may enter a family of its own
    return names is None or kind.name in names
