"""The `--bbox` filter: on the item's geometry, as STAC's item search does it.

An item without a readable geometry is compared by its own `bbox`. What was odd is kept in
`BboxCheck.places`, because one broken vertex (or a bbox made of it) can make a 1.2 km patch continent-sized:
what was compared must be said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from stacpull.errors import UsageError
from stacpull.filters.places import Places, is_stray
from stacpull.filters.rectangle import Box, meets, simple_parts
from stacpull.filters.verdict import Verdict
from stacpull.models import Json

__all__ = ["BboxCheck", "compile_bbox", "is_apart", "parse_bbox"]

_UNREADABLE: Final = (TypeError, KeyError, IndexError, AttributeError, ValueError, ArithmeticError)
_LONGITUDE, _LATITUDE = 180.0, 90.0


class BboxCheck:
    """Predicate: the item lies in one of the boxes, at least by a point.

    Attributes:
        places: What was odd about the items so far.
    """

    __slots__ = ("_boxes", "places")

    def __init__(self, boxes: tuple[Box, ...]) -> None:
        self._boxes = boxes
        self.places = Places()

    def __call__(self, item: Json, _properties: dict[str, Any]) -> Verdict | None:
        """Return BBOX if the item meets none of the boxes, or says nowhere where it lies."""
        geometry = item.get("geometry")
        met = self._geometry_meets(geometry)
        if met is None:
            met = self._bbox_meets(item.get("bbox"))
            (self.places.nowhere if met is None else self.places.without_geometry).add(item)
        elif is_stray(geometry):
            self.places.stray.add(item)
        return None if met else Verdict.BBOX

    def _geometry_meets(self, geometry: Any) -> bool | None:
        """Return whether the geometry meets a box; None if there is none, or it cannot be read."""
        try:
            parts = simple_parts(geometry)
            found = any(meets(kind, shape, box) for kind, shape in parts for box in self._boxes)
        except _UNREADABLE:
            return None
        return found if parts else None

    def _bbox_meets(self, bbox: Any) -> bool | None:
        """Return whether an item's bbox meets a box; None if it is none."""
        try:
            others = _boxes(bbox)
            return any(_overlap(mine, other) for mine in self._boxes for other in others)
        except _UNREADABLE:
            return None


def compile_bbox(bbox: Sequence[float] | None) -> BboxCheck | None:
    """Compile `Selection.bbox`; None if it has none. W > E goes across the antimeridian; heights are ignored.

    Args:
        bbox: Four numbers W, S, E, N in degrees, or six with heights (W, S, low, E, N, high).

    Raises:
        UsageError: The numbers are no such box.
    """
    if bbox is None:
        return None
    text = ",".join(f"{number:g}" for number in bbox)
    if len(bbox) not in (4, 6):
        raise UsageError(
            f"--bbox {text!r} has {len(bbox)} numbers: give four, W,S,E,N (or six, with heights)."
        )
    west, south, east, north = _plane(bbox)
    if not all(map(math.isfinite, bbox)) or max(abs(west), abs(east)) > _LONGITUDE:
        raise UsageError(f"--bbox {text!r}: W and E are longitudes from -180 to 180.")
    if max(abs(south), abs(north)) > _LATITUDE or south > north:
        raise UsageError(f"--bbox {text!r}: S and N are latitudes from -90 to 90, S not above N.")
    return BboxCheck(_boxes(bbox))


def parse_bbox(text: str) -> tuple[float, ...]:
    """Parse `W,S,E,N` (or six numbers, with heights), in degrees.

    Raises:
        UsageError: It is no box.
    """
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--bbox {text!r} is not four numbers: write W,S,E,N in degrees.") from None
    compile_bbox(numbers)
    return numbers


def is_apart(bbox: Sequence[float], others: Sequence[Any]) -> bool:
    """Return True if `bbox` has no point in common with any of the other boxes.

    Args:
        bbox: Four numbers W, S, E, N in degrees, or six with heights.
        others: What a document states as boxes; False if one of them cannot be read, or there are none.
    """
    try:
        return bool(others) and not any(
            _overlap(mine, box) for other in others for box in _boxes(other) for mine in _boxes(bbox)
        )
    except _UNREADABLE:
        return False


def _plane(bbox: Sequence[float]) -> tuple[float, float, float, float]:
    """Return W, S, E, N of a GeoJSON bbox of 4 or 6 numbers (RFC 7946, 5)."""
    half = len(bbox) // 2
    return bbox[0], bbox[1], bbox[half], bbox[half + 1]


def _boxes(bbox: Sequence[float]) -> tuple[Box, ...]:
    """Return a bbox as boxes: two if it goes across the antimeridian (RFC 7946, 5.2)."""
    west, south, east, north = _plane(bbox)
    if west <= east:
        return (Box(west, south, east, north),)
    return Box(west, south, _LONGITUDE, north), Box(-_LONGITUDE, south, east, north)


def _overlap(one: Box, other: Box) -> bool:
    across = one.west <= other.east and other.west <= one.east
    return across and one.south <= other.north and other.south <= one.north
