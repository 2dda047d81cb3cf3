"""Filters by location: `--bbox` and `--intersects`, and messages about unusual geometries.

The item's geometry is compared, as in STAC's item search. One wrong vertex can make a patch of 1.2 km as
large as a continent, so unusual geometries are reported. Geometry is planar on longitude and latitude.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec
import orjson

from stacpull.boxes import Box, flat, split
from stacpull.errors import UsageError
from stacpull.filters.check import ItemCheck, LeftOut
from stacpull.json_values import object_or_empty
from stacpull.models import Json
from stacpull.plurals import count
from stacpull.selection import Selection

_SHOWN: Final = 5
_WIDE = 5.0
"""Degrees: smaller geometries are not checked for stray vertices."""
_FAR = 20
"""A vertex is stray if the geometry without it is this many times smaller."""
_FEWEST: Final = 4


class CountedItems:
    """A count of items, and the ids of the first ones."""

    __slots__ = ("_shown", "count")

    def __init__(self) -> None:
        self.count = 0
        self._shown: list[str] = []

    def __repr__(self) -> str:
        return f"CountedItems({self})"

    def __str__(self) -> str:
        """Return a text like `1 item (a)` or `7 items (a, b, c, d, e, …)`."""
        counted = count(self.count, "item")
        return f"{counted} ({', '.join(self._shown)}{', …' if self.count > len(self._shown) else ''})"

    def add(self, item: Json) -> None:
        """Count an item."""
        self.count += 1
        if len(self._shown) < _SHOWN:
            self._shown.append(str(item.get("id"))[:120])


class GeometryNotes:
    """The unusual geometries that a filter has compared.

    Attributes:
        without_geometry: Items without a valid geometry, which were compared by their bbox.
        boxed: Items whose geometry is too complex, which were compared by its bounding box.
        without_location: Items with neither, which match no location.
        repaired: Items whose geometry crosses itself and was repaired.
        stray: Items whose geometry has one vertex far away. They may match outside their true location.
    """

    __slots__ = ("boxed", "repaired", "stray", "without_geometry", "without_location")

    def __init__(self) -> None:
        self.without_geometry = CountedItems()
        self.without_location = CountedItems()
        self.repaired = CountedItems()
        self.boxed = CountedItems()
        self.stray = CountedItems()

    def notes(self) -> list[str]:
        """Return messages for the user."""
        notes = (
            (self.without_geometry, "without a valid geometry: the bbox was compared instead."),
            (self.without_location, "left out: neither geometry nor bbox is valid."),
            (self.repaired, "with a geometry that crosses itself: it was repaired."),
            (self.boxed, "with a geometry that is too complex: its bounding box was compared instead."),
            (self.stray, "with one vertex far from the others: the geometry was compared unchanged."),
        )
        return [f"{named} {words}" for named, words in notes if named.count]


def is_stray(geometry: Any) -> bool:
    """Return whether a geometry is a polygon of one ring that a single vertex makes many times larger.

    Recorded at MLHub: patches of 1.2 km in Finland with a vertex at the latitude of the Gulf of Guinea.
    """
    ring = _ring(geometry)
    if ring is None or len(ring) < _FEWEST or _extent(ring) < _WIDE:
        return False
    middle = sorted(x for x, _ in ring)[len(ring) // 2], sorted(y for _, y in ring)[len(ring) // 2]
    far = max(ring, key=lambda at: max(abs(at[0] - middle[0]), abs(at[1] - middle[1])))
    return _extent([at for at in ring if at != far]) * _FAR < _extent(ring)


def _ring(geometry: Any) -> list[tuple[float, float]] | None:
    """Return the distinct vertices of a polygon without holes, or None for anything else."""
    try:
        if geometry["type"] != "Polygon" or len(geometry["coordinates"]) != 1:
            return None
        return list(dict.fromkeys((float(at[0]), float(at[1])) for at in geometry["coordinates"][0]))
    except (TypeError, KeyError, IndexError, ValueError, OverflowError):
        return None


def _extent(ring: list[tuple[float, float]]) -> float:
    """Return the longer side of the bounding box of positions, in degrees."""
    xs, ys = [x for x, _ in ring], [y for _, y in ring]
    return max(max(xs) - min(xs), max(ys) - min(ys))


GeoPosition = Sequence[float]


def simple_parts(geometry: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return the points, lines and polygons of a GeoJSON geometry as (type, coordinates) (RFC 7946, 3.1).

    Raises:
        KeyError, TypeError: It is not a GeoJSON geometry.
    """
    parts: list[tuple[str, Any]] = []
    pending = [geometry]
    while pending:
        shape = pending.pop()
        kind = shape["type"]
        if kind == "GeometryCollection":
            pending.extend(shape["geometries"])
        elif kind in _MEETS:
            if shape["coordinates"]:
                parts.append((kind, shape["coordinates"]))
        else:
            member = _MEMBERS[kind]
            parts.extend((member, coordinates) for coordinates in shape["coordinates"] if coordinates)
    return parts


def meets(kind: str, coordinates: Any, box: Box) -> bool:
    """Return whether a point, line or polygon of `simple_parts` and the box have a common point.

    Raises:
        TypeError, IndexError, ArithmeticError: The coordinates are not nested lists of numbers.
    """
    return _MEETS[kind](coordinates, box)


def _point_meets(position: GeoPosition, box: Box) -> bool:
    return box.west <= position[0] <= box.east and box.south <= position[1] <= box.north


def _line_meets(line: Sequence[GeoPosition], box: Box) -> bool:
    if len(line) == 1:
        return _point_meets(line[0], box)
    return any(_segment_meets(*edge, box) for edge in _edges(line, 1))


def _polygon_meets(rings: Sequence[Sequence[GeoPosition]], box: Box) -> bool:
    for number, ring in enumerate(rings):
        odd = False
        for x1, y1, x2, y2 in _edges(ring, 0):
            if _segment_meets(x1, y1, x2, y2, box):
                return True
            odd ^= _ray_crosses(x1, y1, x2, y2, box)
        if odd == (number > 0):  # outside the outer ring, or inside a hole
            return False
    return bool(rings)


def _edges(line: Sequence[GeoPosition], first: int) -> Iterator[tuple[float, float, float, float]]:
    """Yield the edges of a line as x1, y1, x2, y2. With `first` 0, start with the edge that closes a ring."""
    last = line[first - 1]
    x1, y1 = last[0], last[1]
    for position in line[first:] if first else line:
        x2, y2 = position[0], position[1]
        yield x1, y1, x2, y2
        x1, y1 = x2, y2


def _segment_meets(x1: float, y1: float, x2: float, y2: float, box: Box) -> bool:
    west, south, east, north = box
    if (x1 < west and x2 < west) or (x1 > east and x2 > east):
        return False
    if (y1 < south and y2 < south) or (y1 > north and y2 > north):
        return False
    dx, dy = x2 - x1, y2 - y1
    low = dx * (south - y1)
    high = dx * (north - y1)
    left = dy * (west - x1)
    right = dy * (east - x1)
    if low > left and low > right and high > left and high > right:
        return False
    return not (low < left and low < right and high < left and high < right)


def _ray_crosses(x1: float, y1: float, x2: float, y2: float, box: Box) -> bool:
    """Return whether the ray from the box's south-west corner eastwards crosses the edge (even-odd rule)."""
    west, south = box.west, box.south
    if (y1 > south) == (y2 > south):
        return False
    side = (x2 - x1) * (south - y1) - (west - x1) * (y2 - y1)
    return (side > 0) == (y2 > y1)


_MEETS: Final[dict[str, Callable[[Any, Box], bool]]] = {
    "Point": _point_meets,
    "LineString": _line_meets,
    "Polygon": _polygon_meets,
}
_MEMBERS: Final = {"MultiPoint": "Point", "MultiLineString": "LineString", "MultiPolygon": "Polygon"}


_UNREADABLE: Final = (TypeError, KeyError, IndexError, AttributeError, ValueError, ArithmeticError)
_EDGE, _LATITUDE, _TURN = 180.0, 90.0, 360.0
"""Degrees: the antimeridian, the poles, a full turn."""


class BboxCheck(ItemCheck):
    """`--bbox`: keeps items that have a common point with the box.

    The geometry is compared, as in STAC's item search, or the item's `bbox` if it has no valid geometry.
    """

    fields = ("bbox",)

    def __init__(self, bbox: Sequence[float]) -> None:
        """Compile `Selection.bbox`. If W > E it crosses the antimeridian. Heights are ignored."""
        self._boxes = split(bbox)
        self._notes = GeometryNotes()

    def __call__(self, item: Json, _properties: dict[str, Any]) -> str | None:
        """Return `bbox` if the item is outside the box or has no location."""
        geometry = item.get("geometry")
        met = self._geometry_meets(geometry)
        if met is None:
            met = self._bbox_meets(item.get("bbox"))
            (self._notes.without_location if met is None else self._notes.without_geometry).add(item)
        elif is_stray(geometry):
            self._notes.stray.add(item)
        return None if met else "bbox"

    def notes(self, counts: LeftOut, *, whole: bool) -> list[str]:  # noqa: ARG002 - as in ItemCheck
        """Return messages about unusual geometries."""
        return self._notes.notes()

    @classmethod
    def covers(cls, wide: Selection, narrow: Selection) -> bool:
        """Compare the boxes."""
        if wide.bbox is None or narrow.bbox is None or wide.bbox == narrow.bbox:
            return wide.bbox in (None, narrow.bbox)
        (west, south, east, north), inner = flat(wide.bbox), flat(narrow.bbox)
        if inner.west > inner.east:  # across the antimeridian
            return False
        return west <= inner.west and south <= inner.south and inner.east <= east and inner.north <= north

    def _geometry_meets(self, geometry: Any) -> bool | None:
        """Return whether the geometry intersects the box; None if it is absent or invalid."""
        try:
            parts = simple_parts(geometry)
            found = any(meets(kind, shape, box) for kind, shape in parts for box in self._boxes)
        except _UNREADABLE:
            return None
        return found if parts else None

    def _bbox_meets(self, bbox: Any) -> bool | None:
        """Return whether an item's bbox intersects the box; None if it is absent or invalid."""
        try:
            others = split(bbox)
            return any(_overlap(mine, other) for mine in self._boxes for other in others)
        except _UNREADABLE:
            return None


def is_apart(bbox: Sequence[float], others: Sequence[Any]) -> bool:
    """Return whether `bbox` has no common point with any of the other boxes.

    Args:
        bbox: Four numbers W, S, E, N in degrees, or six with heights.
        others: Boxes from a document. If there are none or one is invalid, the result is False.
    """
    try:
        return bool(others) and not any(
            _overlap(mine, box) for other in others for box in split(other) for mine in split(bbox)
        )
    except _UNREADABLE:
        return False


def _overlap(one: Box, other: Box) -> bool:
    across = one.west <= other.east and other.west <= one.east
    return across and one.south <= other.north and other.south <= one.north


_WGS84: Final = ("CRS84", "EPSG::4326", "EPSG:4326")


class Area(msgspec.Struct, frozen=True):
    """An area to push down: W, S, E, N in degrees, and a valid GeoJSON geometry.

    `geometry` is None if it is a geometry collection, which services reject.
    """

    bounds: tuple[float, float, float, float]
    geometry: Json | None


class AreaCheck(ItemCheck):
    """`--intersects`: keeps items that have a common point with a GeoJSON area.

    The geometry is compared, or the item's `bbox` if it has no valid geometry.
    """

    fields = ("intersects",)
    may_take_long = True

    def __init__(self, text: str) -> None:
        """Read the area: a GeoJSON geometry, Feature or FeatureCollection.

        Raises:
            UsageError: It is not valid GeoJSON, has no geometry, or is not in degrees.
        """
        from stacpull.filters import shapes  # noqa: PLC0415 -- shapely is heavy

        self._shapes = shapes
        area, self._repaired = _area_of(text, shapes)
        self._area = shapes.prepared(area)
        self._notes = GeometryNotes()

    def __call__(self, item: Json, _properties: dict[str, Any]) -> str | None:
        """Return `intersects` if the item is outside the area or has no location."""
        geometry = self._geometry(item)
        if geometry is None:
            self._notes.without_location.add(item)
            return "intersects"
        return None if self._area.intersects(self._shapes.turned(geometry)) else "intersects"

    def notes(self, counts: LeftOut, *, whole: bool) -> list[str]:  # noqa: ARG002 - as in ItemCheck
        """Return messages about unusual geometries."""
        repaired = ["The area of --intersects crosses itself: it was repaired."] if self._repaired else []
        return repaired + self._notes.notes()

    def _geometry(self, item: Json) -> Any:
        geometry = item.get("geometry")
        found = self._shapes.read_shape(geometry)
        if found is not None:
            if found.boxed:
                self._notes.boxed.add(item)
            if found.repaired:
                self._notes.repaired.add(item)
            if is_stray(geometry):
                self._notes.stray.add(item)
            return found.geometry
        box = self._shapes.read_box(item.get("bbox"))
        if box is not None:
            self._notes.without_geometry.add(item)
        return box


def area_geometry(text: str) -> Area | None:
    """Return `Selection.intersects` as one geometry, or None if it exceeds -180 to 180 degrees.

    Raises:
        UsageError: As for `AreaCheck`.
    """
    from stacpull.filters import shapes  # noqa: PLC0415 -- shapely is heavy

    area, _ = _area_of(text, shapes)
    west, south, east, north = area.bounds
    if west < -_EDGE or east > _EDGE:
        return None
    geometry = shapes.geojson(area)
    return Area((west, south, east, north), None if geometry["type"] == "GeometryCollection" else geometry)


def clip_geometry(text: str) -> Any:
    """Return the area of `Selection.clip` as shapely polygons within -180 to 180 degrees.

    Raises:
        UsageError: It is not a valid geometry, has no area, or is not in degrees.
    """
    from stacpull.filters import shapes  # noqa: PLC0415 -- shapely is heavy

    if text.lstrip().startswith(("{", "[")):
        area, _ = _area_of(text, shapes, "--clip")
    else:
        area = shapes.box_shape([float(side) for side in text.split(",")])
    found = shapes.on_the_globe(area)
    if found is None:
        raise UsageError("--clip has no area: use a box with width and height, or polygons.")
    return found


def _area_of(text: str, shapes: Any, option: str = "--intersects") -> tuple[Any, bool]:
    """Return the area, and whether any part of it had to be repaired. Messages contain `option`."""
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise UsageError(f"{option} is not GeoJSON: {error}.") from error
    parts = []
    for number, geometry in enumerate(_geometries(document, option), 1):
        found = shapes.read_shape(geometry, trusted=True)
        if found is None:
            kind = geometry.get("type") if isinstance(geometry, dict) else geometry
            raise UsageError(f"{option}: geometry {number} ({kind}) is empty or cannot be read.")
        parts.append(found)
    if not parts:
        raise UsageError(f"{option} has no geometry: use a geometry, a Feature or a FeatureCollection.")
    area = shapes.united([part.geometry for part in parts])
    west, south, east, north = area.bounds
    if max(abs(west), abs(east)) > _TURN or max(abs(south), abs(north)) > _LATITUDE:
        raise UsageError(
            f"{option} reaches from {west:g},{south:g} to {east:g},{north:g}: "
            "use longitude and latitude in degrees (WGS 84), in this order."
        )
    return area, any(part.repaired for part in parts)


def _geometries(document: Any, option: str) -> Iterator[Any]:
    """Yield the geometries of a GeoJSON document. Features without one are skipped (RFC 7946, 3.2)."""
    _check_crs(document, option)
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


def _check_crs(document: Any, option: str) -> None:
    """Reject a `crs` of GeoJSON 2008 other than WGS 84, the only one in RFC 7946."""
    crs = object_or_empty(document).get("crs")
    if crs is None:
        return
    name = str(object_or_empty(object_or_empty(crs).get("properties")).get("name", crs))
    if not name.endswith(_WGS84):
        raise UsageError(f"{option} is in {name}: use longitude and latitude in degrees (WGS 84).")
