"""Universal Transverse Mercator on WGS 84: from degrees to metres and back, and the zone of a point. Pure.

The projection is Krüger's series in the third flattening n: C. F. F. Karney, "Transverse Mercator with an
accuracy of a few nanometers", Journal of Geodesy 85 (2011). Forward, for sizes, it goes to n⁶ (equations 7 to
11 and 35), far better than a millimetre within a zone. Inverse, for footprints, it goes to n³ (equations 12
to 17), with an error of a few millimetres in a zone and its neighbours. Zones, their exceptions off Norway
and around Svalbard, and the false origins are those of DMA TM 8358.2 (1989).
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

_SEMI_MAJOR = 6_378_137.0
_FLATTENING = 1 / 298.257_223_563
_SCALE = 0.9996
_FALSE_EASTING = 500_000.0
_FALSE_NORTHING = 10_000_000.0
_NORTH, _SOUTH = 32600, 32700
_ZONES = 60
_ZONE_WIDTH = 6.0

_N = _FLATTENING / (2 - _FLATTENING)
_ECCENTRICITY = math.sqrt(_FLATTENING * (2 - _FLATTENING))
_RADIUS = _SEMI_MAJOR / (1 + _N) * (1 + _N**2 / 4 + _N**4 / 64 + _N**6 / 256)
_ALPHA = (
    _N / 2 - _N**2 * 2 / 3 + _N**3 * 5 / 16 + _N**4 * 41 / 180 - _N**5 * 127 / 288 + _N**6 * 7891 / 37800,
    _N**2 * 13 / 48 - _N**3 * 3 / 5 + _N**4 * 557 / 1440 + _N**5 * 281 / 630 - _N**6 * 1983433 / 1935360,
    _N**3 * 61 / 240 - _N**4 * 103 / 140 + _N**5 * 15061 / 26880 + _N**6 * 167603 / 181440,
    _N**4 * 49561 / 161280 - _N**5 * 179 / 168 + _N**6 * 6601661 / 7257600,
    _N**5 * 34729 / 80640 - _N**6 * 3418889 / 1995840,
    _N**6 * 212378941 / 319334400,
)

_BETA: Final = (_N / 2 - 2 * _N**2 / 3 + 37 * _N**3 / 96, _N**2 / 48 + _N**3 / 15, 17 * _N**3 / 480)
_DELTA: Final = (2 * _N - 2 * _N**2 / 3 - 2 * _N**3, 7 * _N**2 / 3 - 8 * _N**3 / 5, 56 * _N**3 / 15)

_SVALBARD = ((0.0, 9.0, 31), (9.0, 21.0, 33), (21.0, 33.0, 35), (33.0, 42.0, 37))
_LONGEST_EDGE: Final = 500.0
"""Metres. A straight edge in UTM is a curve in degrees; divided into such steps, its error is millimetres."""


def utm_zone(longitude: float, latitude: float) -> int:
    """Return the EPSG code of the zone of a point in degrees: 32601 to 32660 north, 32701 to 32760 south."""
    return (_NORTH if latitude >= 0 else _SOUTH) + _zone_number(longitude, latitude)


def project(longitude: float, latitude: float, epsg: int) -> tuple[float, float]:
    """Return easting and northing in metres of a point in degrees, in the UTM zone `epsg`.

    Raises:
        ValueError: `epsg` is not a UTM zone on WGS 84.
    """
    hemisphere, zone = divmod(epsg, 100)
    if hemisphere * 100 not in {_NORTH, _SOUTH} or not 1 <= zone <= _ZONES:
        raise ValueError(f"EPSG:{epsg} is not a UTM zone on WGS 84")
    xi, eta = _on_sphere(math.radians(latitude), math.radians(longitude - (zone * _ZONE_WIDTH - 183)))
    north, east = xi, eta
    for order, alpha in enumerate(_ALPHA, 1):
        north += alpha * math.sin(2 * order * xi) * math.cosh(2 * order * eta)
        east += alpha * math.cos(2 * order * xi) * math.sinh(2 * order * eta)
    northing = _SCALE * _RADIUS * north + (_FALSE_NORTHING if hemisphere * 100 == _SOUTH else 0.0)
    return _FALSE_EASTING + _SCALE * _RADIUS * east, northing


def _on_sphere(latitude: float, from_meridian: float) -> tuple[float, float]:
    """Return the transverse Mercator coordinates on the conformal sphere, in radians."""
    tau = math.tan(latitude)
    sigma = math.sinh(_ECCENTRICITY * math.atanh(_ECCENTRICITY * math.sin(latitude)))
    conformal = tau * math.hypot(1, sigma) - sigma * math.hypot(1, tau)
    xi = math.atan2(conformal, math.cos(from_meridian))
    return xi, math.asinh(math.sin(from_meridian) / math.hypot(conformal, math.cos(from_meridian)))


def _zone_number(longitude: float, latitude: float) -> int:
    longitude = (longitude + 180) % 360 - 180
    if 56 <= latitude < 64 and 3 <= longitude < 12:  # noqa: PLR2004 - off Norway zone 32 is wider
        return 32
    if 72 <= latitude <= 84:  # noqa: PLR2004 - around Svalbard there are four zones instead of seven
        for west, east, zone in _SVALBARD:
            if west <= longitude < east:
                return zone
    return int((longitude + 180) // _ZONE_WIDTH) + 1


def is_utm(epsg: int) -> bool:
    """Return True if `epsg` is a UTM zone of WGS 84."""
    return _NORTH < epsg <= _NORTH + _ZONES or _SOUTH < epsg <= _SOUTH + _ZONES


def to_degrees(geometry: BaseGeometry, epsg: int) -> BaseGeometry:
    """Convert a geometry of eastings and northings (metres) to longitude and latitude, with curved edges.

    Args:
        geometry: In the CRS of `epsg`.
        epsg: A UTM zone: 32601 to 32660, 32701 to 32760.
    """
    south = epsg > _SOUTH
    zone = epsg - (_SOUTH if south else _NORTH)
    fine = shapely.segmentize(geometry, _LONGEST_EDGE)
    moved: BaseGeometry = shapely.transform(fine, lambda points: _inverse(points, zone, south=south))
    return moved


def _inverse(points: Any, zone: int, *, south: bool) -> Any:
    """Return longitudes and latitudes, in degrees, of an array of eastings and northings."""
    xi = (points[:, 1] - (_FALSE_NORTHING if south else 0.0)) / (_SCALE * _RADIUS)
    eta = (points[:, 0] - _FALSE_EASTING) / (_SCALE * _RADIUS)
    steps = [(2 * order, factor) for order, factor in enumerate(_BETA, 1)]
    straight_xi = xi - sum(b * np.sin(k * xi) * np.cosh(k * eta) for k, b in steps)
    straight_eta = eta - sum(b * np.cos(k * xi) * np.sinh(k * eta) for k, b in steps)
    conformal = np.arcsin(np.sin(straight_xi) / np.cosh(straight_eta))
    latitude = conformal + sum(d * np.sin(2 * k * conformal) for k, d in enumerate(_DELTA, 1))
    longitude = np.arctan2(np.sinh(straight_eta), np.cos(straight_xi))
    return np.column_stack((np.degrees(longitude) + 6 * zone - 183, np.degrees(latitude)))
