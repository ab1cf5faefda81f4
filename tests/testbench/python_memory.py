"""A cocotb test, started by `tests.testbench.speed`: one product with cocotbext-axi's memory, which lives in Python."""

from __future__ import annotations

import json
import logging
import os
import time
from pathlib import Path

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge
from cocotb.utils import get_sim_time
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiRam

from seedlm.golden.build import Config
from seedlm.golden.codecs import codec
from seedlm.golden.images import activation_image
from seedlm.golden.product import product
from seedlm.hdl.registers import register
from seedlm.host.regions import Allocator, ProductRegions
from seedlm.sim.benchmark import RandomMatrix
from seedlm.sim.measure import equal_bits
from tests.testbench.streams import start

PERIOD_NS = 5


@cocotb.test()
async def one_product(dut):
    """The product that the environment describes; leaves cycles and seconds in a file."""
    job = json.loads(os.environ["SEEDLM_JOB"])
    config, rows, cols = Config(codec=codec("seedlm4")), job["rows"], job["cols"]
    matrix = RandomMatrix(config, rows, cols, job["seed"])
    x = np.random.default_rng(job["seed"]).standard_normal(cols).astype(np.float16)
    allocate = Allocator(0, 1 << config.addr_bits)
    regions = ProductRegions.place(config, rows, cols, allocate)

    # A line for every burst would cost more than the burst.
    for name in ("s_axi", "m_axi"):
        logging.getLogger(f"cocotb.{dut._name}.{name}").setLevel(logging.WARNING)
    registers = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axi"), dut.aclk, dut.aresetn, reset_active_level=False)
    memory = AxiRam(AxiBus.from_prefix(dut, "m_axi"), dut.aclk, dut.aresetn, reset_active_level=False,
                    size=allocate.next)  # fmt: skip
    for offset, piece in matrix.image():
        memory.write(regions.weights + offset, piece.tobytes())
    memory.write(regions.activations, activation_image(config, x).tobytes())
    await start(dut, clock="aclk", reset="aresetn", active_low=True, period_ns=PERIOD_NS, reset_cycles=16)

    words = regions.words(scale=config.codec.default_scale())
    for name, value in {"CONTROL": register("CONTROL").pack(irq_idle=1), **words}.items():
        await registers.write_dword(register(name).offset, value)
    begin, started = get_sim_time("ns"), time.process_time()
    await registers.write_dword(register("SUBMIT").offset, 1)
    await RisingEdge(dut.irq)
    seconds, cycles = time.process_time() - started, (get_sim_time("ns") - begin) / PERIOD_NS
    y = np.frombuffer(memory.read(regions.results, 4 * rows), np.float32)
    with np.errstate(over="ignore", under="ignore"):
        expected = product(matrix.matrix(np.arange(rows)), x)
    report = {"cycles": cycles, "seconds": seconds, "equal": equal_bits(y, expected)}
    Path(job["report"]).write_text(json.dumps(report))
