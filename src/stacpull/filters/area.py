"""The `--intersects` filter: the item's geometry shares a point with an area given as GeoJSON.

As with `--bbox` the geometry counts, and the item's bbox where it has none that can be read. What is odd
about items (no place at all, a geometry that had to be mended) is counted in `AreaCheck.places`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import orjson

from stacpull.errors import UsageError
from stacpull.filters.places import Places, is_stray
from stacpull.filters.verdict import Verdict
from stacpull.models import Json

__all__ = ["Area", "AreaCheck", "area_geometry", "compile_area"]

_LONGITUDE, _LATITUDE = 360.0, 90.0
_WGS84: Final = ("CRS84", "EPSG::4326", "EPSG:4326")
_TURN = 180.0


class Area(NamedTuple):
    """An area as a service is asked for it: W, S, E, N in degrees, and one GeoJSON geometry, valid.

    `geometry` is None where it is a collection, which services refuse.
    """

    bounds: tuple[float, float, float, float]
    geometry: Json | None


class AreaCheck:
    """Predicate: the item shares a point with the area.

    Attributes:
        places: What was odd about the items so far.
        mended: True if the area itself crossed itself and was made valid.
    """

    __slots__ = ("_area", "_shapes", "mended", "places")

    def __init__(self, text: str) -> None:
        from stacpull.filters import shapes  # noqa: PLC0415 -- shapely is heavy

        self._shapes = shapes
        area, self.mended = _area_of(text, shapes)
        self._area = shapes.prepared(area)
        self.places = Places()

    def __call__(self, item: Json, _properties: dict[str, Any]) -> Verdict | None:
        """Return INTERSECTS if the item lies outside of the area, or says nowhere where it lies."""
        place = self._place(item)
        if place is None:
            self.places.nowhere.add(item)
            return Verdict.INTERSECTS
        return None if self._area.intersects(self._shapes.turned(place)) else Verdict.INTERSECTS

    def _place(self, item: Json) -> Any:
        geometry = item.get("geometry")
        found = self._shapes.read_shape(geometry)
        if found is not None:
            if found.boxed:
                self.places.boxed.add(item)
            if found.mended:
                self.places.mended.add(item)
            if is_stray(geometry):
                self.places.stray.add(item)
            return found.geometry
        box = self._shapes.read_box(item.get("bbox"))
        if box is not None:
            self.places.without_geometry.add(item)
        return box


def compile_area(text: str | None) -> AreaCheck | None:
    """Compile `Selection.intersects`, the text of a GeoJSON geometry, Feature or FeatureCollection.

    Raises:
        UsageError: It is no such text, holds no geometry, or one that is not in degrees.
    """
    return None if text is None else AreaCheck(text)


def area_geometry(text: str) -> Area | None:
    """Return `Selection.intersects` as one geometry; None if it leaves -180 to 180 degrees.

    Raises:
        UsageError: As `compile_area`.
    """
    from stacpull.filters import shapes  # noqa: PLC0415 -- shapely is heavy

    area, _ = _area_of(text, shapes)
    west, south, east, north = area.bounds
    if west < -_TURN or east > _TURN:
        return None
    geometry = shapes.geojson(area)
    return Area((west, south, east, north), None if geometry["type"] == "GeometryCollection" else geometry)


def _area_of(text: str, shapes: Any) -> tuple[Any, bool]:
    """Return the area, and whether any part of it had to be mended."""
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise UsageError(f"--intersects is no GeoJSON: {error}.") from error
    parts = []
    for number, geometry in enumerate(_geometries(document), 1):
        found = shapes.read_shape(geometry, trusted=True)
        if found is None:
            kind = geometry.get("type") if isinstance(geometry, dict) else geometry
            raise UsageError(f"--intersects: geometry {number} ({kind}) is empty or cannot be read.")
        parts.append(found)
    if not parts:
        raise UsageError("--intersects holds no geometry: give a geometry, a Feature or a FeatureCollection.")
    area = shapes.united([part.geometry for part in parts])
    west, south, east, north = area.bounds
    if max(abs(west), abs(east)) > _LONGITUDE or max(abs(south), abs(north)) > _LATITUDE:
        raise UsageError(
            f"--intersects reaches from {west:g},{south:g} to {east:g},{north:g}: "
            "give longitude and latitude in degrees (WGS 84), in this order."
        )
    return area, any(part.mended for part in parts)


def _geometries(document: Any) -> Iterator[Any]:
    """Yield the geometries of a GeoJSON document; features without one are passed over (RFC 7946, 3.2)."""
    _check_crs(document)
    match document:
        case {"type": "FeatureCollection", "features": list(features)}:
            for feature in features:
                yield from _geometries(feature)
        case {"type": "Feature", "geometry": geometry}:
            if geometry is not None:
                yield geometry
        case {"type": str()}:
            yield document
        case _:
            raise UsageError("--intersects is no GeoJSON: it is no object with a type.")


def _check_crs(document: Any) -> None:
    """Refuse the `crs` of GeoJSON 2008 where it names anything but WGS 84: RFC 7946 knows no other."""
    crs = document.get("crs") if isinstance(document, dict) else None
    if crs is None:
        return
    properties = crs.get("properties") if isinstance(crs, dict) else None
    name = str(properties.get("name")) if isinstance(properties, dict) else str(crs)
    if not name.endswith(_WGS84):
        raise UsageError(f"--intersects is in {name}: give longitude and latitude in degrees (WGS 84).")
