"""GeoJSON as shapely geometries. Imported only when needed, because shapely is heavy.

Geometry is planar, without heights. Geometries of items are not repaired: rings that cross themselves count
by the even-odd rule. GEOS 3.13 compares geometries in about linear time, so none can stop a run.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import orjson
import shapely
from shapely.affinity import translate
from shapely.geometry import shape

from stacpull.boxes import split_at_antimeridian, to_2d
from stacpull.errors import UsageError
from stacpull.models import Json

_UNREADABLE: Final = (
    TypeError, ValueError, KeyError, IndexError, AttributeError, ArithmeticError, RecursionError,
    shapely.errors.ShapelyError,
)  # fmt: skip
_TURN: Final = 360.0
_EDGE: Final = 180.0
_CONVERSE: Final = {"contains": "within", "within": "contains"}  # for swapped arguments
prepare: Final = shapely.prepare


@np.errstate(all="ignore")  # coordinates of 1e308 may overflow
def read_shape(geojson: Any) -> shapely.Geometry | None:
    if isinstance(geojson, shapely.Geometry):
        return geojson
    try:
        text = orjson.dumps(geojson)
        geometry = shapely.from_geojson(text, on_invalid="ignore")
        if geometry is None or geometry.has_z:  # `shape` takes longer, but closes rings, and checks heights
            geometry = shapely.force_2d(shape(geojson))  # `translate` fails if only some parts have heights
            if not np.isfinite(shapely.get_coordinates(geometry)).all():
                return None
        if b"[]" in text:  # an empty hole would end the process in GEOS
            geometry = shapely.remove_repeated_points(geometry, 0)
    except _UNREADABLE:
        return None
    return None if geometry.is_empty else geometry


@np.errstate(all="ignore")
def box_shape(bbox: Sequence[float]) -> shapely.Geometry:
    """Return the rectangle of a bbox, which may be a line or a point; two if it crosses the antimeridian."""
    if len(bbox) not in (4, 6):
        raise ValueError("a box has four numbers, or six with heights")
    corners = [shapely.MultiPoint([box[:2], box[2:]]) for box in split_at_antimeridian(bbox)]
    # valid, because a union leaves out a polygon without area
    return shapely.union_all(shapely.make_valid(shapely.envelope(corners)))


def read_box(bbox: Any) -> shapely.Geometry | None:
    try:
        numbers = [float(number) for number in bbox]
        is_finite = np.isfinite(to_2d(numbers)).all()
        return box_shape(numbers) if is_finite else None
    except _UNREADABLE:
        return None


def geometry_of(item: Json) -> shapely.Geometry | None:
    return read_shape(item.get("geometry")) or read_box(item.get("bbox"))


def read_area(text: str, option: str) -> shapely.Geometry:
    """Return the union of the geometries of a GeoJSON document. Rings that cross themselves are repaired."""
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise UsageError(f"{option} is not GeoJSON: {error}.") from error
    parts = []
    for number, geometry in enumerate(_geometries(document, option), 1):
        part = read_shape(geometry)
        if part is None:
            kind = geometry.get("type") if isinstance(geometry, dict) else geometry
            raise UsageError(f"{option}: geometry {number} ({kind}) is empty or cannot be read.")
        parts.append(shapely.make_valid(part))
    if not parts:
        raise UsageError(f"{option} has no geometry: use a geometry, a Feature or a FeatureCollection.")
    area = parts[0] if len(parts) == 1 else shapely.union_all(parts)
    return in_degrees(area, option)


def in_degrees(area: shapely.Geometry, option: str) -> shapely.Geometry:
    west, south, east, north = area.bounds
    is_on_globe = max(-west, east) <= _TURN and max(-south, north) <= _EDGE / 2
    if not is_on_globe:
        raise UsageError(
            f"{option} reaches from {west:.10g},{south:.10g} to {east:.10g},{north:.10g}: "
            "use longitude and latitude in degrees (WGS 84), in this order."
        )
    return area


def _geometries(document: Any, option: str) -> Iterator[Any]:
    """Yield the geometries of a GeoJSON document. Features without one are skipped (RFC 7946, 3.2)."""
    match document:
        case {"type": "FeatureCollection", "features": list(features)}:
            for feature in features:
                yield from _geometries(feature, option)
        case {"type": "Feature", "geometry": geometry}:
            if geometry is not None:
                yield geometry
        case {"type": str()}:
            yield document
        case _:
            raise UsageError(f"{option} is not GeoJSON: it is not an object with a type.")


def exceeds_the_globe(geometry: shapely.Geometry) -> bool:
    west, _, east, _ = geometry.bounds
    return bool(west < -_EDGE or east > _EDGE)


def intersects(area: shapely.Geometry, geometry: shapely.Geometry, *, exceeds: bool) -> bool:
    """Return True if both meet, also across the antimeridian if area (`exceeds`) or geometry crosses it."""
    if area.intersects(geometry):
        return True
    turns = (-_TURN, _TURN) if exceeds or exceeds_the_globe(geometry) else ()
    return any(area.intersects(translate(geometry, turn)) for turn in turns)


def related(name: str, left: Any, right: Any) -> bool | None:
    """Evaluate a spatial operator of CQL2 (7.11). It is unknown if a geometry is invalid."""
    shapes = [read_shape(right), read_shape(left)]  # swapped, because the second one is usually constant
    if None in shapes:
        return None
    prepare(shapes[0])
    try:
        return bool(getattr(shapely, _CONVERSE.get(name, name))(*shapes))
    except shapely.errors.ShapelyError:  # the operator does not support geometry collections
        return None
