"""Everything in a collection: which tile was captured on which day, found by id, time and place.

Two years, nine tiles. The clouds and scenes of a capture are made when they are asked for; the list of
captures is short enough to be made at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property, lru_cache

from shapely import Polygon
from shapely.geometry.base import BaseGeometry

from stacpull_replicas.draws import mix
from stacpull_replicas.sentinelhub.captures import Capture
from stacpull_replicas.sentinelhub.notebook import MONTH, SQUARE, sight_of
from stacpull_replicas.sentinelhub.projection import to_lonlat
from stacpull_replicas.sentinelhub.squares import (
    EPSG,
    EXTENT,
    FIRST_COLUMN,
    FIRST_ROW,
    LAST_COLUMN,
    NORTH,
    WEST,
    Square,
)
from stacpull_replicas.sentinelhub.swaths import seen, swath_of

DEFAULT_SEED = 7
"""The seed whose data are laid out after the notebook."""
FIRST_DAY, LAST_DAY = date(2023, 1, 1), date(2024, 12, 31)
_TWICE = 40
"""One capture in so many was ingested twice."""


@dataclass(frozen=True, eq=False)
class Archive:
    """All captures of a seed, oldest first."""

    seed: int

    @cached_property
    def captures(self) -> tuple[Capture, ...]:
        """Every capture, by day, tile and version."""
        days = range(FIRST_DAY.toordinal(), LAST_DAY.toordinal() + 1)
        return tuple(capture for day in days for capture in self._of_day(day))

    def _of_day(self, ordinal: int) -> Iterator[Capture]:
        day = date.fromordinal(ordinal)
        swath = swath_of(self.seed, ordinal)
        for square in sorted({*(seen(swath) if swath else ()), SQUARE}):
            if self._laid_out(square, day):
                sight = sight_of(square, day)
                if sight is not None:
                    yield Capture(self.seed, square, day, 0, sight.cuts().swath, sight)
            elif swath and swath.covers(square):
                twice = mix(self.seed, ordinal, square.column, square.row, 70) % _TWICE == 0
                for version in range(1 + twice):
                    yield Capture(self.seed, square, day, version, swath)

    def _laid_out(self, square: Square, day: date) -> bool:
        return self.seed == DEFAULT_SEED and square == SQUARE and (day.year, day.month) == MONTH

    @cached_property
    def by_id(self) -> dict[str, Capture]:
        """Captures by the id of their tile."""
        return {capture.id: capture for capture in self.captures}

    def within(self, start: datetime, end: datetime, area: BaseGeometry | None = None) -> list[Capture]:
        """Captures sensed from `start` up to, not including, `end`, that touch an area in metres."""
        return [
            capture
            for capture in self.captures
            if start <= capture.sensed < end and (area is None or capture.cover.intersects(area))
        ]


@lru_cache(maxsize=8)
def archive_of(seed: int) -> Archive:
    """The archive of a seed: one for all that ask."""
    return Archive(seed)


def whole_area() -> tuple[float, float, float, float]:
    """West, south, east and north, in hundredths of a degree, of a box that lies within the tiles."""
    east, south = WEST + (LAST_COLUMN + 1 - FIRST_COLUMN) * EXTENT, FIRST_ROW * EXTENT
    x, y = to_lonlat([WEST, WEST, east, east], [south, NORTH, south, NORTH], EPSG)
    low, high = (x[:2].max(), y[[0, 2]].max()), (x[2:].min(), y[[1, 3]].min())
    west, south = (math.ceil(degrees * 100) / 100 for degrees in low)
    east, north = (math.floor(degrees * 100) / 100 for degrees in high)
    return west, south, east, north


@lru_cache(maxsize=4096)
def footprint(capture: Capture) -> Polygon:
    """What a capture covers, in degrees."""
    x, y = capture.cover.exterior.xy
    longitude, latitude = to_lonlat(x, y, EPSG)
    return Polygon(list(zip(longitude.tolist(), latitude.tolist(), strict=True)))
