"""The ways to store a model's weights that ``seedlm evaluate`` compares, and what multiplies with each."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seedlm.arguments import matrices_of
from seedlm.console import Console
from seedlm.golden.codecs import BASELINE, CODECS, Codec
from seedlm.golden.recipes import RECIPES, Recipe

if TYPE_CHECKING:
    import numpy as np

    from seedlm.encoder.calibration import Calibration
    from seedlm.encoder.plan import Options
    from seedlm.golden.rotation import Rotation
    from seedlm.host.checkpoint import Checkpoint
    from seedlm.host.models import Engine

__all__ = ["Variant", "Weights", "left_alone", "variants"]

BLOCK_BITS, BLOCK_GROUP = (4, 3), 128


@dataclass(frozen=True)
class Variant:
    """A way to store the weights: codec and encoder, a recipe, block floating point of some bits, or what is packed.

    `rotate` and `calibration` are as `seedlm.encoder.plan.Options` takes them.
    """

    name: str
    codec: Codec | None = None
    encoder: str | None = None
    recipe: Recipe | None = None
    bits: int | None = None
    rotate: bool | None = None
    calibration: Path | None = None

    @property
    def about(self) -> dict:
        """What a row of the report says of it; no two rows are alike in all."""
        return {
            "name": self.name, "encoder": self.encoder, "rotated": self._rotated,
            "calibration": self.calibration and self.calibration.stem,
        }  # fmt: skip

    @property
    def _rotated(self) -> bool | None:
        """Whether rows are rotated whose columns allow it; None if files decide."""
        codecs = [self.codec] if self.codec else []
        if self.recipe:
            codecs = [CODECS[name] for name in (self.recipe.rest, *self.recipe.codecs.values())]
        if not codecs:
            return False if self.bits else None
        return any(codec.rotates for codec in codecs) if self.rotate is None else self.rotate

    @property
    def title(self) -> str:
        """In a line, for people."""
        turned = self.codec is not None and self.codec.rotates and not self._rotated
        fed = f"with {self.calibration.stem}" if self.calibration else ""
        return " ".join(filter(None, (self.name, self.encoder, turned and "not rotated", fed)))


def variants(args: argparse.Namespace) -> Iterator[Variant]:
    """What is measured: data-free the baseline, codecs with encoders, recipes, the yardstick; then all that calibrate.

    Of a family with several search methods only the best is calibrated: the paper's is what it is without data.
    """
    from seedlm.encoder.families import METHODS, encoder_of, method_of

    baseline = CODECS[BASELINE]
    whole = not (args.codec or args.recipe)
    codecs = [kind for kind in (CODECS.values() if whole else args.codec) if kind is not baseline]
    recipes = list(RECIPES.values()) if whole else args.recipe
    yield Variant(baseline.name, baseline, rotate=args.rotate)
    for kind in codecs:
        both = whole and args.rotate is None and kind.rotates
        for rotate in (None, False) if both else (args.rotate,):
            for method in dict.fromkeys(method_of(kind, asked) for asked in args.encoder or METHODS):
                yield Variant(kind.name, kind, method, rotate=rotate)
    for calibration in (None, *args.calibration):
        fed: dict[str, Any] = {"calibration": calibration, "rotate": args.rotate}
        for kind in codecs if calibration else ():
            best = next(iter(encoder_of(kind).methods), None)
            if encoder_of(kind).feedback_block(kind) and best in (None, *(args.encoder or METHODS)):
                yield Variant(kind.name, kind, best, **fed)
        for recipe in recipes:
            yield Variant(recipe.name, recipe=recipe, **fed)
        for bits in BLOCK_BITS:
            yield Variant(f"block float {bits}", bits=bits, calibration=calibration)


def left_alone(checkpoint: Checkpoint, args: argparse.Namespace) -> set[str]:
    """Matrices for which a pattern wants the baseline: of these no codec is measured."""
    from seedlm.encoder.plan import Options

    options = Options(chosen=tuple(args.set))
    found = {name for name in checkpoint.linear if options.asked(name) is CODECS[BASELINE]}
    return found if len(found) < len(checkpoint.linear) else set()


class Weights:
    """A model's matrices, stored in one way: what multiplies with them, and the figures of those not `left_alone`.

    Parameters
    ----------
    variant : Variant
    checkpoint : Checkpoint
    originals : mapping
        What the matrices are compared with.
    args : argparse.Namespace
    console : Console

    Attributes
    ----------
    engine : Engine
    figures : dict
        Bits per weight, relative error, and the processor seconds of encoding: None where there is nothing worth
        measuring, or what was there already was taken.
    """

    def __init__(self, variant: Variant, checkpoint: Checkpoint, originals: Mapping, args: argparse.Namespace,
                 console: Console) -> None:  # fmt: skip
        from seedlm.encoder.loss import Loss
        from seedlm.host.engines import ApproximateEngine, ReferenceEngine

        self._variant, self._checkpoint, self._args = variant, checkpoint, args
        packed, self._seconds = None, 0.0
        if variant.bits is None:
            packed = matrices_of(checkpoint, args, console, self._options())
        loss, bits, alone = Loss(), 0.0, left_alone(checkpoint, args)
        decoded: dict[str, np.ndarray] = {}  # as they are multiplied: rotated ones with rotated vectors
        rotations: dict[str, Rotation | None] = {}
        for name, tensor in originals.items():
            w = tensor.array()
            if packed is not None:
                matrix = packed[name]
                decoded[name], rotations[name] = matrix.coded.decode(), matrix.rotation
                found, stored = decoded[name] if matrix.rotation is None else matrix.decode(), matrix.stored_bits
            else:
                found, stored = self._yardstick(name, w, name in alone)
                decoded[name] = found
            if name not in alone:
                loss += Loss.between(w, found)
                bits += stored
        weights = sum(w.size for name, w in decoded.items() if name not in alone)
        if packed is not None and args.exact:
            self.engine: Engine = ReferenceEngine(packed.__getitem__)
        else:
            codec_of = packed.codec_of.get if packed else lambda name: None
            self.engine = ApproximateEngine(decoded.__getitem__, codec_of, rotations.get)
        seconds = packed.seconds if packed is not None else round(self._seconds, 2)
        self.figures = {"bits_per_weight": bits / weights, "rel_error": loss.relative, "encode_seconds": seconds}

    def _options(self) -> Options:
        from seedlm.encoder.plan import Options

        variant, args = self._variant, self._args
        given: dict[str, Any] = {"codec": variant.codec, "encoder": variant.encoder, "damping": args.damping,
                                 "calibration": variant.calibration}  # fmt: skip
        if variant.recipe is not None:
            given["recipe"] = variant.recipe.codecs_of(self._checkpoint.config.kinds())
        chosen = () if variant.codec is CODECS[BASELINE] else tuple(args.set)
        return Options(chosen=chosen, rotate=variant.rotate, **{key: value for key, value in given.items() if value})

    @cached_property
    def _calibration(self) -> Calibration | None:
        from seedlm.encoder.calibration import DAMPING, Calibration

        if self._variant.calibration is None:
            return None
        return Calibration(self._variant.calibration, self._args.damping or DAMPING, self._checkpoint.stored_names)

    def _yardstick(self, name: str, w: np.ndarray, alone: bool) -> tuple[np.ndarray, float]:
        """A matrix in block floating point and its bits; if it is left alone, the baseline."""
        import numpy as np

        from seedlm.encoder.block_float import block_float, block_float_bits, block_float_fed

        if alone:
            return w.astype(np.float16).astype(np.float32), 16.0 * w.size
        started, bits, calibration = time.process_time(), self._variant.bits, self._calibration
        if calibration is not None and name in calibration:
            calibration.check(name, w.shape[1])
            found = block_float_fed(w, calibration.feedback_in_blocks(name, 1), bits, BLOCK_GROUP)
        else:
            found = block_float(w, bits, BLOCK_GROUP)
        self._seconds += time.process_time() - started
        return found.astype("f4"), w.size * block_float_bits(w.shape[1], bits, BLOCK_GROUP)
