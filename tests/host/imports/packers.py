"""Quantised models as other programs store them, packed here a second time: one number after the other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from seedlm.golden.files.tensors import RawTensor, write_tensors
from tests.host.tiny_llama import CONFIG, tensors

# A Llama whose rows are whole groups of 32 and not always of 128.
SIZES = {
    "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 1, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16,
}  # fmt: skip
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)

Numbers = tuple[np.ndarray, np.ndarray, np.ndarray]  # q [rows, cols], z and s [rows, groups]
Packer = Callable[..., dict[str, np.ndarray]]


def random_numbers(rng: np.random.Generator, rows: int, cols: int, group: int, *, bits: int = 4,
                   zeros: tuple[int, int] = (0, 15)) -> Numbers:  # fmt: skip
    """Codes, zero points from a range, and binary16 scales: small ones, and now and then a subnormal or a negative."""
    groups = -(-cols // group)
    q = rng.integers(0, 1 << bits, (rows, cols))
    z = rng.integers(zeros[0], zeros[1] + 1, (rows, groups))
    s = (rng.uniform(0.08, 0.8, (rows, groups)) / (1 << bits)).astype(np.float16)
    s[rng.random(s.shape) < 0.02] = np.float16(3e-7)
    s[rng.random(s.shape) < 0.02] *= -1
    return q, z, s


def weights(q: np.ndarray, z: np.ndarray, s: np.ndarray, group: int) -> np.ndarray:
    """(q - z) * s, as real numbers: float64 holds every one of them."""
    chosen = np.arange(q.shape[1]) // group
    return (q - z[:, chosen]) * s[:, chosen].astype(np.float64)


def word(codes: list[int], bits: int) -> int:
    """Fields of a 32-bit word, the first in the lowest bits."""
    out = 0
    for place, code in enumerate(codes):
        out |= int(code) << bits * place
    return out


def words(rows: list[list[int]]) -> np.ndarray:
    return np.array(rows, dtype=np.uint32).view(np.int32)


def awq(q: np.ndarray, z: np.ndarray, s: np.ndarray, group: int) -> dict[str, np.ndarray]:
    """AWQ, gemm: a word is eight outputs of one input, or of one group."""

    def along_outputs(numbers: np.ndarray) -> np.ndarray:
        rows = len(numbers)
        return words([
            [word([numbers[first + place, i] for place in AWQ_ORDER], 4) for first in range(0, rows, 8)]
            for i in range(numbers.shape[1])
        ])  # fmt: skip

    return {"qweight": along_outputs(q), "qzeros": along_outputs(z), "scales": np.ascontiguousarray(s.T)}


def gptq(q: np.ndarray, z: np.ndarray, s: np.ndarray, group: int, *, bits: int = 4, less: int = 1) -> dict:
    """GPTQ: a word is some inputs of one output; zero points `less` one, some outputs of one group."""
    per = 32 // bits
    rows, cols = q.shape
    qweight = [[word(q[row, first : first + per], bits) for row in range(rows)] for first in range(0, cols, per)]
    stored, groups = z - less, range(z.shape[1])
    qzeros = [[word(stored[first : first + per, g], bits) for first in range(0, rows, per)] for g in groups]
    order = np.array([column // group for column in range(cols)], dtype=np.int32)
    return {"qweight": words(qweight), "qzeros": words(qzeros), "scales": np.ascontiguousarray(s.T), "g_idx": order}


def compressed(q: np.ndarray, z: np.ndarray | None, s: np.ndarray, group: int, *, bits: int = 4) -> dict:
    """compressed-tensors, pack-quantized: a word is some inputs of one output; of zero points some outputs."""
    per = 32 // bits
    rows, cols = q.shape
    out = {
        "weight_packed": words([[word(q[row, i : i + per], bits) for i in range(0, cols, per)] for row in range(rows)]),
        "weight_scale": s,
        "weight_shape": np.array([rows, cols], dtype=np.int64),
    }
    if z is not None:
        groups = range(z.shape[1])
        out["weight_zero_point"] = words([[word(z[i : i + per, g], bits) for g in groups] for i in range(0, rows, per)])
    return out


def write_layers(folder: Path, layers: dict[str, dict[str, np.ndarray | RawTensor]], said: dict | None,
                 more: dict | None = None, config: dict | None = None) -> Path:  # fmt: skip
    """A folder with quantised layers and other tensors, and a config.json that says how."""
    folder.mkdir(parents=True, exist_ok=True)
    content = dict(config or {}) | ({"quantization_config": said} if said else {})
    (folder / "config.json").write_text(json.dumps(content))
    stored = {f"{layer}.{part}": array for layer, parts in layers.items() for part, array in parts.items()}
    stored |= more or {}
    made = {n: a if isinstance(a, RawTensor) else RawTensor.from_array(a) for n, a in stored.items()}
    write_tensors(folder / "model.safetensors", made, {"format": "pt"})
    return folder


def write_model(folder: Path, rng: np.random.Generator, pack: Packer, said: dict, group: int, *,
                zeros: tuple[int, int] = (0, 15), bits: int = 4) -> tuple[Path, dict[str, np.ndarray]]:  # fmt: skip
    """A tiny Llama whose linear layers are quantised; its folder, and all weights as float64."""
    config = CONFIG | SIZES
    layers, more, all_weights = {}, {}, {}
    for name, array in tensors(config, rng).items():
        layer = name.removesuffix(".weight")
        if array.ndim == 1 or "proj" not in name:
            more[name] = array.astype(np.float16)
            all_weights[name] = more[name].astype(np.float64)
            continue
        numbers = random_numbers(rng, *array.shape, group, bits=bits, zeros=zeros)
        layers[layer] = pack(*numbers, group)
        all_weights[name] = weights(*numbers, group)
    return write_layers(folder, layers, said, more, config), all_weights
