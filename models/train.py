#!/usr/bin/env python3
"""Train the bundled byte-level language model on Python's standard library.

The model has the Llama architecture exactly as Hugging Face's ``LlamaForCausalLM`` defines it (RMSNorm, rotary
positions on half-split heads, SwiGLU, grouped-query attention) and its parameters carry the Llama tensor names. A token
is a byte. Byte 0 does not occur in the sources: it separates files and stands, as beginning-of-text, at position 0 of
every window.

Whether a file trains the model or is held out depends only on its name (see `held_out`), so the split is the same for
every Python version. Two runs with the same arguments and Python see the same bytes in the same order; with the same
PyTorch and processor too, they give the same weights.

Needs PyTorch, NumPy and safetensors; nothing else in the project needs PyTorch or imports this file.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import hashlib
import json
import math
import os
import platform
import shlex
import sys
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
EXCLUDED = {"site-packages", "test", "tests", "idle_test", "encodings", "pydoc_data", "__phello__", "__pycache__"}
SEPARATOR = 0
HELD_OUT_ONE_IN = 16
SAMPLE_PIECES, SAMPLE_PIECE_BYTES = 32, 2048  # the shipped held-out text: 64 KiB


# --- data -----------------------------------------------------------------------------------------------------------


def held_out(name: str) -> bool:
    """Whether the file of this name (relative to the library folder, with forward slashes) is kept from training."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % HELD_OUT_ONE_IN == 0


@dataclass(frozen=True)
class Corpus:
    """The two halves of the library as bytes: every file followed by one byte 0."""

    train: bytes
    held: bytes
    train_files: int
    held_files: int

    def sample(self) -> bytes:
        """Equal pieces, evenly spaced over the held-out text: the fixed 65,536 bytes that measure the model."""
        spacing = (len(self.held) - SAMPLE_PIECE_BYTES) // (SAMPLE_PIECES - 1)
        return b"".join(self.held[i * spacing : i * spacing + SAMPLE_PIECE_BYTES] for i in range(SAMPLE_PIECES))


def read_corpus(root: Path) -> Corpus:
    """Read the library's ``*.py`` in order of name, without tests, character tables and third-party packages."""
    parts: dict[bool, list[bytes]] = {False: [], True: []}
    for path in sorted(root.rglob("*.py"), key=lambda p: p.relative_to(root).as_posix()):
        relative = path.relative_to(root)
        generated = relative.parts[0].startswith(("config-", "_sysconfigdata"))
        data = b"" if generated or EXCLUDED.intersection(relative.parts[:-1]) else path.read_bytes()
        if data and SEPARATOR not in data:
            parts[held_out(relative.as_posix())].append(data + bytes([SEPARATOR]))
    if min(len(b"".join(p)) for p in parts.values()) < SAMPLE_PIECES * SAMPLE_PIECE_BYTES:
        raise SystemExit(f"train.py: {root}: too little Python source here to train on")
    return Corpus(b"".join(parts[False]), b"".join(parts[True]), len(parts[False]), len(parts[True]))


def as_tokens(text: bytes) -> Tensor:
    """Bytes as uint8 tensor [len(text)]."""
    return torch.frombuffer(bytearray(text), dtype=torch.uint8)


def windows(tokens: Tensor, starts: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets [len(starts), length] (int64); the input is the target delayed by one, after a byte 0."""
    targets = tokens[starts[:, None] + torch.arange(length)].long()
    return F.pad(targets[:, :-1], (1, 0), value=SEPARATOR), targets


# --- model ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shape:
    """Dimensions; the defaults are the bundled model's."""

    vocab: int = 256
    hidden: int = 192
    intermediate: int = 512
    layers: int = 5
    heads: int = 6
    kv_heads: int = 2
    context: int = 256
    eps: float = 1e-5
    theta: float = 10000.0

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads

    def config(self) -> dict[str, object]:
        """The ``config.json`` of Hugging Face's ``LlamaForCausalLM``."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "attention_bias": False,
            "attention_dropout": 0.0,
            "bos_token_id": SEPARATOR,
            "eos_token_id": SEPARATOR,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "hidden_size": self.hidden,
            "initializer_range": 0.02,
            "intermediate_size": self.intermediate,
            "max_position_embeddings": self.context,
            "mlp_bias": False,
            "model_type": "llama",
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.layers,
            "num_key_value_heads": self.kv_heads,
            "pretraining_tp": 1,
            "rms_norm_eps": self.eps,
            "rope_scaling": None,
            "rope_theta": self.theta,
            "tie_word_embeddings": False,
            "torch_dtype": "float16",
            "use_cache": True,
            "vocab_size": self.vocab,
        }


def linear(inputs: int, outputs: int) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=False)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions, half-split as in Hugging Face's Llama: element i turns together with i + head_dim/2."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class Attention(nn.Module):
    """Causal attention with fewer key/value heads than query heads."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.q_proj = linear(shape.hidden, shape.heads * shape.head_dim)
        self.k_proj = linear(shape.hidden, shape.kv_heads * shape.head_dim)
        self.v_proj = linear(shape.hidden, shape.kv_heads * shape.head_dim)
        self.o_proj = linear(shape.heads * shape.head_dim, shape.hidden)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, _ = x.shape
        q, k, v = (
            projection(x).view(batch, length, -1, self.shape.head_dim).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        # Query heads 0..n-1 share key/value head 0, the next n share head 1, and so on.
        k, v = (t.repeat_interleave(self.shape.heads // self.shape.kv_heads, dim=1) for t in (k, v))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(mixed.transpose(1, 2).reshape(batch, length, -1))


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = linear(shape.hidden, shape.intermediate)
        self.up_proj = linear(shape.hidden, shape.intermediate)
        self.down_proj = linear(shape.intermediate, shape.hidden)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(shape.hidden, shape.eps)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = nn.RMSNorm(shape.hidden, shape.eps)
        self.mlp = FeedForward(shape)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    """Logits [batch, length, vocab] from tokens [batch, length]; attribute names give the Llama tensor names."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(shape.vocab, shape.hidden)
        self.model.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.model.norm = nn.RMSNorm(shape.hidden, shape.eps)
        self.lm_head = linear(shape.hidden, shape.vocab)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                # Matrices that add to the residual stream start smaller, so that depth does not raise its variance.
                residual = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * shape.layers) if residual else 0.02)
        frequencies = shape.theta ** (-torch.arange(0, shape.head_dim, 2).float() / shape.head_dim)
        angles = torch.outer(torch.arange(shape.context).float(), frequencies).repeat(1, 2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.model.embed_tokens(tokens)
        cos, sin = self.cos[: tokens.shape[1]], self.sin[: tokens.shape[1]]
        for layer in self.model.layers:
            x = layer(x, cos, sin)
        return self.lm_head(self.model.norm(x))


@torch.no_grad()
def bits_per_byte(model: Llama, text: bytes, context: int, batch: int = 16) -> float:
    """Mean -log2 p over every byte of `text`, cut into windows of `context` bytes, each begun afresh with byte 0.

    Bytes after the last whole window are left out. The first bytes of a window have little context, so this is more
    than a sliding window would give.
    """
    tokens = as_tokens(text)
    starts = torch.arange(0, len(tokens) - context + 1, context)
    total = 0.0
    for some in starts.split(batch):
        inputs, targets = windows(tokens, some, context)
        total += F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten(), reduction="sum").item()
    return total / (len(starts) * context) / math.log(2)


# --- training -------------------------------------------------------------------------------------------------------


def learning_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """Linear warm-up, then half a cosine down to a twentieth of the peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return peak * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress)))


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name in the folder of `path`, renamed to `path` when the block succeeds and removed when it fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def train(args: argparse.Namespace, shape: Shape, model: Llama, corpus: Corpus) -> int:
    """Train from the checkpoint (or from nothing) to the last step; returns the number of steps done."""
    matrices = [p for p in model.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() != 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=args.lr, betas=(0.9, 0.98), fused=True)
    generator = torch.Generator().manual_seed(args.seed)
    tokens, glimpse = as_tokens(corpus.train), corpus.sample()[:16384]

    first = 0
    if args.checkpoint.exists():
        state = torch.load(args.checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        first = state["step"]
        optimizer.load_state_dict(state["optimizer"])
        generator.set_state(state["generator"])
        print(f"continuing from {args.checkpoint}, step {first}", flush=True)
    elif args.export_only:
        raise SystemExit(f"train.py: {args.checkpoint}: no checkpoint to export")
    if args.export_only:
        return first

    began, recent = time.monotonic(), 0.0
    for step in range(first, args.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args.steps, args.lr, args.warmup)
        starts = torch.randint(len(tokens) - shape.context + 1, (args.batch,), generator=generator)
        inputs, targets = windows(tokens, starts, shape.context)
        loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

        bits = loss.item() / math.log(2)
        recent = bits if step == first else 0.98 * recent + 0.02 * bits
        done = step + 1
        if done % args.every == 0 or done == args.steps:
            held = bits_per_byte(model, glimpse, shape.context)
            seconds = (time.monotonic() - began) / (done - first)
            message = f"train {recent:.3f}  held-out {held:.3f} bits/byte"
            print(f"step {done}/{args.steps}  {message}  {seconds:.3f} s/step", flush=True)
            with replacing(args.checkpoint) as temporary:
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
                torch.save(state | {"generator": generator.get_state(), "step": done}, temporary)
    return max(first, args.steps)


# --- export ---------------------------------------------------------------------------------------------------------

PAGE = """\
# tiny-python: a small byte-level Llama

A language model of {parameters:,} parameters in the Llama architecture, trained on the source of Python's standard
library. It is here so that the compressor and the accelerator have real trained weights to work on. It continues Python
source with plausible looking Python; it is good for nothing else.

| | |
|---|---|
| Architecture | `LlamaForCausalLM`: RMSNorm (eps {eps}), rotary (theta {theta:g}, half-split), SwiGLU, no biases |
| Layers | {layers}, hidden {hidden}, intermediate {intermediate} |
| Attention | {heads} query heads, {kv_heads} key/value heads, head size {head_dim} |
| Vocabulary | {vocab}: a token is a byte, no tokenizer; byte 0 separates files and starts every text (position 0) |
| Embeddings | input and output not shared |
| Context | {context} bytes |
| Weights | `model.safetensors`, FP16, {file_bytes:,} bytes, largest magnitude {largest:.3f} |

## Held-out bits per byte

Measured with the FP16 weights of this folder, computed in FP32. The text is cut into windows of {context} bytes, every
window starts afresh with byte 0 in front (the last byte is only predicted, not read), and every byte counts.

| Text | Bytes | Bits per byte |
|---|---:|---:|
| `heldout.txt` (here) | {sample_bytes:,} | {sample_bits:.4f} |
| all held-out files | {held_bytes:,} | {held_bits:.4f} |

## Data

The `*.py` files of the standard library of Python {python}, without tests, `encodings`, `pydoc_data` and third-party
packages. A file is held out when the first four bytes of the SHA-256 of its name (relative to the library folder), read
as a big-endian number, are a multiple of {one_in}: {held_files} files are held out, {train_files} trained on.
The latter, with a byte 0 after each, are {train_bytes:,} bytes with the SHA-256
`{train_hash}`.
`heldout.txt` is {pieces} pieces of {piece_bytes:,} bytes, evenly spaced over the held-out files.

Python's source is Copyright (c) 2001 and later, Python Software Foundation; its licence is in `LICENSE.python` and
holds for `heldout.txt`.

## How it was made

On {date}, with PyTorch {torch}, on one thread of a CPU, in an environment of its own (nothing else in the
project needs PyTorch):

    pip install torch numpy safetensors
    {command}

{done:,} steps of {batch} windows of {context} bytes ({seen:,} bytes in all) with AdamW: {warmup} steps of
warm-up, then cosine decay from a learning rate of {lr:g}; seed {seed}; a step takes about 0.6 s.{partial}
"""


def page(args: argparse.Namespace, shape: Shape, model: Llama, corpus: Corpus, steps: int, file_bytes: int) -> str:
    """The folder's README, with what it states measured on `model` as it stands."""
    names = ("steps", "batch", "lr", "warmup", "seed")
    options = [text for name in names for text in (f"--{name}", f"{getattr(args, name):g}")]
    sample = corpus.sample()
    facts = {
        "head_dim": shape.head_dim,
        "parameters": sum(p.numel() for p in model.parameters()),
        "largest": max(p.abs().max().item() for p in model.parameters()),
        "file_bytes": file_bytes,
        "sample_bytes": len(sample),
        "sample_bits": bits_per_byte(model, sample, shape.context),
        "held_bytes": len(corpus.held) // shape.context * shape.context,
        "held_bits": bits_per_byte(model, corpus.held, shape.context),
        "held_files": corpus.held_files,
        "train_files": corpus.train_files,
        "train_bytes": len(corpus.train),
        "train_hash": hashlib.sha256(corpus.train).hexdigest(),
        "one_in": HELD_OUT_ONE_IN,
        "pieces": SAMPLE_PIECES,
        "piece_bytes": SAMPLE_PIECE_BYTES,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "command": shlex.join(["python", "models/train.py", *options]),
        "done": steps,
        "seen": steps * args.batch * shape.context,
        "partial": "" if steps >= args.steps else f" An early checkpoint of {args.steps:,} planned steps.",
    }
    return PAGE.format_map(vars(args) | vars(shape) | facts)


def export(args: argparse.Namespace, shape: Shape, model: Llama, corpus: Corpus, steps: int) -> None:
    """Write the Hugging Face folder and its page, measuring the FP16 weights that are written."""
    halves = {name: parameter.detach().half().contiguous() for name, parameter in model.state_dict().items()}
    if not all(torch.isfinite(half).all() for half in halves.values()):
        raise SystemExit("train.py: a weight does not fit FP16")
    model.load_state_dict({name: half.float() for name, half in halves.items()})
    weights = save(halves, metadata={"format": "pt"})
    readme = page(args, shape, model, corpus, steps, len(weights))
    files = {
        "config.json": (json.dumps(shape.config(), indent=2) + "\n").encode(),
        "model.safetensors": weights,
        "heldout.txt": corpus.sample(),
        "README.md": readme.encode(),
    }
    licence = args.data / "LICENSE.txt"
    if licence.exists():
        files["LICENSE.python"] = licence.read_bytes()
    for name, content in files.items():
        with replacing(args.out / name) as temporary:
            temporary.write_bytes(content)
    print(readme)


def parse(argv: list[str] | None) -> argparse.Namespace:
    summary = __doc__.split("\n\n")[0]
    library = Path(sysconfig.get_path("stdlib"))
    state = HERE.parent / ".cache" / "tiny-python.pt"
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    parser = argparse.ArgumentParser(description=summary, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "tiny-python", help="folder to write the model to")
    parser.add_argument("--data", type=Path, default=library, help="the library's source folder")
    parser.add_argument("--checkpoint", type=Path, default=state, help="the training's state; continued when it exists")
    parser.add_argument("--steps", type=int, default=3600, help="optimiser steps")
    parser.add_argument("--batch", type=int, default=8, help="windows per step")
    parser.add_argument("--lr", type=float, default=3e-3, help="peak learning rate")
    parser.add_argument("--warmup", type=int, default=100, help="steps of warm-up")
    parser.add_argument("--seed", type=int, default=1, help="seed of the initial weights and of the order of the data")
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch (another number rounds differently)")
    parser.add_argument("--every", type=int, default=100, help="steps between reports and checkpoints")
    parser.add_argument("--date", default=today, help="date for the page")
    parser.add_argument("--export-only", action="store_true", help="write the folder from the checkpoint as it is")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    shape = Shape()
    corpus = read_corpus(args.data)
    model = Llama(shape)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, seed {args.seed}")
    print(f"{len(corpus.train):,} bytes of {corpus.train_files} files to train on")
    print(f"{len(corpus.held):,} bytes of {corpus.held_files} files held out", flush=True)
    steps = train(args, shape, model, corpus)
    export(args, shape, model, corpus, steps)
    return 0


if __name__ == "__main__":
    sys.exit(main())
