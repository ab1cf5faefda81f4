"""How texts are cut before the merges of a byte-level tokenizer: the patterns of each ``tokenizer.ggml.pre``."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Splits", "splits_of"]

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
# Words with a space before them, numbers, signs, spaces.
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_DIGIT = r"\p{N}"
_LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_SIGNS = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_BEFORE = r"[^\r\n\p{L}\p{N}]?"
_SLASHED = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_BLOOM = r" ?[^(\s|.,!?…。，、।۔،)]+"


def _numbers(most: int) -> str:
    digits = _DIGIT if most == 1 else rf"\p{{N}}{{1,{most}}}"
    return f"{_CONTRACTIONS}|{_LETTERS}|{digits}|{_SIGNS}"


def _cased(most: int, contractions: str) -> str:
    digits = _DIGIT if most == 1 else rf"\p{{N}}{{1,{most}}}"
    return f"{_BEFORE}{_UPPER}*{_LOWER}+{contractions}|{_BEFORE}{_UPPER}+{_LOWER}*{contractions}|{digits}|{_SLASHED}"


@dataclass(frozen=True)
class Splits:
    """How texts are cut.

    Parameters
    ----------
    patterns : tuple of str
        One after the other, each cuts what the one before has left: its matches, and what is between them.
    whole : bool
        A piece that is a token is taken as it is, without merges.
    begins : bool
        Texts begin with a token of their own where the file does not say.
    composed : bool
        Letters and their accents are put together first (NFC).
    """

    patterns: tuple[str, ...]
    whole: bool = False
    begins: bool = False
    composed: bool = False


_GPT2_SPLITS = Splits((_GPT2,))
_DIGITS = Splits((_DIGIT, _GPT2))
_LLAMA3 = Splits((_numbers(3),), whole=True, begins=True)
_CHINESE = "[一-龥぀-ゟ゠-ヿ]+"
_DEEPSEEK3 = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

_SPLITS: dict[Splits, tuple[str, ...]] = {
    _GPT2_SPLITS: ("gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "exaone4", "gigachat", "a.x-4.0", "mellum"),
    _DIGITS: ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"),
    _LLAMA3: ("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"),
    Splits((_numbers(3),)): ("dbrx", "smaug-bpe", "glm4", "chatglm-bpe"),
    Splits((_numbers(1),), composed=True): ("qwen2",),
    Splits((_numbers(1),)): ("deepseek-r1-qwen", "megrez", "stablelm2", "hunyuan", "solar-open", "kormo"),
    Splits((_BLOOM,)): ("bloom", "poro-chat", "gpt3-finnish"),
    Splits((_BLOOM, _DIGIT)): ("viking",),
    Splits((r"[\p{P}\$\+<=>\^~\|`]+", _GPT2, "[0-9][0-9][0-9]")): ("falcon",),
    Splits((_cased(1, ""),), whole=True, begins=True): ("tekken",),
    Splits((_cased(3, f"{_CONTRACTIONS}?"),)): ("gpt-4o", "llama4", "kanana2"),
    Splits((r"\p{N}{1,3}", _CHINESE, _DEEPSEEK3)): ("deepseek-v3", "hunyuan-dense"),
    Splits((r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]")): ("default",),
}
_BY_NAME = {name: splits for splits, names in _SPLITS.items() for name in names}


def splits_of(name: str) -> Splits | None:
    """How the tokenizers with this ``tokenizer.ggml.pre`` cut; None if it is not known."""
    return _BY_NAME.get(name)


def known() -> list[str]:
    """The names that `splits_of` knows."""
    return sorted(_BY_NAME)
