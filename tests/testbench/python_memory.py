"""A cocotb test that runs one product with cocotbext-axi's memory, which lives in Python; started by `sim.speed`."""

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

from seedlm.golden.build import Config, codec
from seedlm.golden.images import activation_image
from seedlm.golden.product import product
from seedlm.hdl.registers import register
from seedlm.sim.benchmark import RandomMatrix
from tests.testbench.streams import start

PERIOD_NS = 5


@cocotb.test()
async def one_product(dut):
    """The product that the environment describes; leaves cycles and seconds in a file."""
    job = json.loads(os.environ["SEEDLM_JOB"])
    config, rows, cols = Config(codec=codec("seedlm4")), job["rows"], job["cols"]
    matrix = RandomMatrix(config, rows, cols, job["seed"])
    x = np.random.default_rng(job["seed"]).standard_normal(cols).astype(np.float16)
    activations = -(-matrix.image_bytes // 4096) * 4096
    results = activations + (1 << 16) + 4 * rows
    results -= results % 4096

    # A line for every burst would cost more than the burst.
    for name in ("s_axi", "m_axi"):
        logging.getLogger(f"cocotb.{dut._name}.{name}").setLevel(logging.WARNING)
    registers = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axi"), dut.aclk, dut.aresetn, reset_active_level=False)
    memory = AxiRam(AxiBus.from_prefix(dut, "m_axi"), dut.aclk, dut.aresetn, reset_active_level=False,
                    size=results + 4 * rows + 4096)  # fmt: skip
    for offset, piece in matrix.image():
        memory.write(offset, piece.tobytes())
    memory.write(activations, activation_image(config, x).tobytes())
    await start(dut, clock="aclk", reset="aresetn", active_low=True, period_ns=PERIOD_NS, reset_cycles=16)

    values = {
        "CONTROL": register("CONTROL").pack(irq_idle=1), "WEIGHTS_LO": 0, "ACTIVATIONS_LO": activations,
        "RESULTS_LO": results, "ROWS": rows, "COLS": cols,
        "SCALE": int(np.float32(config.codec.default_scale()).view(np.uint32)),
    }  # fmt: skip
    for name, value in values.items():
        await registers.write_dword(register(name).offset, value)
    begin, started = get_sim_time("ns"), time.process_time()
    await registers.write_dword(register("SUBMIT").offset, 1)
    await RisingEdge(dut.irq)
    seconds, cycles = time.process_time() - started, (get_sim_time("ns") - begin) / PERIOD_NS
    y = np.frombuffer(memory.read(results, 4 * rows), np.float32)
    with np.errstate(over="ignore", under="ignore"):
        expected = product(matrix.matrix(np.arange(rows)), x)
    equal = int((y.view(np.uint32) == expected.view(np.uint32)).sum())
    Path(job["report"]).write_text(json.dumps({"cycles": cycles, "seconds": seconds, "equal": equal}))
