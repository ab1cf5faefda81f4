"""Recipes: which codec for which kind of matrix, since a bit is worth 30 times more in some than in others.

What a wrong value matrix costs a model, per weight, is 30 times what a wrong gate matrix costs (docs/quality.md has the
measurement), and value matrices are few. A recipe gives such kinds more bits and takes them where they cost least.
Output matrix and embedding are looked up and multiplied once per token; they get 8 bits. The recipes are data:
`recipes.json`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from seedlm.golden.codecs import Codec, codec
from seedlm.golden.errors import SeedLMError

__all__ = ["DEFAULT_RECIPE", "KINDS", "RECIPES", "Recipe", "recipe"]

# Kinds of matrices: as `seedlm.host.models` names them.
KINDS = ("q", "k", "v", "qkv", "o", "gate", "up", "gate_up", "down", "embedding", "head")


@dataclass(frozen=True)
class Recipe:
    """An assignment of codecs to kinds of matrices.

    Parameters
    ----------
    name : str
    rest : str
        The codec of kinds that are not in `codecs`.
    codecs : mapping of str to str
        Codecs by kind.
    """

    name: str
    rest: str
    codecs: Mapping[str, str]

    def codec_of(self, kind: str) -> Codec:
        """The codec of a kind of matrix."""
        return codec(self.codecs.get(kind, self.rest))

    def codecs_of(self, kinds: Mapping[str, str]) -> dict[str, Codec]:
        """Codecs of matrices whose kinds are given, by name, as `seedlm.encoder.plan.Options` takes them."""
        return {name: self.codec_of(kind) for name, kind in kinds.items()}

    def describe(self) -> str:
        """In a line, for people."""
        by_codec: dict[str, list[str]] = {}
        for kind in KINDS:
            if kind in self.codecs:
                by_codec.setdefault(self.codecs[kind], []).append(kind)
        return "; ".join(f"{', '.join(kinds)}: {name}" for name, kinds in by_codec.items()) + f"; the rest: {self.rest}"


def _load() -> dict[str, Recipe]:
    data = json.loads(Path(__file__).with_name("recipes.json").read_text(encoding="utf-8"))
    return {name: Recipe(name, codecs.pop("rest"), codecs) for name, codecs in data.items()}


RECIPES = _load()
DEFAULT_RECIPE = "mixed4"


def recipe(name: str) -> Recipe:
    """The recipe called `name`; raises `SeedLMError` if there is none."""
    if name not in RECIPES:
        raise SeedLMError(f"unknown recipe {name!r}: expected {', '.join(RECIPES)}")
    return RECIPES[name]
