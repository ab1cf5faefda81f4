"""Boards as data, one module each, found by itself under the board's name.

A board is a class derived from `Board`. Its resources (pins) are those of any Amaranth platform; `ddr3`
describes the memory. What only the designer of a board can know is `FILL_IN`: it may be generated, but
not built (`to_fill_in` lists what is missing). See docs/extending.md.
"""

from __future__ import annotations

import types
from pathlib import Path

from seedlm.build.boards._base import FILL_IN, Board, Ddr3
from seedlm.build.parts import part as parse_part
from seedlm.golden.errors import SeedLMError
from seedlm.golden.registry import modules

__all__ = ["BOARDS", "FILL_IN", "Board", "Ddr3", "board", "board_for_part"]

BOARDS: dict[str, type[Board]] = {m.__name__.rsplit(".", 1)[-1]: m.BOARD for m in modules(__name__)}


def board_for_part(name: str) -> type[Board]:
    """The shipped board with this part; raises `SeedLMError` if there is none."""
    wanted = parse_part(name)
    for candidate in BOARDS.values():
        if candidate.part() == wanted:
            return candidate
    raise SeedLMError(f"no board with the part {wanted}: choose one of {', '.join(BOARDS)}"
                      " or the Python file of your own with --board")  # fmt: skip


def board(name: str) -> type[Board]:
    """A board by its name, or the one `Board` that a Python file (``*.py``) defines.

    Raises
    ------
    SeedLMError
        No such board; a file that does not define exactly one.
    """
    if name in BOARDS:
        return BOARDS[name]
    if not name.endswith(".py"):
        raise SeedLMError(f"no board {name!r}: expected {', '.join(BOARDS)} or a Python file that defines one")
    path = Path(name)
    if not path.is_file():
        raise SeedLMError(f"{name}: no such file: expected a Python file that defines a board")
    module = types.ModuleType(f"seedlm_board_{path.stem}")
    try:
        # not imported: that could leave compiled files beside the user's
        exec(compile(path.read_text(encoding="utf-8"), name, "exec"), vars(module))
    except Exception as error:
        raise SeedLMError(f"{name}: cannot be loaded: {type(error).__name__}: {error}") from error
    found = [
        item for item in vars(module).values()
        if isinstance(item, type) and issubclass(item, Board) and item.__module__ == module.__name__
    ]  # fmt: skip
    if len(found) != 1:
        raise SeedLMError(f"{name}: expected one class derived from seedlm.build.boards.Board, found {len(found)}")
    return found[0]
