"""The figures of `build.estimate` that the tests expect, and writing them anew.

``python -m seedlm.build.baselines`` runs the estimates of every baseline (some minutes) and writes the file; with
names of baselines (``lane:seedlm4``) only these.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from seedlm.build import synthesis
from seedlm.build.estimate import estimate
from seedlm.build.outputs import write_if_changed
from seedlm.golden.build import Config
from seedlm.golden.codecs import CODECS, codec

__all__ = ["FILE", "NAMES", "TOLERANCE", "differences", "figures", "load"]

FILE = Path(__file__).with_name("baselines.json")
NAMES = (*(f"lane:{name}" for name in CODECS), "rounding:seedlm4",
         "all:seedlm4", "all:seedlm4r", "all:trellis4", "all:trellis2")  # fmt: skip

# Relative; the others are exact. Small changes anywhere move the mapping of LUTs by a percent or so.
TOLERANCE = {"luts": 0.03, "ffs": 0.02}


def figures(name: str) -> dict[str, float]:
    """The present figures of the baseline `name`, module and codec."""
    module, codec_name = name.split(":")
    return estimate(module, Config(codec=codec(codec_name))).figures()


def load() -> dict:
    """``yosys`` (the version they were made with) and ``figures`` by name."""
    return json.loads(FILE.read_text())


def differences(found: dict[str, float], expected: dict[str, float]) -> list[str]:
    """What is out of tolerance, in words; better counts too, since the next loss would hide behind it."""
    out = []
    for key, before in expected.items():
        allowed = before * TOLERANCE.get(key, 0)
        if abs(found[key] - before) > allowed:
            out.append(f"{key}: {found[key]:g}, {'more' if found[key] > before else 'less'} than {before:g}")
    return out


def main(names: list[str]) -> None:
    """Write the baselines `names` (default: all) anew."""
    old = load() if FILE.exists() else {"yosys": synthesis.version(), "figures": {}}
    kept = old["figures"] if old["yosys"] == synthesis.version() else {}
    for name in names or NAMES:
        kept[name] = figures(name)
        print(name, kept[name], flush=True)
        ordered = {n: kept[n] for n in NAMES if n in kept}
        lines = ",\n".join(f"    {json.dumps(n)}: {json.dumps(values)}" for n, values in ordered.items())
        text = f'{{\n  "yosys": "{synthesis.version()}",\n  "figures": {{\n{lines}\n  }}\n}}\n'
        write_if_changed(FILE, text)


if __name__ == "__main__":
    main(sys.argv[1:])
