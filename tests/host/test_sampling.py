"""Sampling: which tokens may come and how often, and the settings that a model's files give."""

from __future__ import annotations

import json

import numpy as np
import pytest

from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.sources import Source
from seedlm.host.models import model_config
from seedlm.host.sampling import Sampler, Settings, settings_of
from tests.host.tiny_llama import CONFIG

CHANCES = [0.04, 0.30, 0.02, 0.16, 0.16, 0.25, 0.07]
DRAWS = 5000


def allowed(top_k: int, top_p: float) -> list[int]:
    """The tokens that may come, by the definitions, one after the other."""
    order = sorted(range(len(CHANCES)), key=lambda token: -CHANCES[token])
    if 0 < top_k <= len(order):
        order = [token for token in order if CHANCES[token] >= CHANCES[order[top_k - 1]]]
    whole, kept = sum(CHANCES[token] for token in order), []
    for token in order:
        if sum(CHANCES[t] for t in kept) >= top_p * whole:
            break
        kept.append(token)
    return kept


@pytest.mark.parametrize(
    ("top_k", "top_p", "count"),
    [(0, 1.0, 7), (1, 1.0, 1), (2, 1.0, 2), (3, 1.0, 4), (7, 1.0, 7), (99, 1.0, 7), (0, 0.29, 1), (0, 0.31, 2),
     (0, 0.97, 6), (5, 0.5, 2), (0, 1e-9, 1)],
)  # fmt: skip
def test_shares(top_k, top_p, count):
    """Only the allowed tokens, in the ratios that they have among each other."""
    tokens = allowed(top_k, top_p)
    assert len(tokens) == count
    sampler = Sampler(1.0, 3, top_k=top_k, top_p=top_p)
    logits = np.log(CHANCES).astype(np.float32)
    found = np.bincount([sampler(logits) for _ in range(DRAWS)], minlength=len(CHANCES)) / DRAWS
    whole = sum(CHANCES[token] for token in tokens)
    for token, share in enumerate(found):
        expected = CHANCES[token] / whole if token in tokens else 0.0
        assert abs(share - expected) <= 5 * (expected * (1 - expected) / DRAWS) ** 0.5, token


def test_greedy_and_seeds():
    logits = np.array([0.0, 2.0, 2.0, -1.0], dtype=np.float32)
    assert Sampler(0.0, top_k=3, top_p=0.5)(logits) == 1  # of equal ones the first
    draws = [[sampler(logits) for _ in range(20)] for sampler in (Sampler(1.0, 1), Sampler(1.0, 1), Sampler(1.0, 2))]
    assert draws[0] == draws[1] != draws[2]
    # the limits have no part in what the generator gives
    assert [Sampler(1.0, 7, top_k=4, top_p=1.0)(logits) for _ in range(3)] == [
        Sampler(1.0, 7)(logits) for _ in range(3)
    ]
    for wrong in ({"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.5}):
        with pytest.raises(SeedLMError, match="top k must be"):
            Sampler(1.0, **wrong)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (None, Settings(eos=(7, 9))),
        ({}, Settings(eos=(7, 9))),
        ({"eos_token_id": 3}, Settings(eos=(3,))),
        ({"eos_token_id": [3, 4, 256, 4000]}, Settings(eos=(3, 4))),
        ({"temperature": 0.6, "top_p": 0.9}, Settings(eos=(7, 9))),  # says how, but not that it is to sample
        ({"do_sample": True}, Settings(1.0, 0, 1.0, (7, 9))),
        ({"do_sample": True, "temperature": 0.6, "top_p": 0.9, "top_k": 20}, Settings(0.6, 20, 0.9, (7, 9))),
        ({"do_sample": True, "temperature": 0, "top_p": None, "pad_token_id": 4000}, Settings(eos=(7, 9))),
    ],
)
def test_settings(tmp_path, said, expected):
    if said is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(said))
    config = model_config(CONFIG | {"eos_token_id": [7, 9], "pad_token_id": 4000}, "here")
    assert settings_of(Source(tmp_path, {}), config) == expected


@pytest.mark.parametrize(
    "said",
    [{"eos_token_id": "x"}, {"top_k": -1, "do_sample": True}, {"top_p": 2, "do_sample": True},
     {"temperature": "hot", "do_sample": True}, {"temperature": -1, "do_sample": True}],
)  # fmt: skip
def test_settings_that_are_invalid(tmp_path, said):
    (tmp_path / "generation_config.json").write_text(json.dumps(said))
    with pytest.raises(SeedLMError, match=r"generation_config.json: \w+ must be"):
        settings_of(Source(tmp_path, {}), model_config(CONFIG, "here"))
