"""GeoJSON as shapely geometries: read carefully, mended where a ring crosses itself. Imported when needed.

Plane geometry on longitude and latitude, heights ignored, as STAC services do it. What crosses the
antimeridian should be cut there (RFC 7946, 3.1.9); coordinates beyond 180 degrees are read all the same: such
a geometry is also compared a turn of the globe further.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import orjson
import shapely
from shapely.affinity import translate
from shapely.geometry import box, shape

__all__ = [
    "PREDICATES",
    "Shape",
    "box_shape",
    "geojson",
    "prepared",
    "read_box",
    "read_shape",
    "turned",
    "united",
]

Geometry = Any
"""A shapely geometry: the library is not typed."""

_UNREADABLE: Final = (
    TypeError,
    ValueError,
    KeyError,
    IndexError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    shapely.errors.ShapelyError,
)
_TURN, _EDGE = 360.0, 180.0
_PLANE, _SPACE = 4, 6


class Shape(NamedTuple):
    """A geometry, and whether it had to be mended."""

    geometry: Geometry
    mended: bool


def read_shape(geojson: Any) -> Shape | None:
    """Return a GeoJSON geometry, valid; None if it is none, empty, or cannot be read.

    Rings that cross or touch themselves are mended (`shapely.make_valid`): their inside is what an odd number
    of edges surrounds.
    """
    try:
        geometry = shape(geojson)
        if geometry.is_empty or not np.isfinite(shapely.get_coordinates(geometry)).all():
            return None
        if geometry.is_valid:
            return Shape(geometry, mended=False)
        return Shape(shapely.make_valid(geometry), mended=True)
    except _UNREADABLE:
        return None


def box_shape(bbox: Sequence[float]) -> Geometry:
    """Return the rectangle of a GeoJSON bbox; two of them if it crosses the antimeridian (RFC 7946, 5.2).

    Args:
        bbox: W, S, E, N in degrees, or six numbers with heights, which are ignored.

    Raises:
        ValueError: It has another count of numbers.
    """
    if len(bbox) not in (_PLANE, _SPACE):
        raise ValueError("a box has four numbers, or six with heights")
    half = len(bbox) // 2
    west, south, east, north = bbox[0], bbox[1], bbox[half], bbox[half + 1]
    if west <= east:
        return box(west, south, east, north)
    return shapely.union(box(west, south, _EDGE, north), box(-_EDGE, south, east, north))


def read_box(bbox: Any) -> Geometry | None:
    """Return the rectangle of an item's bbox; None if it is none."""
    try:
        found = box_shape([float(number) for number in bbox])
        return found if np.isfinite(found.bounds).all() else None
    except _UNREADABLE:
        return None


def united(geometries: Sequence[Geometry]) -> Geometry:
    """Return everything that lies in any of the geometries."""
    return geometries[0] if len(geometries) == 1 else shapely.union_all(geometries)


def geojson(geometry: Geometry) -> dict[str, Any]:
    """Return a geometry as GeoJSON (RFC 7946, 3.1)."""
    found: dict[str, Any] = orjson.loads(shapely.to_geojson(geometry))
    return found


def prepared(geometry: Geometry) -> Geometry:
    """Return a geometry (`turned`), ready to be compared with many others."""
    found = turned(geometry)
    shapely.prepare(found)
    return found


def turned(geometry: Geometry) -> Geometry:
    """Return a geometry that leaves -180 to 180 degrees together with itself a turn further either way."""
    west, _, east, _ = geometry.bounds
    if west >= -_EDGE and east <= _EDGE:
        return geometry
    turns = [translate(geometry, xoff=turn) for turn in (-_TURN, 0.0, _TURN)]
    return shapely.union_all(turns)


PREDICATES: Final[dict[str, Callable[[Geometry, Geometry], bool]]] = {
    "s_contains": shapely.contains,
    "s_crosses": shapely.crosses,
    "s_disjoint": shapely.disjoint,
    "s_equals": shapely.equals,
    "s_intersects": shapely.intersects,
    "s_overlaps": shapely.overlaps,
    "s_touches": shapely.touches,
    "s_within": shapely.within,
}
"""The spatial operators of OGC 21-065r2 (7.11), which are those of Simple Features."""
