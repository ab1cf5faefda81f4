"""What an accelerator's counters say of the memory."""

from __future__ import annotations

__all__ = ["Counted"]

KINDS = ("weight", "activation", "scale", "result")


class Counted:
    """What follows from `counters`, all of an accelerator's by name (`hdl.registers.COUNTERS`); a missing one is 0."""

    counters: dict[str, int]

    @property
    def cycles(self) -> int:
        """Clock cycles from the first read request to the interrupt."""
        return self.counters.get("cycles", 0)

    @property
    def beats(self) -> dict[str, int]:
        """Beats over the memory's data bus, by what they carried."""
        return {kind: self.counters.get(f"{kind}_beats", 0) for kind in KINDS}

    @property
    def data_beats(self) -> int:
        """All of them, in both directions."""
        return sum(self.beats.values())

    @property
    def efficiency(self) -> float:
        """Beats per cycle: the share of the memory's peak."""
        return self.data_beats / self.cycles if self.cycles else 0.0
