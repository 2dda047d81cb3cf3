"""Comparison with a naive model in exact arithmetic, and with shapely if it is installed."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull.boxes import Box
from stacpull.filters.places import meets, simple_parts


def touches(geometry, box):
    return any(meets(kind, coordinates, box) for kind, coordinates in simple_parts(geometry))


def square(west, south, east, north):
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]


SHELL, HOLE = square(0, 0, 10, 10), square(4, 4, 6, 6)
WHOLE = {"type": "Polygon", "coordinates": [SHELL]}
PIERCED = {"type": "Polygon", "coordinates": [SHELL, HOLE]}
DIAGONAL = {"type": "LineString", "coordinates": [[0, 0], [10, 10]]}


@pytest.mark.parametrize(
    ("geometry", "box", "expected"),
    [
        (WHOLE, (4.5, 4.5, 5.5, 5.5), True),
        (WHOLE, (-5, -5, 15, 15), True),
        (WHOLE, (10, 10, 20, 20), True),
        (WHOLE, (10.001, 0, 20, 10), False),
        (WHOLE, (-5, 4, 15, 5), True),
        (PIERCED, (4.5, 4.5, 5.5, 5.5), False),
        (PIERCED, (4.5, 4.5, 6, 5), True),
        (PIERCED, (3, 3, 7, 7), True),
        (PIERCED, (1, 1, 2, 2), True),
        (PIERCED, (5, 5, 5, 5), False),
        (WHOLE, (5, 5, 5, 5), True),
        (DIAGONAL, (4, 5, 4.9, 6), False),
        (DIAGONAL, (4, 5, 5, 6), True),
        (DIAGONAL, (4, 4, 4, 4), True),
        ({"type": "LineString", "coordinates": [[1, 1]]}, (0, 0, 1, 1), True),
        ({"type": "Point", "coordinates": [1, 1, 300]}, (1, 1, 2, 2), True),
        ({"type": "Point", "coordinates": [0.9, 1]}, (1, 1, 2, 2), False),
        ({"type": "MultiPoint", "coordinates": [[0, 0], [5, 5]]}, (4, 4, 6, 6), True),
        (
            {"type": "MultiLineString", "coordinates": [[[0, 0], [1, 0]], [[0, 9], [9, 9]]]},
            (4, 8, 5, 10),
            True,
        ),
        (
            {"type": "MultiPolygon", "coordinates": [[square(0, 0, 1, 1)], [square(5, 5, 6, 6)]]},
            (2, 2, 4, 4),
            False,
        ),
        (
            {"type": "MultiPolygon", "coordinates": [[square(0, 0, 1, 1)], [square(5, 5, 6, 6)]]},
            (2, 2, 5, 5),
            True,
        ),
        ({"type": "GeometryCollection", "geometries": [DIAGONAL, PIERCED]}, (4.5, 5.2, 4.6, 5.3), False),
        ({"type": "GeometryCollection", "geometries": [WHOLE]}, (4.5, 5.2, 4.6, 5.3), True),
        ({"type": "Polygon", "coordinates": [SHELL[:-1]]}, (-1, 5, 0, 6), True),
    ],
)
def test_known_cases(geometry, box, expected):
    assert touches(geometry, Box(*box)) is expected


@pytest.mark.parametrize(
    "geometry", [None, [], {}, {"type": "Circle", "coordinates": []}, {"type": ["Point"]}]
)
def test_invalid_geometries_raise(geometry):
    with pytest.raises((TypeError, KeyError)):
        simple_parts(geometry)


def test_deep_collections_do_not_exhaust_the_stack():
    geometry = {"type": "Point", "coordinates": [0, 0]}
    for _ in range(5000):
        geometry = {"type": "GeometryCollection", "geometries": [geometry]}
    assert touches(geometry, Box(0, 0, 1, 1))


GRID = st.integers(-6, 6)
POSITION = st.tuples(GRID, GRID)
BOXES = st.tuples(GRID, GRID, st.integers(0, 5), st.integers(0, 5)).map(
    lambda t: Box(t[0], t[1], t[0] + t[2], t[1] + t[3])
)


def clipped_is_empty(start, end, box):
    """Clip a segment in exact arithmetic (Liang and Barsky, 1984)."""
    low, high = Fraction(0), Fraction(1)
    for axis, (least, most) in enumerate(((box.west, box.east), (box.south, box.north))):
        delta, origin = end[axis] - start[axis], start[axis]
        if delta == 0:
            if not least <= origin <= most:
                return True
            continue
        one, other = sorted((Fraction(least - origin, delta), Fraction(most - origin, delta)))
        low, high = max(low, one), min(high, other)
    return low > high


@given(start=POSITION, end=POSITION, box=BOXES)
def test_segments_agree_with_exact_clipping(start, end, box):
    line = {"type": "LineString", "coordinates": [start, end]}
    assert touches(line, box) is not clipped_is_empty(start, end, box)


@st.composite
def star_polygons(draw):
    """Simple polygons with at most one vertex on each of eight rays from a centre, in order."""
    rays = [(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)]
    lengths = draw(st.lists(st.integers(1, 6), min_size=8, max_size=8))
    centre = draw(POSITION)
    ring = [(centre[0] + r[0] * n, centre[1] + r[1] * n) for r, n in zip(rays, lengths, strict=True)]
    if draw(st.booleans()):
        ring.reverse()
    return [*ring, ring[0]]


def inside(point, ring):
    """Return whether the ring winds around the point: exact for a star-shaped ring with integer vertices."""
    winding = 0
    for (x1, y1), (x2, y2) in itertools.pairwise(ring):
        side = (x2 - x1) * (point[1] - y1) - (point[0] - x1) * (y2 - y1)
        if y1 <= point[1] < y2 and side > 0:
            winding += 1
        if y2 <= point[1] < y1 and side < 0:
            winding -= 1
    return winding != 0


@given(ring=star_polygons(), box=BOXES)
def test_polygons_agree_with_a_naive_oracle(ring, box):
    corners = [(box.west, box.south), (box.east, box.south), (box.east, box.north), (box.west, box.north)]
    crossed = any(not clipped_is_empty(a, b, box) for a, b in itertools.pairwise(ring))
    naive = crossed or any(inside(corner, ring) for corner in corners)
    assert touches({"type": "Polygon", "coordinates": [ring]}, box) is naive


@given(ring=star_polygons(), box=BOXES, grow=st.integers(2, 4))
def test_polygons_with_holes_agree_with_shapely(ring, box, grow):
    geometry = pytest.importorskip("shapely.geometry")
    centre = ((ring[0][0] + ring[4][0]) / 2, (ring[0][1] + ring[4][1]) / 2)
    outer = [(centre[0] + grow * (x - centre[0]), centre[1] + grow * (y - centre[1])) for x, y in ring]
    shape = {"type": "Polygon", "coordinates": [outer, ring]}
    judge = geometry.shape(shape)
    if not judge.is_valid:
        return
    assert touches(shape, box) == judge.intersects(geometry.box(*box))
