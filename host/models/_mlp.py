"""The part of a layer that looks at each position alone: plain or gated, one expert or the chosen ones of many."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from seedlm.host.models._attention import Step
from seedlm.host.models._fields import Fields
from seedlm.host.models._linear import Layer, Linear

__all__ = ["ACTIVATIONS", "Experts", "Mlp", "gated_mlp"]


def _silu(x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # exp(-x) may be infinite: the limit is right
        return x / (1 + np.exp(-x))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-x))


def _gelu_tanh(x: np.ndarray) -> np.ndarray:
    """The Gaussian error unit with tanh in the place of erf, as most models have it."""
    return np.float32(0.5) * x * (1 + np.tanh(np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x**3)))


def _relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, np.float32(0))


# By the names that config.json gives them.
ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "silu": _silu, "gelu_new": _gelu_tanh, "gelu_pytorch_tanh": _gelu_tanh, "relu": _relu,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Mlp:
    """down(activation(up x)), or with a gate down(activation(gate x) * up x).

    Parameters
    ----------
    up : tuple of Linear
        ``up``; with a gate ``gate, up``, or both in one matrix, the gate's rows first.
    down : Linear
    activation : str
        One of `ACTIVATIONS`.
    gated : bool
    """

    up: tuple[Linear, ...]
    down: Linear
    activation: str
    gated: bool = True

    def linears(self) -> list[Linear]:
        """All matrices, in the order of their use."""
        return [*self.up, self.down]

    def kinds(self) -> list[str]:
        """What each of `linears` is."""
        return [*(("gate", "up") if len(self.up) == 2 else ("gate_up",) if self.gated else ("up",)), "down"]

    def vectors(self) -> dict[str, tuple[int, ...]]:
        """Shapes of its other tensors but biases."""
        return {}

    def groups(self) -> list[tuple[Sequence[Linear], int]]:
        """Matrices that are multiplied with one vector, and how often for a token."""
        return [(self.up, 1), ((self.down,), 1)]

    def __call__(self, layer: Layer, x: np.ndarray, step: Step) -> np.ndarray:
        products = layer.products(self.up, x)
        if self.gated and len(products) == 1:
            products = np.split(products[0], 2, axis=1)
        active = ACTIVATIONS[self.activation](products[0])
        return layer.products([self.down], active * products[1] if self.gated else active)[0]


def gated_mlp(names: str, hidden: int, inner: int, activation: str, *, bias: bool = False,
              parts: Sequence[str] = ("gate", "up", "down")) -> Mlp:  # fmt: skip
    """An `Mlp` with a gate in three matrices; `names` with {} in the place of `parts`."""
    gate, up, down = (names.format(part) for part in parts)
    return Mlp(
        up=(Linear(gate, inner, hidden, bias), Linear(up, inner, hidden, bias)),
        down=Linear(down, hidden, inner, bias),
        activation=activation,
    )


@dataclass(frozen=True, kw_only=True)
class Experts:
    """A mixture of experts: each position gets its best `chosen` ones, and only these are multiplied.

    Parameters
    ----------
    router : str
        Name of its matrix [experts, hidden], which stays in FP32: the choice hangs on small differences.
    hidden : int
    experts : tuple of Mlp
    chosen : int
    normalised : bool
        The weights of the chosen add up to 1.
    shared : Mlp or None
        One that every position gets, too.
    shared_gate : str
        Name of the matrix [1, hidden] that says how much of it.
    """

    router: str
    hidden: int
    experts: tuple[Mlp, ...]
    chosen: int
    normalised: bool
    shared: Mlp | None = None
    shared_gate: str = ""

    def check(self, fields: Fields) -> Experts:
        """Itself; raises `SeedLMError` if there are fewer experts than are chosen."""
        if self.chosen > len(self.experts):
            fields.refuse(f"num_experts_per_tok {self.chosen} is more than the {len(self.experts)} experts")
        return self

    def linears(self) -> list[Linear]:
        """All matrices that an engine multiplies with: those of the experts."""
        return [linear for part in self._parts for linear in part.linears()]

    def kinds(self) -> list[str]:
        """What each of `linears` is."""
        return [kind for part in self._parts for kind in part.kinds()]

    @property
    def _parts(self) -> tuple[Mlp, ...]:
        return self.experts if self.shared is None else (*self.experts, self.shared)

    def vectors(self) -> dict[str, tuple[int, ...]]:
        """Shapes of its other tensors but biases."""
        shapes: dict[str, tuple[int, ...]] = {f"{self.router}.weight": (len(self.experts), self.hidden)}
        return shapes if self.shared is None else shapes | {f"{self.shared_gate}.weight": (1, self.hidden)}

    def groups(self) -> list[tuple[Sequence[Linear], int]]:
        """Matrices that are multiplied with one vector, and how often for a token; the first expert for all chosen."""
        some = [(linears, self.chosen) for linears, _ in self.experts[0].groups()]
        return some if self.shared is None else some + self.shared.groups()

    def __call__(self, layer: Layer, x: np.ndarray, step: Step) -> np.ndarray:
        scores = x @ layer[f"{self.router}.weight"].T
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
        best = np.argsort(-scores, axis=-1, kind="stable")[:, : self.chosen]
        weights = np.take_along_axis(scores, best, axis=-1)
        if self.normalised:
            weights /= weights.sum(axis=-1, keepdims=True)
        out = np.zeros_like(x)
        for number in np.unique(best):
            at, place = np.nonzero(best == number)
            out[at] += weights[at, place, None] * self.experts[number](layer, x[at], step)
        if self.shared is not None:
            share = _sigmoid(x @ layer[f"{self.shared_gate}.weight"].T)
            out = out + share * self.shared(layer, x, step)
        return out
