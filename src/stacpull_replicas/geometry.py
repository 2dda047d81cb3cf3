"""Whether a GeoJSON geometry and the outline of a patch have a point in common (plane, in degrees).

Enough for the `intersects` of a search: points, lines and polygons, single, many or collected; edges count.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

Point = Sequence[float]
Line = Sequence[Point]

_DEPTH = {"Point": 0, "MultiPoint": 1, "LineString": 1, "MultiLineString": 2, "Polygon": 2, "MultiPolygon": 3}


class NotGeometry(ValueError):  # noqa: N818 - what the value is
    """The value is no GeoJSON geometry."""


def pieces(geometry: Any) -> Iterator[tuple[str, Any]]:
    """Every "Point", "LineString" and "Polygon" of a geometry, with its coordinates. Raises NotGeometry."""
    try:
        kind = geometry["type"]
        if kind == "GeometryCollection":
            for member in geometry["geometries"]:
                yield from pieces(member)
            return
        coordinates = geometry["coordinates"]
        _check(coordinates, _DEPTH[kind])
    except (KeyError, TypeError, IndexError) as error:
        raise NotGeometry("not a GeoJSON geometry") from error
    if kind.startswith("Multi"):
        yield from ((kind.removeprefix("Multi"), part) for part in coordinates)
    else:
        yield kind, coordinates


def _check(coordinates: Any, depth: int) -> None:
    if depth:
        for part in coordinates:
            _check(part, depth - 1)
    elif not all(isinstance(number, int | float) for number in coordinates[:2]) or len(coordinates) < 2:  # noqa: PLR2004
        raise TypeError(coordinates)


def intersects(ring: Line, geometry: Any) -> bool:
    """Whether a geometry touches the area within a closed ring. Raises NotGeometry."""
    return any(_touches(ring, kind, coordinates) for kind, coordinates in pieces(geometry))


def _touches(ring: Line, kind: str, coordinates: Any) -> bool:
    if kind == "Point":
        return _inside(coordinates, ring)
    lines = coordinates if kind == "Polygon" else [coordinates]
    if any(_cross(line, ring) for line in lines) or _inside(lines[0][0], ring):
        return True
    if kind == "LineString":
        return False
    outer, *holes = coordinates
    return _inside(ring[0], outer) and not any(_inside(ring[0], hole) for hole in holes)


def _inside(point: Point, ring: Line) -> bool:
    """Whether a point lies in a ring: a ray to the east leaves it an odd number of times."""
    x, y = point[0], point[1]
    odd = False
    for (x1, y1, *_), (x2, y2, *_) in pairwise(ring):
        if (y1 > y) != (y2 > y) and x < (x2 - x1) * (y - y1) / (y2 - y1) + x1:
            odd = not odd
    return odd


def _cross(line: Line, ring: Line) -> bool:
    return any(_segments_meet(a, b, c, d) for a, b in pairwise(line) for c, d in pairwise(ring))


def _segments_meet(a: Point, b: Point, c: Point, d: Point) -> bool:
    """Whether two segments cross: each has the ends of the other on both sides, or one on itself."""
    return (
        _turn(a, b, c) * _turn(a, b, d) <= 0 and _turn(c, d, a) * _turn(c, d, b) <= 0 and _overlap(a, b, c, d)
    )


def _turn(a: Point, b: Point, c: Point) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _overlap(a: Point, b: Point, c: Point, d: Point) -> bool:
    """Whether the boxes of two segments overlap: parallel ones would pass the test of sides."""
    return all(
        max(a[axis], b[axis]) >= min(c[axis], d[axis]) and max(c[axis], d[axis]) >= min(a[axis], b[axis])
        for axis in (0, 1)
    )
