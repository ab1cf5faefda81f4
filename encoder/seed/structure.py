"""The structure of the register behind the fast bound.

Successive states are windows of one bit sequence, so in units of 2**(K-1) the columns of A obey
``2 u(m+1) - u(m) = beta(m+1)`` up to 2**-(K-1), where beta is the vector of signs (top bits) of the
states. Hence the range of A(s) is, nearly, the span of the sign vectors of its columns 1 to P-1 and of
h, the first column continued to infinitely many bits, which obeys ``h(m+1) = h(m) / 2 + beta(m+1)``
exactly. One such span per seed, in the order of the cycle, costs one table look-up and a few
multiplications per seed and block.

The approximation is not taken on trust: `build` compares the quadratic form that the compiled code
evaluates with the projector onto the range of A(s), for every seed, and adds a bound of the
single-precision rounding. Seeds for which the sum exceeds `LIMIT` are listed, to be bounded directly.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from seedlm.encoder.seed.geometry import centred, orthonormal
from seedlm.golden.codecs.seed import SeedCodec
from seedlm.golden.lfsr import states

__all__ = ["LIMIT", "RANKS", "SLACK", "WARM", "Structure", "build", "cycle"]

LIMIT = 4.5e-4  # largest proven difference of the bound from the true energy share of a unit vector
SLACK = 5e-4  # what the search allows; the rest covers the rounding of thresholds
RANKS = (2, 3, 4, 5)  # ranks P that the compiled code has a form for
WARM = 32  # steps after which h has forgotten its beginning to 2**-32
TILE = 1 << 15
UNIT_ROUNDOFF = 2.0**-24


@lru_cache(maxsize=4)
def cycle(K: int, extra: int) -> np.ndarray:
    """The states of the register in order, from 1: int32 [2**K - 1 + extra], the beginning repeated at the end."""
    period = (1 << K) - 1
    out = np.empty(period + extra, np.int32)
    out[0] = 1
    out[1:period] = states(1, K, period - 1)
    for start in range(period, len(out), period):
        part = out[start : start + period]
        part[:] = out[: len(part)]
    return out


@dataclass(frozen=True)
class Structure:
    """Tables of the fast bound. Position n of the cycle stands for the seed ``cycle[n]``.

    Parameters
    ----------
    signs : np.ndarray
        int32 [WARM + period + P]: at WARM + m the sign vector beta(m) as C bits.
    constants : np.ndarray
        float32 [period, P(P+1)/2 - 1]: the rows 1 to P-1 of the lower triangular G with energy
        ``|G z|^2``, z = (beta(n+2) .. beta(n+P), h(n+1)) . w / sqrt(C); G_00 is 1. Zeros for direct seeds.
    direct : np.ndarray
        int64 positions of the seeds that need a direct bound.
    """

    signs: np.ndarray
    constants: np.ndarray
    direct: np.ndarray


def sign_vectors(codec: SeedCodec, signs: np.ndarray) -> np.ndarray:
    """beta / sqrt(C), float64 [C, n]."""
    bits = signs >> np.arange(codec.C)[:, None] & 1
    return (2.0 * bits - 1) / np.sqrt(codec.C)


def form_of(constants: np.ndarray, P: int) -> np.ndarray:
    """G from its stored rows: float64 [P, P, n]."""
    g = np.zeros((P, P, len(constants)))
    g[0, 0] = 1
    g[np.tril_indices(P)] = np.concatenate([np.ones((1, len(constants))), constants.T.astype(np.float64)])
    return g


def vectors_at(codec: SeedCodec, signs: np.ndarray, first: int, count: int) -> np.ndarray:
    """The vectors z of the positions first to first + count - 1: float64 [P, C, count], h last."""
    at = WARM + first + 1
    period = codec.seeds
    z = [sign_vectors(codec, signs[at + k : at + k + count]) for k in range(1, codec.P)]
    h = np.zeros((codec.C, count))
    for j in range(60):
        # Before the stored part the sequence continues cyclically.
        where = (np.arange(at - WARM - j, at - WARM - j + count) % period) + WARM
        h += 2.0**-j * sign_vectors(codec, signs[where])
    return np.stack([*z, h])


def deviation(codec: SeedCodec, constants: np.ndarray, z: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Matrices of the computed form minus the projector: float64 [C, C, n]."""
    rows = np.einsum("kjn,jcn->kcn", form_of(constants, codec.P), z)
    return np.einsum("kcn,kdn->cdn", rows, rows) - np.einsum("pcn,pdn->cdn", q, q)


def rounding(codec: SeedCodec, constants: np.ndarray) -> np.ndarray:
    """Bound of the single-precision rounding of the energy, for unit vectors: float64 [n].

    A table entry is a sum of C terms whose magnitudes sum to 1 at most; h sums table entries with
    weights that sum to 2. Row k of G z then has P products.
    """
    C, P = codec.C, codec.P
    entry = (C + 4) * UNIT_ROUNDOFF
    z_error = np.array([entry] * (P - 1) + [2 * entry + 8 * UNIT_ROUNDOFF])
    z_size = np.array([1.0] * (P - 1) + [2.0])
    per_term = z_error + (P + 2) * UNIT_ROUNDOFF * z_size
    t_error = np.einsum("kjn,j->kn", np.abs(form_of(constants, P)), per_term)
    return (2.1 * t_error + t_error**2).sum(axis=0) + (P + 2) * UNIT_ROUNDOFF


@lru_cache(maxsize=4)
def _build(C: int, P: int, K: int) -> Structure:
    codec = SeedCodec(name=f"c{C}p{P}k{K}b0", C=C, P=P, K=K, B=0)
    period = codec.seeds
    order = cycle(K, (C + 1) * P)
    top = order[: period + C * P + P] >> (K - 1)
    signs = np.zeros(period + P, np.int32)
    for c in range(C):
        signs |= top[c * P : c * P + period + P] << c
    signs = np.concatenate([signs[np.arange(-WARM, 0) % period], signs])
    lower = np.tril_indices(P)
    constants = np.zeros((period, len(lower[0]) - 1), np.float32)
    direct = []
    for first in range(0, period, TILE):
        count = min(TILE, period - first)
        z = vectors_at(codec, signs, first, count)
        _, r = orthonormal(z)
        usable = (np.einsum("ppn->pn", r) > 1e-3).all(axis=0)
        r[:, :, ~usable] = np.eye(P)[:, :, None]
        g = np.linalg.inv(r.transpose(2, 1, 0))  # [n, P, P]: the inverse of R^T
        g = g[:, *lower][:, 1:].astype(np.float32)
        q, _ = orthonormal(centred(codec, order[first : first + count]))
        worst = np.sqrt((deviation(codec, g, z, q) ** 2).sum(axis=(0, 1))) + rounding(codec, g)
        usable &= worst <= LIMIT
        g[~usable] = 0
        constants[first : first + count] = g
        direct.append(np.flatnonzero(~usable) + first)
    return Structure(signs, constants, np.concatenate(direct))


def build(codec: SeedCodec) -> Structure:
    """The tables of a codec; the same for all codecs with the same C, P and K."""
    return _build(codec.C, codec.P, codec.K)
