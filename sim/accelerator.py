"""The accelerator in simulation: the driver of `host.driver` on top of a `Simulation`."""

from __future__ import annotations

from pathlib import Path

from seedlm.build.verilog import accelerator_verilog
from seedlm.golden.build import Config
from seedlm.host.driver import Accelerator as Driver
from seedlm.sim.memory import Memory
from seedlm.sim.simulation import Simulation

__all__ = ["Accelerator", "Transport", "simulate"]

DEFAULT_LIMIT = 1_000_000_000  # cycles that a wait may take: far beyond the largest product


class Transport:
    """The driver's way to a simulated accelerator. Time is counted in cycles.

    Parameters
    ----------
    simulation : Simulation
    addr_bits : int
        Of its memory, which is there in full.
    """

    def __init__(self, simulation: Simulation, addr_bits: int) -> None:
        self.simulation = simulation
        self.memory_range = (0, 1 << addr_bits)
        self.read32 = simulation.reg_read
        self.write32 = simulation.reg_write
        self.mem_write = simulation.mem_write
        self.mem_read = simulation.mem_read

    def wait_irq(self, timeout: float | None) -> int:
        """Run until the interrupt is high, `timeout` cycles at most; how many it took. Raises Timeout."""
        return self.simulation.wait_irq(DEFAULT_LIMIT if timeout is None else int(timeout))

    def __repr__(self) -> str:
        return f"Transport({self.simulation!r})"


def simulate(config: Config, **options: object) -> Simulation:
    """A system around the accelerator of `config`; `options` go to `Simulation`."""
    text = accelerator_verilog(config)
    return Simulation(text, bus_bits=config.bus_bits, addr_bits=config.addr_bits, **options)  # type: ignore[arg-type]


class Accelerator(Driver):
    """An accelerator in simulation, ready for products; a context manager.

    Parameters
    ----------
    config : Config
        The build.
    memory : str or Memory
        "ddr3", "ideal" or own settings.
    trace : bool
        Build with waves, so that `trace_open` works.
    timeout : float, optional
        Longest wait for an interrupt, in cycles.
    watchdog : int
        Clocks without progress that end a product; 0: none.

    Attributes
    ----------
    simulation : Simulation
        The system: cycles, memory counters, faults, reset.
    """

    def __init__(
        self, config: Config, *, memory: str | Memory = "ddr3", trace: bool = False, timeout: float | None = None,
        watchdog: int = 0, **options: object,
    ) -> None:  # fmt: skip
        self.simulation = simulate(config, memory=memory, trace=trace, **options)
        super().__init__(Transport(self.simulation, config.addr_bits), config, timeout=timeout, watchdog=watchdog)

    @property
    def cycles(self) -> int:
        """Clock cycles simulated so far."""
        return self.simulation.cycles

    def trace_open(self, path: str | Path) -> None:
        """Write waves from now on to an FST file."""
        self.simulation.trace_open(path)

    def reset(self) -> None:
        """Reset the accelerator and its memory controller, and start the driver anew; regions stay allocated."""
        mark, watchdog = self._memory.next, self.watchdog
        self.simulation.reset()
        super().__init__(self.transport, self.config, timeout=self.timeout, watchdog=watchdog)
        self._memory.next = mark

    def close(self) -> None:
        """Free the simulation."""
        self.simulation.close()

    def __enter__(self) -> Accelerator:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
