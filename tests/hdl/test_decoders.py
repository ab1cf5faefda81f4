"""Weight decoders: every family has one, each against all its words, and what a lane refuses."""

import os

import cocotb
import numpy as np
import pytest
from amaranth.hdl import Module, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from cocotb.triggers import RisingEdge

from seedlm.golden.build import Config
from seedlm.golden.codecs import CODECS, FAMILIES, codec
from seedlm.golden.codecs.trellis import TABLES
from seedlm.golden.errors import SeedLMError
from seedlm.hdl import decoders
from seedlm.hdl.decoders import DECODERS, weight_decoder
from seedlm.hdl.decoders._base import MAX_LATENCY, WordPart
from seedlm.hdl.decoders.float16 import Float16Decoder
from seedlm.hdl.decoders.integer import IntegerDecoder
from seedlm.hdl.decoders.trellis import TrellisDecoder
from seedlm.hdl.delay import delay
from seedlm.hdl.lane import Lane
from tests.families import CODECS as FAMILY_CODECS
from tests.families import family_tests, mixed_rows, steps_of
from tests.hdl.fixed_latency import check
from tests.testbench.runner import run_testbench
from tests.testbench.streams import rng, start


def test_every_family_has_a_decoder():
    assert set(DECODERS) == set(FAMILIES)


@pytest.mark.parametrize("kind", CODECS.values(), ids=str)
def test_a_decoder_fits_its_codec(kind):
    decoder = weight_decoder(kind)
    decoder._MustUse__used = True
    assert isinstance(decoder, DECODERS[kind.family])
    assert decoder.columns * decoder.weight_bits == len(decoder.weights.as_value())
    assert hasattr(decoder, "shift") == (decoder.max_shift > 0)
    assert sum(len(getattr(decoder, part.name)) for part in decoder.word_parts) == kind.word_bits


def changed(**attributes):
    return type("Changed", (IntegerDecoder,), attributes)


def split(*parts):
    return changed(latency=3, word_parts=tuple(WordPart(*part) for part in parts))


@pytest.mark.parametrize(
    ("decoder", "message"),
    [
        (changed(latency=0), "must have a latency of 1 to 30 clocks, not 0"),
        (changed(latency=MAX_LATENCY + 1), "must have a latency of 1 to 30 clocks, not 31"),
        (changed(columns=2), "has columns = 2, the codec 4"),
        (changed(weight_bits=9), "has weight_bits = 9, the codec 8"),
        (changed(max_shift=3), "has max_shift = 3, the codec 0"),
        (changed(shift_per_column=True), "has shift_per_column = True, the codec False"),
        (split(("valid", slice(0, 32))), "cannot call a part of the word valid"),
        (split(("word", slice(0, 31))), "takes 31 bits of a word of 32"),
        (split(("a", slice(0, 16)), ("b", slice(15, 32))), "takes bits 15 to 32 as b, expected to begin at 16"),
        (split(("a", slice(0, 16)), ("b", slice(17, 32))), "takes bits 17 to 32 as b, expected to begin at 16"),
        (split(("a", slice(0, 16)), ("b", slice(16, 32), 3)), "wants b after 3 clocks, expected 0 to 2"),
        (split(("a", slice(0, 16)), ("b", slice(16, 32), -1)), "wants b after -1 clocks, expected 0 to 2"),
    ],
)
def test_what_a_lane_refuses(decoder, message, monkeypatch):
    monkeypatch.setitem(decoders.DECODERS, "integer", decoder)
    with pytest.raises(SeedLMError, match=f"the decoder of codec int8 {message}"):
        Lane(config=Config(codec=codec("int8")))


def test_a_family_without_decoder(monkeypatch):
    monkeypatch.delitem(decoders.DECODERS, "integer")
    with pytest.raises(SeedLMError, match="codec int8: there is no decoder for the family integer"):
        Lane(config=Config(codec=codec("int8")))


class Whole(wiring.Component):
    """A decoder with its word in one piece."""

    def __init__(self, kind):
        self.decoder = decoder = weight_decoder(kind)
        members = {"word": In(kind.word_bits), "weights": Out(len(decoder.weights.as_value()))}
        if decoder.keeps_state:
            members |= {"first": In(1), "valid": In(1)}
        if decoder.max_shift:
            members["shift"] = Out(len(Value.cast(decoder.shift)))
        if decoder.factor_max > 1:
            members["factor"] = Out(len(decoder.factor))
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        m.submodules.decoder = decoder = self.decoder
        for part in decoder.word_parts:
            m.d.comb += getattr(decoder, part.name).eq(delay(m, self.word[part.bits], part.phase, part.name))
        for name in self.signature.members:
            if name in ("first", "valid"):
                m.d.comb += getattr(decoder, name).eq(getattr(self, name))
            elif name != "word":
                m.d.comb += getattr(self, name).eq(getattr(decoder, name))
        return m


def fields(raw, count):
    """`raw` cut into `count` fields, as (value, width)."""
    value, width = int(raw.value), len(raw) // count
    return [value >> n * width & (1 << width) - 1 for n in range(count)], width


@cocotb.test()
async def every_step_of_a_row(dut):
    """What comes out stands for the terms that the tests of the family tell: N M << shift."""
    kind, latency = codec(os.environ["CODEC"]), int(os.environ["LATENCY"])
    generator = rng("decoder")
    numbers = np.random.default_rng(generator.getrandbits(32))
    family, columns, cols = family_tests(kind), kind.step_columns, 150 * kind.step_columns
    words = np.concatenate([mixed_rows(kind, 1, cols, numbers) for _ in range(2)])
    rows = [int.from_bytes(row.tobytes(), "little") for row in kind.words_to_rows(words, cols)]
    terms = [family.terms(kind, [int(word) for word in row]) for row in words]
    steps = [(row, n, column) for row in range(2) for n, column in enumerate(steps_of(kind, cols))]
    unused = kind.fraction_bits - kind.acc_fraction_bits
    clk = await start(dut)
    for clock in range(len(steps) + latency):
        row, n, _ = steps[min(clock, len(steps) - 1)]
        dut.word.value = rows[row] >> n * kind.word_bits & (1 << kind.word_bits) - 1
        if hasattr(dut, "valid"):
            dut.valid.value, dut.first.value = 1, int(n == 0)
        await RisingEdge(clk)
        if clock < latency:
            continue
        weights, width = fields(dut.weights, columns)
        signed = [w - (w >> width - 1 << width) for w in weights]
        shifts = [0] * columns
        if kind.column_shift_max:
            shifts, _ = fields(dut.shift, columns)
        elif kind.step_shift_max:
            shifts = [int(dut.shift.value)] * columns
        factor = dut.factor.value.to_signed() if kind.factor_max > 1 else 1
        row, n, column = steps[clock - latency]
        expected = [0] * columns
        if column is not None:
            expected = [weight << shift for weight, shift in terms[row][column : column + columns]]
        found = [w * factor << s + unused for w, s in zip(signed, shifts, strict=True)]
        assert found == expected, f"step {n} of row {row}"


@pytest.mark.parametrize(
    "kind", [kind if kind.name in CODECS else pytest.param(kind, marks=pytest.mark.slow) for kind in FAMILY_CODECS],
    ids=str,
)  # fmt: skip
def test_decoder(kind):
    whole = Whole(kind)
    env = {"CODEC": kind.name, "LATENCY": whole.decoder.latency}
    run_testbench(whole, __name__, name="whole_decoder", testcase="every_step_of_a_row", env=env)


# --- binary16 ---------------------------------------------------------------------------------------
def split_half(half):
    """M and z + 24 of a binary16 pattern, from its value (fields 0 to 30) or by the same rule (field 31)."""
    field = half >> 10 & 31
    exponent = max(field, 1) - 1
    if field == 31:
        magnitude = half & 1023 | 1024
    else:
        magnitude = round(abs(float(np.uint16(half).view(np.float16))) * 2.0 ** (24 - exponent))
    return (-magnitude if half >> 15 else magnitude), exponent


@cocotb.test()
async def every_half(dut):
    items = []
    for low in range(0x10000):
        high = low * 40503 & 0xFFFF  # another order of all patterns
        (m0, z0), (m1, z1) = split_half(low), split_half(high)
        weights = m0 & 0xFFF | (m1 & 0xFFF) << 12
        items.append(({"word": low | high << 16}, {"weights": weights, "shift": z0 | z1 << 5}))
    await check(dut, Float16Decoder.latency, items)


def test_float16():
    run_testbench(Float16Decoder(codec=codec("fp16")), __name__, name="float16", testcase="every_half")


# --- bytes ------------------------------------------------------------------------------------------
@cocotb.test()
async def every_byte(dut):
    generator = rng("bytes")
    words = [0x01010101 * n for n in range(256)] + [generator.getrandbits(32) for _ in range(256)]
    await check(dut, IntegerDecoder.latency, [({"word": word}, {"weights": word}) for word in words])


def test_integer():
    run_testbench(IntegerDecoder(codec=codec("int8")), __name__, name="integer_decoder", testcase="every_byte")


# --- trellis ----------------------------------------------------------------------------------------
@cocotb.test()
async def paths(dut):
    """Rows of words with gaps between them; what does not count leaves no trace."""
    kind = codec(os.environ["SEEDLM_CODEC"])
    generator, oracle = rng("paths"), family_tests(kind)
    mask = (1 << kind.weight_bits) - 1
    items = []
    for length in [1, 2, 3, *(generator.randrange(1, 30) for _ in range(40))]:
        words = [generator.getrandbits(kind.word_bits) for _ in range(length)]
        symbols = [word >> kind.k * c & ((1 << kind.k) - 1) for word in words for c in range(kind.columns)]
        weights = [n & mask for n, _ in oracle.terms(kind, symbols)]
        for step, word in enumerate(words):
            while generator.random() < 0.3:
                noise = {"word": generator.getrandbits(kind.word_bits), "valid": 0, "first": generator.getrandbits(1)}
                items.append((noise, {}))
            part = weights[kind.columns * step : kind.columns * (step + 1)]
            packed = sum(n << kind.weight_bits * c for c, n in enumerate(part))
            items.append(({"word": word, "valid": 1, "first": int(step == 0)}, {"weights": packed}))
    await check(dut, TrellisDecoder.latency, items)


@pytest.mark.parametrize("name", TABLES)
def test_trellis(name):
    run_testbench(
        TrellisDecoder(codec=codec(name)), __name__, name=f"{name}_decoder", testcase="paths",
        env={"SEEDLM_CODEC": name},
    )  # fmt: skip


def test_every_level_is_reached():
    """The testbench's rows are long enough: of 4,096 or 16,384 windows most come up, so all levels do."""
    for name in TABLES:
        kind = codec(name)
        symbols = np.random.default_rng(0).integers(0, 1 << kind.k, (1, 20000), dtype=np.uint8)
        assert set(kind.integers(symbols, 20000)[0].ravel().tolist()) == set(kind.definition.all_levels)
