"""Models that another program has quantised already: their scales and packed integers are not weights.

Compressing them again would take the 2-D scales of FP8, GPTQ, AWQ and the like for weights, and copy the weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from seedlm.golden.files.tensors import RawTensor

__all__ = ["KEYS", "quantised_config", "quantised_tensor"]

# Keys of config.json under which programs say how they quantised a model.
KEYS = ("quantization_config", "compression_config")
# The last part of a tensor's name, and the methods whose files have such tensors; the surest first.
_PARTS = {
    "g_idx": "GPTQ",
    "qweight": "GPTQ or AWQ",
    "qzeros": "GPTQ or AWQ",
    "weight_scale_inv": "FP8",
    "weight_packed": "compressed-tensors",
    "weight_zero_point": "compressed-tensors",
    "weight_scale_2": "ModelOpt NVFP4",
    "weight_scale": "compressed-tensors or ModelOpt",
    "absmax": "bitsandbytes",
    "nested_absmax": "bitsandbytes",
    "quant_map": "bitsandbytes",
    "nested_quant_map": "bitsandbytes",
    "SCB": "bitsandbytes",
    "weight_format": "bitsandbytes",
    "W_q": "HQQ",
    "q_weight": "EXL2",
    "Qidxs": "QuIP#",
}
# Where only the end of the last part is fixed.
_ENDS = {"bitsandbytes__nf4": "bitsandbytes", "bitsandbytes__fp4": "bitsandbytes", "proj_blocks": "MXFP4"}
_SMALL_FLOATS = ("F8_", "F6_", "F4")
_INTEGERS = ("I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64")


def quantised_config(config: Mapping[str, Any]) -> str:
    """The method by which a config.json says that its model is quantised, and where it says so; else empty."""
    for key in KEYS:
        if said := config.get(key):
            method = said.get("quant_method") if isinstance(said, Mapping) else None
            return f"{method or 'an unnamed method'} ({key!r})"
    return ""


def quantised_tensor(tensors: Mapping[str, RawTensor]) -> str:
    """The method by which a model's tensors show that it is quantised, and the tensor; else empty.

    A name that only quantisers use says most. Else a matrix called weight gives itself away if it is not of floating
    numbers of at least 16 bits.
    """
    parts = {re.split(r"[./]", name)[-1]: name for name in reversed(tensors)}
    for part, method in _PARTS.items():
        if part in parts:
            return f"{method} (tensor {parts[part]!r})"
    for part, name in parts.items():
        if method := next((method for end, method in _ENDS.items() if part.endswith(end)), ""):
            return f"{method} (tensor {name!r})"
    for name, tensor in tensors.items():
        if re.split(r"[./]", name)[-1] == "weight" and len(tensor.shape) > 1:
            if tensor.dtype.startswith(_SMALL_FLOATS) or tensor.dtype in _INTEGERS:
                return f"numbers of type {tensor.dtype} (tensor {name!r})"
    return ""
