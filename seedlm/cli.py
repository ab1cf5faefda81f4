"""The ``seedlm`` command: arguments, errors and exit codes; one module per verb does the work.

Exit codes: 0 done; 1 a user's error, or outputs that differ; 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TextIO

from seedlm import (
    __version__,
    bench,
    bench_encoder,
    calibrate,
    compare,
    compress,
    decompress,
    estimate,
    evaluate,
    generate,
    image,
    import_,
    info,
    project,
    reference,
    registers,
    simulate,
    sweep,
    verilog,
    vivado,
)
from seedlm.console import Console, OutputError, complain, finish_output, open_streams, output_lost, put, warn
from seedlm.golden.errors import SeedLMError

__all__ = ["guarded", "main", "parser"]

_VERBS = (
    compress,
    import_,
    calibrate,
    info,
    decompress,
    reference,
    simulate,
    generate,
    evaluate,
    project,
    bench,
    compare,
    bench_encoder,
    sweep,
    verilog,
    estimate,
    vivado,
    image,
    registers,
)

_DESCRIPTION = """\
Compress a model's weights into seeds of a pseudo-random generator, and run the FPGA accelerator
that multiplies with them, bit for bit, in simulation.
"""

_EPILOG = """\
a first round:
  seedlm compress model.safetensors packed.safetensors
  seedlm info packed.safetensors
  seedlm sim packed.safetensors --tensor NAME
  seedlm verilog --out DIR

Every verb has --help with examples, and --json for scripts: one JSON object on standard output.
Exit codes: 0 done; 1 an error, or outputs that differ; 2 wrong usage; 130 interrupted.
SEEDLM_DEBUG=1 shows where in the program an error came from.
What took long and can be used again is kept in a cache: .cache of a checkout, else the user's cache
directory; SEEDLM_CACHE names another place.
"""

INTERRUPT_AGAIN = 5.0  # seconds


class _Parser(argparse.ArgumentParser):
    """Argument errors in one line, in the form of all others; help and version on standard output."""

    def error(self, message: str) -> None:
        complain(f"{message} (see {self.prog} --help)")
        sys.exit(2)

    def _print_message(self, message: str, file: TextIO | None = None) -> None:
        # argparse's own goes on in silence if it cannot be written
        if message:
            put(message, end="")


def parser() -> argparse.ArgumentParser:
    """The command's argument parser."""
    top = _Parser(
        prog="seedlm",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"seedlm {__version__}")
    verbs = top.add_subparsers(title="verbs", metavar="VERB", dest="verb", required=True)
    for module in _VERBS:
        verb = verbs.add_parser(
            module.NAME,
            help=module.SUMMARY,
            description=module.DESCRIPTION,
            epilog=module.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(verb)
        verb.add_argument("--json", action="store_true", help="report one JSON object on standard output, nothing else")
        verb.add_argument("--quiet", action="store_true", help="no progress and no report; errors only")
        verb.set_defaults(run=module.run)
    return top


def _describe(error: BaseException) -> str:
    """What went wrong in one line."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror
    if isinstance(error, MemoryError):
        return "not enough memory"
    if isinstance(error, (SeedLMError, OSError)):
        return str(error)
    return f"unexpected {type(error).__name__}: {error}; SEEDLM_DEBUG=1 shows where"


def _terminate(signum: int, frame: object) -> None:
    # as an exception, so that temporary files are removed on the way out
    sys.exit(128 + signum)


def _interrupt(signum: int, frame: object) -> None:
    # Compiled code may swallow the exception (one that is raised inside a callback of LLVM, for instance): raise it
    # again until `guarded` has it.
    signal.setitimer(signal.ITIMER_REAL, INTERRUPT_AGAIN)
    raise KeyboardInterrupt


def _catch_signals() -> None:
    signal.signal(signal.SIGTERM, _terminate)
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGALRM, _interrupt)


def guarded(work: Callable[[], int], console: Console) -> int:
    """The exit code of `work`; what goes wrong in it becomes one line and an exit code."""
    _catch_signals()
    debug = os.environ.get("SEEDLM_DEBUG", "") not in ("", "0")
    try:
        return finish_output(work())
    except KeyboardInterrupt:
        warn("interrupted; no output was left half-written")
        return finish_output(130)
    except OutputError as error:
        return output_lost(error.__cause__)
    except Exception as error:
        if debug:
            raise
        return _fail(_describe(error), console)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _fail(message: str, console: Console) -> int:
    complain(message)
    try:
        console.json({"status": "error", "error": message})
    except OutputError as error:
        return output_lost(error.__cause__, 1)
    return finish_output(1)


class _Warnings(logging.Handler):
    """What the libraries warn of, in the form of all other lines."""

    def emit(self, record: logging.LogRecord) -> None:
        warn(record.getMessage())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with `arguments` (default: the process's); return the exit code."""
    open_streams()
    logging.getLogger("seedlm").handlers = [_Warnings()]
    try:
        args = parser().parse_args(arguments)
        console = Console(json_output=args.json, quiet=args.quiet)
        return guarded(lambda: args.run(args, console), console)
    except OutputError as error:
        return output_lost(error.__cause__)
    except SystemExit as stop:  # --help, wrong usage, or SIGTERM
        sys.exit(finish_output(stop.code))
