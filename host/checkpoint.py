"""A Hugging Face Llama directory: what the model is (config.json) and its tensors, opened lazily."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.packed import FORMAT
from seedlm.golden.files.tensors import RawTensor, TensorFile

__all__ = ["Checkpoint", "LlamaConfig", "Rope", "read_json"]

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
ARCHITECTURE = "LlamaForCausalLM"
ROPE_KINDS = ("default", "linear", "llama3")
EMBEDDING, HEAD, NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"
# The linear layers of a layer, in the order of their use.
PROJECTIONS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
               "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")  # fmt: skip


def read_json(path: Path) -> dict:
    """The JSON object in a file; one line if there is none."""
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise SeedLMError(f"{path}: cannot read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise SeedLMError(f"{path}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise SeedLMError(f"{path}: expected a JSON object")
    return value


@dataclass(frozen=True)
class Rope:
    """Rotary positions: `kind` default, linear or llama3, with the parameters of Hugging Face's names."""

    kind: str = "default"
    theta: float = 10000.0
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: int = 8192


@dataclass(frozen=True, kw_only=True)
class LlamaConfig:
    """The dimensions of a Llama model.

    Parameters
    ----------
    vocab, hidden, intermediate, layers, heads, kv_heads, head_dim : int
    context : int
        Positions the model was made for.
    eps : float
        Of the RMS norms.
    rope : Rope
    tied : bool
        The output matrix is the embedding.
    attention_bias, mlp_bias : bool
        The projections have biases; they are added on the host.
    bos : int or None
        Begins every text.
    eos : tuple of int
        Any of these ends it.
    """

    vocab: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    context: int = 2048
    eps: float = 1e-6
    rope: Rope = field(default_factory=Rope)
    tied: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    bos: int | None = None
    eos: tuple[int, ...] = ()

    @classmethod
    def from_json(cls, config: dict[str, Any], where: str) -> LlamaConfig:
        """From the content of a config.json; `where` begins the messages.

        Raises
        ------
        SeedLMError
            Another architecture, something of Llama that is not supported, a value that is missing or invalid.
        """

        def refuse(message: str) -> None:
            raise SeedLMError(f"{where}: {message}")

        names = config.get("architectures") or []
        if ARCHITECTURE not in names and not (not names and config.get("model_type") == "llama"):
            found = ", ".join(map(str, names)) or config.get("model_type")
            refuse(f"{f'unsupported architecture {found}' if found else 'no architecture'}: expected {ARCHITECTURE}")
        if config.get("quantization_config"):
            refuse("the weights are quantised already (quantization_config): expected F16, BF16 or F32 weights")
        if config.get("hidden_act", "silu") != "silu":
            refuse(f"unsupported hidden_act {config['hidden_act']!r}: expected 'silu'")

        def number(name: str, default: object = None, kind: type = int) -> Any:
            value = config.get(name)
            value = default if value is None else value
            good = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not (good and math.isfinite(value) and value > 0 and value == kind(value)):
                refuse(f"{name} must be a positive {'integer' if kind is int else 'number'}, not {value!r}")
            return kind(value)

        def token(name: str) -> tuple[int, ...]:
            value = config.get(name)
            values = value if isinstance(value, list) else [] if value is None else [value]
            if not all(type(v) is int and 0 <= v < vocab for v in values):
                refuse(f"{name} must be tokens from 0 to {vocab - 1}, not {value!r}")
            return tuple(values)

        vocab, hidden, heads = number("vocab_size"), number("hidden_size"), number("num_attention_heads")
        kv_heads = number("num_key_value_heads", heads)
        if config.get("head_dim") is None and hidden % heads:
            refuse(f"hidden_size {hidden} is not a multiple of num_attention_heads {heads}, and there is no head_dim")
        head_dim = number("head_dim", hidden // heads)
        if heads % kv_heads:
            refuse(f"num_attention_heads {heads} is not a multiple of num_key_value_heads {kv_heads}")
        if head_dim % 2:
            refuse(f"head_dim must be even for rotary positions, not {head_dim}")
        return cls(
            vocab=vocab,
            hidden=hidden,
            intermediate=number("intermediate_size"),
            layers=number("num_hidden_layers"),
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            context=number("max_position_embeddings", 2048),
            eps=number("rms_norm_eps", 1e-6, float),
            rope=_rope(config, where),
            tied=bool(config.get("tie_word_embeddings", False)),
            attention_bias=bool(config.get("attention_bias", False)),
            mlp_bias=bool(config.get("mlp_bias", False)),
            bos=next(iter(token("bos_token_id")), None),
            eos=token("eos_token_id"),
        )

    def shapes(self) -> dict[str, tuple[int, int]]:
        """Rows (outputs) and columns (inputs) of every matrix of the linear layers, the output matrix last.

        Its name is ``lm_head.weight``, with tied embeddings too.
        """
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        sizes = {
            "self_attn.q_proj": (q, self.hidden),
            "self_attn.k_proj": (kv, self.hidden),
            "self_attn.v_proj": (kv, self.hidden),
            "self_attn.o_proj": (self.hidden, q),
            "mlp.gate_proj": (self.intermediate, self.hidden),
            "mlp.up_proj": (self.intermediate, self.hidden),
            "mlp.down_proj": (self.hidden, self.intermediate),
        }
        out = {f"model.layers.{i}.{p}.weight": sizes[p] for i in range(self.layers) for p in PROJECTIONS}
        out[HEAD] = (self.vocab, self.hidden)
        return out

    def vectors(self) -> dict[str, int]:
        """Lengths of the norms' weights and the biases."""
        out = {}
        for i in range(self.layers):
            for name in ("input_layernorm", "post_attention_layernorm"):
                out[f"model.layers.{i}.{name}.weight"] = self.hidden
        for name, (rows, _) in self.shapes().items():
            if (self.attention_bias and ".self_attn." in name) or (self.mlp_bias and ".mlp." in name):
                out[name.removesuffix("weight") + "bias"] = rows
        out[NORM] = self.hidden
        return out


def _rope(config: dict[str, Any], where: str) -> Rope:
    """The rotary positions of a config.json, old form (rope_theta, rope_scaling) or new (rope_parameters)."""
    given = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(given, dict):
        raise SeedLMError(f"{where}: rope_scaling must be an object, not {given!r}")
    kind = given.get("rope_type", given.get("type", "default"))
    if kind not in ROPE_KINDS:
        raise SeedLMError(f"{where}: unsupported rotary scaling {kind!r}: expected {', '.join(ROPE_KINDS)}")
    if given.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0)) not in (None, 1, 1.0):
        raise SeedLMError(f"{where}: unsupported partial_rotary_factor: expected whole heads to be turned")
    required = {"default": (), "linear": ("factor",)}.get(
        kind, ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    )
    values = {name: given.get(name) for name in required}
    values["theta"] = given.get("rope_theta", config.get("rope_theta", 10000.0))
    for name, value in values.items():
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < math.inf:
            raise SeedLMError(f"{where}: {name} of rotary scaling {kind!r} must be a positive number, not {value!r}")
    if kind == "llama3" and not values["low_freq_factor"] < values["high_freq_factor"]:
        raise SeedLMError(f"{where}: low_freq_factor must be less than high_freq_factor")
    return Rope(kind, **values)


class Checkpoint:
    """A model directory, its tensors checked by name, shape and dtype.

    Parameters
    ----------
    folder : Path
        With config.json and model.safetensors, or model.safetensors.index.json and the shards it names.

    Attributes
    ----------
    folder : Path
    config : LlamaConfig
    linear : dict of str to RawTensor
        The matrices of the linear layers by `LlamaConfig.shapes`' names; memory maps. With tied embeddings the
        output matrix is the embedding.

    Raises
    ------
    SeedLMError
        A missing file, an unsupported architecture, a tensor that is missing or not what config.json promises.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise SeedLMError(f"{folder}: no such directory: expected a Hugging Face model with {CONFIG}")
        path = self.folder / CONFIG
        self.config = LlamaConfig.from_json(read_json(path), str(path))
        self._tensors = dict(self._open())
        shapes = self.config.shapes()
        if self.config.tied:
            self._tensors[HEAD] = self._tensors.get(EMBEDDING) or self._missing(EMBEDDING)
        expected = {
            EMBEDDING: (self.config.vocab, self.config.hidden),
            **shapes,
            **{name: (n,) for name, n in self.config.vectors().items()},
        }
        for name, shape in expected.items():
            tensor = self._tensors.get(name) or self._missing(name)
            if tensor.shape != shape or not tensor.is_float:
                raise SeedLMError(f"{self.folder}: tensor {name!r} is {tensor.dtype} {list(tensor.shape)}:"
                                  f" expected F16, BF16 or F32 {list(shape)}")  # fmt: skip
        self.linear: dict[str, RawTensor] = {name: self._tensors[name] for name in shapes}

    def _missing(self, name: str) -> RawTensor:
        raise SeedLMError(f"{self.folder}: tensor {name!r} is missing")

    def _open(self) -> Iterator[tuple[str, RawTensor]]:
        """The tensors of the directory, of one file or of all shards."""
        single, index = self.folder / WEIGHTS, self.folder / INDEX
        if single.exists() or not index.exists():
            if not single.exists():
                raise SeedLMError(f"{self.folder}: no weights: expected {WEIGHTS} or {INDEX}")
            yield from self._file(single).tensors.items()
            return
        where = read_json(index).get("weight_map")
        if not isinstance(where, dict) or not all(isinstance(v, str) and Path(v).name == v for v in where.values()):
            raise SeedLMError(f"{index}: 'weight_map' must name a file of the same directory for every tensor")
        for name in sorted(set(where.values())):
            shard = self._file(self.folder / name)
            for tensor in (t for t, file in where.items() if file == name):
                yield tensor, shard.raw(tensor)

    @staticmethod
    def _file(path: Path) -> TensorFile:
        file = TensorFile(path)
        if file.metadata.get("format") == FORMAT:
            raise SeedLMError(f"{path}: is a packed file: expected the original weights")
        return file

    def vector(self, name: str) -> np.ndarray:
        """A norm's weight or a bias, float32."""
        return self._tensors[name].array().astype(np.float32)

    def embedding(self, tokens: np.ndarray) -> np.ndarray:
        """Rows of the embedding, float32 [..., hidden]; only these are read."""
        tensor = self._tensors[EMBEDDING]
        width = {"F16": 2, "BF16": 2, "F32": 4}[tensor.dtype] * self.config.hidden
        rows = np.asarray(tensor.data.reshape(self.config.vocab, width)[tokens])
        return RawTensor(tensor.dtype, (*np.shape(tokens), self.config.hidden), rows.reshape(-1)).array().astype("f4")
