"""The planner: all counts against the formulas of `Config`, invalid descriptors, stalls on every job."""

import json
import os

import cocotb
import pytest

from seedlm.hdl import layouts
from seedlm.hdl.planner import Planner
from seedlm.hdl.registers import ErrorCode
from tests.hdl import builds
from tests.testbench.runner import run_testbench
from tests.testbench.streams import Sink, Source, Stalls, cycles, rng, start, until

JOBS = {
    "activation_read": layouts.read_job_layout,
    "weight_read": layouts.read_job_layout,
    "scale_read": layouts.read_job_layout,
    "convert": layouts.convert_job_layout,
    "gearbox": layouts.gearbox_job_layout,
    "sequence": layouts.sequence_job_layout,
    "write": layouts.writer_job_layout,
    "scale": layouts.scale_job_layout,
}
ONE = 0x3F800000


def config_from(values):
    values = dict(values)
    return builds.build(values.pop("codec"), **values)


class Model:
    """What the planner must do, descriptor by descriptor."""

    def __init__(self, config):
        self.config = config
        self.loaded_cols = None

    def region_ok(self, address, beats):
        return address % 4096 == 0 and address + beats * self.config.beat_bytes <= 1 << self.config.addr_bits

    def refused(self, d):
        if d["codec"] >= len(self.config.codecs):
            return True
        c = self.config.of(self.config.codecs[d["codec"]])
        if d["bad"] or not 1 <= d["rows"] <= c.max_rows or not 1 <= d["cols"] <= c.max_cols:
            return True
        if d["same"] and d["cols"] != self.loaded_cols:
            return True
        if not c.codec.row_scales and d["scale"] >> 23 & 255 == 255:
            return True
        beats = c.image_beats(d["rows"], d["cols"])
        regions = [(d["weights"], beats), (d["results"], c.result_beats(d["rows"]))]
        if not d["same"]:
            regions.append((d["activations"], c.activation_beats(d["cols"])))
        if c.codec.row_scales:
            regions.append((d["scales"], c.scale_beats(d["rows"])))
        if beats >= 1 << 32 or c.steps(d["rows"], d["cols"]) >= 1 << 32:
            return True
        return not all(self.region_ok(*region) for region in regions)

    def jobs(self, d):
        """Expected jobs by output; an output that is not there gets none. Fields that mean nothing are left out."""
        rows, cols = d["rows"], d["cols"]
        if self.refused(d):
            self.loaded_cols = self.loaded_cols if d["same"] else None
            return {
                "sequence": {"groups": 0, "code": ErrorCode.DESCRIPTOR, "same": 0},
                "write": {"rows": 0, "code": ErrorCode.DESCRIPTOR},
                "scale": {},
            }
        kind = self.config.codecs[d["codec"]]
        c = self.config.of(kind)
        jobs = {
            "weight_read": {"address": d["weights"], "beats": c.image_beats(rows, cols)},
            "gearbox": {"steps": c.steps(rows, cols)},
            "sequence": {
                "groups": c.row_groups(rows),
                "tail_rows": rows - (c.row_groups(rows) - 1) * c.lanes,
                "pad": -rows % c.results_per_beat,
                "same": d["same"],
                "code": 0,
            },
            "write": {"address": d["results"], "rows": rows, "code": 0},
            "scale": {"scale": d["scale"]},
        }
        if self.config.steps_vary:
            stride = kind.step_columns // self.config.place_columns
            last = (-(-cols // kind.step_columns) - 1) * stride
            jobs["sequence"] |= {"stride": stride, "last_place": last, "headers": kind.header_steps,
                                 "codec": d["codec"]}  # fmt: skip
            jobs["gearbox"]["width"] = sorted({k.word_bits for k in self.config.codecs}).index(kind.word_bits)
        else:
            jobs["sequence"]["blocks"] = kind.blocks(cols)
        if self.config.mixes_scales:
            jobs["sequence"]["row_scales"] = jobs["scale"]["row_scales"] = kind.row_scales
        if not d["same"]:
            jobs["activation_read"] = {"address": d["activations"], "beats": c.activation_beats(cols)}
            jobs["convert"] = {"cols": cols}
            self.loaded_cols = cols
        if c.codec.row_scales:
            jobs["scale_read"] = {"address": d["scales"], "beats": c.scale_beats(rows)}
        return jobs


class Bench:
    def __init__(self, dut, clk, config, stall, generator):
        self.clk, self.config, self.model = clk, config, Model(config)
        self.layout = layouts.descriptor_layout(config)
        self.source = Source(dut, "descriptor", clk)
        self.sinks = {
            name: Sink(dut, name, clk, stalls=Stalls(stall, longest=30, generator=rng(f"{name}{generator.random()}")))
            for name in JOBS
        }
        self.expected = {name: [] for name in JOBS}
        self.busy = dut.busy

    def send(self, descriptor):
        """Queue a descriptor and note the jobs it must give; returns whether it must be refused."""
        refused = self.model.refused(descriptor)
        for name, job in self.model.jobs(descriptor).items():
            self.expected[name].append(job)
        fields = {name: value for name, value in descriptor.items() if name != "codec" or self.config.more}
        self.source.send([self.layout.const(fields).as_bits()])
        return refused

    async def check(self, limit):
        """All jobs have come, with the expected contents, and nothing else comes."""
        await self.source.done(limit)
        await until(self.clk, lambda: self.busy.value == 0, 2000, "the planner to become idle")
        await cycles(self.clk, 100)
        for name, sink in self.sinks.items():
            layout = JOBS[name](self.config)
            for n, (item, want) in enumerate(zip(sink.items, self.expected[name], strict=False)):
                got = layout.from_bits(item)
                for field, value in want.items():
                    assert int(got[field]) == int(value), f"{name} {n}: {field} is {int(got[field])}, expected {want}"
            jobs, expected = len(sink.items), len(self.expected[name])
            assert jobs == expected, f"{name}: {jobs} jobs, expected {expected}"


def good(config, generator, **values):
    """A descriptor with random regions, all inside the address space if that is large enough."""

    def region():
        return generator.randrange(1 << config.addr_bits - 14) << 12

    return {
        "weights": region(), "activations": region(), "results": region(), "scales": region(),
        "rows": generator.randint(1, config.max_rows), "cols": generator.randint(1, config.max_cols),
        "scale": generator.choice([0, ONE, 0x80000000, 0x7F7FFFFF, generator.getrandbits(30)]), "same": 0, "bad": 0,
        "codec": generator.randrange(len(config.codecs)),
        **values,
    }  # fmt: skip


def small(config, generator):
    """Sizes around the limits of lanes, blocks and beats, and anywhere."""
    lanes, columns = config.lanes, config.codec.step_columns
    beat, vector = config.results_per_beat, config.activations_per_beat
    rows = generator.choice([1, lanes, lanes + 1, 2 * lanes - 1, beat, 3 * beat + 1, config.max_rows])
    cols = generator.choice([1, columns, columns + 1, 5 * columns - 1, vector, 2 * vector + 1, config.max_cols])
    rows = generator.choice([rows, generator.randint(1, 300), generator.randint(1, config.max_rows)])
    cols = generator.choice([cols, generator.randint(1, 300), generator.randint(1, config.max_cols)])
    return {"rows": min(rows, config.max_rows), "cols": min(cols, config.max_cols)}


@cocotb.test()
async def counts(dut):
    config = config_from(json.loads(os.environ["PLANNER"]))
    generator = rng("counts")
    clk = await start(dut)
    bench = Bench(dut, clk, config, float(os.environ["STALL"]), generator)
    n = int(os.environ["COUNT"])
    refused = 0
    for _ in range(n):
        descriptor = good(config, generator, **small(config, generator))
        if generator.random() < 0.2 and bench.model.loaded_cols:
            anywhere = generator.getrandbits(config.addr_bits)
            descriptor |= {"same": 1, "cols": bench.model.loaded_cols, "activations": anywhere}
        if not config.codecs[descriptor["codec"]].row_scales:
            descriptor["scales"] = generator.getrandbits(config.addr_bits)
        refused += bench.send(descriptor)
    dut._log.info("%d of %d descriptors to be refused", refused, n)
    assert refused < n // 2
    await bench.check(n * 300)


@cocotb.test()
async def refusals(dut):
    """Every reason to refuse on its own, the nearest good descriptor beside it."""
    config = config_from(json.loads(os.environ["PLANNER"]))
    generator = rng("refusals")
    clk = await start(dut)
    bench = Bench(dut, clk, config, 0.2, generator)
    top = 1 << config.addr_bits
    scales = config.codec.row_scales

    def both(first, second, **base):
        if first.get("same"):
            assert not bench.send(good(config, generator, rows=1, cols=first["cols"]))
        for values, wanted in ((first, False), (second, True)):
            descriptor = good(config, generator, **{"rows": 10, "cols": 20, **base, **values})
            assert bench.send(descriptor) == wanted, f"the test itself is wrong: {descriptor}"

    # Nothing was loaded yet.
    assert bench.send(good(config, generator, rows=3, cols=config.max_cols, same=1))
    both({"bad": 0}, {"bad": 1})
    both({"same": 1, "cols": 20}, {"same": 1, "cols": 21})
    both({"rows": 1}, {"rows": 0})
    both({"cols": 1}, {"cols": 0})
    both({"same": 1, "cols": 1}, {"same": 1, "cols": 20})
    both({"cols": 33}, {"cols": 20, "bad": 1})
    both({"same": 1, "cols": 33}, {"same": 1, "cols": 20})
    both({"rows": 2}, {"rows": (1 << layouts.rows_bits(config)) - 1})
    both({"cols": 2}, {"cols": (1 << layouts.cols_bits(config)) - 1})
    for region in ("weights", "activations", "results", "scales"):
        used = region != "scales" or scales
        for bit in range(12):
            values = {region: 1 << bit}
            assert bench.send(good(config, generator, rows=10, cols=20, **values)) == used
        if used and config.addr_bits < 40:
            # The last region that fits, and one page further.
            rows, cols = min(3000, config.max_rows), min(5000, config.max_cols)
            beats = {
                "weights": config.image_beats(rows, cols), "activations": config.activation_beats(cols),
                "results": config.result_beats(rows), "scales": config.scale_beats(rows),
            }[region]  # fmt: skip
            last = (top - beats * config.beat_bytes) & -4096
            if last + 4096 < top:
                both({region: last}, {region: last + 4096}, rows=rows, cols=cols)
            else:  # a region of a page always fits
                assert not bench.send(good(config, generator, rows=rows, cols=cols, **{region: last}))
    for exponent_mantissa in (0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001, 0xFFFFFFFF):
        assert bench.send(good(config, generator, rows=10, cols=20, scale=exponent_mantissa)) != scales
    assert not bench.send(good(config, generator, rows=10, cols=20, scale=0x7F7FFFFF))
    # A refused product that should have loaded activations leaves none; one with `same` leaves them as they are.
    for refused in ({"bad": 1}, {"rows": 0}, {"results": 64}):
        assert not bench.send(good(config, generator, rows=10, cols=20))
        assert bench.send(good(config, generator, rows=10, cols=20) | refused)
        assert bench.send(good(config, generator, rows=10, cols=20, same=1))
        assert not bench.send(good(config, generator, rows=10, cols=20))
        assert bench.send(good(config, generator, rows=10, cols=20, same=1) | refused)
        assert not bench.send(good(config, generator, rows=10, cols=20, same=1))
    await bench.check(30_000)


@cocotb.test()
async def unknown_codecs(dut):
    """A number that no codec has is refused, and the product after it is planned."""
    config = config_from(json.loads(os.environ["PLANNER"]))
    generator = rng("codecs")
    clk = await start(dut)
    bench = Bench(dut, clk, config, 0.2, generator)
    for number in range(1 << (len(config.codecs) - 1).bit_length()):
        assert bench.send(good(config, generator, rows=10, cols=20, codec=number)) == (number >= len(config.codecs))
    await bench.check(3000)


@cocotb.test()
async def latency(dut):
    """Clocks from descriptor to jobs, and no job before the descriptor."""
    config = config_from(json.loads(os.environ["PLANNER"]))
    generator = rng("latency")
    clk = await start(dut)
    bench = Bench(dut, clk, config, 0, generator)
    bench.send(good(config, generator, rows=1, cols=1))
    await until(clk, lambda: dut.busy.value == 1, 10, "the planner to start")
    taken = await until(clk, lambda: dut.busy.value == 0, 100, "the jobs")
    dut._log.info("%d clocks for a product", taken)
    assert taken <= int(os.environ["LATENCY"])
    await bench.check(10)


# The first is the default build; the others cover division by C and lanes, every kind of ratio of step to
# beat, counters that are too narrow, and address spaces smaller and larger than the counters.
BUILDS = [
    {"codec": "seedlm4"},
    {"codec": "seedlm4r"},
    {"codec": "seedlm3r", "lanes": 5},
    {"codec": "fp16"},
    {"codec": "seedlm3", "lanes": 16},
    {"codec": "seedlm4", "lanes": 4, "bus_bits": 128, "burst_beats": 16},
    {"codec": "seedlm4", "lanes": 64},
    {"codec": "c8p4k16b4", "lanes": 7, "bus_bits": 256, "max_rows": 1000, "max_cols": 777},
    {"codec": "c12p5k16b0r", "lanes": 5, "bus_bits": 1024, "burst_beats": 32, "max_rows": 65536, "addr_bits": 30},
    {"codec": "c1p1k2b0", "lanes": 1, "max_rows": 1 << 24, "max_cols": 65536, "addr_bits": 64},
    {"codec": "c64p6k17b4", "lanes": 1, "addr_bits": 32},
    {"codec": "c7p1k5b1", "lanes": 3, "addr_bits": 20, "max_rows": 12000, "max_cols": 1000},
    {"codec": "fp16", "lanes": 24, "addr_bits": 48},
    {"codec": "trellis4+trellis3+int4g128+mx4+fp16", "lanes": 4, "bus_bits": 128, "burst_beats": 16},
    {"codec": "mxfp6e3m2", "lanes": 5},
]
QUICK = (0, 2, 3, 5, 8, 10, 11, 13)


def name_of(build):
    return "-".join(str(v) for v in build.values())


def run(build, testcase, **env):
    config = config_from(build)
    run_testbench(
        Planner(config=config), __name__, name="planner", testcase=testcase, env={"PLANNER": json.dumps(build), **env}
    )


@pytest.mark.parametrize(
    "build", [pytest.param(b, marks=() if i in QUICK else pytest.mark.slow) for i, b in enumerate(BUILDS)], ids=name_of
)
def test_planner(build):
    # Around the limits of a small address space there is no room for the good descriptors that `refusals` wants.
    several = "+" in build["codec"]  # `refusals` is about one codec, but for numbers of codecs that are not there
    cases = ["counts", "refusals"] if build.get("addr_bits", 34) >= 30 and not several else ["counts"]
    run(build, cases + ["unknown_codecs"] * several, COUNT=60, STALL=0.1)


@pytest.mark.parametrize(("build", "clocks"), [(BUILDS[0], 31), (BUILDS[2], 61)], ids=["shifts", "divisions"])
def test_latency(build, clocks):
    run(build, "latency", LATENCY=clocks)
