"""Band files like those of BigEarthNet: small uncompressed GeoTIFFs, generated fast, all different.

The structure is that of the real files: classic little-endian TIFF, first directory at byte 8, 15 tags,
uint16 pixels, strips of 34 rows for the 10 m bands and a single strip otherwise, so that sizes are exactly
29,192, 7,560 and 1,160 bytes. Pixels are a slice of one pool of pseudo-random reflectances; its offset
depends on patch and band. The first three pixels encode patch and band, so that no two files of a data set
are equal.
"""

from __future__ import annotations

import hashlib
import struct
from functools import lru_cache

from stacpull_replicas.draws import mix

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
    """Return a mebibyte of 12-bit little-endian pixels for a seed."""
    noise = hashlib.shake_256(b"pixels %d" % seed).digest(_POOL_BYTES)
    mask = int.from_bytes(b"\xff\x0f" * (_POOL_BYTES // 2), "little")
    return memoryview((int.from_bytes(noise, "little") & mask).to_bytes(_POOL_BYTES, "little"))


def _geo_keys(epsg: int) -> bytes:
    citation, angular = (1026, 34737, 22, 0), (2054, 0, 1, 9102)
    keys = (1, 1, 0, 7, 1024, 0, 1, 1, 1025, 0, 1, 1, *citation, 2049, 34737, 7, 22, *angular)
    return struct.pack("<32H", *keys, 3072, 0, 1, epsg, 3076, 0, 1, 9001)


@lru_cache(maxsize=64)
def _header_around_tiepoint(metres: int, zone: int) -> tuple[bytes, bytes]:
    """Return the header before and after the two doubles of the upper left corner."""
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


def band_file(seed: int, index: int, band: str, zone: int, corner: tuple[int, int]) -> bytes:
    """Return the GeoTIFF of one band of one patch; `corner` is its upper left corner in metres."""
    metres = BAND_METRES[band]
    number = _BAND_NUMBER[band]
    head, tail = _header_around_tiepoint(metres, zone)
    stamp = struct.pack("<3H", index & _LOW_TEN_BITS, index >> 10, number)
    length = BAND_BYTES[metres] - len(head) - 16 - len(tail) - len(stamp)
    at = mix(seed, index, number) % (_POOL_BYTES - length) & ~1
    return b"".join((head, struct.pack("<2d", *corner), tail, stamp, pixel_pool(seed)[at : at + length]))
