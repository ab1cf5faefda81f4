"""Layers that the formats' own libraries have quantised, against what these libraries say the weights are.

`tests/host/imports/libraries.py` makes the stored ones and says what it needs.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from seedlm.golden.files.sources import open_packed_source
from seedlm.golden.files.tensors import TensorFile, write_tensors
from seedlm.host.importing import write_quantised
from seedlm.host.imports import open_quantised

STORED = sorted((Path(__file__).parent / "stored").glob("*.safetensors"))
EXPECTED = "expected"


def test_all_forms_are_stored():
    assert {path.stem.split("-")[0] for path in STORED} == {"awq", "gptq", "compressed"}


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_every_weight(tmp_path, path):
    """Equal, not close; the numbers, not the products that the libraries round to FP16 afterwards."""
    stored = TensorFile(path)
    folder = tmp_path / "m"
    folder.mkdir()
    said = {"quantization_config": json.loads(stored.metadata["quantization_config"])}
    (folder / "config.json").write_text(json.dumps(said))
    write_tensors(folder / "model.safetensors", {n: t for n, t in stored.tensors.items() if n != EXPECTED})
    model = open_quantised(folder)
    assert model.remarks == ()
    write_quantised(model, tmp_path / "out")
    found = open_packed_source(tmp_path / "out").matrix("model.layer.weight").decode(np.float64)
    expected = stored.array(EXPECTED)
    assert np.any(expected)
    assert np.array_equal(found, expected)
