"""Files for trying a board by hand: memory images with their addresses, register writes, and what must come out."""

from __future__ import annotations

import hashlib
import json
import zlib
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

__all__ = ["MANIFEST", "PAGE", "write_images"]

MANIFEST = "manifest.json"
PAGE = 4096  # regions start at multiples of it


def _fill(values: np.ndarray, size: int) -> np.ndarray:
    out = np.zeros(size, dtype=np.uint8)
    raw = values.astype("<f4", copy=False).view(np.uint8)
    out[: raw.size] = raw
    return out


def write_images(
    out: Path | str,
    config: Config,
    matrix: PackedMatrix,
    x: np.ndarray,
    *,
    scale: float | None = None,
    base: int = 0,
    name: str = "",
) -> dict:
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
    if rows > config.max_rows or cols > config.max_cols:
        raise SeedLMError(f"this build takes up to {config.max_rows} x {config.max_cols} weights, not {rows} x {cols}")
    if base < 0 or base % PAGE:
        raise SeedLMError(f"the base address must be a multiple of {PAGE}, not {base:#x}")
    y = product(matrix, x, scale)
    images = {"weights": weight_image(config, matrix)}
    if config.codec.row_scales:
        images["scales"] = scale_image(config, matrix.scales)
    images["activations"] = activation_image(config, x)
    images["results"] = _fill(y, config.result_beats(rows) * config.beat_bytes)

    regions, address = {}, base
    for region, data in images.items():
        # Results are compared: what the last beat holds behind the last row is not defined.
        data = data[: 4 * rows] if region == "results" else data
        regions[region] = {
            "file": "expected.bin" if region == "results" else f"{region}.bin",
            "address": f"{address:#x}",
            "bytes": data.size,
            "crc32": f"{zlib.crc32(data):08x}",
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        images[region] = data
        address += -(-data.size // PAGE) * PAGE
    if address > 1 << config.addr_bits:
        raise SeedLMError(f"the regions end at {address:#x}, above the {config.addr_bits} address bits of this build")

    factor = np.float32(1)
    if not config.codec.row_scales:
        factor = matrix.scale if scale is None else np.float32(scale)
    writes = []

    def write(target: str, value: int) -> None:
        writes.append({"name": target, "offset": f"{register(target).offset:#05x}", "value": f"{value:#010x}"})

    for region in ("weights", "activations", "results", "scales"):
        start = int(regions[region]["address"], 16) if region in regions else 0
        write(f"{region.upper()}_LO", start & 0xFFFFFFFF)
        write(f"{region.upper()}_HI", start >> 32)
    write("ROWS", rows)
    write("COLS", cols)
    write("SCALE", int(factor.view(np.uint32)))
    write("FLAGS", 0)
    write("SUBMIT", 1)

    code = ErrorCode.NONE if finite(x) else ErrorCode.NONFINITE
    manifest = {
        "tensor": name,
        "rows": rows,
        "cols": cols,
        "codec": asdict(config.codec),
        "config": {key: value for key, value in asdict(config).items() if key != "codec"},
        "regions": regions,
        "check": [
            {"name": key, "offset": f"{register(key).offset:#05x}", "value": f"{value:#010x}"}
            for key, value in {"ID": ID, **configuration_words(config)}.items()
        ],
        "registers": writes,
        "expect": {
            "poll": {"name": "COMPLETED", "offset": f"{register('COMPLETED').offset:#05x}", "until": "grown by 1"},
            "error": {"name": "ERROR", "offset": f"{register('ERROR').offset:#05x}", "value": f"{code:#010x}",
                      "meaning": code.doc},
        },
    }  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    for region, data in images.items():
        write_if_changed(out / regions[region]["file"], data.tobytes())
    # Last: a manifest is there only with all that it names.
    write_if_changed(out / MANIFEST, json.dumps(manifest, indent=2) + "\n")
    return manifest
