"""Logits of transformers for every case, in float64: ``python -m tests.host.models.transformers_logits [--write]``.

Without ``--write`` they are compared with those that are stored. Needs torch and transformers (`make
test-transformers`); what it stores is what `tests/host/models/test_architectures.py` compares with.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers

from tests.host.models.cases import CASES, EXPECTED, text, write_case


def logits(folder: Path) -> np.ndarray:
    """Of a directory, for `text`; every tensor of the file must be used, and none be missing."""
    model, found = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float64, attn_implementation="eager", experts_implementation="eager",
        output_loading_info=True,
    )  # fmt: skip
    wrong = {what: names for what, names in found.items() if names and what != "error_msgs"}
    if wrong:
        raise SystemExit(f"{folder.name}: the tensors are not those of transformers: {wrong}")
    with torch.no_grad():
        out = model.eval()(torch.tensor(text()[None]), use_cache=False)
    return out["logits"][0].numpy()


def main(write: bool) -> int:
    transformers.logging.set_verbosity_error()
    worst = 0.0
    EXPECTED.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        for name in CASES:
            found = logits(write_case(Path(place) / name, name))
            path = EXPECTED / f"{name}.npy"
            if write:
                np.save(path, found.astype(np.float32))
            stored = np.load(path)
            off = float(np.abs(stored - found).max() / found.std())
            worst = max(worst, off)
            print(f"{name}: {off:.1e} of the spread of {found.std():.2f}")
    print(f"torch {torch.__version__}, transformers {transformers.__version__}: at most {worst:.1e}")
    return int(worst > 1e-5)


if __name__ == "__main__":
    sys.exit(main("--write" in sys.argv[1:]))
