"""The codec of the paper, and ours beside it: a block of C weights is a seed, an exponent and P coefficients.

A word is K + B + 4 P bits, little endian: the seed, the exponent (two's complement, absent if B = 0) and P coefficients
of four bits (two's complement). In memory every word is a uint64, whatever its width. With V(s) the matrix of the
register's states (`seedlm.golden.lfsr`)::

    N_c = sum over p of q_p (V_{c,p} - 2**(K-1))

and the weight is N_c * 2**(e+b) / (2**(K-1) - 1), or N_c * 2**e * scale_r with row scales. Any bit pattern is a valid
word; a seed of 0 gives V = 0 by the same formula.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from seedlm.golden.codecs._base import Codec, Fault, require
from seedlm.golden.errors import SeedLMError
from seedlm.golden.fp32 import fl32_from_ratio
from seedlm.golden.lfsr import TAPS, windows
from seedlm.golden.packing import from_bytes, row_bytes, to_bytes

__all__ = ["COEFFICIENT_BITS", "EXPONENT_OFFSET", "FAMILY", "SeedCodec", "pack", "unpack", "weights_int"]

ORDER = 0  # first in lists
COEFFICIENT_BITS = 4  # two's complement, -8..7
EXPONENT_OFFSET = 8  # added to e in the product's shift
CHUNK = 8192  # words decoded at a time: the working arrays then stay in the cache

_CUSTOM = re.compile(r"c(\d{1,2})p(\d{1,2})k(\d{1,2})b(\d{1,2})(r?)")


@dataclass(frozen=True, kw_only=True)
class SeedCodec(Codec):
    """Blocks of C weights as a seed of K bits, an exponent of B bits and P coefficients.

    Parameters
    ----------
    name : str
        Preset name, or the canonical ``c8p4k16b4`` / ``c8p3k20b0r`` form (r: row scales).
    C, P, K, B : int
        Block size, rank, register length and exponent bits.
    row_scales : bool
        One binary32 scale per row instead of one per tensor.
    """

    C: int
    P: int
    K: int
    B: int
    row_scales: bool = False

    family: ClassVar[str] = "seed"
    family_number: ClassVar[int] = 0
    fraction_bits: ClassVar[int] = 38

    def __post_init__(self) -> None:
        require(1 <= self.C <= 64, f"block size C must be 1 to 64, not {self.C}")
        require(1 <= self.P <= 8, f"rank P must be 1 to 8, not {self.P}")
        require(self.K in TAPS, f"register length K must be 2 to 24, not {self.K}")
        require(self.P <= self.K, f"rank P must be at most the register length K = {self.K}, not {self.P}")
        require(0 <= self.B <= 4, f"exponent bits B must be 0 to 4, not {self.B}")
        require(self.word_bits <= 64, f"a block word may have 64 bits at most, not {self.word_bits}"
                f" (K + B + 4 P = {self.K} + {self.B} + 4 x {self.P})")  # fmt: skip

    # --- the family -----------------------------------------------------------------------------------
    @classmethod
    def presets(cls) -> tuple[Codec, ...]:
        return (
            cls(name="seedlm4", C=8, P=3, K=16, B=4),  # the paper's
            cls(name="seedlm3", C=12, P=4, K=16, B=4),  # the paper's
            cls(name="seedlm4r", C=8, P=4, K=16, B=0, row_scales=True),
            cls(name="seedlm3r", C=12, P=5, K=16, B=0, row_scales=True),
        )

    @classmethod
    def parse(cls, name: str) -> Codec | None:
        match = _CUSTOM.fullmatch(name)
        if match is None:
            return None
        C, P, K, B = (int(g) for g in match.groups()[:4])
        return cls(name=f"c{C}p{P}k{K}b{B}{match[5]}", C=C, P=P, K=K, B=B, row_scales=bool(match[5]))

    @classmethod
    def example(cls) -> str:
        return "c8p4k16b4 or c8p3k20b0r"

    # --- sizes and numbers ----------------------------------------------------------------------------
    @property
    def word_bits(self) -> int:
        return self.K + self.B + COEFFICIENT_BITS * self.P

    @property
    def step_columns(self) -> int:
        return self.C

    def row_bytes(self, cols: int) -> int:
        return row_bytes(self.blocks(cols), self.word_bits)

    @property
    def has_exp_bias(self) -> bool:
        return not self.row_scales

    @property
    def taps(self) -> tuple[int, ...]:
        return TAPS[self.K]

    @property
    def seeds(self) -> int:
        """Number of non-zero seeds, 2**K - 1."""
        return (1 << self.K) - 1

    @property
    def exponent_min(self) -> int:
        return -(1 << (self.B - 1)) if self.B else 0

    @property
    def exponent_max(self) -> int:
        return (1 << (self.B - 1)) - 1 if self.B else 0

    @property
    def weight_max(self) -> int:
        return 8 * self.P << (self.K - 1)

    @property
    def step_shift_max(self) -> int:
        return self.exponent_max - self.exponent_min

    @property
    def acc_fraction_bits(self) -> int:
        """The contract shifts by e + 8; the hardware by e - exponent_min, and the rounding unit knows."""
        return self.fraction_bits - (EXPONENT_OFFSET + self.exponent_min)

    @property
    def denominator(self) -> int:
        """2**(K-1) - 1, which the paper divides by."""
        return (1 << (self.K - 1)) - 1

    def largest(self, exp_bias: int = 0) -> float:
        factor = 1 if self.row_scales else self.denominator
        return self.weight_max * 2.0 ** (self.exponent_max + exp_bias) / factor

    def default_scale(self, exp_bias: int = 0) -> np.float32:
        """fl32(2**exp_bias / (2**(K-1) - 1))."""
        return fl32_from_ratio(1 << max(0, exp_bias), self.denominator << max(0, -exp_bias))

    # --- words ----------------------------------------------------------------------------------------
    def words_layout(self, rows: int, cols: int) -> tuple[type, tuple[int, int]]:
        """One uint64 per block."""
        return np.uint64, (rows, self.blocks(cols))

    def words_to_rows(self, words: np.ndarray, cols: int) -> np.ndarray:
        return to_bytes(words, self.word_bits)

    def rows_to_words(self, data: np.ndarray, cols: int) -> np.ndarray:
        return from_bytes(data, self.word_bits, self.blocks(cols))

    def check_rows(self, data: np.ndarray, cols: int) -> None:
        used = self.blocks(cols) * self.word_bits % 8
        if used and (data[:, -1] >> used).any():
            raise SeedLMError("bits after the last word of a row are not zero")

    def fault(self, words: np.ndarray) -> Fault | None:
        if self.word_bits < 64:
            bad = words >> np.uint64(self.word_bits) != 0
            require(not bad.any(), f"{np.count_nonzero(bad)} words have more than {self.word_bits} bits")
        coefficients = words >> np.uint64(self.K + self.B)
        bad = (words & np.uint64(self.seeds) == 0) & (coefficients != 0)
        return Fault(bad, "blocks have seed 0 and non-zero coefficients", "block")

    def integers(self, words: np.ndarray, cols: int) -> tuple[np.ndarray, int]:
        exponent = unpack(self, words)[1]
        low = int(exponent.min())
        weights = weights_int(self, words)
        weights <<= (exponent - low)[..., None]
        return weights.reshape(len(words), -1)[:, :cols], low + EXPONENT_OFFSET

    def values(self, words: np.ndarray, cols: int, exp_bias: int) -> np.ndarray:
        exponent = unpack(self, words)[1]
        weights = np.ldexp(weights_int(self, words).astype(np.float64), (exponent + exp_bias)[..., None])
        weights = weights.reshape(len(words), -1)[:, :cols]
        if not self.row_scales:
            weights /= self.denominator
        return weights

    def random_words(self, rows: int, cols: int, rng: np.random.Generator) -> np.ndarray:
        words = rng.integers(0, 1 << 64, (rows, self.blocks(cols)), dtype=np.uint64)
        words >>= np.uint64(64 - self.word_bits)
        words[words & np.uint64(self.seeds) == 0] |= np.uint64(1)
        return words

    # --- the outside ----------------------------------------------------------------------------------
    def register_fields(self) -> dict[str, int]:
        return {"C": self.C, "P": self.P, "K": self.K, "B": self.B}

    @classmethod
    def from_register(cls, fields: Mapping[str, int]) -> Codec:
        numbers = tuple(fields[name] for name in "CPKB")
        for preset in cls.presets():
            if (preset.C, preset.P, preset.K, preset.B, preset.row_scales) == (*numbers, bool(fields["row_scales"])):
                return preset
        return cls.parse("c{}p{}k{}b{}".format(*numbers) + "r" * fields["row_scales"])

    def describe(self) -> dict[str, object]:
        own = ("C", "P", "K", "B", "taps", "exponent_min", "exponent_max", "denominator")
        return super().describe() | {name: getattr(self, name) for name in own}


FAMILY = SeedCodec


# --- words and their fields -------------------------------------------------------------------------
def _check_range(name: str, values: np.ndarray, low: int, high: int) -> None:
    if values.size and (values.min() < low or values.max() > high):
        raise SeedLMError(f"{name} must be {low} to {high}, found {values.min()} to {values.max()}")


def pack(codec: SeedCodec, seed: np.ndarray, exponent: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """Words from their fields.

    Parameters
    ----------
    codec : SeedCodec
    seed, exponent : array_like of int, shape [...]
        Register states below 2**K; exponents that B bits hold (0 if B = 0). They broadcast.
    coefficients : array_like of int, shape [..., P]
        -8 to 7.

    Returns
    -------
    np.ndarray
        uint64 [...].

    Raises
    ------
    SeedLMError
        A field out of range, or not P coefficients.
    """
    seed, exponent, q = (np.asarray(a).astype(np.int64, copy=False) for a in (seed, exponent, coefficients))
    if q.ndim == 0 or q.shape[-1] != codec.P:
        raise SeedLMError(f"codec {codec} has {codec.P} coefficients per block, not an array of shape {list(q.shape)}")
    _check_range("seed", seed, 0, codec.seeds)
    _check_range("exponent", exponent, codec.exponent_min, codec.exponent_max)
    _check_range("coefficient", q, -8, 7)
    word = seed | (exponent & ((1 << codec.B) - 1)) << codec.K
    for p in range(codec.P):
        word = word | (q[..., p] & 15) << (codec.K + codec.B + COEFFICIENT_BITS * p)
    return np.asarray(word).view(np.uint64)


def _signed(field: np.ndarray, bits: int) -> np.ndarray:
    half = 1 << bits >> 1
    return (field + half & (1 << bits) - 1) - half


def unpack(codec: SeedCodec, words: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fields of words: seed int64 [...], exponent int64 [...], coefficients int64 [..., P].

    Any bit pattern of the word's width is a valid word; bits above it are ignored.
    """
    w = np.ascontiguousarray(words, dtype=np.uint64).view(np.int64).reshape(np.shape(words))
    exponent = _signed(w >> codec.K, codec.B)
    shifts = codec.K + codec.B + COEFFICIENT_BITS * np.arange(codec.P)
    return w & codec.seeds, exponent, _signed(w[..., None] >> shifts, COEFFICIENT_BITS)


def weights_int(codec: SeedCodec, words: np.ndarray) -> np.ndarray:
    """The integer weights N_c of blocks: int64 [..., C].

    The exponent is not in N.
    """
    words = np.asarray(words)
    flat = words.ravel()
    out = np.empty((flat.size, codec.C), dtype=np.int64)
    for start in range(0, flat.size, CHUNK):
        seed, _, q = unpack(codec, flat[start : start + CHUNK])
        q = np.ascontiguousarray(q.T)
        offset = q.sum(axis=0) << (codec.K - 1)
        states = windows(seed, codec.K, codec.C * codec.P)
        for c in range(codec.C):
            acc = -offset
            for p in range(codec.P):
                acc += q[p] * next(states)
            out[start : start + CHUNK, c] = acc
    return out.reshape(*words.shape, codec.C)
