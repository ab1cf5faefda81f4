"""What is shown: the bar of cycles by cause, and text from files."""

from __future__ import annotations

import itertools
import json

import pytest

from seedlm.console import Console, clean, complain, stacked_bar
from seedlm.hdl.registers import CATEGORIES
from seedlm.simulate import KEYS, print_report


@pytest.mark.parametrize(
    ("parts", "bar"),
    [
        ({"#": 5, "m": 5}, "#####mmmmm"),
        ({"#": 1000, "m": 1, "a": 0, "d": 1}, "########md"),
        ({"#": 1, "m": 1, "a": 1}, "####mmmaaa"),
        ({"#": 7}, "##########"),
        ({"#": 0}, "          "),
        ({}, "          "),
    ],
)
def test_bar(parts, bar):
    assert sorted(stacked_bar(parts, 10)) == sorted(bar)
    assert len(stacked_bar(parts, 10)) == 10


def test_every_part_shows_and_keeps_its_place():
    for counts in itertools.product((0, 1, 3, 10, 1000), repeat=4):
        parts = dict(zip("abcd", counts, strict=True))
        bar = stacked_bar(parts, 16)
        assert len(bar) == 16
        assert list(bar) == sorted(bar)
        if any(counts):
            assert set(bar) == {key for key, n in parts.items() if n}
    with pytest.raises(ValueError, match="do not fit"):
        stacked_bar({"a": 1, "b": 1}, 1)


def test_all_causes_have_a_letter(capsys):
    assert set(KEYS) == set(CATEGORIES)
    assert len(set(KEYS.values())) == len(KEYS)
    report = {
        "rows": 8, "cols": 8, "codec": "seedlm4", "memory": "ideal", "cycles": 100, "data_beats": 50, "bytes": 3200,
        "beats": {"weight": 50}, "microseconds": 0.5, "clock_mhz": 200, "efficiency": 0.5, "simulated_cycles": 200,
        "stalls": {name: 10 for name in CATEGORIES if name != "streaming"}, "seconds": 1.0, "cycles_per_second": 200,
        "status": "ok", "outputs_equal": 8, "outputs_total": 8,
    }  # fmt: skip
    print_report("w", report, Console())
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split()[:3] == ["#", "50", "streaming"] for line in lines)
    assert any(line.split()[:5] == ["w", "10", "stalled:", "writing", "10.0%"] for line in lines)
    (bar,) = (line.strip() for line in lines if "[" in line)
    assert (bar.count("#"), bar.count("m"), len(bar)) == (34, 6, 66)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("model.layers.0", "model.layers.0"),
        ("größe 层 é", "größe 层 é"),
        ("a\x1b[31mb\x07", r"a\x1b[31mb\x07"),
        ("a\rb\x7fc\x9bd", r"a\rb\x7fc\x9bd"),
        ("a\u202eb\u2066c\u2028d", r"a\u202eb\u2066c\u2028d"),
        ("a\nb\tc", r"a\nb\tc"),
        ("caf\udce9", r"caf\udce9"),  # a byte of a path that is not UTF-8
    ],
)
def test_text_of_files_does_not_steer_the_terminal(text, shown, capsys):
    """In a table, which has a line for each row, in a line of the report, in errors and warnings."""
    console = Console()
    assert clean(text) == shown
    console.table(("<name", "n"), [(text, "1")])
    assert capsys.readouterr().out.splitlines()[1] == f"{shown}  1"
    console.print(text)
    assert capsys.readouterr().out == clean(text, "\n\t") + "\n"
    console.write(text)
    assert capsys.readouterr().out == clean(text, "\n\t")
    for say in (complain, console.warn):
        say(text)
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert all(c.isprintable() for c in err[:-1])
    console = Console(json_output=True)
    console.json({"name": text})
    assert "\x1b" not in (out := capsys.readouterr().out)
    assert json.loads(out) == {"name": text}
