"""Model architectures: what a config.json means, which tensors a model has, and what it computes around its products.

A new one is a module with a configuration (`blocks.ModelConfig`) and a model (`blocks.Model`), and an entry here:

- `fields`: the entries of a config.json, checked one by one
- `rotary`, `blocks`: what architectures share
- `llama`: Llama
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.quantised import quantised_config
from seedlm.host.models.blocks import Engine, Model, ModelConfig
from seedlm.host.models.fields import Fields
from seedlm.host.models.llama import Llama, LlamaConfig

if TYPE_CHECKING:
    from seedlm.host.checkpoint import Checkpoint

__all__ = ["ARCHITECTURES", "Architecture", "language_model", "model_config"]


@dataclass(frozen=True)
class Architecture:
    """A kind of model.

    Parameters
    ----------
    model_type : str
        What config.json calls it where it names no architecture.
    config : type
        Read from a config.json by ``config.from_json(fields)``.
    model : type
        Made by ``model(checkpoint, engine)``.
    """

    model_type: str
    config: type[ModelConfig]
    model: type[Model]


# By the names that config.json has under "architectures".
ARCHITECTURES: dict[str, Architecture] = {"LlamaForCausalLM": Architecture("llama", LlamaConfig, Llama)}


def model_config(config: Mapping[str, Any], where: str) -> ModelConfig:
    """What a model is, from the content of its config.json; `where` begins the messages.

    Raises
    ------
    SeedLMError
        An architecture that is not there, weights that are quantised already, something of the architecture that is
        not supported, a value that is missing or invalid.
    """
    architecture = ARCHITECTURES[_name(config, where)]
    if found := quantised_config(config):
        raise SeedLMError(f"{where}: quantised already by {found}: expected the original weights as F16, BF16 or F32")
    return architecture.config.from_json(Fields(config, where))


def _name(config: Mapping[str, Any], where: str) -> str:
    names = config.get("architectures") or []
    if not names:
        names = [n for n, a in ARCHITECTURES.items() if a.model_type == config.get("model_type")]
    for name in names:
        if name in ARCHITECTURES:
            return name
    found = ", ".join(map(str, names)) or config.get("model_type")
    what = f"unsupported architecture {found}" if found else "no architecture"
    raise SeedLMError(f"{where}: {what}: expected {' or '.join(ARCHITECTURES)}")


def language_model(checkpoint: Checkpoint, engine: Engine) -> Model:
    """The model of a checkpoint, its products computed by `engine`."""
    (model,) = {a.model for a in ARCHITECTURES.values() if type(checkpoint.config) is a.config}
    return model(checkpoint, engine)
