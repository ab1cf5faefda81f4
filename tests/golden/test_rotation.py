import numpy as np
import pytest

from seedlm.golden.codecs import CODECS
from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.packed import PackedFile, write_packed
from seedlm.golden.matrix import PackedMatrix
from seedlm.golden.product import Prepared, exact, product
from seedlm.golden.rotation import Rotation, rotation_for
from tests import oracle


def hadamard(block):
    """H by its definition: entry (i, j) is (-1)**(number of common bits) / sqrt(block)."""
    common = [[bin(i & j).count("1") for j in range(block)] for i in range(block)]
    return (-1.0) ** np.array(common) / block**0.5


def signs(cols):
    state, out = 1, []
    for _ in range(cols):
        out.append(-1.0 if state & 1 else 1.0)
        state = oracle.lfsr_step(state, 16)
    return np.array(out)


@pytest.mark.parametrize(("cols", "block"), [(16, 16), (48, 16), (192, 64), (4096, 4096)])
def test_weights_and_vectors_by_the_definition(cols, block, rng):
    rotation = rotation_for(cols)
    assert rotation == Rotation(block)
    H = np.kron(np.eye(cols // block), hadamard(block))
    w, x = rng.standard_normal((3, cols)), rng.standard_normal((2, cols)).astype(np.float32)
    expected = w * signs(cols) @ H
    assert np.allclose(rotation.weights(w), expected, rtol=0, atol=1e-12)
    assert np.allclose(rotation.restore(rotation.weights(w)), w, rtol=0, atol=1e-12)
    turned = rotation.vectors(x)
    assert turned.dtype == np.float32
    assert np.allclose(turned, x * signs(cols) @ H, rtol=0, atol=1e-5)
    # The product is what it was.
    assert np.allclose(rotation.weights(w) @ turned.T.astype(float), w @ x.T.astype(float), atol=1e-4)


def test_every_operation_is_a_binary32_one(rng):
    """One operation after the other, in Python, rounded each time: the same bits."""
    x = rng.standard_normal(32).astype(np.float32)
    y = [np.float32(v * s) for v, s in zip(x, signs(32), strict=True)]
    stride = 1
    while stride < 32:
        for start in range(0, 32, 2 * stride):
            for i in range(start, start + stride):
                a, b = y[i], y[i + stride]
                y[i], y[i + stride] = np.float32(a + b), np.float32(a - b)
        stride *= 2
    expected = np.array([np.float32(v * np.float32(32**-0.5)) for v in y])
    assert Rotation(32).vectors(x).tobytes() == expected.tobytes()
    assert Rotation(32).half(x).tobytes() == expected.astype(np.float16).tobytes()


def test_an_outlier_is_spread(rng):
    w = np.zeros((1, 1024))
    w[0, 7] = 60.0
    assert np.allclose(np.abs(rotation_for(1024).weights(w)), 60 / 32)


def test_columns_that_have_no_rotation():
    assert [rotation_for(n) for n in (1, 8, 24, 1000, 4095)] == [None] * 5
    assert rotation_for(1008) == Rotation(16)


def test_metadata_and_refusals():
    assert Rotation.from_metadata(Rotation(64).metadata()) == Rotation(64)
    assert Rotation(64).metadata() == {"kind": "hadamard", "block": 64}
    for entry, message in [
        ({"kind": "hadamard"}, "^rotation must have exactly kind and block"),
        ({"kind": "fourier", "block": 64}, "^unknown rotation 'fourier': expected 'hadamard'$"),
        ({"kind": "hadamard", "block": 48}, "^the block of a rotation must be a power of two, not 48$"),
        ({"kind": "hadamard", "block": "64"}, "^rotation must have exactly kind and block"),
    ]:
        with pytest.raises(SeedLMError, match=message):
            Rotation.from_metadata(entry)
    with pytest.raises(SeedLMError, match=r"^a rotation in blocks of 64 does not fit 96 columns$"):
        Rotation(64).vectors(np.zeros(96, np.float32))


@pytest.mark.parametrize("name", CODECS)
def test_a_rotated_matrix(name, tmp_path, rng):
    """The file says it, the product turns the vector, decoding turns the weights back."""
    kind = CODECS[name]
    plain = PackedMatrix.random(kind, 5, 96, rng)
    plain.dtype = "BF16"
    rotation = rotation_for(96)
    turned = PackedMatrix(kind, plain.shape, plain.words, plain.scales, dtype="BF16", rotation=rotation)
    write_packed(tmp_path / "p", {"plain": plain, "turned": turned})
    file = PackedFile(tmp_path / "p")
    assert (file.tensors["plain"].rotation, file.tensors["turned"].rotation) == (None, rotation)
    found = file.matrix("turned")
    assert found.rotation == rotation
    assert found.row_slice(1, 3).rotation == rotation
    stored = plain.decode(np.float64)
    back = rotation.weights(found.decode(np.float64))
    assert np.abs(back - stored).max() < 1e-13 * np.abs(stored).max()
    x = rng.standard_normal((2, 96)).astype(np.float16)
    half = rotation.half(x)
    for form in (found, Prepared(found)):
        assert product(form, x).tobytes() == product(plain, half).tobytes()
        assert product(form, half, rotated=True).tobytes() == product(plain, half).tobytes()
        assert exact(form, x).tolist() == exact(plain, half).tolist()
    x[1, 3] = np.inf
    assert np.isnan(product(found, x)[1]).all()
    assert np.isfinite(product(found, x)[0]).all()


def test_a_file_whose_rotation_is_wrong(tmp_path, rng):
    matrix = PackedMatrix.random(CODECS["int8"], 2, 96, rng)
    matrix.rotation = Rotation(64)
    with pytest.raises(SeedLMError, match=r"^tensor 'w': a rotation in blocks of 64 does not fit 96 columns$"):
        write_packed(tmp_path / "p", {"w": matrix})
    matrix.rotation = Rotation(32)
    write_packed(tmp_path / "p", {"w": matrix})
    data = (tmp_path / "p").read_bytes()
    (tmp_path / "p").write_bytes(data.replace(b"hadamard", b"hadamerd"))
    with pytest.raises(SeedLMError, match=r"tensor 'w': unknown rotation 'hadamerd': expected 'hadamard'$"):
        PackedFile(tmp_path / "p")
