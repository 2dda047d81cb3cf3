"""Selects the row groups of a Parquet file that may contain items of a selection.

The footer of the file contains the lowest and highest value of each column in each row group. A row group is
skipped only if these prove that no row passes the filters. Every row that is read is still judged. A column
that is missing, has no statistics or has another type proves nothing.

Boxes are compared with the column `bbox`, which covers the geometry (GeoParquet 1.1, "covering"). It may have
single precision, and not all writers round its sides outwards, so that each side may be off by a unit in the
last place. A box whose west exceeds its east crosses the antimeridian. Statistics do not show individual
rows, so a row group counts as having such a box if a west exceeds an east by 180 degrees or more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from stacpull.boxes import split
from stacpull.filters.interval import Interval, parse_interval
from stacpull.filters.narrowing import narrowing
from stacpull.models import Json
from stacpull.selection import Selection

_HALF_TURN, _EDGE = 180.0, 180.0
_SINGLE = 2.0**-23
"""The largest error of a number that was rounded or cut to single precision, as a share of it."""
_NUMBER: Final = (int, float)
Rectangle = tuple[float, float, float, float]


class ColumnRange(NamedTuple):
    """The range of values of a column in a row group, from `low` to `high` (None: unknown)."""

    low: Any = None
    high: Any = None
    nulls: int | None = None
    """The number of rows without a value; None if unknown."""


Ranges = Mapping[str, ColumnRange]
"""Ranges by the name of the column; the members of `bbox` are `bbox.xmin` and so on."""


class RowGroupFilter:
    """Selects row groups by their statistics."""

    def __init__(self, selection: Selection) -> None:
        """Compile a selection.

        Raises:
            UsageError: A filter is invalid.
        """
        wanted = narrowing(selection)
        is_used = selection.push_down
        self._collections = tuple(selection.collections) if is_used else ()
        self._boxes: Sequence[Rectangle] = ()
        if wanted.bbox is not None:
            self._boxes = (wanted.bbox,)
        elif wanted.area is not None and selection.bbox is not None:  # across the antimeridian
            self._boxes = split(selection.bbox)
        self._condition = wanted.condition
        self._interval = parse_interval(selection.datetime) if is_used and selection.datetime else None

    def may_match(self, ranges: Ranges, rows: int) -> bool:
        """Return False if the statistics prove that no row of a row group passes the filters."""
        return (
            (not self._collections or _any_equal(ranges.get("collection"), self._collections))
            and (not self._boxes or any(_meets(ranges, box) for box in self._boxes))
            and (self._interval is None or _overlaps(ranges, rows, self._interval))
            and (self._condition is None or _possible(self._condition, ranges))
        )


def _meets(ranges: Ranges, box: Rectangle) -> bool:
    sides = [ranges.get(f"bbox.{name}") for name in ("xmin", "ymin", "xmax", "ymax")]
    known = [side for side in sides if side is not None and _is_comparable(side, 0.0) and side.nulls == 0]
    if len(known) != len(sides):
        return True
    xmin, ymin, xmax, ymax = known
    west, south, east, north = box
    if _below(ymin) > north or _above(ymax) < south:
        return False
    may_cross = xmin.high - xmax.low >= _HALF_TURN
    is_odd = xmin.low < -_EDGE or xmax.high > _EDGE  # the filter handles longitudes beyond 180 degrees
    return bool(may_cross or is_odd or (_below(xmin) <= east and _above(xmax) >= west))


def _below(one: ColumnRange) -> float:
    return float(one.low - abs(one.low) * _SINGLE)


def _above(one: ColumnRange) -> float:
    return float(one.high + abs(one.high) * _SINGLE)


def _overlaps(ranges: Ranges, rows: int, interval: Interval) -> bool:
    """Return False if all rows are before or after the interval. Rows without an instant have a range."""
    instant = _times(ranges.get("datetime", ColumnRange(nulls=rows)))
    start = _times(ranges.get("start_datetime", ColumnRange(nulls=rows)))
    end = _times(ranges.get("end_datetime", ColumnRange(nulls=rows)))
    if instant is None or instant.nulls is None:
        return True
    has_instants, has_others = instant.nulls < rows, instant.nulls > 0
    others_have_ends = start is not None and end is not None and start.nulls == 0 == end.nulls
    if has_others and not others_have_ends:
        return True
    lows = [one.low for one, counts in ((instant, has_instants), (start, has_others)) if one and counts]
    highs = [one.high for one, counts in ((instant, has_instants), (end, has_others)) if one and counts]
    if None in lows or None in highs or not lows:
        return True
    is_before = interval.start is not None and max(highs) < interval.start
    is_after = interval.end is not None and min(lows) > interval.end
    return not (is_before or is_after)


def _times(one: ColumnRange) -> ColumnRange | None:
    """Return a range of aware times, or None if the column contains something else."""
    ends = (one.low, one.high)
    if ends == (None, None):
        return one
    if not all(isinstance(end, datetime) for end in ends):
        return None
    low, high = (end if end.tzinfo is not None else end.replace(tzinfo=UTC) for end in ends)
    return ColumnRange(low, high, one.nulls)


def _any_equal(one: ColumnRange | None, values: tuple[str, ...]) -> bool:
    if one is None or not isinstance(one.low, str) or not isinstance(one.high, str):
        return True
    return any(one.low <= value <= one.high for value in values)


def _possible(condition: Json, ranges: Ranges) -> bool:
    """Return False if a condition of `filters.narrowing` is not true for any row."""
    name, arguments = condition["op"], condition["args"]
    if name == "and":
        return all(_possible(argument, ranges) for argument in arguments)
    if name == "or":
        return any(_possible(argument, ranges) for argument in arguments)
    if name in {"not", "<>"}:
        return True
    found = ranges.get(arguments[0]["property"])
    return found is None or not _is_comparable(found, arguments[1]) or _in_range(name, found, arguments[1])


def _is_comparable(one: ColumnRange, value: object) -> bool:
    kinds = _NUMBER if isinstance(value, _NUMBER) else (type(value),)
    return all(isinstance(end, kinds) and isinstance(end, bool) == isinstance(value, bool) for end in one[:2])


def _in_range(sign: str, one: ColumnRange, value: Any) -> bool:
    """Compare as the filter does (`filters.cql2_operators`): in double precision if one is a float."""
    low, high = one.low, one.high
    if any(isinstance(number, float) for number in (low, high, value)):
        try:
            low, high, value = float(low), float(high), float(value)
        except OverflowError:
            return True
    tests = {
        "=": low <= value <= high,
        "<": low < value,
        "<=": low <= value,
        ">": high > value,
        ">=": high >= value,
    }
    return bool(tests[sign])
