"""A netlist of 7-series cells: what it holds, its longest paths, how its DSP48E1s are fed.

Depth is counted in LUTs. Where placement and routing put things is not known here, so neither is time.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from seedlm.golden.errors import SeedLMError

__all__ = ["CARRY", "LUT_COST", "Cell", "Counts", "Depth", "DspUse", "Netlist", "CriticalPath", "Pin", "unit"]

CARRY = "CARRY4"

# LUTs that a cell takes. An inverter that is left over takes one: neither a flip-flop nor a DSP48E1 has one inside.
LUT_COST = {
    **{f"LUT{n}": 1 for n in range(1, 7)},
    "LUT6_2": 1, "INV": 1, "SRL16E": 1, "SRLC32E": 1, "RAM32X1S": 1, "RAM64X1S": 1, "RAM128X1S": 2, "RAM256X1S": 4,
    "RAM32X1D": 2, "RAM64X1D": 2, "RAM128X1D": 4, "RAM32M": 4, "RAM64M": 4,
}  # fmt: skip
_FLIP_FLOPS = ("FDRE", "FDSE", "FDCE", "FDPE")
_BLOCK_RAM = {"RAMB36E1": 1.0, "RAMB18E1": 0.5}
_DISTRIBUTED = tuple(name for name in LUT_COST if name.startswith("RAM"))
_SHIFT_REGISTERS = ("SRL16E", "SRLC32E")
_WIDE = ("MUXF7", "MUXF8")
_DSP = "DSP48E1"
_SEQUENTIAL = (*_FLIP_FLOPS, *_BLOCK_RAM, *_SHIFT_REGISTERS, *_DISTRIBUTED, _DSP)
_IGNORED = ("$scopeinfo",)
_CLOCKS = re.compile(r"C|CLK|WCLK|CLKARDCLK|CLKBWRCLK|REGCLK\w+")
# Register stages of a DSP48E1 by the port that needs them, when it is used.
_DSP_STAGES = {"A": "AREG", "B": "BREG", "C": "CREG", "D": "DREG"}
_LANE = re.compile(r"(\w+\.)*lane\d+")
_MADE_UP = re.compile(r"\$|(^|\.)n\d")  # in names that no person has given: Yosys' own, and `rewrite`'s for those


def unit(path: str) -> str:
    """The unit that the instance `path` belongs to: "lane" for all of the equal lanes, else `path` itself."""
    return "lane" if _LANE.fullmatch(path) else path


@dataclass(frozen=True)
class Cell:
    """A cell of the flattened netlist. Nets are numbers; a constant is a string.

    Attributes
    ----------
    module : str
        Instance path of the unit it is in; "" is the top.
    """

    module: str
    name: str
    type: str
    parameters: dict[str, str]
    inputs: dict[str, list[int | str]]
    outputs: dict[str, list[int | str]]

    def number(self, parameter: str) -> int:
        """A numeric parameter."""
        value = self.parameters[parameter]
        return int(value, 2) if isinstance(value, str) else int(value)


@dataclass(frozen=True)
class Pin:
    """Bit `index` of port `port` of a cell; of the top if `cell` is None."""

    cell: Cell | None
    port: str
    index: int


@dataclass
class Counts:
    """Resources of a unit.

    Attributes
    ----------
    luts : int
        LUTs as logic, shift registers and memory. Pairs of small LUTs that fit one LUT6 count twice.
    ffs, dsps : int
    ramb36 : float
        A RAMB18 is one half.
    """

    luts: int = 0
    ffs: int = 0
    dsps: int = 0
    ramb36: float = 0.0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.luts + other.luts, self.ffs + other.ffs, self.dsps + other.dsps, self.ramb36 + other.ramb36
        )


@dataclass(frozen=True)
class Depth:
    """What lies on a path between registers.

    Attributes
    ----------
    luts : int
        Logic levels: LUTs (wide multiplexers behind a LUT are free), distributed memory read.
    chains : int
        Carry chains entered, one after the other.
    carry_bits : int
        Bits travelled along them.
    """

    luts: int = 0
    chains: int = 0
    carry_bits: int = 0


@dataclass(frozen=True)
class CriticalPath:
    """A longest path: `depth`, from `start` to `end` (signal names) through `modules` (in order, "" is the top)."""

    depth: Depth
    start: str
    end: str
    modules: tuple[str, ...]


@dataclass(frozen=True)
class DspUse:
    """A DSP48E1.

    Attributes
    ----------
    cell : Cell
    registers : dict
        ``AREG``, ``BREG``, ``CREG``, ``DREG`` where the port is used, ``MREG`` where it multiplies, ``PREG``: stages.
    drivers : dict
        Types of the cells that feed each used input port ("port" for a port of the netlist).
    """

    cell: Cell
    registers: dict[str, int]
    drivers: dict[str, Counter]

    @property
    def faults(self) -> list[str]:
        """What keeps it from running at full speed: stages without register, inputs fed by logic."""
        where = f"{unit(self.cell.module) or 'top'}: {_short(self.cell.name)}"
        found = [f"{where}: {name} is 0" for name, stages in self.registers.items() if stages == 0]
        good = (*_FLIP_FLOPS, *_SHIFT_REGISTERS, _DSP, "port")
        for port, types in self.drivers.items():
            logic = sorted(t for t in types if t not in good)
            if logic:
                found.append(f"{where}: {port} is fed by {', '.join(logic)}, not by a register")
        return found


def _rank(name: str) -> tuple:
    """Sorts names: those that a person has given come first, then short ones."""
    return _MADE_UP.search(name) is not None, len(name), name


def _short(name: str) -> str:
    return re.sub(r"\$\w+\$design\.v:", "line ", name.replace("$flatten", "").replace("\\", "")).split("$")[0]


@dataclass
class Netlist:
    """The cells of a design, flattened, with the unit each belongs to.

    Attributes
    ----------
    cells : list of Cell
    names : dict
        A readable name for nets that have one.
    drivers : dict
        Net -> the output pin that drives it.
    readers : dict
        Net -> the input pins that it reaches.
    module_types : dict
        Instance path -> name of its module.
    """

    cells: list[Cell] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    drivers: dict[int, Pin] = field(default_factory=dict)
    readers: dict[int, list[Pin]] = field(default_factory=lambda: defaultdict(list))
    module_types: dict[str, str] = field(default_factory=dict)

    # --- reading -------------------------------------------------------------------------------------
    @classmethod
    def read(cls, path: Path, top: str) -> Netlist:
        """The netlist in a JSON file of Yosys."""
        return cls.from_modules(json.loads(Path(path).read_text())["modules"], top)

    @classmethod
    def from_modules(cls, modules: dict, top: str) -> Netlist:
        """The netlist of `top` from the ``modules`` of Yosys' JSON; instances of these modules are opened.

        Raises
        ------
        SeedLMError
            A cell that this module does not know.
        """
        self = cls()
        aliases: dict[int, int | str] = {}
        self._open(modules, top, "", {}, aliases)
        self._connect(aliases, modules[top])
        return self

    def _net(self) -> int:
        self._last = getattr(self, "_last", 0) + 1
        return self._last

    def _open(self, modules: dict, name: str, path: str, nets: dict, aliases: dict) -> None:
        """Add the cells of module `name` as instance `path`; `nets` are its ports' nets in terms of the whole."""
        module = modules[name]
        self.module_types[path] = name

        def whole(bits: list) -> list:
            for bit in bits:
                if bit not in nets and not isinstance(bit, str):
                    nets[bit] = self._net()
            return [bit if isinstance(bit, str) else nets[bit] for bit in bits]

        for port in module["ports"].values():
            whole(port["bits"])
        for cell_name, cell in module["cells"].items():
            kind, connections = cell["type"], {p: whole(bits) for p, bits in cell["connections"].items()}
            if kind in _IGNORED:
                continue
            if kind in modules and "blackbox" not in modules[kind]["attributes"]:
                inner: dict = {}
                ports = modules[kind]["ports"]
                # Inputs first: where an input is an output as well, the net outside is the input's.
                for port in sorted(ports, key=lambda p: ports[p]["direction"] == "output"):
                    description = ports[port]
                    for bit, outer in zip(description["bits"], connections.get(port, []), strict=False):
                        if isinstance(bit, str) or inner.setdefault(bit, outer) != outer:
                            # The port passes on a constant, or another port's bit.
                            if description["direction"] == "output":
                                aliases[outer] = bit if isinstance(bit, str) else inner[bit]
                        if isinstance(outer, str):
                            inner[bit] = outer
                self._open(modules, kind, f"{path}.{cell_name}" if path else cell_name, inner, aliases)
                continue
            if kind not in LUT_COST and kind not in (*_SEQUENTIAL, *_WIDE, CARRY):
                raise SeedLMError(f"netlist: unknown cell type {kind} in {name}")
            out = {p for p, direction in cell["port_directions"].items() if direction == "output"}
            self.cells.append(
                Cell(
                    path, cell_name, kind, cell["parameters"],
                    {p: bits for p, bits in connections.items() if p not in out},
                    {p: bits for p, bits in connections.items() if p in out},
                )
            )  # fmt: skip
        for net_name, net in module["netnames"].items():
            for index, bit in enumerate(net["bits"]):
                if bit in nets and not isinstance(nets[bit], str):
                    label = f"{path}.{net_name}" if path else net_name
                    label += f"[{index}]" if len(net["bits"]) > 1 else ""
                    known = self.names.get(nets[bit])
                    if known is None or _rank(label) < _rank(known):
                        self.names[nets[bit]] = label

    def _connect(self, aliases: dict, top: dict) -> None:
        def resolve(bits: list) -> list:
            found = []
            for bit in bits:
                while bit in aliases:
                    bit = aliases[bit]
                found.append(bit)
            return found

        for cell in self.cells:
            for port, bits in cell.inputs.items():
                bits[:] = resolve(bits)
                for index, bit in enumerate(bits):
                    if not isinstance(bit, str):
                        self.readers[bit].append(Pin(cell, port, index))
            for port, bits in cell.outputs.items():
                for index, bit in enumerate(bits):
                    if not isinstance(bit, str):
                        self.drivers[bit] = Pin(cell, port, index)
        # The nets of the top's ports are numbered in the order in which they were opened: first of all.
        nets: dict = {}
        for port in top["ports"].values():
            for bit in port["bits"]:
                if not isinstance(bit, str):
                    nets.setdefault(bit, len(nets) + 1)
        for name, port in top["ports"].items():
            for index, bit in enumerate(resolve([b if isinstance(b, str) else nets[b] for b in port["bits"]])):
                if isinstance(bit, str):
                    continue
                if port["direction"] == "output":
                    self.readers[bit].append(Pin(None, name, index))
                elif bit not in self.drivers:
                    self.drivers[bit] = Pin(None, name, index)

    # --- resources -----------------------------------------------------------------------------------
    def counts(self) -> dict[str, Counts]:
        """Resources by unit (instance path, "" is the top's own)."""
        found: dict[str, Counts] = {path: Counts() for path in self.module_types}
        for cell in self.cells:
            found[cell.module] += Counts(
                LUT_COST.get(cell.type, 0),
                int(cell.type in _FLIP_FLOPS),
                int(cell.type == _DSP),
                _BLOCK_RAM.get(cell.type, 0.0),
            )
        return found

    def types(self) -> Counter:
        """Cells by type."""
        return Counter(cell.type for cell in self.cells)

    # --- depth ---------------------------------------------------------------------------------------
    def _arcs(self, pin: Pin) -> Iterator[tuple[int, Depth]]:
        """The nets that the output `pin` depends on within the same clock, and what lies in between."""
        cell = pin.cell
        if cell is None or cell.type in (*_FLIP_FLOPS, *_BLOCK_RAM, _DSP):
            return
        if cell.type == CARRY:
            for port in ("S", "DI"):
                # O is the sum bit: it does not see the DI beside it.
                last = pin.index + 1 if port == "S" or pin.port == "CO" else pin.index
                for index, bit in enumerate(cell.inputs[port][:last]):
                    yield bit, Depth(0, 1, pin.index - index + 1)
            yield cell.inputs["CYINIT"][0], Depth(0, 1, pin.index + 1)
            yield cell.inputs["CI"][0], Depth(0, 0, pin.index + 1)
            return
        if cell.type in _DISTRIBUTED or cell.type in _SHIFT_REGISTERS:
            ports = [p for p in cell.inputs if re.fullmatch(r"A\d?|ADDR[A-D]|DPRA\d?", p)]
            # Each output of a memory has its own address: DOA reads at ADDRA, DPO at DPRA, SPO at A.
            if pin.port in ("DOA", "DOB", "DOC", "DOD"):
                ports = [f"ADDR{pin.port[-1]}"]
            elif pin.port in ("DPO", "SPO"):
                ports = [p for p in ports if p.startswith("DPRA" if pin.port == "DPO" else "A")]
            elif pin.port == "Q31":
                ports = []
        else:
            ports = list(cell.inputs)
        weight = Depth(0 if cell.type in _WIDE else 1)
        for port in ports:
            for bit in cell.inputs[port]:
                yield bit, weight

    def _ends(self) -> Iterator[tuple[int, Pin]]:
        """Where paths end: inputs of registers and memories, outputs of the netlist."""
        for net, pins in self.readers.items():
            for pin in pins:
                if pin.cell is None or (pin.cell.type in _SEQUENTIAL and not _CLOCKS.fullmatch(pin.port)):
                    yield net, pin

    def longest(self, key: Callable[[Depth], tuple]) -> dict[str, CriticalPath]:
        """The longest path that ends in each unit, by `key` (additive: greater depth, greater key).

        Raises
        ------
        SeedLMError
            A loop without a register.
        """
        best: dict[int, tuple[Depth, int | None]] = {}

        def arrive(net: int) -> None:
            stack: list[tuple[int, list[tuple[int, Depth]] | None]] = [(net, None)]
            open_nets: set[int] = set()
            while stack:
                current, arcs = stack.pop()
                if arcs is None:
                    if current in best:
                        continue
                    if current in open_nets:
                        raise SeedLMError(f"netlist: a loop without a register through {self._label(current)}")
                    pin = self.drivers.get(current)
                    arcs = [(b, d) for b, d in self._arcs(pin) if not isinstance(b, str)] if pin is not None else []
                    open_nets.add(current)
                    stack.append((current, arcs))
                    stack += [(bit, None) for bit, _ in arcs if bit not in best]
                    continue
                open_nets.discard(current)
                found: tuple[Depth, int | None] = (Depth(), None)
                for index, (bit, weight) in enumerate(arcs):
                    before = best[bit][0]
                    depth = Depth(
                        before.luts + weight.luts, before.chains + weight.chains, before.carry_bits + weight.carry_bits
                    )
                    if index == 0 or key(depth) > key(found[0]):
                        found = (depth, bit)
                best[current] = found

        worst: dict[str, tuple[Depth, int, Pin]] = {}
        for net, pin in self._ends():
            if net not in best:
                arrive(net)
            module = pin.cell.module if pin.cell is not None else ""
            if module not in worst or key(best[net][0]) > key(worst[module][0]):
                worst[module] = (best[net][0], net, pin)
        return {module: self._trace(best, *end) for module, end in worst.items()}

    def _trace(self, best: dict, depth: Depth, net: int, end: Pin) -> CriticalPath:
        modules = [end.cell.module if end.cell is not None else ""]
        current: int | None = net
        while True:
            driver = self.drivers.get(current)
            if driver is not None and driver.cell is not None and driver.cell.module != modules[-1]:
                modules.append(driver.cell.module)
            before = best[current][1]
            if before is None:
                return CriticalPath(depth, self._label(current), self._end_label(end), tuple(reversed(modules)))
            current = before

    def _label(self, net: int) -> str:
        return self.names.get(net, f"net {net}")

    def _end_label(self, pin: Pin) -> str:
        """The register's signal, or the port."""
        if pin.cell is None:
            return f"{pin.port}[{pin.index}]"
        outputs = pin.cell.outputs.get("Q")
        if outputs and outputs[0] in self.names and pin.cell.type in _FLIP_FLOPS:
            suffix = "" if pin.port == "D" else f" ({pin.port})"
            return self.names[outputs[0]] + suffix
        where = f"{pin.cell.module}." if pin.cell.module else ""
        return f"{where}{_short(pin.cell.name)} ({pin.cell.type} {pin.port})"

    # --- carry chains --------------------------------------------------------------------------------
    def carry_chains(self) -> dict[str, int]:
        """Bits of the longest carry chain that ends in each unit (0 without one).

        Bits above the highest output that something reads do not count.
        """
        lengths: dict[str, int] = dict.fromkeys(self.module_types, 0)
        before = {}
        for cell in self.cells:
            if cell.type == CARRY:
                net = cell.inputs["CI"][0]
                driver = self.drivers.get(net) if not isinstance(net, str) else None
                chained = driver is not None and driver.cell is not None and driver.cell.type == CARRY
                before[id(cell)] = driver.cell if chained else None
        for cell in self.cells:
            if cell.type != CARRY:
                continue
            outputs = [(i, bit) for port in ("O", "CO") for i, bit in enumerate(cell.outputs.get(port, []))]
            used = [i + 1 for i, bit in outputs if self.readers.get(bit)]
            bits, current = max(used, default=0), before[id(cell)]
            while current is not None:
                bits, current = bits + 4, before[id(current)]
            lengths[cell.module] = max(lengths[cell.module], bits)
        return lengths

    # --- DSP48E1 -------------------------------------------------------------------------------------
    def dsps(self) -> list[DspUse]:
        """Every DSP48E1 with its registers and what feeds it."""
        found = []
        for cell in self.cells:
            if cell.type != _DSP:
                continue
            registers, drivers = {}, {}
            for port, stage in _DSP_STAGES.items():
                nets = [bit for bit in cell.inputs.get(port, []) if not isinstance(bit, str)]
                if not nets:
                    continue
                registers[stage] = cell.number(stage)
                pins = [self.drivers.get(net) for net in nets]
                drivers[port] = Counter("port" if p is None or p.cell is None else p.cell.type for p in pins)
            if "MULTIPLY" in str(cell.parameters.get("USE_MULT", "")):
                registers["MREG"] = cell.number("MREG")
            registers["PREG"] = cell.number("PREG")
            found.append(DspUse(cell, registers, drivers))
        return found
