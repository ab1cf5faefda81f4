"""The one parameter object: every width, count and limit of software and hardware is derived here.

`Codec` fixes the numeric contract (what the bits of a weight mean); `Config` adds what a build of
the accelerator chooses (lanes, bus, buffers). Both are immutable, check themselves on construction
and name the offending value in the error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from seedlm.golden.errors import SeedLMError

__all__ = ["CODECS", "DEFAULT_CODEC", "Codec", "Config", "TAPS", "codec"]

# Fibonacci taps by register length K (paper, appendix). All give the maximal period 2**K - 1.
TAPS: dict[int, tuple[int, ...]] = {
    2: (0, 1), 3: (0, 1), 4: (0, 1), 5: (0, 2), 6: (0, 1), 7: (0, 1), 8: (0, 2, 3, 4), 9: (0, 4),
    10: (0, 3), 11: (0, 2), 12: (0, 1, 2, 8), 13: (0, 1, 2, 5), 14: (0, 1, 2, 12), 15: (0, 1),
    16: (0, 1, 3, 12), 17: (0, 3), 18: (0, 7), 19: (0, 1, 2, 5), 20: (0, 3), 21: (0, 2), 22: (0, 1),
    23: (0, 5), 24: (0, 1, 2, 7),
}  # fmt: skip

COEFFICIENT_BITS = 4  # two's complement, -8..7
MANTISSA_BITS = 18  # an activation's mantissa: the B operand of a DSP48E1
ACTIVATION_EXPONENT_MAX = 29  # E_g + 14 lies in 0..29
FP16_GROUP = 8  # columns that share an activation exponent when the weights are binary16
EXPONENT_OFFSET = 8  # added to e in the product's shift (design, section 2)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise SeedLMError(message)


def clog2(n: int) -> int:
    """Bits needed to count to `n` different values (0 for n = 1)."""
    return max(0, (n - 1).bit_length())


def signed_bits(magnitude: int) -> int:
    """Bits of the smallest two's complement integer that holds -magnitude..magnitude."""
    return magnitude.bit_length() + 1


@dataclass(frozen=True, kw_only=True)
class Codec:
    """How a weight is stored: a block of C weights as seed, exponent and P coefficients, or binary16.

    Parameters
    ----------
    name : str
        Preset name, or the canonical ``c8p4k16b4`` / ``c8p3k20b0r`` form (r: row scales).
    C, P, K, B : int
        Block size, rank, LFSR length and exponent bits. All 0 for ``fp16``.
    row_scales : bool
        One binary32 scale per row instead of one per tensor.
    """

    name: str
    C: int
    P: int
    K: int
    B: int
    row_scales: bool = False

    def __post_init__(self) -> None:
        if self.is_fp16:
            return
        _require(1 <= self.C <= 64, f"block size C must be 1 to 64, not {self.C}")
        _require(1 <= self.P <= 8, f"rank P must be 1 to 8, not {self.P}")
        _require(self.K in TAPS, f"register length K must be 2 to 24, not {self.K}")
        _require(self.P <= self.K, f"rank P must be at most the register length K = {self.K}, not {self.P}")
        _require(0 <= self.B <= 4, f"exponent bits B must be 0 to 4, not {self.B}")
        _require(self.word_bits <= 64, f"a block word may have 64 bits at most, not {self.word_bits}"
                 f" (K + B + 4 P = {self.K} + {self.B} + 4 x {self.P})")  # fmt: skip

    @property
    def is_fp16(self) -> bool:
        """True for the baseline that stores weights as IEEE binary16."""
        return self.name == "fp16"

    @property
    def word_bits(self) -> int:
        """Bits that one lane takes per step: a block word, or two binary16 weights."""
        return 32 if self.is_fp16 else self.K + self.B + COEFFICIENT_BITS * self.P

    @property
    def step_columns(self) -> int:
        """Columns that one lane covers per step."""
        return 2 if self.is_fp16 else self.C

    @property
    def group(self) -> int:
        """G: columns that share an activation exponent."""
        return FP16_GROUP if self.is_fp16 else self.C

    @property
    def steps_per_group(self) -> int:
        """Steps that use the same activation group (4 for fp16, else 1)."""
        return self.group // self.step_columns

    @property
    def bits_per_weight(self) -> float:
        """Stored bits per weight, without row scales and padding."""
        return self.word_bits / self.step_columns

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
        """Largest |N_c| (seed codecs) or |M| (fp16)."""
        return (1 << 11) - 1 if self.is_fp16 else 8 * self.P << (self.K - 1)

    @property
    def fraction_bits(self) -> int:
        """Binary places of the exact product A_r: y = A_r * 2**-fraction_bits * scale."""
        return 54 if self.is_fp16 else 38

    @property
    def denominator(self) -> int:
        """2**(K-1) - 1, which the paper divides by (1 for fp16)."""
        return 1 if self.is_fp16 else (1 << (self.K - 1)) - 1

    def blocks(self, cols: int) -> int:
        """Block words (fp16: pairs of weights) per row of `cols` columns."""
        return -(-cols // self.step_columns)

    def groups(self, cols: int) -> int:
        """Activation groups of a vector of `cols` elements."""
        return -(-cols // self.group)

    def row_stride(self, cols: int) -> int:
        """Bytes of one row of `NAME.blocks` in a packed file."""
        return -(-self.blocks(cols) * self.word_bits // 8)

    def __str__(self) -> str:
        return self.name


def _seed_codec(name: str, C: int, P: int, K: int, B: int, row_scales: bool = False) -> Codec:
    return Codec(name=name, C=C, P=P, K=K, B=B, row_scales=row_scales)


CODECS: dict[str, Codec] = {
    c.name: c
    for c in (
        _seed_codec("seedlm4", 8, 3, 16, 4),
        _seed_codec("seedlm3", 12, 4, 16, 4),
        _seed_codec("seedlm4r", 8, 4, 16, 0, True),
        _seed_codec("seedlm3r", 12, 5, 16, 0, True),
        Codec(name="fp16", C=0, P=0, K=0, B=0),
    )
}

DEFAULT_CODEC = "seedlm4r"  # the smallest error at 4 bits per weight

_CUSTOM = re.compile(r"c(\d{1,2})p(\d{1,2})k(\d{1,2})b(\d{1,2})(r?)")


def codec(name: str) -> Codec:
    """The codec called `name`: a preset, or ``cCpPkKbB`` with an optional ``r`` for row scales.

    Raises
    ------
    SeedLMError
        Unknown name or parameters outside the limits.
    """
    if name in CODECS:
        return CODECS[name]
    match = _CUSTOM.fullmatch(name)
    if match is None:
        raise SeedLMError(f"unknown codec {name!r}: expected {', '.join(CODECS)}"
                          " or a custom one such as c8p4k16b4 or c8p3k20b0r")  # fmt: skip
    C, P, K, B = (int(g) for g in match.groups()[:4])
    return _seed_codec(f"c{C}p{P}k{K}b{B}{match[5]}", C, P, K, B, bool(match[5]))


@dataclass(frozen=True, kw_only=True)
class Config:
    """One build of the accelerator: a codec and the sizes the hardware is made with.

    Parameters
    ----------
    codec : Codec
        What the weights are stored as.
    lanes : int
        L: rows worked on at once; each lane takes one word per clock.
    bus_bits : int
        Width of the memory's AXI4 data bus; one beat.
    addr_bits : int
        Width of AXI4 addresses.
    max_cols, max_rows : int
        Largest product. `max_cols` sizes the activation buffer.
    burst_beats : int
        Longest AXI4 burst; a burst never crosses 4 KiB.
    weight_fifo_beats, activation_fifo_beats, scale_fifo_beats, result_fifo_beats : int
        Depths of the buffers between the memory and the engine, in beats.
    queue_depth : int
        Products that may wait in the control unit.
    segment_bits : int
        Longest carry chain in the exact accumulators.
    """

    codec: Codec = CODECS[DEFAULT_CODEC]
    lanes: int = 16
    bus_bits: int = 512
    addr_bits: int = 34
    max_cols: int = 32768
    max_rows: int = 1 << 20
    burst_beats: int = 64
    weight_fifo_beats: int = 512
    activation_fifo_beats: int = 128
    scale_fifo_beats: int = 64
    result_fifo_beats: int = 128
    queue_depth: int = 16
    segment_bits: int = 34

    def __post_init__(self) -> None:
        c = self.codec
        _require(1 <= self.lanes <= 64, f"lanes must be 1 to 64, not {self.lanes}")
        _require(self.bus_bits in (128, 256, 512, 1024),
                 f"bus width must be 128, 256, 512 or 1024 bits, not {self.bus_bits}")  # fmt: skip
        _require(12 < self.addr_bits <= 64, f"address width must be 13 to 64 bits, not {self.addr_bits}")
        _require(64 <= self.max_cols <= 65536, f"max_cols must be 64 to 65536, not {self.max_cols}")
        _require(1 <= self.max_rows <= 1 << 24, f"max_rows must be 1 to {1 << 24}, not {self.max_rows}")
        _require(1 <= self.burst_beats <= 256, f"burst length must be 1 to 256 beats, not {self.burst_beats}")
        _require(self.burst_beats * self.beat_bytes <= 4096,
                 f"a burst of {self.burst_beats} beats of {self.beat_bytes} bytes crosses 4 KiB")  # fmt: skip
        _require(self.burst_beats & (self.burst_beats - 1) == 0,
                 f"burst length must be a power of two, not {self.burst_beats}")  # fmt: skip
        for name in ("weight", "activation", "scale", "result"):
            depth = getattr(self, f"{name}_fifo_beats")
            _require(depth >= self.burst_beats,
                     f"{name}_fifo_beats must hold a burst of {self.burst_beats} beats, not {depth}")  # fmt: skip
        _require(2 <= self.queue_depth <= 256, f"queue depth must be 2 to 256, not {self.queue_depth}")
        _require(8 <= self.segment_bits <= 48, f"accumulator segments must have 8 to 48 bits, not {self.segment_bits}")
        # The reconstructed weight is the 25-bit operand of a DSP48E1.
        _require(self.weight_bits <= 25, f"a reconstructed weight may have 25 bits at most, not {self.weight_bits}"
                 f" (rank P = {c.P}, register length K = {c.K})")  # fmt: skip

    # --- bus and regions -------------------------------------------------------------------------
    @property
    def beat_bytes(self) -> int:
        return self.bus_bits // 8

    @property
    def step_bits(self) -> int:
        """Bits of one step: a word for every lane."""
        return self.lanes * self.codec.word_bits

    @property
    def results_per_beat(self) -> int:
        """Binary32 values (results, row scales) in a beat."""
        return self.bus_bits // 32

    @property
    def activations_per_beat(self) -> int:
        """Binary16 values in a beat."""
        return self.bus_bits // 16

    def row_groups(self, rows: int) -> int:
        return -(-rows // self.lanes)

    def steps(self, rows: int, cols: int) -> int:
        return self.row_groups(rows) * self.codec.blocks(cols)

    def image_beats(self, rows: int, cols: int) -> int:
        return -(-self.steps(rows, cols) * self.step_bits // self.bus_bits)

    def activation_beats(self, cols: int) -> int:
        return -(-cols // self.activations_per_beat)

    def scale_beats(self, rows: int) -> int:
        """Beats of the row-scale region (0 for codecs without)."""
        return -(-rows // self.results_per_beat) if self.codec.row_scales else 0

    def result_beats(self, rows: int) -> int:
        return -(-rows // self.results_per_beat)

    # --- widths ----------------------------------------------------------------------------------
    @property
    def weight_bits(self) -> int:
        """Signed width of N_c (or M)."""
        return signed_bits(self.codec.weight_max)

    @property
    def max_groups(self) -> int:
        """Entries of one half of the activation buffer."""
        return self.codec.groups(self.max_cols)

    @property
    def dot_max(self) -> int:
        """Largest magnitude of one step's sum of products, before the common shift."""
        c = self.codec
        column = c.weight_max << 17
        return c.step_columns * (column << 30 if c.is_fp16 else column)

    @property
    def dot_bits(self) -> int:
        return signed_bits(self.dot_max)

    @property
    def shift_max(self) -> int:
        """Largest common shift of a step: (e - exponent_min) + (E_g + 14)."""
        return self.codec.exponent_max - self.codec.exponent_min + ACTIVATION_EXPONENT_MAX

    @property
    def acc_bits(self) -> int:
        """Signed width of the exact accumulator."""
        steps = self.codec.blocks(self.max_cols)
        return signed_bits(self.dot_max * steps << self.shift_max)

    @property
    def acc_fraction_bits(self) -> int:
        """Binary places of the accumulator.

        The contract shifts by e + 8; the hardware leaves out the zeros that no exponent of B bits
        can fill, e - exponent_min instead, and the rounding unit knows.
        """
        dropped = 0 if self.codec.is_fp16 else EXPONENT_OFFSET + self.codec.exponent_min
        return self.codec.fraction_bits - dropped

    @property
    def acc_segments(self) -> int:
        return -(-self.acc_bits // self.segment_bits)
