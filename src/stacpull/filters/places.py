"""Filters by location: `--bbox` and `--intersects`; an item's `bbox` counts if its geometry is unreadable.

Geometry is planar on longitude and latitude; touching counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from stacpull.boxes import Box, bounds_of, split
from stacpull.filters.item_checks import ItemCheck
from stacpull.models import Json

_UNREADABLE: Final = (TypeError, KeyError, IndexError, AttributeError, ValueError, ArithmeticError)
_NO_LOCATION: Final = "no location"


class _PlaceCheck(ItemCheck):
    may_take_long = True  # shapely needs a second for a geometry of 60,000 parts
    explained = (_NO_LOCATION, "neither geometry nor bbox is valid.")


class BboxCheck(_PlaceCheck):
    fields = ("bbox",)

    def __init__(self, bbox: Sequence[float]) -> None:
        self._bbox, self._boxes = bbox, split(bbox)
        self._shape: Any = None

    def __call__(self, item: Json, _properties: dict[str, Any]) -> str | None:
        try:
            met = self._geometry_meets(item.get("geometry"))
            if met is None:
                met = _overlap(self._boxes, split(item["bbox"]))
        except _UNREADABLE:
            return _NO_LOCATION
        return None if met else "bbox"

    def _geometry_meets(self, geometry: Any) -> bool | None:
        """Return whether the geometry meets the box, None if it is invalid. Its extent usually decides."""
        try:
            extent = _extent(geometry)
            if not _overlap(self._boxes, (extent,)):
                return False
            if any(_is_inside(extent, box) for box in self._boxes):
                return True
        except _UNREADABLE:
            return None
        from stacpull.filters import shapes  # noqa: PLC0415 -- shapely is heavy

        found = shapes.read_shape(geometry)
        if self._shape is None:
            self._shape = shapes.box_shape(self._bbox)
        return None if found is None else bool(self._shape.intersects(found))


def _extent(geometry: Any) -> Box:
    if geometry["type"] == "Polygon":  # most geometries of items
        ring = geometry["coordinates"][0]
        xs, ys = [position[0] for position in ring], [position[1] for position in ring]
        return Box(min(xs), min(ys), max(xs), max(ys))
    found = bounds_of(geometry)
    if found is None:
        raise ValueError("it has no positions")
    return found


def _is_inside(one: Box, other: Box) -> bool:
    across = other.west <= one.west and one.east <= other.east
    return across and other.south <= one.south and one.north <= other.north


def _overlap(boxes: Sequence[Box], others: Sequence[Box]) -> bool:
    return any(
        one.west <= other.east
        and other.west <= one.east
        and one.south <= other.north
        and other.south <= one.north
        for one in boxes
        for other in others
    )


class AreaCheck(_PlaceCheck):
    fields = ("intersects",)

    def __init__(self, text: str) -> None:
        from stacpull.filters import shapes  # noqa: PLC0415 -- shapely is heavy

        self._shapes = shapes
        self._area = shapes.prepare(shapes.read_area(text, "--intersects"))

    def __call__(self, item: Json, _properties: dict[str, Any]) -> str | None:
        found = self._shapes.read_shape(item.get("geometry"))
        if found is None:
            found = self._shapes.read_box(item.get("bbox"))
        if found is None:
            return _NO_LOCATION
        return None if self._shapes.intersects(self._area, found) else "intersects"


def area_geometry(text: str) -> tuple[tuple[float, float, float, float], Json | None] | None:
    """Return the bounds of `Selection.intersects` and the area as one valid geometry, to push down.

    The geometry is None if it is a collection, which services reject. None if it exceeds -180 to 180 degrees.
    """
    from stacpull.filters import shapes  # noqa: PLC0415 -- shapely is heavy

    area = shapes.read_area(text, "--intersects")
    if shapes.exceeds_the_globe(area):
        return None
    return area.bounds, None if area.geom_type == "GeometryCollection" else shapes.geojson(area)
