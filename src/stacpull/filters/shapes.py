"""GeoJSON as shapely geometries. Imported only when needed.

Geometry is planar on longitude and latitude, without heights, as in STAC services. Geometries across the
antimeridian should be split there (RFC 7946, 3.1.9). Coordinates beyond 180 degrees are accepted, too: such a
geometry is also compared after a shift by 360 degrees.

A malicious geometry could take hours: repairing a ring takes time cubic in its self-intersections, and
checking holes time quadratic in their number. A geometry that exceeds the limits below is replaced by its
bounding box, so that reading one takes at most a second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import orjson
import shapely
from shapely.affinity import translate
from shapely.geometry import box, shape

from stacpull.boxes import split
from stacpull.filters.places import GeometryNotes
from stacpull.models import Json

if TYPE_CHECKING:
    from stacpull.filters.cql2 import Evaluate

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
"""The most vertices of a geometry that is not replaced by its bounding box."""
_MOST_RINGS = 1_000
"""The most rings and lines of a geometry that is not replaced by its bounding box."""
_MOST_REPAIRED = 1_000
"""The most vertices of a geometry that is repaired."""
_MOST_CROSSINGS = 100
"""The most crossings of edges in a geometry that is repaired."""


class Shape(NamedTuple):
    """A geometry, and whether it had to be repaired."""

    geometry: shapely.Geometry
    repaired: bool = False
    boxed: bool = False
    """True if it is too complex and was replaced by its bounding box."""


@np.errstate(all="ignore")  # coordinates of 1e308 may overflow
def read_shape(geojson: Any, *, trusted: bool = False) -> Shape | None:
    """Return a GeoJSON geometry as a valid shape, or None if it is invalid or empty.

    Rings that cross or touch themselves are repaired with `shapely.make_valid` (even-odd rule).

    Args:
        geojson: The geometry.
        trusted: True for the user's geometry, which is never replaced by its bounding box.
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
        if not trusted and (len(coordinates) > _MOST_REPAIRED or _crossings(geometry) > _MOST_CROSSINGS):
            return Shape(box(*geometry.bounds), boxed=True)
        return Shape(shapely.make_valid(geometry), repaired=True)
    except _UNREADABLE:
        return None


def _lines(geometry: shapely.Geometry) -> Any:
    """Return the rings and lines of a geometry in one array."""
    parts = _simple(geometry)
    polygons = shapely.get_type_id(parts) == shapely.GeometryType.POLYGON
    rings = shapely.get_rings(parts[polygons])
    return np.concatenate([rings, parts[shapely.get_type_id(parts) == shapely.GeometryType.LINESTRING]])


def _crossings(geometry: shapely.Geometry) -> int:
    """Return the number of pairs of edges that intersect, except at their common vertices."""
    lines = _lines(geometry)
    coordinates, line = shapely.get_coordinates(lines, return_index=True)
    within = line[1:] == line[:-1]
    ends = np.stack([coordinates[:-1][within], coordinates[1:][within]], axis=1)
    edges = shapely.linestrings(ends)
    pairs = int(shapely.STRtree(edges).query(edges, predicate="intersects").shape[1])
    return max(0, (pairs - 3 * len(edges)) // 2)


def box_shape(bbox: Sequence[float]) -> shapely.Geometry:
    """Return the rectangle of a GeoJSON bbox, or two if it crosses the antimeridian (RFC 7946, 5.2).

    Args:
        bbox: W, S, E, N in degrees, or six numbers with heights, which are ignored.

    Raises:
        ValueError: It does not have four or six numbers.
    """
    if len(bbox) not in (_PLANE, _SPACE):
        raise ValueError("a box has four numbers, or six with heights")
    return united([box(*bounds) for bounds in split(bbox)])


def read_box(bbox: Any) -> shapely.Geometry | None:
    """Return the rectangle of an item's bbox, or None if it is invalid."""
    try:
        found = box_shape([float(number) for number in bbox])
        return found if np.isfinite(found.bounds).all() else None
    except _UNREADABLE:
        return None


def united(geometries: Sequence[shapely.Geometry]) -> shapely.Geometry:
    """Return the union of geometries."""
    return geometries[0] if len(geometries) == 1 else shapely.union_all(geometries)


def geojson(geometry: shapely.Geometry) -> dict[str, Any]:
    """Return a geometry as GeoJSON (RFC 7946, 3.1)."""
    found: dict[str, Any] = orjson.loads(shapely.to_geojson(geometry))
    return found


def prepared(geometry: shapely.Geometry) -> shapely.Geometry:
    """Return `turned(geometry)`, prepared for comparison with many others."""
    found = turned(geometry)
    shapely.prepare(found)
    return found


def turned(geometry: shapely.Geometry) -> shapely.Geometry:
    """Return a geometry; if it exceeds -180 to 180 degrees, together with copies shifted by 360 degrees."""
    west, _, east, _ = geometry.bounds
    if west >= -_EDGE and east <= _EDGE:
        return geometry
    turns = [translate(geometry, xoff=turn) for turn in (-_TURN, 0.0, _TURN)]
    return shapely.union_all(turns)


def on_the_globe(geometry: shapely.Geometry) -> shapely.Geometry | None:
    """Return the polygons of a geometry within -180 to 180 degrees, or None if none has an area."""
    inside = shapely.intersection(turned(geometry), box(-_EDGE, -_EDGE, _EDGE, _EDGE))
    polygons = [part for part in _simple(inside) if part.area > 0]
    return united(polygons) if polygons else None


def _simple(geometry: shapely.Geometry) -> Any:
    """Return the points, lines and polygons of a geometry in one array."""
    parts = shapely.get_parts([geometry])
    while (shapely.get_type_id(parts) >= _MULTIPOINT).any():
        parts = shapely.get_parts(parts)
    return parts


PREDICATES: Final[dict[str, Callable[[shapely.Geometry, shapely.Geometry], bool]]] = {
    "s_contains": shapely.contains,
    "s_crosses": shapely.crosses,
    "s_disjoint": shapely.disjoint,
    "s_equals": shapely.equals,
    "s_intersects": shapely.intersects,
    "s_overlaps": shapely.overlaps,
    "s_touches": shapely.touches,
    "s_within": shapely.within,
}
"""The spatial operators of OGC 21-065r2 (7.11), from Simple Features."""


_SWAPPED: Final = {name: name for name in PREDICATES} | {"s_within": "s_contains", "s_contains": "s_within"}
"""The equivalent operator for swapped arguments."""


def spatial_relation(
    name: str, one: Evaluate, other: Evaluate, constants: Sequence[Any], notes: GeometryNotes
) -> Evaluate:
    """Return the evaluation of a spatial operator. It is unknown for items without a valid geometry.

    Args:
        name: The operator, in lower case.
        one: The first argument, a geometry or its GeoJSON.
        other: The second argument.
        constants: The arguments that are equal for every item, else None. They are prepared for speed, which
            shapely supports only for the first argument.
        notes: Records items whose geometry is too complex.
    """
    if constants[0] is None and constants[1] is not None:
        one, other, constants, name = other, one, (constants[1], constants[0]), _SWAPPED[name]
    predicate = PREDICATES[name]
    if isinstance(constants[0], shapely.Geometry):
        shapely.prepare(constants[0])

    def judge(item: Json, properties: dict[str, Any]) -> bool | None:
        first = _shape(one(item, properties), item, notes)
        second = _shape(other(item, properties), item, notes)
        if first is None or second is None:
            return None
        try:
            return bool(predicate(first, second))
        except shapely.errors.ShapelyError:  # the operator does not support geometry collections
            return None

    return judge


def _shape(value: Any, item: Json, notes: GeometryNotes) -> Any:
    if value is None or isinstance(value, shapely.Geometry):
        return value
    found = read_shape(value)
    if found is not None and found.boxed:
        notes.boxed.add(item)
    return None if found is None else found.geometry
