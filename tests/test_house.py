"""The rules of the house: what may import what, sizes of functions, tests and docstrings that have to be there, words.

Each rule has a set of exceptions. It only ever shrinks: a test fails for a new exception, and for one that is no longer
needed.
"""

import ast
import functools
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("seedlm", "build", "sim", "host", "encoder", "hdl", "golden")

# What each folder may import of the project besides itself: a folder, or one module of it. Verbs stand on top, the
# reference at the bottom. The host needs the register table but none of the hardware's tools.
MAY_IMPORT = {
    "seedlm": {"build", "sim", "host", "encoder", "hdl", "golden"},
    "sim": {"build", "host", "hdl", "golden"},
    "build": {"hdl", "golden", "host.regions"},
    "host": {"hdl.registers", "golden"},
    "encoder": {"golden"},
    "hdl": {"golden"},
    "golden": set(),
}
# Other people's packages, where few are allowed; the standard library always is.
PACKAGES = {"golden": {"numpy", "safetensors"}, "hdl": {"amaranth"}}
MISPLACED_IMPORTS: set[str] = set()

LONGEST_FUNCTION = 59
TABLES = {"hdl/registers.py _table"}  # a list of entries, one below the other
LONG_FUNCTIONS = {
    "encoder/cluster.py encode_on_dask",
    "encoder/seed/kernels.py search",
    "tests/hdl/test_control.py counting",
    "tests/hdl/test_sequencer.py Environment.run",
}

# Modules of hdl/ with a component, tested with the one it belongs to.
TESTED_ELSEWHERE = {
    "hdl/decoder_bank.py": "test_several",
    "hdl/lane.py": "test_mac",
    "hdl/lfsr_bank.py": "test_reconstruction",
    "hdl/write_master.py": "test_writer",
}

WITHOUT_DOCSTRING = set()
PORTS_NOT_LISTED = set()
POSITIONAL_CONSTRUCTORS = set()

# Words that the field has better ones for.
WORDS = {
    r"\blamps?\b": "LED",
    r"\bin the mean\b": "on average",
    r"\bmakes? no sense\b": "invalid",
    r"\bjudg(?:e|es|ed|ing)\b": "check, compare, decide",
    r"\bstrangers?\b": "others",
    r"\bwhat was to be reached\b": "targets",
}
SUFFIXES = {".py", ".md", ".sv", ".v", ".cpp", ".h", ".tcl", ".in", ".toml", ".txt"}
OLD_WORDS: set[str] = set()


def sources(*folders):
    """All Python files below the folders, with their path from the root."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if not any(parent.is_symlink() for parent in path.parents):  # seedlm/golden -> ../golden and so on
                yield path.relative_to(ROOT).as_posix(), path


@functools.cache
def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def compare(found, allowed, what):
    """Exactly the exceptions that are listed."""
    new, old = sorted(set(found) - set(allowed)), sorted(set(allowed) - set(found))
    assert not new, f"{what}: {', '.join(new)}"
    assert not old, f"no longer needed in the list of exceptions: {', '.join(old)}"


def imports(path):
    """(name, how many dots) of everything that a file imports; ``from seedlm import x`` gives ``seedlm.x``."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            whole = node.module in ("seedlm", *(f"seedlm.{folder}" for folder in FOLDERS))
            names = [f"{node.module}.{alias.name}" for alias in node.names] if whole else [node.module or ""]
            yield from ((name, node.level) for name in names)


def home(name):
    """(folder, the name below seedlm) of a module of the project: ``seedlm.hdl.axi`` is in hdl as ``hdl.axi``."""
    below = name.removeprefix("seedlm").removeprefix(".")
    folder = below.partition(".")[0]
    return (folder if folder in FOLDERS else "seedlm"), below


def test_import_directions():
    found = set()
    for folder in FOLDERS:
        for name, path in sources(folder):
            for module, _ in imports(path):
                if module.partition(".")[0] != "seedlm":
                    continue
                target, below = home(module)
                if target != folder and not any(f"{below}.".startswith(f"{m}.") for m in MAY_IMPORT[folder]):
                    found.add(f"{name} {module}")
    compare(found, MISPLACED_IMPORTS, "imports against the directions of MAY_IMPORT")


@pytest.mark.parametrize("folder", PACKAGES)
def test_packages(folder):
    """The reference and the hardware need few packages, so that they run, and can be understood, alone."""
    allowed = sys.stdlib_module_names | PACKAGES[folder] | {"seedlm"}
    found = {
        f"{name} {module}"
        for name, path in sources(folder)
        for module, _ in imports(path)
        if module.partition(".")[0] not in allowed
    }
    compare(found, set(), f"{folder} imports more than {', '.join(sorted(PACKAGES[folder]))}")


def test_one_import_name():
    """No relative imports, and none by the bare name of a folder, which is another's in an installed wheel."""
    found = set()
    for name, path in sources(*FOLDERS, "models", "tests"):
        for module, dots in imports(path):
            if dots or module.partition(".")[0] in set(FOLDERS) - {"seedlm"}:
                found.add(f"{name} {'.' * dots}{module}")
    compare(found, set(), "imports that are relative or without seedlm")


def functions(tree, prefix=""):
    """(qualified name, node) of all functions that stand in modules, classes and other functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + node.name, node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from functions(node, f"{prefix}{node.name}.")
        elif not isinstance(node, ast.expr):
            yield from functions(node, prefix)


def test_short_functions():
    found = {
        f"{name} {function}"
        for name, path in sources(*FOLDERS, "models", "tests")
        for function, node in functions(parse(path))
        if node.end_lineno - node.lineno + 1 > LONGEST_FUNCTION
    }
    compare(found, LONG_FUNCTIONS | TABLES, f"functions of more than {LONGEST_FUNCTION} lines")


def components():
    """(file, path, class) of all components in hdl/: classes with `elaborate`."""
    for name, path in sources("hdl"):
        for node in parse(path).body:
            if isinstance(node, ast.ClassDef) and "elaborate" in {n.name for n in node.body if hasattr(n, "name")}:
                yield name, path, node


def test_every_component_has_a_test():
    found = set()
    for name, path, _ in components():
        # The entries of a registry are all tested alike: hdl/decoders/*.py by test_decoders.
        tested = path.stem if path.parent.name == "hdl" else path.parent.name
        if not (ROOT / "tests" / "hdl" / f"test_{tested}.py").exists():
            found.add(name)
    assert all((ROOT / "tests" / "hdl" / f"{test}.py").exists() for test in TESTED_ELSEWHERE.values())
    compare(found, TESTED_ELSEWHERE, "components without a file tests/hdl/test_<name>.py")


def test_docstrings():
    """Every module, and every class and function that a module offers."""
    found = set()
    for name, path in sources(*FOLDERS):
        tree = parse(path)
        if not ast.get_docstring(tree):
            found.add(name)
        offered = {
            ast.literal_eval(constant)
            for node in tree.body
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "__all__"
            for constant in getattr(node.value, "elts", [])
        }
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not ast.get_docstring(node):
                found |= {f"{name} {node.name}"} if node.name in offered else set()
    compare(found, WITHOUT_DOCSTRING, "without a docstring")


def test_ports_are_members():
    """A component's docstring lists its ports under "Members"; "Attributes" are those of the Python object."""
    found = {
        f"{name} {node.name}"
        for name, _, node in components()
        if "wiring.Component" in map(ast.unparse, node.bases)  # others have the ports of the class they come from
        and not re.search(r"^Members\n-------$", ast.get_docstring(node) or "", re.MULTILINE)
    }
    compare(found, PORTS_NOT_LISTED, "components whose ports are not listed as Members")


def test_constructors_take_keywords():
    found = {
        f"{name} {node.name}"
        for name, _, node in components()
        for function in node.body
        if getattr(function, "name", None) == "__init__" and len(function.args.args) > 1
    }
    compare(found, POSITIONAL_CONSTRUCTORS, "components whose constructor takes positional arguments")


def texts():
    """(path from the root, text) of everything that people read."""
    for folder in (*FOLDERS, "docs", "models", "constraints", "tests", "tools"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in SUFFIXES and not any(parent.is_symlink() for parent in path.parents):
                if path != Path(__file__).resolve() and path.name != "heldout.txt":  # its words are a corpus
                    yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
    for name in ("README.md", "Makefile", "pyproject.toml"):
        yield name, (ROOT / name).read_text(encoding="utf-8")


def test_words():
    found = set()
    for name, text in texts():
        for pattern in WORDS:
            for match in re.finditer(pattern, text, re.IGNORECASE):
                found.add(f"{name} {match[0].lower()}")
    better = "; ".join(f"{pattern} -> {word}" for pattern, word in WORDS.items())
    compare(found, OLD_WORDS, f"old words ({better})")


def test_links():
    """Every link from one of our pages to a file leads to one."""
    found = set()
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if "://" not in target and not (page.parent / target).exists():
                found.add(f"{page.relative_to(ROOT)} {target}")
    compare(found, set(), "links that lead nowhere")


def stands_for_something(name):
    """Whether ``hdl.mac.Lane`` is a folder, a module, or a word that stands in that module."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        base = ROOT.joinpath(*parts[:count])
        module = next((file for file in (base.with_suffix(".py"), base / "__init__.py") if file.is_file()), None)
        if module is not None and count < len(parts):
            return re.search(rf"\b{parts[count]}\b", module.read_text(encoding="utf-8")) is not None
        if module is not None or base.is_dir():
            return count == len(parts)
    return False


def test_references():
    """What our prose names in backticks, `hdl.axi` or `sim/ddr3.sv`, is there."""
    found = set()
    folders = "|".join((*FOLDERS, "tests", "docs", "models", "constraints"))
    for name, text in texts():
        for reference in re.findall(rf"`((?:{folders})\.[a-z_]+(?:\.\w+)*)`", text):
            if not reference.endswith((".log", ".json")) and not stands_for_something(reference):
                found.add(f"{name} {reference}")
        if name != "docs/extending.md":  # has a test of its own
            paths = re.findall(rf"`((?:{folders})/[\w./-]*)`", text)
            found |= {f"{name} {path}" for path in paths if not (ROOT / path).exists()}
    compare(found, set(), "references to nothing")
