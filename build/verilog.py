"""Verilog text of Amaranth components and of the accelerator: the same text every time, and made once.

`seedlm.build.rewrite` does the last step, `seedlm.build.export` writes the accelerator's files.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

import amaranth
from amaranth.back import rtlil, verilog
from amaranth.hdl import Elaboratable

from seedlm import golden, hdl
from seedlm.build import rewrite
from seedlm.golden.build import Config
from seedlm.golden.files.cache import cached, digest, lend_to_tools, source_digest, source_files

__all__ = ["TOP", "accelerator_verilog", "remembered_verilog_text", "verilog_text"]

TOP = "SeedLMAccelerator"  # name of the accelerator's module

_LOADED = time.time()


def accelerator_verilog(config: Config) -> str:
    """The accelerator for `config` as one Verilog text with the top module `TOP`; elaborated once for each state of the
    sources. Simulations run this text, synthesis and `seedlm.build.export` take it.
    """

    def make() -> Elaboratable:
        from seedlm.hdl.top import SeedLMAccelerator  # slow to import, and not needed where the cache has the text

        return SeedLMAccelerator(config=config)

    return remembered_verilog_text(make, TOP, parameters=config, sources=(golden, hdl))


def verilog_text(component: Elaboratable, name: str) -> str:
    """Verilog of `component` as module `name`: no source paths, no tool attributes, plain names, equal modules once.

    The slow half (Yosys, from RTLIL to Verilog) is skipped where the cache has seen the same RTLIL.
    """
    text = rtlil.convert(component, name=name, emit_src=False)

    def make(folder: Path) -> None:
        lend_to_tools()
        # verilog.convert() elaborates again, and a component need not survive that: go on from the RTLIL.
        converted = verilog._convert_rtlil_text(text, strip_internal_attrs=True)
        (folder / "top.v").write_text(rewrite.rewrite(converted, name))

    key = digest(amaranth.__version__, text, Path(rewrite.__file__).read_text())
    return (cached("verilog", name, key, make) / "top.v").read_text()


def remembered_verilog_text(
    make: Callable[[], Elaboratable], name: str, *, parameters: object, sources: Iterable[ModuleType | Path]
) -> str:
    """What ``verilog_text(make(), name)`` gives, without elaborating anything that the cache has seen.

    Parameters
    ----------
    make : callable
        Makes the component.
    parameters : object
        What the component depends on; its ``repr`` counts.
    sources : iterable of packages or folders
        With all the Python files that the component depends on; their text counts.
    """
    packages = list(sources)
    if any(path.stat().st_mtime > _LOADED for path in source_files(*packages)):
        # Edited while this program runs: what is in the files is not what makes the component.
        return verilog_text(make(), name)
    key = digest(amaranth.__version__, repr(parameters), source_digest(*packages), *_own_sources())

    def fill(folder: Path) -> None:
        (folder / "top.v").write_text(verilog_text(make(), name))

    return (cached("designs", name, key, fill) / "top.v").read_text()


def _own_sources() -> list[str]:
    return [Path(rewrite.__file__).read_text(), Path(__file__).read_text()]
