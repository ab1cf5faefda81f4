"""Quantised models against what their numbers stand for: every weight equal, or the tensor refused by name."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.packed import TensorInfo
from seedlm.golden.files.sources import PackedSource, open_packed_source
from seedlm.golden.files.tensors import RawTensor, TensorFile, write_tensors
from seedlm.host import importing
from seedlm.host.importing import write_quantised
from seedlm.host.imports import FORMS, open_quantised
from tests.host.imports.packers import (
    awq,
    compressed,
    gptq,
    random_numbers,
    weights,
    write_layers,
    write_model,
)

AWQ = {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True, "version": "gemm"}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": False, "desc_act": False}
V2 = GPTQ | {"checkpoint_format": "gptq_v2"}


def packed(bits: int = 4, group: int | None = 32, symmetric: bool = False, **more) -> dict:
    """The configuration of compressed-tensors; without a group a scale for each row."""
    scheme = {"num_bits": bits, "type": "int", "symmetric": symmetric, "strategy": "group" if group else "channel",
              "group_size": group, "dynamic": False, "actorder": None}  # fmt: skip
    groups = {"group_0": {"targets": ["Linear"], "weights": scheme, "input_activations": None,
                          "output_activations": None}}  # fmt: skip
    return {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": groups,
            "ignore": ["lm_head"], "quantization_status": "compressed"} | more  # fmt: skip


def imported(path: Path) -> tuple[PackedSource, list[str]]:
    """Written beside it and opened again; and the remarks."""
    model = open_quantised(path)
    out = path.parent / f"{path.name}-packed"
    infos = write_quantised(model, out)
    source = open_packed_source(out)
    assert infos == source.tensors
    assert all(isinstance(info, TensorInfo) for info in infos.values())
    return source, list(model.remarks)


def check(source: PackedSource, expected: dict[str, np.ndarray]) -> dict[str, str]:
    """Every packed matrix is what is expected, bit for bit; the codecs by name."""
    for name in source.tensors:
        found = source.matrix(name).decode(np.float64)
        assert found.shape == expected[name].shape, name
        assert np.array_equal(found, expected[name]), name
    return {name: info.codec.name for name, info in source.tensors.items()}


def one(tmp_path: Path, parts: dict, said: dict, expected: np.ndarray) -> tuple[str, list[str]]:
    """The codec and the remarks of a folder with one layer."""
    source, remarks = imported(write_layers(tmp_path / "m", {"a.b": parts}, said))
    return check(source, {"a.b.weight": expected})["a.b.weight"], remarks


# --- every weight ----------------------------------------------------------------------------------
GROUPS = {
    (128, 256): "int4g128", (64, 192): "int4g64", (32, 96): "int4g32", (256, 512): "int4g128", (-1, 104): "int4g128",
    (96, 192): "int4g32",
}  # fmt: skip


@pytest.mark.parametrize(("group", "cols"), GROUPS)
def test_groups(tmp_path, group, cols):
    """Larger groups and whole rows are repeated scales; in each form."""
    name = GROUPS[group, cols]
    rng = np.random.default_rng(17)
    size = cols if group == -1 else group
    numbers = random_numbers(rng, 24, cols, size)
    expected = weights(*numbers, size)
    assert one(tmp_path / "a", awq(*numbers, size), AWQ | {"group_size": group}, expected) == (name, [])
    parts = gptq(*numbers, size, less=0)
    assert one(tmp_path / "g", parts, V2 | {"group_size": group}, expected) == (name, [])
    parts = compressed(*numbers, size)
    assert one(tmp_path / "c", parts, packed(group=None if group == -1 else group), expected) == (name, [])


def test_rows_that_are_no_whole_groups(tmp_path):
    """The last group has fewer columns, and the words fewer codes where the form allows it."""
    rng = np.random.default_rng(18)
    numbers = random_numbers(rng, 16, 80, 64, zeros=(1, 15))
    said = GPTQ | {"group_size": 64}
    assert one(tmp_path / "g", gptq(*numbers, 64), said, weights(*numbers, 64)) == ("int4g64", [])
    numbers = random_numbers(rng, 13, 43, 32)
    assert one(tmp_path / "c", compressed(*numbers, 32), packed(), weights(*numbers, 32)) == ("int4g32", [])


def test_slices(tmp_path, monkeypatch):
    """Rows are taken some at a time: the same as all at once, whatever their number."""
    monkeypatch.setattr(importing, "WEIGHTS", 1)
    monkeypatch.setattr(importing, "TOGETHER", 20)  # not the outputs of whole words
    numbers = random_numbers(np.random.default_rng(19), 56, 64, 32, zeros=(1, 15))
    expected = weights(*numbers, 32)
    one(tmp_path / "a", awq(*numbers, 32), AWQ, expected)
    one(tmp_path / "g", gptq(*numbers, 32), GPTQ, expected)
    one(tmp_path / "c", compressed(*numbers, 32), packed(), expected)


def test_bytes(tmp_path):
    """8 bits less 128 are a byte with its sign, whatever the groups."""
    rng = np.random.default_rng(20)
    for group, said in ((64, 64), (96, -1)):
        q, z, s = random_numbers(rng, 8, 96, group, bits=8, zeros=(128, 128))
        expected = weights(q, z, s, group)
        symmetric = {"bits": 8, "sym": True, "group_size": said}
        for less, version in ((1, "gptq"), (0, "gptq_v2")):
            parts = gptq(q, z, s, group, bits=8, less=less)
            form = GPTQ | symmetric | {"checkpoint_format": version}
            assert one(tmp_path / f"{version}{group}", parts, form, expected) == ("q8_0", [])
        parts = compressed(q, None, s, group, bits=8)
        form = packed(8, None if said == -1 else said, True)
        assert one(tmp_path / f"c{group}", parts, form, expected) == ("q8_0", [])


def test_symmetric(tmp_path):
    """Without zero points they are 8."""
    q, z, s = random_numbers(np.random.default_rng(21), 8, 64, 32, zeros=(8, 8))
    expected = weights(q, z, s, 32)
    assert one(tmp_path, compressed(q, None, s, 32), packed(symmetric=True), expected)[0] == "int4g32"


def test_several_schemes(tmp_path):
    """Layers of 4 and of 8 bits in one model: each is what its tensors' sizes say."""
    rng = np.random.default_rng(35)
    four, eight = random_numbers(rng, 8, 64, 32), random_numbers(rng, 8, 64, 64, bits=8, zeros=(128, 128))
    said = packed() | {"format": "mixed-precision"}
    schemes = [some["config_groups"]["group_0"] for some in (packed(), packed(8, None, True))]
    own = {"format": "pack-quantized"}
    said["config_groups"] = {f"group_{i}": scheme | own for i, scheme in enumerate(schemes)}
    layers = {"a": compressed(*four, 32), "b": compressed(eight[0], None, eight[2], 64, bits=8)}
    source, _ = imported(write_layers(tmp_path / "m", layers, said))
    expected = {"a.weight": weights(*four, 32), "b.weight": weights(*eight, 64)}
    assert check(source, expected) == {"a.weight": "int4g32", "b.weight": "q8_0"}


def test_scales_of_other_types(tmp_path):
    """BF16 and F32 that are binary16 too; the weights count as what the scales are."""
    q, z, _ = random_numbers(np.random.default_rng(22), 8, 64, 32)
    s = np.ldexp(np.arange(128, 144).reshape(8, 2), -15).astype(np.float32)  # eight bits, exactly
    for dtype in ("BF16", "F32"):
        parts = compressed(q, z, s, 32) | {"weight_scale": RawTensor.from_array(s, dtype)}
        source, _ = imported(write_layers(tmp_path / dtype, {"a.b": parts}, packed()))
        check(source, {"a.b.weight": weights(q, z, s, 32)})
        assert source.tensors["a.b.weight"].dtype == dtype


# --- the two versions of GPTQ ----------------------------------------------------------------------
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("said", ["gptq", "gptq_v2", None])
@pytest.mark.parametrize("less", [0, 1])
def test_versions_are_told_by_value(tmp_path, said, less, bits):
    """A symmetric model shows which it is; a file that says otherwise is not believed, and a line tells so."""
    middle = 1 << bits - 1
    numbers = random_numbers(np.random.default_rng(23), 8, 64, 32, bits=bits, zeros=(middle, middle))
    form = GPTQ | {"sym": True, "bits": bits} | ({"checkpoint_format": said} if said else {})
    parts = gptq(*numbers, 32, bits=bits, less=less)
    _, remarks = one(tmp_path, parts, form, weights(*numbers, 32))
    truth = "gptq" if less else "gptq_v2"
    if truth == (said or "gptq"):
        assert remarks == []
    else:
        (line,) = remarks
        assert f"says {said or 'gptq'}, but all zero points are stored as {middle - less}, as {truth} has them" in line


def test_where_values_cannot_tell_the_file_decides(tmp_path):
    """Zero points that differ; and a model that is not symmetric, whose zero points may all be equal."""
    rng = np.random.default_rng(24)
    numbers = random_numbers(rng, 8, 64, 32, zeros=(1, 15))
    for said, less in (("gptq", 1), ("gptq_v2", 0)):
        for sym in (False, True):
            parts, form = gptq(*numbers, 32, less=less), GPTQ | {"checkpoint_format": said, "sym": sym}
            assert one(tmp_path / f"{said}{sym}", parts, form, weights(*numbers, 32))[1] == []
    numbers = random_numbers(rng, 8, 64, 32, zeros=(7, 7))
    assert one(tmp_path / "seven", gptq(*numbers, 32, less=0), V2, weights(*numbers, 32))[1] == []


def test_zero_points_of_16(tmp_path):
    """Stored as 15 by the first version; programs differ about it, so a line tells."""
    q, z, s = random_numbers(np.random.default_rng(25), 8, 64, 32, zeros=(1, 15))
    z[3, 1] = z[5, 0] = 16
    _, remarks = one(tmp_path, gptq(q, z, s, 32), GPTQ, weights(q, z, s, 32))
    assert [line[:43] for line in remarks] == ["2 zero points are stored as 15 and are 16 w"]


# --- whole models ----------------------------------------------------------------------------------
MODELS = {
    "awq": (awq, AWQ, {}),
    "gptq": (gptq, GPTQ, {"zeros": (1, 16)}),
    "gptq_v2": (partial(gptq, less=0), V2, {}),
    "compressed": (compressed, packed(), {}),
}


@pytest.mark.parametrize("name", MODELS)
def test_models(tmp_path, name):
    """Matrices packed, the rest copied byte for byte, and a config.json that says nothing of it."""
    pack, said, options = MODELS[name]
    path, expected = write_model(tmp_path / "m", np.random.default_rng(26), pack, said, 32, **options)
    (path / "tokenizer.json").write_text("{}")
    if own := {"awq": "quant_config.json", "gptq": "quantize_config.json"}.get(said["quant_method"]):
        (path / own).write_text("{}")  # config.json comes before it
    source, _ = imported(path)
    assert len(check(source, expected)) == 7
    stored = TensorFile(path / "model.safetensors")
    assert set(source.other) == set(expected) - set(source.tensors)
    assert all(np.array_equal(t.data, stored.raw(n).data) for n, t in source.other.items())
    config = json.loads((path / "config.json").read_text())
    del config["quantization_config"]
    out = source.source.path
    assert json.loads((out / "config.json").read_text()) == config
    assert sorted(p.name for p in out.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m", "m-packed"]


def test_shards(tmp_path):
    """The tensors of a layer may be in several files; the index of the packed model is right."""
    path, expected = write_model(tmp_path / "m", np.random.default_rng(27), awq, AWQ, 32)
    stored = TensorFile(path / "model.safetensors").tensors
    files = {f"model-{i}.safetensors": {n: t for j, (n, t) in enumerate(stored.items()) if j % 2 == i} for i in (0, 1)}
    for file, some in files.items():
        write_tensors(path / file, some)
    (path / "model.safetensors").unlink()
    index = {"weight_map": {n: file for file, some in files.items() for n in some}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    source, _ = imported(path)
    assert len(check(source, expected)) == 7
    assert set(source.files) == set(files)
    assert set(source.other) == set(expected) - set(source.tensors)


def test_inputs_first(tmp_path):
    """A GPT-2's matrices count as transposed, since its checkpoints have the inputs first."""
    numbers = random_numbers(np.random.default_rng(28), 96, 32, 32)
    config = {"architectures": ["GPT2LMHeadModel"], "n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 8,
              "vocab_size": 16}  # fmt: skip
    name = "transformer.h.0.attn.c_attn"
    path = write_layers(tmp_path / "m", {name: gptq(*numbers, 32, less=0)}, V2, config=config)
    source, _ = imported(path)
    assert source.tensors[f"{name}.weight"].transposed
    assert np.array_equal(source.packed[f"{name}.weight"].array(), weights(*numbers, 32).T)


def test_biases_of_zeros(tmp_path):
    """What some programs add to every layer is left out where the architecture has none, and a line tells; others
    stay."""
    path, _ = write_model(tmp_path / "m", np.random.default_rng(29), awq, AWQ, 32)
    tensors = TensorFile(path / "model.safetensors").tensors
    zeros, ones = (f"model.layers.0.mlp.{name}_proj.bias" for name in ("up", "down"))
    tensors |= {zeros: RawTensor.from_array(np.zeros(160, "f2")), ones: RawTensor.from_array(np.ones(64, "f2"))}
    write_tensors(path / "model.safetensors", tensors)
    source, remarks = imported(path)
    assert remarks == ["left out: 1 biases of zeros that the architecture does not have"]
    assert zeros not in source.other
    assert ones in source.other


def test_files_of_older_programs(tmp_path):
    """Where config.json is silent, a file of the program's own says it, under its own words."""
    numbers = random_numbers(np.random.default_rng(30), 8, 64, 32, zeros=(1, 15))
    for file, said, parts in (
        ("quantize_config.json", {"bits": 4, "group_size": 32, "sym": False}, gptq(*numbers, 32)),
        ("quant_config.json", {"w_bit": 4, "q_group_size": 32, "zero_point": True, "version": "GEMM"},
         awq(*numbers, 32)),
    ):  # fmt: skip
        path = write_layers(tmp_path / file, {"a.b": parts}, None)
        (path / file).write_text(json.dumps(said))
        source, _ = imported(path)
        check(source, {"a.b.weight": weights(*numbers, 32)})
        assert not (source.source.path / file).exists()


# --- what is refused -------------------------------------------------------------------------------
def layer(pack, said: dict, **changes) -> tuple[dict, dict]:
    """A good layer and its configuration, with changes to its tensors (None: missing)."""
    q, z, s = random_numbers(np.random.default_rng(31), 8, 64, 32, zeros=(1, 15))
    parts = pack(q, z, s, 32) | changes
    return {name: part for name, part in parts.items() if part is not None}, said


def changed(said: dict, **weights_changes) -> dict:
    out = json.loads(json.dumps(said))
    out["config_groups"]["group_0"]["weights"] |= weights_changes
    return out


NAN = np.full((2, 8), np.nan, np.float16)
TINY = RawTensor.from_array(np.full((8, 2), 1 / 3 * 2.0**-20, np.float32), "BF16")
HUGE = RawTensor.from_array(np.full((8, 2), 2.0**16, np.float32), "BF16")
OTHER_ORDER = (np.arange(64, dtype=np.int32) // 32)[::-1].copy()
SHORT = np.zeros((3, 8), np.int32)
REFUSED = {
    "awq bits": (*layer(awq, AWQ | {"bits": 8}), "AWQ with 8 bits: expected 4"),
    "awq gemv": (*layer(awq, AWQ | {"version": "GEMV"}), "AWQ of version 'gemv'"),
    "awq zero": (*layer(awq, AWQ | {"zero_point": False}), "'zero_point' is False: expected true"),
    "awq group": (*layer(awq, AWQ | {"group_size": 0}), "'group_size' is 0: expected columns of a group, or -1"),
    "awq word": (*layer(awq, AWQ | {"group_size": "x"}), "'group_size' is 'x': expected an integer"),
    "awq small": (*layer(awq, AWQ | {"group_size": 16}), "'a.b.qzeros' is I32 [2, 1], expected I32 [4, 1]"),
    "awq scales": (*layer(awq, AWQ, scales=None), "tensor 'a.b.scales' is missing, expected F16 or BF16 or F32 [2, 8]"),
    "awq codes": (*layer(awq, AWQ, qweight=None), "tensor 'a.b.qweight' is missing: 'a.b.qzeros' is there"),
    "awq nan": (*layer(awq, AWQ, scales=NAN), "cannot be imported exactly: a.b: 16 of 16 scales are NaN or infinite"),
    "awq both": (*layer(awq, AWQ, weight=NAN), "'a.b.weight' is there beside 'a.b.qweight'"),
    "awq type": (*layer(awq, AWQ, qweight=np.zeros((64, 1), "f2")), "'a.b.qweight' is F16 [64, 1], expected I32 of 2"),
    "gptq bits": (*layer(gptq, GPTQ | {"bits": 3}), "GPTQ with 3 bits: expected 4 or 8"),
    "gptq form": (*layer(gptq, GPTQ | {"checkpoint_format": "marlin"}), "checkpoint format 'marlin', whose words"),
    "gptq own": (*layer(gptq, GPTQ | {"dynamic": {"-:x": {}, "+:y": {"bits": 8}}}), "that match '+:y'"),
    "gptq order": (*layer(gptq, GPTQ, g_idx=OTHER_ORDER), "a.b: its columns are in the groups in another order"),
    "gptq rows": (*layer(gptq, GPTQ, qzeros=SHORT), "'a.b.qzeros' is I32 [3, 8], expected I32 [2, 1]"),
    "gptq g_idx": (*layer(gptq, GPTQ, g_idx=SHORT), "'a.b.g_idx' is I32 [3, 8], expected I32 [64]"),
    "packed tiny": (*layer(compressed, packed(), weight_scale=TINY), "a.b: 16 of 16 scales have no exact binary16"),
    "packed huge": (*layer(compressed, packed(), weight_scale=HUGE), "a.b: 16 of 16 scales have no exact binary16"),
    "packed form": (*layer(compressed, packed(format="float-quantized")), "format 'float-quantized' of group_0"),
    "packed cache": (*layer(compressed, packed(kv_cache_scheme={"num_bits": 8})), "'kv_cache_scheme' is set"),
    "packed sparse": (*layer(compressed, packed(sparsity_config={"format": "marlin-24"})), "format 'marlin-24'"),
    "packed none": (*layer(compressed, packed(config_groups={})), "'config_groups' is not there"),
    "packed bits": (*layer(compressed, changed(packed(), num_bits=3)), "are 3 bits of type 'int': expected 4 or 8"),
    "packed float": (*layer(compressed, changed(packed(), type="float")), "are 4 bits of type 'float'"),
    "packed tensor": (*layer(compressed, changed(packed(), strategy="tensor")), "strategy 'tensor' of group_0"),
    "packed other": (*layer(compressed, packed(8)), "a.b: weight_shape [8, 64], weight_packed [8, 8], weight_scale"),
    "packed told": (*layer(compressed, packed(8)), "with zero points fit none of 8 bits, a scale for 32 columns, zero"),
    "packed shape": (*layer(compressed, packed(), weight_shape=np.array([9, 64])), "a.b: weight_shape [9, 64]"),
    "packed order": (*layer(compressed, packed(), weight_g_idx=OTHER_ORDER), "(weight_g_idx, actorder)"),
    "another": (*layer(awq, {"quant_method": "fp8"}), "quantised by fp8, which is not expressed exactly: expected AWQ"),
    "unnamed": (*layer(awq, {"bits": 4}), "quantised by an unnamed method"),
    "no layers": ({"weight": NAN}, AWQ, "says awq, but no tensor is called 'qweight'"),
    "nothing": ({"weight": NAN}, None, "nothing says that it is quantised: expected AWQ"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(tmp_path, case):
    """In one line, before anything is written."""
    parts, said, line = REFUSED[case]
    path = write_layers(tmp_path / "m", {"a.b": parts}, said)
    with pytest.raises(SeedLMError) as error:
        open_quantised(path)
    assert line in str(error.value)
    assert str(path) in str(error.value)


def test_refused_all_at_once(tmp_path):
    """Every tensor that cannot be expressed, by reason."""
    parts = {name: layer(gptq, GPTQ, g_idx=OTHER_ORDER)[0] for name in "abcdef"}
    parts["x"] = layer(gptq, GPTQ, scales=NAN)[0]
    path = write_layers(tmp_path / "m", parts | {"good": layer(gptq, GPTQ)[0]}, GPTQ)
    with pytest.raises(SeedLMError, match=r"exactly: a, b, c, d and 2 more: its columns .*; x: 16 of 16 scales"):
        open_quantised(path)


def test_small_groups_and_zero_points_of_bytes(tmp_path):
    numbers = random_numbers(np.random.default_rng(32), 8, 64, 16)
    path = write_layers(tmp_path / "16", {"a": awq(*numbers, 16)}, AWQ | {"group_size": 16})
    with pytest.raises(SeedLMError, match="a: groups of 16 columns: expected a multiple of 32"):
        open_quantised(path)
    numbers = random_numbers(np.random.default_rng(32), 8, 64, 32, bits=8, zeros=(100, 140))
    path = write_layers(tmp_path / "8", {"a": gptq(*numbers, 32, bits=8)}, GPTQ | {"bits": 8})
    with pytest.raises(SeedLMError, match="a: 8 bits less zero points other than 128"):
        open_quantised(path)


def test_damaged_files(tmp_path):
    """What is cut off is found, and nothing is left of an output that could not be finished."""
    path, _ = write_model(tmp_path / "m", np.random.default_rng(33), awq, AWQ, 32)
    whole = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(whole[:-10])
    with pytest.raises(SeedLMError, match="not a complete safetensors file"):
        open_quantised(path)
    (path / "config.json").write_text('{"quantization_config": [1]}')
    with pytest.raises(SeedLMError, match="is not an object"):
        open_quantised(path)
    (path / "config.json").write_text("{")
    with pytest.raises(SeedLMError, match="not JSON"):
        open_quantised(path)
    shutil.rmtree(path)
    with pytest.raises(SeedLMError, match="no such file or directory"):
        open_quantised(path)


def test_interrupted(tmp_path):
    """In the middle of the second matrix: nothing is left."""
    path, _ = write_model(tmp_path / "m", np.random.default_rng(34), awq, AWQ, 32)
    done = []

    def advance(weights: int) -> None:
        done.append(weights)
        if len(done) == 2:
            raise KeyboardInterrupt

    for output in (tmp_path / "out", tmp_path / "m" / "inside"):
        done.clear()
        with pytest.raises(KeyboardInterrupt):
            write_quantised(open_quantised(path), output, advance)
    assert [p.name for p in tmp_path.iterdir()] == ["m"]
    assert sorted(p.name for p in path.iterdir()) == ["config.json", "model.safetensors"]


def test_names_of_forms():
    """They are what messages say is expected."""
    assert len({form.name for form in FORMS}) == len(FORMS) == 4
