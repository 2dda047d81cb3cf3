"""The grid of tiles, its map projections, and the strips of the satellites.

Tiles are squares of 24 km in UTM zone 10 north, with 8000 pixels of 3 m per side, around San Francisco.
Pixels also have a column and a row in the whole grid, counted from its upper left corner to the east and
south, so that neighbouring tiles fit together.

Projections (UTM on WGS 84, Web Mercator) work on arrays. pyproj computes them, from the extra `trace`.

Strips run slightly west of south and are cut into scenes. The position of a pixel is two integers, so that
all readers of a tile find the same scene: `across` the strips, to the east, and `along` them, to the south,
both in hundredths of a pixel.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from stacpull_replicas.draws import fraction, mix

EPSG = 32610
SIDE = 8000
"""Pixels per side of a tile."""
METRES = 3
"""Metres per side of a pixel."""
CELL, CLOUD_CELL = 8, 16
"""Pixels per side of a surface cell and of a cloud cell."""
EXTENT = SIDE * METRES
"""Metres per side of a tile."""
FIRST_COLUMN, FIRST_ROW = 21, 173
LAST_COLUMN, LAST_ROW = 23, 175
ORIGIN_EAST = 12_000
"""Easting of column 0 in metres, chosen so that one tile covers the boxes of the notebook."""
WEST = ORIGIN_EAST + FIRST_COLUMN * EXTENT
NORTH = (LAST_ROW + 1) * EXTENT
"""Upper left corner of the whole grid in metres."""


class Square(msgspec.Struct, frozen=True, order=True):
    """One square of the grid; its column and row are counted from the origin in steps of 24 km."""

    column: int
    row: int

    @property
    def name(self) -> str:
        return f"{self.column:02d}E-{self.row:03d}N"

    @property
    def corner(self) -> tuple[int, int]:
        """Column and row of the upper left pixel in the whole grid."""
        return (self.column - FIRST_COLUMN) * SIDE, (LAST_ROW - self.row) * SIDE

    @property
    def upper_left(self) -> tuple[int, int]:
        column, row = self.corner
        return WEST + column * METRES, NORTH - row * METRES

    @property
    def bounds(self) -> tuple[int, int, int, int]:
        west, north = self.upper_left
        return west, north - EXTENT, west + EXTENT, north


ALL = tuple(
    Square(column, row)
    for row in range(FIRST_ROW, LAST_ROW + 1)
    for column in range(FIRST_COLUMN, LAST_COLUMN + 1)
)
"""All squares of the collection."""


Floats = NDArray[np.float64]

GEOGRAPHIC, MERCATOR = 4326, 3857
_CRS = re.compile(
    r"(?:https?://www\.opengis\.net/def/crs/|urn:ogc:def:crs:)?(?:OGC[/:](?:[\d.]*[/:])?CRS84|EPSG[/:]+(?:0/)?(\d+))"
)


def epsg_of(name: str) -> int | None:
    """Return the EPSG code of a CRS name in a request (URL, URN or `EPSG:4326`); CRS84 is 4326, x first.

    Supported are 4326, 3857, 32601-32660 and 32701-32760; for others, the result is None.
    """
    match = _CRS.fullmatch(name)
    if match is None:
        return None
    code = int(match[1] or GEOGRAPHIC)
    is_utm = code // 100 in {326, 327} and 1 <= code % 100 <= 60  # noqa: PLR2004 - zones
    return code if code in {GEOGRAPHIC, MERCATOR} or is_utm else None


def to_utm(x: Any, y: Any, source: int, target: int) -> tuple[Floats, Floats]:
    """Convert points from the CRS `source` to easting and northing in metres in the UTM zone `target`."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    return (x, y) if source == target else _transformer(source, target).transform(x, y)


def to_lonlat(x: Any, y: Any, source: int) -> tuple[Floats, Floats]:
    """Convert points from the CRS with the EPSG code `source` to longitude and latitude in degrees."""
    longitude, latitude = _transformer(source, GEOGRAPHIC).transform(
        np.asarray(x, np.float64), np.asarray(y, np.float64)
    )
    return longitude, latitude


@lru_cache
def _transformer(source: int, target: int) -> Any:
    from pyproj import Transformer  # noqa: PLC0415 - an extra

    return Transformer.from_crs(source, target, always_xy=True)


_EAST, _SOUTH = 97, 24
"""Components of the step across the strips; its length is almost 100."""
_CENTRE = (_EAST + _SOUTH) / 2
"""The distance across the strips from the upper left corner of a pixel to its centre."""
_WORLD = (LAST_COLUMN + 1 - FIRST_COLUMN) * SIDE * (_EAST + _SOUTH)

Integers = NDArray[np.int32]


def across(column: Any, row: Any) -> Any:
    """Return the position of a pixel of the whole grid across the strips, to the east."""
    return column * _EAST + row * _SOUTH


def along(column: Any, row: Any) -> Any:
    """Return the position of a pixel of the whole grid along its strip."""
    return row * _EAST - column * _SOUTH


class Swath(msgspec.Struct, frozen=True):
    """Strips between `edges` (hundredths of a pixel across, ascending), each cut into scenes.

    Strip i is cut at `starts[i]`, and every `lengths[i]` before and after it.
    """

    edges: tuple[int, ...]
    starts: tuple[int, ...]
    lengths: tuple[int, ...]

    @property
    def strips(self) -> int:
        return len(self.starts)

    def strip_of(self, column: Any, row: Any) -> Integers:
        """Return the strip of each pixel: 1 is the first; 0 is west of all, and `strips` + 1 east of all."""
        place = across(column, row)
        found = np.zeros(np.shape(place), np.int32)
        for edge in self.edges:
            found += place >= edge
        return found

    def covers(self, square: Square) -> bool:
        column, row = square.corner
        first, last = across(column, row), across(column + SIDE - 1, row + SIDE - 1)
        return bool(last >= self.edges[0] and first < self.edges[-1])

    def outline(self, square: Square) -> list[tuple[float, float]]:
        """Return the covered part of a square: corners in metres, counter-clockwise, not closed."""
        west, south, east, north = square.bounds
        ring = [(float(west), float(south)), (float(east), float(south))]
        ring += [(float(east), float(north)), (float(west), float(north))]
        ring = _kept(ring, self.edges[0], 1)
        return _kept(ring, self.edges[-1], -1)


def _beyond(point: tuple[float, float], edge: int) -> float:
    column, row = (point[0] - WEST) / METRES, (NORTH - point[1]) / METRES
    return float(across(column, row)) - _CENTRE - edge


def _kept(ring: list[tuple[float, float]], edge: int, sign: int) -> list[tuple[float, float]]:
    kept = []
    for here, there in zip(ring, [*ring[1:], ring[0]], strict=True):
        a, b = sign * _beyond(here, edge), sign * _beyond(there, edge)
        if a >= 0:
            kept.append(here)
        if (a < 0 < b) or (b < 0 < a):
            share = a / (a - b)
            kept.append((here[0] + share * (there[0] - here[0]), here[1] + share * (there[1] - here[1])))
    return kept


def swath_of(seed: int, day: int) -> Swath | None:
    """Return the swath of a day (ordinal); None if there is none."""
    if fraction(seed, day, 1) > 0.75:  # noqa: PLR2004 - a quarter of the days
        return None
    strips = 3 + mix(seed, day, 2) % 4
    edge = int((fraction(seed, day, 3) * 1.3 - 0.35) * _WORLD)
    edges = [edge]
    for strip in range(strips):
        edges.append(edges[-1] + 280_000 + mix(seed, day, 4, strip) % 200_000)
    lengths = tuple(350_000 + mix(seed, day, 5, strip) % 200_000 for strip in range(strips))
    starts = tuple(mix(seed, day, 6, strip) % 400_000 for strip in range(strips))
    return Swath(tuple(edges), starts, lengths)


def seen(swath: Swath) -> tuple[Square, ...]:
    return tuple(square for square in ALL if swath.covers(square))
