"""Files for trying a board by hand: memory images with their addresses, register writes, and what must come out."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from seedlm.build.outputs import write_if_changed
from seedlm.golden.activations import finite
from seedlm.golden.build import Config
from seedlm.golden.errors import SeedLMError
from seedlm.golden.images import activation_image, scale_image, weight_image
from seedlm.golden.matrix import PackedMatrix
from seedlm.golden.product import product
from seedlm.hdl.registers import ID, ErrorCode, configuration_words, register
from seedlm.host.regions import PAGE, Allocator, ProductRegions

__all__ = ["MANIFEST", "write_images"]

MANIFEST = "manifest.json"


def write_images(
    out: Path | str, config: Config, matrix: PackedMatrix, x: np.ndarray, *, scale: float | None = None, base: int = 0,
    name: str = "",
) -> dict:  # fmt: skip
    """Write the memory images of one product, what it must give, and a manifest to `out` (made if missing).

    ``weights.bin``, ``activations.bin`` and, with row scales, ``scales.bin`` go to the addresses of the manifest; after
    the product the results region must be equal to ``expected.bin``, byte for byte, up to the last row's result.

    Parameters
    ----------
    out : path
    config : Config
        The build on the board. The codec must be the matrix's.
    matrix : PackedMatrix
    x : np.ndarray
        float16 [cols]. If an element is not finite, all results are NaN and the product ends with the code NONFINITE.
    scale : float, optional
        Of the product; default the matrix's own. Not with row scales.
    base : int
        First address, a multiple of 4 KiB.
    name : str
        Of the tensor, for the manifest.

    Returns
    -------
    dict
        The contents of ``manifest.json``: ``regions`` (file, address, bytes, CRC-32, SHA-256), ``registers`` to write
        in order (the last one starts the product), ``check`` (registers that tell whether the build is the right one),
        ``expect`` (how it must end). Addresses, offsets and register values are hexadecimal strings.

    Raises
    ------
    SeedLMError
        Another codec, too large for the build, x or scale that do not fit, a bad `base`; a file cannot be written.
    """
    out = Path(out)
    rows, cols = matrix.shape
    regions = _place(config, matrix, base)
    images = _images(config, matrix, x, scale)
    manifest = {
        "tensor": name,
        "rows": rows,
        "cols": cols,
        "codec": asdict(config.of(matrix.codec).codec),
        "config": {key: value for key, value in asdict(config).items() if key not in ("codec", "more")},
        "regions": {region: _entry(region, getattr(regions, region), data) for region, data in images.items()},
        "check": _registers({"ID": ID, **configuration_words(config)}),
        "registers": _registers(regions.words(scale=_factor(matrix, scale)) | {"SUBMIT": 1}),
        "expect": _expect(ErrorCode.NONE if finite(x) else ErrorCode.NONFINITE),
    }
    out.mkdir(parents=True, exist_ok=True)
    for region, data in images.items():
        write_if_changed(out / _file(region), data.data)
    # Last: a manifest is there only with all that it names.
    write_if_changed(out / MANIFEST, json.dumps(manifest, indent=2) + "\n")
    return manifest


def _place(config: Config, matrix: PackedMatrix, base: int) -> ProductRegions:
    """The regions of a product from address `base` on."""
    rows, cols = matrix.shape
    if rows > config.max_rows or cols > config.max_cols:
        raise SeedLMError(f"this build takes up to {config.max_rows} x {config.max_cols} weights, not {rows} x {cols}")
    if base < 0 or base % PAGE:
        raise SeedLMError(f"the base address must be a multiple of {PAGE}, not {base:#x}")
    allocate = Allocator(base, 1 << 65)
    regions = ProductRegions.place(config, rows, cols, allocate, codec=matrix.codec)
    end, bits = allocate.next, config.addr_bits
    if end > 1 << bits:
        raise SeedLMError(f"the regions end at {end:#x}, above the {bits} address bits of this build")
    return regions


def _images(config: Config, matrix: PackedMatrix, x: np.ndarray, scale: float | None) -> dict[str, np.ndarray]:
    """Contents of the regions, uint8, in the order in which they are placed; of the results what must come out."""
    y = product(matrix, x, scale, group=config.group)
    build = config.of(matrix.codec)
    images = {"weights": weight_image(build, matrix)}
    if build.row_scales:
        images["scales"] = scale_image(build, matrix.scales)
    images["activations"] = activation_image(config, x if matrix.rotation is None else matrix.rotation.half(x))
    # Results are compared: what the last beat holds behind the last row is not defined.
    images["results"] = y.astype("<f4", copy=False).view(np.uint8)
    return images


def _factor(matrix: PackedMatrix, scale: float | None) -> np.float32:
    """The product's scale as the register takes it."""
    if matrix.codec.row_scales:
        return np.float32(1)
    return matrix.scale if scale is None else np.float32(scale)


def _file(region: str) -> str:
    return "expected.bin" if region == "results" else f"{region}.bin"


def _entry(region: str, address: int, data: np.ndarray) -> dict:
    return {
        "file": _file(region),
        "address": f"{address:#x}",
        "bytes": data.size,
        "crc32": f"{zlib.crc32(data):08x}",
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def _registers(values: Mapping[str, int]) -> list[dict[str, str]]:
    """Registers with their offsets and values, in order."""
    return [
        {"name": name, "offset": f"{register(name).offset:#05x}", "value": f"{value:#010x}"}
        for name, value in values.items()
    ]


def _expect(code: ErrorCode) -> dict:
    """How the product ends."""
    return {
        "poll": {"name": "COMPLETED", "offset": f"{register('COMPLETED').offset:#05x}", "until": "grown by 1"},
        "error": {**_registers({"ERROR": code})[0], "meaning": code.doc},
    }
