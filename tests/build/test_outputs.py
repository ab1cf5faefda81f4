"""Files that are written only if they change."""

import os

import pytest

from seedlm.build import outputs
from seedlm.build.outputs import write_if_changed


@pytest.mark.parametrize("chunk", [3, 4, 1 << 20])
def test_written_if_changed(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(outputs, "CHUNK", chunk)
    path = tmp_path / "file"
    for data in (b"12345678", b"", b"1234", b"123456789", b"123456780", b"\xc3\xa4"):
        assert write_if_changed(path, data)
        os.utime(path, (1, 1))
        assert not write_if_changed(path, memoryview(data))
        assert path.stat().st_mtime == 1
        assert path.read_bytes() == data
    assert not write_if_changed(path, "ä")
