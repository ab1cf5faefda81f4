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

    The ports have the flat names of Vivado's packager: ``aclk``, ``aresetn`` (active low, synchronous; hold it for 16
    clocks), ``irq`` (level), ``s_axi_*`` (AXI4-Lite, 32 bits) and ``m_axi_*`` (AXI4, `Config.bus_bits`).

    Parameters
    ----------
    config : Config
        Codec and sizes; see `golden.params`.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        members = {"aclk": In(1), "aresetn": In(1), "irq": Out(1)}
        self._control = Control(config)
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
        config = self.config
        # Control: registers and queue, then the planner, which knows all sizes of a product.
        control = self._control
        m.submodules.control = DomainRenamer("control")(control)
        self._domains(m, control)
        m.submodules.planner = planner = Planner(config)
        connect(m, control.descriptor, planner.descriptor)
        self._pass_on(m, control, ("s_axi_", "irq"))

        # Memory to streams.
        # Activations and scales meet a register after a multiplexer; the weights spread to all lanes.
        m.submodules.activation_streamer = activation_streamer = ReadStreamer(
            config=config, fifo_beats=config.activation_fifo_beats, output_register=False
        )
        m.submodules.weight_streamer = weight_streamer = ReadStreamer(
            config=config, fifo_beats=config.weight_fifo_beats
        )
        streamers = [activation_streamer, weight_streamer]
        if config.codec.row_scales:
            m.submodules.scale_streamer = scale_streamer = ReadStreamer(
                config=config,
                fifo_beats=config.scale_fifo_beats,
                burst_beats=config.scale_burst_beats,
                output_register=False,
            )
            # Before the others: they are few, and a row group must not wait for them.
            streamers.insert(0, scale_streamer)
        read_master = ReadMaster(config=config, ports=len(streamers))
        m.submodules.read_master = DomainRenamer("port")(read_master)
        self._pass_on(m, read_master, (axi.PREFIX,))
        for port, streamer in enumerate(streamers):
            connect(m, streamer.request, read_master.request[port])
            connect(m, read_master.response[port], streamer.response)

        # Streams to results.
        mac_array = MacArray(config=config, position_bits=address_bits(config), activation_latency=read_latency(config))
        m.submodules.activation_buffer = activation_buffer = ActivationBuffer(
            config=config, read_delay=mac_array.read_delay
        )
        m.submodules.gearbox = gearbox = Gearbox(config)
        m.submodules.sequencer = sequencer = Sequencer(config=config, step_bits=activation_buffer.step_bits)
        m.submodules.mac_array = mac_array
        in_flight = mac_array.latency // sequencer.spacing + 2
        m.submodules.collector = collector = Collector(config=config, array=mac_array, in_flight=in_flight)
        m.submodules.rounding = rounding = Fp32Rounding(config=config, tag_bits=tag_layout().size)
        m.submodules.writer = writer = ResultWriter(config=config)
        write_master = WriteMaster(config=config)
        m.submodules.write_master = DomainRenamer("port")(write_master)
        self._pass_on(m, write_master, (axi.PREFIX,))

        connect(m, activation_streamer.o, activation_buffer.i)
        connect(m, weight_streamer.o, gearbox.i)
        m.d.comb += [
            sequencer.step_valid.eq(gearbox.o.valid),
            sequencer.step_error.eq(gearbox.o.payload.error),
            gearbox.o.ready.eq(sequencer.issue),
            sequencer.available.eq(activation_buffer.available),
            sequencer.count.eq(activation_buffer.count),
            sequencer.nonfinite.eq(activation_buffer.nonfinite),
            sequencer.activation_error.eq(activation_buffer.error),
            activation_buffer.advance.eq(sequencer.advance),
            mac_array.step.eq(gearbox.o.payload.data),
            mac_array.valid.eq(sequencer.issue),
            mac_array.first.eq(sequencer.first),
            mac_array.position[:-1].eq(sequencer.step),
            mac_array.position[-1].eq(activation_buffer.bank),
            activation_buffer.address.eq(mac_array.address),
            mac_array.mantissas.eq(activation_buffer.mantissas),
            mac_array.exponent.eq(activation_buffer.exponent),
            collector.accumulators.eq(mac_array.accumulators),
            # One clock before lane 0 is complete.
            collector.finish.eq(delay(m, sequencer.last, mac_array.latency - 1, "finish", reset_less=False)),
        ]
        connect(m, sequencer.row_group, collector.row_group)
        if config.codec.row_scales:
            connect(m, scale_streamer.o, collector.scales)
            m.d.comb += sequencer.scale_beat.eq(scale_streamer.response.valid)
        connect(m, collector.o, rounding.i)
        tag = Signal(tag_layout())
        m.d.comb += [
            tag.eq(rounding.o.payload.tag),
            writer.result.valid.eq(rounding.o.valid),
            writer.result.payload.data.eq(rounding.o.payload.data),
            writer.result.payload.write.eq(tag.write),
            writer.result.payload.last.eq(tag.last),
            writer.result.payload.code.eq(tag.code),
            sequencer.freed.eq(write_master.freed),
            write_master.tail.eq(writer.tail),
            writer.settled.eq(write_master.settled),
            writer.refused.eq(write_master.refused),
            writer.hold.eq(control.hold),
            sequencer.hold.eq(control.hold),
        ]
        connect(m, writer.beat, write_master.beat)
        connect(m, writer.request, write_master.request)
        connect(m, writer.completion, control.completion)
        # While nothing is read, a short burst of results costs the memory no turnaround that anybody waits for.
        requests = Cat(streamer.request.valid for streamer in streamers)
        m.d.sync += writer.flush.eq(read_master.idle & ~requests.any())

        # The planner's jobs.
        self._queue(m, "activation_read_jobs", planner.activation_read, activation_streamer.job)
        self._queue(m, "convert_jobs", planner.convert, activation_buffer.job)
        self._queue(m, "weight_read_jobs", planner.weight_read, weight_streamer.job)
        if config.codec.row_scales:
            self._queue(m, "scale_read_jobs", planner.scale_read, scale_streamer.job)
        self._queue(m, "gearbox_jobs", planner.gearbox, gearbox.job)
        self._queue(m, "sequence_jobs", planner.sequence, sequencer.job)
        self._queue(m, "scale_jobs", planner.scale, collector.scale)
        self._queue(m, "write_jobs", planner.write, writer.job)

        self._events(m, control, sequencer, collector, rounding, writer, streamers, read_master)
        m.d.comb += [
            control.progress.eq(
                sequencer.issue
                | Cat(streamer.response.valid for streamer in streamers).any()
                | (self.m_axi_arvalid & self.m_axi_arready)
                | (self.m_axi_awvalid & self.m_axi_awready)
                | (self.m_axi_wvalid & self.m_axi_wready)
                | self.m_axi_bvalid
            ),
            control.drained.eq(read_master.idle & write_master.idle),
            control.stray.eq(read_master.stray | write_master.stray),
        ]
        return m

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

    def _events(self, m, control, sequencer, collector, rounding, writer, streamers, read_master) -> None:
        """What the counters count."""
        # Row groups issued and not yet collected, rows in the rounding unit.
        groups = Signal(range(64))
        rows = Signal(range(128))
        m.d.sync += [
            groups.eq(groups + sequencer.last - collector.finish),
            rows.eq(rows + collector.o.valid - rounding.o.valid),
        ]
        m.d.comb += [
            control.events.request.eq(self.m_axi_arvalid),
            control.events.streaming.eq(sequencer.issue),
            control.events.wait_memory.eq(sequencer.wait_steps),
            control.events.load_activations.eq(sequencer.wait_activations),
            control.events.draining.eq(
                sequencer.wait_collector | (sequencer.idle & ((groups != 0) | collector.busy | (rows != 0)))
            ),
            control.events.writing.eq(sequencer.wait_room | (sequencer.idle & writer.busy)),
            control.events.activation_beat.eq(streamers[-2].response.valid),
            control.events.weight_beat.eq(streamers[-1].response.valid),
            control.events.result_beat.eq(self.m_axi_wvalid & self.m_axi_wready),
            control.events.read_burst.eq(self.m_axi_arvalid & self.m_axi_arready),
            control.events.write_burst.eq(self.m_axi_awvalid & self.m_axi_awready),
            control.events.read_stall.eq(self.m_axi_arvalid & ~self.m_axi_arready),
            control.events.step.eq(sequencer.issue),
        ]
        if self.config.codec.row_scales:
            m.d.comb += control.events.scale_beat.eq(streamers[0].response.valid)
