"""Builds by the names of their codecs."""

from __future__ import annotations

from seedlm.golden.build import Config
from seedlm.golden.codecs import codec


def build(names: str, **values) -> Config:
    """A build of the codecs ``a+b+c``."""
    first, *more = map(codec, names.split("+"))
    return Config(codec=first, more=tuple(more), **values)
