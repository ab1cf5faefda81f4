"""The pages' tables are what the measurements and the project say."""

import json

import pytest

from seedlm.build import baselines, pages
from seedlm.golden.errors import SeedLMError
from seedlm.sim.report import markdown


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
    for model in ("smollm2-135m", "tiny-python"):
        quality = json.loads((pages.ROOT / "docs" / "quality" / f"{model}.json").read_text(encoding="utf-8"))
        assert len(quality["texts"]) == 2
        assert all(text["tokens"] >= 8192 for text in quality["texts"])
        shown = [len(pages.BLOCKS["docs/quality.md"][f"{model}, {kind}"]()) for kind in ("data-free", "calibrated")]
        assert sum(shown) == 2 * 2 + len(quality["rows"])
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


def prose(name):
    """A page as one line, for sentences that are broken somewhere."""
    return " ".join((pages.ROOT / name).read_text(encoding="utf-8").split())


@pytest.fixture(scope="module")
def report():
    return json.loads((pages.ROOT / "docs" / "benchmarks" / "bench.json").read_text(encoding="utf-8"))


def lacks(name, *phrases):
    """Those of the phrases that the page does not have."""
    text = prose(name)
    return [phrase for phrase in phrases if phrase not in text]


def test_figures_in_sentences(report):
    rows = {(f"{r['rows']}x{r['cols']}", r["memory"], r["codec"]): r for r in report["rows"]}

    def lost(shape, codec="seedlm4"):
        row = rows[shape, "ideal", codec]
        return row["cycles"] - row["data_beats"]

    small = [lost(shape) for shape in ("192x192", "512x192", "192x512")]
    alone = rows["192x192", "ideal", "seedlm4"]
    together = next(r for r in report["queued"] if (r["memory"], r["codec"]) == ("ideal", "seedlm4"))
    loses = f"lose {together['cycles'] - together['data_beats']} cycles together"
    assert not lacks(
        "docs/benchmarks.md",
        f"{min(small)} to {max(small)} cycles for the small shapes, {lost('4096x4096')} for 4096x4096",
        f"{lost('8192x8192')} for 8192x8192 and {lost('28672x8192')} for 28672x8192",
        f"{lost('28672x8192', 'seedlm4r')} cycles for `seedlm4r`, 28672x8192",
        f"4096x4096 takes {rows['4096x4096', 'ddr3', 'seedlm4']['cycles']:,} cycles there",
        f"has {100 * alone['efficiency']:.0f} % efficiency and a speed-up of {alone['speedup_vs_fp16']:.2f}",
        f"{together['products']} 512x192 products {loses}".replace("10 ", "ten ", 1),
        f"together and reach {100 * together['efficiency']:.1f} %",
        *(f"| {value:,} |" for value in report["simulation_speed"]["cycles_per_second"].values()),
        f"Measured on {report['date']} on {report['machine']}",
    )
    assert not lacks("README.md", f"`seedlm bench`, {report['date']}, {report['machine']}")


def test_figures_beside_others(report):
    """The table that holds the projection against the benchmark."""
    cycles = {(r["rows"], r["cols"], r["codec"]): r["cycles"] for r in report["rows"] if r["memory"] == "ddr3"}
    compared = [(4096, 4096, "fp16"), (4096, 4096, "seedlm4"), (4096, 11008, "fp16"), (8192, 8192, "fp16"),
                (8192, 28672, "fp16")]  # fmt: skip
    models = {4096: "", 8192: " (Llama-3-70B)"}
    rows = [f"| {r} x {c}{models[r]} | `{codec}` | {cycles[r, c, codec]:,} |" for r, c, codec in compared]
    assert not lacks("docs/projection.md", *rows)


def test_figures_of_the_estimate():
    """What the pages say about areas is what the tests hold the hardware to."""
    figures = baselines.load()["figures"]
    text = prose("docs/vivado.md")
    names = {"luts": "LUTs", "ffs": "flip-flops", "dsps": "DSP48E1", "ramb36": "RAMB36", "levels": "longest path, LUTs",
             "chains": "carry chains one after the other", "carry_bits": "longest carry chain, bits"}  # fmt: skip
    for key, name in names.items():
        values = [figures[f"all:{codec}"][key] for codec in ("trellis4", "seedlm4", "seedlm4r")]
        row = " | ".join(f"{int(value):,}" if value == int(value) else f"{value}" for value in values)
        assert f"| {name} | {row} |" in text
    assert f"A `seedlm4` lane has {figures['lane:seedlm4']['luts']} of the LUTs" in text
    luts = {name: figures[f"lane:{name}"]["luts"] for name in ("seedlm4r", "trellis4")}
    assert f"a `seedlm4r` lane {luts['seedlm4r']}, a `trellis4` lane {luts['trellis4']}." in text
    page = prose("docs/trellis.md")
    for name in ("trellis6", "trellis5", "trellis4", "trellis3", "trellis2", "seedlm4", "seedlm4r", "seedlm3r"):
        assert f" {figures[f'lane:{name}']['luts']:,} |" in page, name
    whole = figures["all:trellis4"]
    sentence = f"16 lanes of `trellis4`: {whole['luts']:,} LUTs, {whole['dsps']} DSP48E1, {whole['levels']} LUT levels"
    assert sentence in prose("README.md")
