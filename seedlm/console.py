"""What a verb says and where: one JSON object or text on standard output, progress and errors on standard error.

Reports go to standard output, as text or (``--json``) as exactly one JSON object. Progress bars go to
standard error and only to a terminal, so that neither a pipe nor a log ever holds half a bar.

What files hold (names of tensors, metadata, paths, a model's words) must not steer the terminal: all
text goes through `clean`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TextIO

__all__ = [
    "Console",
    "OutputError",
    "Progress",
    "by",
    "clean",
    "complain",
    "finish_output",
    "human_bytes",
    "open_streams",
    "output_lost",
    "put",
    "stacked_bar",
    "warn",
]

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


def clean(text: str, keep: str = "") -> str:
    """`text` with all that is not printable as an escape (``\\x1b``), but for the characters of `keep`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def complain(message: str) -> None:
    """An error, in one line on standard error."""
    warn(f"error: {message}")


def warn(message: str) -> None:
    """Something that is no error of its own, in one line on standard error, which may be closed or full."""
    _to_stderr(f"seedlm: {' '.join(message.split())}")


def _to_stderr(text: str) -> None:
    try:
        print(clean(text), file=sys.stderr)
    except OSError:
        _discard(sys.stderr)


def open_streams() -> None:
    """Make usable what the program was started without.

    A closed standard output or error is None in Python, and its number goes to the next file that is opened: what
    some library prints would end in an output file. Closed streams get the null device; standard output gets it for
    reading, so that writing fails as it should.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w")
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # where the terminal has no such character
            stream.reconfigure(errors="backslashreplace")


class OutputError(Exception):
    """Standard output cannot be written; the cause is the OSError."""


def put(text: str, end: str = "\n", *, flush: bool = False) -> None:
    """Text to standard output as it is.

    Raises
    ------
    OutputError
        It cannot be written. Where the text is buffered it may show at the end only, see `finish_output`.
    """
    try:
        print(text, end=end, flush=flush)
    except OSError as error:
        raise OutputError from error


def finish_output(code: int) -> int:
    """Write what waits for standard output; `code`, or 1 if it cannot be written and nothing else was wrong.

    The interpreter would say so in several lines, and end with a code of its own.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        return output_lost(error, code)
    return code


def output_lost(error: OSError, code: int = 0) -> int:
    """Give up standard output, in one line if nothing else was wrong (`code` is 0); the exit code.

    A pipe whose reader has gone (`seedlm info FILE | head`) needs no word.
    """
    if code == 0 and not isinstance(error, BrokenPipeError):
        complain(f"standard output: cannot write: {error.strerror or error}")
    _discard(sys.stdout)
    return code or 1


def _discard(stream: TextIO) -> None:
    """Send what still waits in a stream that cannot be written to nowhere."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


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
            put(clean(text, "\n\t"))

    def write(self, text: str) -> None:
        """A piece of a text that comes bit by bit, shown at once; nothing with ``--json`` or ``--quiet``."""
        if self.talks:
            put(clean(text, "\n\t"), end="", flush=True)

    def hint(self, text: str) -> None:
        """Why it takes a while: a line on standard error, to a terminal only."""
        if self.talks and sys.stderr.isatty():
            _to_stderr(text)

    def warn(self, text: str) -> None:
        """What the user should know though it is no error: a line on standard error; nothing with ``--quiet``."""
        if not self.quiet:
            warn(text)

    def json(self, report: dict) -> None:
        """The report as the one JSON object, with ``--json`` only. NaN and infinities are bugs and raise."""
        self.report = report
        if self.json_output:
            put(json.dumps(report, indent=2, allow_nan=False))

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table in plain text; a heading that starts with ``<`` aligns its column to the left."""
        if not self.talks or not rows:
            return
        left = [h.startswith("<") for h in headings]
        cells = [[h.removeprefix("<") for h in headings], *([clean(cell) for cell in row] for row in rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(headings))]
        for row in cells:
            padded = (c.ljust(w) if to_left else c.rjust(w) for c, w, to_left in zip(row, widths, left, strict=True))
            put("  ".join(padded).rstrip())

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
