"""seedlm run as a user types it, and the cache of packed models."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from seedlm.console import warn
from seedlm.encoder.packed_model import FILE, open_packed
from seedlm.encoder.plan import Options
from seedlm.generate import Generated, generate
from seedlm.golden.build import Config
from seedlm.golden.codecs import codec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.packed import PackedFile, stored_layout
from seedlm.golden.files.sources import open_packed_source
from seedlm.golden.files.tensors import RawTensor, TensorFile, write_tensors
from seedlm.host.checkpoint import Checkpoint
from seedlm.host.engines import ReferenceEngine
from seedlm.host.models import language_model
from seedlm.host.models._decoder import Decoder
from seedlm.host.sampling import Sampler
from tests.host.tiny_llama import BUNDLED, VARIANTS, write_model
from tests.seedlm.conftest import QUICK, command, environment


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    print("seed 12")
    write_model(folder, np.random.default_rng(12), shards=2, eos_token_id=None)
    return folder


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("SEEDLM_CACHE", str(folder))
    return folder


def packed_files(cache: Path) -> list[Path]:
    return sorted(cache.glob(f"packed/*/{FILE}"))


def test_text_and_report(seedlm, model, cache):
    """The text, as text and in the report; the tokens are those of the model's own logits."""
    arguments = ("run", model, "--prompt", "a = ", "--tokens", 7, "--codec", QUICK)
    report = seedlm(*arguments, "--json").report()
    assert report["status"] == "ok"
    assert (report["codec"], report["engine"], report["stopped"]) == (QUICK, "reference", "tokens")
    assert (report["prompt_tokens"], len(report["tokens"])) == (5, 7)
    ran = seedlm(*arguments)
    assert ran.code == 0, ran
    assert ran.err == ""
    text, _, rest = ran.out.partition(f"\n\n{QUICK}, reference: 7 tokens in ")
    assert rest, ran
    assert text.rstrip("\n") == ("a = " + report["text"]).rstrip("\n")

    checkpoint = Checkpoint(model)
    packed = PackedFile(*packed_files(cache))
    engine = ReferenceEngine(packed.matrix)
    tokens = list(b"\0a = ")
    for _ in range(7):  # without a cache of keys and values: every token anew
        tokens.append(int(language_model(checkpoint, engine).logits(tokens)[-1].argmax()))
    assert tokens[5:] == report["tokens"]


def test_streams(model, cache):
    """The text comes while the model writes: the first characters are there before the last token is."""
    environment_ = environment(SEEDLM_CACHE=str(cache), PYTHONUNBUFFERED="")
    words = command("run", BUNDLED, "--prompt", "import ", "--tokens", 200, "--engine", "float32")
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=environment_) as process:
        chunks = []
        while chunk := os.read(process.stdout.fileno(), 65536):
            chunks.append(chunk)
    assert process.returncode == 0
    assert chunks[0].startswith(b"import ")
    assert len(chunks) > 10


def test_interrupted_while_it_writes(cache):
    """Ctrl-C ends it with one line; what was written ends with a whole line."""
    environment_ = environment(SEEDLM_CACHE=str(cache))
    words = command("run", BUNDLED, "--prompt", "import ", "--tokens", 240, "--codec", "fp16")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(words, env=environment_, **pipes) as process:
        first = os.read(process.stdout.fileno(), 65536)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.decode() == "seedlm: interrupted; no output was left half-written\n"
    assert (first + out).startswith(b"import ")
    assert (first + out).endswith(b"\n")
    assert len(first + out) < 240
    assert not packed_files(cache)


def test_engines_and_codecs_differ(seedlm, model, cache):
    """The original, FP16 and a coarse codec are different models; the same seed gives the same text."""
    options = ("--prompt", "x", "--tokens", 24, "--temperature", 1, "--json")
    original = seedlm("run", model, "--engine", "float32", *options).report()
    assert original["codec"] is None
    assert original["encoder"] is None
    again = seedlm("run", model, "--engine", "float32", *options).report()
    assert again["tokens"] == original["tokens"]
    other = seedlm("run", model, "--engine", "float32", *options, "--seed", 1).report()
    assert other["tokens"] != original["tokens"]
    coarse = seedlm("run", model, "--codec", "c8p1k8b4", *options).report()
    assert coarse["tokens"] != original["tokens"]
    assert not packed_files(cache)[1:]
    half = seedlm("run", model, "--codec", "fp16", *options).report()
    assert half["encoder"] is None
    assert len(packed_files(cache)) == 1  # binary16 needs none


@pytest.mark.parametrize("codecs", [("c3p1k5b1", "*v_proj*=int8"), ("mxfp8e5m2", "*v_proj*=fp16")], ids=str)
def test_codecs_that_no_build_has_together(seedlm, model, cache, codecs):
    """The reference needs no build: every codec then has the activation groups that are its own."""
    options = ("--codec", codecs[0], "--set", codecs[1], "--prompt", "x", "--tokens", 3, "--json")
    report = seedlm("run", model, *options).report()
    assert len(report["tokens"]) == 3
    with pytest.raises(SeedLMError):
        Config(codec=codec(codecs[0]), more=(codec(codecs[1].partition("=")[2]),))


def test_ends(seedlm, tmp_path, cache):
    """Texts end where the model ends them, and where its context does."""
    rng = np.random.default_rng(12)
    write_model(tmp_path / "m", rng, eos_token_id=None, max_position_embeddings=20)
    options = ("--engine", "float32", "--prompt", "abc", "--json")
    whole = seedlm("run", tmp_path / "m", *options, "--tokens", 50).report()
    assert whole["stopped"] == "context"
    assert len(whole["tokens"]) == 20 - 4 + 1  # the last one is only predicted
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    last = whole["tokens"][5]
    (tmp_path / "m" / "config.json").write_text(json.dumps(config | {"eos_token_id": [last]}))
    ended = seedlm("run", tmp_path / "m", *options, "--tokens", 50).report()
    assert ended["stopped"] == "end"
    assert ended["tokens"] == whole["tokens"][: whole["tokens"].index(last)]
    assert "room for 20" in seedlm("run", tmp_path / "m", "--prompt", "a" * 20).complaint()
    (tmp_path / "m" / "config.json").write_text(json.dumps(config | {"bos_token_id": None}))
    assert "--prompt must not be empty" in seedlm("run", tmp_path / "m", "--engine", "float32").complaint()


def test_complaints(seedlm, model, tmp_path, cache):
    assert "no such directory" in seedlm("run", tmp_path / "none").complaint()
    assert "expected a number of 0 or more" in seedlm("run", model, "--temperature", "hot").complaint(2)
    assert "expected a positive integer" in seedlm("run", model, "--tokens", 0).complaint(2)
    assert "expected an integer of 0 or more" in seedlm("run", model, "--seed", -1).complaint(2)
    assert seedlm("run", model, "--prompt", "\udcff").complaint() == "--prompt is not UTF-8"
    assert "--engine" in seedlm("run", model, "--engine", "gpu").complaint(2)
    shutil.copytree(model, tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    (tmp_path / "m" / "config.json").write_text(json.dumps(config | {"architectures": ["FalconForCausalLM"]}))
    line = seedlm("run", tmp_path / "m").complaint()
    assert "config.json: unsupported architecture FalconForCausalLM: expected one of BloomForCausalLM, " in line
    (tmp_path / "m" / "config.json").write_text("{}")
    line = seedlm("run", tmp_path / "m").complaint()
    assert "config.json: no architecture: expected one of BloomForCausalLM, " in line


# --- the cache of packed models --------------------------------------------------------------------------


def opened(model: Path, name: str = QUICK, search: str = "paper"):
    return open_packed(Checkpoint(model).linear, str(model), Options(codec=codec(name), encoder=search), warn=warn)


def change_weight(folder: Path, value: float) -> None:
    """Set the last weight of one matrix."""
    path, name = folder / "model.safetensors", "model.layers.1.mlp.up_proj.weight"
    tensors = dict(TensorFile(path).tensors)
    weights = tensors[name].array().copy()
    weights[-1, -1] = value
    write_tensors(path, tensors | {name: RawTensor.from_array(weights)})


def words(packed) -> dict[str, bytes]:
    return {name: packed[name].words.tobytes() for name in packed}


def test_once(model, cache, monkeypatch):
    first = opened(model)
    assert len(first) == 15
    assert first.weights == sum(t.shape[0] * t.shape[1] for t in Checkpoint(model).linear.values())
    monkeypatch.setattr("seedlm.encoder.packed_model.encode", None)  # not compressed again
    assert words(opened(model)) == words(first)
    assert packed_files(cache) == [first.path]


def test_by_content(model, cache, tmp_path):
    """Another folder or other shards with the same weights: the same file. Other weights, codec, encoder: another."""
    first = opened(model)
    shutil.copytree(model, tmp_path / "copy")
    assert opened(tmp_path / "copy").path == first.path
    write_model(tmp_path / "whole", np.random.default_rng(12), shards=1)
    assert opened(tmp_path / "whole").path == first.path
    paths = {first.path, opened(model, "c8p3k8b3").path, opened(model, QUICK, "optimal").path}
    change_weight(tmp_path / "whole", 0.125)
    paths.add(opened(tmp_path / "whole").path)
    assert len(paths) == 4


DAMAGES = {
    "a bit": lambda path: path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 4])),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "empty": lambda path: path.write_bytes(b""),
    "gone": lambda path: path.unlink(),
    "no checksum": lambda path: (path.parent / "packed.sha256").unlink(),
    "other checksum": lambda path: (path.parent / "packed.sha256").write_bytes(b"\xff" * 64),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged(model, cache, capfd, damage):
    """Found out and made again, with one line that says so."""
    good = words(first := opened(model))
    content = first.path.read_bytes()
    DAMAGES[damage](first.path)
    again = opened(model)
    assert words(again) == good
    assert again.path == first.path
    assert first.path.read_bytes() == content
    (line,) = capfd.readouterr().err.splitlines()
    assert line.endswith("damaged; compressing again")
    opened(model)
    assert capfd.readouterr().err == ""
    assert sorted(p.name for p in cache.glob("packed/.*")) == []


def test_interrupted(model, cache, monkeypatch):
    """What was finished is taken up by the next run; the file is the same, and nothing else stays."""
    from seedlm.encoder import packed_model

    real, done = packed_model.encode, []

    def stop(pieces, work, **options):
        done.append(len(pieces))
        real(pieces[:4], work, **options)
        if len(done) == 1:
            raise KeyboardInterrupt
        real(pieces[4:], work, **options)

    monkeypatch.setattr(packed_model, "encode", stop)
    with pytest.raises(KeyboardInterrupt):
        opened(model)
    assert len(list(cache.glob("packed/*.work-*/*.unit"))) == 4
    path = opened(model).path
    assert done == [15, 11]
    assert list(cache.glob("packed/*")) == [path.parent]
    content = path.read_bytes()
    shutil.rmtree(cache)
    assert opened(model).path.read_bytes() == content


@pytest.mark.parametrize("part", ["encoder", "golden"])
def test_another_program_compresses_anew(model, cache, monkeypatch, tmp_path, part):
    """A change in the sources of the encoder or of the reference misses the cache."""
    from seedlm import encoder, golden
    from seedlm.encoder import units

    first = opened(model)
    assert opened(model).path == first.path
    folder = {"encoder": encoder, "golden": golden}[part]
    changed = tmp_path / part
    shutil.copytree(folder.__path__[0], changed, ignore=shutil.ignore_patterns("__pycache__"))
    (changed / "errors.py").write_text("# changed\n")
    monkeypatch.setattr(folder, "__path__", [str(changed)])
    units.code_digest.cache_clear()
    try:
        assert opened(model).path != first.path
    finally:
        monkeypatch.undo()
        units.code_digest.cache_clear()


# --- one compressor -------------------------------------------------------------------------------------


def test_run_has_the_bytes_of_compress(seedlm, model, cache, tmp_path):
    """The packed file of ``seedlm run`` and the output of ``seedlm compress``: tensor by tensor the same bytes."""
    codecs = ("--codec", QUICK, "--set", "*v_proj*=int8", "--set", "model.layers.1.*=fp16")
    seedlm("run", model, "--tokens", 1, *codecs, "--json").report()
    seedlm("compress", model, tmp_path / "packed", *codecs, "--json").report()
    mine = PackedFile(*packed_files(cache))
    theirs = open_packed_source(tmp_path / "packed")
    assert {info.codec.name for info in mine.tensors.values()} == {QUICK, "int8", "fp16"}
    assert len(mine.tensors) == 15
    for name, info in mine.tensors.items():
        assert theirs.tensors[name] == info
        file = next(f for f in theirs.files.values() if name in f.tensors)
        for part, _, _ in stored_layout(name, info):
            assert bytes(mine.raw(part).data) == bytes(file.raw(part).data)


@pytest.mark.parametrize("form", ["folder", "file"])
def test_packed_models_run(seedlm, tmp_path, cache, form):
    """As they are: nothing is compressed; the text is that of the stored weights, the embedding's too."""
    write_model(tmp_path / "m", np.random.default_rng(3), eos_token_id=None)
    out = tmp_path / "packed"
    codecs = ("--codec", QUICK, "--set", "*embed*=int8", "--exclude", "*q_proj*")
    seedlm("compress", tmp_path / "m", out, *codecs, "--json").report()
    path = out if form == "folder" else out / "model.safetensors"
    report = seedlm("run", path, "--prompt", "x = ", "--tokens", 5, "--json").report()
    assert not packed_files(cache)
    assert report["codec"] == f"fp16, {QUICK}"  # what was left plain is rounded to binary16
    seedlm("decompress", out, tmp_path / "plain", "--json").report()
    packed, plain = Checkpoint(path), Checkpoint(tmp_path / "plain")
    assert packed.packed
    assert not plain.packed
    matrices = open_packed(packed.linear, "here")
    tokens = list(b"\0x = ")
    assert np.array_equal(packed.embedding(np.array(tokens)), plain.embedding(np.array(tokens)))
    for _ in range(5):
        engine = ReferenceEngine(matrices.__getitem__)
        tokens.append(int(language_model(plain, engine).logits(tokens)[-1].argmax()))
    assert tokens[5:] == report["tokens"]
    for flags in (["--codec", QUICK], ["--set", "*=int8"], ["--encoder", "paper"]):
        assert "is compressed already" in seedlm("run", path, *flags).complaint()


def test_packed_words_are_checked(seedlm, tmp_path, cache):
    write_model(tmp_path / "m", np.random.default_rng(3))
    seedlm("compress", tmp_path / "m", tmp_path / "packed", "--codec", QUICK, "--json").report()
    path, name = tmp_path / "packed" / "model.safetensors", "model.layers.1.mlp.up_proj.weight"
    tensors = dict(TensorFile(path).tensors)
    data = np.array(tensors[f"{name}.blocks"].data)
    data[:3] = 0, 0x10, 0  # seed 0 and a coefficient
    tensors[f"{name}.blocks"] = RawTensor("U8", tensors[f"{name}.blocks"].shape, data)
    write_tensors(path, tensors, TensorFile(path).metadata)
    complaint = seedlm("run", tmp_path / "packed", "--quiet").complaint()
    assert f"tensor {name!r}: 1 of " in complaint
    assert "blocks have seed 0" in complaint


def test_unmatched_set(seedlm, model, cache):
    complaint = seedlm("run", model, "--set", "nope*=int8").complaint()
    assert "--set 'nope*' matches no" in complaint


def test_infinite_weight(tmp_path, cache, seedlm):
    write_model(tmp_path / "m", np.random.default_rng(1))
    change_weight(tmp_path / "m", np.inf)
    tensor = "model.layers.1.mlp.up_proj.weight"
    line = seedlm("run", tmp_path / "m", "--codec", QUICK).complaint()
    assert line.endswith(f"{tensor!r}: the weight inf in row 71, column 47 is not finite: expected finite weights")
    line = seedlm("run", tmp_path / "m", "--engine", "float32").complaint()
    assert line.endswith(f"tensor {tensor!r} has NaN or infinity: expected finite weights")


# --- the bundled model on the RTL ------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["seedlm4r", "seedlm4"])
def test_rtl_writes_what_the_reference_writes(name):
    """32 tokens of the bundled model, greedy: every logit of every step has the same bits on the RTL.

    With the build and the memory of ``seedlm run``; the packed model comes from the common cache.
    """
    from seedlm.golden.build import Config
    from seedlm.host.engines import AcceleratorEngine
    from seedlm.sim.accelerator import Accelerator
    from seedlm.sim.memories import memory
    from seedlm.sim.timing import decode_step, layer_products

    checkpoint = Checkpoint(BUNDLED)
    packed = open_packed(checkpoint.linear, "here", Options(codec=codec(name)))
    prompt = list(b"\0def main(")
    config = Config(codec=codec(name))
    texts, logits, tail = [], [], 8

    class Recording(Decoder):
        def logits(self, *arguments, **options):
            found = super().logits(*arguments, **options)
            logits[-1].append(found.copy())
            return found

    with Accelerator(config, memory="ddr3", timeout=5_000_000) as accelerator:
        rtl = AcceleratorEngine(accelerator, packed)
        for engine in (rtl, ReferenceEngine(packed.__getitem__)):
            logits.append([])
            out = Generated(prompt)
            tokens = list(generate(Recording(checkpoint, engine), prompt, 32, Sampler(), out))
            texts.append(tokens)
            if out.usage:
                usage = out.usage[1:]
        # Without refresh every token takes as long, and as long as `seedlm project` says: the addresses differ, so
        # the banks do, too.
        accelerator.simulation.configure("ideal")
        accelerator.reset()
        out = Generated(prompt)
        list(generate(language_model(checkpoint, rtl), prompt, tail, Sampler(), out))
        steady = [step.cycles for step in out.usage[1:]]
    assert len(texts[0]) == 32
    assert texts[0] == texts[1]
    mine, reference = (np.stack(some) for some in logits)
    assert mine.shape == (32, 1, 256)
    assert np.array_equal(mine.view(np.uint32), reference.view(np.uint32))
    print(bytes(texts[0]).decode(errors="replace"))

    beats = sum(config.image_beats(*m.shape) for m in packed.values())
    assert all(step.counters["weight_beats"] == beats for step in usage)
    assert len(set(steady)) == 1
    products = layer_products(checkpoint.config)
    for which, cycles in (("ideal", steady), ("ddr3", [step.cycles for step in usage])):
        alone = decode_step(products, config, memory(which)).cycles
        assert abs(np.mean(cycles) / alone - 1) < 0.01, which


@pytest.mark.slow
def test_several_codecs_on_the_rtl(seedlm):
    """Four codecs on one build: every result and the text are the reference's; the cycles lie between those of the
    codecs with fewest and most bits."""
    text = ("run", BUNDLED, "--prompt", "def ", "--tokens", 4, "--json")
    rtl = ("--engine", "rtl", "--memory", "ideal", "--no-fp16")
    chosen = ("--set", "*v_proj*=fp16", "--set", "*k_proj*=int8", "--set", "*down_proj*=mxfp4", "--codec", "trellis4")
    mixed = seedlm(*text, *chosen, *rtl, "--check").report()
    reference = seedlm(*text, *chosen).report()
    assert sorted(mixed["codec"].split(", ")) == ["fp16", "int8", "mxfp4", "trellis4"]
    assert (mixed["tokens"], mixed["codec"]) == (reference["tokens"], reference["codec"])
    assert mixed["results_equal"] > 0
    alone = [seedlm(*text, "--codec", name, *rtl).report() for name in ("trellis4", "fp16")]
    low, high = (report["rtl"]["cycles_per_token"] for report in alone)
    assert low < mixed["rtl"]["cycles_per_token"] < high


@pytest.mark.slow
def test_everything_at_once(seedlm, tmp_path):
    """Scaled rotary positions, shared heads, tied embeddings, three shards and a tokenizer: as the user runs it.

    On the RTL and on the reference the same text, drawn with a temperature.
    """
    tokenizers = pytest.importorskip("tokenizers", reason="reads tokenizer.json, and tokenizers is not installed")
    from tokenizers import decoders, models, pre_tokenizers, processors, trainers

    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<s>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    made.train_from_iterator(["def größer(x): return x", "    return self.größer(x)"] * 4, trainer)
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    folder = tmp_path / "m"
    write_model(folder, np.random.default_rng(21), shards=3, vocab_size=300, eos_token_id=1, **VARIANTS["llama3"])
    made.save(str(folder / "tokenizer.json"))
    options = ("--prompt", "def größer(x", "--tokens", 20, "--codec", "seedlm4", "--temperature", 12, "--seed", 5)
    rtl, reference = (
        seedlm("run", folder, *options, "--engine", engine, "--json", *more).report()
        for engine, more in (("rtl", ["--no-fp16"]), ("reference", []))
    )
    assert rtl["prompt_tokens"] == len(made.encode("def größer(x").ids) < len("def größer(x".encode())
    assert len(rtl["tokens"]) == 20
    assert len(set(rtl["tokens"])) > 5  # the temperature is high: with tied embeddings a random model repeats itself
    assert (rtl["tokens"], rtl["text"]) == (reference["tokens"], reference["text"])
    other = seedlm("run", folder, *options[:-1], 6, "--json").report()
    assert other["tokens"] != reference["tokens"]
