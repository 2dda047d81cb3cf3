"""Filters by location: `--bbox` and `--intersects`; an item's `bbox` counts if its geometry is unreadable.

Geometry is planar on longitude and latitude; touching counts.
"""

from __future__ import annotations

from typing import Any

from stacpull.filters.item_checks import ItemCheck
from stacpull.models import Json

_NO_LOCATION = "no location"


class AreaCheck(ItemCheck):
    fields = ("intersects",)
    may_take_long = True  # shapely needs a second for a geometry of 60,000 parts
    explained = (_NO_LOCATION, "neither geometry nor bbox is valid.")

    def __init__(self, value: Any) -> None:
        from stacpull.filters import shapes  # noqa: PLC0415 -- shapely is heavy

        self._shapes = shapes
        self._area = shapes.prepare(self._area_of(value))

    def _area_of(self, value: Any) -> Any:
        return self._shapes.read_area(value, "--intersects")

    def __call__(self, item: Json, _properties: dict[str, Any]) -> str | None:
        found = self._shapes.read_shape(item.get("geometry"))
        if found is None:
            found = self._shapes.read_box(item.get("bbox"))
        if found is None:
            return _NO_LOCATION
        return None if self._shapes.intersects(self._area, found) else self.fields[0]


class BboxCheck(AreaCheck):
    fields = ("bbox",)

    def _area_of(self, value: Any) -> Any:
        return self._shapes.box_shape(value)


def area_geometry(text: str) -> tuple[tuple[float, float, float, float], Json | None] | None:
    """Return the bounds of `Selection.intersects` and the area as one valid geometry, to push down.

    The geometry is None if it is a collection, which services reject. None if it exceeds -180 to 180 degrees.
    """
    from stacpull.filters import shapes  # noqa: PLC0415 -- shapely is heavy

    area = shapes.read_area(text, "--intersects")
    if shapes.exceeds_the_globe(area):
        return None
    return area.bounds, None if area.geom_type == "GeometryCollection" else shapes.geojson(area)
