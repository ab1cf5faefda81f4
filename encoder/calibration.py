"""A file of second moments as the plan and the units of work see it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from seedlm.encoder.families import encoder_of
from seedlm.encoder.feedback.factor import Feedback, feedback_of
from seedlm.golden.codecs import Codec
from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.calibration import CalibrationFile
from seedlm.golden.rotation import Rotation

__all__ = ["DAMPING", "Calibration"]

DAMPING = 0.1
KEPT = 2  # results of the last questions: layers' tensors come in turns


class Calibration:
    """Second moments by the names of tensors, and how much they are damped.

    Parameters
    ----------
    path : Path
        What ``seedlm calibrate`` wrote.
    damping : float
        See `feedback_of`.
    names : mapping of str to str, optional
        What the file calls tensors that have another name here.

    Raises
    ------
    SeedLMError
        Not such a file.
    """

    def __init__(self, path: Path, damping: float = DAMPING, names: Mapping[str, str] | None = None):
        self.file, self.damping, self._names = CalibrationFile(path), damping, names or {}
        self._digests: dict[str, str] = {}
        self._kept: dict[tuple, Feedback] = {}

    def __contains__(self, name: str) -> bool:
        return self._stored(name) in self.file.matrices

    def _stored(self, name: str) -> str:
        return self._names.get(name, name)

    def check(self, name: str, cols: int) -> None:
        """Raise `SeedLMError` unless the moments of a tensor, which must be there, are of `cols` columns."""
        self.file.check(self._stored(name), cols)

    def digest(self, name: str) -> str:
        """Of everything here that decides on a tensor's words; every moment is looked at.

        Raises
        ------
        SeedLMError
            Moments that are not finite.
        """
        digest = hashlib.blake2b(repr(self.damping).encode(), digest_size=16)
        for moment in self.file.matrices[self._stored(name)].moments:
            if moment not in self._digests:
                self.file.check_finite(moment)
                self._digests[moment] = hashlib.blake2b(self.file.file.raw(moment).data, digest_size=16).hexdigest()
            digest.update(self._digests[moment].encode())
        return digest.hexdigest()

    def feedback(self, name: str, codec: Codec, rotation: Rotation | None) -> Feedback:
        """What a tensor's encoder needs; the last ones are kept, as tensors share them.

        Raises
        ------
        SeedLMError
            Moments that are not positive definite.
        """
        return self.feedback_in_blocks(name, encoder_of(codec).feedback_block(codec), rotation)

    def feedback_in_blocks(self, name: str, block: int, rotation: Rotation | None = None) -> Feedback:
        """`feedback` for blocks of so many columns."""
        stored = self._stored(name)
        key = self.file.matrices[stored].moments, block, rotation
        if key not in self._kept:
            try:
                made = feedback_of(self.file.arrays(stored), block, self.damping, rotation)
            except SeedLMError as error:
                raise SeedLMError(f"{self.file.path}: {name!r}: {error}") from error
            while len(self._kept) >= KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = made
        return self._kept[key]
