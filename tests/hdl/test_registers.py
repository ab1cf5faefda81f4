"""The register table: sound in itself, and told the same by the C header and the page. (The RTL: `test_control`.)"""

import re
import shutil
import subprocess

import pytest

from seedlm.golden.build import Config
from seedlm.golden.codecs import CODECS, FAMILIES, codec
from seedlm.hdl import layouts, registers
from seedlm.hdl.registers import (
    CATEGORIES,
    COUNTERS,
    REGISTERS,
    Access,
    ErrorCode,
    configuration_words,
    counter_registers,
    register,
)


def another_codec(r):
    """CODEC_1 and so on, whose fields are those of CODEC."""
    return r.name.startswith("CODEC_")


def test_offsets_and_names():
    offsets = [r.offset for r in REGISTERS]
    assert offsets == sorted(set(offsets))
    assert all(o % 4 == 0 and 0 <= o < 1 << registers.ADDRESS_BITS for o in offsets)
    names = [r.name for r in REGISTERS]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[A-Z][A-Z_]*[A-Z]|CODEC_[1-9]\d*", name) for name in names)


@pytest.mark.parametrize("r", REGISTERS, ids=lambda r: r.name)
def test_fields(r):
    used = 0
    for field in r.fields:
        assert field.width > 0
        assert field.mask < 1 << 32
        assert not used & field.mask, "fields overlap"
        used |= field.mask
        assert field.doc
    assert r.doc
    if r.reset is not None:
        assert r.reset & ~used == 0
    values = {f.name: (1 << f.width) - 1 for f in r.fields}
    assert r.pack(values) == used
    assert r.unpack(used) == values
    for field in r.fields:
        assert r.pack({field.name: 1}) == 1 << field.lsb
        assert r.unpack(1 << field.lsb)[field.name] == 1
        with pytest.raises(ValueError, match=f"{r.name}.{field.name} has {field.width} bits and cannot hold"):
            r.pack({field.name: 1 << field.width})
    with pytest.raises(KeyError, match="no field 'absent'"):
        r.pack(absent=1)


def test_counters():
    assert set(CATEGORIES) < set(COUNTERS)
    for name in COUNTERS:
        low, high = counter_registers(name)
        assert high.offset == low.offset + 4
        assert low.offset % 8 == 0
        assert low.access is high.access is Access.RO
    # Every event is counted, and every counter but those derived has an event of its own.
    events = set(layouts.events_layout().members) - {"request"}
    assert events == {n.removesuffix("s") if n not in CATEGORIES else n for n in COUNTERS} - {"cycle", "control"}


def test_pairs():
    for r in REGISTERS:
        if r.name.endswith("_LO"):
            assert register(r.name[:-3] + "_HI").offset == r.offset + 4


def test_error_codes_fit():
    assert max(ErrorCode) < 1 << registers.ERROR_BITS
    assert registers.ERROR_BITS == layouts.CODE_BITS
    assert ErrorCode.NONE == 0


@pytest.mark.parametrize(
    "config",
    [
        *(Config(codec=c) for c in CODECS.values()),
        Config(codec=codec("c64p1k2b0"), lanes=64, bus_bits=1024, burst_beats=32, max_cols=65536, max_rows=1 << 24),
        Config(codec=codec("c1p2k20b1r"), addr_bits=64, queue_depth=256, burst_beats=1, segment_bits=48),
    ],
    ids=lambda c: c.codec.name,
)
def test_every_configuration_fits(config):
    words = configuration_words(config)
    assert all(0 <= word < 1 << 32 for word in words.values())
    assert set(words) <= {r.name for r in REGISTERS if r.access is Access.RO and r.reset is None}
    fields = register("CODEC").unpack(words["CODEC"])
    family = next(family for family in FAMILIES.values() if family.family_number == fields["family"])
    assert family.from_register(fields).same_format(config.codec)


def test_words_of_the_first_version():
    """Programs that knew bit 30 as "binary16" go on reading what they did."""
    assert configuration_words(Config(codec=codec("seedlm4")))["CODEC"] == 8 | 3 << 8 | 16 << 16 | 4 << 24
    assert configuration_words(Config(codec=codec("seedlm3r")))["CODEC"] == 12 | 5 << 8 | 16 << 16 | 1 << 31
    assert configuration_words(Config(codec=codec("fp16")))["CODEC"] == 1 << 30


def test_c_header(tmp_path):
    """A C and a C++ compiler read the header; what the program prints is the table."""
    compiler = shutil.which("g++")
    assert compiler, "g++ is one of the project's requirements"
    (tmp_path / "seedlm_registers.h").write_text(registers.c_header())
    names = re.findall(r"^#define (\w+) ", registers.c_header(), re.MULTILINE)
    assert len(set(names)) == len(names)
    body = "".join(f'  printf("%s %u\\n", "{n}", {n});\n' for n in names)
    source = '#include <stdio.h>\n#include "seedlm_registers.h"\n#include "seedlm_registers.h"\n'
    (tmp_path / "test.c").write_text(f"{source}int main(void) {{\n{body}  return 0;\n}}\n")
    for language in ("c", "c++"):
        command = [compiler, "-Wall", "-Wextra", "-Werror", "-pedantic", "-x", language, "test.c", "-o", "test"]
        subprocess.run(command, cwd=tmp_path, check=True)
        printed = subprocess.run([tmp_path / "test"], capture_output=True, text=True, check=True).stdout
        found = {name: int(value) for name, value in (line.split() for line in printed.splitlines())}
        expected = {"SEEDLM_ID_VALUE": registers.ID, "SEEDLM_VERSION_MAJOR_VALUE": registers.VERSION_MAJOR,
                    "SEEDLM_VERSION_MINOR_VALUE": registers.VERSION_MINOR}  # fmt: skip
        expected |= {f"SEEDLM_ERROR_{code.name}": code.value for code in ErrorCode}
        for r in REGISTERS:
            expected[f"SEEDLM_{r.name}"] = r.offset
            for f in r.fields if not another_codec(r) else ():
                if (f.name, f.width) != ("value", 32):
                    expected[f"SEEDLM_{r.name}_{f.name.upper()}_SHIFT"] = f.lsb
                    expected[f"SEEDLM_{r.name}_{f.name.upper()}_MASK"] = f.mask
        assert found == expected


def test_page():
    """Every register, field and error code has its line, in the table's order."""
    lines = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in registers.markdown().splitlines()
             if line.startswith("|") and not line.startswith("|--")]  # fmt: skip
    rows = [(int(cells[0], 16), cells[1], cells[2]) for cells in lines if re.fullmatch("0x[0-9a-f]+", cells[0])]
    assert rows == [(r.offset, r.name, r.access.value) for r in REGISTERS if not another_codec(r)]
    first = next(cells for cells in lines if cells[1] == "CODEC_n")[0].split("+")[0]
    assert int(first, 16) == register("CODEC_1").offset
    fields = [cells for cells in lines if len(cells) == 4 and cells[0] != "register"]
    by_register = {}
    for name, bits, field, _ in fields:
        high, _, low = bits.partition(":")
        by_register.setdefault(name, []).append((field, int(low or high), int(high)))
    for r in REGISTERS:
        if not r.name.endswith(("_LO", "_HI")) and not another_codec(r):
            assert by_register.pop(r.name) == [(f.name, f.lsb, f.lsb + f.width - 1) for f in r.fields]
    assert not by_register
    codes = [(int(cells[0]), cells[1], cells[2]) for cells in lines if len(cells) == 3 and cells[0].isdigit()]
    assert codes == [(code.value, code.name, code.doc) for code in ErrorCode]
