"""``seedlm run``: a language model writes, its linear layers on the reference or on the simulated accelerator."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from seedlm.arguments import add_codec_arguments, add_memory_argument, matrices_of, positive
from seedlm.console import Console
from seedlm.golden.errors import SeedLMError

if TYPE_CHECKING:
    import numpy as np

    from seedlm.encoder.packed_model import PackedModel
    from seedlm.golden.codecs import Codec
    from seedlm.host.checkpoint import Checkpoint
    from seedlm.host.engines import Usage
    from seedlm.host.models import Model
    from seedlm.host.sampling import Sampler
    from seedlm.sim.memory import Memory

NAME = "run"
SUMMARY = "let a language model write, on the reference or on the simulated accelerator"
DESCRIPTION = """\
Continue a text with a language model in a Hugging Face directory (config.json, model.safetensors or
its shards, tokenizer.json), plain or as seedlm compress wrote it; the architectures are listed in
docs/models.md. Every linear layer of every token is a product with compressed weights and FP16
activations; norms, attention and sampling are computed in FP32. The first run with a codec
compresses a plain model, as seedlm compress does; later runs find the packed file in the cache (see
seedlm --help), by the content of the weights.
"""
EXAMPLES = """\
examples:
  seedlm run models/tiny-python --prompt 'def main('
  seedlm run models/tiny-python --prompt 'import ' --engine rtl --codec seedlm4 --tokens 16
  seedlm run models/tiny-python --prompt 'class ' --temperature 0.7 --seed 3

engines:
  reference  the exact product in NumPy
  rtl        the accelerator's Verilog, weights in the simulated memory: the same logits, bit for bit
  float32    the original weights in FP32, no accelerator: what the model would say uncompressed
"""
ENGINES = ("reference", "rtl", "float32")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL", type=Path,
        help="Hugging Face directory of a model, plain or packed; or the weights' file in it",
    )  # fmt: skip
    parser.add_argument("--prompt", metavar="TEXT", default="", help="what the text begins with (default: nothing)")
    parser.add_argument("--tokens", metavar="N", type=positive, default=32, help="how many to add (default: 32)")
    parser.add_argument("--engine", choices=ENGINES, default="reference", help="what multiplies (default: reference)")
    add_codec_arguments(parser)
    add_memory_argument(parser, "of engine rtl; ")
    parser.add_argument(
        "--no-fp16", action="store_true",
        help="of engine rtl: no comparison with FP16 weights (saves compiling their simulation)",
    )  # fmt: skip
    parser.add_argument(
        "--temperature", metavar="T", type=temperature_argument, default=0.0,
        help="0: always the most likely token (default); 1: sample from the model's distribution",
    )  # fmt: skip
    parser.add_argument(
        "--seed", metavar="S", type=seed_argument, default=0, help="of the sampling, 0 or more (default: 0)"
    )


def temperature_argument(text: str) -> float:
    """A number of 0 or more."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of 0 or more, not {text!r}")
    return value


def seed_argument(text: str) -> int:
    """An integer of 0 or more."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"expected an integer of 0 or more, not {text!r}")
    return int(text)


@dataclass
class Generated:
    """One text.

    Attributes
    ----------
    prompt : list of int
        Its tokens, the one that begins every text included.
    tokens : list of int
        What was added.
    stopped : str
        Why: ``tokens`` (as many as were asked for), ``end`` (the model ended the text) or ``context`` (it is full).
    usage : list of Usage
        Engine rtl: of the prompt and of every token after the first.
    """

    prompt: list[int]
    tokens: list[int] = field(default_factory=list)
    stopped: str = "tokens"
    usage: list[Usage] = field(default_factory=list)


def generate(model: Model, prompt: list[int], count: int, sampler: Sampler, into: Generated) -> Iterator[int]:
    """Tokens one by one, as they are found; the last of a text that the model ends is not given."""
    cache, step = model.cache(), prompt
    usage = getattr(model.engine, "usage", None)
    while True:
        logits: np.ndarray = model.logits(step, cache, last=True)[0]
        if usage:
            into.usage.append(usage())
        token = sampler(logits)
        if token in model.config.eos:
            into.stopped = "end"
            return
        into.tokens.append(token)
        yield token
        if len(into.tokens) == count:
            return
        if cache.length == model.config.context:
            into.stopped = "context"
            return
        step = [token]


def run(args: argparse.Namespace, console: Console) -> int:
    from seedlm.host.checkpoint import Checkpoint
    from seedlm.host.engines import FloatEngine, ReferenceEngine
    from seedlm.host.text import open_text

    checkpoint = Checkpoint(args.model)
    config = checkpoint.config
    text = open_text(checkpoint.folder, config)
    try:
        args.prompt.encode()
    except UnicodeEncodeError as error:
        raise SeedLMError("--prompt is not UTF-8") from error
    prompt = ([] if config.bos is None else [config.bos]) + text.encode(args.prompt)
    if not prompt:
        raise SeedLMError(f"{args.model}: has no token that begins a text: --prompt must not be empty")
    if len(prompt) > config.context:
        raise SeedLMError(f"--prompt has {len(prompt)} tokens: the model's context has room for {config.context}")

    if args.engine == "float32":
        return _write(args, console, checkpoint, text, FloatEngine(checkpoint.linear), prompt)
    packed = matrices_of(checkpoint, args, console)
    if args.engine == "rtl":
        return _run_rtl(args, console, checkpoint, text, packed, prompt)
    engine = ReferenceEngine(packed.__getitem__, packed.weights)
    return _write(args, console, checkpoint, text, engine, prompt, packed)


def _run_rtl(args, console: Console, checkpoint: Checkpoint, text, packed: PackedModel, prompt: list[int]) -> int:
    """On the simulated accelerator: one for each codec, until a build has several."""
    from contextlib import ExitStack

    from seedlm.golden.build import Config
    from seedlm.host.engines import AcceleratorEngine
    from seedlm.sim.accelerator import Accelerator

    console.hint("preparing the simulation (compiled once for each codec, then kept)")
    with ExitStack() as stack:
        builds = [Accelerator(Config(codec=codec), memory=args.memory) for codec in packed.codecs]
        accelerators = [stack.enter_context(build) for build in builds]
        with console.progress("loading the simulated memory", packed.weights, "{:,.0f} weights".format) as advance:
            engine = AcceleratorEngine(accelerators, packed, advance)
        memory = accelerators[0].simulation.memory
        return _write(args, console, checkpoint, text, engine, prompt, packed, memory)


def _write(args, console: Console, checkpoint: Checkpoint, text, engine, prompt: list[int],
           packed: PackedModel | None = None, memory: Memory | None = None) -> int:  # fmt: skip
    """Generate, show the text as it comes, report."""
    from seedlm.host.models import language_model
    from seedlm.host.sampling import Sampler

    shown = False

    def show(part: str) -> None:
        nonlocal shown
        if console.talks and part:
            shown = True  # an interrupt may come while it is written
            console.write(part)

    model = language_model(checkpoint, engine)
    out, stream, parts = Generated(prompt), text.stream(prompt), []
    started = time.perf_counter()
    try:
        show(args.prompt)
        for token in generate(model, prompt, args.tokens, Sampler(args.temperature, args.seed), out):
            parts.append(stream.add(token))
            show(parts[-1])
        parts.append(stream.end())
        show(parts[-1])
    finally:
        if shown:  # what follows begins on a line of its own
            show("\n")
    seconds = time.perf_counter() - started
    report = {
        "model": str(args.model),
        "engine": args.engine,
        "codec": ", ".join(codec.name for codec in packed.codecs) if packed else None,
        "encoder": packed.encoder if packed else None,
        "prompt": args.prompt,
        "prompt_tokens": len(prompt),
        "text": "".join(parts),
        "tokens": out.tokens,
        "stopped": out.stopped,
        "temperature": args.temperature,
        "seed": args.seed,
        "seconds": round(seconds, 3),
        "clipped_activations": getattr(getattr(engine, "activations", None), "clipped", 0),
        "status": "ok",
    }
    if memory is not None:
        report["memory"] = memory.name
        report["rtl"] = _cost(checkpoint, out, memory, packed.codecs, args, console)
    console.json(report)
    _print(report, console)
    return 0


def _cost(checkpoint: Checkpoint, out: Generated, memory: Memory, codecs: list[Codec], args, console: Console) -> dict:
    """Cycles per token, and what they mean beside binary16 weights."""
    from seedlm.golden.codecs import BASELINE, CODECS
    from seedlm.project import measured_step
    from seedlm.sim.timing import layer_products

    steps = out.usage[1:]
    cost: dict = {
        "clock_mhz": memory.clock_mhz,
        "prompt_cycles": out.usage[0].cycles,
        "token_cycles": [usage.cycles for usage in steps],
        "token_efficiency": [usage.efficiency for usage in steps],
    }
    products = layer_products(checkpoint.config)
    if steps:
        cycles = sum(usage.cycles for usage in steps) / len(steps)
        beats = sum(usage.data_beats for usage in steps) / len(steps)
    elif len(codecs) > 1:
        return cost  # the prompt gave the only token, and a step has no single codec to measure it with
    else:  # the prompt gave the only token: measure a step of its own
        step = measured_step(products, codecs[0], memory, console)
        cycles, beats = step.cycles, step.data_beats
    cost |= {
        "cycles_per_token": cycles,
        "efficiency": beats / cycles,
        "tokens_per_second": memory.clock_mhz * 1e6 / cycles,
    }
    if args.no_fp16:
        return cost
    baseline = measured_step(products, CODECS[BASELINE], memory, console)
    return cost | {
        "fp16": {
            "cycles_per_token": baseline.cycles,
            "efficiency": baseline.efficiency,
            "tokens_per_second": memory.clock_mhz * 1e6 / baseline.cycles,
        },
        "speedup": baseline.cycles / cycles,
    }


def _print(report: dict, console: Console) -> None:
    count = len(report["tokens"])
    what = "original weights, float32" if report["codec"] is None else f"{report['codec']}, {report['engine']}"
    why = {"tokens": "", "end": "; the model ended the text", "context": "; the model's context is full"}
    speed = f" ({count / report['seconds']:.1f} per second)" if report["seconds"] else ""
    console.print(f"\n{what}: {count} tokens in {report['seconds']:.1f} s{speed}{why[report['stopped']]}")
    if report["clipped_activations"]:
        console.print(f"{report['clipped_activations']} activations were beyond FP16 and became +-65504")
    cost = report.get("rtl")
    if not cost:
        return
    each = cost["token_cycles"]
    spread = f", {min(each):,} to {max(each):,} each for the tokens after" if each else ""
    console.print(f"cycles of the linear layers, {report['memory']} memory: {cost['prompt_cycles']:,} for the"
                  f" prompt of {report['prompt_tokens']} tokens{spread}")  # fmt: skip
    if "cycles_per_token" not in cost:
        return
    console.print(f"a token on average, {cost['clock_mhz']:g} MHz:")
    rows = [(report["codec"], cost, cost.get("speedup"))]
    if "fp16" in cost:
        rows.append(("fp16", cost["fp16"], 1.0))
    console.table(
        ("<codec", "cycles", "of the memory's peak", "tokens/s", "speed-up"),
        [
            (name, f"{c['cycles_per_token']:,.0f}", f"{c['efficiency']:.1%}", f"{c['tokens_per_second']:,.0f}",
             "" if speedup is None else f"{speedup:.2f}")
            for name, c, speedup in rows
        ],
    )  # fmt: skip
