"""Bounding boxes in degrees: W, S, E, N, or six numbers with heights, W, S, low, E, N, high (RFC 7946, 5)."""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeGuard

from stacpull.json_values import is_number
from stacpull.models import Json

_EDGE = 180.0
_WIDENED = 1e-4


class Box(NamedTuple):
    """A rectangle in degrees. A west above its east means that it crosses the antimeridian."""

    west: float
    south: float
    east: float
    north: float


def is_bbox(value: object) -> TypeGuard[list[float]]:
    return isinstance(value, list) and len(value) in (4, 6) and all(map(is_number, value))


def to_2d(bbox: Sequence[float]) -> Box:
    half = len(bbox) // 2
    return Box(bbox[0], bbox[1], bbox[half], bbox[half + 1])


def split_at_antimeridian(bbox: Sequence[float]) -> tuple[Box, ...]:
    box = to_2d(bbox)  # RFC 7946, 5.2
    if box.west <= box.east:
        return (box,)
    return box._replace(east=_EDGE), box._replace(west=-_EDGE)


def with_nonzero_area(box: Box) -> Box:
    """Return a box with width and height, because services convert boxes to polygons."""
    dx = _WIDENED if box.west == box.east else 0.0
    dy = _WIDENED if box.south == box.north else 0.0
    west = max(-_EDGE, box.west - dx)
    south = max(-_EDGE / 2, box.south - dy)
    east = min(_EDGE, box.east + dx)
    north = min(_EDGE / 2, box.north + dy)
    return Box(west, south, east, north)


def bounds_of(geometry: Json) -> Box | None:
    xs: list[float] = []
    ys: list[float] = []
    waiting: list[Any] = [geometry]
    while waiting:
        match waiting.pop():
            case dict() as value:
                waiting += value.get("coordinates"), value.get("geometries")
            case [int() | float() as x, int() | float() as y, *_]:
                xs.append(x)
                ys.append(y)
            case list() as values:
                waiting += values
    if not xs:
        return None
    return Box(min(xs), min(ys), max(xs), max(ys))
