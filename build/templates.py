"""Templates for constraints (``constraints/*.in``) and Tcl text."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["CONSTRAINTS", "SCRIPTS", "fill", "tcl_settings", "tcl_word"]

TOP = Path(__file__).resolve().parent.parent  # the checkout, or the package where it is installed
CONSTRAINTS = TOP / "constraints"
SCRIPTS = TOP / "build" / "tcl"


def fill(name: str, **values: object) -> str:
    """The template `name` of ``constraints/`` with every ``${...}`` replaced; KeyError if a value is missing."""
    text = string.Template((CONSTRAINTS / name).read_text(encoding="utf-8"))
    unused = set(values) - set(text.get_identifiers())
    if unused:
        raise KeyError(f"template {name} has no place for {', '.join(sorted(unused))}")
    return text.substitute({key: str(value) for key, value in values.items()})


def tcl_word(value: object) -> str:
    """`value` as one word of Tcl: a list for sequences and mappings, the text itself for all else."""
    if isinstance(value, Mapping):
        value = [item for pair in value.items() for item in pair]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "{" + " ".join(tcl_word(item) for item in value) + "}"
    text = str(value)
    if text and all(c.isalnum() or c in "_./:%+-" for c in text):
        return text
    if any(c in "{}\\" for c in text):
        raise ValueError(f"text that Tcl would have to escape: {text!r}")
    return "{" + text + "}"


def tcl_settings(values: Mapping[str, object]) -> str:
    """A Tcl script that sets one variable for each of `values`."""
    lines = ["# What the scripts beside this file are to do. Generated."]
    lines += [f"set {name} {tcl_word(value)}" for name, value in values.items()]
    return "\n".join(lines) + "\n"
