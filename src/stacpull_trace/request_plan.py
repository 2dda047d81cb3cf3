"""Plan the statistics requests for the tiles of a period, and estimate their cost. Pure.

One request covers one window of the grid and a range of days on which the same part of the area is read: a
year of one tile is one request. The range may include days without that part, but no day on which another
part overlaps it.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby
from typing import Final

import msgspec
import shapely
from msgspec.structs import replace
from shapely.geometry import box, mapping
from shapely.geometry.base import BaseGeometry

from stacpull.errors import UsageError
from stacpull.models import Json
from stacpull_trace.cover import Piece, Tile, split
from stacpull_trace.hub.replies import TimeRange
from stacpull_trace.hub.statistics_request import MAX_PIXELS
from stacpull_trace.traced_area import PixelWindow, TracedArea

_DAY = timedelta(days=1)


class Days(msgspec.Struct, frozen=True, order=True):
    first: date
    last: date

    def __iter__(self) -> Iterator[date]:
        for offset in range(len(self)):
            yield self.first + offset * _DAY

    def __len__(self) -> int:
        return (self.last - self.first).days + 1

    def __contains__(self, day: date) -> bool:
        return self.first <= day <= self.last

    def __str__(self) -> str:
        return f"{self.first}/{self.last}"

    @property
    def interval(self) -> TimeRange:
        """The range from midnight to midnight, without its end."""
        return TimeRange(midnight(self.first), midnight(self.last + _DAY))

    def years(self) -> Iterator[Days]:
        for year in range(self.first.year, self.last.year + 1):
            yield Days(max(self.first, date(year, 1, 1)), min(self.last, date(year, 12, 31)))


def midnight(day: date) -> datetime:
    return datetime.combine(day, time.min, tzinfo=UTC)


def days_between(start: datetime | None, end: datetime | None) -> Days:
    """Return the UTC days that an interval touches. An end at midnight does not touch the day it begins."""
    if start is None or end is None:
        raise UsageError("--datetime needs both ends, for example 2024-06-01/2024-06-30.")
    try:
        first, instant = start.astimezone(UTC).date(), end.astimezone(UTC)
    except OverflowError:
        raise UsageError("--datetime is out of range.") from None
    last = instant.date()
    if instant.time() == time.min and last > first:
        last -= _DAY
    if last >= date.max:
        raise UsageError("--datetime is out of range.")
    return Days(first, last)


def is_whole_days(start: datetime | None, end: datetime | None) -> bool:
    """Return False if an interval begins or ends within a UTC day."""
    ends = [instant.astimezone(UTC).time() for instant in (start, end) if instant is not None]
    return ends[0] == time.min and ends[-1] in (time.min, time.max)


_TILE_PIXELS: Final = 512 * 512
_TILE_BANDS: Final = 3
LEAST_UNITS: Final = 0.01
"""The cost of the smallest request."""


class PlannedRequest(msgspec.Struct, frozen=True):
    days: Days
    window: PixelWindow
    mask: BaseGeometry | None
    """The requested part of the window, in degrees; None for all of it."""
    tiles: Mapping[date, str]
    """The expected tile of each day; the other days have no data."""

    @property
    def geometry(self) -> Json | None:
        return None if self.mask is None else dict(mapping(self.mask))

    def on(self, days: Sequence[date]) -> PlannedRequest:
        return replace(self, days=Days(days[0], days[-1]), tiles={day: self.tiles[day] for day in days})

    def halves(self) -> tuple[PlannedRequest, PlannedRequest]:
        days = sorted(self.tiles)
        middle = len(days) // 2
        return self.on(days[:middle]), self.on(days[middle:])

    def missing(self, known: Container[date]) -> Iterator[PlannedRequest]:
        """Yield a request for each consecutive range of days that are not in `known`."""
        for is_missing, days in groupby(sorted(self.tiles), key=lambda day: day not in known):
            if is_missing:
                yield self.on(list(days))

    def keys(self, created: Mapping[str, str]) -> dict[date, str]:
        """Return a key for each day. Two keys are equal if day, area, tile and its creation time are."""
        mask = "" if self.mask is None else shapely.to_wkb(shapely.normalize(self.mask), hex=True)
        keys = {}
        for day in self.days:
            tile = self.tiles.get(day, "")
            text = f"{tuple(self.window)!r}\n{mask}\n{tile}@{created.get(tile, '')}"
            keys[day] = f"statistics/{day}/{hashlib.sha256(text.encode()).hexdigest()[:32]}"
        return keys


def pieces_by_day(area: TracedArea, tiles: Iterable[Tile]) -> dict[date, list[Piece]]:
    by_day: dict[date, list[Tile]] = {}
    for tile in tiles:
        by_day.setdefault(tile.day, []).append(tile)
    return {day: split(area, by_day[day]) for day in sorted(by_day)}


def planned_requests(
    area: TracedArea, period: Days, pieces: Mapping[date, Sequence[Piece]]
) -> Iterator[PlannedRequest]:
    """Yield the requests for a period: each day's pieces exactly once."""
    for year in period.years():
        known = {day: pieces[day] for day in sorted(pieces) if day in year}
        for run in _runs(known):
            yield from _windows(area, run)


def whole_area_requests(
    area: TracedArea, period: Days, tiles: Mapping[date, str]
) -> Iterator[PlannedRequest]:
    """Yield requests for the whole area, independent of its tiles (`--method median`)."""
    known = sorted(day for day in tiles if day in period)
    for year in period.years():
        days = [day for day in known if day in year]
        if days:
            mask = None if area.is_box else area.outline
            yield PlannedRequest(
                Days(days[0], days[-1]), area.grid.whole, mask, {day: tiles[day] for day in days}
            )


class _PieceDays(msgspec.Struct):
    piece: Piece
    tiles: dict[date, str]


def _runs(pieces: Mapping[date, Sequence[Piece]]) -> list[_PieceDays]:
    """Join days with the same piece, unless another piece overlaps it on a day between them."""
    runs: list[_PieceDays] = []
    open_runs: dict[bytes, _PieceDays] = {}
    for day, todays in pieces.items():
        keys = [b"" if p.whole else shapely.to_wkb(shapely.normalize(p.outline)) for p in todays]
        for key in [key for key in open_runs if key not in keys]:
            before = open_runs[key].piece.outline
            if any(before.relate_pattern(piece.outline, "T********") for piece in todays):
                del open_runs[key]
        for key, piece in zip(keys, todays, strict=True):
            run = open_runs.get(key)
            if run is None:
                run = open_runs[key] = _PieceDays(piece, {})
                runs.append(run)
            run.tiles[day] = piece.tile
    return runs


def _windows(area: TracedArea, run: _PieceDays) -> Iterator[PlannedRequest]:
    piece = run.piece
    days = Days(min(run.tiles), max(run.tiles))
    around = area.grid.whole if piece.whole else area.grid.around(piece.outline.bounds)
    blocks = list(area.grid.blocks(around, MAX_PIXELS))
    for block in blocks:
        rectangle = box(*area.grid.box(block))
        if (piece.whole and area.is_box) or piece.outline.contains(rectangle):
            yield PlannedRequest(days, block, None, run.tiles)
        elif len(blocks) == 1:
            yield PlannedRequest(days, block, piece.outline, run.tiles)
        else:
            parts = shapely.get_parts(piece.outline.intersection(rectangle))
            mask = shapely.union_all([part for part in parts if part.geom_type == "Polygon"])
            if not mask.is_empty:
                yield PlannedRequest(days, block, mask, run.tiles)


def processing_units(window: PixelWindow, bands: int) -> float:
    """Return the cost of one day: (width · height / 512²) · (bands / 3), at least 0.01."""
    return max(window.width * window.height / _TILE_PIXELS * bands / _TILE_BANDS, LEAST_UNITS)


def most_units(
    whole: PixelWindow, planned: Iterable[PlannedRequest], days: Sequence[date], bands: int
) -> float:
    """Return the most that the requests cost if these days, in order, have tiles; the others are free.

    A request pays for each day of its range on which any tile touches its window. The catalog has only the
    parts of tiles with data, so the windows can become larger, up to those of the whole area.
    """
    parts = 0.0
    for request in planned:
        paid = bisect_right(days, request.days.last) - bisect_left(days, request.days.first)
        parts += paid * processing_units(request.window, bands)
    return max(parts, len(days) * processing_units(whole, bands))
