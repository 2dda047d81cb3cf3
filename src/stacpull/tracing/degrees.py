"""From UTM to longitude and latitude: the service gives footprints in a tile's own CRS.

Krüger's series to the third order in n on the ellipsoid of WGS 84 (Karney 2011, "Transverse Mercator with an
accuracy of a few nanometers", equations 12 to 17): good to a few millimetres in a zone and those beside it.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

__all__ = ["is_utm", "to_degrees"]

_SEMI_MAJOR, _FLATTENING = 6_378_137.0, 1 / 298.257223563
_SCALE, _FALSE_EASTING, _FALSE_NORTHING = 0.9996, 500_000.0, 10_000_000.0
_N: Final = _FLATTENING / (2 - _FLATTENING)
_RADIUS: Final = _SEMI_MAJOR / (1 + _N) * (1 + _N**2 / 4 + _N**4 / 64)
_BETA: Final = (_N / 2 - 2 * _N**2 / 3 + 37 * _N**3 / 96, _N**2 / 48 + _N**3 / 15, 17 * _N**3 / 480)
_DELTA: Final = (2 * _N - 2 * _N**2 / 3 - 2 * _N**3, 7 * _N**2 / 3 - 8 * _N**3 / 5, 56 * _N**3 / 15)
_NORTH, _SOUTH, _ZONES = 32600, 32700, 60
_LONGEST_EDGE: Final = 500.0
"""Metres: a straight edge of UTM is a curve in degrees; in steps this long it is off by millimetres."""


def is_utm(epsg: int) -> bool:
    """Return True if `epsg` is a UTM zone of WGS 84."""
    return _NORTH < epsg <= _NORTH + _ZONES or _SOUTH < epsg <= _SOUTH + _ZONES


def to_degrees(geometry: BaseGeometry, epsg: int) -> BaseGeometry:
    """Return a geometry of eastings and northings (metres) in longitude and latitude, its edges bent right.

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
