"""Chat templates: how a model that was trained on conversations wants a message to be written.

A template comes with the model and is run in a sandbox, which has none of the program's objects.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from typing import Any, NoReturn

from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.sources import Source
from seedlm.host.text import TOKENIZER_CONFIG

__all__ = ["ChatTemplate"]

TEMPLATE = "chat_template.jinja"
SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")


class ChatTemplate:
    """The template of a model.

    Parameters
    ----------
    source : Source
        With chat_template.jinja, or one in tokenizer_config.json.

    Attributes
    ----------
    eos : str or None
        The token that ends an answer, by tokenizer_config.json.

    Raises
    ------
    SeedLMError
        There is none, it is not a template, or the package jinja2 is not there.
    """

    def __init__(self, source: Source):
        said = source.json(TOKENIZER_CONFIG) or {}
        own = source.read(TEMPLATE)
        text = _default(said.get("chat_template")) if own is None else own.decode(errors="replace")
        self._where = str(source.place(TOKENIZER_CONFIG if own is None else TEMPLATE))
        if not isinstance(text, str):
            raise SeedLMError(f"{source.path}: has no chat template: expected {TEMPLATE}, or 'chat_template' in"
                              f" {TOKENIZER_CONFIG}")  # fmt: skip
        self._tokens = {name: token for name in SPECIAL if (token := _content(said.get(name))) is not None}
        self.eos = self._tokens.get("eos_token")
        self._template = self._compile(text)

    def _compile(self, text: str):
        try:
            from jinja2.ext import loopcontrols
            from jinja2.sandbox import ImmutableSandboxedEnvironment
        except ImportError as error:
            raise SeedLMError(f"{self._where}: needs the package jinja2: pip install 'seedlm[chat]'") from error
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.filters["tojson"] = _tojson
        environment.globals |= {"raise_exception": _raise, "strftime_now": _now}
        try:
            return environment.from_string(text)
        except Exception as error:  # whatever a template that is no template raises
            raise SeedLMError(f"{self._where}: not a chat template: {_line(error)}") from error

    def render(self, message: str) -> str:
        """What is written before the answer to a message.

        Raises
        ------
        SeedLMError
            The template fails.
        """
        messages = [{"role": "user", "content": message}]
        try:
            return self._template.render(messages=messages, add_generation_prompt=True, **self._tokens)
        except Exception as error:  # whatever a template does wrong
            raise SeedLMError(f"{self._where}: the chat template fails: {_line(error)}") from error


def _default(given: Any) -> Any:
    """The template of an entry that may be a list of named ones."""
    if not isinstance(given, list):
        return given
    named = {entry.get("name"): entry.get("template") for entry in given if isinstance(entry, Mapping)}
    return named.get("default")


def _content(token: Any) -> str | None:
    token = token.get("content") if isinstance(token, Mapping) else token
    return token if isinstance(token, str) else None


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _raise(message: str) -> NoReturn:
    raise ValueError(message)


def _now(form: str) -> str:
    return datetime.datetime.now().strftime(form)


def _tojson(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)
