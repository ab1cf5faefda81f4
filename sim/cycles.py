"""How many cycles a product takes on the ideal memory, without simulating it.

Nothing here is fitted: every term is a latency that a component tells, a clock of its interface, or a parameter of the
memory model, and `product_cycles` is exact where it answers at all. Clocks are counted from the first read request.

- The memory reads row scales, activations and weights one after the other, a beat per clock (`_reads`).
- A step enters the lanes when its weights and its activations are there, one clock after the step before, and two row
  groups are as many clocks apart as they have rows (`_Engine.last_step`): the latest of these bounds counts.
- The results come row by row. Whole bursts of them are written between the weights (`_between`), the others once
  nothing is read any more, however short (`_after`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import lru_cache

from seedlm.golden.build import Config
from seedlm.golden.errors import SeedLMError
from seedlm.hdl.activation_buffer import address_bits, read_latency
from seedlm.hdl.activation_convert import ActivationConverter
from seedlm.hdl.collector import Collector
from seedlm.hdl.gearbox import Gearbox
from seedlm.hdl.mac import MacArray
from seedlm.hdl.rounding import Fp32Rounding
from seedlm.hdl.sequencer import Sequencer
from seedlm.host.regions import ProductRegions
from seedlm.sim.memories import MEMORIES
from seedlm.sim.memory import Memory

__all__ = ["product_cycles"]

# Parameters of ddr3.sv.
FRONT = 4  # address to the window of the next beats
OPEN = 1  # from there to the row's activation
BACK = 19  # a read's column command to its beat
RESPONSE = 4  # a write's column command to its response
ROW_BEATS = 128
BANKS = 8
WINDOW = 4
PATIENCE = 256  # clocks that a burst of results waits while there is something to read
LATENCY = 64  # of memory and streamer together, at most: what the weight buffer must cover beside two bursts
# Clocks of our own interfaces.
REQUEST = 2  # between two requests of the read master
ANSWER = 1  # through the read master
STREAM = 2  # from there to the streamer's output; one more with an output register
COUNTED = 2  # from a converted group to the step that may use it: the count, then a comparison
READS_ENDED = 3  # from the last beat read to `flush` in the writer
CREDIT = 2  # from the last result of a beat to the look of the writer's burst splitter at it
ADDRESS = 2  # from there to AWVALID; a burst more is offered every two clocks
DATA = 1  # from AWVALID to WVALID
COMPLETE = 3  # from BVALID to the completion
DONE = 1  # from there to the clock in which the counters stop


@dataclass(frozen=True)
class _Timing:
    """The memory's row timing in clocks, see `Memory.settings`."""

    rcd: int
    rp: int
    rrd: int
    ras: int
    rtp: int
    wtp: int
    rtw: int
    wtr: int

    @property
    def switch_after_read(self) -> int:
        """From a read to the next column command in another row of its bank."""
        return self.rtp + self.rp + self.rcd

    @property
    def switch_after_write(self) -> int:
        """The same after a write."""
        return self.wtp + self.rp + self.rcd


@dataclass
class _Stream:
    """When the beats of a region come on R: one per clock, but for `delays` (from which beat on, clocks)."""

    first: int
    delays: list[tuple[int, int]] = field(default_factory=list)

    def __call__(self, beat: int) -> int:
        return self.first + beat + sum(clocks for since, clocks in self.delays if since <= beat)


@dataclass(frozen=True)
class _Engine:
    """Latencies of a build, as its components tell them.

    Attributes
    ----------
    spacing : int
        Clocks between the last steps of two row groups, at least.
    weight, activation : int
        From a beat on R to the step that it completes, or that needs the group that it completes.
    result : int
        From the last step of a row group to its first row at the writer.
    """

    config: Config
    spacing: int
    weight: int
    activation: int
    result: int

    @classmethod
    @lru_cache(maxsize=64)
    def of(cls, config: Config) -> _Engine:
        position = address_bits(config)
        array = MacArray(config=config, position_bits=position, activation_latency=read_latency(config))
        collector = Collector(config=config, array=array, in_flight=2)
        return cls(
            config=config,
            spacing=Sequencer(config=config, place_bits=position - 1).spacing,
            weight=ANSWER + STREAM + 1 + Gearbox(config=config).latency,
            activation=ANSWER + STREAM + ActivationConverter(config=config).latency + COUNTED,
            # The collector is told one clock before the first lane is complete.
            result=array.latency - 1 + collector.latency + Fp32Rounding.latency,
        )

    def _beat(self, step: int) -> int:
        """The beat of the image that completes a step."""
        return ((step + 1) * self.config.step_bits - 1) // self.config.bus_bits

    def last_step(self, group: int, cols: int, weights: _Stream, activations: _Stream) -> int:
        """The clock in which the last step of a row group is issued.

        Every bound grows evenly with the step, so that the first and the last one decide.

        Parameters
        ----------
        group : int
            The row group.
        weights, activations : _Stream
        """
        config, codec = self.config, self.config.codec
        steps = codec.blocks(cols)
        apart = max(self.spacing, steps)
        bounds = []
        for at in {0, group}:
            for step in {0, steps - 1}:
                there = weights(self._beat(at * steps + step)) + self.weight
                bounds.append(there + (steps - 1 - step) + (group - at) * apart)
        for entry in {0, codec.groups(cols) - 1}:
            beat = ((entry + 1) * 16 * config.group - 1) // config.bus_bits
            if 16 * config.group <= config.bus_bits:  # else beats that the vector does not have take their clock, too
                beat = min(beat, config.activation_beats(cols) - 1)
            step = entry * codec.steps_per_group
            bounds.append(activations(beat) + self.activation + (steps - 1 - step) + group * apart)
        return max(bounds)


def _row(config: Config, address: int) -> tuple[int, int]:
    """Bank and row of the DRAM that an address is in."""
    number = address // (ROW_BEATS * config.beat_bytes)
    return number % BANKS, number // BANKS


def _reads(config: Config, regions: ProductRegions, timing: _Timing) -> dict[str, _Stream]:
    """When the regions that are read come on R.

    They follow each other without a gap where requests of a single beat do not come too slowly and no row must
    be closed first because the next one of its bank is wanted. All clocks are those of R, `BACK` after the DRAM's.
    """
    lengths = {
        "scales": config.scale_beats(regions.rows),
        "activations": config.activation_beats(regions.cols),
        "weights": config.image_beats(regions.rows, regions.cols),
    }
    request, clock, entered, streams = 0, 0, 0, {}
    activated = -timing.rrd  # when a row was opened last
    rows: dict[int, tuple[int, int]] = {}  # by bank: its last row, and when that is closed unless a beat is in view
    for name, beats in lengths.items():
        if not beats:
            continue
        address = getattr(regions, name)
        bank, row = _row(config, address)
        view = max(request + FRONT + BACK, entered + 1, clock - WINDOW)
        before, closing = rows.get(bank, (None, 0))
        if before == row and view < closing:
            opened = closing - timing.ras  # long enough ago
            first = max(clock, view + OPEN)
        else:
            opened = max(view + OPEN, activated + timing.rrd, 0 if before is None else closing + timing.rp)
            activated = opened
            first = max(clock, opened + timing.rcd)
        # Beats that come into view later than a row takes to open wait at the next row.
        late = max(0, OPEN + timing.rcd - (first - view))
        stream = streams[name] = _Stream(first, [(ROW_BEATS - address // config.beat_bytes % ROW_BEATS, late)])
        end, last = stream(beats - 1), address + (beats - 1) * config.beat_bytes
        if _row(config, last) != (bank, row):
            inside = last // config.beat_bytes % ROW_BEATS  # beats of the last row before this one
            before, row_before = _row(config, last - (inside + 1) * config.beat_bytes)
            rows[before] = row_before, end - inside - 1 + timing.rtp
            bank, row = _row(config, last)
            activated = opened = end - inside - timing.rcd
        rows[bank] = row, max(end + timing.rtp, opened + timing.ras)
        clock = end + 1
        entered = max(view + beats - 1, end - WINDOW)  # the last beat into view
        burst = config.scale_burst_beats if name == "scales" else config.burst_beats
        request += REQUEST * -(-beats // burst)
    return streams


@dataclass(frozen=True)
class _Results:
    """The writer's side of a product: in which clock the last row of a beat comes there, and where a burst goes."""

    config: Config
    regions: ProductRegions
    weights: _Stream
    activations: _Stream

    def __call__(self, beat: int) -> int:
        config, rows = self.config, self.regions.rows
        engine = _Engine.of(config)
        group, lane = divmod(min((beat + 1) * config.results_per_beat, rows) - 1, config.lanes)
        return engine.last_step(group, self.regions.cols, self.weights, self.activations) + engine.result + lane

    def collides(self, result: int, weight: int) -> bool:
        """Whether a beat of results lies in another row of the bank that a beat of weights is in."""
        size = self.config.beat_bytes
        mine = _row(self.config, self.regions.results + result * size)
        other = _row(self.config, self.regions.weights + weight * size)
        return mine[0] == other[0] and mine[1] != other[1]

    def first_write(self, result: int, weight: int, timing: _Timing) -> int:
        """Clocks from the last read, that of `weight`, to the write of `result`."""
        recent = range(min(weight + 1, timing.switch_after_read))
        switches = (timing.switch_after_read - ago for ago in recent if self.collides(result, weight - ago))
        return max(timing.rtw, *switches, 0)


def _between(config: Config, results: _Results, timing: _Timing) -> int:
    """The beats of results in whole bursts that are written between the weights; the delays go into the weights."""
    regions, weights, whole = results.regions, results.weights, config.result_burst_beats
    written, at, image = 0, 0, config.image_beats(regions.rows, regions.cols)
    while written + whole <= config.result_beats(regions.rows):
        due = results(written + whole - 1) + CREDIT + ADDRESS + DATA + whole - 1 + PATIENCE
        # Before the first burst of weights that would come into view after that.
        while at < image and weights(at) - BACK - WINDOW < due:
            at += config.burst_beats
        if at >= image:
            break
        # From the last read to the first write, to the last write, to the next read, beside a read in every clock.
        delay = results.first_write(written, at - 1, timing) + whole - 1
        delay += timing.switch_after_write if results.collides(written, at) else timing.wtr
        weights.delays.append((at, delay - 1))
        written += whole
    return written


def _after(config: Config, results: _Results, timing: _Timing, beat: int) -> int:
    """The clock in which the last beat of results is written, from `beat` on after the last weights."""
    regions, whole = results.regions, config.result_burst_beats
    final = config.image_beats(regions.rows, regions.cols) - 1
    there = [results(n) + CREDIT for n in range(config.result_beats(regions.rows))]
    flush = results.weights(final) + READS_ENDED
    read = results.weights(final) - BACK
    may_write = read + results.first_write(beat, final, timing)
    look, sent, written = 0, 0, None
    while beat < len(there):
        end = min(beat + whole - beat % whole, len(there))
        look = max(look, min(max(flush, there[beat]), there[end - 1]))
        ready = sum(clock <= look for clock in there[beat:end])
        sent = max(look + ADDRESS + DATA, sent + 1) + ready - 1
        view = max(look + ADDRESS + FRONT, sent, read - 1)
        if written is None:
            column = max(view + OPEN + timing.rcd, may_write)
        elif view < written + timing.wtp:  # its row is still open
            column = max(view, written) + 1
        else:
            column = max(view + OPEN, written + timing.wtp + timing.rp) + timing.rcd
        written = column + ready - 1
        beat += ready
        look += 2
    return written


def _require(config: Config, regions: ProductRegions, memory: Memory) -> None:
    """Raise `SeedLMError` where the bounds are not the whole truth."""
    if memory.controller != "ddr3" or memory.refresh or memory.bank_row_column:
        raise SeedLMError(f"cycles follow from a formula on the ideal memory only, not on {memory.name}")
    if config.codec.header_steps:
        raise SeedLMError(f"no formula for the cycles of codec {config.codec}: its rows have steps without weights")
    if min(config.burst_beats, config.scale_burst_beats) < 2:
        raise SeedLMError("no formula for the cycles of a build that reads in bursts of one beat")
    if config.weight_fifo_beats < 2 * config.burst_beats + LATENCY:
        raise SeedLMError("no formula for the cycles of a build whose weight buffer is shorter than the latency")
    rows, cols, codec = regions.rows, regions.cols, config.codec
    whole, apart = config.result_burst_beats, max(_Engine.of(config).spacing, codec.blocks(cols))
    # Where the lanes are slower than the memory, bursts of results find it idle.
    slow = apart * config.bus_bits > codec.blocks(cols) * config.step_bits or whole * config.results_per_beat < 512
    limits = {
        # A longer vector or more scales wait for room, and weights are read in between.
        "activations": (config.activation_beats(cols), config.activation_fifo_beats),
        "row scales": (config.scale_beats(rows), config.scale_fifo_beats),
        "results": (config.result_beats(rows), whole if slow else 1 << 32),
    }
    for name, (beats, limit) in limits.items():
        if beats > limit:
            raise SeedLMError(
                f"no formula for the cycles of {rows} x {cols} weights: {beats} beats of {name}, and it ends at {limit}"
            )


def product_cycles(config: Config, regions: ProductRegions, memory: Memory = MEMORIES["ideal"]) -> int:
    """Cycles of one product on an idle accelerator, as its counter ``cycles`` has them; exact.

    Parameters
    ----------
    config : Config
    regions : ProductRegions
        Shape and addresses: regions whose ends share a bank of the memory cost a row's closing and opening.
    memory : Memory
        Without refresh.

    Raises
    ------
    SeedLMError
        There is no exact formula: another memory; a codec with headers in its rows; activations or row scales that do
        not fit their buffers; more results than a burst where the lanes, not the memory, are the limit.
    """
    _require(config, regions, memory)
    settings = memory.settings()
    timing = _Timing(**{item.name: settings[f"t_{item.name}"] for item in fields(_Timing)})
    streams = _reads(config, regions, timing)
    results = _Results(config, regions, streams["weights"], streams["activations"])
    written = _after(config, results, timing, _between(config, results, timing))
    return written + RESPONSE + COMPLETE + DONE + 1  # the clock of the request counts, too
