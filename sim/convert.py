"""Amaranth components as Verilog text, the same text every time, remembered by their RTLIL."""

from __future__ import annotations

from pathlib import Path

import amaranth
from amaranth.back import rtlil, verilog
from amaranth.hdl import Elaboratable

from . import compact
from .cache import cached, digest

__all__ = ["verilog_text"]


def verilog_text(component: Elaboratable, name: str) -> str:
    """Verilog of `component` as module `name`: no source paths, no tool attributes, equal modules once, reproducible.

    The slow half (Yosys, from RTLIL to Verilog) is skipped where the cache has seen the same RTLIL.
    """
    text = rtlil.convert(component, name=name, emit_src=False)

    def make(folder: Path) -> None:
        # verilog.convert() elaborates again, and a component need not survive that: go on from the RTLIL.
        converted = verilog._convert_rtlil_text(text, strip_internal_attrs=True)
        (folder / "top.v").write_text(compact.compact(converted, name))

    key = digest(amaranth.__version__, text, Path(compact.__file__).read_text())
    return (cached("verilog", name, key, make) / "top.v").read_text()
