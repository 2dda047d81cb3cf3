"""The files of a capture, as in ARPS: GeoTIFFs of 8000 by 8000 pixels whose headers name scenes.

They are classic little-endian TIFFs (TIFF 6.0) with one directory at byte 8, tiles of 512 by 512 pixels,
interleaved bands, deflate, int16, and nodata -999. The header is every byte before the first pixel. It does
not depend on pixels: each tile has a slot of fixed length, and its deflate stream is padded to that length
with empty blocks (RFC 1951, 3.2.4), which are part of a valid stream. Tiles without data are left out
(sparse).
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from datetime import datetime
from functools import cached_property, lru_cache
from hashlib import md5
from typing import Any
from xml.sax.saxutils import escape

import msgspec
import numpy as np

from stacpull_replicas.sentinelhub.captures import QA_BANDS, SR_BANDS, Capture, Pixels
from stacpull_replicas.sentinelhub.notebook_figures import window
from stacpull_replicas.sentinelhub.scenes import NODATA, CapturedScene
from stacpull_replicas.sentinelhub.tile_grid import EPSG, METRES, SIDE

QA_FILE, SR_FILE = "analysis_ready_ps_qa", "analysis_ready_ps_sr"

_TILE = 512
_ACROSS = -(-SIDE // _TILE)
_SHORT, _LONG, _DOUBLE, _ASCII = 3, 4, 12, 2
_FORMATS = {_SHORT: "H", _LONG: "I", _DOUBLE: "d"}
_SIZES = {_SHORT: 2, _LONG: 4, _DOUBLE: 8, _ASCII: 1}
_INLINE = 4
_EMPTY, _EMPTY_LONGER = b"\0\0\0\xff\xff", b"\x02\0\0\0\xff\xff"
"""Empty deflate blocks: a stored one of 5 bytes; the same after one with fixed codes, together 6 bytes."""
_LAST = b"\x01\0\0\xff\xff"
_LEAST_FILLING = 20


class RasterKind(msgspec.Struct, frozen=True):
    """A kind of file: its bands, the usual length of its header, and the most bytes per tile."""

    name: str
    bands: tuple[str, ...]
    header: int
    slot: int


KINDS = {
    QA_FILE: RasterKind(QA_FILE, QA_BANDS, 3521, 48 << 10),
    SR_FILE: RasterKind(SR_FILE, SR_BANDS, 3433, 128 << 10),
}
"""Header lengths are those of real files; slots are large enough for the generated pixels."""


class RasterFile(msgspec.Struct, frozen=True, eq=False, dict=True):
    """One file of a capture, generated in pieces: `read(start, stop)` returns any of its `size` bytes."""

    capture: Capture
    kind: RasterKind

    @cached_property
    def header(self) -> bytes:
        """Every byte before the first pixel."""
        offsets, counts, _ = self._layout(0)
        length = len(_directory(self._fields(offsets, counts)))
        longer = math.ceil(max(0, length - self.kind.header) / 8) * 8
        offsets, counts, _ = self._layout(self.kind.header + longer)
        return _directory(self._fields(offsets, counts)).ljust(self.kind.header + longer, b"\0")

    @property
    def size(self) -> int:
        return self._tiles[2]

    @property
    def modified(self) -> datetime:
        return self.capture.ingested.replace(microsecond=0)

    @property
    def etag(self) -> str:
        """An ETag like those of the bucket: a digest; for the SR file, one of a multipart upload."""
        printed = self.capture.printed
        if printed is not None and printed.etags is not None:
            return printed.etags[list(KINDS).index(self.kind.name)]
        digest = md5(f"{self.capture.id} {self.kind.name}".encode(), usedforsecurity=False).hexdigest()
        return f'"{digest}"' if self.kind.name == QA_FILE else f'"{digest}-23"'

    def read(self, start: int, stop: int) -> bytes:
        parts = [self.header[start:stop]]
        offsets, counts, _ = self._tiles
        for number, (offset, count) in enumerate(zip(offsets, counts, strict=True)):
            if count and offset < stop and offset + count > start:
                parts.append(_tile(self, number)[max(0, start - offset) : stop - offset])
        return b"".join(parts)

    @cached_property
    def _tiles(self) -> tuple[list[int], list[int], int]:
        return self._layout(len(self.header))

    def _layout(self, first: int) -> tuple[list[int], list[int], int]:
        """Return the offset and size of each tile (0 and 0 if it has no data), and the end of the file."""
        offsets, counts = [], []
        for length in self._slots:
            offsets.append(first if length else 0)
            counts.append(length)
            first += length
        return offsets, counts, first

    @cached_property
    def _slots(self) -> tuple[int, ...]:
        swath, (left, top) = self.capture.swath, self.capture.square.corner
        first = np.arange(_ACROSS, dtype=np.int32) * _TILE
        last = np.minimum(first + _TILE, SIDE) - 1
        west = swath.strip_of(first[None, :] + left, first[:, None] + top)
        east = swath.strip_of(last[None, :] + left, last[:, None] + top)
        slots = np.where((east > 0) & (west <= swath.strips), self.kind.slot, 0)
        if self.capture.printed is not None:
            raw = _TILE * _TILE * len(self.kind.bands) * 2
            slots[_over_window()] = raw + raw // 1000 + 128  # more than any deflate stream needs
        return tuple(slots.ravel().tolist())

    def pixels(self, number: int) -> Pixels:
        """Return a tile's pixels as an array of rows, columns and bands."""
        row, column = divmod(number, _ACROSS)
        rows = np.arange(row * _TILE, min(SIDE, (row + 1) * _TILE), dtype=np.int32)
        columns = np.arange(column * _TILE, min(SIDE, (column + 1) * _TILE), dtype=np.int32)
        found = self.capture.read(self.kind.bands, rows[:, None], columns[None, :])
        tile = np.full((_TILE, _TILE, len(self.kind.bands)), NODATA, "<i2")
        for place, band in enumerate(self.kind.bands):
            tile[: len(rows), : len(columns), place] = found[band]
        return tile

    def slot(self, number: int) -> int:
        return self._slots[number]

    def _fields(self, offsets: Sequence[int], counts: Sequence[int]) -> list[tuple[int, int, Any]]:
        bands = len(self.kind.bands)
        west, north = self.capture.square.upper_left
        citation = f"WGS 84 / UTM zone {EPSG % 100}N|WGS 84|"
        keys = (1, 1, 0, 7, 1024, 0, 1, 1, 1025, 0, 1, 1, 1026, 34737, 22, 0, 2049, 34737, 7, 22)
        return [
            (256, _SHORT, (SIDE,)),
            (257, _SHORT, (SIDE,)),
            (258, _SHORT, (16,) * bands),
            (259, _SHORT, (8,)),
            (262, _SHORT, (1,)),
            (277, _SHORT, (bands,)),
            (284, _SHORT, (1,)),
            (322, _SHORT, (_TILE,)),
            (323, _SHORT, (_TILE,)),
            (324, _LONG, offsets),
            (325, _LONG, counts),
            (338, _SHORT, (0,) * (bands - 1)),
            (339, _SHORT, (2,) * bands),
            (33550, _DOUBLE, (METRES, METRES, 0)),
            (33922, _DOUBLE, (0, 0, 0, west, north, 0)),
            (34735, _SHORT, (*keys, 2054, 0, 1, 9102, 3072, 0, 1, EPSG, 3076, 0, 1, 9001)),
            (34737, _ASCII, citation),
            (42112, _ASCII, metadata(self.capture)),
            (42113, _ASCII, str(NODATA)),
        ]


def _over_window() -> tuple[slice, slice]:
    place = window()
    bottom, right = place.stop
    return slice(place.row // _TILE, -(-bottom // _TILE)), slice(place.column // _TILE, -(-right // _TILE))


def _directory(fields: list[tuple[int, int, Any]]) -> bytes:
    """Return the first bytes of a TIFF: its head, one directory, and the values that do not fit into it."""
    behind = 8 + 2 + 12 * len(fields) + 4
    entries, values = [], b""
    for tag, kind, given in fields:
        data = _packed(kind, given)
        if len(data) <= _INLINE:
            place = data.ljust(_INLINE, b"\0")
        else:
            values += b"\0" * (len(values) % 2)
            place = struct.pack("<I", behind + len(values))
            values += data
        entries.append(struct.pack("<HHI", tag, kind, len(data) // _SIZES[kind]) + place)
    head = struct.pack("<2sHIH", b"II", 42, 8, len(fields))
    return head + b"".join(entries) + bytes(4) + values


def _packed(kind: int, given: Any) -> bytes:
    if kind == _ASCII:
        return str(given).encode() + b"\0"
    return struct.pack(f"<{len(given)}{_FORMATS[kind]}", *given)


@lru_cache(maxsize=32)
def _tile(file: RasterFile, number: int) -> bytes:
    return fitted(file.pixels(number).tobytes(), file.slot(number))


def fitted(raw: bytes, length: int) -> bytes:
    """Return a zlib stream of exactly `length` bytes."""
    for level in (1, 6, 9):
        packer = zlib.compressobj(level)
        packed = packer.compress(raw) + packer.flush(zlib.Z_SYNC_FLUSH)
        missing = length - len(packed) - len(_LAST) - 4
        if missing == 0 or missing >= _LEAST_FILLING:
            fives, sixes = divmod(missing, len(_EMPTY))
            filling = _EMPTY * (fives - sixes) + _EMPTY_LONGER * sixes
            return packed + filling + _LAST + struct.pack(">I", zlib.adler32(raw))
    raise ValueError(f"{len(raw)} bytes do not fit into {length}")


def metadata(capture: Capture) -> str:
    """Return the tags of a capture in the format of GDAL (tag 42112)."""
    items = "".join(
        f'  <Item name="{name}">{escape(value)}</Item>\n' for name, value in header_tags(capture).items()
    )
    return f"<GDALMetadata>\n{items}</GDALMetadata>\n"


def header_tags(capture: Capture) -> dict[str, str]:
    scenes = capture.header_scenes()
    ids = _listing(scenes, [str(scene.id) for scene in scenes])
    printed = capture.printed
    created = (
        printed.created if printed and printed.created else capture.ingested.strftime("%Y-%m-%dT%H:%M:%SZ")
    )
    return {
        "CREATED": created,
        "PERCENTAGE_CLEAR": f"{capture.clear_share:.2f}",
        "PIPELINE_VERSION": "1.0.0",
        "PS_SCENE_IDS[LAYER_2_VALUE]": ids,
        "RUN_TYPE": "backfill",
        "SCENE_IDS[LAYER_2_VALUE]": ids,
        "SCENE_SOLAR_AZIMUTH[LAYER_2_VALUE]": _listing(scenes, [_angle(s, s.azimuth) for s in scenes]),
        "SCENE_SOLAR_ELEVATION[LAYER_2_VALUE]": _listing(scenes, [_angle(s, s.elevation) for s in scenes]),
    }


def _angle(scene: CapturedScene, degrees: float) -> str:
    return "None" if scene.id is None else f"{degrees:.1f}"


def _listing(scenes: Sequence[CapturedScene], values: Sequence[str]) -> str:
    return "\n".join(f"{value}[{scene.value}]" for scene, value in zip(scenes, values, strict=True))
