"""Map projections for whole arrays: UTM on WGS 84, Web Mercator, and what a CRS is called.

Krüger's series for the transverse Mercator to fourth order in the third flattening (Karney 2011, Transverse
Mercator with an accuracy of a few nanometers, equations 7-12, 17-21, 35, 36): a micrometre within a zone, so
that no pixel of 3 m is missed.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_EQUATOR = 6378137.0
_F = 1 / 298.257223563
_N = _F / (2 - _F)
_E = (_F * (2 - _F)) ** 0.5
_SCALE = 0.9996 * _EQUATOR / (1 + _N) * (1 + _N**2 / 4 + _N**4 / 64)
_FORWARD = (
    _N / 2 - 2 / 3 * _N**2 + 5 / 16 * _N**3 + 41 / 180 * _N**4,
    13 / 48 * _N**2 - 3 / 5 * _N**3 + 557 / 1440 * _N**4,
    61 / 240 * _N**3 - 103 / 140 * _N**4,
    49561 / 161280 * _N**4,
)
_BACKWARD = (
    _N / 2 - 2 / 3 * _N**2 + 37 / 96 * _N**3 - 1 / 360 * _N**4,
    1 / 48 * _N**2 + 1 / 15 * _N**3 - 437 / 1440 * _N**4,
    17 / 480 * _N**3 - 37 / 840 * _N**4,
    4397 / 161280 * _N**4,
)
_NEWTON_STEPS = 4
_SOUTH = 10_000_000.0

GEOGRAPHIC, MERCATOR = 4326, 3857
_CRS = re.compile(
    r"(?:https?://www\.opengis\.net/def/crs/|urn:ogc:def:crs:)?(?:OGC[/:](?:[\d.]*[/:])?CRS84|EPSG[/:]+(?:0/)?(\d+))"
)


def epsg_of(name: str) -> int | None:
    """The EPSG code of a CRS named as in requests (URL, URN or `EPSG:4326`); CRS84 is 4326, x first.

    Known are 4326, 3857, 32601-32660 and 32701-32760; None otherwise.
    """
    match = _CRS.fullmatch(name)
    if match is None:
        return None
    code = int(match[1] or GEOGRAPHIC)
    return code if code in {GEOGRAPHIC, MERCATOR} or _is_utm(code) else None


def _is_utm(code: int) -> bool:
    return code // 100 in {326, 327} and 1 <= code % 100 <= 60  # noqa: PLR2004 - zones


def to_utm(x: Any, y: Any, source: int, target: int) -> tuple[Floats, Floats]:
    """Easting and northing in metres in the UTM zone `target` (EPSG code) of points given in `source`."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if source == target:
        return x, y
    longitude, latitude = to_lonlat(x, y, source)
    return _project(longitude, latitude, target)


def to_lonlat(x: Any, y: Any, source: int) -> tuple[Floats, Floats]:
    """Longitude and latitude in degrees of points given in the CRS with the EPSG code `source`."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if source == GEOGRAPHIC:
        return x, y
    if source == MERCATOR:  # spherical, EPSG Guidance Note 7-2, 3.2.1.2
        return np.degrees(x / _EQUATOR), np.degrees(np.arctan(np.sinh(y / _EQUATOR)))
    return _unproject(x, y, source)


def _project(longitude: Floats, latitude: Floats, code: int) -> tuple[Floats, Floats]:
    away = np.radians(longitude - _central_meridian(code))
    sine = np.sin(np.radians(latitude))
    conformal = np.sinh(np.arctanh(sine) - _E * np.arctanh(_E * sine))
    north = np.arctan2(conformal, np.cos(away))
    east = np.arcsinh(np.sin(away) / np.hypot(conformal, np.cos(away)))
    xi, eta = north.copy(), east.copy()
    for j, alpha in enumerate(_FORWARD, 1):
        xi += alpha * np.sin(2 * j * north) * np.cosh(2 * j * east)
        eta += alpha * np.cos(2 * j * north) * np.sinh(2 * j * east)
    return _SCALE * eta + 500_000, _SCALE * xi + _false_northing(code)


def _unproject(easting: Floats, northing: Floats, code: int) -> tuple[Floats, Floats]:
    xi, eta = (northing - _false_northing(code)) / _SCALE, (easting - 500_000) / _SCALE
    north, east = xi.copy(), eta.copy()
    for j, beta in enumerate(_BACKWARD, 1):
        north -= beta * np.sin(2 * j * xi) * np.cosh(2 * j * eta)
        east -= beta * np.cos(2 * j * xi) * np.sinh(2 * j * eta)
    conformal = np.sin(north) / np.hypot(np.sinh(east), np.cos(north))
    tangent = _geographic(conformal)
    away = np.degrees(np.arctan2(np.sinh(east), np.cos(north)))
    return away + _central_meridian(code), np.degrees(np.arctan(tangent))


def _geographic(conformal: Floats) -> Floats:
    """Tangent of the latitude from that of the conformal one by Newton's method (Karney 2011, 19-21)."""
    tangent = conformal / (1 - _E**2)
    for _ in range(_NEWTON_STEPS):
        root = np.hypot(1, tangent)
        sigma = np.sinh(_E * np.arctanh(_E * tangent / root))
        here = tangent * np.hypot(1, sigma) - sigma * root
        step = (1 + (1 - _E**2) * tangent**2) / ((1 - _E**2) * root)
        tangent = tangent + (conformal - here) / np.hypot(1, here) * step
    return np.asarray(tangent)


def _central_meridian(code: int) -> float:
    return code % 100 * 6 - 183


def _false_northing(code: int) -> float:
    return _SOUTH if code // 100 == 327 else 0.0  # noqa: PLR2004 - the south
