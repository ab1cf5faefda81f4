"""``seedlm import``: a model that another program has quantised to packed files, bit for bit."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from seedlm.console import Console, by, human_bytes, human_time

if TYPE_CHECKING:
    from seedlm.golden.files.packed import TensorInfo
    from seedlm.host.imports import Quantised

NAME = "import"
SUMMARY = "take over a model that another program has quantised, bit for bit"
DESCRIPTION = """\
Write a model that is quantised already as a packed model, without quantising anew: every weight is
what the other program's numbers stand for, (q - z) * s as a real number. What is taken:

  AWQ                  4 bits, version gemm
  GPTQ                 4 bits, checkpoint formats gptq and gptq_v2, g_idx in order; 8 bits, symmetric
  compressed-tensors   pack-quantized: 4 bits, symmetric or not; 8 bits, symmetric
  GGUF                 tensors of types Q4_0, Q8_0 and MXFP4, beside F32, F16 and BF16

What cannot be expressed exactly (other types and bits, columns in another order, scales that are no
binary16) is refused, with the names of the tensors and the reason. Everything else of the model,
norms, biases, an embedding, matrices that are not quantised, tokenizer and configuration, is copied.

IN is a Hugging Face folder, the index of a sharded model, a safetensors file beside its config.json,
or a GGUF file. OUT is a folder of packed files, or a packed file if IN is one safetensors file; it is
what seedlm compress would write, for run, evaluate, info, decompress and sim.
"""
EXAMPLES = """\
examples:
  seedlm import Qwen2.5-7B-Instruct-AWQ packed
  seedlm import Llama-2-7B-GPTQ packed --json
  seedlm import model.Q8_0.gguf packed
  seedlm info packed
  seedlm run packed --prompt 'Once' --engine reference
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "input", metavar="IN", type=Path, help="folder, *.index.json, safetensors file beside its config.json, or GGUF"
    )
    parser.add_argument("output", metavar="OUT", type=Path, help="folder of packed files, or packed file, to write")


def run(args: argparse.Namespace, console: Console) -> int:
    from seedlm.golden.files.sources import require_output
    from seedlm.host.importing import write_quantised
    from seedlm.host.imports import open_quantised

    started = time.perf_counter()
    model = open_quantised(args.input)
    require_output(args.output, model.source)
    with console.progress("importing", model.weights, "{:,.0f} weights".format) as advance:
        infos = write_quantised(model, args.output, advance)
    report = _report(args, model, infos) | {"seconds": round(time.perf_counter() - started, 3), "status": "ok"}
    console.json(report)
    _print(report, model, console)
    return 0


def _report(args: argparse.Namespace, model: Quantised, infos: dict[str, TensorInfo]) -> dict:
    source = model.source
    bits = {name: info.codec.stored_bits(*info.shape) for name, info in infos.items()}
    shards = {name: shard for shard, some in model.matrices.items() for name in some}
    paths = [args.output / shard if source.folder else args.output for shard in source.shards]
    return {
        "input": str(args.input),
        "output": str(args.output),
        "form": model.form,
        "tensors": {
            name: {
                "codec": info.codec.name,
                "shape": list(info.plain_shape),
                "transposed": info.transposed,
                "bits_per_weight": bits[name] / (info.shape[0] * info.shape[1]),
                "shard": shards[name],
            }
            for name, info in infos.items()
        },
        "codecs": list(dict.fromkeys(info.codec.name for info in infos.values())),
        "copied": [name for some in model.other.values() for name in some],
        "remarks": list(model.remarks),
        "shards": list(source.shards),
        "files_copied": source.copied,
        "files_left_out": [path.name for path in source.left_out],
        "weights": model.weights,
        "bits_per_weight": sum(bits.values()) / model.weights,
        "input_bytes": source.bytes,
        "output_bytes": sum(path.stat().st_size for path in paths),
    }


def _print(report: dict, model: Quantised, console: Console) -> None:
    console.table(
        ("<tensor", "shape", "<codec", "bits/weight"),
        [(name, by(t["shape"]), t["codec"], f"{t['bits_per_weight']:.3f}") for name, t in report["tensors"].items()],
    )
    console.print()
    console.print(
        f"{report['output']}: {len(report['tensors'])} tensors, {report['weights']:,} weights of {report['form']} in"
        f" {', '.join(report['codecs'])}: {report['bits_per_weight']:.3f} bits per weight, none rounded"
    )
    before, after = human_bytes(report["input_bytes"]), human_bytes(report["output_bytes"])
    console.print(f"{before} -> {after}; {len(report['copied'])} other tensors copied; {human_time(report['seconds'])}")
    if report["files_copied"]:
        console.print(f"copied: {', '.join(report['files_copied'])}")
    for line in filter(None, (*report["remarks"], model.source.remark)):
        console.print(line)
