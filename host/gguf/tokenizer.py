"""The tokenizer in the metadata of a GGUF file, as the tokenizer.json and tokenizer_config.json of Hugging Face.

Nothing here needs the library that reads a tokenizer.json.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from seedlm.host.gguf.header import Header
from seedlm.host.gguf.splits import known, splits_of

__all__ = ["special_tokens", "tokenizer_config", "tokenizer_json"]

# What tokenizer.ggml.token_type says of a token.
UNKNOWN, CONTROL, USER, BYTE = 2, 3, 4, 6
SPACE = "▁"  # stands for a space in the pieces of SentencePiece
PREFIX = "tokenizer.ggml."
# Tokens with a meaning: the names of tokenizer_config.json.
SPECIAL = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
ENDS = ("eos", "eot", "eom")  # of a text, a turn, a message
DEFAULTS = {"llama": {"bos": 1, "eos": 2, "unknown": 0}, "t5": {"eos": 1, "unknown": 2, "padding": 0}}


def special_tokens(header: Header) -> tuple[int | None, list[int]]:
    """The token that begins texts, and those that end them."""
    ends = [_special(header, name) for name in ENDS]
    return _special(header, "bos"), list(dict.fromkeys(token for token in ends if token is not None))


def tokenizer_json(header: Header) -> dict[str, Any]:
    """What the file's tokenizer.json would be.

    Raises
    ------
    SeedLMError
        None in the file, a kind or a pre-tokenizer that is not known, lists that do not fit.
    """
    kind = header.get(f"{PREFIX}model", str)
    if kind not in KINDS:
        found = "no tokenizer" if kind is None else f"a tokenizer of the unknown kind {kind!r}"
        header.refuse(f"{found}: expected {', '.join(KINDS)}")
    tokens = _list(header, "tokens", str)
    if tokens is None:
        header.refuse(f"no {PREFIX}tokens: expected the tokens of a tokenizer")
    types = _list(header, "token_type", int, len(tokens)) or [1] * len(tokens)
    parts = KINDS[kind](header, tokens, types)
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": _added(tokens, types),
        "normalizer": None, "pre_tokenizer": None, "post_processor": _post_processor(header, tokens), **parts,
    }  # fmt: skip


def tokenizer_config(header: Header) -> dict[str, Any]:
    """What the file's tokenizer_config.json would say: tokens with a meaning, and the chat template."""
    tokens = _list(header, "tokens", str) or []
    named = {name: _special(header, key) for name, key in SPECIAL.items()}
    out: dict[str, Any] = {name: tokens[token] for name, token in named.items() if token is not None}
    out["add_bos_token"] = _adds_bos(header)
    if template := header.get("tokenizer.chat_template", str):
        out["chat_template"] = template
    return out


# --- kinds -----------------------------------------------------------------------------------------
def _bytes_bpe(header: Header, tokens: list[str], types: list[int]) -> dict[str, Any]:
    """Bytes as printable characters, merged in the order of a list (GPT-2, Llama 3, Qwen)."""
    name = header.get(f"{PREFIX}pre", str, "default")
    splits = splits_of(name)
    if splits is None:
        header.refuse(f"unknown pre-tokenizer {name!r} ({PREFIX}pre): expected {', '.join(known())}")
    merges = _list(header, "merges", str)
    if merges is None:
        header.refuse(f"no {PREFIX}merges: expected the merges of a byte-level tokenizer")
    cuts = [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        for pattern in splits.patterns
    ]
    as_bytes = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    pairs = [(merge[:cut], merge[cut + 1 :]) for merge in merges if (cut := merge.find(" ", 1)) > 0]
    return {
        "normalizer": {"type": "NFC"} if splits.composed else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*cuts, as_bytes]},
        "decoder": {**as_bytes, "add_prefix_space": True, "use_regex": True},
        "model": _bpe(header, tokens, pairs, ignore_merges=splits.whole),
    }


def _pieces_bpe(header: Header, tokens: list[str], types: list[int]) -> dict[str, Any]:
    """SentencePiece with scores: the pair is merged whose piece has the best (Llama 2, Mistral, Gemma)."""
    scores = _list(header, "scores", float, len(tokens)) or [0.0] * len(tokens)
    prefix = header.get(f"{PREFIX}add_space_prefix", bool, True)
    replaced = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    steps = [{"type": "Prepend", "prepend": SPACE}] * prefix + [replaced]
    unknown = _special(header, "unknown")
    pairs = _merges(tokens, types, scores)
    return {
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "decoder": _pieces_decoder(prefix),
        "model": _bpe(header, tokens, pairs, byte_fallback=_has_bytes(types), fuse_unk=True,
                      unk_token=None if unknown is None else tokens[unknown]),
    }  # fmt: skip


def _unigram(header: Header, tokens: list[str], types: list[int]) -> dict[str, Any]:
    """SentencePiece with probabilities: the likeliest pieces of the whole text."""
    scores = _list(header, "scores", float, len(tokens))
    if scores is None:
        header.refuse(f"no {PREFIX}scores: expected the scores of a unigram tokenizer")
    prefix = header.get(f"{PREFIX}add_space_prefix", bool, True)
    charsmap = header.get(f"{PREFIX}precompiled_charsmap", list)
    normalizer = None
    if charsmap:
        content = base64.b64encode(bytes(value & 0xFF for value in charsmap)).decode()
        normalizer = {"type": "Precompiled", "precompiled_charsmap": content}
    metaspace = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "always" if prefix else "never",
                 "split": True}  # fmt: skip
    return {
        "normalizer": normalizer,
        "pre_tokenizer": metaspace,
        "decoder": metaspace,
        "model": {
            "type": "Unigram", "unk_id": _special(header, "unknown"), "byte_fallback": _has_bytes(types),
            "vocab": [list(entry) for entry in zip(tokens, scores, strict=True)],
        },
    }  # fmt: skip


KINDS: dict[str, Callable[[Header, list[str], list[int]], dict[str, Any]]] = {
    "gpt2": _bytes_bpe,
    "llama": _pieces_bpe,
    "t5": _unigram,
}


# --- parts -----------------------------------------------------------------------------------------
def _bpe(header: Header, tokens: list[str], pairs: list[tuple[str, str]], **more: Any) -> dict[str, Any]:
    vocab = {token: number for number, token in enumerate(tokens)}
    if len(vocab) != len(tokens):
        twice = next(token for number, token in enumerate(tokens) if vocab[token] != number)
        header.refuse(f"token {twice!r} is twice in {PREFIX}tokens")
    usable = [list(pair) for pair in pairs if pair[0] in vocab and pair[1] in vocab and "".join(pair) in vocab]
    common = {"dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
              "fuse_unk": False, "byte_fallback": False, "ignore_merges": False}  # fmt: skip
    return {"type": "BPE", **common, **more, "vocab": vocab, "merges": usable}


def _merges(tokens: list[str], types: list[int], scores: list[float]) -> list[tuple[str, str]]:
    """All pairs of pieces that are a piece together, the best piece first; of one piece in the order of the pieces."""
    number = {token: i for i, token in enumerate(tokens) if types[i] not in (UNKNOWN, CONTROL, BYTE)}
    pairs = []
    for token, place in number.items():
        cuts = ((token[:i], token[i:]) for i in range(1, len(token)))
        inner = [(left, right) for left, right in cuts if left in number and right in number]
        inner.sort(key=lambda pair: (number[pair[0]], number[pair[1]]))
        pairs += [(-scores[place], pair) for pair in inner]
    return [pair for _, pair in sorted(pairs, key=lambda entry: entry[0])]


def _pieces_decoder(prefix: bool) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if prefix:
        steps.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {"type": "Sequence", "decoders": steps}


def _added(tokens: list[str], types: list[int]) -> list[dict[str, Any]]:
    """Tokens that are found before a text is cut."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return [
        {"id": number, "content": token, **flags, "special": kind != USER}
        for number, (token, kind) in enumerate(zip(tokens, types, strict=True))
        if kind in (UNKNOWN, CONTROL, USER) and token
    ]


def _post_processor(header: Header, tokens: list[str]) -> dict[str, Any] | None:
    """What puts the first token before a text."""
    bos = _special(header, "bos")
    if bos is None or not _adds_bos(header):
        return None
    name = tokens[bos]
    begin = {"SpecialToken": {"id": name, "type_id": 0}}
    a, b = ({"Sequence": {"id": name, "type_id": i}} for i, name in enumerate("AB"))
    return {
        "type": "TemplateProcessing", "single": [begin, a], "pair": [begin, a, b],
        "special_tokens": {name: {"id": name, "ids": [bos], "tokens": [name]}},
    }  # fmt: skip


def _adds_bos(header: Header) -> bool:
    kind = header.get(f"{PREFIX}model", str)
    splits = splits_of(header.get(f"{PREFIX}pre", str, "default")) if kind == "gpt2" else None
    return header.get(f"{PREFIX}add_bos_token", bool, kind == "llama" or bool(splits and splits.begins))


def _has_bytes(types: list[int]) -> bool:
    return types.count(BYTE) == 256


def _special(header: Header, name: str) -> int | None:
    """A token with a meaning; None if there is none. A number beyond the vocabulary counts as none."""
    default = DEFAULTS.get(header.get(f"{PREFIX}model", str), {}).get(name)
    token = header.get(f"{PREFIX}{name}_token_id", int, default)
    return token if token is not None and 0 <= token < len(_list(header, "tokens", str) or []) else None


def _list(header: Header, name: str, kind: type, length: int | None = None) -> list | None:
    """A list of the metadata, checked; None if it is not there."""
    values = header.get(PREFIX + name, list)
    if values is None:
        return None
    kinds = (int, float) if kind is float else kind
    if not all(isinstance(value, kinds) for value in values):
        header.refuse(f"{PREFIX}{name} must be a list of {kind.__name__}")
    if length is not None and len(values) != length:
        header.refuse(f"{PREFIX}{name} has {len(values)} entries: expected {length}, as many as there are tokens")
    return values
