"""Results to memory: values are packed into beats, products end one after the other."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from seedlm.golden.build import Config, clog2
from seedlm.hdl.bursts import BurstSplitter
from seedlm.hdl.layouts import (
    BEAT_COUNT_BITS,
    CODE_BITS,
    completion_layout,
    request_layout,
    result_layout,
    valid_only,
    writer_job_layout,
)
from seedlm.hdl.registers import ErrorCode

__all__ = ["ResultWriter"]

JOBS = 4  # jobs that may wait
ENDS = 32  # products that may have come to their end in the buffer: far more than jobs can be
PAUSE = 3  # clocks from a completion until `hold` is looked at


class ResultWriter(wiring.Component):
    """Packs the results of successive products into the write master's buffer and requests the bursts that write them;
    reports their completion.

    A burst starts when it is complete in the buffer: at full length (up to a multiple of it), or at the end of the
    product, or at whatever length while `flush` is high. The full length is the configuration's, or less where the
    buffer cannot hold that and the rows of one more row group, which the sequencer reserves together. The last beat of
    a product is padded with zeros and written with strobes for the valid rows only. Nothing is written beyond the rows
    of the job.

    Products are strictly one after the other: the first address of a product is given only when the one before is
    complete, that is, all its write responses are there, and `hold` is low. So while software has not cleared the
    error of a product, nothing of a later one is written, whatever has been computed of it meanwhile; that waits in
    the buffer. A product that was begun is always finished, hold or not, and it never needs more room than is
    reserved for it, so nothing can wait for itself. The price is the memory's write latency per product, hidden by
    the buffer.

    Throughput: a result per clock in, a beat per clock out, bursts of a product without a gap between them.
    Latency: with `hdl.write_master.WriteMaster`, 4 clocks from the last result to AWVALID, 5 to the first WVALID, 3
    from the last BVALID to the completion.

    Parameters
    ----------
    config : Config
        Widths, `result_fifo_beats`, `burst_beats`.

    Raises
    ------
    ValueError
        The buffer is too small for the lanes.

    Members
    -------
    burst_beats : int
        Greatest burst.

    Members
    -------
    job : stream of writer_job_layout, in
        One per product, in order. May come after the product's results (of at most 30 products). 0 rows: nothing is
        written, the completion comes with the product's marker.
    result : valid_only(result_layout), in
        The product's rows in order, the last one (or a marker without data) with ``last``. The sender keeps account
        of the room: `result_fifo_beats` beats, a part of a beat at the end of a product counts as a whole one.
    beat, request, tail, settled, refused :
        To and from `WriteMaster`.
    completion : valid_only(completion_layout), out
        Pulse: the product is complete; the code of the job, else of its ``last`` result, else WRITE if the memory
        refused a burst, else 0.
    hold : in
        An error waits for software. Has to rise at most 3 clocks after the pulse of a completion with a code.
    flush : in
        The memory has nothing else to do: write what is there, however short the burst.
    busy : out
        A job is waiting or at work.
    """

    def __init__(self, *, config: Config) -> None:
        self._config = config
        self.burst_beats = config.result_burst_beats
        super().__init__({
            "job": In(stream.Signature(writer_job_layout(config))),
            "result": In(valid_only(result_layout(config))),
            "beat": Out(valid_only(data.StructLayout({"data": config.bus_bits}))),
            "request": Out(stream.Signature(request_layout(config))),
            "tail": Out(config.results_per_beat),
            "settled": In(1),
            "refused": In(1),
            "completion": Out(valid_only(completion_layout(config))),
            "hold": In(1),
            "flush": In(1),
            "busy": Out(1),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.splitter = splitter = BurstSplitter(
            config=config, burst_beats=self.burst_beats, credits=config.result_fifo_beats, initial=0
        )
        m.submodules.ends = ends = fifo.SyncFIFO(width=CODE_BITS, depth=ENDS)
        self._pack(m, ends)
        m.d.comb += [splitter.credit.eq(self.beat.valid), splitter.flush.eq(self.flush)]
        wiring.connect(m, splitter.request, wiring.flipped(self.request))
        self._products(m, splitter, ends)
        return m

    def _pack(self, m: Module, ends: fifo.SyncFIFO) -> None:
        """Results into beats; the codes at the ends of products into `ends`."""
        per_beat = self._config.results_per_beat
        result = self.result.payload
        words = Signal(data.ArrayLayout(32, per_beat), reset_less=True)
        place = Signal(per_beat, init=1)  # one-hot: the word to be stored next
        store = Signal()
        last = Signal()
        m.d.comb += [store.eq(self.result.valid & result.write), last.eq(self.result.valid & result.last)]
        for n in range(per_beat):
            # A new beat: zeros where no row will come. First, so that it becomes the registers' reset.
            with m.If(store & place[0] & (n != 0)):
                m.d.sync += words[n].eq(0)
            with m.Elif(store & place[n]):
                m.d.sync += words[n].eq(result.data)
        with m.If(last):
            m.d.sync += place.eq(1)
        with m.Elif(store):
            m.d.sync += place.eq(place.rotate_left(1))
        # A marker ends a beat that has been begun, but does not make one of its own.
        full = store & place[-1]
        m.d.sync += self.beat.valid.eq(full | (last & (result.write | ~place[0])))
        m.d.comb += [self.beat.payload.data.eq(words), ends.w_en.eq(last), ends.w_data.eq(result.code)]

    def _products(self, m: Module, splitter: BurstSplitter, ends: fifo.SyncFIFO) -> None:
        """One product after the other, up to its completion."""
        fetched, known, null, job = self._next_job(m, splitter)
        issued = Signal()  # all bursts of the product were requested
        error = Signal()  # one of them was refused
        request = self.request
        with m.If(request.valid & request.ready):
            m.d.sync += issued.eq(request.payload.last)
        with m.If(self.refused):
            m.d.sync += error.eq(1)

        ended = Signal()
        pause = Signal(range(PAUSE + 1))
        m.d.sync += [ended.eq(ends.r_rdy), self.completion.valid.eq(0)]
        with m.FSM():
            with m.State("START"), m.If(known & ~self.hold):
                with m.If(null):
                    m.d.sync += issued.eq(1)
                    m.next = "FINISH"
                with m.Else():
                    m.d.comb += splitter.job.valid.eq(1)
                    with m.If(splitter.job.ready):
                        m.next = "FINISH"
            with m.State("FINISH"), m.If(issued & ended & self.settled):
                m.d.comb += ends.r_en.eq(1)
                code = self.completion.payload.code
                with m.If(job.code != ErrorCode.NONE):
                    m.d.sync += code.eq(job.code)
                with m.Elif(ends.r_data != ErrorCode.NONE):
                    m.d.sync += code.eq(ends.r_data)
                with m.Else():
                    m.d.sync += code.eq(Mux(error, ErrorCode.WRITE, ErrorCode.NONE))
                m.d.sync += [
                    self.completion.valid.eq(1),
                    issued.eq(0),
                    error.eq(0),
                    fetched.eq(0),
                    pause.eq(PAUSE),
                ]
                m.next = "PAUSE"
            with m.State("PAUSE"):
                m.d.sync += pause.eq(pause - 1)
                with m.If(pause == 0):
                    m.next = "START"

    def _next_job(self, m: Module, splitter: BurstSplitter) -> tuple[Signal, Signal, Signal, data.View]:
        """The present or next job and, a clock later, what follows from its rows.

        Returns
        -------
        fetched, known, null, job
            There is one (cleared at its end); there is what follows from it; it has no rows; the job.
        """
        layout = writer_job_layout(self._config)
        per_beat = self._config.results_per_beat
        shift = clog2(per_beat)
        m.submodules.jobs = jobs = fifo.SyncFIFO(width=layout.size, depth=JOBS)
        m.d.comb += [jobs.w_data.eq(self.job.payload), jobs.w_en.eq(self.job.valid), self.job.ready.eq(jobs.w_rdy)]
        fetched = Signal()
        known = Signal()
        job = Signal(layout, reset_less=True)
        beats = Signal(BEAT_COUNT_BITS, reset_less=True)
        null = Signal(reset_less=True)
        rest = job.rows[:shift]
        m.d.comb += [
            jobs.r_en.eq(~fetched),
            splitter.job.payload.address.eq(job.address),
            splitter.job.payload.beats.eq(beats),
            self.busy.eq(jobs.r_rdy | fetched),
            self.tail.eq(Cat((rest == 0) | (rest > n) for n in range(per_beat))),
        ]
        with m.If(~fetched):
            m.d.sync += [fetched.eq(jobs.r_rdy), job.eq(jobs.r_data)]
        m.d.sync += [
            known.eq(fetched),
            beats.eq((job.rows + (per_beat - 1))[shift:]),
            null.eq(job.rows == 0),
        ]
        return fetched, known, null, job
