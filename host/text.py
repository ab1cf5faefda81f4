"""Text to tokens and back: a tokenizer of the `tokenizers` library, or bytes."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Protocol

from seedlm.golden.errors import SeedLMError
from seedlm.host.models import ModelConfig

__all__ = ["ByteText", "Stream", "Text", "TokenizerText", "open_text"]

TOKENIZER = "tokenizer.json"
BEFORE = 6  # tokens before the first new one that may have a say in its text
UNFINISHED = "\ufffd"  # what a decoder gives for bytes that are not yet a whole character


class Stream(Protocol):
    """Text as its tokens come."""

    def add(self, token: int) -> str:
        """The characters that are complete with this token."""
        ...

    def end(self) -> str:
        """What was left incomplete."""
        ...


class Text(Protocol):
    """How a model writes."""

    def encode(self, text: str) -> list[int]:
        """Tokens of a text, without the one that begins every text."""
        ...

    def stream(self, prompt: list[int]) -> Stream:
        """For what follows the tokens of `prompt`."""
        ...


class ByteText:
    """A token is a byte of UTF-8."""

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def stream(self, prompt: list[int]) -> Stream:
        return _ByteStream()


class _ByteStream:
    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def add(self, token: int) -> str:
        return self._decoder.decode(bytes([token]))

    def end(self) -> str:
        return self._decoder.decode(b"", final=True)


class TokenizerText:
    """A tokenizer.json.

    Raises
    ------
    SeedLMError
        It cannot be read, or it has tokens that the model does not.
    """

    def __init__(self, path: Path, vocab: int):
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise SeedLMError(f"{path}: needs the package tokenizers: pip install 'seedlm[text]'") from error
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises plain Exception
            raise SeedLMError(f"{path}: not a tokenizer: {str(error).splitlines()[0]}") from error
        size = max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        if size > vocab:
            raise SeedLMError(f"{path}: has {size} tokens, the model {vocab}")

    def encode(self, text: str) -> list[int]:
        # Without special tokens: the one at the beginning is the caller's.
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def stream(self, prompt: list[int]) -> Stream:
        return _TokenStream(self._tokenizer, prompt)


class _TokenStream:
    """A token's text depends on the ones before (spaces, characters of several tokens).

    What is new is the difference between the text of the last tokens with and without those that were added since
    something was given out.
    """

    def __init__(self, tokenizer, prompt: list[int]) -> None:
        self._tokenizer = tokenizer
        self._tokens = prompt[-BEFORE:]
        self._first, self._given = 0, len(self._tokens)  # the tokens from _first give the context of those from _given

    def _text(self, stop: int | None = None) -> str:
        return self._tokenizer.decode(self._tokens[self._first : stop], skip_special_tokens=True)

    def add(self, token: int) -> str:
        self._tokens.append(token)
        return "" if self._text().endswith(UNFINISHED) else self.end()

    def end(self) -> str:
        new = self._text()[len(self._text(self._given)) :]
        if new:
            self._first, self._given = self._given, len(self._tokens)
        return new


def open_text(folder: Path, config: ModelConfig) -> Text:
    """How the model in `folder` writes: its tokenizer.json; bytes where it has none and 256 tokens.

    Raises
    ------
    SeedLMError
        Neither, or a tokenizer that does not fit.
    """
    path = Path(folder) / TOKENIZER
    if path.exists():
        return TokenizerText(path, config.vocab)
    if config.vocab == 256:
        return ByteText()
    raise SeedLMError(f"{folder}: no {TOKENIZER}: only models of 256 tokens work without (their tokens are bytes)")
