"""`--method median`: the table as Planet's notebook on scene traceability makes it, to compare with. Pure.

It takes each day's median scene index over the whole area and looks it up in the header of the day's first
tile. A median of indices can be that of a scene which gave few pixels, or none; days whose median the header
does not have are dropped, and named here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

from stacpull.tracing.days import TileDay
from stacpull.tracing.report import MedianRow

__all__ = ["median_table"]


def median_table(days: Mapping[date, Sequence[TileDay]]) -> tuple[tuple[MedianRow, ...], tuple[str, ...]]:
    """Return the rows, by date, and a sentence for each day that has none.

    Args:
        days: By day its first tile, with the median over all of the area.
    """
    rows: list[MedianRow] = []
    dropped: list[str] = []
    for day in sorted(days):
        row = _row(days[day][0])
        if isinstance(row, MedianRow):
            rows.append(row)
        else:
            dropped.append(f"{day}: dropped, {row}")
    return tuple(rows), tuple(dropped)


def _row(tile: TileDay) -> MedianRow | str:
    count = tile.count
    if count.error is not None:
        return count.error
    if count.median is None or count.value.mean is None:
        return "no valid pixel"
    if tile.scenes is None:
        return tile.problem or "the header was not read"
    origin = tile.scenes.origin(int(count.median))
    if origin.scene is None:
        return origin.name
    return MedianRow(origin.scene.acquired.replace(microsecond=0), count.value.mean)
