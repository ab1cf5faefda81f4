"""The folder next to the output where finished units wait until all are done.

Its name has a digest of the input and of all options that decide on the result: only a run that would
make the same bytes finds it. A unit is a file that appears complete or not at all. A lock file next to it belongs to
the output: one run at a time.
"""

from __future__ import annotations

import os
import shutil
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from seedlm.encoder.loss import Loss
from seedlm.encoder.units import Encoded
from seedlm.golden.errors import SeedLMError
from seedlm.golden.files.tensors import RawTensor, TensorFile, write_tensors

__all__ = ["Workspace"]

SUFFIX = ".work-"


class Workspace:
    """Finished units of one run.

    Parameters
    ----------
    output : Path
        The output, next to which the folder is.
    key : str
        Digest of everything that decides on the result.

    Attributes
    ----------
    path : Path
        The folder.
    leftovers : list of Path
        Folders next to the same output with units of other inputs or options.

    Raises
    ------
    SeedLMError
        On entering: another run is at work on the same output, whatever its input and options.
    """

    def __init__(self, output: Path, key: str) -> None:
        self.output = output
        target = Path(os.path.realpath(output))
        self.path = target.with_name(f"{target.name}{SUFFIX}{key[:16]}")
        self.leftovers = sorted(p for p in target.parent.glob(f"{glob_escape(target.name)}{SUFFIX}*") if p != self.path)
        self.busy = target.with_name(f".{target.name}.busy")

    def __enter__(self) -> Workspace:
        self._lock = self._locked()
        try:
            self.path.mkdir(exist_ok=True)
        except OSError as error:
            self._unlock()
            raise self._complaint(error.strerror) from error
        for scrap in self.path.glob(".*.tmp*"):
            scrap.unlink()  # of a run that was killed
        return self

    def __exit__(self, *error: object) -> None:
        # Without a finished unit there is nothing to come back for.
        if not self.finished():
            self.remove()
        self._unlock()

    def _locked(self) -> BinaryIO:
        """The lock of the output, which runs on other inputs or with other options want, too."""
        while True:
            try:
                lock = self.busy.open("wb")
            except OSError as error:
                raise self._complaint(error.strerror) from error
            try:
                import fcntl  # imported here: not on every system

                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(lock.fileno()), os.stat(self.busy)):
                    return lock
            except ImportError:
                return lock
            except FileNotFoundError:
                pass
            except OSError as error:
                lock.close()
                raise SeedLMError(f"{self.output}: another run is at work on the same output") from error
            lock.close()  # the run before has removed the file since it was opened: once more

    def _unlock(self) -> None:
        self.busy.unlink(missing_ok=True)  # first, so that nobody locks a file that is about to go
        self._lock.close()

    def _complaint(self, reason: str) -> SeedLMError:
        return SeedLMError(f"{self.output}: cannot write: {reason} (at {self.path.name})")

    def _unit(self, tensor: int, start: int) -> Path:
        return self.path / f"{tensor:06d}-{start:010d}.unit"

    def finished(self) -> int:
        """How many units there are."""
        return sum(1 for _ in self.path.glob("[0-9]*.unit"))

    def put(self, tensor: int, start: int, unit: Encoded) -> None:
        """Keep the unit that begins with row `start` of tensor number `tensor`."""
        parts = {"data": RawTensor.from_array(unit.data)}
        if unit.scales is not None:
            parts["scales"] = RawTensor.from_array(unit.scales)
        metadata = unit.loss.to_text() | {"crc": str(_crc(parts))}
        try:
            write_tensors(self._unit(tensor, start), parts, metadata)
        except SeedLMError as error:
            raise self._complaint(str(error).rsplit(": ", 1)[-1]) from error

    def get(self, tensor: int, start: int, shape: tuple[int, int], scales: bool) -> Encoded | None:
        """A finished unit, or None; a damaged one is removed. The data are a memory map."""
        path = self._unit(tensor, start)
        if not path.exists():
            return None
        try:
            file = TensorFile(path)
            data = file.array("data")
            found = file.array("scales").astype(np.float32) if scales else None
            good = data.shape == shape and (found is None or found.shape == shape[:1])
            good = good and file.metadata["crc"] == str(_crc(file.tensors))
            unit = Encoded(data, found, Loss.from_text(file.metadata))
        except (SeedLMError, KeyError, ValueError):
            good = False
        if not good:
            path.unlink()
            return None
        return unit

    def joined(self, name: str, parts: list[np.ndarray]) -> np.ndarray:
        """The rows of several units as one memory map."""
        if len(parts) == 1:
            return parts[0]
        path = self.path / f"{name}.rows"
        try:
            with path.open("wb") as file:
                for part in parts:
                    file.write(np.ascontiguousarray(part).data)
        except OSError as error:
            raise self._complaint(error.strerror) from error
        shape = (sum(len(p) for p in parts), parts[0].shape[1])
        return np.memmap(path, dtype=np.uint8, mode="r", shape=shape)

    def clear_joined(self) -> None:
        """Remove the files of `joined`; memory maps of them stay valid."""
        for path in self.path.glob("*.rows"):
            path.unlink()

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)


def _crc(parts: dict[str, RawTensor]) -> int:
    crc = 0
    for name in sorted(parts):
        crc = zlib.crc32(np.ascontiguousarray(parts[name].data).data, crc)
    return crc


def glob_escape(name: str) -> str:
    """A file name as a pattern that matches nothing else."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
