"""What a verb says and where: one JSON object or text on standard output, progress and errors on standard error.

Reports go to standard output, as text or (``--json``) as exactly one JSON object. Progress bars go to
standard error and only to a terminal, so that neither a pipe nor a log ever holds half a bar.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

__all__ = ["Console", "Progress", "by", "complain", "human_bytes", "stacked_bar"]

# called with the amount of work done since the last call
Progress = Callable[[int], None]


def human_bytes(n: int) -> str:
    """`n` bytes with a binary unit: 512 B, 3.4 KiB, 1.2 GiB."""
    value, unit = float(n), "B"
    for bigger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, bigger
    return f"{n} B" if unit == "B" else f"{value:.1f} {unit}"


def human_time(seconds: float) -> str:
    """A time for a reader: 0.4 s, 83 s, 12 min, 3.4 h, 5.1 days."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def by(shape: Sequence[int]) -> str:
    """A shape for a reader: 3 x 4."""
    return " x ".join(map(str, shape)) or "scalar"


def stacked_bar(parts: Mapping[str, int], width: int = 64) -> str:
    """A bar of `width` characters in which each part has its share, drawn with the part's key (one character).

    A part that is not 0 has a character at least, however small; the largest gives what that takes.
    """
    present = {key: count for key, count in parts.items() if count}
    if not present:
        return " " * width
    if len(present) > width:
        raise ValueError(f"{len(present)} parts do not fit into {width} characters")
    total = sum(present.values())
    cells = {key: max(1, round(width * count / total)) for key, count in present.items()}
    # Rounding leaves a few too many or too few.
    while (excess := sum(cells.values()) - width) != 0:
        key = max(cells, key=lambda key: (cells[key], present[key]))
        cells[key] -= 1 if excess > 0 else -1
    return "".join(key * cells[key] for key in present)


def complain(message: str) -> None:
    """An error, in one line on standard error."""
    print(f"seedlm: error: {' '.join(message.split())}", file=sys.stderr)


class Console:
    """Where a verb writes.

    Parameters
    ----------
    json_output : bool
        Report is one JSON object; text is suppressed.
    quiet : bool
        No progress, no text apart from what was asked for in JSON.

    Attributes
    ----------
    report : dict or None
        The last report given to `json`, for programs that call a verb.
    """

    def __init__(self, *, json_output: bool = False, quiet: bool = False) -> None:
        self.json_output = json_output
        self.quiet = quiet
        self.report: dict | None = None

    @property
    def talks(self) -> bool:
        """True when text is wanted on standard output."""
        return not (self.json_output or self.quiet)

    def print(self, text: str = "") -> None:
        """One line of the report for a reader; nothing with ``--json`` or ``--quiet``."""
        if self.talks:
            print(text)

    def hint(self, text: str) -> None:
        """Why it takes a while: a line on standard error, to a terminal only."""
        if self.talks and sys.stderr.isatty():
            print(text, file=sys.stderr)

    def json(self, report: dict) -> None:
        """The report as the one JSON object, with ``--json`` only. NaN and infinities are bugs and raise."""
        self.report = report
        if self.json_output:
            print(json.dumps(report, indent=2, allow_nan=False))

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table in plain text; a heading that starts with ``<`` aligns its column to the left."""
        if not self.talks or not rows:
            return
        left = [h.startswith("<") for h in headings]
        cells = [[h.removeprefix("<") for h in headings], *rows]
        widths = [max(len(row[i]) for row in cells) for i in range(len(headings))]
        for row in cells:
            padded = (c.ljust(w) if to_left else c.rjust(w) for c, w, to_left in zip(row, widths, left, strict=True))
            print("  ".join(padded).rstrip())

    @contextmanager
    def progress(self, what: str, total: int, unit: Callable[[float], str] = "{:,.0f}".format) -> Iterator[Progress]:
        """A bar over `total` units of work; yields the function that advances it.

        Nothing is drawn unless standard error is a terminal and the user wants text.
        """
        if not (self.talks and sys.stderr.isatty()):
            yield lambda amount: None
            return
        # imported here: drawing takes longer to load than most verbs take to run
        from rich import progress as bars
        from rich.console import Console as Terminal

        columns = (
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.TaskProgressColumn(),
            bars.TextColumn("{task.fields[rate]}"),
            bars.TimeRemainingColumn(),
        )
        with bars.Progress(*columns, console=Terminal(stderr=True), transient=True) as bar:
            task = bar.add_task(what, total=total, rate="")

            def advance(amount: int) -> None:
                bar.advance(task, amount)
                speed = bar.tasks[task].speed
                bar.update(task, rate=f"{unit(speed)}/s" if speed else "")

            yield advance
