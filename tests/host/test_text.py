"""Text to tokens and back, as it comes."""

import json

import pytest

from seedlm.golden.errors import SeedLMError
from seedlm.host.models import model_config
from seedlm.host.text import ByteText, open_text
from tests.host.tiny_llama import CONFIG

SAMPLE = "def naïve(x):\n    return 'größer € 𝔘 日本語' + x  # done\n"


def spoken(text, tokens, prompt=()):
    """What a stream gives for tokens, piece by piece."""
    stream = text.stream(list(prompt))
    return [*(stream.add(token) for token in tokens), stream.end()]


def config(vocab=300):
    return model_config(CONFIG | {"vocab_size": vocab}, "here")


def test_bytes():
    text = ByteText()
    tokens = text.encode(SAMPLE)
    assert tokens == list(SAMPLE.encode())
    pieces = spoken(text, tokens)
    assert "".join(pieces) == SAMPLE
    assert pieces[:5] == list("def n")
    assert "\ufffd" not in "".join(pieces)
    assert "".join(spoken(text, [0x61, 0xE2, 0x82])) == "a\ufffd"  # an unfinished character at the end
    assert "".join(spoken(text, [0x61, 0xFF, 0x62])) == "a\ufffdb"


@pytest.fixture(scope="module", params=["bytes", "pieces"])
def folder(request, tmp_path_factory):
    """A tokenizer of Llama 3's kind (bytes, spaces inside tokens) and one of Llama 2's (pieces, bytes where needed)."""
    tokenizers = pytest.importorskip("tokenizers", reason="reads tokenizer.json, and tokenizers is not installed")
    from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

    path = tmp_path_factory.mktemp(request.param)
    corpus = ["def f(x): return x", "  return self", "the naïve größer text", "日本語"] * 4
    if request.param == "bytes":
        made = tokenizers.Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=290, special_tokens=["<s>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )  # fmt: skip
        made.train_from_iterator(corpus, trainer)
    else:
        made = tokenizers.Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        special = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
        trainer = trainers.BpeTrainer(vocab_size=295, special_tokens=special, show_progress=False)
        made.train_from_iterator(corpus, trainer)
        model = json.loads(made.to_str())
        # The bytes are ordinary tokens, so that they are decoded, not left out.
        model["added_tokens"] = [t for t in model["added_tokens"] if not t["content"].startswith("<0x")]
        made = tokenizers.Tokenizer.from_str(json.dumps(model))
        made.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", made.token_to_id("<s>"))]
    )
    made.save(str(path / "tokenizer.json"))
    return path


def test_tokenizer(folder):
    """All of a text comes out, in pieces that are whole characters, without the token that begins texts."""
    text = open_text(folder, config())
    tokens = text.encode(SAMPLE)
    assert len(tokens) < len(SAMPLE.encode())  # some tokens are longer than a byte
    pieces = spoken(text, tokens)
    assert "".join(pieces).lstrip(" ") == SAMPLE
    assert "\ufffd" not in "".join(pieces)
    assert sum(1 for piece in pieces if piece) > 20  # as it comes, not at the end


def test_continued_text(folder):
    """After a prompt, the first piece keeps its space; nothing of the prompt is repeated, wherever it is cut."""
    text = open_text(folder, config())
    tokens = text.encode(SAMPLE)
    whole = "".join(spoken(text, tokens))
    for cut in range(1, len(tokens)):
        before = "".join(spoken(text, tokens[:cut]))
        if "\ufffd" not in before:
            assert before + "".join(spoken(text, tokens[cut:], prompt=tokens[:cut])) == whole


def test_special_tokens_are_not_text(folder):
    text = open_text(folder, config())
    tokens = text.encode("return")
    assert "".join(spoken(text, [1, *tokens, 1])).strip() == "return"


def test_which_text(folder, tmp_path):
    assert isinstance(open_text(tmp_path, config(256)), ByteText)
    with pytest.raises(SeedLMError, match=r"no tokenizer.json: only models of 256 tokens work without"):
        open_text(tmp_path, config(257))
    with pytest.raises(SeedLMError, match=r"has 2\d\d tokens, the model 100"):
        open_text(folder, config(100))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(SeedLMError, match=r"tokenizer.json: not a tokenizer") as caught:
        open_text(tmp_path, config(256))
    assert "\n" not in str(caught.value)


def said(folder, tmp_path, **entries):
    """The tokenizer of a folder with these entries of tokenizer_config.json."""
    (tmp_path / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(entries))
    return tmp_path


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ({}, ["<s>"]),  # as the tokenizer itself does
        ({"add_bos_token": False}, []),
        ({"add_bos_token": True}, ["</s>"]),  # the model's
        ({"add_bos_token": True, "bos_token": "<s>"}, ["<s>"]),
        ({"add_bos_token": True, "bos_token": {"content": "<s>"}}, ["<s>"]),
    ],
)
def test_what_begins_a_text(folder, tmp_path, entries, expected):
    content = json.loads((folder / "tokenizer.json").read_text())
    numbers = {token["content"]: token["id"] for token in content["added_tokens"]}
    config = model_config(CONFIG | {"vocab_size": 300, "bos_token_id": numbers["</s>"]}, "here")
    text = open_text(said(folder, tmp_path, **entries), config)
    assert text.begin == [numbers[name] for name in expected]


def test_without_a_first_token(folder, tmp_path):
    """A tokenizer that puts none before a text: there is none, whatever config.json names."""
    content = json.loads((folder / "tokenizer.json").read_text()) | {"post_processor": None}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    assert open_text(tmp_path, config()).begin == []
    assert ByteText(3).begin == [3]
    assert ByteText().begin == []


def test_tokens_beyond_the_vocabulary(folder, tmp_path):
    """One that was added for padding is no obstacle, until a text has it."""
    content = json.loads((folder / "tokenizer.json").read_text())
    size = 1 + max(content["model"]["vocab"].values())
    content["added_tokens"].append(content["added_tokens"][-1] | {"id": size, "content": "<pad>"})
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    text = open_text(tmp_path, config(size))
    assert max(text.encode(SAMPLE)) < size
    assert text.token("<pad>") is None
    with pytest.raises(SeedLMError, match=rf"the text has '<pad>', token {size}: the model has {size}"):
        text.encode("a<pad>b")
