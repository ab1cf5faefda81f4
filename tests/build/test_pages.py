"""The pages' tables are what the measurements and the project say."""

import json

import pytest

from seedlm.bench_report import markdown
from seedlm.build import pages
from seedlm.golden.errors import SeedLMError


@pytest.mark.parametrize("name", pages.BLOCKS)
def test_page_is_up_to_date(name):
    text = (pages.ROOT / name).read_text(encoding="utf-8")
    assert text == pages.page(name), f"{name}: run python -m seedlm.build.pages"
    starts = text.count("<!-- made by seedlm.build.pages: ")
    assert starts == text.count(pages.END) == len(pages.BLOCKS[name]), f"{name} has a block that nothing makes"


def test_page_of_all_rows():
    """The page that `seedlm bench` writes beside its data."""
    folder = pages.ROOT / "docs" / "benchmarks"
    report = json.loads((folder / "bench.json").read_text(encoding="utf-8"))
    assert (folder / "bench.md").read_text(encoding="utf-8") == markdown(report), "run seedlm bench"


def test_every_measured_figure_is_shown():
    """A row that is in the data but not in a table would be missed by nobody."""
    quality = json.loads((pages.ROOT / "docs" / "quality" / "quality.json").read_text(encoding="utf-8"))
    assert len(pages.BLOCKS["docs/quality.md"]["quality"]()) == 2 + len(quality["rows"])
    rows = [line.split(" | ") for line in pages.BLOCKS["docs/formats.md"]["codecs"]()[2:]]
    assert [row[0].removeprefix("| ").strip("`") for row in rows] == list(pages.CODECS)


@pytest.fixture
def small(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    blocks = {"a.md": {"one": lambda: pages.table(["<what", "n"], [["x", "1"]]), "two": lambda: ["second"]}}
    monkeypatch.setattr(pages, "BLOCKS", blocks)
    return tmp_path / "a.md"


def block(name, text):
    return f"<!-- made by seedlm.build.pages: {name} -->\n{text}<!-- end -->\n"


def test_writing(small, capsys):
    """Old contents, none at all, and everything around the blocks."""
    small.write_text("before\n\n" + block("one", "old | table\n\nof\n") + "between\n" + block("two", "") + "after\n")
    pages.main()
    made = block("one", "| what | n |\n|---|---:|\n| x | 1 |\n")
    whole = "before\n\n" + made + "between\n" + block("two", "second\n") + "after\n"
    assert small.read_text() == whole
    pages.main()
    assert small.read_text() == whole
    assert capsys.readouterr().out == "a.md: written\na.md: unchanged\n"


def test_missing_markers(small):
    with pytest.raises(SeedLMError, match=r"a\.md: not there"):
        pages.page("a.md")
    small.write_text(block("one", ""))
    with pytest.raises(SeedLMError, match="0 places for the table 'two'"):
        pages.page("a.md")
    small.write_text(block("one", "") * 2 + block("two", ""))
    with pytest.raises(SeedLMError, match="2 places for the table 'one'"):
        pages.page("a.md")
