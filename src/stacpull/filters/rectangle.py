"""Whether a GeoJSON geometry and an axis-aligned rectangle have a point in common.

Plane geometry on longitude and latitude, as STAC services do it; boundaries belong to both, so that touching
is meeting. A rectangle meets a polygon if it meets an edge of any ring; failing that it lies wholly inside or
outside of each ring, and one corner tells which. A rectangle meets a segment unless one of three axes
separates them: x, y, or the segment's normal (separating axis theorem).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

__all__ = ["Box", "meets", "simple_parts"]

Position = Sequence[float]


class Box(NamedTuple):
    """A rectangle in degrees, with west <= east and south <= north."""

    west: float
    south: float
    east: float
    north: float


def simple_parts(geometry: dict[str, Any]) -> list[tuple[str, Any]]:
    """Take a GeoJSON geometry apart into (type, coordinates) of points, lines and polygons (RFC 7946, 3.1).

    Raises:
        KeyError, TypeError: It is no GeoJSON geometry.
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
    """Return True if a point, line or polygon (of `simple_parts`) and the box share a point.

    Raises:
        TypeError, IndexError, ArithmeticError: The coordinates are not nested lists of numbers.
    """
    return _MEETS[kind](coordinates, box)


def _point_meets(position: Position, box: Box) -> bool:
    return box.west <= position[0] <= box.east and box.south <= position[1] <= box.north


def _line_meets(line: Sequence[Position], box: Box) -> bool:
    if len(line) == 1:
        return _point_meets(line[0], box)
    return any(_segment_meets(*edge, box) for edge in _edges(line, 1))


def _polygon_meets(rings: Sequence[Sequence[Position]], box: Box) -> bool:
    for number, ring in enumerate(rings):
        odd = False
        for x1, y1, x2, y2 in _edges(ring, 0):
            if _segment_meets(x1, y1, x2, y2, box):
                return True
            odd ^= _ray_crosses(x1, y1, x2, y2, box)
        if odd == (number > 0):  # outside of the outer ring, or inside of a hole
            return False
    return bool(rings)


def _edges(line: Sequence[Position], first: int) -> Iterator[tuple[float, float, float, float]]:
    """Give the edges of a line, each as x1, y1, x2, y2; `first` 0 begins with the one that closes a ring."""
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
    """Return True if the ray from the box's south-west corner eastwards crosses the edge (even-odd rule)."""
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
