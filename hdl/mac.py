"""MAC array: the lanes side by side, one clock after the other."""

from __future__ import annotations

from amaranth.hdl import Module, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from seedlm.golden.build import ACTIVATION_EXPONENT_MAX, MANTISSA_BITS, Config, clog2
from seedlm.hdl.delay import delay, register
from seedlm.hdl.lane import Lane

__all__ = ["MacArray"]


class MacArray(wiring.Component):
    """All lanes, as a systolic row: lane i works i clocks after lane 0.

    Activations and control pass from lane to lane through one register each, so nothing is
    broadcast over the chip, and the row sums are complete one after the other, as the collector
    takes them.

    Counting from the clock of the issue, `accumulators` lane i, segment k is complete after
    ``latency + i + k`` clocks, for one clock only if the next row group follows at once.
    Throughput is one step per clock. No flow control.

    Parameters
    ----------
    config : Config
    position_bits : int
        Width of `position`.
    activation_latency : int
        Clocks in which the activation buffer answers.

    Members
    -------
    step : In
        The words of a step, lane 0 in the low bits; read in the clock of the issue.
    valid, first : In(1)
        A step is issued; it is the first of its row group.
    codec : In
        The number of its codec. Only in builds of several.
    position : In
        Where the step's activations are; goes to `address` when they are wanted.
    address : Out
        To `ActivationBuffer`, `read_delay` clocks after the issue.
    mantissas, exponent : In
        From `ActivationBuffer`, `activation_latency` clocks after `address`.
    accumulators : Out(lanes x acc_bits)
    """

    def __init__(self, *, config: Config, position_bits: int, activation_latency: int) -> None:
        self.config = config
        self._lanes = [Lane(config=config) for _ in range(config.lanes)]
        # Counted from the issue, the mantissas leave the buffer `weight_latency` clocks later, in the clock in which
        # lane 0 samples column 0. Where the decoder is faster than the buffer, the words wait.
        slack = self._lanes[0].weight_latency - activation_latency
        self.read_delay = max(0, slack)
        self._word_delay = max(0, -slack)
        members = {
            "step": In(config.step_bits),
            "valid": In(1),
            "first": In(1),
            "position": In(position_bits),
            "address": Out(position_bits),
            "mantissas": In(data.ArrayLayout(signed(MANTISSA_BITS), config.columns)),
            "exponent": In(range(ACTIVATION_EXPONENT_MAX + 1)),
            "accumulators": Out(data.ArrayLayout(config.acc_bits, config.lanes)),
        }
        if config.more:
            members["codec"] = In(clog2(len(config.codecs)))
        super().__init__(members)

    @property
    def latency(self) -> int:
        """Clocks from the issue to lane 0's complete segment 0."""
        return 1 + self._word_delay + self._lanes[0].latency

    def segment(self, k: int) -> slice:
        return self._lanes[0].segment(k)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # Stage 1: the step's words; from here lane i waits i clocks more.
        step = delay(m, register(m, self.step, "step"), self._word_delay, "step")
        m.d.comb += self.address.eq(delay(m, self.position, self.read_delay, "position"))
        broadcast = self._first_broadcast(m)
        for i, lane in enumerate(self._lanes):
            m.submodules[f"lane{i}"] = lane
            self._give_word(m, lane, step.word_select(i, self.config.word_bits), i)
            for name in lane.broadcast.members:
                m.d.comb += getattr(lane.i, name).eq(getattr(broadcast, name))
            m.d.comb += self.accumulators[i].eq(lane.accumulator)
            broadcast = lane.o
        return m

    def _first_broadcast(self, m: Module) -> object:
        """What lane 0 is given, each field in its phase."""
        lane = self._lanes[0]
        broadcast = lane.broadcast.create()
        for c in range(self.config.columns):
            m.d.comb += broadcast.mantissas[c].eq(delay(m, self.mantissas[c], lane.skew(c), f"mantissa{c}"))
        control = 1 + self._word_delay + lane.control_phase
        m.d.comb += [
            broadcast.exponent.eq(delay(m, self.exponent, 1 + lane.exponent_phase - lane.weight_latency, "exponent")),
            broadcast.valid.eq(delay(m, self.valid, control, "valid")),
            broadcast.first.eq(delay(m, self.first, control, "first")),
        ]
        if lane.broadcast.keeps_state:
            # The lane's copy takes the clock that the words take in stage 1.
            m.d.comb += [
                broadcast.word_valid.eq(delay(m, self.valid, self._word_delay, "word_valid")),
                broadcast.word_first.eq(delay(m, self.first, self._word_delay, "word_first")),
            ]
        if self.config.more:
            m.d.comb += broadcast.word_codec.eq(delay(m, self.codec, self._word_delay, "word_codec"))
        return broadcast

    @staticmethod
    def _give_word(m: Module, lane: Lane, word: Value, number: int) -> None:
        """The word of lane `number`, each part of it when the decoder wants it."""
        for part in lane.word_parts:
            late = delay(m, word[part.bits], number + part.phase, f"{part.name}{number}")
            m.d.comb += getattr(lane, part.name).eq(late)
