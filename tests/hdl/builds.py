"""Builds by the names of their codecs."""

from __future__ import annotations

from dataclasses import replace

from seedlm.golden.build import Config
from seedlm.golden.codecs import codec
from seedlm.golden.presets import PRESETS


def build(names: str, **values) -> Config:
    """A build of the codecs ``a+b+c``."""
    first, *more = map(codec, names.split("+"))
    return Config(codec=first, more=tuple(more), **values)


def tiny(names: str) -> Config:
    """The same with the sizes of the preset for tests."""
    asked = build(names)
    return replace(PRESETS["tiny"], codec=asked.codec, more=asked.more, group=asked.group)
