"""From the Verilog that Yosys writes for an Amaranth design to the Verilog that this project gives away.

The meaning stays; what changes:

- Yosys' ``always @*`` blocks wait for an event at time 0 that SystemVerilog simulators do not give them; now they get
  one in every simulator and language mode (`start_at_time_zero`).
- Names are plain identifiers, and wires of no bits are gone (`plain_names`, `drop_empty_wires`).
- Amaranth makes a module of every instance, so sixteen equal lanes are sixteen modules; and Yosys writes the initial
  contents of a memory word by word. Both cost compile time, and the second hides the design from its reader. Signs are
  extended bit by bit, which simulators then compute bit by bit (`share_modules`, `fold_initial_values`,
  `fold_repetitions`).

All that reads Yosys' Verilog is here; all that reads its netlists is in `seedlm.build.netlist`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass

__all__ = [
    "VerilogModule", "drop_empty_wires", "drop_zero_memories", "fold_initial_values", "fold_repetitions", "modules",
    "plain_names", "rewrite", "share_modules", "start_at_time_zero",
]  # fmt: skip

TIME_ZERO = "time_zero"

_ESCAPED = re.compile(r"\\(\S+) ")
_WORD = re.compile(r"\b[A-Za-z_]\w*")
_TRIGGER = re.compile(r"^  reg (\\\$auto\$verilog_backend\.cc:\d+:dump_module\$\d+ ) = 0;\n", re.MULTILINE)
_EMPTY_WIRE = re.compile(r"^  (?:wire|reg) \[-1:0\] \S+;\n", re.MULTILINE)

# From here on names are plain.
_MODULE = re.compile(r"^(?:\(\*[^\n]*\*\)\n)*module (\w+).*?^endmodule\n", re.MULTILINE | re.DOTALL)
_HEADER = re.compile(r"^module \w+ *\(([^)]*)\);\n", re.MULTILINE)
_INSTANCE = re.compile(r"^  (\w+) +(\w+) \($", re.MULTILINE)
_INITIAL = re.compile(r"^  initial begin\n((?:    \w+\[\d+\] = \S+;\n)+)  end\n", re.MULTILINE)
_MEMORY_WORD = re.compile(r"    (\w+)\[(\d+)\] = (\S+);\n")
_REPEATED = re.compile(r"(?<=[{ ])(\w+\[\d+\])((?:, \1){2,})(?=,| \})")
_ZEROS = re.compile(
    r"^  initial begin : \w+\n    integer i;\n(?:    for \([^)]*\) \w+\[i\] = \d+'h0+;\n)+  end\n", re.MULTILINE
)


@dataclass(frozen=True)
class VerilogModule:
    """A module of Verilog: its name, and its text from ``module`` to ``endmodule``."""

    name: str
    text: str

    @property
    def ports(self) -> list[str]:
        """Names of the ports, in their order."""
        return _ports(self.text)

    @property
    def instances(self) -> list[tuple[str, str]]:
        """Module and name of every instance inside, in the order of the text."""
        return _INSTANCE.findall(self.text)


def rewrite(text: str, top: str) -> str:
    """Yosys' Verilog `text` in the form that the head of this file describes. The module `top` keeps its name."""
    text = plain_names(drop_empty_wires(start_at_time_zero(text)))
    return share_modules(fold_repetitions(fold_initial_values(text)), top)


def modules(text: str) -> list[VerilogModule]:
    """The modules of rewritten Verilog, in their order."""
    return [VerilogModule(m[1], m[0]) for m in _MODULE.finditer(text)]


def _ports(module: str) -> list[str]:
    header = _HEADER.search(module)
    assert header is not None, module[:200]
    return [port.strip() for port in header[1].split(",") if port.strip()]


# --- right in every mode ---------------------------------------------------------------------------


def start_at_time_zero(text: str) -> str:
    """Every ``always @*`` runs at time 0, whatever the simulator.

    A block runs only when something that it reads changes. Yosys lets all blocks of a module read a register that is
    initialised in its declaration. In Verilog-2005 that is an event at time 0; in SystemVerilog it happens before any
    process starts, and a block whose other operands do not change leaves its output at X. A non-blocking assignment
    takes effect when all processes of time 0 have begun to wait, so all of them see it.
    """

    def module(match: re.Match[str]) -> str:
        found = _TRIGGER.search(match[0])
        if found is None:
            return match[0]
        declaration = f"  reg {TIME_ZERO};  // an event at time 0 for every always @*\n"
        start = f"  initial {TIME_ZERO} <= 1'h1;\n"
        return match[0].replace(found[0], declaration + start).replace(found[1], TIME_ZERO)

    return re.sub(r"^module .*?^endmodule\n", module, text, flags=re.MULTILINE | re.DOTALL)


# --- plain names -----------------------------------------------------------------------------------


def drop_empty_wires(text: str) -> str:
    """Without the declarations of wires that have no bits, which nothing reads; Verilog would give them two."""
    return _EMPTY_WIRE.sub("", text)


def plain_names(text: str) -> str:
    """Every escaped name (``\\job.valid$9 ``) as a plain identifier (``job_valid_9``).

    One name becomes one name in the whole text, and no two become the same: equal modules stay equal.
    """
    taken = set(_WORD.findall(_ESCAPED.sub("", text)))
    new: dict[str, str] = {}

    def plain(match: re.Match[str]) -> str:
        old = match[1]
        if old not in new:
            # A plain identifier was escaped because it is a keyword.
            name = f"{old}_" if re.fullmatch(r"\w+", old) else re.sub(r"\W+", "_", old).strip("_")
            name = f"n{name}" if name[:1].isdigit() else name
            while name in taken:
                name += "_"
            taken.add(name)
            new[old] = name
        return new[old]

    return _ESCAPED.sub(plain, text)


# --- small -----------------------------------------------------------------------------------------


def fold_repetitions(text: str) -> str:
    """Concatenations with the same bit three times or more in a row, as replications."""

    def replace(match: re.Match[str]) -> str:
        return f"{{{1 + match[2].count(', ' + match[1])}{{{match[1]}}}}}"

    return _REPEATED.sub(replace, text)


def fold_initial_values(text: str) -> str:
    """Initial blocks that set more than a few words of a memory to equal values, as loops."""
    return _INITIAL.sub(lambda block: _fold(block[1]) or block[0], text)


def _fold(body: str) -> str | None:
    """An initial block for the assignments in `body`; None if there is nothing to gain."""
    runs: list[tuple[str, int, int, str]] = []  # name, first, last, value
    for name, index, value in _MEMORY_WORD.findall(body):
        if runs and runs[-1][0] == name and runs[-1][2] + 1 == int(index) and runs[-1][3] == value:
            runs[-1] = (name, runs[-1][1], int(index), value)
        else:
            runs.append((name, int(index), int(index), value))
    if all(last - first < 4 for _, first, last, _ in runs):
        return None
    lines = [f"  initial begin : {runs[0][0]}_initial\n    integer i;\n"]
    for name, first, last, value in runs:
        if last - first < 4:
            lines += [f"    {name}[{i}] = {value};\n" for i in range(first, last + 1)]
        else:
            lines.append(f"    for (i = {first}; i <= {last}; i = i + 1) {name}[i] = {value};\n")
    return "".join([*lines, "  end\n"])


def drop_zero_memories(text: str) -> str:
    """Without the loops that set memories to zero, as every memory of the FPGA starts; Yosys unrolls them slowly."""
    return _ZEROS.sub("", text)


def share_modules(text: str, top: str) -> str:
    """One module for all that differ in nothing but their name and the order of their ports.

    Instances connect ports by name, so the order is free. The first of equal modules stays, in its place.
    """
    kept = {m[1]: m[0] for m in _MODULE.finditer(text)}
    while True:
        groups: dict[str, list[str]] = defaultdict(list)
        for name, module in kept.items():
            groups[_key(module)].append(name)
        same = {n: names[0] for names in groups.values() for n in names[1:] if n != top}
        if not same:
            break
        kept = {n: _rename_instances(m, same) for n, m in kept.items() if n not in same}
    return re.sub(r"\n{3,}", "\n\n", _MODULE.sub(lambda m: kept.get(m[1], ""), text))


def _rename_instances(module: str, new: dict[str, str]) -> str:
    return _INSTANCE.sub(lambda m: f"  {new.get(m[1], m[1])} {m[2]} (", module)


def _key(module: str) -> str:
    """What two modules have in common when they do the same."""
    return ",".join(sorted(_ports(module))) + _HEADER.split(module, maxsplit=1)[-1]
