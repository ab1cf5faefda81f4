"""Forms in which other programs quantise models, one module each, found by itself; no other module names them.

A module's ``FORM`` says which models are its own and opens them: every quantised matrix as one that a codec expresses
exactly, everything else as it is. What cannot be expressed exactly is refused. See docs/importing.md.

- `_base`: what an entry is, and what opening a model gives
- `_settings`: what a model's files say of how it was quantised
- `_modules`: the tensors of quantised layers in safetensors files
- `_integers`: integers less a zero point, times a scale per group: what these layers have in common
"""

from __future__ import annotations

from pathlib import Path

from seedlm.golden.errors import SeedLMError
from seedlm.golden.registry import modules
from seedlm.host.imports._base import Form, Matrix, Quantised
from seedlm.host.imports._settings import settings_of

__all__ = ["FORMS", "Form", "Matrix", "Quantised", "open_quantised"]

FORMS: list[Form] = [m.FORM for m in modules(__name__)]


def open_quantised(path: Path) -> Quantised:
    """Open a model that another program has quantised.

    Parameters
    ----------
    path : Path
        A folder, the index of a sharded model, a safetensors file beside its config.json, or a GGUF file.

    Raises
    ------
    SeedLMError
        No such model, one that is not quantised or in a form that is not known; what cannot be expressed exactly; files
        that contradict themselves.
    """
    if not path.exists():
        raise SeedLMError(f"{path}: no such file or directory: expected a quantised model")
    for form in FORMS:
        if form.takes(path):
            return form.open(path)
    known = "; ".join(f"{form.name} ({form.kinds})" for form in FORMS)
    settings = settings_of(path)
    if settings is None:
        raise SeedLMError(f"{path}: nothing says that it is quantised: expected {known}; seedlm compress takes"
                          " models that are not")  # fmt: skip
    settings.refuse(f"quantised by {settings.method or 'an unnamed method'}, which is not expressed exactly: expected"
                    f" {known}")  # fmt: skip
