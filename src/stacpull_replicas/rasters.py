"""Band files as in BigEarthNet: small uncompressed GeoTIFFs, generated fast, all different.

The structure is that of the real files: classic little-endian TIFF, first directory at byte 8, 15 tags,
uint16 pixels, strips of 34 rows for the 10 m bands and a single strip otherwise, so that sizes are exactly
29,192, 7,560 and 1,160 bytes. Pixels are synthetic: a patch is divided into smooth fields, one for each of
its labels, and each label has a reflectance of its own in each band. The first three pixels encode patch
and band, so that no two files of a data set are equal.
"""

from __future__ import annotations

import hashlib
import struct
from functools import lru_cache
from typing import Any

from stacpull_replicas.draws import fraction, mix

BAND_METRES: dict[str, int] = {
    "B01": 60,
    "B02": 10,
    "B03": 10,
    "B04": 10,
    "B05": 20,
    "B06": 20,
    "B07": 20,
    "B08": 10,
    "B09": 60,
    "B11": 20,
    "B12": 20,
    "B8A": 20,
}
"""Ground sampling distance of the twelve bands of a patch (B10 is listed, but does not exist)."""

BAND_BYTES: dict[int, int] = {10: 29192, 20: 7560, 60: 1160}
"""File size by ground sampling distance."""

_BAND_NUMBER = {band: number for number, band in enumerate(BAND_METRES, 1)}
_POOL_BYTES = 1 << 20
_STRIP_BYTES = 8192
_SHORT, _LONG, _DOUBLE, _ASCII = 3, 4, 12, 2
_LOW_TEN_BITS = 0x3FF


@lru_cache(maxsize=8)
def pixel_pool(seed: int) -> memoryview:
    """Return a mebibyte of 12-bit little-endian noise for a seed."""
    noise = hashlib.shake_256(b"pixels %d" % seed).digest(_POOL_BYTES)
    mask = int.from_bytes(b"\xff\x0f" * (_POOL_BYTES // 2), "little")
    return memoryview((int.from_bytes(noise, "little") & mask).to_bytes(_POOL_BYTES, "little"))


_FIELD = 512
"""Pixels per side of the landscape that patches are cut from."""


@lru_cache(maxsize=8)
def _landscape(seed: int) -> Any:
    import numpy as np  # noqa: PLC0415 - it takes a tenth of a second

    draws = [fraction(seed, wave, 9) for wave in range(36)]
    rows, columns = np.mgrid[0:_FIELD, 0:_FIELD] * (2 * np.pi / _FIELD)
    waves = [
        np.sin(int(1 + 11 * a) * rows + int(1 + 11 * b) * columns + 2 * np.pi * c) / (2 + 9 * (a + b))
        for a, b, c in zip(draws[::3], draws[1::3], draws[2::3], strict=True)
    ]
    total = np.sum(waves, axis=0)
    ranks = np.argsort(np.argsort(total.ravel())) * 65536 // total.size
    return ranks.astype(np.uint32).reshape(total.shape)


def _pixels(seed: int, index: int, number: int, side: int, classes: tuple[int, ...]) -> bytes:
    """Return the pixels of band `number` of a patch with these classes, row by row."""
    import numpy as np  # noqa: PLC0415 - as above

    step = 120 // side
    row, column = mix(seed, index, 1) % (_FIELD - 120), mix(seed, index, 2) % (_FIELD - 120)
    heights = _landscape(seed)[row : row + 120 : step, column : column + 120 : step]
    levels = np.array([200 + mix(7, label, number) % 2800 for label in classes], np.uint32)
    fields = (heights * 4 >> 16) % len(classes) if len(classes) < 4 else heights * len(classes) >> 16  # noqa: PLR2004
    return bytes((levels[fields] + (heights >> 6)).astype("<u2").tobytes())


def _geo_keys(epsg: int) -> bytes:
    citation, angular = (1026, 34737, 22, 0), (2054, 0, 1, 9102)
    keys = (1, 1, 0, 7, 1024, 0, 1, 1, 1025, 0, 1, 1, *citation, 2049, 34737, 7, 22, *angular)
    return struct.pack("<32H", *keys, 3072, 0, 1, epsg, 3076, 0, 1, 9001)


@lru_cache(maxsize=64)
def _header_around_tiepoint(metres: int, zone: int) -> tuple[bytes, bytes]:
    side = 1200 // metres
    rows = min(side, _STRIP_BYTES // (side * 2))
    strips = -(-side // rows)
    counts = [min(rows, side - first) * side * 2 for first in range(0, side, rows)]
    strip_tables = strips * 8 if strips > 1 else 0
    scale_at = 194 + strip_tables
    pixels_at = scale_at + 166
    offsets = [pixels_at + sum(counts[:strip]) for strip in range(strips)]
    entries = (
        (256, _SHORT, 1, side),
        (257, _SHORT, 1, side),
        (258, _SHORT, 1, 16),
        (259, _SHORT, 1, 1),
        (262, _SHORT, 1, 1),
        (273, _LONG, strips, offsets[0] if strips == 1 else 194 + strips * 4),
        (277, _SHORT, 1, 1),
        (278, _SHORT, 1, rows),
        (279, _LONG, strips, counts[0] if strips == 1 else 194),
        (284, _SHORT, 1, 1),
        (339, _SHORT, 1, 1),
        (33550, _DOUBLE, 3, scale_at),
        (33922, _DOUBLE, 6, scale_at + 24),
        (34735, _SHORT, 32, scale_at + 72),
        (34737, _ASCII, 30, scale_at + 136),
    )
    head = struct.pack("<2sHIH", b"II", 42, 8, len(entries))
    head += b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    if strips > 1:
        head += struct.pack(f"<{2 * strips}I", *counts, *offsets)
    head += struct.pack("<3d", metres, metres, 0) + bytes(24)
    tail = bytes(8) + _geo_keys(32600 + zone) + f"WGS 84 / UTM zone {zone:02d}N|WGS 84|\0".encode()
    return head, tail


@lru_cache(maxsize=1024)
def band_file(
    seed: int, index: int, band: str, zone: int, corner: tuple[int, int], classes: tuple[int, ...]
) -> bytes:
    metres = BAND_METRES[band]
    number = _BAND_NUMBER[band]
    head, tail = _header_around_tiepoint(metres, zone)
    stamp = struct.pack("<3H", index & _LOW_TEN_BITS, index >> 10, number)
    pixels = _pixels(seed, index, number, 1200 // metres, classes)
    return b"".join((head, struct.pack("<2d", *corner), tail, stamp, pixels[len(stamp) :]))
