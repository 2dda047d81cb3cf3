"""The figures that Planet's notebook printed, and rasters of the default tile that reproduce them.

"Lookup Scene Traceability Information for ARPS data in the Planet Insights Platform" printed dates, NDWI
means, scene values and one header. Each of its days is a `NotebookDay`. Values that it did not print (other
scenes, satellites, shares) are invented. These are the only figures from the notebook; statistics are
computed from the rasters as for all other tiles.

The notebook has two boxes, which both sample pixels of the tile. A pixel that each of them samples exactly
once may be clear; all other pixels in the boxes are clouded. So both boxes give the same statistics of valid
pixels: the right number of pixels of each scene, and reflectances whose NDWI has the printed mean.

An index is (green - nir) / (green + nir) as a 32-bit float, as the service returns it. Integers cannot give a
printed mean directly, so some pixels are changed by one: one more in green and one less in near infrared
raises the index by about 2 / (green + nir), or 0.0005, and the mean by less than 1e-8.
"""

from __future__ import annotations

import math
from datetime import date
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from stacpull_replicas.sentinelhub.scenes import CapturedScene, Cuts, reach, smooth
from stacpull_replicas.sentinelhub.tile_grid import (
    CLOUD_CELL,
    EPSG,
    GEOGRAPHIC,
    METRES,
    SIDE,
    Square,
    Swath,
    along,
    to_utm,
)

SQUARE = Square(22, 174)
MONTH = (2023, 11)

PRINTED_BOX, PRINTED_SIZE = (-122.44, 37.75, -122.42293, 37.76989), (497, 739)
"""The box of the printed figures (west, south, east, north), and its pixels in x and y."""
CODE_BOX, CODE_SIZE = (-122.44, 37.75, -122.39, 37.79), (1459, 1489)
"""The box in the notebook's code. Pixels outside the first are clouded, so it gives the same statistics."""

_NORTH_OF_BOTH = 1_000_000
"""A position along the strips that is north of both boxes."""
_EAST_OF_BOTH = 1_600_000
"""A position across the strips that is east of both boxes."""
_LONG = 3_000_000
_NONE = CapturedScene(29, None)
"""Pixels whose scene is None in the header."""


class Target(msgspec.Struct, frozen=True):
    """The required NDWI of the valid pixels; None for any value."""

    mean: float
    deviation: float | None = None
    lowest: tuple[int, int] | None = None
    highest: tuple[int, int] | None = None
    """Green and near infrared of the pixel with the highest NDWI; `lowest` is for the lowest."""


class NotebookDay(msgspec.Struct, frozen=True):
    """A day: the scenes in the north and south of the boxes and east of them, and the valid pixels."""

    day: int
    south: CapturedScene
    north: CapturedScene = _NONE
    east: CapturedScene = _NONE
    valid: tuple[int, int] = (0, 0)
    """Valid pixels of the north and the south scene in the printed box."""
    ndwi: Target | None = None
    cut: int = _NORTH_OF_BOTH
    """The position along the strips of the boundary between north and south."""
    clear: float = 31.4
    """PERCENTAGE_CLEAR of the tile."""
    created: str | None = None
    etags: tuple[str, str] | None = None
    """ETags of the QA and the SR file."""

    @property
    def date(self) -> date:
        return date(*MONTH, self.day)

    def cuts(self) -> Cuts:
        swath = Swath((900_000, _EAST_OF_BOTH, 1_800_000), (self.cut, 0), (_LONG, 2 * _LONG))
        firsts = tuple(reach(swath, SQUARE, strip)[0] for strip in range(2))
        return Cuts(swath, firsts, ((self.north, self.south), (self.east,)))


def _scene(value: int, text: str, azimuth: float, elevation: float) -> CapturedScene:
    return CapturedScene(value, f"PSScene/202311{text}", azimuth, elevation)


def _unlisted(value: int) -> CapturedScene:
    return CapturedScene(value, "PSScene/unknown", listed=False)


NOTEBOOK_DAYS = (
    NotebookDay(
        2,
        north=_scene(10, "02_190001_45_2495", 165.3, 25.6),
        south=_scene(233, "02_190003_53_2495", 165.2, 25.7),
        valid=(15_384, 123_605),
        ndwi=Target(-0.30580023709867454, 0.3505539523621675, (413, 3267), (2300, 540)),
        cut=1_150_000,
        clear=24.97,
        created="2024-11-08T17:03:40Z",
        etags=('"9e4f9cbf89e7a024999cfb1af20cf52b"', '"9a33f9fd8defffc0e312a9efdc22f352-23"'),
    ),
    NotebookDay(4, south=_scene(61, "04_184410_12_24b6", 160.1, 26.0), clear=11.62),
    NotebookDay(
        7,
        south=_scene(88, "07_182145_2_24a1", 154.8, 24.4),
        valid=(0, 301_455),
        ndwi=Target(-0.378623),
        clear=83.05,
    ),
    NotebookDay(
        8,
        north=_scene(141, "08_190503_11_247e", 166.9, 24.0),
        south=_scene(3, "08_190505_24_247e", 166.8, 24.1),
        valid=(9_210, 14_032),
        ndwi=Target(0.026967),
        cut=1_190_000,
        clear=7.48,
    ),
    NotebookDay(
        13,
        north=_scene(17, "13_185850_80_2461", 165.9, 22.9),
        south=_unlisted(202),
        valid=(40_126, 187_514),
        ndwi=Target(-0.291144),
        cut=1_150_000,
        clear=66.31,
    ),
    NotebookDay(
        16,
        south=_scene(512, "16_192141_24c4", 170.7, 23.0),
        valid=(0, 71_348),
        ndwi=Target(-0.202325),
        clear=29.90,
    ),
    NotebookDay(
        17,
        north=_scene(340, "17_190155_77_2439", 166.1, 22.0),
        south=_scene(7, "17_190157_85_2439", 166.0, 22.1),
        valid=(30_007, 249_980),
        ndwi=Target(-0.323913),
        cut=1_150_000,
        clear=71.14,
    ),
    NotebookDay(
        18,
        south=_scene(19, "18_190203_41_2486", 166.2, 21.8),
        valid=(0, 320_216),
        ndwi=Target(-0.357332),
        clear=92.77,
    ),
    NotebookDay(19, south=_scene(401, "19_181216_09_24a7", 153.6, 20.9), clear=3.17),
    NotebookDay(21, south=_scene(77, "21_190311_64_2490", 166.4, 21.1), clear=1.05),
    NotebookDay(
        22,
        north=_scene(255, "22_190625_33_241d", 167.2, 20.9),
        south=_scene(256, "22_190627_41_241d", 167.1, 21.0),
        valid=(20_480, 60_175),
        ndwi=Target(-0.189824),
        cut=1_160_000,
        clear=38.22,
    ),
    NotebookDay(
        23,
        south=_scene(599, "23_192230_19_24c8", 171.3, 21.1),
        valid=(0, 264_003),
        ndwi=Target(-0.321991),
        clear=77.93,
    ),
    NotebookDay(24, south=_unlisted(28), valid=(0, 198_771), ndwi=Target(-0.305517), clear=60.48),
    NotebookDay(
        25,
        north=_scene(30, "25_190811_90_2475", 167.5, 20.3),
        south=_unlisted(202),
        valid=(61_904, 122_460),
        ndwi=Target(-0.316208),
        cut=1_165_000,
        clear=55.26,
    ),
    NotebookDay(26, south=_scene(12, "26_184933_55_2442", 162.4, 20.6), clear=0.41),
)
"""The days of the month that have a tile. Days without valid pixels gave NaN."""


def notebook_day(square: Square, day: date) -> NotebookDay | None:
    """Return the figures of the notebook for a tile on a day; None if it has none."""
    if square != SQUARE or (day.year, day.month) != MONTH:
        return None
    return next((printed for printed in NOTEBOOK_DAYS if printed.day == day.day), None)


Whole = NDArray[np.int64]
_ROUNDS = 4


def index_of(green: Any, nir: Any) -> NDArray[np.float64]:
    """Return the index as the service does: computed in 64 bits and rounded to 32."""
    return np.asarray(((green - nir) / (green + nir)).astype(np.float32).astype(np.float64))


def settle(green: Whole, nir: Whole, mean: float, deviation: float | None, kept: Whole) -> None:
    """Change `green` and `nir` in place, except in `kept`, until the index has the mean and deviation.

    Both are within what one more change of a pixel by one would give.
    """
    order = np.argsort(index_of(green, nir), kind="stable")
    order = order[~np.isin(order, kept)]
    spread, tenth = order[:: max(1, len(order) // 20_000)], len(order) // 10

    def stepped(places: Whole, step: int) -> NDArray[np.float64]:
        return index_of(green[places] + step, nir[places] - step)

    def change(places: Whole, step: int) -> None:
        green[places] += step
        nir[places] -= step

    for turn in range(1 if deviation is None else _ROUNDS):
        if deviation is not None:  # coarse with the outermost pixels, then finer
            low, high = (ends[turn * tenth :][:tenth] for ends in (order, order[::-1]))
            squares = (deviation**2 + mean**2) * len(green)
            missing = squares - math.fsum(index_of(green, nir) ** 2)
            step = 1 if missing > 0 else -1
            gains = stepped(high, step) ** 2 - stepped(high, 0) ** 2
            gains += stepped(low, -step) ** 2 - stepped(low, 0) ** 2
            taken = int(np.searchsorted(np.cumsum(gains) * step, abs(missing)))
            change(high[:taken], step)
            change(low[:taken], -step)
        missing = mean * len(green) - math.fsum(index_of(green, nir))
        step = 1 if missing > 0 else -1
        gains = np.cumsum(stepped(spread, step) - stepped(spread, 0)) * step
        change(spread[: int(np.searchsorted(gains, abs(missing)))], step)


Mask = NDArray[np.bool_]
PixelCounts = NDArray[np.int16]

_LAND, _WATER = -0.52, 0.45
_USUAL_DEVIATION = 0.29


class CloudWindow(msgspec.Struct, frozen=True):
    """The cloud cells that the boxes touch: row and column of the first pixel, and a mask of candidates.

    A candidate is a pixel that may be clear.
    """

    row: int
    column: int
    candidates: Mask

    @property
    def stop(self) -> tuple[int, int]:
        height, width = self.candidates.shape
        return self.row + height, self.column + width


class NotebookPixels(msgspec.Struct, frozen=True):
    """The pixels of the notebook in a tile: a mask of clear ones, and their green and near infrared."""

    window: CloudWindow
    clear: Mask
    green: PixelCounts
    nir: PixelCounts


@lru_cache(maxsize=1)
def window() -> CloudWindow:
    sampled = [_sampled(box, size) for box, size in ((PRINTED_BOX, PRINTED_SIZE), (CODE_BOX, CODE_SIZE))]
    first = [min(int(places[axis].min()) for places in sampled) for axis in (0, 1)]
    last = [max(int(places[axis].max()) for places in sampled) for axis in (0, 1)]
    row, column = (place // CLOUD_CELL * CLOUD_CELL for place in first)
    shape = tuple((b // CLOUD_CELL + 1) * CLOUD_CELL - a for a, b in zip((row, column), last, strict=True))
    once = np.ones(shape, bool)
    for rows, columns in sampled:
        times = np.bincount((rows - row) * shape[1] + columns - column, minlength=shape[0] * shape[1])
        once &= times.reshape(shape) == 1
    return CloudWindow(row, column, once)


def _sampled(box: tuple[float, ...], size: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    (west, south, east, north), (width, height) = box, size
    x = west + (np.arange(width) + 0.5) * ((east - west) / width)
    y = north - (np.arange(height) + 0.5) * ((north - south) / height)
    grid = np.meshgrid(x, y)
    easting, northing = to_utm(grid[0].ravel(), grid[1].ravel(), GEOGRAPHIC, EPSG)
    left, top = SQUARE.upper_left
    rows, columns = np.floor((top - northing) / METRES), np.floor((easting - left) / METRES)
    return rows.astype(np.int64), columns.astype(np.int64)


def notebook_pixels(seed: int, printed: NotebookDay) -> NotebookPixels:
    place = window()
    bottom, right = place.stop
    shape = bottom - place.row, right - place.column
    clear = _clear(seed, printed, place)
    green, nir = np.zeros(shape, np.int16), np.zeros(shape, np.int16)
    if printed.ndwi is not None:
        wet = _field(seed, printed, 2, 55, shape)[clear]
        bright = _field(seed, printed, 3, 20, shape)[clear]
        green[clear], nir[clear] = _reflectances(wet, bright, printed.ndwi)
    return NotebookPixels(place, clear, green, nir)


def _field(
    seed: int, printed: NotebookDay, purpose: int, spacing: int, shape: tuple[int, int]
) -> NDArray[np.float32]:
    height, width = shape
    return smooth((seed, printed.day, 40 + purpose), (0, 0), max(shape), spacing)[:height, :width]


def _clear(seed: int, printed: NotebookDay, place: CloudWindow) -> Mask:
    bottom, right = place.stop
    height, width = bottom - place.row, right - place.column
    clear = np.zeros((height, width), bool)
    clouds = _field(seed, printed, 1, 90, (height, width))
    column, row = SQUARE.corner
    rows = row + place.row + np.arange(height, dtype=np.int32)[:, None]
    columns = column + place.column + np.arange(width, dtype=np.int32)[None, :]
    south = along(columns, rows) >= printed.cut
    for side, count in zip((~south, south), printed.valid, strict=True):
        places = np.flatnonzero(place.candidates & side)
        if count > len(places):
            raise ValueError(f"day {printed.day}: {count} pixels are needed, but there are {len(places)}")
        order = np.argsort(clouds.ravel()[places], kind="stable")
        clear.ravel()[places[order[:count]]] = True
    return clear


def _reflectances(
    wet: NDArray[np.float32], bright: NDArray[np.float32], target: Target
) -> tuple[PixelCounts, PixelCounts]:
    """Return green and near infrared of pixels. The wettest are water, as many as the mean requires."""
    ndwi = _spread(wet, target)
    both = 1500 + 2 * (bright * 2000).astype(np.int64)
    green = np.rint(both * (1 + ndwi) / 2).astype(np.int64)
    nir = both - green
    order = np.argsort(index_of(green, nir), kind="stable")
    kept = [place for place, pair in ((order[0], target.lowest), (order[-1], target.highest)) if pair]
    for place, pair in ((order[0], target.lowest), (order[-1], target.highest)):
        if pair:
            green[place], nir[place] = pair
    settle(green, nir, target.mean, target.deviation, np.array(kept, np.int64))
    return green.astype(np.int16), nir.astype(np.int16)


def _spread(wet: NDArray[np.float32], target: Target) -> NDArray[np.float64]:
    rank = np.empty(len(wet))
    rank[np.argsort(wet, kind="stable")] = (np.arange(len(wet)) + 0.5) / len(wet)
    share = (target.mean - _LAND) / (_WATER - _LAND)
    land = _LAND + 0.30 * (rank / (1 - share) - 0.5)
    water = _WATER + 0.20 * ((rank - 1 + share) / share - 0.5)
    humps = np.where(rank < 1 - share, land, water)
    scale = (target.deviation or _USUAL_DEVIATION) / humps.std()
    return np.asarray(target.mean + scale * (humps - humps.mean()))


def covers(rows: NDArray[np.int32], columns: NDArray[np.int32]) -> bool:
    """Return True if rows and columns of the tile may be in the window."""
    place = window()
    return bool(
        rows.size
        and rows.min() < place.stop[0]
        and rows.max() >= place.row
        and columns.min() < place.stop[1]
        and columns.max() >= place.column
        and rows.max() < SIDE
    )
