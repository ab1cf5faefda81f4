"""Model architectures, one module each, found by itself; the rest of the project names none of them.

A module's ``ARCHITECTURE`` says what a config.json means, which tensors a model has, and what it computes around its
products. See docs/extending.md.

- `_base`: what an entry is
- `_decoder`: a model of layers, put together from parts
- `_attention`, `_mlp`, `_norms`, `_rotary`, `_linear`: the parts
- `_fields`: config.json, checked; `_cache`: what a model remembers
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.quantised import quantised_config
from seedlm.golden.registry import modules
from seedlm.host.models._base import Architecture, Engine, Group, Model, ModelConfig
from seedlm.host.models._fields import Fields

if TYPE_CHECKING:
    from seedlm.host.checkpoint import Checkpoint

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "Engine",
    "Fields",
    "Group",
    "Model",
    "ModelConfig",
    "architecture_of",
    "language_model",
    "model_config",
]

ARCHITECTURES: dict[str, Architecture] = {m.ARCHITECTURE.name: m.ARCHITECTURE for m in modules(__name__)}


def architecture_of(config: Mapping[str, Any], where: str) -> Architecture:
    """The architecture that a config.json names; `where` begins the messages.

    Raises
    ------
    SeedLMError
        None that is there, or weights that are quantised already.
    """
    names = config.get("architectures") or []
    if not isinstance(names, list):
        names = [names]
    kind = config.get("model_type")
    for architecture in ARCHITECTURES.values():
        if architecture.name in names or (not names and architecture.model_type == kind):
            break
    else:
        found = ", ".join(map(str, names)) or kind
        what = f"unsupported architecture {found}" if found else "no architecture"
        raise SeedLMError(f"{where}: {what}: expected one of {', '.join(ARCHITECTURES)}")
    if found := quantised_config(config):
        raise SeedLMError(f"{where}: quantised already by {found}: expected the original weights as F16, BF16 or F32,"
                          " or seedlm import first")  # fmt: skip
    return architecture


def model_config(config: Mapping[str, Any], where: str) -> ModelConfig:
    """What a model is, from the content of its config.json.

    Raises
    ------
    SeedLMError
        What `architecture_of` refuses; something of the architecture that is not supported, a value that is missing
        or invalid.
    """
    return architecture_of(config, where).config(Fields(config, where))


def language_model(checkpoint: Checkpoint, engine: Engine) -> Model:
    """The model of a checkpoint, its products computed by `engine`."""
    return checkpoint.architecture.model(checkpoint, engine)
