"""The accelerator: memory in, memory out, one product after the other."""

from __future__ import annotations

from amaranth.hdl import Cat, ClockDomain, ClockSignal, DomainRenamer, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out, connect

from seedlm.golden.build import Config
from seedlm.hdl import axi
from seedlm.hdl.activation_buffer import ActivationBuffer, address_bits, read_latency
from seedlm.hdl.collector import Collector, tag_layout
from seedlm.hdl.control import Control
from seedlm.hdl.delay import delay
from seedlm.hdl.gearbox import Gearbox
from seedlm.hdl.mac import MacArray
from seedlm.hdl.planner import Planner
from seedlm.hdl.read_master import ReadMaster
from seedlm.hdl.rounding import Fp32Rounding
from seedlm.hdl.sequencer import Sequencer
from seedlm.hdl.streamer import ReadStreamer
from seedlm.hdl.write_master import WriteMaster
from seedlm.hdl.writer import ResultWriter

__all__ = ["SeedLMAccelerator"]

JOBS_AHEAD = 4  # products that the parts may be ahead of each other


class _Parts:
    """The parts by name, as the stages of `elaborate` make them."""

    control: Control
    planner: Planner
    activation_streamer: ReadStreamer
    weight_streamer: ReadStreamer
    scale_streamer: ReadStreamer  # codecs with row scales only
    streamers: list[ReadStreamer]  # in the order of their priority
    read_master: ReadMaster
    activation_buffer: ActivationBuffer
    gearbox: Gearbox
    sequencer: Sequencer
    mac_array: MacArray
    collector: Collector
    rounding: Fp32Rounding
    writer: ResultWriter
    write_master: WriteMaster


class SeedLMAccelerator(wiring.Component):
    """y = W x for weights stored as seeds, at the speed of the memory.

    ::

        m_axi R -> read master -> weight streamer -> gearbox -> sequencer -> MAC array -> collector
                              -> activation streamer -> activation buffer -----^             ^  |
                              -> scale streamer (codecs with row scales) --------------------/  |
        m_axi W <- result writer <- FP32 rounding <--------------------------------------------/
        s_axi -> control (registers, queue) -> planner -> a job for each of them

    One step (a word for every lane) enters the lanes in each clock in which it is there. Each part works on its own
    queue of jobs, so the next product's activations and weights arrive while the present one is computed, and its
    results leave while the next one runs. All arithmetic is exact up to two roundings of `golden.product`.

    The ports have the flat names of Vivado's packager.

    Parameters
    ----------
    config : Config
        Codecs and sizes; see `golden.build`.

    Members
    -------
    aclk : In(1)
        The only clock.
    aresetn : In(1)
        Active low, synchronous; hold it for 16 clocks.
    irq : Out(1)
        Level; register.
    s_axi_* :
        AXI4-Lite slave, 32 bits (`hdl.axi_lite`).
    m_axi_* :
        AXI4 master, `Config.bus_bits` (`hdl.axi`).
    """

    def __init__(self, *, config: Config) -> None:
        self.config = config
        members = {"aclk": In(1), "aresetn": In(1), "irq": Out(1)}
        self._control = Control(config=config)
        members |= {name: m for name, m in self._control.signature.members.items() if name.startswith("s_axi_")}
        members |= axi.read_members(config) | axi.write_members(config)
        super().__init__(members)

    def _pass_on(self, m: Module, part: wiring.Component, prefixes: tuple[str, ...]) -> None:
        """Connect the ports of the same name, such as ``m_axi_araddr``, of `part` and the top."""
        for name, member in part.signature.members.items():
            if name.startswith(prefixes):
                inner, outer = getattr(part, name), getattr(self, name)
                m.d.comb += outer.eq(inner) if member.flow is Out else inner.eq(outer)

    def _queue(self, m: Module, name: str, source: object, target: object) -> None:
        """A short queue of jobs, so that the planner may go on while `target` is busy."""
        m.submodules[name] = queue = SyncFIFOBuffered(width=len(source.payload.as_value()), depth=JOBS_AHEAD)
        m.d.comb += [
            queue.w_data.eq(source.payload),
            queue.w_en.eq(source.valid),
            source.ready.eq(queue.w_rdy),
            target.payload.eq(queue.r_data),
            target.valid.eq(queue.r_rdy),
            queue.r_en.eq(target.ready),
        ]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        p = _Parts()
        self._control_side(m, p)
        self._read_side(m, p)
        self._lanes_and_results(m, p)
        self._connect_steps(m, p)
        self._connect_results(m, p)
        self._hand_out_jobs(m, p)
        self._events(m, p)
        self._watch(m, p)
        return m

    def _control_side(self, m: Module, p: _Parts) -> None:
        """Registers and queue, then the planner, which knows all sizes of a product."""
        p.control = self._control
        m.submodules.control = DomainRenamer("control")(p.control)
        self._domains(m, p.control)
        m.submodules.planner = p.planner = Planner(config=self.config)
        connect(m, p.control.descriptor, p.planner.descriptor)
        self._pass_on(m, p.control, ("s_axi_", "irq"))

    def _read_side(self, m: Module, p: _Parts) -> None:
        """Memory to streams."""
        config = self.config
        # Activations and scales meet a register after a multiplexer; the weights spread to all lanes.
        m.submodules.activation_streamer = p.activation_streamer = ReadStreamer(
            config=config, fifo_beats=config.activation_fifo_beats, output_register=False
        )
        m.submodules.weight_streamer = p.weight_streamer = ReadStreamer(
            config=config, fifo_beats=config.weight_fifo_beats
        )
        p.streamers = [p.activation_streamer, p.weight_streamer]
        if config.row_scales:
            m.submodules.scale_streamer = p.scale_streamer = ReadStreamer(
                config=config,
                fifo_beats=config.scale_fifo_beats,
                burst_beats=config.scale_burst_beats,
                output_register=False,
            )
            # Before the others: they are few, and a row group must not wait for them.
            p.streamers.insert(0, p.scale_streamer)
        p.read_master = ReadMaster(config=config, ports=len(p.streamers))
        m.submodules.read_master = DomainRenamer("port")(p.read_master)
        self._pass_on(m, p.read_master, (axi.PREFIX,))
        for port, streamer in enumerate(p.streamers):
            connect(m, streamer.request, p.read_master.request[port])
            connect(m, p.read_master.response[port], streamer.response)

    def _lanes_and_results(self, m: Module, p: _Parts) -> None:
        """The parts from streams to results."""
        config = self.config
        p.mac_array = MacArray(
            config=config, position_bits=address_bits(config), activation_latency=read_latency(config)
        )
        m.submodules.activation_buffer = p.activation_buffer = ActivationBuffer(
            config=config, read_delay=p.mac_array.read_delay
        )
        m.submodules.gearbox = p.gearbox = Gearbox(config=config)
        m.submodules.sequencer = p.sequencer = Sequencer(config=config, place_bits=p.activation_buffer.place_bits)
        m.submodules.mac_array = p.mac_array
        in_flight = p.mac_array.latency // p.sequencer.spacing + 2
        m.submodules.collector = p.collector = Collector(config=config, array=p.mac_array, in_flight=in_flight)
        m.submodules.rounding = p.rounding = Fp32Rounding(config=config, tag_bits=tag_layout().size)
        m.submodules.writer = p.writer = ResultWriter(config=config)
        p.write_master = WriteMaster(config=config)
        m.submodules.write_master = DomainRenamer("port")(p.write_master)
        self._pass_on(m, p.write_master, (axi.PREFIX,))

    def _connect_steps(self, m: Module, p: _Parts) -> None:
        """Streams to the lanes, as the sequencer decides."""
        connect(m, p.activation_streamer.o, p.activation_buffer.i)
        connect(m, p.weight_streamer.o, p.gearbox.i)
        sequencer, activation_buffer, mac_array = p.sequencer, p.activation_buffer, p.mac_array
        codec = []
        if self.config.more:
            codec = [sequencer.codec]
            m.d.comb += mac_array.codec.eq(sequencer.codec)
        m.d.comb += [
            sequencer.step_valid.eq(p.gearbox.o.valid),
            sequencer.step_error.eq(p.gearbox.o.payload.error),
            p.gearbox.o.ready.eq(sequencer.issue),
            sequencer.available.eq(activation_buffer.available),
            sequencer.count.eq(activation_buffer.count),
            sequencer.nonfinite.eq(activation_buffer.nonfinite),
            sequencer.activation_error.eq(activation_buffer.error),
            activation_buffer.advance.eq(sequencer.advance),
            mac_array.step.eq(p.gearbox.o.payload.data),
            mac_array.valid.eq(sequencer.issue),
            mac_array.first.eq(sequencer.first),
            mac_array.position.eq(Cat(sequencer.place, activation_buffer.bank, *codec)),
            activation_buffer.address.eq(mac_array.address),
            mac_array.mantissas.eq(activation_buffer.mantissas),
            mac_array.exponent.eq(activation_buffer.exponent),
            p.collector.accumulators.eq(mac_array.accumulators),
            # One clock before lane 0 is complete.
            p.collector.finish.eq(delay(m, sequencer.last, mac_array.latency - 1, "finish", reset_less=False)),
        ]
        connect(m, sequencer.row_group, p.collector.row_group)
        if self.config.row_scales:
            connect(m, p.scale_streamer.o, p.collector.scales)
            m.d.comb += sequencer.scale_beat.eq(p.scale_streamer.response.valid)

    def _connect_results(self, m: Module, p: _Parts) -> None:
        """Sums to memory."""
        connect(m, p.collector.o, p.rounding.i)
        writer, write_master = p.writer, p.write_master
        tag = Signal(tag_layout())
        m.d.comb += [
            tag.eq(p.rounding.o.payload.tag),
            writer.result.valid.eq(p.rounding.o.valid),
            writer.result.payload.data.eq(p.rounding.o.payload.data),
            writer.result.payload.write.eq(tag.write),
            writer.result.payload.last.eq(tag.last),
            writer.result.payload.code.eq(tag.code),
            p.sequencer.freed.eq(write_master.freed),
            write_master.tail.eq(writer.tail),
            writer.settled.eq(write_master.settled),
            writer.refused.eq(write_master.refused),
            writer.hold.eq(p.control.hold),
            p.sequencer.hold.eq(p.control.hold),
        ]
        connect(m, writer.beat, write_master.beat)
        connect(m, writer.request, write_master.request)
        connect(m, writer.completion, p.control.completion)
        # While nothing is read, a short burst of results costs the memory no turnaround that anybody waits for.
        requests = Cat(streamer.request.valid for streamer in p.streamers)
        m.d.sync += writer.flush.eq(p.read_master.idle & ~requests.any())

    def _hand_out_jobs(self, m: Module, p: _Parts) -> None:
        """The planner's jobs."""
        planner = p.planner
        self._queue(m, "activation_read_jobs", planner.activation_read, p.activation_streamer.job)
        self._queue(m, "convert_jobs", planner.convert, p.activation_buffer.job)
        self._queue(m, "weight_read_jobs", planner.weight_read, p.weight_streamer.job)
        if self.config.row_scales:
            self._queue(m, "scale_read_jobs", planner.scale_read, p.scale_streamer.job)
        self._queue(m, "gearbox_jobs", planner.gearbox, p.gearbox.job)
        self._queue(m, "sequence_jobs", planner.sequence, p.sequencer.job)
        self._queue(m, "scale_jobs", planner.scale, p.collector.scale)
        self._queue(m, "write_jobs", planner.write, p.writer.job)

    def _watch(self, m: Module, p: _Parts) -> None:
        """What abort and watchdog look at."""
        m.d.comb += [
            p.control.progress.eq(
                p.sequencer.issue
                | Cat(streamer.response.valid for streamer in p.streamers).any()
                | (self.m_axi_arvalid & self.m_axi_arready)
                | (self.m_axi_awvalid & self.m_axi_awready)
                | (self.m_axi_wvalid & self.m_axi_wready)
                | self.m_axi_bvalid
            ),
            p.control.drained.eq(p.read_master.idle & p.write_master.idle),
            p.control.stray.eq(p.read_master.stray | p.write_master.stray),
        ]

    def _domains(self, m: Module, control: Control) -> None:
        """Three domains with one clock, each with a reset of its own, so that an abort ends what it has to and no more.

        ``control``: registers and queue; ``port``: the account of what the bus is owed; ``sync``: the data path.
        """
        for name in ("sync", "port", "control"):
            m.domains += ClockDomain(name)
            m.d.comb += ClockSignal(name).eq(self.aclk)
        path_reset = Signal(init=1, reset_less=True)  # it goes everywhere: from a register, a clock later
        m.d.control += path_reset.eq(~self.aresetn | control.clear_path)
        m.d.comb += [
            ResetSignal("sync").eq(path_reset),
            ResetSignal("port").eq(~self.aresetn | control.clear_port),
            ResetSignal("control").eq(~self.aresetn),
        ]

    def _events(self, m: Module, p: _Parts) -> None:
        """What the counters count."""
        control, sequencer, collector = p.control, p.sequencer, p.collector
        # Row groups issued and not yet collected, rows in the rounding unit.
        groups = Signal(range(64))
        rows = Signal(range(128))
        m.d.sync += [
            groups.eq(groups + sequencer.last - collector.finish),
            rows.eq(rows + collector.o.valid - p.rounding.o.valid),
        ]
        m.d.comb += [
            control.events.request.eq(self.m_axi_arvalid),
            control.events.streaming.eq(sequencer.issue),
            control.events.wait_memory.eq(sequencer.wait_steps),
            control.events.load_activations.eq(sequencer.wait_activations),
            control.events.draining.eq(
                sequencer.wait_collector | (sequencer.idle & ((groups != 0) | collector.busy | (rows != 0)))
            ),
            control.events.writing.eq(sequencer.wait_room | (sequencer.idle & p.writer.busy)),
            control.events.activation_beat.eq(p.streamers[-2].response.valid),
            control.events.weight_beat.eq(p.streamers[-1].response.valid),
            control.events.result_beat.eq(self.m_axi_wvalid & self.m_axi_wready),
            control.events.read_burst.eq(self.m_axi_arvalid & self.m_axi_arready),
            control.events.write_burst.eq(self.m_axi_awvalid & self.m_axi_awready),
            control.events.read_stall.eq(self.m_axi_arvalid & ~self.m_axi_arready),
            control.events.step.eq(sequencer.issue),
        ]
        if self.config.row_scales:
            m.d.comb += control.events.scale_beat.eq(p.streamers[0].response.valid)
