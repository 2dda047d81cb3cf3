"""The scenes of a tile: their values in `scene_mask`, and their entries in the header.

Scene ids have all forms of PlanetScope: with hundredths of a second, with a counter, and without either. Some
values have no scene (`None`), some have a scene of another satellite, and some scenes are missing in the
header, as in the notebook.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import msgspec
import numpy as np
from numpy.typing import NDArray
from shapely import Polygon, box

from stacpull_replicas.draws import Permutation, fraction, mix
from stacpull_replicas.sentinelhub.tile_grid import SIDE, Integers, Square, Swath, across, along

NoiseField = NDArray[np.float32]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def smooth(words: tuple[int, ...], corner: tuple[int, int], side: int, spacing: int) -> NoiseField:
    """Return a square of a field: `side` by `side` values in [0, 1), with the upper left at `corner`."""
    columns, across = _places(corner[0], side, spacing)
    rows, down = _places(corner[1], side, spacing)
    lattice = _hashed(mix(*words, spacing), columns, rows)
    upper, lower = lattice[:-1], lattice[1:]
    row, column = _gaps(corner[1], side, spacing), _gaps(corner[0], side, spacing)
    lines = upper[row] + (lower[row] - upper[row]) * down[:, None]
    left, right = lines[:, :-1], lines[:, 1:]
    field: NoiseField = left[:, column] + (right[:, column] - left[:, column]) * across
    return field


def _gaps(first: int, count: int, spacing: int) -> NDArray[np.int64]:
    """Return the lattice interval of each of `count` steps from `first`, counted from the first interval."""
    steps = np.arange(first, first + count) // spacing
    return np.asarray(steps - steps[0])


def _places(first: int, count: int, spacing: int) -> tuple[NDArray[np.int64], NoiseField]:
    points = np.arange(first // spacing, (first + count - 1) // spacing + 2)
    within = (np.arange(first, first + count) % spacing / spacing).astype(np.float32)
    return points, within * within * (3 - 2 * within)


def _hashed(word: int, columns: NDArray[np.int64], rows: NDArray[np.int64]) -> NoiseField:
    with np.errstate(over="ignore"):
        state = np.uint64(word) + columns.astype(np.uint64)[None, :] * _GOLDEN
        state = _mixed(state) + rows.astype(np.uint64)[:, None] * _GOLDEN
        return (_mixed(state) >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24)


def _mixed(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * _FIRST
    state = (state ^ (state >> np.uint64(27))) * _SECOND
    return state ^ (state >> np.uint64(31))


MAX_VALUES = 600
_SLIVER = 1e8
"""About ten thousand pixels, as an area in squared hundredths of a pixel."""
NODATA = -999


class CapturedScene(msgspec.Struct, frozen=True):
    """One entry of the header: the value of its pixels, and the id or None.

    `listed` is False if the scene has pixels but is missing in the header. Angles are in degrees.
    """

    value: int
    id: str | None
    azimuth: float = 0.0
    elevation: float = 0.0
    listed: bool = True


class Cuts(msgspec.Struct, frozen=True):
    """The scenes of a tile: `scenes[strip][k - firsts[strip]]` begins at cut k of a strip."""

    swath: Swath
    firsts: tuple[int, ...]
    scenes: tuple[tuple[CapturedScene, ...], ...]

    def values(self, strip: Integers, column: Integers, row: Integers) -> NDArray[np.int16]:
        """Return the value of `scene_mask` for pixels of the whole grid."""
        flat = [NODATA, *(scene.value for scenes in self.scenes for scene in scenes), NODATA]
        ends = np.cumsum([1, *map(len, self.scenes)])
        inside = np.clip(strip, 0, len(self.scenes) - 1)
        cut = (along(column, row) - _taken(self.swath.starts, inside)) // _taken(self.swath.lengths, inside)
        place = cut - _taken(self.firsts, inside) + ends[:-1].astype(np.int32)[inside]
        place = np.where(strip < 0, 0, np.where(strip >= len(self.scenes), len(flat) - 1, place))
        return np.array(flat, np.int16)[place]

    def within(self, square: Square) -> Iterator[CapturedScene]:
        """Yield the scenes that cover more than a sliver of a tile."""
        tile = _turned(square)
        for strip, scenes in enumerate(self.scenes):
            west, east = self.swath.edges[strip : strip + 2]
            for k, scene in enumerate(scenes, self.firsts[strip]):
                north = self.swath.starts[strip] + k * self.swath.lengths[strip]
                area = box(west, north, east, north + self.swath.lengths[strip])
                if area.intersection(tile).area > _SLIVER:
                    yield scene


@lru_cache(maxsize=16)
def _turned(square: Square) -> Polygon:
    column, row = square.corner
    corners = [(column, row), (column + SIDE, row), (column + SIDE, row + SIDE), (column, row + SIDE)]
    return Polygon([(across(x, y), along(x, y)) for x, y in corners])


def _taken(values: tuple[int, ...], places: Integers) -> Integers:
    return np.array(values, np.int32)[places]


def reach(swath: Swath, square: Square, strip: int) -> tuple[int, int]:
    """Return the first and the last cut of a strip that can be in a tile."""
    column, row = square.corner
    north, south = along(column + SIDE - 1, row), along(column, row + SIDE - 1)
    start, length = swath.starts[strip], swath.lengths[strip]
    return (north - start) // length, (south - start) // length


def cut(seed: int, square: Square, day: int, swath: Swath) -> Cuts:
    order = Permutation.seeded(MAX_VALUES, seed, square.column, square.row, day)
    reaches = [reach(swath, square, strip) for strip in range(swath.strips)]
    scenes, number = [], 0
    for strip, (first, last) in enumerate(reaches):
        row = []
        for k in range(first, last + 1):
            row.append(_drawn(seed, day, strip, k, order.forward(number) + 1))
            number += 1
        scenes.append(tuple(row))
    return Cuts(swath, tuple(first for first, _ in reaches), tuple(scenes))


def _drawn(seed: int, day: int, strip: int, k: int, value: int) -> CapturedScene:
    """Return a scene of a strip; only `value` depends on the tile."""
    start = datetime.fromordinal(day).replace(tzinfo=UTC) + timedelta(hours=18, minutes=5)
    moment = start + timedelta(seconds=fraction(seed, day, 30) * 4200 + strip * 93.7 + k * 2.08)
    luck = mix(seed, day, 31, strip, k) % 100
    hours = (moment - moment.replace(hour=0, minute=0, second=0)) / timedelta(hours=1)
    azimuth, elevation = round(180 + (hours - 20) * 15, 1), round(36 - (20 - hours) ** 2 * 2, 1)
    name = None if luck < 4 else _id(moment, seed, day, strip, luck)  # noqa: PLR2004 - in a hundred
    return CapturedScene(value, name, azimuth, elevation, listed=luck < 94)  # noqa: PLR2004 - in a hundred


def _id(moment: datetime, seed: int, day: int, strip: int, luck: int) -> str:
    satellite = f"{0x2400 + mix(seed, day, 32, strip) % 0xE0:04x}"
    second = moment.strftime("%Y%m%d_%H%M%S")
    if luck == 4:  # noqa: PLR2004 - one in a hundred
        return f"SkySatCollect/{second}_ssc{1 + mix(seed, strip) % 19}_u0001"
    part = {0: "", 1: f"_{mix(seed, day, strip) % 10}"}.get(
        mix(seed, day, 33, strip) % 4, f"_{moment.microsecond // 10000:02d}"
    )
    return f"PSScene/{second}{part}_{satellite}"
