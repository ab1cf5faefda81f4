"""The registry of memories: a file is an entry, and every verb that simulates offers it."""

import argparse

import pytest

from seedlm.cli import parser
from seedlm.golden.errors import SeedLMError
from seedlm.sim.memories import DEFAULT_MEMORY, MEMORIES, memory
from seedlm.sim.memory import Memory


def test_entries():
    assert list(MEMORIES)[:2] == ["ideal", "ddr3"]
    assert DEFAULT_MEMORY in MEMORIES
    for name, entry in MEMORIES.items():
        assert isinstance(entry, Memory)
        assert entry.name == name
        assert entry.summary
        assert memory(name) is memory(entry) is entry


def test_a_controller_comes_with_its_memory():
    for entry in MEMORIES.values():
        if entry.controller == "ddr3":
            assert "module ddr3" in "".join(entry.verilog(512).values())
    with pytest.raises(SeedLMError, match="bus of 512 bits, not 128"):
        MEMORIES["litedram"].verilog(128)


@pytest.mark.parametrize("verb", ["sim", "run", "project", "bench"])
def test_every_verb_offers_them(verb):
    (verbs,) = (a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    (action,) = (a for a in verbs.choices[verb]._actions if "--memory" in a.option_strings)
    assert list(action.choices) == list(MEMORIES)
    for entry in MEMORIES.values():
        assert entry.summary in action.help
