"""docs/extending.md says what is so: its files exist, and no other file names what they add."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from seedlm.golden.codecs import CODECS, FAMILIES
from seedlm.golden.registry import modules

TOP = Path(__file__).resolve().parents[1]
PAGE = (TOP / "docs" / "extending.md").read_text()
SOURCES = ("golden", "encoder", "hdl", "sim", "build", "host", "seedlm")
# Entries of a registry, by the package that holds them and the name that each module has.
REGISTRIES = {
    "golden.codecs": "FAMILY", "encoder.families": "ENCODER", "hdl.decoders": "DECODER", "sim.memories": "MEMORY",
    "build.boards": "BOARD", "host.models": "ARCHITECTURE",
    "host.gguf.architectures": "GGUF", "host.formats": "FORMAT", "host.imports": "FORM",
}  # fmt: skip


def sources() -> list[Path]:
    return [p for folder in SOURCES for p in sorted((TOP / folder).rglob("*.py")) if not p.parent.is_symlink()]


def section(title: str) -> str:
    """The text under a heading."""
    return next(part for part in re.split(r"^## ", PAGE, flags=re.M) if part.startswith(title + "\n"))


def named(text: str) -> set[str]:
    """The project's files that a text names; NAME stands for whatever is added."""
    folders = "|".join((*SOURCES, "tests"))
    return {file for file in re.findall(rf"`((?:{folders})/[\w/]+\.\w+)`", text) if "NAME" not in file}


def test_every_file_on_the_page_is_there():
    assert len(named(PAGE)) >= 10
    assert [f for f in sorted(named(PAGE)) if not (TOP / f).is_file()] == []


def test_a_family_is_four_files_and_nothing_else_names_it():
    table = {f for f in named(section("Add a codec")) if f.endswith("/integer.py")}
    assert len(table) == 4
    mentions = re.compile(r"(?<![.\w])int8\b|IntegerCodec|\"integer\"|\.integer\b")
    for path in sources():
        file = path.relative_to(TOP).as_posix()
        if file not in table:
            lines = [line for line in path.read_text().splitlines() if mentions.search(line)]
            # U8: dtypes by name; =int8: examples of options.
            assert [line for line in lines if not re.search("U8|=int8", line)] == [], file


def test_an_architecture_is_one_file_and_nothing_else_names_it():
    """But for the one that says how GGUF files write it."""
    files = {f for f in named(section("Add a model architecture")) if f.startswith("host/models/") and "/_" not in f}
    assert "host/models/qwen3.py" in files  # the worked example
    naming = [p.relative_to(TOP).as_posix() for p in sources() if re.search(r"Qwen3|qwen3", p.read_text())]
    assert naming == ["host/gguf/architectures/qwen3.py", "host/models/qwen3.py"]


@pytest.mark.parametrize("package", REGISTRIES)
def test_every_entry_is_found_by_itself(package):
    folder = TOP / package.replace(".", "/")
    files = {p.stem for p in folder.glob("*.py") if not p.stem.startswith("_")}
    found = modules(f"seedlm.{package}")
    assert {m.__name__.rsplit(".", 1)[-1] for m in found} == files
    assert all(hasattr(module, REGISTRIES[package]) for module in found)


def test_every_family_has_its_four_files():
    for name in FAMILIES:
        for folder in ("golden/codecs", "encoder/families", "hdl/decoders", "tests/families"):
            assert (TOP / folder / f"{name}.py").is_file(), f"{folder}/{name}.py"


def test_numbers_of_families_differ():
    numbers = [family.family_number for family in FAMILIES.values()]
    assert len(set(numbers)) == len(numbers)
    assert all(0 <= n < 16 for n in numbers)
    assert all(CODECS[name].name == name for name in CODECS)


def test_a_form_of_quantised_model_is_one_file_and_nothing_else_names_it():
    """But for what is told to people: the help, and which tensors show that a model is quantised."""
    files = {f for f in named(section("Add a form of quantised model")) if "/_" not in f and f.startswith("host/")}
    assert "host/imports/awq.py" in files  # the worked example
    naming = [p.relative_to(TOP).as_posix() for p in sources() if re.search(r"AWQ|awq", p.read_text())]
    told = {"golden/files/quantised.py", "seedlm/import_.py"}
    assert sorted(set(naming) - told) == ["host/imports/awq.py"]
