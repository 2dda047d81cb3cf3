"""The captures of a collection over two years. A capture is one tile on one day: its id, cover and pixels.

`Capture.read` is the only source of pixels: the statistics and the GeoTIFF files both use it. A pixel depends
only on seed, tile, day and position, so any part can be generated at any time. The surface has cells of 8 by
8 pixels, and clouds have larger ones, which keeps files small. Scenes, the edges of the swath and the pixels
of the notebook have full resolution. The list of captures is short enough to be generated at once.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Collection, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cached_property, lru_cache
from hashlib import sha256

import msgspec
import numpy as np
from numpy.typing import NDArray
from shapely import Polygon
from shapely.geometry.base import BaseGeometry

from stacpull_replicas.draws import fraction, mix
from stacpull_replicas.sentinelhub.notebook_figures import (
    MONTH,
    SQUARE,
    NotebookDay,
    NotebookPixels,
    covers,
    notebook_day,
    notebook_pixels,
    window,
)
from stacpull_replicas.sentinelhub.scenes import NODATA, CapturedScene, Cuts, cut, smooth
from stacpull_replicas.sentinelhub.tile_grid import (
    CELL,
    CLOUD_CELL,
    EPSG,
    EXTENT,
    FIRST_COLUMN,
    FIRST_ROW,
    LAST_COLUMN,
    NORTH,
    SIDE,
    WEST,
    Square,
    Swath,
    seen,
    swath_of,
    to_lonlat,
)

SR_BANDS = ("blue", "green", "red", "nir")
QA_BANDS = ("cloud_mask", "scene_mask")
BANDS = SR_BANDS + QA_BANDS
MASK = "dataMask"
"""A band that is not in the files: 1 where there are data."""
CLEAR = 1
"""`cloud_mask` of a clear pixel; a clouded one has 0."""

_BACKFILL = datetime(2024, 11, 12, 8, tzinfo=UTC)
"""The time at which all earlier captures were added to the collection."""
_CELLS, _CLOUD_CELLS = SIDE // CELL, SIDE // CLOUD_CELL

Pixels = NDArray[np.int16]
Places = NDArray[np.int32]


class Capture(msgspec.Struct, frozen=True, eq=False, dict=True):
    """A tile on a day; `version` counts ingestions of the same tile and day, with the last one on top."""

    seed: int
    square: Square
    day: date
    version: int
    swath: Swath
    printed: NotebookDay | None = None

    @cached_property
    def id(self) -> str:
        words = f"tile {self.seed} {self.square.name} {self.day} {self.version}"
        return str(uuid.UUID(bytes=sha256(words.encode()).digest()[:16], version=4))

    @cached_property
    def sensed(self) -> datetime:
        return datetime(self.day.year, self.day.month, self.day.day, tzinfo=UTC)

    @cached_property
    def ingested(self) -> datetime:
        words = self.seed, self.square.column, self.square.row, self.day.toordinal()
        start = max(_BACKFILL, self.sensed + timedelta(days=2)) + timedelta(days=30 * self.version)
        return start + timedelta(microseconds=mix(*words, 50, self.version) % 10**12)

    @cached_property
    def cuts(self) -> Cuts:
        if self.printed is not None:
            return self.printed.cuts()
        return cut(self.seed, self.square, self.day.toordinal(), self.swath)

    @cached_property
    def cover(self) -> Polygon:
        """The part with data, in metres. A pixel has data if its centre is in it."""
        return Polygon(self.swath.outline(self.square))

    @cached_property
    def clear_share(self) -> float:
        """The clear part of the tile in percent, as in its header."""
        if self.printed is not None:
            return self.printed.clear
        covered = float(self.cover.area) / EXTENT**2
        return round((3 + 92 * fraction(*self._words, 51)) * covered, 2)

    @property
    def _words(self) -> tuple[int, ...]:
        return self.seed, self.square.column, self.square.row, self.day.toordinal(), self.version

    def header_scenes(self) -> tuple[CapturedScene, ...]:
        """Return the scenes that the header lists, in order of value, those without an id last."""
        known = {scene.value: scene for scene in self.cuts.within(self.square) if scene.listed}
        return tuple(sorted(known.values(), key=lambda scene: (scene.id is None, scene.value)))

    def read(self, bands: Collection[str], rows: Places, columns: Places) -> dict[str, Pixels]:
        """Return the pixels of bands at rows and columns (0 to 7999) of the tile, broadcast together.

        Bands are those of `BANDS`, with -999 where there are no data, and `dataMask`.
        """
        left, top = self.square.corner
        strip = self.swath.strip_of(columns + left, rows + top) - 1
        empty = (strip < 0) | (strip >= self.swath.strips)
        values = self.cuts.values(strip, columns + left, rows + top)
        cells = rows // CELL, columns // CELL
        found: dict[str, Pixels] = {}
        for band in bands:
            if band == MASK:
                found[band] = (~empty).astype(np.int16)
            elif band == "scene_mask":
                found[band] = values
            elif band == "cloud_mask":
                clear = _clear_cells(self)[rows // CLOUD_CELL, columns // CLOUD_CELL].astype(np.int16)
                found[band] = np.where(empty, NODATA, clear).astype(np.int16)
            else:
                tint = values % 31 + self.day.toordinal() % 17
                light = _surface(self.seed, self.square)[band][cells] + tint
                found[band] = np.where(empty, NODATA, light).astype(np.int16)
        if self.printed is not None and covers(rows, columns):
            _overwrite(found, _overlay(self), rows, columns)
        return found


def _overwrite(found: dict[str, Pixels], notebook: NotebookPixels, rows: Places, columns: Places) -> None:
    place = notebook.window
    rows, columns = np.broadcast_arrays(rows, columns)
    stop = place.stop
    inside = (rows >= place.row) & (rows < stop[0]) & (columns >= place.column) & (columns < stop[1])
    at = rows[inside] - place.row, columns[inside] - place.column
    clear = notebook.clear[at]
    green, nir = notebook.green[at], notebook.nir[at]
    made = {"green": green, "nir": nir, "red": green - green // 5, "blue": green - green // 4}
    for band, pixels in found.items():
        if band == "cloud_mask":
            pixels[inside] = clear
        elif band in made:
            pixels[inside] = np.where(clear, made[band], pixels[inside])


@lru_cache(maxsize=16)
def _overlay(capture: Capture) -> NotebookPixels:
    if capture.printed is None:
        raise ValueError("the notebook has no data for this tile on this day")
    return notebook_pixels(capture.seed, capture.printed)


@lru_cache(maxsize=9)
def _surface(seed: int, square: Square) -> dict[str, Pixels]:
    corner = square.corner[0] // CELL, square.corner[1] // CELL
    wet = 0.7 * _field(seed, 1, corner, 220) + 0.3 * _field(seed, 1, corner, 45)
    grain, green = _field(seed, 2, corner, 12), _field(seed, 3, corner, 90)
    water = wet < 0.42  # noqa: PLR2004 - two fifths or so
    bands = {
        "blue": np.where(water, 380 + 300 * grain, 300 + 500 * grain + 150 * (1 - green)),
        "green": np.where(water, 420 + 380 * grain, 450 + 500 * grain + 250 * green),
        "red": np.where(water, 250 + 200 * grain, 400 + 900 * (1 - green) + 300 * grain),
        "nir": np.where(water, 90 + 160 * grain, 1400 + 2200 * green + 500 * grain),
    }
    return {band: light.astype(np.int16) for band, light in bands.items()}


def _field(seed: int, purpose: int, corner: tuple[int, int], spacing: int) -> NDArray[np.float32]:
    return smooth((seed, 60 + purpose), corner, _CELLS, spacing)


@lru_cache(maxsize=128)
def _clear_cells(capture: Capture) -> NDArray[np.uint8]:
    words = *capture._words, 52  # noqa: SLF001 - a function of this class
    clouds = 0.75 * smooth(words, (0, 0), _CLOUD_CELLS, 75) + 0.25 * smooth(words, (0, 0), _CLOUD_CELLS, 15)
    left, top = capture.square.corner
    middle = np.arange(_CLOUD_CELLS, dtype=np.int32) * CLOUD_CELL + CLOUD_CELL // 2
    strip = capture.swath.strip_of(middle[None, :] + left, middle[:, None] + top)
    usable = (strip > 0) & (strip <= capture.swath.strips)
    wanted = capture.clear_share / 100 * usable.size
    if capture.printed is not None:
        usable &= ~_cells_of_window()
        wanted -= int(_overlay(capture).clear.sum()) / CLOUD_CELL**2
    count = min(max(0, round(wanted)), int(usable.sum()))
    clear = np.zeros(usable.shape, np.uint8)
    places = np.flatnonzero(usable)
    order = np.argpartition(clouds.ravel()[places], min(count, len(places) - 1))
    clear.ravel()[places[order[:count]]] = 1
    return clear


def _cells_of_window() -> NDArray[np.bool_]:
    place = window()
    inside = np.zeros((_CLOUD_CELLS, _CLOUD_CELLS), bool)
    bottom, right = place.stop
    rows = slice(place.row // CLOUD_CELL, bottom // CLOUD_CELL)
    inside[rows, place.column // CLOUD_CELL : right // CLOUD_CELL] = True
    return inside


DEFAULT_SEED = 7
"""The seed whose data match the notebook."""
FIRST_DAY, LAST_DAY = date(2023, 1, 1), date(2024, 12, 31)
_TWICE = 40
"""One of this many captures was ingested twice."""


class Archive(msgspec.Struct, frozen=True, eq=False, dict=True):
    """All captures of a seed, oldest first."""

    seed: int

    @cached_property
    def captures(self) -> tuple[Capture, ...]:
        days = range(FIRST_DAY.toordinal(), LAST_DAY.toordinal() + 1)
        return tuple(capture for day in days for capture in self._of_day(day))

    def _of_day(self, ordinal: int) -> Iterator[Capture]:
        day = date.fromordinal(ordinal)
        swath = swath_of(self.seed, ordinal)
        for square in sorted({*(seen(swath) if swath else ()), SQUARE}):
            if self._laid_out(square, day):
                printed = notebook_day(square, day)
                if printed is not None:
                    yield Capture(self.seed, square, day, 0, printed.cuts().swath, printed)
            elif swath and swath.covers(square):
                twice = mix(self.seed, ordinal, square.column, square.row, 70) % _TWICE == 0
                for version in range(1 + twice):
                    yield Capture(self.seed, square, day, version, swath)

    def _laid_out(self, square: Square, day: date) -> bool:
        return self.seed == DEFAULT_SEED and square == SQUARE and (day.year, day.month) == MONTH

    @cached_property
    def by_id(self) -> dict[str, Capture]:
        return {capture.id: capture for capture in self.captures}

    def within(self, start: datetime, end: datetime, area: BaseGeometry | None = None) -> list[Capture]:
        """Return the captures sensed from `start` to before `end` that touch an area in metres."""
        return [
            capture
            for capture in self.captures
            if start <= capture.sensed < end and (area is None or capture.cover.intersects(area))
        ]


@lru_cache(maxsize=8)
def archive_of(seed: int) -> Archive:
    return Archive(seed)


def whole_area() -> tuple[float, float, float, float]:
    """Return west, south, east and north of the largest box within the tiles, in hundredths of a degree."""
    right, bottom = WEST + (LAST_COLUMN + 1 - FIRST_COLUMN) * EXTENT, FIRST_ROW * EXTENT
    x, y = to_lonlat([WEST, WEST, right, right], [bottom, NORTH, bottom, NORTH], EPSG)
    low, high = (x[:2].max(), y[[0, 2]].max()), (x[2:].min(), y[[1, 3]].min())
    west, south = (math.ceil(degrees * 100) / 100 for degrees in low)
    east, north = (math.floor(degrees * 100) / 100 for degrees in high)
    return west, south, east, north


@lru_cache(maxsize=4096)
def footprint(capture: Capture) -> Polygon:
    x, y = capture.cover.exterior.xy
    longitude, latitude = to_lonlat(x, y, EPSG)
    return Polygon(list(zip(longitude.tolist(), latitude.tolist(), strict=True)))
