"""Several components in one module, so that one compiled model serves the tests of all their sizes."""

from __future__ import annotations

from collections.abc import Mapping

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect, flipped

__all__ = ["SideBySide"]


class SideBySide(wiring.Component):
    """`parts` with nothing between them: port ``port`` of part ``a`` is ``a__port``.

    Parameters
    ----------
    parts : mapping of str to Component
        The components by name; a name is an identifier. All of them share the clock and the reset.
    """

    def __init__(self, parts: Mapping[str, wiring.Component]) -> None:
        self._parts = dict(parts)
        super().__init__({name: Out(part.signature) for name, part in self._parts.items()})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for name, part in self._parts.items():
            m.submodules[name] = part
            connect(m, part, flipped(getattr(self, name)))
        return m
