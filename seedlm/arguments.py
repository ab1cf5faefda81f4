"""Types of arguments that several verbs share. A bad value is a usage error (exit code 2) that says what was expected."""

from __future__ import annotations

import argparse
import math

from golden.params import CODECS, Codec, codec

__all__ = ["codec_argument", "exp_bias_argument", "positive", "scale_argument"]

CODEC_HELP = f"{', '.join(CODECS)}, or a custom one such as c8p4k16b4 or c8p3k12b0r"


def codec_argument(text: str) -> Codec:
    """A codec by its name."""
    try:
        return codec(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


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
