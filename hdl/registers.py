"""The accelerator's registers: the one table that RTL, driver, C header and documentation are made from.

All registers are 32 bits wide and read and written whole. Offsets are in bytes. This module needs
nothing but the Python standard library, so that a host without the hardware tools can use it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from seedlm.golden.build import MAX_CODECS, Config
from seedlm.golden.codecs import FAMILIES, Codec

__all__ = [
    "ADDRESS_BITS", "CATEGORIES", "COUNTERS", "ERROR_BITS", "ErrorCode", "Access", "Field", "ID", "REGISTERS",
    "Register", "VERSION_MAJOR", "VERSION_MINOR", "c_header", "configuration_words", "counter_registers", "is_there",
    "markdown", "register", "version_word",
]  # fmt: skip

ID = 0x5344_4C4D  # "SDLM", most significant byte first
VERSION_MAJOR = 1  # changes when a program written for the old map would fail
VERSION_MINOR = 1  # changes when something is added
SEVERAL_MINOR = 2  # of builds of several codecs, which have registers more
ADDRESS_BITS = 12  # of the AXI4-Lite port: one page of 4 KiB
ERROR_BITS = 3


class ErrorCode(enum.IntEnum):
    """How a product ended. Of several causes the first one counts."""

    NONE = 0
    DESCRIPTOR = 1
    NONFINITE = 2
    READ_WEIGHTS = 3
    READ_ACTIVATIONS = 4
    READ_SCALES = 5
    WRITE = 6
    TIMEOUT = 7

    @property
    def doc(self) -> str:
        """The meaning in one phrase."""
        return _ERROR_DOC[self]


_ERROR_DOC = {
    ErrorCode.NONE: "no error",
    ErrorCode.DESCRIPTOR: "the descriptor is invalid: nothing was read or written",
    ErrorCode.NONFINITE: "an activation is NaN or infinite: every result is the quiet NaN 0x7FC00000",
    ErrorCode.READ_WEIGHTS: "the memory answered a read of the weight image with an error or a wrong RLAST",
    ErrorCode.READ_ACTIVATIONS: "the memory answered a read of the activations with an error or a wrong RLAST",
    ErrorCode.READ_SCALES: "the memory answered a read of the row scales with an error or a wrong RLAST",
    ErrorCode.WRITE: "the memory answered a write of the results with an error",
    ErrorCode.TIMEOUT: "no progress for WATCHDOG clocks: this product and all later ones in the queue were aborted",
}


class Access(enum.Enum):
    """What software may do with a register. Anything else answers SLVERR and changes nothing."""

    RO = "ro"
    RW = "rw"
    W1C = "w1c"
    WO = "wo"

    @property
    def doc(self) -> str:
        return {
            "ro": "read only",
            "rw": "read and write",
            "w1c": "read; writing a 1 clears the bit",
            "wo": "write only, reads as 0",
        }[self.value]

    @property
    def writable(self) -> bool:
        return self is not Access.RO


@dataclass(frozen=True)
class Field:
    """Bits `lsb` to `lsb + width - 1` of a register."""

    name: str
    lsb: int
    width: int
    doc: str

    @property
    def mask(self) -> int:
        """The field's bits in place."""
        return ((1 << self.width) - 1) << self.lsb


@dataclass(frozen=True)
class Register:
    """One 32-bit register.

    `reset` is the value after reset, None where it depends on the build (see `configuration_words`).
    """

    name: str
    offset: int
    access: Access
    fields: tuple[Field, ...]
    doc: str
    reset: int | None = 0

    def field(self, name: str) -> Field:
        """The field called `name`; KeyError if there is none."""
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(f"register {self.name} has no field {name!r}")

    def pack(self, values: Mapping[str, int] | None = None, /, **more: int) -> int:
        """The register's value from its fields; those not named are 0.

        Raises
        ------
        ValueError
            A value does not fit its field.
        """
        word = 0
        for name, value in {**(values or {}), **more}.items():
            field = self.field(name)
            if not 0 <= value < 1 << field.width:
                raise ValueError(f"{self.name}.{name} has {field.width} bits and cannot hold {value}")
            word |= value << field.lsb
        return word

    def unpack(self, word: int) -> dict[str, int]:
        """The fields of `word` by name."""
        return {f.name: (word & f.mask) >> f.lsb for f in self.fields}


# Where the cycles of a batch of products go. Exclusive: they add up to `cycles`.
CATEGORIES = {
    "streaming": "a step was issued to the lanes",
    "wait_memory": "the lanes waited for weights or row scales",
    "load_activations": "the lanes waited for the activations",
    "draining": "no more steps: the last rows pass through the lanes and the rounding unit",
    "writing": "all results are computed, the last ones are being written",
    "control": "none of the other causes",
}

# Name -> meaning, in the order of their addresses.
COUNTERS = {
    "cycles": "clock cycles from the first read request of a batch of products to the moment when all are finished",
    **{name: "cycles in which " + doc for name, doc in CATEGORIES.items()},
    "weight_beats": "beats of the weight image received",
    "activation_beats": "beats of activations received",
    "scale_beats": "beats of row scales received",
    "result_beats": "beats of results sent",
    "read_bursts": "read bursts requested",
    "write_bursts": "write bursts requested",
    "read_stalls": "cycles in which a read request was offered and not taken",
    "steps": "steps issued to the lanes",
}
COUNTERS["control"] = "cycles that have " + CATEGORIES["control"]


def _table() -> tuple[Register, ...]:
    ro, rw, w1c, wo = Access.RO, Access.RW, Access.W1C, Access.WO

    def value(doc: str, width: int = 32) -> tuple[Field, ...]:
        return (Field("value", 0, width, doc),)

    def pair(name: str, offset: int, access: Access, doc: str) -> tuple[Register, Register]:
        return (
            Register(f"{name}_LO", offset, access, value("bits 31 to 0"), doc + ", low half"),
            Register(f"{name}_HI", offset + 4, access, value("bits 63 to 32"), doc + ", high half"),
        )

    families = ", ".join(f"{family.family_number}: {name}" for name, family in FAMILIES.items())
    irq = (
        Field("product_done", 0, 1, "a product has finished"),
        Field("idle", 1, 1, "the last of the submitted products has finished"),
        Field("error", 2, 1, "a product has finished with an error code"),
        Field("stray", 3, 1, "the memory gave an answer that nothing had asked for"),
    )
    table = [
        Register("ID", 0x000, ro, value("0x53444C4D"), "Identity", ID),
        Register("VERSION", 0x004, ro, (
            Field("minor", 0, 16, "grows when something is added"),
            Field("major", 16, 16, "grows when a program for the old map would fail"),
        ), "Version of this register map (minor 2 in builds of several codecs)", VERSION_MAJOR << 16 | VERSION_MINOR),
        Register("CODEC", 0x008, ro, (codec := (
            Field("C", 0, 8, "weights in a block (what a family does not have is 0)"),
            Field("P", 8, 4, "coefficients in a block"),
            Field("K", 16, 5, "length of the shift register"),
            Field("B", 24, 3, "exponent bits"),
            Field("family", 27, 4, f"codec family ({families})"),
            Field("row_scales", 31, 1, "every row has a scale of its own"),
        )), "How weights are stored", None),
        Register("WIDTHS", 0x00C, ro, (
            Field("lanes", 0, 8, "rows worked on at once"),
            Field("addr_bits", 8, 8, "bits of a memory address"),
            Field("bus_bits", 16, 16, "bits of a beat of the memory bus"),
        ), "Sizes of the engine and the memory port", None),
        Register("STEP", 0x010, ro, (
            Field("word_bits", 0, 16, "bits one lane takes per step"),
            Field("step_bits", 16, 16, "bits of a step: a word for every lane"),
        ), "Sizes of the weight stream", None),
        Register("MAX_COLS", 0x014, ro, value("columns"), "Most columns of a product", None),
        Register("MAX_ROWS", 0x018, ro, value("rows"), "Most rows of a product", None),
        Register("LIMITS", 0x01C, ro, (
            Field("queue_depth", 0, 16, "products that can wait"),
            Field("burst_beats", 16, 16, "longest burst in beats"),
        ), "Limits of queue and bursts", None),
        Register("READ_FIFOS", 0x020, ro, (
            Field("weight_fifo_beats", 0, 16, "weights"),
            Field("activation_fifo_beats", 16, 16, "activations"),
        ), "Buffers between memory and engine, in beats", None),
        Register("MORE_FIFOS", 0x024, ro, (
            Field("scale_fifo_beats", 0, 16, "row scales"),
            Field("result_fifo_beats", 16, 16, "results"),
        ), "Buffers between memory and engine, in beats", None),
        Register("SEGMENT", 0x028, ro, (
            Field("segment_bits", 0, 8, "longest carry chain of the accumulators"),
            Field("more_codecs", 8, 8, "codecs of the build beside CODEC: CODEC_1 and so on"),
            Field("group", 16, 8, "columns that share an activation exponent; 0: as the codec has it"),
        ), "Inside of the engine", None),
        Register("CONTROL", 0x040, rw, (
            *(Field(f"irq_{f.name}", f.lsb, 1, "interrupt when " + f.doc) for f in irq),
            Field("pause", 8, 1, "the queue hands out no product (products can still be submitted)"),
            Field("abort", 9, 1, "1: end all products now (reads as 0); again while STATUS.aborting: do not wait for"
                  " the memory"),
        ), "Interrupt enables, pause and abort"),
        Register("STATUS", 0x044, ro, (
            Field("busy", 0, 1, "a submitted product has not finished"),
            Field("error", 1, 1, "ERROR is not 0: the products after the failed one wait"),
            Field("queue_full", 2, 1, "a write to SUBMIT would be refused"),
            Field("active", 3, 1, "the cycle counter is running"),
            Field("aborting", 4, 1, "an abort is under way: it waits for the memory's answers; SUBMIT is refused"),
            Field("queue_level", 16, 9, "products waiting in the queue"),
        ), "State"),
        Register("IRQ_STATUS", 0x048, w1c, irq,
                 "What happened since the bit was cleared; irq is high while an enabled bit is set"),
        Register("ERROR", 0x04C, ro, (
            Field("code", 0, ERROR_BITS, "error code of the product that failed, 0: none"),
        ), "Error code"),
        Register("ERROR_PRODUCT", 0x050, ro, value("number of the product (the first after reset is 0)"),
                 "The product that ERROR speaks of; not defined while ERROR is 0", None),
        Register("ERROR_CLEAR", 0x054, wo, (
            Field("clear", 0, 1, "1: take the error away (no effect if there is none)"),
        ), "Lets the products after a failed one go on"),
        Register("SUBMITTED", 0x058, ro, value("products, modulo 2**32"), "Products submitted since reset"),
        Register("COMPLETED", 0x05C, ro, value("products, modulo 2**32"),
                 "Products finished since reset, aborted ones included"),
        Register("COUNTER_CLEAR", 0x060, wo, (
            Field("clear", 0, 1, "1: set all counters to 0"),
        ), "Clears the counters"),
        Register("WATCHDOG", 0x064, rw, value("clocks, 0: no limit"),
                 "Clocks without progress after which a product ends with TIMEOUT and all products are aborted"),
        *pair("WEIGHTS", 0x080, rw, "Address of the weight image"),
        *pair("ACTIVATIONS", 0x088, rw, "Address of the activations"),
        *pair("RESULTS", 0x090, rw, "Address of the results"),
        *pair("SCALES", 0x098, rw, "Address of the row scales (not used without them)"),
        Register("ROWS", 0x0A0, rw, value("1 to MAX_ROWS"), "Rows of the product"),
        Register("COLS", 0x0A4, rw, value("1 to MAX_COLS"), "Columns of the product"),
        Register("SCALE", 0x0A8, rw, value("binary32, finite (not used with row scales)"), "Scale of the product"),
        Register("FLAGS", 0x0AC, rw, (
            Field("same", 0, 1, "use the activations of the last product without it; COLS must not differ."
                  " DESCRIPTOR if that product was refused or aborted"),
        ), "Flags of the product"),
        Register("SUBMIT", 0x0B0, wo, value("ignored"),
                 "Any write queues the product that WEIGHTS to FLAGS describe; SLVERR if the queue is full"),
        Register("WEIGHT_CODEC", 0x0B4, rw, value("0: CODEC, n: CODEC_n"),
                 "How the product's weights are stored (only builds of several codecs have it)"),
    ]  # fmt: skip
    for i, (name, doc) in enumerate(COUNTERS.items()):
        table += pair(name.upper(), 0x100 + 8 * i, ro, doc[0].upper() + doc[1:])
    for n in range(1, MAX_CODECS):
        what = f"Codec number {n} (only builds that have so many)"
        table.append(Register(f"CODEC_{n}", 0x200 + 4 * (n - 1), ro, codec, what, None))
    return tuple(table)


REGISTERS: tuple[Register, ...] = _table()
_BY_NAME = {r.name: r for r in REGISTERS}


def register(name: str) -> Register:
    """The register called `name`; KeyError if there is none."""
    return _BY_NAME[name]


def counter_registers(name: str) -> tuple[Register, Register]:
    """Low and high half of a counter of `COUNTERS`. Reading the low half freezes the high half for the next read."""
    return register(name.upper() + "_LO"), register(name.upper() + "_HI")


def is_there(name: str, config: Config) -> bool:
    """Whether a build has the register of that name: a few are only in builds of several codecs."""
    number = name.removeprefix("CODEC_")
    if number != name:
        return int(number) < len(config.codecs)
    return name != "WEIGHT_CODEC" or len(config.codecs) > 1


def version_word(config: Config) -> int:
    """The VERSION register of a build."""
    minor = SEVERAL_MINOR if config.more else VERSION_MINOR
    return register("VERSION").pack(major=VERSION_MAJOR, minor=minor)


def _codec_word(codec: Codec) -> int:
    fields = {"family": codec.family_number, "row_scales": int(codec.row_scales)}
    return register("CODEC").pack(codec.register_fields(), **fields)


def configuration_words(config: Config) -> dict[str, int]:
    """The values of the registers that describe the build, by register name.

    Raises
    ------
    ValueError
        A size does not fit its field.
    """
    own_group = not config.more and config.group == config.codec.group
    inside = {"segment_bits": config.segment_bits, "more_codecs": len(config.more),
              "group": 0 if own_group else config.group}  # fmt: skip
    return {
        "CODEC": _codec_word(config.codec),
        "WIDTHS": register("WIDTHS").pack(lanes=config.lanes, addr_bits=config.addr_bits, bus_bits=config.bus_bits),
        "STEP": register("STEP").pack(word_bits=config.word_bits, step_bits=config.step_bits),
        "MAX_COLS": config.max_cols,
        "MAX_ROWS": config.max_rows,
        **{
            name: register(name).pack({f.name: getattr(config, f.name) for f in register(name).fields})
            for name in ("LIMITS", "READ_FIFOS", "MORE_FIFOS")
        },
        "SEGMENT": register("SEGMENT").pack(inside),
        **{f"CODEC_{n}": _codec_word(codec) for n, codec in enumerate(config.more, start=1)},
    }


def _is_more_codec(r: Register) -> bool:
    """CODEC_1 and so on."""
    return r.name.startswith("CODEC_")


def c_header() -> str:
    """The registers as a C header (C99, also C++): offsets, field positions and masks, error codes."""
    lines = [
        "/* Registers of the SeedLM accelerator. Made from hdl/registers.py; do not edit. */",
        "#ifndef SEEDLM_REGISTERS_H",
        "#define SEEDLM_REGISTERS_H",
        "",
        f"#define SEEDLM_ID_VALUE {ID:#010x}u",
        f"#define SEEDLM_VERSION_MAJOR_VALUE {VERSION_MAJOR}u",
        f"#define SEEDLM_VERSION_MINOR_VALUE {VERSION_MINOR}u",
    ]
    for r in REGISTERS:
        lines += ["", f"/* {r.doc} ({r.access.doc}) */", f"#define SEEDLM_{r.name} {r.offset:#05x}u"]
        for f in r.fields:
            if (f.name, f.width) == ("value", 32) or _is_more_codec(r):
                continue
            prefix = f"SEEDLM_{r.name}_{f.name.upper()}"
            lines += [
                f"#define {prefix}_SHIFT {f.lsb}u /* {f.doc} */",
                f"#define {prefix}_MASK {f.mask:#010x}u",
            ]
    lines += ["", "/* Values of SEEDLM_ERROR */"]
    lines += [f"#define SEEDLM_ERROR_{code.name} {code.value}u /* {code.doc} */" for code in ErrorCode]
    return "\n".join([*lines, "", "#endif", ""])


def markdown() -> str:
    """The registers as a page of the documentation."""
    lines = [
        "# Registers",
        "",
        "Made from `hdl/registers.py`. AXI4-Lite, 32-bit data, 12-bit byte addresses. A write with a strobe missing, a",
        "write to a read-only register and any access where no register is answer SLVERR and change nothing. Bits",
        "without a field read as 0.",
        "",
        "The counters have 64 bits: reading the low half freezes the high half for the next read of it.",
        "",
        "What CONTROL.abort and WATCHDOG do: [architecture](architecture.md#abort-and-watchdog).",
        "",
        "| offset | name | access | reset | meaning |",
        "|---|---|---|---|---|",
    ]
    for r in REGISTERS:
        reset = "build" if r.name in _BUILD else "-" if r.reset is None else f"{r.reset:#x}" if r.reset else "0"
        if _is_more_codec(r):
            if r.name == "CODEC_1":
                what = f"Codec number n, 1 to {MAX_CODECS - 1}, with the fields of `CODEC` (builds that have so many)"
                lines.append(f"| {r.offset:#05x} + 4 (n - 1) | `CODEC_n` | ro | build | {what} |")
            continue
        lines.append(f"| {r.offset:#05x} | `{r.name}` | {r.access.value} | {reset} | {r.doc} |")
    lines += ["", "Access: " + "; ".join(f"{a.value}: {a.doc}" for a in Access) + ".", "", "## Fields", ""]
    lines += ["| register | bits | field | meaning |", "|---|---|---|---|"]
    for r in REGISTERS:
        if r.name.endswith(("_LO", "_HI")) or _is_more_codec(r):
            continue
        for f in r.fields:
            bits = f"{f.lsb}" if f.width == 1 else f"{f.lsb + f.width - 1}:{f.lsb}"
            lines.append(f"| `{r.name}` | {bits} | `{f.name}` | {f.doc} |")
    lines += ["", "## Error codes", "", "| code | name | meaning |", "|---|---|---|"]
    lines += [f"| {code.value} | `{code.name}` | {code.doc} |" for code in ErrorCode]
    return "\n".join([*lines, ""])


_BUILD = frozenset(configuration_words(Config()))
