"""Pipeline registers: what cannot be is refused. (What they do: every pipeline's own test.)"""

import pytest
from amaranth.hdl import Module, Signal

from seedlm.hdl.delay import delay


def test_the_past_cannot_be_had():
    m, value = Module(), Signal(4)
    assert delay(m, value, 0, "value") is value
    with pytest.raises(ValueError, match="value cannot be delayed by -1 clocks"):
        delay(m, value, -1, "value")
