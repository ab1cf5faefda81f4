"""Text to tokens and back: a tokenizer of the `tokenizers` library, or bytes."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.sources import Source
from seedlm.host.models import ModelConfig

__all__ = ["ByteText", "Stream", "Text", "TokenizerText", "open_text"]

TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
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
    """How a model writes.

    Attributes
    ----------
    begin : list of int
        What begins every text; often one token or none.
    """

    begin: list[int]

    def encode(self, text: str) -> list[int]:
        """Tokens of a text, without those that begin every text."""
        ...

    def token(self, name: Any) -> int | None:
        """The number of a token as tokenizer_config.json names it: its text, or an object that has it as content."""
        ...

    def stream(self, prompt: list[int]) -> Stream:
        """For what follows the tokens of `prompt`."""
        ...


class ByteText:
    """A token is a byte of UTF-8; `bos` begins every text."""

    def __init__(self, bos: int | None = None) -> None:
        self.begin = [] if bos is None else [bos]

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def token(self, name: Any) -> int | None:
        return None

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

    Parameters
    ----------
    content : bytes
    where : str
        Begins the messages.
    vocab : int
        The model's tokens. Further ones that were added (for padding, say) are no obstacle until a text has one.
    said : mapping
        The content of tokenizer_config.json, if there is one: whether texts begin with a token of their own. Where it
        does not say, the tokenizer itself does.
    bos : int or None
        The token that begins texts by the model's configuration.

    Raises
    ------
    SeedLMError
        It cannot be read, or it has tokens that the model does not.
    """

    def __init__(self, content: bytes, where: str, vocab: int, said: Mapping[str, Any], bos: int | None = None):
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise SeedLMError(f"{where}: needs the package tokenizers: pip install 'seedlm[text]'") from error
        try:
            self._tokenizer = Tokenizer.from_str(content.decode())
        except Exception as error:  # the library raises plain Exception
            raise SeedLMError(f"{where}: not a tokenizer: {str(error).splitlines()[0]}") from error
        self._where, self._vocab = where, vocab
        size = max(self._tokenizer.get_vocab(with_added_tokens=False).values(), default=-1) + 1
        if size > vocab:
            raise SeedLMError(f"{where}: has {size} tokens, the model {vocab}")
        self.begin = self._begin(said, bos)

    def _begin(self, said: Mapping[str, Any], bos: int | None) -> list[int]:
        adds = said.get("add_bos_token")
        if adds is False:
            return []
        given = self.token(said.get("bos_token"))
        bos = bos if given is None else given
        if adds is True and bos is not None:
            return [bos]
        # what the tokenizer puts before a text that has itself a token at least
        plain, whole = (self._tokenizer.encode("a", add_special_tokens=more).ids for more in (False, True))
        before = (i for i in range(len(whole)) if plain and whole[i : i + len(plain)] == plain)
        return [token for token in whole[: next(before, 0)] if token < self._vocab]

    def token(self, name: Any) -> int | None:
        name = name.get("content") if isinstance(name, Mapping) else name
        number = self._tokenizer.token_to_id(name) if isinstance(name, str) else None
        return number if number is not None and number < self._vocab else None

    def encode(self, text: str) -> list[int]:
        # Without special tokens: those at the beginning are the caller's.
        tokens = self._tokenizer.encode(text, add_special_tokens=False).ids
        if tokens and max(tokens) >= self._vocab:
            raise SeedLMError(f"{self._where}: the text has {self._tokenizer.id_to_token(max(tokens))!r}, token"
                              f" {max(tokens)}: the model has {self._vocab}")  # fmt: skip
        return tokens

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


def open_text(model: Source | Path, config: ModelConfig) -> Text:
    """How a model writes: its tokenizer.json; bytes where it has none and 256 tokens.

    Parameters
    ----------
    model : Source or Path
        The opened model, or its folder.
    config : ModelConfig

    Raises
    ------
    SeedLMError
        Neither, or a tokenizer that does not fit.
    """
    source = Source(model, {}) if isinstance(model, Path) else model
    content = source.read(TOKENIZER)
    if content is not None:
        said = source.json(TOKENIZER_CONFIG) or {}
        return TokenizerText(content, str(source.place(TOKENIZER)), config.vocab, said, config.bos)
    if config.vocab == 256:
        return ByteText(config.bos)
    raise SeedLMError(f"{source.path}: no {TOKENIZER}: only models of 256 tokens work without (their tokens are bytes)")
