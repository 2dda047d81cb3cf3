"""`--method median`: trace days as Planet's notebook on scene traceability does, for comparison. Pure.

The notebook takes each day's median scene index over the whole area and looks it up in the header of the
day's first tile. A median of indices can belong to a scene with few pixels, or with none. The series has
every day with a tile; the notebook's own table has only the days for which the median's scene is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date

from stacpull_trace.days import TileDay, index_fields
from stacpull_trace.report import DayState, MedianRow, TraceDay
from stacpull_trace.scene_map import OriginKind


def median_series(days: Mapping[date, Sequence[TileDay]], area_pixels: int) -> tuple[TraceDay, ...]:
    return tuple(_row(days[day][0], area_pixels) for day in sorted(days))


def median_table(series: Iterable[TraceDay]) -> tuple[MedianRow, ...]:
    """Return the notebook's table. The series says why a day is not in it."""
    return tuple(
        MedianRow(day.acquired.replace(microsecond=0), day.mean)
        for day in series
        if day.acquired is not None and day.mean is not None
    )


def _row(tile: TileDay, area_pixels: int) -> TraceDay:
    count = tile.count
    index = None if count.median is None or count.value.mean is None else int(count.median)
    origin = tile.scenes.origin(index) if tile.scenes is not None and index is not None else None
    scene = origin.scene if origin else None
    problem = count.error or (f"{tile.tile}: {tile.problem}" if tile.problem else None)
    state = DayState.FAILED if problem is not None else DayState.EMPTY
    if problem is None and index is not None:
        is_scene = origin is not None and origin.kind is OriginKind.SCENE
        state = DayState.OK if is_scene else DayState.UNMAPPED
    return TraceDay(
        date=tile.day,
        state=state,
        **index_fields(count, area_pixels),
        tiles=int(count.valid > 0),
        scenes=None,
        mode=origin.name if origin else None,
        mode_tile=tile.tile if index is not None else None,
        mode_index=index,
        acquired=scene.acquired if scene else None,
        precision=scene.precision if scene else None,
        solar_azimuth=origin.solar_azimuth if origin else None,
        solar_elevation=origin.solar_elevation if origin else None,
        problem=problem,
    )
