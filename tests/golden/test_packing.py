import numpy as np
import pytest

from seedlm.golden.codecs import CODECS, codec
from seedlm.golden.codecs.seed import CHUNK, pack, unpack, weights_int
from seedlm.golden.errors import SeedLMError
from seedlm.golden.packing import from_bytes, to_bytes
from tests import oracle
from tests.families.seed import CODECS as SEED_CODECS
from tests.families.seed import corner_words


def random_words(kind, shape, rng):
    return rng.integers(0, 1 << 64, shape, dtype=np.uint64) >> np.uint64(64 - kind.word_bits)


def test_fields_by_hand():
    # seedlm4: seed in bits 0-15, exponent 16-19, coefficients 20-23, 24-27, 28-31.
    word = pack(CODECS["seedlm4"], 0xBEEF, -8, [7, -8, -1])
    assert word == 0xF878BEEF
    assert word.dtype == np.uint64
    # seedlm4r has no exponent, so four coefficients follow the seed.
    assert pack(CODECS["seedlm4r"], 0xBEEF, 0, [1, 2, 3, -1]) == 0xF321BEEF
    assert pack(CODECS["seedlm3"], 0xBEEF, 7, [1, 2, 3, -1]) == 0xF3217BEEF
    assert pack(CODECS["seedlm3r"], 0xBEEF, 0, [1, 2, 3, -1, 5]) == 0x5F321BEEF


@pytest.mark.parametrize("kind", SEED_CODECS, ids=str)
def test_fields_and_weights_equal_the_oracle(kind, rng):
    words = np.concatenate([corner_words(kind), random_words(kind, 60, rng)])
    seeds, exponents, q = unpack(kind, words)
    weights = weights_int(kind, words)
    for i, word in enumerate(words.tolist()):
        assert (seeds[i], exponents[i], q[i].tolist()) == oracle.fields(word, kind.P, kind.K, kind.B)
        n, e = oracle.block(word, kind.C, kind.P, kind.K, kind.B)
        assert weights[i].tolist() == n
        assert e == exponents[i]
    assert np.abs(weights).max() <= kind.weight_max
    assert pack(kind, seeds, exponents, q).tolist() == words.tolist()


def test_largest_weight_is_reached():
    # Seed 0 makes V = 0: with all coefficients -8, N = 8 P 2**(K-1), the bound that fixes the widths.
    for kind in SEED_CODECS:
        assert (weights_int(kind, pack(kind, 0, 0, [-8] * kind.P)) == kind.weight_max).all()


def test_shapes_and_many_words(rng):
    kind = CODECS["seedlm4"]
    words = random_words(kind, (3, CHUNK), rng)  # three pieces
    weights = weights_int(kind, words)
    assert weights.shape == (3, CHUNK, 8)
    for row, column in ((0, 0), (0, CHUNK - 1), (1, 0), (2, CHUNK - 1)):
        assert weights[row, column].tolist() == oracle.block(int(words[row, column]), 8, 3, 16, 4)[0]
    assert weights_int(kind, words[0, 0]).shape == (8,)
    assert weights_int(kind, words[:0]).shape == (0, CHUNK, 8)


@pytest.mark.parametrize("kind", SEED_CODECS, ids=str)
@pytest.mark.parametrize("blocks", [1, 2, 7, 8, 13])
def test_bytes_equal_the_oracle(kind, blocks, rng):
    words = random_words(kind, (3, blocks), rng)
    data = to_bytes(words, kind.word_bits)
    assert data.dtype == np.uint8
    assert [row.tobytes() for row in data] == [oracle.pack_bits(row, kind.word_bits) for row in words.tolist()]
    assert data.shape == (3, kind.row_bytes(blocks * kind.C))
    assert from_bytes(data, kind.word_bits, blocks).tolist() == words.tolist()


def test_bytes_by_hand():
    # Two words of 36 bits, 0x123456789 below 0xFEDCBA987: the number 0xFEDCBA987123456789, lowest byte first.
    words = np.array([[0x123456789, 0xFEDCBA987]], dtype=np.uint64)
    assert to_bytes(words, CODECS["seedlm3"].word_bits).tobytes().hex() == "896745237198badcfe"


def test_every_word_width(rng):
    for bits in range(6, 57):
        P = max(1, -(-(bits - 24) // 4))
        kind = codec(f"c2p{P}k{bits - 4 * P}b0")
        assert kind.word_bits == bits
        words = random_words(kind, (2, 11), rng)
        assert [r.tobytes() for r in to_bytes(words, bits)] == [oracle.pack_bits(r, bits) for r in words.tolist()]
        assert from_bytes(to_bytes(words, bits), bits, 11).tolist() == words.tolist()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ((65536, 0, [0, 0, 0]), "^seed must be 0 to 65535, found 65536 to 65536$"),
        ((1, 8, [0, 0, 0]), "^exponent must be -8 to 7, found 8 to 8$"),
        ((1, 0, [0, 0, 8]), "^coefficient must be -8 to 7, found 0 to 8$"),
        ((1, 0, [0, 0]), r"^codec seedlm4 has 3 coefficients per block, not an array of shape \[2\]$"),
    ],
)
def test_fields_out_of_range(fields, message):
    with pytest.raises(SeedLMError, match=message):
        pack(CODECS["seedlm4"], *fields)


def test_wrong_use():
    with pytest.raises(SeedLMError, match=r"2 words of 36 bits take 9 bytes per row, not an array of shape \[1, 8\]"):
        from_bytes(np.zeros((1, 8), np.uint8), 36, 2)
