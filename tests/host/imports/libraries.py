"""Quantised layers by the formats' own libraries: ``python -m tests.host.imports.libraries [--write]``.

Without ``--write`` they are compared with those that are stored, which `tests/host/imports/test_libraries.py` imports.
Needs torch, transformers and accelerate, and, installed with ``pip install --no-deps``, compressed-tensors 0.20.0,
autoawq 0.2.9, auto-gptq 0.7.1 and gptqmodel 2.1.0 with logbar (these with ``--no-build-isolation``, the last with
``BUILD_CUDA_EXT=0``). But for the first only the modules that pack are loaded: the rest of them wants more packages,
and a transformers of their time.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from compressed_tensors.compressors.pack_quantized import PackedQuantizationCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

from seedlm.golden.files.tensors import RawTensor, TensorFile, write_tensors
from tests.host.imports.packers import random_numbers, weights

STORED = Path(__file__).parent / "stored"
LAYER, EXPECTED = "model.layer", "expected"
ROWS, COLS, GROUP = 32, 64, 32


def bare(*names: str) -> None:
    """Packages whose own first lines are not run."""
    for name in names:
        module = ModuleType(name)
        module.__path__ = list(importlib.util.find_spec(name).submodule_search_locations)
        sys.modules[name] = module


bare("awq", "awq.modules", "awq.modules.linear", "awq.utils", "auto_gptq", "auto_gptq.nn_modules",
     "auto_gptq.nn_modules.qlinear", "gptqmodel", "gptqmodel.adapter", "gptqmodel.models", "gptqmodel.nn_modules",
     "gptqmodel.utils")  # fmt: skip
sys.modules["gptqmodel.utils"].BACKEND = importlib.import_module("gptqmodel.utils.backend").BACKEND

from auto_gptq.nn_modules.qlinear.qlinear_cuda_old import QuantLinear  # noqa: E402
from awq.modules.linear.gemm import WQLinear_GEMM  # noqa: E402
from awq.utils.packing_utils import dequantize_gemm  # noqa: E402
from gptqmodel.nn_modules.qlinear.torch import TorchQuantLinear  # noqa: E402


def linear(values: np.ndarray) -> torch.nn.Linear:
    """A layer with these weights, whose packing must give back the codes that they were made from."""
    layer = torch.nn.Linear(values.shape[1], values.shape[0], bias=False, dtype=torch.float64)
    layer.weight.data = torch.from_numpy(values.copy())
    return layer


def numbers(seed: int, **options) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    q, z, s = random_numbers(np.random.default_rng(seed), ROWS, COLS, GROUP, **options)
    return q, z, np.abs(s) + np.float16(0.001)  # what quantisers make


def awq() -> tuple[dict, dict, np.ndarray]:
    q, z, s = numbers(51)
    scales, zeros = torch.from_numpy(s.T.astype(np.float64)), torch.from_numpy(z.T.astype(np.float64))
    made = WQLinear_GEMM.from_linear(linear(weights(q, z, s, GROUP)), 4, GROUP, scales=scales, zeros=zeros)
    parts = {"qweight": made.qweight, "qzeros": made.qzeros, "scales": made.scales}
    # The library's own values before their rounding to FP16: from scales in float64.
    expected = dequantize_gemm(made.qweight, made.qzeros, made.scales.double(), 4, GROUP).T
    said = {"quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": True, "version": "gemm"}
    return said, parts, expected.numpy()


def gptq(sym: bool, bits: int = 4) -> tuple[dict, dict, np.ndarray]:
    middle = 1 << bits - 1
    q, z, s = numbers(52, bits=bits, zeros=(middle, middle) if sym else (1, 15))
    made = QuantLinear(bits, GROUP, COLS, ROWS, False, weight_dtype=torch.float64)
    scales, zeros = (torch.from_numpy(array.astype(np.float64)) for array in (s, z))
    made.pack(linear(weights(q, z, s, GROUP)), scales, zeros, None)
    parts = {name: getattr(made, name) for name in ("qweight", "qzeros", "g_idx")} | {"scales": made.scales.half()}
    # A unit matrix comes out as the weights.
    expected = made(torch.eye(COLS, dtype=torch.float64)).T
    said = {"quant_method": "gptq", "bits": bits, "group_size": GROUP, "sym": sym, "desc_act": False}
    return said, parts, expected.detach().numpy()


def gptq_v2() -> tuple[dict, dict, np.ndarray]:
    q, z, s = numbers(54)
    made = TorchQuantLinear(bits=4, group_size=GROUP, sym=False, desc_act=False, in_features=COLS, out_features=ROWS)
    scales, zeros = (torch.from_numpy(array.astype(np.float64)) for array in (s, z))
    made.pack(linear(weights(q, z, s, GROUP)), scales, zeros)
    parts = {name: getattr(made, name) for name in ("qweight", "qzeros", "g_idx", "scales")}
    made.optimized = True  # compiles nothing
    made.post_init()
    made.scales = made.scales.double()
    said = {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "sym": False, "desc_act": False,
            "checkpoint_format": "gptq_v2"}  # fmt: skip
    return said, parts, made.dequantize_weight().T.numpy()


def compressed(bits: int, symmetric: bool, strategy: str) -> tuple[dict, dict, np.ndarray]:
    cols = 43 if strategy == "channel" else COLS  # no whole words
    group = GROUP if strategy == "group" else None
    middle = 1 << bits - 1
    q, z, s = random_numbers(np.random.default_rng(53), ROWS - 3, cols, group or cols, bits=bits)
    s = np.ldexp(np.round(np.ldexp(np.abs(s.astype(np.float64)) + 0.002, 14)), -14)  # BF16 holds what is below 2^-6
    s = np.minimum(s, 255 / (1 << 14))
    z = np.full_like(z, middle) if symmetric else z
    settings = {"num_bits": bits, "symmetric": symmetric, "strategy": strategy, "group_size": group}
    scheme = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**settings))
    state = {"weight": torch.from_numpy(weights(q, z, s, group or cols)), "weight_scale": torch.from_numpy(s),
             "weight_zero_point": torch.from_numpy(z - middle).to(torch.int8)}  # fmt: skip
    made = PackedQuantizationCompressor.compress(state, scheme)
    expected = PackedQuantizationCompressor.decompress(made, scheme)["weight"].numpy()
    group_0 = json.loads(scheme.model_dump_json())
    said = {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {"group_0": group_0},
            "quantization_status": "compressed"}  # fmt: skip
    return said, made | {"weight_scale": made["weight_scale"].bfloat16()}, expected


CASES = {
    "awq": awq,
    "gptq": lambda: gptq(False),
    "gptq-symmetric": lambda: gptq(True),
    "gptq-v2": gptq_v2,
    "gptq-8": lambda: gptq(True, 8),
    "compressed": lambda: compressed(4, False, "group"),
    "compressed-symmetric": lambda: compressed(4, True, "group"),
    "compressed-channel": lambda: compressed(4, False, "channel"),
    "compressed-8": lambda: compressed(8, True, "group"),
}


def raw(tensor: torch.Tensor) -> RawTensor:
    if tensor.dtype == torch.bfloat16:
        return RawTensor.from_array(tensor.float().numpy(), "BF16")
    return RawTensor.from_array(tensor.detach().numpy())


def main(write: bool) -> int:
    STORED.mkdir(exist_ok=True)
    different = []
    for name, make in CASES.items():
        said, parts, values = make()
        assert np.array_equal(values.astype(np.float32), values), f"{name}: the weights are more than binary32 holds"
        tensors = {f"{LAYER}.{part}": raw(tensor) for part, tensor in parts.items()}
        tensors[EXPECTED] = RawTensor.from_array(values.astype(np.float32))
        path = STORED / f"{name}.safetensors"
        if write:
            write_tensors(path, tensors, {"quantization_config": json.dumps(said)})
        stored = TensorFile(path)
        same = stored.tensors.keys() == tensors.keys() and json.loads(stored.metadata["quantization_config"]) == said
        same = same and all(np.array_equal(tensors[n].data, stored.raw(n).data) for n in tensors)
        print(f"{name}: {'as stored' if same else 'DIFFERENT'}, {path.stat().st_size} bytes")
        different += [] if same else [name]
    return int(bool(different))


if __name__ == "__main__":
    sys.exit(main("--write" in sys.argv[1:]))
