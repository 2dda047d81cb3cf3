"""GeoJSON as shapely geometries: read carefully, mended where a ring crosses itself. Imported when needed.

Plane geometry on longitude and latitude, heights ignored, as STAC services do it. What crosses the
antimeridian should be cut there (RFC 7946, 3.1.9); coordinates beyond 180 degrees are read all the same: such
a geometry is also compared a turn of the globe further.

What a source writes can be made to take hours: mending a ring takes the cube of how often it crosses itself,
and checking holes the square of their number. A geometry beyond the bounds below is replaced by its bounding
box, so that reading one takes a second at most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import orjson
import shapely
from shapely.affinity import translate
from shapely.geometry import box, shape

from stacpull.filters.places import GeometryNotes
from stacpull.models import Json

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
_MULTIPOINT = shapely.GeometryType.MULTIPOINT
_MOST_VERTICES = 50_000
"""Vertices of a geometry that is compared as it is."""
_MOST_RINGS = 1_000
"""Rings, and lines, of a geometry that is compared as it is."""
_MOST_MENDED = 1_000
"""Vertices of a geometry that is mended."""
_MOST_CROSSINGS = 100
"""How often the edges of a geometry that is mended may cross."""


class Shape(NamedTuple):
    """A geometry, and whether it had to be mended."""

    geometry: Geometry
    mended: bool = False
    boxed: bool = False
    """True if it is too complex to be compared, and its bounding box stands for it."""


@np.errstate(all="ignore")  # coordinates of 1e308 are compared as what they overflow to
def read_shape(geojson: Any, *, trusted: bool = False) -> Shape | None:
    """Return a GeoJSON geometry, valid; None if it is not one, is empty, or cannot be read.

    Rings that cross or touch themselves are mended (`shapely.make_valid`): their inside is what an odd number
    of edges surrounds.

    Args:
        geojson: What should be a geometry.
        trusted: True for the user's own, which is never replaced by its bounding box.
    """
    try:
        geometry = shape(geojson)
        coordinates = shapely.get_coordinates(geometry)
        if geometry.is_empty or not np.isfinite(coordinates).all():
            return None
        if not trusted and (len(coordinates) > _MOST_VERTICES or len(_lines(geometry)) > _MOST_RINGS):
            return Shape(box(*geometry.bounds), boxed=True)
        if geometry.is_valid:
            return Shape(geometry)
        if not trusted and (len(coordinates) > _MOST_MENDED or _crossings(geometry) > _MOST_CROSSINGS):
            return Shape(box(*geometry.bounds), boxed=True)
        return Shape(shapely.make_valid(geometry), mended=True)
    except _UNREADABLE:
        return None


def _lines(geometry: Geometry) -> Any:
    """Return the rings and lines of a geometry, one array."""
    parts = _simple(geometry)
    polygons = shapely.get_type_id(parts) == shapely.GeometryType.POLYGON
    rings = shapely.get_rings(parts[polygons])
    return np.concatenate([rings, parts[shapely.get_type_id(parts) == shapely.GeometryType.LINESTRING]])


def _crossings(geometry: Geometry) -> int:
    """Return how many pairs of edges meet elsewhere than where one ends and the next begins."""
    lines = _lines(geometry)
    coordinates, line = shapely.get_coordinates(lines, return_index=True)
    within = line[1:] == line[:-1]
    ends = np.stack([coordinates[:-1][within], coordinates[1:][within]], axis=1)
    edges = shapely.linestrings(ends)
    pairs = int(shapely.STRtree(edges).query(edges, predicate="intersects").shape[1])
    return max(0, (pairs - 3 * len(edges)) // 2)


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
    """Return the rectangle of an item's bbox; None if it is not a bbox."""
    try:
        found = box_shape([float(number) for number in bbox])
        return found if np.isfinite(found.bounds).all() else None
    except _UNREADABLE:
        return None


def united(geometries: Sequence[Geometry]) -> Geometry:
    """Return the union of the geometries."""
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


def on_the_globe(geometry: Geometry) -> Geometry | None:
    """Return the polygons of a geometry within -180 to 180 degrees; None if it has none with an area."""
    inside = shapely.intersection(turned(geometry), box(-_EDGE, -_EDGE, _EDGE, _EDGE))
    polygons = [part for part in _simple(inside) if part.area > 0]
    return united(polygons) if polygons else None


def _simple(geometry: Geometry) -> Any:
    """Return the points, lines and polygons that a geometry is made of, one array."""
    parts = shapely.get_parts([geometry])
    while (shapely.get_type_id(parts) >= _MULTIPOINT).any():
        parts = shapely.get_parts(parts)
    return parts


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


Evaluate = Callable[[Json, dict[str, Any]], Any]

_TURNED: Final = {name: name for name in PREDICATES} | {"s_within": "s_contains", "s_contains": "s_within"}
"""Which operator says the same with its arguments in the other order."""


def spatial_relation(
    name: str, one: Evaluate, other: Evaluate, constants: Sequence[Any], places: GeometryNotes
) -> Evaluate:
    """Return the judgement of a spatial operator; unknown where an item has no geometry that can be read.

    Args:
        name: The operator, in lower case.
        one: Its first argument, a geometry or its GeoJSON.
        other: Its second.
        constants: What is the same for every item, prepared here: shapely prepares only the first argument.
        places: Where items are noted whose geometry is too complex to be compared.
    """
    if constants[0] is None and constants[1] is not None:
        one, other, constants, name = other, one, (constants[1], constants[0]), _TURNED[name]
    predicate = PREDICATES[name]
    if isinstance(constants[0], shapely.Geometry):
        shapely.prepare(constants[0])

    def judge(item: Json, properties: dict[str, Any]) -> bool | None:
        first = _shape(one(item, properties), item, places)
        second = _shape(other(item, properties), item, places)
        if first is None or second is None:
            return None
        try:
            return bool(predicate(first, second))
        except shapely.errors.ShapelyError:  # a collection beside an operator that knows none
            return None

    return judge


def _shape(value: Any, item: Json, places: GeometryNotes) -> Any:
    if value is None or isinstance(value, shapely.Geometry):
        return value
    found = read_shape(value)
    if found is not None and found.boxed:
        places.boxed.add(item)
    return None if found is None else found.geometry
