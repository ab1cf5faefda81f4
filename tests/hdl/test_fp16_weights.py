"""Binary16 weights: every bit pattern."""

import cocotb
import numpy as np

from seedlm.hdl.decoders.float16 import Fp16Weights
from tests.hdl.fixed_latency import check
from tests.testbench.runner import run_testbench


def split(half):
    """M and z + 24 of a binary16 pattern, from its value (fields 0 to 30) or by the same rule (field 31)."""
    field = half >> 10 & 31
    exponent = max(field, 1) - 1
    if field == 31:
        magnitude = half & 1023 | 1024
    else:
        magnitude = round(abs(float(np.uint16(half).view(np.float16))) * 2.0 ** (24 - exponent))
    return (-magnitude if half >> 15 else magnitude), exponent


@cocotb.test()
async def every_pattern(dut):
    items = []
    for low in range(0x10000):
        high = low * 40503 & 0xFFFF  # another order of all patterns
        (m0, z0), (m1, z1) = split(low), split(high)
        weights = m0 & 0xFFF | (m1 & 0xFFF) << 12
        items.append(({"word": low | high << 16}, {"weights": weights, "exponents": z0 | z1 << 5}))
    await check(dut, Fp16Weights.latency, items)


def test_fp16_weights():
    run_testbench(Fp16Weights(), __name__, name="fp16_weights")
