"""Tokenizers in GGUF files against those of the tokenizers library, and against SentencePiece written out."""

from __future__ import annotations

import itertools
import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from seedlm.golden.errors import SeedLMError
from seedlm.host.gguf.header import read_header
from seedlm.host.gguf.tokenizer import special_tokens, tokenizer_config, tokenizer_json
from tests.host.tiny_gguf import finish, gguf

tokenizers = pytest.importorskip("tokenizers", reason="reads tokenizer.json, and tokenizers is not installed")
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers  # noqa: E402

SAMPLES = [
    "def naïve(x):\n    return 'größer € 𝔘 日本語' + x  # done\n",
    "I'LL say it's 1234567 times, 3.14;  two  spaces\r\n\n\n  and\ttabs ",
    "<s>don't</s> CamelCase under_score 12ab 日本語。テスト",
    " leading, trailing   ",
    "cafe\u0301 of two parts",
    "",
]
CORPUS = ["def f(x): return x", "  return self", "the naïve größer text isn't", "日本語", "1234 12 99"] * 4
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


def split(pattern: str):
    return pre_tokenizers.Split(Regex(pattern), "isolated")


def bytes_only():
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


# As the models' own tokenizer.json files have them.
CUTS = {
    "gpt-2": lambda: pre_tokenizers.ByteLevel(add_prefix_space=False),
    "smollm": lambda: pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    ),
    "llama-bpe": lambda: pre_tokenizers.Sequence([split(LLAMA3), bytes_only()]),
    "qwen2": lambda: pre_tokenizers.Sequence([split(LLAMA3.replace("{1,3}", "")), bytes_only()]),
    "bloom": lambda: pre_tokenizers.Sequence([split(r" ?[^(\s|[.,!?…。，、।۔،])]+"), bytes_only()]),
}


def header_of(path: Path, fill) -> object:
    """The header of a file with a tokenizer alone."""
    writer = gguf.GGUFWriter(path, "llama")
    fill(writer)
    writer.add_tensor("token_embd.weight", np.zeros((1, 1), "f4"))
    finish(writer)
    return read_header(path)


def rebuilt(header) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_str(json.dumps(tokenizer_json(header)))


def bytes_tokenizer(name: str) -> tokenizers.Tokenizer:
    """A small one, trained."""
    made = tokenizers.Tokenizer(models.BPE(ignore_merges=name == "llama-bpe"))
    made.pre_tokenizer, made.decoder = CUTS[name](), decoders.ByteLevel()
    if name == "qwen2":
        made.normalizer = normalizers.NFC()
    trainer = trainers.BpeTrainer(
        vocab_size=310, special_tokens=["<s>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    made.train_from_iterator(CORPUS, trainer)
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return made


def fill_bytes(made: tokenizers.Tokenizer, pre: str, **more):
    """What a converter writes of a byte-level tokenizer."""
    model = json.loads(made.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)

    def fill(writer) -> None:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        writer.add_token_list(tokens)
        writer.add_token_types([3 if token in ("<s>", "</s>") else 1 for token in tokens])
        writer.add_token_merges([" ".join(pair) for pair in model["merges"]])
        writer.add_bos_token_id(0)
        writer.add_eos_token_id(1)
        for key, value in more.items():
            getattr(writer, key)(value)

    return fill


@pytest.mark.parametrize("name", CUTS)
def test_bytes(tmp_path, name):
    """The same tokens for all samples, with and without the first; texts come back."""
    made = bytes_tokenizer(name)
    found = rebuilt(header_of(tmp_path / "x.gguf", fill_bytes(made, name, add_add_bos_token=True)))
    for sample in SAMPLES:
        for special in (True, False):
            assert (
                found.encode(sample, add_special_tokens=special).ids
                == made.encode(sample, add_special_tokens=special).ids
            )
        tokens = found.encode(sample).ids
        assert found.decode(tokens) == made.decode(tokens)
        composed = unicodedata.normalize("NFC", sample) if name == "qwen2" else sample
        assert found.decode(tokens, skip_special_tokens=False) == "<s>" + composed
    assert found.get_vocab() == made.get_vocab()


def test_first_token(tmp_path):
    """Said by the file; where it says nothing, it hangs on the kind."""
    made = bytes_tokenizer("gpt-2")
    for pre, more, expected in (
        ("gpt-2", {}, False), ("llama-bpe", {}, True), ("llama-bpe", {"add_add_bos_token": False}, False),
        ("qwen2", {"add_add_bos_token": True}, True),
    ):  # fmt: skip
        header = header_of(tmp_path / "x.gguf", fill_bytes(made, pre, **more))
        assert tokenizer_config(header)["add_bos_token"] is expected
        assert (rebuilt(header).encode("a").ids[0] == 0) is expected


def test_config(tmp_path):
    """Tokens with a meaning, all that end a text, the chat template."""
    more = {"add_chat_template": "{{ x }}", "add_eot_token_id": 5, "add_pad_token_id": 4000}
    header = header_of(tmp_path / "x.gguf", fill_bytes(bytes_tokenizer("gpt-2"), "gpt-2", **more))
    assert special_tokens(header) == (0, [1, 5])
    assert tokenizer_config(header) == {
        "bos_token": "<s>", "eos_token": "</s>", "add_bos_token": False, "chat_template": "{{ x }}",
    }  # fmt: skip


# --- SentencePiece ---------------------------------------------------------------------------------
PIECES = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
WORDS = [
    "▁", "t", "h", "e", "n", "a", "ï", "v", "r", "d", "th", "he", "▁t", "▁th", "the", "▁the", "en", "then", "▁▁", "re",
    "▁re", "ret", "▁an", "an", "and", "▁and", "<turn>",
]  # fmt: skip
SCORES = dict(zip(WORDS, np.random.default_rng(4).permutation(len(WORDS)), strict=True))


def fill_pieces(model: str, **more):
    def fill(writer) -> None:
        writer.add_tokenizer_model(model)
        writer.add_token_list(PIECES + WORDS)
        writer.add_token_scores([0.0] * len(PIECES) + [-float(SCORES[word]) for word in WORDS])
        kinds = [2, 3, 3] + [6] * 256 + [1] * len(WORDS)
        kinds[-1] = 4
        writer.add_token_types(kinds)
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_unk_token_id(0)
        for key, value in more.items():
            getattr(writer, key)(value)

    return fill


def literal_pieces(text: str, prefix: bool) -> list[str]:
    """SentencePiece's merging: of all neighbours that are a piece together those with the best score, the first."""
    pieces = list(("▁" if prefix and text else "") + text.replace(" ", "▁"))
    while True:
        pairs = [(SCORES[a + b], i) for i, (a, b) in enumerate(itertools.pairwise(pieces)) if a + b in SCORES]
        if not pairs:
            break
        _, i = min(pairs)
        pieces[i : i + 2] = [pieces[i] + pieces[i + 1]]
    out = []
    for piece in pieces:
        out += [piece] if piece in SCORES else [f"<0x{byte:02X}>" for byte in piece.encode()]
    return out


@pytest.mark.parametrize("prefix", [True, False])
def test_pieces(tmp_path, prefix):
    header = header_of(tmp_path / "x.gguf", fill_pieces("llama", add_add_space_prefix=prefix))
    found = rebuilt(header)
    rng = np.random.default_rng(8)
    texts = ["".join(rng.choice(list("thenard  ")) for _ in range(30)) for _ in range(40)]
    for text in ["the naïve 日本 then", "then and  the", " the", *texts]:
        assert found.encode(text, add_special_tokens=False).tokens == literal_pieces(text, prefix), text
        assert found.decode(found.encode(text).ids) == text
    assert found.encode("the").ids[0] == 1  # of this kind the first token is the custom
    turn = len(PIECES + WORDS) - 1
    assert turn in found.encode("the<turn>and").ids
    assert "<turn>" in found.decode(found.encode("the<turn>and").ids)  # it is text, unlike <s>


def test_unigram(tmp_path):
    """The likeliest pieces, as the library finds them from its own description."""
    header = header_of(tmp_path / "x.gguf", fill_pieces("t5"))
    found = rebuilt(header)
    vocab = [(piece, 0.0) for piece in PIECES] + [(word, -float(SCORES[word])) for word in WORDS]
    made = tokenizers.Tokenizer(models.Unigram(vocab, 0, True))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    for text in ("the then and return", "  naïve the", "日本"):
        assert found.encode(text, add_special_tokens=False).ids == made.encode(text).ids
    assert found.decode(found.encode("then and").ids) == "then and"


# --- errors ----------------------------------------------------------------------------------------
def refused(tmp_path: Path, fill) -> str:
    with pytest.raises(SeedLMError) as caught:
        tokenizer_json(header_of(tmp_path / "x.gguf", fill))
    return str(caught.value)


def test_unknown(tmp_path):
    made = bytes_tokenizer("gpt-2")
    line = refused(tmp_path, fill_bytes(made, "klingon"))
    assert "unknown pre-tokenizer 'klingon' (tokenizer.ggml.pre): expected a.x-4.0, bloom, " in line
    assert "a tokenizer of the unknown kind 'bert': expected gpt2, llama, t5" in refused(
        tmp_path, lambda writer: writer.add_tokenizer_model("bert")
    )
    assert "no tokenizer: expected" in refused(tmp_path, lambda writer: None)
    assert "no tokenizer.ggml.tokens" in refused(tmp_path, lambda writer: writer.add_tokenizer_model("gpt2"))

    def short(writer) -> None:
        writer.add_tokenizer_model("llama")
        writer.add_token_list(["a", "b"])
        writer.add_token_types([1])

    assert "token_type has 1 entries: expected 2" in refused(tmp_path, short)

    def twice(writer) -> None:
        writer.add_tokenizer_model("llama")
        writer.add_token_list(["a", "b", "a"])

    assert "token 'a' is twice in tokenizer.ggml.tokens" in refused(tmp_path, twice)
