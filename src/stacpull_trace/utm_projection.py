"""Universal Transverse Mercator on WGS 84: from degrees to metres and back, and the zone of a point. Pure.

pyproj computes the projection, from the extra `trace`. DMA TM 8358.2 (1989) defines the zones, with their
exceptions off Norway and around Svalbard.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

import shapely
from shapely.geometry.base import BaseGeometry

from stacpull.errors import MissingExtraError

if TYPE_CHECKING:
    from pyproj import Transformer

_NORTH, _SOUTH = 32600, 32700
_ZONES = 60
_ZONE_WIDTH = 6.0
_SVALBARD = ((0.0, 9.0, 31), (9.0, 21.0, 33), (21.0, 33.0, 35), (33.0, 42.0, 37))
_LONGEST_EDGE: Final = 500.0
"""Metres. A straight edge in UTM is a curve in degrees; divided into such steps, its error is millimetres."""


def utm_zone(longitude: float, latitude: float) -> int:
    """Return the EPSG code of the zone of a point in degrees: 32601 to 32660 north, 32701 to 32760 south."""
    return (_NORTH if latitude >= 0 else _SOUTH) + _zone_number(longitude, latitude)


def is_utm(epsg: int) -> bool:
    """Return True if `epsg` is a UTM zone of WGS 84."""
    return _NORTH < epsg <= _NORTH + _ZONES or _SOUTH < epsg <= _SOUTH + _ZONES


def project(longitude: float, latitude: float, epsg: int) -> tuple[float, float]:
    """Return easting and northing in metres of a point in degrees, in the UTM zone `epsg`."""
    if not is_utm(epsg):
        raise ValueError(f"EPSG:{epsg} is not a UTM zone on WGS 84")
    east, north = _from_degrees(epsg).transform(longitude, latitude)
    return east, north


def to_degrees(geometry: BaseGeometry, epsg: int) -> BaseGeometry:
    """Convert a geometry of eastings and northings (metres) to longitude and latitude, with curved edges."""
    inverse = _from_degrees(epsg)

    def degrees(x: object, y: object) -> tuple[object, object]:
        longitude, latitude = inverse.transform(x, y, direction="INVERSE")
        return longitude, latitude

    moved: BaseGeometry = shapely.transform(
        shapely.segmentize(geometry, _LONGEST_EDGE), degrees, interleaved=False
    )
    return moved


@lru_cache
def _from_degrees(epsg: int) -> Transformer:
    try:
        from pyproj import Transformer  # noqa: PLC0415 - an extra, and heavy
    except ImportError as error:
        raise MissingExtraError("trace", "pyproj", "trace") from error
    return Transformer.from_crs(4326, epsg, always_xy=True)


def _zone_number(longitude: float, latitude: float) -> int:
    longitude = (longitude + 180) % 360 - 180
    if 56 <= latitude < 64 and 3 <= longitude < 12:  # noqa: PLR2004 - off Norway zone 32 is wider
        return 32
    if 72 <= latitude <= 84:  # noqa: PLR2004 - around Svalbard there are four zones instead of seven
        for west, east, zone in _SVALBARD:
            if west <= longitude < east:
                return zone
    return int((longitude + 180) // _ZONE_WIDTH) + 1
