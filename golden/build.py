"""The parameter object of a build: every width, count and limit of the hardware is derived here.

A codec (`seedlm.golden.codecs`) says what the bits of a weight mean; `Config` adds what a build of the accelerator
chooses: lanes, bus, buffers, and which other codecs the same engine takes. It is immutable, checks itself on
construction and names the offending value.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from seedlm.golden.codecs import CODECS, DEFAULT_CODEC, Codec
from seedlm.golden.codecs._base import require, signed_bits
from seedlm.golden.errors import SeedLMError

__all__ = ["ACTIVATION_EXPONENT_MAX", "MANTISSA_BITS", "Config", "clog2"]

MANTISSA_BITS = 18  # an activation's mantissa: the B operand of a DSP48E1
MANTISSA_MAX = 2047 << 6  # its largest magnitude: 11 bits, shifted
ACTIVATION_EXPONENT_MAX = 29  # E_g + 14 lies in 0..29
BURST_BYTES = 4096  # no AXI4 burst crosses a multiple of it
MAX_CODECS = 32  # of a build: what the registers can tell
SCALE_BURST_BEATS = 16  # row scales are needed slowly; short bursts keep their buffer small


def clog2(n: int) -> int:
    """Bits needed to count to `n` different values (0 for n = 1)."""
    return max(0, (n - 1).bit_length())


def _power_of_two(n: int) -> int:
    """The largest power of two up to `n`."""
    return 1 << (n.bit_length() - 1)


@dataclass(frozen=True, kw_only=True)
class Config:
    """One build of the accelerator: a codec or several, and the sizes the hardware is made with.

    What is asked for the sizes of a matrix (steps, beats) is meant for `codec`: of a build of several codecs, `of`
    gives what a matrix in one of them sees.

    Parameters
    ----------
    codec : Codec
        What the weights are stored as; the first of several codecs.
    more : tuple of Codec
        The others. Where a format leaves the columns of a step to the build, they are chosen so that they divide G.
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
    group : int, optional
        G: columns that share an activation exponent, for all codecs of the build. Default: the codec's own; of several
        the largest, as a power of two.
    """

    codec: Codec = CODECS[DEFAULT_CODEC]
    more: tuple[Codec, ...] = ()
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
    group: int = None  # type: ignore[assignment]  # the default depends on the codecs

    def __post_init__(self) -> None:
        self._settle_codecs()
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
        for codec in self.codecs:  # the weight is the 25-bit operand of a DSP48E1
            require(codec.weight_bits <= 25, f"a weight of codec {codec} has {codec.weight_bits} bits:"
                    " the multiplier takes 25 at most")  # fmt: skip

    def _settle_codecs(self) -> None:
        """Codecs and G as the build has them."""
        if self.group is None:
            widest = max(codec.group for codec in self.codecs)
            object.__setattr__(self, "group", widest if not self.more else 1 << clog2(widest))
        require(not self.more or self.group & (self.group - 1) == 0,
                f"a build of several codecs needs a power of two of columns in an activation group, not {self.group}")
        require(len(self.codecs) <= MAX_CODECS, f"a build has {MAX_CODECS} codecs at most, not {len(self.codecs)}")
        fitting = tuple(codec.in_groups_of(self.group) for codec in self.codecs)
        object.__setattr__(self, "codec", fitting[0])
        object.__setattr__(self, "more", fitting[1:])
        for n, codec in enumerate(self.codecs):
            require(1 <= self.group <= 64 and self.group % codec.step_columns == 0,
                    f"activation groups of {self.group} columns cannot be cut into the {codec.step_columns} columns"
                    f" that codec {codec} takes per step")  # fmt: skip
            twin = next((other for other in self.codecs[:n] if codec.same_format(other)), None)
            require(twin is None, f"codec {codec} is in this build already, as {twin}")
        split = [codec for codec in self.codecs if codec.column_shift_max]
        require(not self.more or all(self.columns % codec.step_columns == 0 for codec in split),
                f"{self.columns} multipliers of a lane cannot be shared out to the columns of {split}")

    # --- codecs ----------------------------------------------------------------------------------
    @property
    def has_headers(self) -> bool:
        """Some codec has steps without weights."""
        return any(codec.header_steps for codec in self.codecs)

    @property
    def steps_vary(self) -> bool:
        """The place of a row's last step is not the number of its steps, less one: steps differ, or some have none."""
        return bool(self.more) or self.has_headers

    @property
    def codecs(self) -> tuple[Codec, ...]:
        """All codecs of the build, in the order of their numbers."""
        return (self.codec, *self.more)

    def number(self, codec: Codec) -> int:
        """Which of the build's codecs stores weights like that.

        Raises
        ------
        SeedLMError
            None does.
        """
        for n, own in enumerate(self.codecs):
            if own.same_format(codec):
                return n
        takes = ", ".join(own.name for own in self.codecs)
        raise SeedLMError(f"this build takes weights of codec {takes}, not {codec}")

    def of(self, codec: Codec) -> Config:
        """The build as a matrix of that codec sees it: with this codec alone, and the build's G.

        Raises
        ------
        SeedLMError
            The build has no such codec.
        """
        own = self.codecs[self.number(codec)]
        return self if not self.more else replace(self, codec=own, more=())

    @property
    def name(self) -> str:
        """What reports call the build: its codecs."""
        return "+".join(codec.name for codec in self.codecs)

    # --- bus and regions -------------------------------------------------------------------------
    @property
    def beat_bytes(self) -> int:
        return self.bus_bits // 8

    @property
    def step_bits(self) -> int:
        """Bits of one step: a word for every lane, of the widest codec."""
        return self.lanes * self.word_bits

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
        """There are products with a region of row scales, and hardware that reads it."""
        return any(codec.row_scales for codec in self.codecs)

    # --- widths ----------------------------------------------------------------------------------
    @property
    def columns(self) -> int:
        """Multipliers of a lane: the columns of a step of the codec that has most; a chain has room for all columns
        that share a factor."""
        shared = max((codec.step_columns for codec in self.codecs if codec.factor_max > 1), default=0)
        return max(self.chains * shared, *(codec.step_columns for codec in self.codecs))

    @property
    def place_columns(self) -> int:
        """Columns of a place, the unit in which steps move along a row: those of the codec's step that has fewest."""
        return min(codec.step_columns for codec in self.codecs)

    @property
    def chains(self) -> int:
        """Parts of a lane's dot product that are shifted by an amount of their own before they are added."""
        return max((codec.step_columns for codec in self.codecs if codec.column_shift_max), default=1)

    @property
    def word_bits(self) -> int:
        """Bits that a lane takes per step at most."""
        return max(codec.word_bits for codec in self.codecs)

    @property
    def word_widths(self) -> tuple[int, ...]:
        """Bits of a lane's word in the different codecs, in ascending order."""
        return tuple(sorted({codec.word_bits for codec in self.codecs}))

    @property
    def mixes_scales(self) -> bool:
        """Some codecs have row scales and some have not."""
        return len({codec.row_scales for codec in self.codecs}) > 1

    @property
    def weight_bits(self) -> int:
        """Signed width of an integer weight."""
        return max(codec.weight_bits for codec in self.codecs)

    @property
    def align_max(self) -> int:
        """Largest shift of a part of the dot product (`chains`)."""
        return max(codec.column_shift_max for codec in self.codecs)

    @property
    def has_factors(self) -> bool:
        """Some codec's words give a factor M, with which a chain's sum is multiplied."""
        return any(codec.factor_max > 1 for codec in self.codecs)

    @property
    def factor_bits(self) -> int:
        """Signed width of M."""
        return max(signed_bits(codec.factor_max) for codec in self.codecs)

    @property
    def factored_bits(self) -> int:
        """Signed width of the sums that are multiplied with M."""
        return max((signed_bits(_sum_max(c)) for c in self.codecs if c.factor_max > 1), default=1)

    @property
    def max_groups(self) -> int:
        """Entries of one half of the activation buffer."""
        return -(-self.max_cols // self.group)

    @property
    def max_places(self) -> int:
        """Places of the longest row."""
        return -(-self.max_cols // self.place_columns)

    @property
    def max_blocks(self) -> int:
        """Steps of the longest row."""
        return max(codec.blocks(self.max_cols) for codec in self.codecs)

    @property
    def chain_bits(self) -> int:
        """Signed width of a part of the dot product, before a factor and its shift."""
        return max(signed_bits(_chain_max(codec)) for codec in self.codecs)

    @property
    def aligned_bits(self) -> int:
        """Signed width of a part of the dot product with its factor, before its shift."""
        return max(signed_bits(_factored_max(codec)) for codec in self.codecs)

    @property
    def dot_bits(self) -> int:
        """Signed width of a step's sum of products, before the common shift."""
        return max(signed_bits(_dot_max(codec) << self.chain_lead(codec)) for codec in self.codecs)

    def lead(self, codec: Codec) -> int:
        """How far the sums of a codec are shifted so that the binary point of all codecs is at one place."""
        return self.acc_fraction_bits - codec.acc_fraction_bits

    def chain_lead(self, codec: Codec) -> int:
        """The part of a codec's lead for which the shifts of the chains are used, where its words ask for none."""
        return 0 if codec.column_shift_max else min(self.lead(codec), self.align_max)

    @property
    def offset_max(self) -> int:
        """Largest common shift of a step without its activations': what its words ask for, and the rest of the lead."""
        return max(self.lead(codec) - self.chain_lead(codec) + codec.step_shift_max for codec in self.codecs)

    @property
    def shift_max(self) -> int:
        """Largest common shift of a step: `offset_max`, and E_g + 14."""
        return self.offset_max + ACTIVATION_EXPONENT_MAX

    @property
    def acc_bits(self) -> int:
        """Signed width of the exact accumulator."""
        return max(
            signed_bits(_dot_max(codec) * codec.blocks(self.max_cols)
                        << self.lead(codec) + codec.step_shift_max + ACTIVATION_EXPONENT_MAX)
            for codec in self.codecs
        )  # fmt: skip

    @property
    def acc_fraction_bits(self) -> int:
        """Binary places of the accumulator."""
        return max(codec.acc_fraction_bits for codec in self.codecs)

    @property
    def acc_segments(self) -> int:
        return -(-self.acc_bits // self.segment_bits)


def _chain_max(codec: Codec) -> int:
    """Largest magnitude of the products that are added before a shift that not all columns share."""
    columns = 1 if codec.column_shift_max else codec.step_columns
    return columns * (codec.weight_max << MANTISSA_BITS - 1)


def _sum_max(codec: Codec) -> int:
    """Largest magnitude of the sum that is multiplied with M, to the last bit: a bit more is a multiplier more."""
    return codec.step_columns * codec.weight_max * MANTISSA_MAX


def _factored_max(codec: Codec) -> int:
    """`_chain_max` with the factor."""
    return _sum_max(codec) * codec.factor_max if codec.factor_max > 1 else _chain_max(codec)


def _dot_max(codec: Codec) -> int:
    """Largest magnitude of one step's sum of products, before the common shift."""
    if codec.factor_max > 1:
        return _factored_max(codec)
    return codec.step_columns * (codec.weight_max << MANTISSA_BITS - 1 + codec.column_shift_max)
