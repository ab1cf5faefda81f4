"""Smaller Verilog with the same meaning, from what Yosys writes for an Amaranth design.

Amaranth makes a module of every instance, so sixteen equal lanes are sixteen modules; and Yosys writes the
initial contents of a memory word by word. Both cost compile time, and the second hides the design from
its reader. Signs are extended bit by bit, which simulators then compute bit by bit.
"""

from __future__ import annotations

import re
from collections import defaultdict

__all__ = ["compact", "fold_initial_values", "fold_repetitions", "share_modules"]

_MODULE = re.compile(r"^(?:\(\*[^\n]*\*\)\n)*module .*?^endmodule\n", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"^module (\\\S+ |\w+)", re.MULTILINE)
_HEADER = re.compile(r"^module (?:\\\S+ |\w+) *\(([^)]*)\);\n", re.MULTILINE)
_INITIAL = re.compile(r"^  initial begin\n((?:    (?:\\\S+ |\w+)\[\d+\] = \S+;\n)+)  end\n", re.MULTILINE)
_WORD = re.compile(r"    (\\\S+ |\w+)\[(\d+)\] = (\S+);\n")
_REPEATED = re.compile(r"(?<=[{ ])((?:\\\S+ |\w+) ?\[\d+\])((?:, \1){2,})(?=,| \})")
_CELL = re.compile(r"(?<=^  )(\\\S+ |\w+(?= ))(?= *\S+ +\($)", re.MULTILINE)  # the name of an instance's module
_COUNTED = re.compile(r"\\\$auto\$verilog_backend\.cc:\d+:dump_module\$\d+ ")


def compact(text: str, top: str) -> str:
    """`text` with equal modules made one, equal initial values in loops and equal bits in replications.

    The module `top` keeps its name.
    """
    return share_modules(fold_repetitions(fold_initial_values(text)), top)


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
    for name, index, value in _WORD.findall(body):
        if runs and runs[-1][0] == name and runs[-1][2] + 1 == int(index) and runs[-1][3] == value:
            runs[-1] = (name, runs[-1][1], int(index), value)
        else:
            runs.append((name, int(index), int(index), value))
    if all(last - first < 4 for _, first, last, _ in runs):
        return None
    label = re.sub(r"\W", "_", runs[0][0].strip()) + "_initial"
    lines = [f"  initial begin : {label}\n    integer i;\n"]
    for name, first, last, value in runs:
        if last - first < 4:
            lines += [f"    {name}[{i}] = {value};\n" for i in range(first, last + 1)]
        else:
            lines.append(f"    for (i = {first}; i <= {last}; i = i + 1) {name}[i] = {value};\n")
    return "".join([*lines, "  end\n"])


def share_modules(text: str, top: str) -> str:
    """One module for all that differ in nothing but their name, the order of their ports and Yosys' own counters.

    Instances connect ports by name, so the order is free. The first of equal modules stays, in its place.
    """
    modules = {_NAME.search(m)[1]: m for m in _MODULE.findall(text)}  # type: ignore[index]
    while True:
        groups: dict[str, list[str]] = defaultdict(list)
        for name, module in modules.items():
            groups[_key(module)].append(name)
        same = {n: names[0] for names in groups.values() for n in names[1:] if n.strip() != top}
        if not same:
            break
        for name in same:
            del modules[name]
        modules = {n: _rename_cells(m, same) for n, m in modules.items()}
    kept = set(modules)
    replaced = _MODULE.sub(lambda m: modules[name] if (name := _NAME.search(m[0])[1]) in kept else "", text)  # type: ignore[index]
    return re.sub(r"\n{3,}", "\n\n", replaced)


def _rename_cells(module: str, new: dict[str, str]) -> str:
    return _CELL.sub(lambda cell: new.get(cell[1], cell[1]), module)


def _key(module: str) -> str:
    """What two modules have in common when they do the same."""
    header = _HEADER.search(module)
    assert header is not None, module[:200]
    ports = ",".join(sorted(port.strip() for port in header[1].split(",")))
    return ports + _COUNTED.sub(lambda _: "\\counted ", module[header.end() :])
