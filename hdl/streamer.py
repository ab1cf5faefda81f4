"""Reading regions of memory as one uninterrupted stream of beats."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from seedlm.golden.build import Config
from seedlm.hdl.beat_fifo import BeatFifo
from seedlm.hdl.bursts import BurstSplitter, check_burst
from seedlm.hdl.layouts import beat_layout, read_job_layout, request_layout, valid_only

__all__ = ["ReadStreamer"]


class ReadStreamer(wiring.Component):
    """Turns jobs (address, beats) into bursts and their answers into a stream.

    A burst is requested only when its whole answer has room in the buffer, so answers are never refused. Requests run
    ahead as far as the buffer allows, across the ends of jobs: the answers of successive jobs follow each other without
    a lost clock as long as the memory delivers, and a full buffer rides through `fifo_beats` clocks without an answer.

    Throughput: a beat per clock; a request every 2 clocks (so bursts of one beat reach half the rate).
    Latency: 3 clocks from a job to its first request; 2 from an answer to `o`, 3 with `output_register`.

    Parameters
    ----------
    config : Config
        Widths; the greatest burst.
    fifo_beats : int
        Room for answers, in beats; at least `burst_beats`. For the full rate it has to cover the memory's latency
        in clocks (from request to first answer), some ten clocks of our own, and two bursts.
    burst_beats : int, optional
        Greatest burst, a power of two; by default the configuration's.
    output_register : bool
        See `hdl.beat_fifo.BeatFifo`.

    Members
    -------
    job : stream of read_job_layout, in
        Regions, each aligned to a beat. 0 beats: nothing is read, nothing comes out.
    request : stream of request_layout, out
        Bursts for `hdl.read_master.ReadMaster`.
    response : valid_only(beat_layout), in
        Answers, in the order of the requests.
    o : stream of beat_layout, out
        All beats of all jobs, in order; ``last`` at the end of each job. ``error`` marks a beat whose data is void.
    """

    def __init__(
        self, *, config: Config, fifo_beats: int, burst_beats: int | None = None, output_register: bool = True
    ) -> None:
        self._config = config
        self._output_register = output_register
        self._fifo_beats = fifo_beats
        self._burst_beats = config.burst_beats if burst_beats is None else burst_beats
        check_burst(config, self._burst_beats, fifo_beats)
        super().__init__({
            "job": In(stream.Signature(read_job_layout(config))),
            "request": Out(stream.Signature(request_layout(config))),
            "response": In(valid_only(beat_layout(config))),
            "o": Out(stream.Signature(beat_layout(config))),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.splitter = splitter = BurstSplitter(
            config=self._config, burst_beats=self._burst_beats, credits=self._fifo_beats, initial=self._fifo_beats
        )
        m.submodules.fifo = fifo = BeatFifo(
            layout=beat_layout(self._config), depth=self._fifo_beats, output_register=self._output_register
        )
        wiring.connect(m, wiring.flipped(self.job), splitter.job)
        wiring.connect(m, splitter.request, wiring.flipped(self.request))
        wiring.connect(m, wiring.flipped(self.response), fifo.i)
        wiring.connect(m, fifo.o, wiring.flipped(self.o))
        m.d.sync += splitter.credit.eq(self.o.valid & self.o.ready)
        return m
