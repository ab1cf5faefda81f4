"""What is true of all tests that run over codecs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from seedlm.golden.build import Config
from seedlm.golden.codecs import FAMILIES, Codec, codec
from seedlm.golden.errors import SeedLMError
from tests.families import quick


def codecs_of(value: object) -> Iterator[Codec]:
    """The codecs that a parameter of a test names or holds."""
    if isinstance(value, Codec):
        yield value
    elif isinstance(value, Config):
        yield value.codec
    elif isinstance(value, dict | tuple | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from codecs_of(part)
    elif isinstance(value, str):
        try:
            yield codec(value)
        except SeedLMError:
            return


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a family with many codecs some stand for all in the fast tests, but for the family's own tests; and there may
    be no decoder yet."""
    from seedlm.hdl.decoders import DECODERS

    for item in items:
        if not hasattr(item, "callspec"):
            continue
        found = [kind for value in item.callspec.params.values() for kind in codecs_of(value)]
        if not all(quick(kind) or item.path.stem == f"test_{kind.family}" for kind in found):
            item.add_marker(pytest.mark.slow)
        lacking = {kind.family for kind in found if kind.family in FAMILIES} - set(DECODERS)
        if lacking and item.path.parent.name in ("hdl", "sim"):
            item.add_marker(pytest.mark.skip(reason=f"there is no decoder for the family {', '.join(lacking)}"))
