"""Rasters that give the notebook's figures: which pixels are clear, and their reflectances.

Both of its boxes are sampled pixel by pixel from the tile. A pixel that both of them take exactly once may be
clear; every other one in the boxes is clouded. So both give the same statistics of valid pixels, and these
can be laid out: the right number of pixels of each scene, and reflectances whose NDWI has the printed mean.
Whole numbers cannot give it directly, so that some are changed by one until what is missing is below 1e-12
(`settle`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from stacpull_replicas.sentinelhub.noise import smooth
from stacpull_replicas.sentinelhub.notebook import (
    CODE_BOX,
    CODE_SIZE,
    PRINTED_BOX,
    PRINTED_SIZE,
    SQUARE,
    Sight,
    Target,
)
from stacpull_replicas.sentinelhub.projection import GEOGRAPHIC, to_utm
from stacpull_replicas.sentinelhub.settling import index_of, settle
from stacpull_replicas.sentinelhub.squares import CLOUD_CELL, EPSG, METRES, SIDE
from stacpull_replicas.sentinelhub.swaths import along

Mask = NDArray[np.bool_]
Counts = NDArray[np.int16]

_LAND, _WATER = -0.52, 0.45
_USUAL_DEVIATION = 0.29


@dataclass(frozen=True)
class Window:
    """Cells of clouds that the boxes touch: `row` and `column` of the first pixel, and which may be clear."""

    row: int
    column: int
    candidates: Mask

    @property
    def stop(self) -> tuple[int, int]:
        """Row and column behind the last."""
        height, width = self.candidates.shape
        return self.row + height, self.column + width


@dataclass(frozen=True)
class Overlay:
    """What is laid over a tile: where it is clear, and there green and near infrared (elsewhere 0)."""

    window: Window
    clear: Mask
    green: Counts
    nir: Counts


@lru_cache(maxsize=1)
def window() -> Window:
    """Find the pixels that the notebook's boxes take."""
    taken = [_taken(box, size) for box, size in ((PRINTED_BOX, PRINTED_SIZE), (CODE_BOX, CODE_SIZE))]
    first = [min(int(places[axis].min()) for places in taken) for axis in (0, 1)]
    last = [max(int(places[axis].max()) for places in taken) for axis in (0, 1)]
    row, column = (place // CLOUD_CELL * CLOUD_CELL for place in first)
    shape = tuple((b // CLOUD_CELL + 1) * CLOUD_CELL - a for a, b in zip((row, column), last, strict=True))
    once = np.ones(shape, bool)
    for rows, columns in taken:
        times = np.bincount((rows - row) * shape[1] + columns - column, minlength=shape[0] * shape[1])
        once &= times.reshape(shape) == 1
    return Window(row, column, once)


def _taken(box: tuple[float, ...], size: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and column in the tile of the pixel nearest to each sample of a box."""
    (west, south, east, north), (width, height) = box, size
    x = west + (np.arange(width) + 0.5) * ((east - west) / width)
    y = north - (np.arange(height) + 0.5) * ((north - south) / height)
    grid = np.meshgrid(x, y)
    easting, northing = to_utm(grid[0].ravel(), grid[1].ravel(), GEOGRAPHIC, EPSG)
    left, top = SQUARE.upper_left
    rows, columns = np.floor((top - northing) / METRES), np.floor((easting - left) / METRES)
    return rows.astype(np.int64), columns.astype(np.int64)


def lay(seed: int, sight: Sight) -> Overlay:
    """Make what is to be seen on a day of the notebook."""
    place = window()
    bottom, right = place.stop
    shape = bottom - place.row, right - place.column
    clear = _clear(seed, sight, place)
    green, nir = np.zeros(shape, np.int16), np.zeros(shape, np.int16)
    if sight.ndwi is not None:
        wet = _field(seed, sight, 2, 55, shape)[clear]
        bright = _field(seed, sight, 3, 20, shape)[clear]
        green[clear], nir[clear] = _reflectances(wet, bright, sight.ndwi)
    return Overlay(place, clear, green, nir)


def _field(
    seed: int, sight: Sight, purpose: int, spacing: int, shape: tuple[int, int]
) -> NDArray[np.float32]:
    height, width = shape
    return smooth((seed, sight.day, 40 + purpose), (0, 0), max(shape), spacing)[:height, :width]


def _clear(seed: int, sight: Sight, place: Window) -> Mask:
    """The pixels of each scene that are least clouded, as many as were valid."""
    bottom, right = place.stop
    height, width = bottom - place.row, right - place.column
    clear = np.zeros((height, width), bool)
    clouds = _field(seed, sight, 1, 90, (height, width))
    column, row = SQUARE.corner
    rows = row + place.row + np.arange(height, dtype=np.int32)[:, None]
    columns = column + place.column + np.arange(width, dtype=np.int32)[None, :]
    south = along(columns, rows) >= sight.cut
    for side, count in zip((~south, south), sight.valid, strict=True):
        places = np.flatnonzero(place.candidates & side)
        if count > len(places):
            raise ValueError(f"day {sight.day}: {count} pixels are wanted, {len(places)} are there")
        order = np.argsort(clouds.ravel()[places], kind="stable")
        clear.ravel()[places[order[:count]]] = True
    return clear


def _reflectances(
    wet: NDArray[np.float32], bright: NDArray[np.float32], target: Target
) -> tuple[Counts, Counts]:
    """Green and near infrared of pixels: water where it is wettest, so much that the mean is met."""
    ndwi = _spread(wet, target)
    both = 1500 + 2 * (bright * 2000).astype(np.int64)
    both[::7] = 4000  # `settle` needs some that are equally bright
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
    """NDWI with two humps, land and water, with the wanted mean and deviation."""
    rank = np.empty(len(wet))
    rank[np.argsort(wet, kind="stable")] = (np.arange(len(wet)) + 0.5) / len(wet)
    share = (target.mean - _LAND) / (_WATER - _LAND)
    land = _LAND + 0.30 * (rank / (1 - share) - 0.5)
    water = _WATER + 0.20 * ((rank - 1 + share) / share - 0.5)
    humps = np.where(rank < 1 - share, land, water)
    scale = (target.deviation or _USUAL_DEVIATION) / humps.std()
    return np.asarray(target.mean + scale * (humps - humps.mean()))


def covers(rows: NDArray[np.int32], columns: NDArray[np.int32]) -> bool:
    """Whether rows and columns of the tile may meet the window."""
    place = window()
    return bool(
        rows.size
        and rows.min() < place.stop[0]
        and rows.max() >= place.row
        and columns.min() < place.stop[1]
        and columns.max() >= place.column
        and rows.max() < SIDE
    )
