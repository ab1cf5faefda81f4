"""Payloads that travel between the components: one function per layout, all widths from the configuration.

Two kinds of connection carry them: `amaranth.lib.stream.Signature(layout)` where the receiver may wait, and
`valid_only(layout)` (the same without ``ready``) where room was reserved beforehand.
"""

from __future__ import annotations

from amaranth.hdl import signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import Out

from seedlm.golden.build import MANTISSA_BITS, Config, clog2

__all__ = [
    "CODE_BITS", "beat_layout", "cols_bits", "completion_layout", "convert_job_layout", "descriptor_layout",
    "events_layout", "gearbox_job_layout", "group_layout", "read_job_layout", "request_layout",
    "result_layout", "rounded_layout", "rounding_layout", "rows_bits", "scale_job_layout", "sequence_job_layout",
    "step_layout", "valid_only", "writer_job_layout",
]  # fmt: skip

CODE_BITS = 3  # an error code (hdl.registers.ErrorCode)
BEAT_COUNT_BITS = 32  # beats of one job
STEP_COUNT_BITS = 32  # steps of one product


def _present(**fields: int) -> dict[str, int]:
    """Fields that only some builds have: those that are not of width 0."""
    return {name: width for name, width in fields.items() if width}


def valid_only(layout: data.StructLayout) -> wiring.Signature:
    """A stream whose receiver always takes what comes.

    Not ``stream.Signature(..., always_ready=True)``: its constant ``ready`` cannot be a port of a top-level module.
    """
    return wiring.Signature({"payload": Out(layout), "valid": Out(1)})


def rows_bits(config: Config) -> int:
    """Bits of a row count, 0..max_rows."""
    return config.max_rows.bit_length()


def cols_bits(config: Config) -> int:
    """Bits of a column count, 0..max_cols."""
    return config.max_cols.bit_length()


def beat_layout(config: Config) -> data.StructLayout:
    """One beat of a region, in order."""
    return data.StructLayout({
        "data": config.bus_bits,  # the beat as it lay in memory, little endian
        "last": 1,  # last beat of its job
        "error": 1,  # the memory answered this beat with an error; data is arbitrary
    })  # fmt: skip


def read_job_layout(config: Config) -> data.StructLayout:
    """A region to be read from start to end."""
    return data.StructLayout({
        "address": config.addr_bits,  # byte address of the first beat, aligned to a beat
        "beats": BEAT_COUNT_BITS,  # length in beats; 0: nothing is read and nothing comes out
    })  # fmt: skip


def request_layout(config: Config) -> data.StructLayout:
    """One AXI4 burst of a job."""
    return data.StructLayout({
        "address": config.addr_bits,  # byte address of the first beat, aligned to a beat
        "len": 8,  # beats - 1, as in AxLEN
        "last": 1,  # last burst of its job
    })  # fmt: skip


def descriptor_layout(config: Config) -> data.StructLayout:
    """A product as software submitted it."""
    return data.StructLayout({
        "weights": config.addr_bits,  # byte address of the weight image
        "activations": config.addr_bits,  # byte address of the activations
        "results": config.addr_bits,  # byte address of the results
        "scales": config.addr_bits,  # byte address of the row scales (codecs with row scales)
        "rows": rows_bits(config),  # outputs
        "cols": cols_bits(config),  # inputs
        "scale": 32,  # binary32, the product's scale (codecs without row scales)
        "same": 1,  # the activations are those of the product before: do not load them
        "bad": 1,  # a value did not fit its field: the product ends with the code DESCRIPTOR
    } | _present(
        codec=clog2(len(config.codecs)),  # number of the weights' codec
    ))  # fmt: skip


def writer_job_layout(config: Config) -> data.StructLayout:
    """Where the results of a product go."""
    return data.StructLayout({
        "address": config.addr_bits,  # byte address of the results, aligned to 4 KiB
        "rows": rows_bits(config),  # binary32 values to write; 0: nothing is written, only the completion is reported
        "code": CODE_BITS,  # error known before the product started, 0 if none; goes before all others
    })  # fmt: skip


def result_layout(config: Config) -> data.StructLayout:
    """One output of a product, or the marker that ends a product without outputs."""
    return data.StructLayout({
        "data": 32,  # binary32
        "write": 1,  # 0: a marker, nothing to store
        "last": 1,  # the product ends with this item
        "code": CODE_BITS,  # the product's error, 0 if none; counts where last is set
    })  # fmt: skip


def completion_layout(config: Config) -> data.StructLayout:
    """A finished product, in the order of submission."""
    return data.StructLayout({
        "code": CODE_BITS,  # 0, or the first error of the product
    })  # fmt: skip


def gearbox_job_layout(config: Config) -> data.StructLayout:
    """A product for the gearbox."""
    return data.StructLayout({
        "steps": STEP_COUNT_BITS,  # steps of the product, at least 1
    } | _present(
        width=clog2(len(config.word_widths)),  # which of the build's word widths
    ))  # fmt: skip


def step_layout(config: Config) -> data.StructLayout:
    """One step of the weight image."""
    return data.StructLayout({
        "data": config.step_bits,  # a word for every lane, lane 0 in the low bits
        "last": 1,  # last step of its product
        "error": 1,  # some of the bits come from a beat that was in error
    })  # fmt: skip


def convert_job_layout(config: Config) -> data.StructLayout:
    """A vector of activations to be converted."""
    return data.StructLayout({
        "cols": cols_bits(config),  # elements, at least 1
    })  # fmt: skip


def group_layout(config: Config) -> data.StructLayout:
    """One group of activations that share an exponent."""
    return data.StructLayout({
        "mantissas": data.ArrayLayout(signed(MANTISSA_BITS), config.group),  # first column first; 0 past the end
        "exponent": 5,  # E_g + 14, 0..29: x = mantissa * 2**(exponent - 30)
        "index": clog2(config.max_groups),  # number of the group in its vector
        "last": 1,  # last group of the vector
        "nonfinite": 1,  # a NaN or an infinity was in this group (whose mantissas are arbitrary) or an earlier one
        "error": 1,  # a beat in error was in this group or an earlier one of the vector
    })  # fmt: skip


def rounding_layout(config: Config, tag_bits: int) -> data.StructLayout:
    """An exact sum to be rounded and scaled."""
    return data.StructLayout({
        "acc": signed(config.acc_bits),  # the sum, with config.acc_fraction_bits binary places
        "scale": 32,  # binary32
        "nan": 1,  # the result is to be a quiet NaN whatever the rest says
        "tag": tag_bits,  # travels along
    })  # fmt: skip


def rounded_layout(tag_bits: int) -> data.StructLayout:
    """A rounded result."""
    return data.StructLayout({
        "data": 32,  # binary32
        "tag": tag_bits,  # what came in with the sum
    })  # fmt: skip


def sequence_job_layout(config: Config) -> data.StructLayout:
    """The steps of a product, in order: `groups` times (a row group) `blocks` steps."""
    return data.StructLayout({
        "groups": config.row_groups(config.max_rows).bit_length(),  # row groups; 0: only the marker with `code`
        "tail_rows": config.lanes.bit_length(),  # rows of the last row group, 1..lanes
        "pad": clog2(config.results_per_beat),  # values missing in the last beat of results
        "same": 1,  # use the activations that were loaded last
        "code": CODE_BITS,  # error known before the product started, 0 if none
    } | _present(
        blocks=0 if config.steps_vary else config.max_blocks.bit_length(),  # steps of a row group
        # Where the number of steps does not tell it: places that a step covers, place of a row's last step.
        stride=(config.columns // config.place_columns).bit_length() if config.steps_vary else 0,
        last_place=max(1, clog2(config.max_places)) if config.steps_vary else 0,
        headers=max(codec.header_steps for codec in config.codecs).bit_length(),  # steps in front of a chunk
        codec=clog2(len(config.codecs)),  # number of the codec, in builds of several
        row_scales=int(config.mixes_scales),  # the product has a region of row scales, where not all have
    ))  # fmt: skip


def scale_job_layout(config: Config) -> data.StructLayout:
    """The scale of a product."""
    return data.StructLayout({
        "scale": 32,  # binary32; without meaning for codecs with row scales
    } | _present(
        row_scales=int(config.mixes_scales),  # rows have scales of their own, where not all products' have
    ))  # fmt: skip


def events_layout() -> data.StructLayout:
    """What the counters count: one bit per event, high in each clock cycle in which it happens.

    Of the categories of cycles the first one that is high counts; if none is, the cycle counts as "control".
    """
    return data.StructLayout({
        "request": 1,  # a read request was offered or taken: the first one starts the cycle counter
        "streaming": 1,  # category: a step was issued to the lanes
        "wait_memory": 1,  # category: steps are due, weights or row scales are not there
        "load_activations": 1,  # category: steps are due, the activations are not there
        "draining": 1,  # category: no step is due, rows are on their way to the result buffer
        "writing": 1,  # category: all results are in the buffer, not all are written
        "weight_beat": 1,  # a beat of the weight image was received
        "activation_beat": 1,  # a beat of activations was received
        "scale_beat": 1,  # a beat of row scales was received
        "result_beat": 1,  # a beat of results was sent
        "read_burst": 1,  # a read request was taken
        "write_burst": 1,  # a write request was taken
        "read_stall": 1,  # a read request was offered and not taken
        "step": 1,  # a step was issued to the lanes
    })  # fmt: skip
