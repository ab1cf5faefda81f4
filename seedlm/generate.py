"""``seedlm run``: a language model writes, its linear layers on the reference or on the simulated accelerator."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from seedlm.arguments import (
    add_codec_arguments,
    add_memory_argument,
    add_preset_argument,
    matrices_of,
    not_negative,
    positive,
    share_argument,
    temperature_argument,
)
from seedlm.console import Console
from seedlm.golden.build import Config
from seedlm.golden.errors import SeedLMError

if TYPE_CHECKING:
    import numpy as np

    from seedlm.encoder.packed_model import PackedModel
    from seedlm.golden.codecs import Codec
    from seedlm.host.checkpoint import Checkpoint
    from seedlm.host.engines import Usage
    from seedlm.host.models import Model
    from seedlm.host.sampling import Sampler, Settings
    from seedlm.host.text import Text
    from seedlm.sim.memory import Memory

NAME = "run"
SUMMARY = "let a language model write, on the reference or on the simulated accelerator"
DESCRIPTION = """\
Continue a text with a language model in a Hugging Face directory (config.json, model.safetensors or
its shards, tokenizer.json), plain or as seedlm compress wrote it, or in a GGUF file; the
architectures are listed in docs/models.md. Every linear layer of every token is a product with
compressed weights and FP16 activations; norms, attention and sampling are computed in FP32. The first
run with a codec compresses a plain model, as seedlm compress does; later runs find the packed file in
the cache (see seedlm --help), by the content of the weights.

What generation_config.json says of sampling (where it has do_sample) and of the tokens that end a
text holds where no option says otherwise.
"""
EXAMPLES = """\
examples:
  seedlm run models/tiny-python --prompt 'def main('
  seedlm run models/tiny-python --prompt 'import ' --engine rtl --codec seedlm4 --tokens 16
  seedlm run models/tiny-python --prompt 'class ' --temperature 0.7 --seed 3
  seedlm run SmolLM2-135M-Instruct.Q4_1.gguf --chat --prompt 'What is a seed?' --tokens 64
  seedlm run DIR --prompts questions.txt --json

engines:
  reference  the exact product in NumPy
  rtl        the accelerator's Verilog, weights in the simulated memory: the same logits, bit for bit
  float32    the original weights in FP32, no accelerator: what the model would say uncompressed
"""
ENGINES = ("reference", "rtl", "float32")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL", type=Path,
        help="Hugging Face directory, plain or packed; the weights' file in it; or a GGUF file",
    )  # fmt: skip
    given = parser.add_mutually_exclusive_group()
    given.add_argument("--prompt", metavar="TEXT", default="", help="what the text begins with (default: nothing)")
    given.add_argument(
        "--prompts", metavar="FILE", type=Path, help="a text for each line of the file that is not empty, in UTF-8"
    )
    parser.add_argument(
        "--chat", action="store_true", help="a prompt is a message: write the answer, by the model's chat template"
    )
    parser.add_argument("--tokens", metavar="N", type=positive, default=32, help="how many to add (default: 32)")
    parser.add_argument("--engine", choices=ENGINES, default="reference", help="what multiplies (default: reference)")
    add_codec_arguments(parser)
    add_memory_argument(parser, "of engine rtl; ")
    add_preset_argument(parser)
    parser.add_argument(
        "--no-fp16", action="store_true",
        help="of engine rtl: no comparison with FP16 weights (saves compiling their simulation)",
    )  # fmt: skip
    parser.add_argument(
        "--check", action="store_true",
        help="of engine rtl: compare every result of every product with the reference, bit for bit, and stop at the"
        " first that differs",
    )  # fmt: skip
    parser.add_argument(
        "--temperature", metavar="T", type=temperature_argument,
        help="0: always the most likely token; 1: sample from the model's distribution (default: what the model's"
        " generation_config.json says, else 0)",
    )  # fmt: skip
    parser.add_argument(
        "--top-k", metavar="K", type=not_negative,
        help="sample from the K most likely tokens only, 0: from all (default: as the model says, else 0)",
    )  # fmt: skip
    parser.add_argument(
        "--top-p", metavar="P", type=share_argument,
        help="and from the most likely ones that together have probability P (default: as the model says, else 1)",
    )  # fmt: skip
    parser.add_argument(
        "--seed", metavar="S", type=not_negative, default=0, help="of the sampling, 0 or more (default: 0)"
    )


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


def generate(model: Model, prompt: list[int], count: int, sampler: Sampler, into: Generated,
             eos: tuple[int, ...] | None = None) -> Iterator[int]:  # fmt: skip
    """Tokens one by one, as they are found; the last of a text that the model ends is not given.

    Any of `eos` ends it (default: those of the model's configuration).
    """
    eos = model.config.eos if eos is None else eos
    cache, step = model.cache(), prompt
    usage = getattr(model.engine, "usage", None)
    while True:
        logits: np.ndarray = model.logits(step, cache, last=True)[0]
        if usage:
            into.usage.append(usage())
        token = sampler(logits)
        if token in eos:
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


@dataclass(frozen=True)
class Session:
    """What the texts of a run have in common.

    Parameters
    ----------
    args : argparse.Namespace
    console : Console
    checkpoint : Checkpoint
    text : Text
    settings : Settings
    prompts : list of (str, list of int)
        Each prompt with its tokens, those that begin every text included.
    """

    args: argparse.Namespace
    console: Console
    checkpoint: Checkpoint
    text: Text
    settings: Settings
    prompts: list[tuple[str, list[int]]]


def run(args: argparse.Namespace, console: Console) -> int:
    from seedlm.host.checkpoint import Checkpoint
    from seedlm.host.engines import FloatEngine, ReferenceEngine

    if args.check and args.engine != "rtl":
        raise SeedLMError(f"--check compares engine rtl with the reference: expected --engine rtl, not {args.engine}")
    checkpoint = Checkpoint(args.model)
    session = _session(args, console, checkpoint)
    if checkpoint.source.history:
        console.print(checkpoint.source.history)
    if args.engine == "float32":
        return _write(session, FloatEngine(checkpoint.linear))
    packed = matrices_of(checkpoint, args, console)
    if args.engine == "rtl":
        return _run_rtl(session, packed)
    return _write(session, ReferenceEngine(packed.__getitem__, group=_common_group(session, packed)), packed)


def _session(args: argparse.Namespace, console: Console, checkpoint: Checkpoint) -> Session:
    """The prompts and the settings, checked."""
    from seedlm.host.chat import ChatTemplate
    from seedlm.host.sampling import settings_of
    from seedlm.host.text import open_text

    config, source = checkpoint.config, checkpoint.source
    text, settings = open_text(source, config), settings_of(source, config)
    chosen = {"temperature": args.temperature, "top_k": args.top_k, "top_p": args.top_p}
    settings = replace(settings, **{name: value for name, value in chosen.items() if value is not None})
    chat = ChatTemplate(source) if args.chat else None
    if chat and (end := text.token(chat.eos)) is not None:
        settings = replace(settings, eos=(*settings.eos, end))
    prompts = []
    for prompt in _prompts(args):
        tokens = text.encode(chat.render(prompt)) if chat else text.begin + text.encode(prompt)
        if not tokens:
            raise SeedLMError(f"{args.model}: has no token that begins a text: --prompt must not be empty")
        if len(tokens) > config.context:
            raise SeedLMError(f"--prompt has {len(tokens)} tokens: the model's context has room for {config.context}")
        prompts.append((prompt, tokens))
    return Session(args, console, checkpoint, text, settings, prompts)


def _prompts(args: argparse.Namespace) -> list[str]:
    """The one prompt, or those of the file."""
    if args.prompts is None:
        try:
            args.prompt.encode()
        except UnicodeEncodeError as error:
            raise SeedLMError("--prompt is not UTF-8") from error
        return [args.prompt]
    try:
        lines = args.prompts.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise SeedLMError(f"{args.prompts}: cannot read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise SeedLMError(f"{args.prompts}: not UTF-8 at byte {error.start}") from error
    prompts = [line for line in (line.removesuffix("\r") for line in lines) if line.strip()]
    if not prompts:
        raise SeedLMError(f"{args.prompts}: has no prompt: expected one in each line")
    return prompts


def _run_rtl(session: Session, packed: PackedModel) -> int:
    """On a simulated accelerator that has all codecs of the model, or on several that have them together."""
    from contextlib import ExitStack

    from seedlm.host.engines import AcceleratorEngine, CheckedEngine, ReferenceEngine
    from seedlm.sim.accelerator import Accelerator

    console = session.console
    console.hint("preparing the simulation (compiled once for each build, then kept)")
    build = _common_build(session, packed)
    with ExitStack() as stack:
        builds = [build] if build else [Config(codec=codec) for codec in packed.codecs]
        accelerators = [stack.enter_context(Accelerator(one, memory=session.args.memory)) for one in builds]
        with console.progress("loading the simulated memory", packed.weights, "{:,.0f} weights".format) as advance:
            engine = AcceleratorEngine(accelerators, packed, advance)
        if session.args.check:
            reference = ReferenceEngine(packed.__getitem__, group=_common_group(session, packed))
            engine = CheckedEngine(engine, reference)
        return _write(session, engine, packed, accelerators[0].simulation.memory)


def _common_build(session: Session, packed: PackedModel) -> Config | None:
    """The build that all matrices run on: that of --preset, or one with their codecs; None if these have none."""
    if session.args.preset:
        return session.args.preset
    try:
        return Config(codec=packed.codecs[0], more=tuple(packed.codecs[1:]))
    except SeedLMError:  # such as steps of 12 columns beside steps of 8
        return None


def _common_group(session: Session, packed: PackedModel) -> int | None:
    """The columns of an activation group in all products; None: each codec has its own."""
    build = _common_build(session, packed)
    return build.group if build else None


def _write(session: Session, engine, packed: PackedModel | None = None, memory: Memory | None = None) -> int:
    """Generate, show each text as it comes, report."""
    from seedlm.host.models import language_model

    args, console, settings = session.args, session.console, session.settings
    model = language_model(session.checkpoint, engine)
    common = {
        "model": str(args.model),
        "engine": args.engine,
        "codec": ", ".join(codec.name for codec in packed.codecs) if packed else None,
        "encoder": packed.encoder if packed else None,
        "temperature": settings.temperature,
        "top_k": settings.top_k,
        "top_p": settings.top_p,
        "seed": args.seed,
        "quantised_before": dict(session.checkpoint.source.quantised),
    }
    if memory is not None:
        common["memory"] = memory.name
    texts = []
    for prompt, tokens in session.prompts:
        if texts:
            console.print()
        out, report = _one(session, model, prompt, tokens)
        if memory is not None:
            report["rtl"] = _cost(session.checkpoint, out, memory, packed.codecs, args, console)
        texts.append(report)
        _print(common | report, console)
    end = {"clipped_activations": getattr(getattr(engine, "activations", None), "clipped", 0), "status": "ok"}
    if args.check:
        end["results_equal"] = engine.compared
        console.print(f"all {engine.compared:,} results of the accelerator equal the reference, bit for bit")
    console.json(common | ({"texts": texts} if args.prompts else texts[0]) | end)
    if end["clipped_activations"]:
        console.print(f"{end['clipped_activations']} activations were beyond FP16 and became +-65504")
    return 0


def _one(session: Session, model: Model, prompt: str, tokens: list[int]) -> tuple[Generated, dict]:
    """One text, shown as it comes, and its part of the report."""
    from seedlm.host.sampling import Sampler

    args, console, settings, shown = session.args, session.console, session.settings, False

    def show(part: str) -> None:
        nonlocal shown
        if console.talks and part:
            shown = True  # an interrupt may come while it is written
            console.write(part)

    out, stream, parts = Generated(tokens), session.text.stream(tokens), []
    sampler = Sampler(settings.temperature, args.seed, top_k=settings.top_k, top_p=settings.top_p)
    started = time.perf_counter()
    try:
        show(prompt + "\n" * args.chat)
        for token in generate(model, tokens, args.tokens, sampler, out, settings.eos):
            parts.append(stream.add(token))
            show(parts[-1])
        parts.append(stream.end())
        show(parts[-1])
    finally:
        if shown:  # what follows begins on a line of its own
            show("\n")
    return out, {
        "prompt": prompt,
        "prompt_tokens": len(tokens),
        "text": "".join(parts),
        "tokens": out.tokens,
        "stopped": out.stopped,
        "seconds": round(time.perf_counter() - started, 3),
    }


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
