import numpy as np
import pytest

from seedlm.golden.codecs import CODECS as PRESETS
from seedlm.golden.codecs import codec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.matrix import PackedMatrix
from tests import oracle
from tests.families import CODECS, family_tests
from tests.golden.corners import bits32, corner_matrix


def oracle_weights(matrix):
    """Exact weights as fractions, [rows][cols]."""
    kind, out = matrix.codec, []
    for r, words in enumerate(matrix.words.tolist()):
        row = family_tests(kind).weights(kind, words, matrix.exp_bias)[: matrix.cols]
        scale = 1 if matrix.scales is None else oracle.binary32(bits32(matrix.scales[r : r + 1])[0])
        out.append([w * scale for w in row])
    return out


@pytest.mark.parametrize("kind", CODECS, ids=str)
def test_decode(kind, rng):
    for matrix in (PackedMatrix.random(kind, 3, 29, rng), corner_matrix(kind, 9, 29, rng)):
        if kind.has_exp_bias:
            matrix.exp_bias = 5
        exact = oracle_weights(matrix)
        # Python rounds a fraction to the nearest binary64; where a weight fits binary64 that is exact.
        assert matrix.decode(np.float64).tolist() == [[float(w) for w in row] for row in exact]
        single = matrix.decode()
        assert single.dtype == np.float32
        assert single.shape == (matrix.rows, 29)
        if not kind.has_exp_bias:
            # -0 comes from a zero integer and a negative scale, which a fraction does not see.
            assert bits32(np.abs(single).ravel()) == [oracle.fl32(abs(w)) for row in exact for w in row]


def test_decode_in_pieces(rng):
    kind = codec("c1p1k2b0r")
    matrix = PackedMatrix.random(kind, 5, 1 << 19, rng)  # two rows at a time
    whole = matrix.decode()
    for r in range(5):
        assert (matrix.row_slice(r, r + 1).decode() == whole[r]).all()


@pytest.mark.parametrize("kind", CODECS, ids=str)
def test_random_passes_its_own_check(kind, rng):
    matrix = PackedMatrix.random(kind, 7, 33, rng)
    matrix.check()
    assert matrix.shape == (7, 33)
    part = matrix.row_slice(2, 5)
    part.check()
    assert part.words.tolist() == matrix.words[2:5].tolist()
    assert part.shape == (3, 33)


def test_default_scale():
    assert bits32(PRESETS["seedlm4"].default_scale()) == [oracle.default_scale(16)]
    assert bits32(PRESETS["seedlm4"].default_scale(-7)) == [oracle.default_scale(16, -7)]
    assert bits32(codec("c8p3k20b0").default_scale(3)) == [oracle.default_scale(20, 3)]
    assert bits32(PRESETS["fp16"].default_scale()) == [0x3F800000]


def test_stored_bits(rng):
    assert PackedMatrix.random(PRESETS["seedlm4"], 3, 64, rng).stored_bits == 3 * 64 * 4
    assert PackedMatrix.random(PRESETS["seedlm3"], 3, 12, rng).stored_bits == 3 * 40  # 36 bits in whole bytes
    assert PackedMatrix.random(PRESETS["seedlm4r"], 3, 64, rng).stored_bits == 3 * (64 * 4 + 32)
    assert PackedMatrix.random(PRESETS["fp16"], 3, 5, rng).stored_bits == 3 * 80
    assert PackedMatrix.random(PRESETS["int8"], 3, 5, rng).stored_bits == 3 * (40 + 32)


def change(**fields):
    def apply(matrix):
        for name, value in fields.items():
            setattr(matrix, name, value)

    return apply


def poke(field, place, value):
    def apply(matrix):
        getattr(matrix, field)[place] = value

    return apply


SEED_ZERO = "blocks have seed 0 and non-zero coefficients, the first in row"
WORDS = "weights in codec seedlm4 must be uint64"
WORDS8 = "weights in codec int8 must be int8"
BIAS = "does not give a positive finite binary32 scale"

FAULTS = [
    ("seedlm4", poke("words", (2, 1), 0x10000000), f"1 of 12 {SEED_ZERO} 2, block 1"),
    ("seedlm3r", poke("words", (3, 1), 0xF00000000), f"1 of 8 {SEED_ZERO} 3, block 1"),
    ("seedlm4", poke("words", (0, 0), 1 << 32), "1 words have more than 32 bits"),
    ("seedlm4", change(shape=(4, 25)), f"the words of 4 x 25 {WORDS} [4, 4], not uint64 [4, 3]"),
    ("seedlm4", change(shape=(5, 24)), f"the words of 5 x 24 {WORDS} [5, 3], not uint64 [4, 3]"),
    ("seedlm4", change(words=np.ones((4, 3), np.uint32)), f"the words of 4 x 24 {WORDS} [4, 3], not uint32 [4, 3]"),
    ("seedlm4", change(shape=(0, 24)), "rows and columns must be positive, not 0 x 24"),
    ("seedlm4", change(scales=np.ones(4, np.float32)), "codec seedlm4 has no row scales"),
    ("seedlm4", change(dtype="F64"), "source dtype must be one of F16, BF16, F32, not 'F64'"),
    ("seedlm4", change(exp_bias=143), f"exponent bias 143 {BIAS}"),
    ("seedlm4", change(exp_bias=-136), f"exponent bias -136 {BIAS}"),
    ("seedlm4", change(exp_bias=10**12), f"exponent bias 1000000000000 {BIAS}"),
    ("seedlm4r", change(exp_bias=1), "codec seedlm4r has no exponent bias, found 1"),
    ("seedlm4r", change(scales=None), "codec seedlm4r needs row scales"),
    ("seedlm4r", change(scales=np.ones(3, np.float32)), "row scales must be float32 [4], not float32 [3]"),
    ("seedlm4r", change(scales=np.ones(4)), "row scales must be float32 [4], not float64 [4]"),
    ("seedlm4r", poke("scales", 2, np.inf), "1 of 4 row scales are NaN or infinite, the first in row 2"),
    ("seedlm4r", poke("scales", 3, np.nan), "1 of 4 row scales are NaN or infinite, the first in row 3"),
    ("fp16", poke("words", (1, 23), 0x7C00), "1 of 96 weights are NaN or infinite, the first in row 1, column 23"),
    ("fp16", poke("words", (0, 0), 0xFFFF), "1 of 96 weights are NaN or infinite, the first in row 0, column 0"),
    ("int8", poke("words", (3, 2), -128), "1 of 96 weights are -128, the first in row 3, column 2"),
    ("int8", change(words=np.ones((4, 9), np.int8)), f"the words of 4 x 24 {WORDS8} [4, 24], not int8 [4, 9]"),
    ("int8", change(scales=None), "codec int8 needs row scales"),
    ("fp16", change(exp_bias=-1), "codec fp16 has no exponent bias, found -1"),
]


@pytest.mark.parametrize(("name", "fault", "message"), FAULTS)
def test_check(name, fault, message, rng):
    matrix = PackedMatrix.random(PRESETS[name], 4, 24, rng)
    matrix.check("w")
    fault(matrix)
    with pytest.raises(SeedLMError) as caught:
        matrix.check("w")
    assert str(caught.value) == f"w: {message}"


def test_the_zero_block_is_valid(rng):
    matrix = PackedMatrix.random(PRESETS["seedlm4"], 4, 24, rng)
    matrix.words[:] = 0
    matrix.words[0, 0] = 5 << 16  # an exponent alone does not make a weight
    matrix.check()
    assert not matrix.decode().any()
