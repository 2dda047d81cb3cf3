"""The parameters `bbox`, `intersects` and `datetime` of STAC searches, as both services read them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import shapely
from shapely.errors import ShapelyError
from shapely.geometry import box, shape
from shapely.geometry.base import BaseGeometry

_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE)
_OPEN = frozenset({"", ".."})
_BOX_SIZES = (4, 6)

SearchInterval = tuple[datetime, datetime]
ALWAYS: SearchInterval = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))


class QueryError(ValueError):
    """A parameter is invalid."""

    def __init__(self, parameter: str, message: str) -> None:
        super().__init__(message)
        self.parameter = parameter


def read_area(bbox: Any, intersects: Any) -> BaseGeometry | None:
    """Return the area of a search in degrees; None if it has none. A box may cross the 180th meridian."""
    if bbox is not None and intersects is not None:
        raise QueryError("bbox", "Only one of bbox and intersects can be set.")
    if bbox is None:
        return None if intersects is None else read_geometry(intersects)
    try:
        numbers = [float(edge) for edge in bbox]
    except (TypeError, ValueError) as error:
        raise QueryError("bbox", "bbox must be numbers.") from error
    if len(numbers) not in _BOX_SIZES:
        raise QueryError("bbox", "bbox must be four or six numbers.")
    half = len(numbers) // 2
    west, south, east, north = *numbers[:2], *numbers[half : half + 2]
    if not south <= north:
        raise QueryError("bbox", "bbox must have its south before its north.")
    if west <= east:
        return box(west, south, east, north)
    return shapely.union_all([box(west, south, 180, north), box(-180, south, east, north)])


def read_geometry(given: Any) -> BaseGeometry:
    try:
        geometry: BaseGeometry = shape(given if given["type"] != "Feature" else None)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, ShapelyError) as error:
        raise QueryError("intersects", "The geometry is not a GeoJSON geometry.") from error
    shapely.prepare(geometry)
    return geometry


def read_interval(given: Any) -> SearchInterval:
    """Return the start and end of an RFC 3339 time or interval, both included; ends may be open."""
    if given is None:
        return ALWAYS
    ends = str(given).split("/")
    if len(ends) > 2 or set(ends) <= _OPEN:  # noqa: PLR2004
        raise QueryError("datetime", "datetime must be a time or an interval.")
    if len(ends) == 1:
        ends *= 2
    elif ends[0] in _OPEN:
        return ALWAYS[0], _moment(ends[1])
    elif ends[1] in _OPEN:
        return _moment(ends[0]), ALWAYS[1]
    first, last = map(_moment, ends)
    if first > last:
        raise QueryError("datetime", "datetime must end after it begins.")
    return first, last


def _moment(text: str) -> datetime:
    try:
        if _MOMENT.fullmatch(text):
            return datetime.fromisoformat(text.upper())
    except ValueError:
        pass
    raise QueryError("datetime", f"{text} is not a time as in RFC 3339.")
