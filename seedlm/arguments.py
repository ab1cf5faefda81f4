"""What several verbs ask of their arguments.

A bad value is a usage error (exit code 2) that says what was expected. Nothing here loads NumPy, so
that ``--help`` is quick.
"""

from __future__ import annotations

import argparse
import math

from seedlm.golden.build import CODECS, Codec, Config, codec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.atomic import require_new, require_writable
from seedlm.sim.memories import DEFAULT_MEMORY, MEMORIES, memory_help

__all__ = [
    "CODEC_HELP",
    "DTYPES",
    "PACKED_HELP",
    "add_build_arguments",
    "add_memory_argument",
    "build_config",
    "codec_argument",
    "dtype_argument",
    "exp_bias_argument",
    "positive",
    "require_new",
    "require_writable",
    "scale_argument",
]

CODEC_HELP = f"{', '.join(CODECS)}, or a custom one such as c8p4k16b4 or c8p3k12b0r"
PACKED_HELP = "packed file, *.index.json, or folder with either"
# Sizes of a build that can be chosen.
SIZES = {
    "lanes": "rows worked on at once",
    "bus_bits": "width of the memory's AXI4 data bus",
    "addr_bits": "width of AXI4 addresses",
    "max_cols": "longest activation vector",
    "queue_depth": "products that can wait",
}
DTYPES = ("F32", "F16", "BF16", "original")


def codec_argument(text: str) -> Codec:
    """A codec by its name."""
    try:
        return codec(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_build_arguments(parser: argparse.ArgumentParser, *, codec: bool = True) -> None:
    """The options that choose a build of the accelerator, for `build_config`; without `codec` a file decides that."""
    default = Config()
    if codec:
        parser.add_argument(
            "--codec", type=codec_argument, default=default.codec,
            help=f"how weights are stored (default: {default.codec})",
        )  # fmt: skip
    for field, what in SIZES.items():
        value = getattr(default, field)
        parser.add_argument(
            f"--{field.replace('_', '-')}", metavar="N", type=positive, default=value,
            help=f"{what} (default: {value})",
        )  # fmt: skip


def add_memory_argument(parser: argparse.ArgumentParser, of: str = "") -> None:
    """The choice of a simulated memory; `of` says what it belongs to."""
    parser.add_argument(
        "--memory", choices=list(MEMORIES), default=DEFAULT_MEMORY,
        help=f"{of}{memory_help()} (default: {DEFAULT_MEMORY})",
    )  # fmt: skip


def build_config(args: argparse.Namespace, codec: Codec | None = None) -> Config:
    """The build that the options of `add_build_arguments` describe; raises `SeedLMError` if there is none."""
    try:
        return Config(codec=codec or args.codec, **{field: getattr(args, field) for field in SIZES})
    except ValueError as error:
        raise SeedLMError(str(error)) from error


def positive(text: str) -> int:
    """An integer of at least 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a positive integer, not {text!r}")
    return value


def scale_argument(text: str) -> float:
    """A finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"expected a finite number, not {text!r}")
    return value


def exp_bias_argument(text: str) -> str | int:
    """``auto`` or an integer."""
    if text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected auto or an integer, not {text!r}") from None


def dtype_argument(text: str) -> str:
    """One of `DTYPES`, in capitals or not."""
    for name in DTYPES:
        if text.lower() == name.lower():
            return name
    raise argparse.ArgumentTypeError(f"expected {', '.join(DTYPES)}, not {text!r}")
