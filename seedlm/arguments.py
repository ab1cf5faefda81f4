"""What several verbs ask of their arguments.

A bad value is a usage error (exit code 2) that says what was expected. Nothing here loads NumPy, so
that ``--help`` is quick.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from seedlm.golden.build import Config
from seedlm.golden.codecs import DEFAULT_CODEC, Codec, codec, codec_help
from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.atomic import require_new, require_writable
from seedlm.golden.presets import PRESETS, preset
from seedlm.golden.recipes import DEFAULT_RECIPE, RECIPES, Recipe, recipe
from seedlm.sim.memories import DEFAULT_MEMORY, MEMORIES, memory_help

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from seedlm.console import Console
    from seedlm.encoder.packed_model import PackedModel
    from seedlm.encoder.plan import Options
    from seedlm.host.checkpoint import Checkpoint

__all__ = [
    "CODEC_HELP",
    "DTYPES",
    "PACKED_HELP",
    "add_build_arguments",
    "add_codec_arguments",
    "add_memory_argument",
    "add_preset_argument",
    "add_recipe_argument",
    "add_rotate_argument",
    "add_set_argument",
    "build_config",
    "codec_argument",
    "compress_options",
    "damping_argument",
    "dtype_argument",
    "encoder_argument",
    "exp_bias_argument",
    "matrices_of",
    "not_negative",
    "positive",
    "require_new",
    "require_writable",
    "scale_argument",
    "share_argument",
    "temperature_argument",
]

CODEC_HELP = codec_help()
PACKED_HELP = "packed file, *.index.json, or folder with either"
# Sizes of a build that can be chosen.
SIZES = {
    "lanes": "rows worked on at once",
    "bus_bits": "width of the memory's AXI4 data bus",
    "addr_bits": "width of AXI4 addresses",
    "max_cols": "longest activation vector",
    "queue_depth": "products that can wait",
}
LEAST_DAMPING = 1e-4
DTYPES = ("F32", "F16", "BF16", "original")


def codec_argument(text: str) -> Codec:
    """A codec by its name."""
    try:
        return codec(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def preset_argument(text: str) -> Config:
    """A build by its name."""
    try:
        return preset(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def recipe_argument(text: str) -> Recipe:
    """A recipe by its name."""
    try:
        return recipe(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def encoder_argument(text: str) -> str:
    """The name of a search method."""
    from seedlm.encoder.families import METHODS

    if text not in METHODS:
        raise argparse.ArgumentTypeError(f"expected {' or '.join(METHODS)}, not {text!r}")
    return text


def _chosen_codec(text: str) -> tuple[str, Codec]:
    """``GLOB=CODEC``."""
    pattern, equals, name = text.rpartition("=")
    if not (equals and pattern):
        raise argparse.ArgumentTypeError(f"expected GLOB=CODEC such as 'lm_head.weight=int8', not {text!r}")
    return pattern, codec_argument(name)


def add_codec_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that choose codecs and how words are searched, for `compress_options`."""
    parser.add_argument(
        "--codec", metavar="CODEC", type=codec_argument,
        help=f"one codec for all: {CODEC_HELP} (default: {DEFAULT_CODEC}, or the recipe of a whole model)",
    )  # fmt: skip
    add_recipe_argument(parser)
    add_set_argument(parser)
    parser.add_argument(
        "--encoder", metavar="METHOD", type=encoder_argument,
        help="how words are searched: optimal finds the best of all (default); for seeds paper is Algorithm 3, for"
        " scales of groups nearest is the format's own rule. Codecs without it take their best",
    )  # fmt: skip
    add_rotate_argument(parser)


def add_recipe_argument(parser: argparse.ArgumentParser, **options: Any) -> None:
    """The option that chooses codecs by kinds of matrices."""
    told = "; ".join(f"{name} ({recipe.describe()})" for name, recipe in RECIPES.items())
    parser.add_argument(
        "--recipe", metavar="NAME", type=recipe_argument, **options,
        help=f"codecs by the kind of matrix, for models whose architecture is known: {told}"
        + ("" if options else f" (default for a model folder: {DEFAULT_RECIPE})"),
    )  # fmt: skip


def add_rotate_argument(parser: argparse.ArgumentParser) -> None:
    """Whether rows are rotated."""
    parser.add_argument(
        "--rotate", action=argparse.BooleanOptionalAction, default=None,
        help="multiply rows with random signs and a Hadamard matrix before they are coded, so that no outlier is"
        " clipped; no stored bit, products turn their vector (default: for codecs with one scale per row)",
    )  # fmt: skip


def add_set_argument(parser: argparse.ArgumentParser) -> None:
    """The option that chooses a codec for some tensors."""
    parser.add_argument(
        "--set", metavar="GLOB=CODEC", type=_chosen_codec, action="append", default=[],
        help="the codec of the tensors whose name matches; may be given several times, the last match wins",
    )  # fmt: skip


def compress_options(args: argparse.Namespace, kinds: Mapping[str, str] | None = None) -> Options:
    """What the options of `add_codec_arguments`, and those of ``compress`` where a verb has them, say.

    Parameters
    ----------
    args : argparse.Namespace
    kinds : mapping of str to str, optional
        What matrices are in their layers, by name, for recipes: of a whole model whose architecture is known.

    Raises
    ------
    SeedLMError
        A recipe beside one codec for all, or without kinds.
    """
    from seedlm.encoder.plan import Options

    chosen = args.recipe
    if chosen and args.codec:
        raise SeedLMError("--recipe chooses codecs by kinds of matrices, --codec one for all: expected one of the two")
    if chosen and kinds is None:
        raise SeedLMError(f"--recipe {chosen.name}: expected a model whose architecture is known by its config.json")
    if kinds and not (chosen or args.codec):
        chosen = RECIPES[DEFAULT_RECIPE]
    names = ("codec", "encoder", "exp_bias", "importance", "calibration", "damping", "rotate")
    given = {name: getattr(args, name, None) for name in names}
    patterns = {name: tuple(getattr(args, name, ())) for name in ("include", "exclude")}
    if chosen:
        given |= {"codec": codec(chosen.rest), "recipe": chosen.codecs_of(kinds), "recipe_name": chosen.name}
    return Options(chosen=tuple(args.set), **patterns, **{k: v for k, v in given.items() if v is not None})


def matrices_of(checkpoint: Checkpoint, args: argparse.Namespace, console: Console,
                options: Options | None = None) -> PackedModel:  # fmt: skip
    """The compressed matrices of a model, as the options of `add_codec_arguments` say; of a packed model its own."""
    from seedlm.encoder.packed_model import open_packed

    asked = args.codec or args.recipe or args.set or args.encoder or getattr(args, "calibration", None)
    if checkpoint.packed and (asked or getattr(args, "rotate", None) is not None):
        raise SeedLMError(f"{args.model}: is compressed already: --codec, --recipe, --set, --encoder, --rotate and"
                          " --calibration have no meaning for it")  # fmt: skip
    options = options or compress_options(args, kinds=checkpoint.config.kinds())
    return open_packed(
        checkpoint.linear, str(checkpoint.folder), options, progress=console.progress,
        say=console.hint, warn=console.warn, stored_names=checkpoint.stored_names,
    )  # fmt: skip


def add_build_arguments(parser: argparse.ArgumentParser, *, codec: bool = True) -> None:
    """The options that choose a build of the accelerator, for `build_config`; without `codec` a file decides that."""
    default = Config()
    add_preset_argument(parser)
    if codec:
        parser.add_argument(
            "--codec", type=codec_argument, action="append", default=[],
            help=f"how weights are stored; given several times, the build has several codecs (default: {default.codec},"
            " or those of the preset)",
        )  # fmt: skip
    for field, what in SIZES.items():
        parser.add_argument(
            f"--{field.replace('_', '-')}", metavar="N", type=positive,
            help=f"{what} (default: {getattr(default, field)})",
        )  # fmt: skip


def add_preset_argument(parser: argparse.ArgumentParser) -> None:
    """The option that chooses a build that has a name."""
    told = "; ".join(f"{name}: {', '.join(codec.name for codec in config.codecs)}" for name, config in PRESETS.items())
    parser.add_argument(
        "--preset", metavar="NAME", type=preset_argument, help=f"a build of several codecs that has a name ({told})"
    )


def add_memory_argument(parser: argparse.ArgumentParser, of: str = "") -> None:
    """The choice of a simulated memory; `of` says what it belongs to."""
    parser.add_argument(
        "--memory", choices=list(MEMORIES), default=DEFAULT_MEMORY,
        help=f"{of}{memory_help()} (default: {DEFAULT_MEMORY})",
    )  # fmt: skip


def build_config(args: argparse.Namespace, codec: Codec | None = None) -> Config:
    """The build that the options of `add_build_arguments` describe.

    Parameters
    ----------
    args : argparse.Namespace
    codec : Codec, optional
        Of a file: the build's only codec, unless a preset is asked for.

    Raises
    ------
    SeedLMError
        There is no such build.
    """
    sizes = {field: getattr(args, field) for field in SIZES if getattr(args, field) is not None}
    if args.bus_bits is not None:
        sizes["burst_beats"] = None  # follows from the bus
    codecs = [codec] if codec and not args.preset else getattr(args, "codec", [])
    if codecs:
        sizes |= {"codec": codecs[0], "more": tuple(codecs[1:]), "group": None}
    return replace(args.preset or Config(), **sizes)


def positive(text: str) -> int:
    """An integer of at least 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a positive integer, not {text!r}")
    return value


def not_negative(text: str) -> int:
    """An integer of 0 or more."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"expected an integer of 0 or more, not {text!r}")
    return int(text)


def _number(text: str, good: Callable[[float], bool], wanted: str) -> float:
    """A number that is `good`; NaN must not be."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not good(value):
        raise argparse.ArgumentTypeError(f"expected {wanted}, not {text!r}")
    return value


def scale_argument(text: str) -> float:
    """A finite number."""
    return _number(text, math.isfinite, "a finite number")


def temperature_argument(text: str) -> float:
    """A number of 0 or more."""
    return _number(text, lambda value: 0 <= value < math.inf, "a number of 0 or more")


def share_argument(text: str) -> float:
    """A number above 0, up to 1."""
    return _number(text, lambda value: 0 < value <= 1, "a number above 0, up to 1")


def damping_argument(text: str) -> float:
    """A number of at least `LEAST_DAMPING`: with less, rounding alone may leave nothing positive."""
    wanted = f"a number of {LEAST_DAMPING:g} or more, such as 0.1"
    return _number(text, lambda value: LEAST_DAMPING <= value < math.inf, wanted)


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
