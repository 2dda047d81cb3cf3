"""Make the rows of a trace from counts and scene maps: one row per scene, one row per day. Pure.

Scene indices are looked up in the header of their own tile, because they are valid only there. The mode is
computed per scene over all tiles, because a scene can appear in several tiles.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from stacpull_trace.daily import Count, merged
from stacpull_trace.report import DayState, ScenePixels, TraceDay
from stacpull_trace.scene_map import OriginKind, PixelOrigin, SceneMap

_NAMED: Final = (OriginKind.SCENE, OriginKind.FOREIGN)
"""Kinds of pixels whose origin the header names."""
_NO_TILE: Final = "the catalog has no tile for these pixels"
_LATEST: Final = datetime.max.replace(tzinfo=UTC)


class TileDay(msgspec.Struct, frozen=True):
    day: date
    tile: str
    """Empty for pixels of a day on which the catalog has no tile."""
    count: Count
    scenes: SceneMap | None
    """None if the header is missing (see `problem`) or was not needed."""
    problem: str | None = None


def scene_rows(tiles: Sequence[TileDay]) -> list[ScenePixels]:
    """Return the rows of one day's tiles: in each tile, most pixels first and masked pixels last."""
    valid = sum(tile.count.counted for tile in tiles)
    return [row for tile in tiles for row in _tile_rows(tile, valid)]


def _tile_rows(tile: TileDay, valid: int) -> Iterator[ScenePixels]:
    for index, pixels in sorted(tile.count.scenes.items(), key=lambda entry: (-entry[1], entry[0])):
        yield _row(tile, index, _origin(tile, index), pixels, pixels / valid)
    if tile.count.outside:
        outside = PixelOrigin(OriginKind.OUTSIDE, "a value that is not a scene index")
        yield _row(tile, None, outside, tile.count.outside, tile.count.outside / valid)
    if tile.count.no_data:
        masked = PixelOrigin(OriginKind.MASKED, "cloud or no data")
        yield _row(tile, None, masked, tile.count.no_data, None)


def _origin(tile: TileDay, index: int) -> PixelOrigin:
    if not tile.tile:
        return PixelOrigin(OriginKind.NO_HEADER, f"index {index}: {_NO_TILE}")
    if tile.scenes is None:
        return PixelOrigin(
            OriginKind.NO_HEADER, f"index {index}: {tile.problem or 'the header was not read'}"
        )
    return tile.scenes.origin(index)


def _row(
    tile: TileDay, index: int | None, origin: PixelOrigin, pixels: int, share: float | None
) -> ScenePixels:
    scene = origin.scene
    return ScenePixels(
        date=tile.day,
        tile=tile.tile,
        index=index,
        kind=origin.kind,
        name=origin.name,
        acquired=scene.acquired if scene else None,
        precision=scene.precision if scene else None,
        satellite=scene.satellite if scene else None,
        pixels=pixels,
        share=share,
        solar_azimuth=origin.solar_azimuth,
        solar_elevation=origin.solar_elevation,
    )


def day_row(day: date, tiles: Sequence[TileDay], rows: Iterable[ScenePixels], area_pixels: int) -> TraceDay:
    count = merged(tile.count for tile in tiles)
    origins = by_origin(row for row in rows if row.kind is not OriginKind.MASKED)
    mode = min(origins, key=lambda r: (-r.pixels, r.acquired or _LATEST, r.name, r.tile), default=None)
    times = [(row.acquired, row.pixels) for row in origins if row.acquired is not None]
    valid = sum(row.pixels for row in origins)
    timed = sum(pixels for _, pixels in times)
    unknown = valid - timed
    first = min((time for time, _ in times), default=None)
    weighted = None
    if first is not None and timed:
        weighted = first + sum(((time - first) * n for time, n in times), timedelta()) / timed
    return TraceDay(
        date=day,
        state=_state(count, tiles, mostly_unknown=2 * unknown > valid),
        **index_fields(count, area_pixels),
        tiles=sum(bool(tile.tile and tile.count.valid) for tile in tiles),
        scenes=sum(row.kind in _NAMED for row in origins),
        mode=mode.name if mode else None,
        mode_tile=mode.tile if mode else None,
        mode_index=mode.index if mode else None,
        mode_share=mode.pixels / valid if mode else None,
        acquired=mode.acquired if mode else None,
        precision=mode.precision if mode else None,
        first=first,
        weighted=weighted,
        last=max((time for time, _ in times), default=None),
        unknown_share=unknown / valid if valid else None,
        solar_azimuth=mode.solar_azimuth if mode else None,
        solar_elevation=mode.solar_elevation if mode else None,
        problem=_problem(count, tiles),
    )


def index_fields(count: Count, area_pixels: int) -> dict[str, Any]:
    """Return the fields of a day that describe the index over the area."""
    figures = {name: getattr(count.value, name) for name in ("mean", "min", "max", "st_dev")}
    share = count.valid / area_pixels
    return {**figures, "samples": area_pixels, "valid": count.valid, "clear_share": share}


def by_origin(rows: Iterable[ScenePixels]) -> list[ScenePixels]:
    """Join the rows of each scene over all tiles of a day.

    A joined row has the tile, index and solar angles of the row with the most pixels (on a tie, the first
    tile by id). Pixels without a named scene are not joined, because an index is valid only in its own tile.
    """
    groups: dict[tuple[str, ...], list[ScenePixels]] = {}
    for row in rows:
        key = (row.kind, row.name) if row.kind in _NAMED else (row.kind, row.tile, str(row.index))
        groups.setdefault(key, []).append(row)
    joined = []
    for group in groups.values():
        largest = min(group, key=lambda row: (-row.pixels, row.tile, row.index or 0))
        share = math.fsum(row.share or 0.0 for row in group)
        joined.append(replace(largest, pixels=sum(row.pixels for row in group), share=share))
    return joined


def _state(count: Count, tiles: Sequence[TileDay], *, mostly_unknown: bool) -> DayState:
    if count.error is not None or any(tile.problem for tile in tiles):
        return DayState.FAILED
    if not count.valid and not count.counted:
        return DayState.EMPTY
    if not all(tile.count.agrees for tile in tiles):
        return DayState.MISMATCH
    return DayState.UNMAPPED if mostly_unknown else DayState.OK


def _problem(count: Count, tiles: Sequence[TileDay]) -> str | None:
    problems = [count.error] if count.error else []
    problems += [f"{tile.tile}: {tile.problem}" for tile in tiles if tile.problem]
    problems += [
        f"{tile.tile}: {tile.count.counted:,} pixels in the histogram, {tile.count.valid:,} are valid"
        for tile in tiles
        if not tile.count.agrees
    ]
    return "; ".join(problems) or None


def rows_of(
    days: Mapping[date, Sequence[TileDay]], area_pixels: int
) -> tuple[tuple[TraceDay, ...], tuple[ScenePixels, ...]]:
    series: list[TraceDay] = []
    scenes: list[ScenePixels] = []
    for day in sorted(days):
        rows = scene_rows(days[day])
        series.append(day_row(day, days[day], rows, area_pixels))
        scenes += rows
    return tuple(series), tuple(scenes)
