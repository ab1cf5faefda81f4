"""``make demo``: the whole path on tensors of the bundled model, by the commands that a reader can repeat."""

from __future__ import annotations

import os
import shlex
import sys
import textwrap
import time
from pathlib import Path

from seedlm.cli import guarded, parser
from seedlm.console import Console
from seedlm.golden.codecs import BASELINE, CODECS, DEFAULT_CODEC

TOP = Path(__file__).resolve().parent.parent
MODEL_DIR = Path("models/tiny-python")
MODEL = MODEL_DIR / "model.safetensors"
OUT = Path("out/demo")
# One of the model's largest matrices, and a small one.
TENSORS = ("model.layers.0.mlp.up_proj.weight", "model.layers.0.self_attn.k_proj.weight")
# The paper's codec at 4 bits with its encoder, Algorithm 3: what the default is shown beside.
PAPER = ("--codec", "seedlm4", "--encoder", "paper")
# So much of the held-out text is predicted.
BYTES = 8192
# A product that is long enough to show what the memory gives in the long run.
LARGE = 2048
# What the model is to continue in the end, and by how much.
PROMPT, TOKENS = "def main(", 32


class Stop(Exception):
    """A step has failed and said why."""


def command(*arguments: object) -> dict:
    """Show and run ``seedlm ARGUMENTS``; its report."""
    words = [str(a) for a in arguments]
    print(f"\n$ seedlm {shlex.join(words)}", flush=True)
    args = parser().parse_args(words)
    console = Console(json_output=args.json, quiet=args.quiet)
    if args.run(args, console):
        raise Stop
    sys.stdout.flush()
    return console.report


def large(codec: str, memory: str) -> dict:
    """A product of `LARGE` x `LARGE` random words, too many to compress here; its report."""
    import numpy as np

    from seedlm.golden.matrix import PackedMatrix
    from seedlm.golden.product import product
    from seedlm.simulate import figures, measure, print_report

    rng = np.random.default_rng(1)
    matrix = PackedMatrix.random(CODECS[codec], LARGE, LARGE, rng)
    x = rng.standard_normal(LARGE).astype(np.float16)
    console = Console()
    measured, y = measure(matrix, x, None, memory=memory, wave=None, console=console)
    report = figures(measured.compared([(y, product(matrix, x))]))
    print()
    print_report(f"random words in codec {codec}", report, console)
    if report["status"] != "ok":
        raise Stop
    return report


def write(memory: str) -> dict:
    """The model continues a text on the accelerator, and on the reference; the former's report."""
    words = ("run", MODEL_DIR, "--codec", DEFAULT_CODEC, "--prompt", PROMPT, "--tokens", TOKENS)
    report = command(*words, "--engine", "rtl", "--memory", memory)
    reference = command(*words, "--engine", "reference", "--quiet")
    equal = sum(a == b for a, b in zip(report["tokens"], reference["tokens"], strict=True))
    print(f"{equal}/{len(reference['tokens'])} tokens equal to the reference's")
    if equal != len(reference["tokens"]):
        raise Stop
    return report


def demo() -> int:
    """All steps; the exit code."""
    started = time.perf_counter()
    os.chdir(TOP)  # so that the commands shown are those that work at the top of the checkout
    OUT.mkdir(parents=True, exist_ok=True)
    packed, tensor = OUT / "packed.safetensors", TENSORS[0]
    include = [word for name in TENSORS for word in ("--include", name)]

    try:
        compressed = command("compress", MODEL, packed, *include)["tensors"][tensor]
        paper = command("compress", MODEL, OUT / "paper.safetensors", *include, *PAPER)["tensors"][tensor]
        command("verilog", "--out", OUT / "rtl")
        runs = {memory: command("sim", packed, "--tensor", tensor, "--memory", memory) for memory in ("ddr3", "ideal")}
        print(f"\nThe same with {LARGE} x {LARGE} weights, so that start and end count for little:")
        long = {memory: large(DEFAULT_CODEC, memory) for memory in ("ddr3", "ideal")}
        others = {codec: large(codec, "ddr3") for codec in (PAPER[1], BASELINE)}
        print("\nWhat a model predicts with it, beside the paper's codec:")
        report = command("evaluate", MODEL_DIR, "--bytes", BYTES, "--codec", DEFAULT_CODEC, *PAPER)
        quality = {row["name"]: row for row in report["rows"]}
        print("\nNow the whole model writes, all its linear layers on the accelerator (the first time its weights are")
        print("compressed and the accelerator for FP16 compiled: a minute or two):")
        text = write("ddr3")
    except Stop:
        return 1

    every = (*runs.values(), *long.values(), *others.values())
    equal, total = (sum(r[key] for r in every) for key in ("outputs_equal", "outputs_total"))
    print(f"\n{tensor}, {compressed['shape'][0]} x {compressed['shape'][1]}, and {LARGE} x {LARGE} random words:")
    show("outputs equal to the reference, bit for bit", f"{equal:,}/{total:,}")
    for name, some in ((tensor.split(".")[-2], runs), (f"{LARGE} x {LARGE}", long)):
        for memory, r in some.items():
            share = f"{r['cycles']:>7,} cycles, {r['efficiency']:.1%} of the {memory} memory's peak"
            show(f"{name}, {r['beats']['weight']:,} beats of weights", share)

    compare({DEFAULT_CODEC: compressed, PAPER[1]: paper}, quality, {DEFAULT_CODEC: long["ddr3"], **others})
    rtl = text["rtl"]
    print(f"\n{MODEL_DIR}, {text['memory']} memory, {rtl['clock_mhz']:g} MHz, linear layers of a token on average:")
    for name, cost in ((text["codec"], rtl), ("fp16", rtl["fp16"])):
        show(name, f"{cost['cycles_per_token']:>7,.0f} cycles, {cost['tokens_per_second']:,.0f} tokens per second")
    show("speed-up over fp16", f"{rtl['speedup']:.2f}")
    print(f"\n{len(text['tokens'])} tokens from the simulated accelerator, each a byte:\n")
    print(textwrap.indent(text["prompt"] + text["text"], "    "))
    print(f"\nAll files are in {OUT}; {time.perf_counter() - started:.0f} s. Go on with: .venv/bin/seedlm --help")
    return 0


def compare(weights: dict, quality: dict, products: dict) -> None:
    """The default codec beside the paper's and FP16: what it stores, what is lost, how fast it is."""
    print(f"\nThe default codec, the paper's ({' '.join(PAPER)}) and {BASELINE}; bits per byte of {BYTES:,} bytes of"
          f" {MODEL_DIR / 'heldout.txt'}\n(original {quality['original']['bits_per_byte']:.4f}), cycles of {LARGE} x"
          f" {LARGE} on ddr3:\n")  # fmt: skip
    print(f"  {'':<10}{'bits/weight':>13}{'rel. error':>12}{'bits/byte':>11}{'KL':>9}{'cycles':>11}{'speed-up':>10}")
    for name, product in products.items():
        said = quality[name]
        stored = weights.get(name, said)
        print(f"  {name:<10}{stored['bits_per_weight']:>13.3f}{stored['rel_error']:>12.4f}"
              f"{said['bits_per_byte']:>11.4f}{said['kl_bits_per_token']:>9.5f}{product['cycles']:>11,}"
              f"{products[BASELINE]['cycles'] / product['cycles']:>10.2f}")  # fmt: skip


def show(what: str, value: str) -> None:
    """A line of the summary."""
    print(f"  {what:<46}{value}")


if __name__ == "__main__":
    sys.exit(guarded(demo, Console()))
