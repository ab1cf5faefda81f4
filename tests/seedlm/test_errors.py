"""What a user can do wrong: one line that says what, where and what was expected, and nothing half-written."""

from __future__ import annotations

import json
import os
import pty
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from seedlm.cli import _VERBS
from seedlm.golden.files.tensors import TensorFile, write_tensors
from tests.seedlm.conftest import QUICK, command, environment, write_safetensors

MAIN = "from seedlm.cli import main; sys.exit(main())"


def rewrite(source: Path, target: Path, *, metadata: dict | None = None, drop: str = "", change=None) -> Path:
    """A packed file with other metadata, without a tensor, or with changed tensors."""
    file = TensorFile(source)
    tensors = {name: tensor for name, tensor in file.tensors.items() if name != drop}
    if change:
        change(tensors)
    write_tensors(target, tensors, file.metadata | (metadata or {}))
    return target


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def damaged(packed, source, tmp_path):
    """Broken input files by the kind of damage, in a folder of their own."""
    folder = tmp_path / "inputs"
    folder.mkdir()

    def make(kind: str) -> Path:
        path = folder / f"{kind}.safetensors"
        whole = packed.read_bytes()
        if kind == "text":
            path.write_text("this is not a tensor\n" * 40)
        elif kind == "empty":
            path.write_bytes(b"")
        elif kind == "missing":
            pass
        elif kind == "header cut":
            path.write_bytes(whole[:100])
        elif kind == "data cut":
            path.write_bytes(whole[:-1])
        elif kind == "version 2":
            rewrite(packed, path, metadata={"version": "2"})
        elif kind == "other format":
            rewrite(packed, path, metadata={"format": "pt"})
        elif kind == "not packed":
            path.write_bytes(source.read_bytes())
        elif kind == "blocks gone":
            rewrite(packed, path, drop="single.weight.blocks")
        elif kind == "seed 0":

            def zero_seed(tensors: dict) -> None:
                blocks = tensors["single.weight.blocks"]
                data = np.array(blocks.data)
                data[0], data[1] = 0, 0x10  # the seed's 8 bits; a coefficient
                tensors["single.weight.blocks"] = type(blocks)(blocks.dtype, blocks.shape, data)

            rewrite(packed, path, change=zero_seed)
        return path

    return make


PACKED_DAMAGE = {
    "text": "not a complete safetensors file",
    "empty": "not a complete safetensors file",
    "missing": "cannot read",
    "header cut": "not a complete safetensors file",
    "data cut": "not a complete safetensors file",
    "version 2": "unknown version: '2', expected '1'",
    "other format": "not a SeedLM packed file",
    "not packed": "not a SeedLM packed file",
    "blocks gone": "'single.weight.blocks' is missing",
    "seed 0": "seed 0",
}


@pytest.mark.parametrize(("kind", "message"), PACKED_DAMAGE.items())
@pytest.mark.parametrize("verb", ["info", "decompress", "reference"])
def test_damaged_packed_files(seedlm, damaged, tmp_path, verb, kind, message):
    path = damaged(kind)
    np.save(tmp_path / "x.npy", np.ones(19, np.float16))
    before = everything(tmp_path)
    arguments = {
        "info": [],
        "decompress": [tmp_path / "out"],
        "reference": ["--tensor", "single.weight", "--x", tmp_path / "x.npy", "--out", tmp_path / "out"],
    }[verb]
    complaint = seedlm(verb, path, *arguments).complaint()
    assert complaint.startswith(str(path))
    assert message in complaint
    assert everything(tmp_path) == before


@pytest.mark.parametrize("kind", ["text", "empty", "missing", "header cut", "data cut"])
def test_compress_of_damaged_files(seedlm, damaged, tmp_path, kind):
    path = damaged(kind)
    before = everything(tmp_path)
    complaint = seedlm("compress", path, tmp_path / "out").complaint()
    assert complaint.startswith(str(path))
    assert PACKED_DAMAGE[kind] in complaint
    assert everything(tmp_path) == before


def test_compress_of_a_packed_file(seedlm, packed, tmp_path):
    assert "packed file already" in seedlm("compress", packed, tmp_path / "out").complaint()
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("verb", ["compress", "info", "decompress"])
def test_quantised_models(seedlm, tmp_path, verb):
    """Their scales are no weights to compress; and `info` says what the file is."""
    scales = {"a.weight_scale_inv": ("F32", np.ones((2, 8), np.float32))}
    write_safetensors(tmp_path / "in", scales, {"format": "pt"})
    complaint = seedlm(verb, tmp_path / "in", *([] if verb == "info" else [tmp_path / "out"])).complaint()
    assert complaint.startswith(f"{tmp_path / 'in'}: quantised already by FP8 (tensor 'a.weight_scale_inv'): expected")
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_compress_of_weights_that_are_not_finite(seedlm, tmp_path):
    w = np.ones((4, 8), np.float32)
    w[2, 3] = np.inf
    write_safetensors(tmp_path / "in", {"w": ("F32", w)})
    complaint = seedlm("compress", tmp_path / "in", tmp_path / "out", "--codec", QUICK).complaint()
    assert "row 2, column 3" in complaint
    assert "'w'" in complaint
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [(["--include", "nope*"], "'nope*' matches no"), (["--exclude", "*"], "nothing to compress")],
)
def test_nothing_to_compress(seedlm, source, tmp_path, flags, message):
    assert message in seedlm("compress", source, tmp_path / "out", *flags).complaint()
    assert not any(tmp_path.iterdir())


def test_no_matrix_in_the_file(seedlm, tmp_path):
    write_safetensors(tmp_path / "in", {"v": ("F32", np.ones(8, np.float32))})
    assert "no 2-D tensor" in seedlm("compress", tmp_path / "in", tmp_path / "out").complaint()


def test_missing_tensor(seedlm, packed, tmp_path):
    np.save(tmp_path / "x.npy", np.ones(19, np.float16))
    complaint = seedlm(
        "reference", packed, "--tensor", "nope", "--x", tmp_path / "x.npy", "--out", tmp_path / "y.npy"
    ).complaint()
    assert "'nope'" in complaint
    assert "half.weight" in complaint, "names what there is"
    assert not (tmp_path / "y.npy").exists()


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.ones(18, np.float16), "19 elements"),
        (np.ones(20, np.float16), "19 elements"),
        (np.ones((19, 1), np.float16), "19 elements"),
        (np.ones(19, np.float32), "expected float16, found float32"),
        (np.ones(19, np.int16), "expected float16, found int16"),
        (None, "not a complete .npy file"),
    ],
)
def test_wrong_x(seedlm, packed, tmp_path, x, message):
    path = tmp_path / "x.npy"
    if x is None:
        path.write_text("1 2 3")
    else:
        np.save(path, x)
    complaint = seedlm(
        "reference", packed, "--tensor", "single.weight", "--x", path, "--out", tmp_path / "y.npy"
    ).complaint()
    assert complaint.startswith(str(path))
    assert message in complaint
    assert [p.name for p in tmp_path.iterdir()] == ["x.npy"]


def test_scale_too_large_for_binary32(seedlm, packed, tmp_path):
    np.save(tmp_path / "x.npy", np.ones(19, np.float16))
    complaint = seedlm(
        "reference", packed, "--tensor", "single.weight", "--x", tmp_path / "x.npy", "--out", tmp_path / "y.npy",
        "--scale", "1e39",
    ).complaint()  # fmt: skip
    assert "finite binary32" in complaint


@pytest.mark.parametrize("place", ["missing folder", "folder", "below a file", "forbidden"])
@pytest.mark.parametrize("verb", ["compress", "decompress", "reference"])
def test_output_that_cannot_be_written(seedlm, source, packed, tmp_path, verb, place):
    np.save(tmp_path / "x.npy", np.ones(19, np.float16))
    (tmp_path / "folder").mkdir()
    if place == "forbidden":
        if os.geteuid() == 0:
            pytest.skip("root may write everywhere")
        (tmp_path / "folder").chmod(0o500)
    output = tmp_path / {
        "missing folder": "nowhere/out",
        "folder": "folder",
        "below a file": "x.npy/out",
        "forbidden": "folder/out",
    }[place]  # fmt: skip
    before = everything(tmp_path)
    arguments = {
        "compress": [source, output, "--codec", QUICK],
        "decompress": [packed, output],
        "reference": [packed, "--tensor", "single.weight", "--x", tmp_path / "x.npy", "--out", output],
    }[verb]
    complaint = seedlm(verb, *arguments).complaint()
    assert complaint.startswith(f"{output}: cannot write")
    assert everything(tmp_path) == before


def test_output_is_tried_before_the_work(source, tmp_path):
    """Minutes of compression must not be lost to a wrong path."""
    write_safetensors(tmp_path / "in", {"w": ("F16", np.ones((2048, 2048), np.float16))})
    ran = subprocess.run(
        command("compress", tmp_path / "in", tmp_path / "nowhere" / "out"),
        capture_output=True, text=True, env=environment(), timeout=30,
    )  # fmt: skip
    assert ran.returncode == 1
    assert "cannot write" in ran.stderr


@pytest.mark.parametrize("verb", ["compress", "decompress", "reference"])
def test_disk_that_fills_up(source, packed, tmp_path, verb):
    """A write that fails in the middle (here: at a limit of the file size) leaves the older output and nothing else."""
    folder = tmp_path / "outputs"
    folder.mkdir()
    output = folder / "out"
    output.write_text("older")
    np.save(tmp_path / "x.npy", np.ones(19, np.float16))
    arguments = {
        "compress": [source, output, "--codec", QUICK],
        "decompress": [packed, output],
        "reference": [packed, "--tensor", "single.weight", "--x", tmp_path / "x.npy", "--out", output],
    }[verb]
    limited = f"import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)); {MAIN}"
    ran = subprocess.run(
        [sys.executable, "-B", "-c", limited, verb, *map(str, arguments)],
        capture_output=True, text=True, env=environment(), timeout=60,
    )  # fmt: skip
    assert ran.returncode == 1, ran.stderr
    assert ran.stderr.startswith(f"seedlm: error: {output}: cannot write")
    assert ran.stderr.count("\n") == 1
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"out": "older"}


def test_weights_too_large_for_the_chosen_dtype(seedlm, tmp_path):
    write_safetensors(tmp_path / "in", {"w": ("F32", np.full((2, 8), 1e6, np.float32))})
    seedlm("compress", tmp_path / "in", tmp_path / "packed", "--codec", QUICK, "--json").report()
    complaint = seedlm("decompress", tmp_path / "packed", tmp_path / "out", "--dtype", "f16").complaint()
    assert "too large for F16" in complaint
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("verb", ["compress", "decompress"])
def test_output_that_is_the_input(seedlm, source, packed, verb):
    path = {"compress": source, "decompress": packed}[verb]
    before = path.read_bytes()
    assert "is the input" in seedlm(verb, path, path).complaint()
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: VERB"),
        (["squeeze"], "'squeeze'"),
        (["info"], "FILE"),
        (["compress", "a", "b", "--codec", "zip"], "unknown codec 'zip'"),
        (["compress", "a", "b", "--codec", "c8p3k99b4"], "register length K"),
        (["compress", "a", "b", "--encoder", "magic"], "'magic'"),
        (["compress", "a", "b", "--exp-bias", "1.5"], "auto or an integer"),
        (["decompress", "a", "b", "--dtype", "I8"], "expected F32, F16, BF16, original"),
        (["reference", "a", "--tensor", "t", "--x", "x", "--out", "y", "--scale", "nan"], "finite number"),
        (["verilog", "--out", "d", "--lanes", "0"], "positive integer"),
        (["sim", "a"], "--tensor"),
        (["sim", "a", "--tensor", "t", "--memory", "sram"], "'sram'"),
        (["info", "a", "--jsn"], "--jsn"),
    ],
)
def test_wrong_usage(seedlm, arguments, message):
    complaint = seedlm(*arguments).complaint(code=2)
    assert message in complaint
    assert "--help)" in complaint


def test_errors_with_json_are_json(seedlm, tmp_path):
    ran = seedlm("info", tmp_path / "nope", "--json")
    assert ran.code == 1
    report = json.loads(ran.out)
    assert report["status"] == "error"
    assert ran.err == f"seedlm: error: {report['error']}\n"


def test_debugging_shows_the_traceback(seedlm, tmp_path):
    ran = seedlm("info", tmp_path / "nope", SEEDLM_DEBUG="1")
    assert ran.code == 1
    assert "Traceback" in ran.err


def shell(redirection: str, *arguments: object, unbuffered: str = "") -> tuple[int, str, str]:
    """Exit code and both outputs of the command, started by a shell that redirects them."""
    line = f"exec {shlex.join(command(*arguments))} {redirection}"
    variables = environment(PYTHONUNBUFFERED=unbuffered)
    ran = subprocess.run(["sh", "-c", line], capture_output=True, text=True, env=variables, timeout=120)
    return ran.returncode, ran.stdout, ran.stderr


CANNOT = {">/dev/full": "No space left on device", ">&-": "Bad file descriptor"}
needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")


@needs_full
@pytest.mark.parametrize("verb", [module.NAME for module in _VERBS])
def test_help_that_cannot_be_written(verb):
    """The interpreter itself would find it at its very end, and say so in five lines."""
    said = f"seedlm: error: standard output: cannot write: {CANNOT['>/dev/full']}\n"
    assert shell(">/dev/full", verb, "--help") == (1, "", said)


@pytest.fixture
def cheap(source, packed, tmp_path):
    """For the verbs that end soon: arguments, and the file they write."""
    np.save(tmp_path / "x.npy", np.ones(19, np.float16))
    model, out = Path(__file__).parents[2] / "models" / "tiny-python", tmp_path / "out"
    return {
        "compress": (source, out, "--codec", QUICK),
        "info": (packed,),
        "decompress": (packed, out),
        "reference": (packed, "--tensor", "single.weight", "--x", tmp_path / "x.npy", "--out", out),
        "image": (packed, "--tensor", "half.weight", "--out", out),
        "registers": (),
        "run": (model, "--prompt", "def ", "--tokens", "2", "--engine", "float32"),
    }


CHEAP = ["compress", "info", "decompress", "reference", "image", "registers", "run"]


@needs_full
@pytest.mark.parametrize(
    ("redirection", "flags", "unbuffered"),
    [(">/dev/full", [], ""), (">/dev/full", ["--json"], "1"), (">&-", ["--json"], ""), (">&-", [], "1")],
)
@pytest.mark.parametrize("verb", CHEAP)
def test_reports_that_cannot_be_written(cheap, tmp_path, verb, redirection, flags, unbuffered):
    """The work was done, but nobody can know: one line and exit code 1. Buffered text fails at the very end only."""
    said = f"seedlm: error: standard output: cannot write: {CANNOT[redirection]}\n"
    assert shell(redirection, verb, *cheap[verb], *flags, unbuffered=unbuffered) == (1, "", said)
    assert not [p.name for p in tmp_path.iterdir() if p.name.startswith(".")]


@needs_full
@pytest.mark.parametrize("verb", CHEAP)
@pytest.mark.parametrize("redirection", ["<&- 2>&-", "2>/dev/full"])
def test_nothing_to_say_on_standard_error(cheap, verb, redirection):
    """Then it does not matter that nothing could be said there; nor does it that nothing can be read."""
    code, out, err = shell(redirection, verb, *cheap[verb], "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["status"] == "ok"


@needs_full
@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", ">&- 2>&-", ">/dev/full 2>/dev/full"])
def test_errors_that_cannot_be_told(tmp_path, redirection):
    """The exit code tells them still; and an error does not end where reports are expected."""
    for arguments, expected in ((["info", tmp_path / "nope"], 1), (["info", "--nope"], 2)):
        assert shell(redirection, *arguments) == (expected, "", "")
    code, out, err = shell(redirection, "info", tmp_path / "nope", "--json")
    assert (code, err) == (1, "")
    if ">" not in redirection.removeprefix("2>"):  # standard output is there
        assert json.loads(out)["status"] == "error"


@needs_full
@pytest.mark.parametrize("redirection", CANNOT)
def test_one_line_if_two_things_are_wrong(tmp_path, redirection):
    said = f"seedlm: error: {tmp_path / 'nope'}: cannot read: No such file or directory\n"
    for flags in ([], ["--json"]):
        assert shell(redirection, "info", tmp_path / "nope", *flags) == (1, "", said)


def test_what_is_printed_does_not_end_in_an_output_file(source, packed, tmp_path):
    """With standard output closed its number is free, and the first file that is opened would get it."""
    code, _, _ = shell(">&-", "decompress", packed, tmp_path / "out")
    assert code == 1
    assert set(TensorFile(tmp_path / "out").tensors) == set(TensorFile(source).tensors)


def test_output_to_a_closed_pipe_is_no_error(packed):
    reader, writer = os.pipe()
    os.close(reader)
    ran = subprocess.run(
        command("info", packed), stdout=writer, stderr=subprocess.PIPE, env=environment(), text=True, timeout=60
    )
    os.close(writer)
    assert ran.stderr == ""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_compression(tmp_path, number, code):
    """Interrupted in the middle of the search, with a bar on the terminal: an older output stays as it was."""
    rng = np.random.default_rng(1)
    weights = rng.standard_normal((2048, 2048)).astype(np.float16)  # minutes of work
    write_safetensors(tmp_path / "in", {"w": ("F16", weights)})
    (tmp_path / "out").write_text("older")
    terminal, side = pty.openpty()
    process = subprocess.Popen(
        command("compress", tmp_path / "in", tmp_path / "out"), stdout=subprocess.PIPE, stderr=side, env=environment()
    )
    os.close(side)
    seen = b""
    try:
        while b"compressing" not in seen:
            piece = os.read(terminal, 4096)
            assert piece, seen
            seen += piece
        process.send_signal(number)
        out = process.communicate(timeout=30)[0]
        try:
            while piece := os.read(terminal, 4096):
                seen += piece
        except OSError:
            pass  # Linux reports the closed other side as an error
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
    assert process.returncode == code
    assert out == b""
    assert b"Traceback" not in seen
    if number == signal.SIGINT:
        assert seen.count(b"seedlm: interrupted") == 1
    # finished units may wait for the same command; nothing else is left
    rest = {p.name for p in tmp_path.iterdir()} - {"in", "out"}
    assert all(name.startswith("out.work-") for name in rest)
    assert (tmp_path / "out").read_text() == "older"
