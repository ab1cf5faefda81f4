"""The ``seedlm`` command: arguments, errors and exit codes; one module per verb does the work.

Exit codes: 0 done; 1 a user's error, or outputs that differ; 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence

from seedlm import (
    __version__,
    bench,
    bench_encoder,
    compress,
    decompress,
    estimate,
    evaluate,
    generate,
    image,
    info,
    project,
    reference,
    registers,
    simulate,
    sweep,
    verilog,
    vivado,
)
from seedlm.console import Console, complain
from seedlm.golden.errors import SeedLMError

__all__ = ["guarded", "main", "parser"]

_VERBS = (
    compress,
    info,
    decompress,
    reference,
    simulate,
    generate,
    evaluate,
    project,
    bench,
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
"""

INTERRUPT_AGAIN = 5.0  # seconds


class _Parser(argparse.ArgumentParser):
    """Argument errors in one line, in the form of all others."""

    def error(self, message: str) -> None:
        complain(f"{message} (see {self.prog} --help)")
        sys.exit(2)


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
    """What went wrong in one line, for an error that a user can cause."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror
    if isinstance(error, MemoryError):
        return "not enough memory"
    return str(error)


def _terminate(signum: int, frame: object) -> None:
    # as an exception, so that temporary files are removed on the way out
    sys.exit(128 + signum)


def _interrupt(signum: int, frame: object) -> None:
    # Compiled code may swallow the exception (one that is raised inside a callback of LLVM, for instance): raise it
    # again until `guarded` has it.
    signal.setitimer(signal.ITIMER_REAL, INTERRUPT_AGAIN)
    raise KeyboardInterrupt


def guarded(work: Callable[[], int], console: Console) -> int:
    """The exit code of `work`; what goes wrong in it becomes one line and an exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGALRM, _interrupt)
    debug = os.environ.get("SEEDLM_DEBUG", "") not in ("", "0")

    def fail(message: str) -> int:
        complain(message)
        console.json({"status": "error", "error": message})
        return 1

    try:
        code = work()
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("seedlm: interrupted; no output was left half-written", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # the reader of our output has gone (`seedlm info FILE | head`): nothing left to say
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (SeedLMError, OSError, MemoryError) as error:
        if debug:
            raise
        return fail(_describe(error))
    except Exception as error:
        if debug:
            raise
        return fail(f"unexpected {type(error).__name__}: {error}; SEEDLM_DEBUG=1 shows where")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with `arguments` (default: the process's); return the exit code."""
    args = parser().parse_args(arguments)
    console = Console(json_output=args.json, quiet=args.quiet)
    return guarded(lambda: args.run(args, console), console)
