"""The parameter object of a build: every width, count and limit of the hardware is derived here.

A codec (`seedlm.golden.codecs`) says what the bits of a weight mean; `Config` adds what a build of the accelerator
chooses: lanes, bus, buffers. It is immutable, checks itself on construction and names the offending value.
"""

from __future__ import annotations

from dataclasses import dataclass

from seedlm.golden.codecs import CODECS, DEFAULT_CODEC, Codec
from seedlm.golden.codecs._base import require, signed_bits

__all__ = ["ACTIVATION_EXPONENT_MAX", "MANTISSA_BITS", "Config", "clog2"]

MANTISSA_BITS = 18  # an activation's mantissa: the B operand of a DSP48E1
ACTIVATION_EXPONENT_MAX = 29  # E_g + 14 lies in 0..29
BURST_BYTES = 4096  # no AXI4 burst crosses a multiple of it
SCALE_BURST_BEATS = 16  # row scales are needed slowly; short bursts keep their buffer small


def clog2(n: int) -> int:
    """Bits needed to count to `n` different values (0 for n = 1)."""
    return max(0, (n - 1).bit_length())


def _power_of_two(n: int) -> int:
    """The largest power of two up to `n`."""
    return 1 << (n.bit_length() - 1)


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
    burst_beats : int, optional
        Longest AXI4 burst; a burst never crosses 4 KiB. Default: 64, or what 4 KiB hold if that is less.
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
    burst_beats: int = None  # type: ignore[assignment]  # the default depends on the bus
    weight_fifo_beats: int = 512
    activation_fifo_beats: int = 128
    scale_fifo_beats: int = 64
    result_fifo_beats: int = 128
    queue_depth: int = 16
    segment_bits: int = 34

    def __post_init__(self) -> None:
        require(1 <= self.lanes <= 64, f"lanes must be 1 to 64, not {self.lanes}")
        require(self.bus_bits in (128, 256, 512, 1024),
                 f"bus width must be 128, 256, 512 or 1024 bits, not {self.bus_bits}")  # fmt: skip
        if self.burst_beats is None:
            object.__setattr__(self, "burst_beats", min(64, BURST_BYTES // self.beat_bytes))
        require(12 < self.addr_bits <= 64, f"address width must be 13 to 64 bits, not {self.addr_bits}")
        require(64 <= self.max_cols <= 65536, f"max_cols must be 64 to 65536, not {self.max_cols}")
        require(1 <= self.max_rows <= 1 << 24, f"max_rows must be 1 to {1 << 24}, not {self.max_rows}")
        require(1 <= self.burst_beats <= 256, f"burst length must be 1 to 256 beats, not {self.burst_beats}")
        require(self.burst_beats * self.beat_bytes <= BURST_BYTES,
                 f"a burst of {self.burst_beats} beats of {self.beat_bytes} bytes crosses 4 KiB")  # fmt: skip
        require(self.burst_beats & (self.burst_beats - 1) == 0,
                 f"burst length must be a power of two, not {self.burst_beats}")  # fmt: skip
        for name in ("weight", "activation", "scale", "result"):
            depth = getattr(self, f"{name}_fifo_beats")
            require(depth >= self.burst_beats,
                     f"{name}_fifo_beats must hold a burst of {self.burst_beats} beats, not {depth}")  # fmt: skip
        least = self._row_group_beats + 2
        require(self.result_fifo_beats >= least, f"result_fifo_beats must be at least {least} for {self.lanes} lanes"
                f" on a bus of {self.bus_bits} bits, not {self.result_fifo_beats}")  # fmt: skip
        least = self._row_group_beats + 1
        require(not self.row_scales or self.scale_fifo_beats >= least, f"scale_fifo_beats must be at least {least} for"
                f" {self.lanes} lanes on a bus of {self.bus_bits} bits, not {self.scale_fifo_beats}")  # fmt: skip
        require(2 <= self.queue_depth <= 256, f"queue depth must be 2 to 256, not {self.queue_depth}")
        require(8 <= self.segment_bits <= 48, f"accumulator segments must have 8 to 48 bits, not {self.segment_bits}")
        # The weight is the 25-bit operand of a DSP48E1.
        require(self.weight_bits <= 25, f"a weight of codec {self.codec} has {self.weight_bits} bits:"
                 " the multiplier takes 25 at most")  # fmt: skip

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

    @property
    def _row_group_beats(self) -> int:
        """Beats of the results, or of the row scales, of a row group that begins with a beat."""
        return -(-self.lanes // self.results_per_beat)

    @property
    def result_burst_beats(self) -> int:
        """The longest burst of results, a power of two.

        Results that do not fill a burst stay in the buffer, and the lanes go on only if a row group and the padding
        of a beat have room beside them.
        """
        return _power_of_two(min(self.burst_beats, self.result_fifo_beats - self._row_group_beats - 1))

    @property
    def scale_burst_beats(self) -> int:
        """The longest burst of row scales, a power of two.

        A burst is requested when the whole of it has room, so the buffer may hold as little as its size less a burst
        and one beat more; that has to be a row group wherever in a beat that begins.
        """
        most = min(self.burst_beats, SCALE_BURST_BEATS, self.scale_fifo_beats // 2)
        return _power_of_two(min(most, self.scale_fifo_beats - self._row_group_beats))

    def row_groups(self, rows: int) -> int:
        return -(-rows // self.lanes)

    def steps(self, rows: int, cols: int) -> int:
        return self.row_groups(rows) * self.codec.blocks(cols)

    def image_beats(self, rows: int, cols: int) -> int:
        return -(-self.steps(rows, cols) * self.step_bits // self.bus_bits)

    def activation_beats(self, cols: int) -> int:
        return -(-cols // self.activations_per_beat)

    def scale_beats(self, rows: int) -> int:
        """Beats of the row-scale region (0 for builds without)."""
        return -(-rows // self.results_per_beat) if self.row_scales else 0

    def result_beats(self, rows: int) -> int:
        return -(-rows // self.results_per_beat)

    @property
    def row_scales(self) -> bool:
        """There is a region of row scales, and hardware that reads it."""
        return self.codec.row_scales

    # --- widths ----------------------------------------------------------------------------------
    @property
    def weight_bits(self) -> int:
        """Signed width of an integer weight."""
        return self.codec.weight_bits

    @property
    def group(self) -> int:
        """G: columns that share an activation exponent."""
        return self.codec.group

    @property
    def max_groups(self) -> int:
        """Entries of one half of the activation buffer."""
        return self.codec.groups(self.max_cols)

    @property
    def dot_max(self) -> int:
        """Largest magnitude of one step's sum of products, before the common shift."""
        column = self.codec.weight_max << (MANTISSA_BITS - 1)
        return self.codec.step_columns * (column << self.codec.column_shift_max)

    @property
    def dot_bits(self) -> int:
        return signed_bits(self.dot_max)

    @property
    def shift_max(self) -> int:
        """Largest common shift of a step: what its words ask for, and E_g + 14."""
        return self.codec.step_shift_max + ACTIVATION_EXPONENT_MAX

    @property
    def acc_bits(self) -> int:
        """Signed width of the exact accumulator."""
        steps = self.codec.blocks(self.max_cols)
        return signed_bits(self.dot_max * steps << self.shift_max)

    @property
    def acc_fraction_bits(self) -> int:
        """Binary places of the accumulator."""
        return self.codec.acc_fraction_bits

    @property
    def acc_segments(self) -> int:
        return -(-self.acc_bits // self.segment_bits)
