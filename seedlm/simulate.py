"""``seedlm sim``: one product on the RTL, compared with the reference bit for bit."""

from __future__ import annotations

import argparse
from pathlib import Path

from golden.errors import SeedLMError
from seedlm.arguments import scale_argument
from seedlm.console import Console

NAME = "sim"
SUMMARY = "multiply on the simulated accelerator and compare with the reference"
DESCRIPTION = "to come"
EXAMPLES = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="packed file")
    parser.add_argument("--tensor", metavar="NAME", required=True, help="compressed tensor (see seedlm info)")
    parser.add_argument("--x", metavar="X.npy", type=Path)
    parser.add_argument("--scale", metavar="S", type=scale_argument)


def run(args: argparse.Namespace, console: Console) -> int:
    raise SeedLMError("the simulation is not there yet")
