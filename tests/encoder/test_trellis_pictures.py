"""The pictures of docs/trellis.md: what they show is measured, and drawing works."""

import pytest

from seedlm.encoder.trellis.pictures import draw_error, draw_window, errors
from seedlm.golden.codecs import CODECS


@pytest.fixture(scope="module")
def points():
    return errors(rows=1, cols=256)


def test_codecs_are_measured(points):
    found = {name: (bits, error) for name, _, bits, error in points}
    assert {CODECS[name].family for name in set(CODECS) - set(found)} == {"float16", "grouped"}
    for name, (bits, error) in found.items():
        assert 0.9 * 2.0**-bits < error < 2.6 * 2.0**-bits, name
    assert found["trellis4"][1] < found["seedlm4r"][1] < found["seedlm4"][1] < found["seedlm4, paper's encoder"][1]


def test_they_are_drawn(points):
    pytest.importorskip("matplotlib")
    (axes,) = draw_error(points).axes
    assert {text.get_text() for text in axes.texts} == {name for name, _, _, _ in points}
    row, trellis = draw_window().axes
    assert sum(text.get_text() in ("0", "1") for text in row.texts) == 9
    assert "110" in [text.get_text() for text in trellis.texts]
