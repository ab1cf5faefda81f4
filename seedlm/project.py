"""``seedlm project``: what a large model would do on the accelerator, from cycles measured per layer shape."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from seedlm.arguments import CODEC_HELP, add_memory_argument, codec_argument
from seedlm.console import Console, human_bytes
from seedlm.golden.codecs import CODECS, Codec
from seedlm.golden.errors import SeedLMError

if TYPE_CHECKING:
    from seedlm.golden.build import Config
    from seedlm.host.models import ModelConfig
    from seedlm.sim.memory import Memory
    from seedlm.sim.timing import Products, Step

NAME = "project"
SUMMARY = "project a large model's speed from measured layer shapes"
DESCRIPTION = """\
Run the products of one decoding step of a language model on the simulated accelerator, a layer shape
at a time, and add up: cycles and tokens per second for each DDR3 channel, the memory for the
weights, and the speed-up over FP16 weights on the same accelerator.

Cycle counts do not depend on the weights, so none are needed. Every shape is measured once and
kept in the cache (see seedlm --help). Large shapes take minutes; --quick measures them on fewer
rows, twice, and continues in a straight line.
"""
EXAMPLES = """\
examples:
  seedlm project Llama-2-7B --quick
  seedlm project Llama-3-70B --quick --codec seedlm4
  seedlm project path/to/config.json --memory ideal --json

Counted are the linear layers and the output matrix, one text at a time. Norms, attention and its
cache of keys and values are the host's and take no time here.
"""

_BASE = {"architectures": ["LlamaForCausalLM"], "hidden_act": "silu"}
MODELS: dict[str, dict] = {
    "Llama-2-7B": {
        **_BASE, "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 4096,
    },
    "Llama-3-8B": {
        **_BASE, "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 8192,
    },
    "Llama-3-70B": {
        **_BASE, "vocab_size": 128256, "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80,
        "num_attention_heads": 64, "num_key_value_heads": 8, "max_position_embeddings": 8192,
    },
}  # fmt: skip
BASELINE = "fp16"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help=f"a config.json, a GGUF file, or one of {', '.join(MODELS)}")
    parser.add_argument(
        "--codec", type=codec_argument, action="append", default=[],
        help=f"only these beside fp16; may be given several times: {CODEC_HELP} (default: all of them)",
    )  # fmt: skip
    add_memory_argument(parser)
    parser.add_argument("--quick", action="store_true", help="measure large shapes on fewer rows and extrapolate")


def model_config(name: str) -> ModelConfig:
    """The dimensions of a known model, or from a config.json or a file that says them itself.

    Raises
    ------
    SeedLMError
        No such model and no such file, or an architecture that is not there.
    """
    from seedlm.golden.files.json_files import read_json
    from seedlm.host import models
    from seedlm.host.formats import format_of

    known = {known.lower(): config for known, config in MODELS.items()}
    if name.lower() in known:
        return models.model_config(known[name.lower()], name)
    path = Path(name)
    if path.is_dir():
        path /= "config.json"
    if not path.exists():
        raise SeedLMError(f"{name}: no such file: expected a config.json or one of {', '.join(MODELS)}")
    if form := format_of(path):
        source = form.open(path)
        return models.model_config(source.json("config.json") or {}, str(path))
    return models.model_config(read_json(path), str(path))


def memory_bytes(config: Config, shapes: Iterable[tuple[int, int]]) -> int:
    """Bytes of the images and row scales of matrices, in regions of whole pages."""
    from seedlm.host.regions import Allocator, region_sizes

    total = 0
    for rows, cols in shapes:
        sizes, allocate = region_sizes(config, rows, cols), Allocator(0, 1 << 64)
        for name in ("weights", "scales"):
            allocate(sizes[name])
        total += allocate.next
    return total


def measured_step(
    products: list[Products], codec: Codec, memory: Memory, console: Console, *, quick: bool = False
) -> Step:
    """The products of a decoding step on the default build for `codec`, with their progress shown."""
    from seedlm.golden.build import Config
    from seedlm.sim.timing import decode_step, weight_beats

    config = Config(codec=codec)
    with console.progress(f"measuring {codec.name}", weight_beats(config, products)) as advance:
        return decode_step(products, config, memory, quick=quick, advance=advance)


def figures(step: Step, codec: Codec, clock_mhz: float, shapes: Iterable[tuple[int, int]]) -> dict:
    """The report for one codec; `shapes` are those of all matrices that lie in the memory."""
    from seedlm.golden.build import Config

    config = Config(codec=codec)
    size = memory_bytes(config, shapes)
    return {
        "codec": codec.name,
        "bits_per_weight": codec.bits_per_weight,
        "memory_bytes": size,
        "channels_needed": math.ceil(size / (1 << config.addr_bits)),
        "cycles": step.cycles,
        "efficiency": step.efficiency,
        "tokens_per_second": clock_mhz * 1e6 / step.cycles,
        "extrapolated": any(part.extrapolated for part in step.parts),
        "products": [
            {
                "name": part.products.name, "rows": list(part.products.rows), "cols": part.products.cols,
                "count": part.products.count, "cycles": part.measured.cycles, "efficiency": part.measured.efficiency,
                "extrapolated": part.extrapolated,
            }
            for part in step.parts
        ],
    }  # fmt: skip


def run(args: argparse.Namespace, console: Console) -> int:
    from seedlm.sim.memories import memory
    from seedlm.sim.timing import layer_products

    started = time.perf_counter()
    config, which = model_config(args.model), memory(args.memory)
    products, shapes = layer_products(config), config.linears().values()
    chosen = [codec for codec in args.codec or CODECS.values() if codec.name != BASELINE]
    console.hint("preparing simulations (compiled once for each codec, then kept)")
    rows = []
    for codec in (CODECS[BASELINE], *chosen):
        step = measured_step(products, codec, which, console, quick=args.quick)
        rows.append(figures(step, codec, which.clock_mhz, shapes))
    for row in rows:
        row["speedup"] = rows[0]["cycles"] / row["cycles"]
    report = {
        "model": args.model,
        "layers": config.layers,
        "weights": sum(rows * cols for rows, cols in shapes),
        "weights_per_token": sum(part.weights * part.count for part in products),
        "memory": which.name,
        "clock_mhz": which.clock_mhz,
        "channel_bytes": 1 << _address_bits(),
        "kv_cache_bytes_per_token": 2 * 2 * config.layers * config.kv_heads * config.head_dim,
        "rows": rows,
        "seconds": round(time.perf_counter() - started, 3),
        "status": "ok",
    }
    console.json(report)
    _print(report, console)
    return 0


def _address_bits() -> int:
    from seedlm.golden.build import Config

    return Config().addr_bits


def _print(report: dict, console: Console) -> None:
    some = report["weights_per_token"]
    chosen = f", {some:,} for a token" if some != report["weights"] else ""  # of experts only the chosen ones
    console.print(
        f"{report['model']}: {report['layers']} layers, {report['weights']:,} weights in linear layers{chosen};"
        f" one DDR3 channel, {report['memory']} memory, {report['clock_mhz']:g} MHz"
    )
    console.table(
        ("<codec", "bits/weight", "memory", "cycles/token", "of the peak", "tokens/s", "speed-up"),
        [
            (r["codec"], f"{r['bits_per_weight']:.2f}", human_bytes(r["memory_bytes"]), f"{r['cycles']:,}",
             f"{r['efficiency']:.2%}", f"{r['tokens_per_second']:.3f}", f"{r['speedup']:.3f}")
            for r in report["rows"]
        ],
    )  # fmt: skip
    console.print()
    first = report["rows"][0]
    console.table(
        ("<products", "<shape", "times", *(r["codec"] for r in report["rows"])),
        [
            (p["name"], f"{'+'.join(map(str, p['rows']))} x {p['cols']}", str(p["count"]),
             *(f"{r['products'][i]['cycles']:,}" for r in report["rows"]))
            for i, p in enumerate(first["products"])
        ],
    )  # fmt: skip
    if any(r["extrapolated"] for r in report["rows"]):
        console.print("--quick: large shapes were measured on fewer rows, twice, and continued in a straight line")
    channel = report["channel_bytes"]
    for row in report["rows"]:
        if row["channels_needed"] > 1:
            console.print(
                f"{row['codec']} needs {row['channels_needed']} channels of {human_bytes(channel)};"
                " with the rows spread over them each does its share of the cycles"
            )
