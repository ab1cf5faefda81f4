"""Which build of the accelerator is there: its configuration registers."""

from __future__ import annotations

from collections.abc import Callable

from seedlm.golden.build import MAX_CODECS, Config
from seedlm.golden.codecs import FAMILIES, Codec
from seedlm.golden.errors import SeedLMError
from seedlm.hdl.registers import ID, VERSION_MAJOR, VERSION_MINOR, configuration_words, register

__all__ = ["check_identity", "read_config"]


def check_identity(read: Callable[[str], int], config: Config | None) -> Config:
    """The configuration of the build, which is `config` if that is given.

    Parameters
    ----------
    read : callable
        Gives the value of the register of that name.

    Raises
    ------
    SeedLMError
        No accelerator there, another version of the registers, another build than expected.
    """
    found = read("ID")
    if found != ID:
        raise SeedLMError(f"no accelerator there: the ID register reads {found:#010x}, expected {ID:#010x}")
    version = register("VERSION").unpack(read("VERSION"))
    if version["major"] != VERSION_MAJOR or version["minor"] < VERSION_MINOR:
        raise SeedLMError(
            f"the accelerator has version {version['major']}.{version['minor']} of the registers,"
            f" this driver needs {VERSION_MAJOR}.{VERSION_MINOR} or a later {VERSION_MAJOR}.x"
        )
    if config is None:
        return read_config(read)
    expected = configuration_words(config)
    _compare({name: read(name) for name in expected}, expected, "the configuration")
    return config


def _codec_from(fields: dict[str, int]) -> Codec:
    """The codec of the CODEC register."""
    for family in FAMILIES.values():
        if family.family_number == fields["family"]:
            return family.from_register(fields)
    raise SeedLMError(f"this version does not know codec family {fields['family']}")


def read_config(read: Callable[[str], int]) -> Config:
    """The configuration of a build from its registers.

    Parameters
    ----------
    read : callable
        Gives the value of the register of that name.

    Raises
    ------
    SeedLMError
        The registers do not describe a build that this version knows.
    """
    fields = {name: register(name).unpack(read(name)) for name in configuration_words(Config())}
    sizes = {}
    for name in ("LIMITS", "READ_FIFOS", "MORE_FIFOS"):
        sizes |= fields[name]
    widths, inside = fields["WIDTHS"], fields["SEGMENT"]
    for n in range(1, min(inside["more_codecs"], MAX_CODECS - 1) + 1):
        fields[f"CODEC_{n}"] = register(f"CODEC_{n}").unpack(read(f"CODEC_{n}"))
    try:
        config = Config(
            codec=_codec_from(fields["CODEC"]),
            more=tuple(_codec_from(values) for name, values in fields.items() if name.startswith("CODEC_")),
            group=inside["group"] or None,
            segment_bits=inside["segment_bits"],
            lanes=widths["lanes"],
            addr_bits=widths["addr_bits"],
            bus_bits=widths["bus_bits"],
            max_cols=fields["MAX_COLS"]["value"],
            max_rows=fields["MAX_ROWS"]["value"],
            **sizes,
        )
    except ValueError as e:
        raise SeedLMError(f"the accelerator's registers describe no build that can be: {e}") from None
    words = {name: register(name).pack(values) for name, values in fields.items()}
    _compare(words, configuration_words(config), "its own sizes")
    return config


def _compare(found: dict[str, int], expected: dict[str, int], what: str) -> None:
    """Raise SeedLMError with the first field in which the configuration registers differ."""
    for name, word in expected.items():
        want, have = register(name).unpack(word), register(name).unpack(found[name])
        for field, value in want.items():
            if have[field] != value:
                label = name.lower() if field == "value" else field
                raise SeedLMError(f"the accelerator does not fit {what}: {label} is {have[field]}, expected {value}")
