"""Where a patch lies: UTM on WGS 84 back to longitude and latitude, tile names, the projection as WKT.

Krüger's series to third order in the third flattening (Karney 2011, equations 7-11): well under a centimetre
inside a zone.
"""

from __future__ import annotations

from cmath import cos as complex_cos
from cmath import sin as complex_sin
from math import asin, atan2, cos, cosh, degrees, sin, sinh

_FLATTENING = 1 / 298.257223563
_N = _FLATTENING / (2 - _FLATTENING)
_RADIUS = 6378137 / (1 + _N) * (1 + _N**2 / 4 + _N**4 / 64) * 0.9996
_BETA = (_N / 2 - 2 / 3 * _N**2 + 37 / 96 * _N**3, _N**2 / 48 + _N**3 / 15, 17 / 480 * _N**3)
_DELTA = (2 * _N - 2 / 3 * _N**2 - 2 * _N**3, 7 / 3 * _N**2 - 8 / 5 * _N**3, 56 / 15 * _N**3)

_COLUMNS = ("ABCDEFGH", "JKLMNPQR", "STUVWXYZ")
_ROWS = "ABCDEFGHJKLMNPQRSTUV"
_BANDS = "CDEFGHJKLMNPQRSTUVWX"


def central_meridian(zone: int) -> int:
    """Degrees east of the middle of a UTM zone."""
    return zone * 6 - 183


def to_lonlat(zone: int, easting: float, northing: float) -> tuple[float, float]:
    """Longitude and latitude in degrees of a point given in metres (northern hemisphere).

    Both coordinates are one complex number, and sines of multiples follow from the first (`sin 4z = 2 sin 2z
    cos 2z`, `sin 6z = sin 2z (3 - 4 sin² 2z)`): a page of 10,000 items asks for 40,000 points.
    """
    plane = complex(northing, easting - 500000) / _RADIUS
    wave, ebb = complex_sin(2 * plane), complex_cos(2 * plane)
    plane -= wave * (_BETA[0] + 2 * _BETA[1] * ebb + _BETA[2] * (3 - 4 * wave * wave))
    north, east = plane.real, plane.imag
    conformal = asin(sin(north) / cosh(east))
    swell, fall = sin(2 * conformal), cos(2 * conformal)
    latitude = conformal + swell * (_DELTA[0] + 2 * _DELTA[1] * fall + _DELTA[2] * (3 - 4 * swell * swell))
    return central_meridian(zone) + degrees(atan2(sinh(east), cos(north))), degrees(latitude)


def tile_name(zone: int, easting: float, northing: float) -> str:
    """The military grid square (as `T29UPU`) whose lower left corner is here."""
    column = _COLUMNS[(zone - 1) % 3][round(easting / 100000) - 1]
    row = _ROWS[(round(northing / 100000) + (5 if zone % 2 == 0 else 0)) % 20]
    latitude = to_lonlat(zone, easting + 50000, northing + 50000)[1]
    return f"T{zone:02d}{_BANDS[int((latitude + 80) // 8)]}{column}{row}"


def projection_wkt(zone: int) -> str:
    """The coordinate system of a northern zone as well-known text, as the patches' metadata has it."""
    return (
        f'PROJCS["WGS 84 / UTM zone {zone}N",GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,'
        '298.257223563,AUTHORITY["EPSG","7030"]],AUTHORITY["EPSG","6326"]],PRIMEM["Greenwich",0,'
        'AUTHORITY["EPSG","8901"]],UNIT["degree",0.0174532925199433,AUTHORITY["EPSG","9122"]],'
        'AXIS["Latitude",NORTH],AXIS["Longitude",EAST],AUTHORITY["EPSG","4326"]],'
        'PROJECTION["Transverse_Mercator"],PARAMETER["latitude_of_origin",0],'
        f'PARAMETER["central_meridian",{central_meridian(zone)}],PARAMETER["scale_factor",0.9996],'
        'PARAMETER["false_easting",500000],PARAMETER["false_northing",0],UNIT["metre",1,'
        'AUTHORITY["EPSG","9001"]],AXIS["Easting",EAST],AXIS["Northing",NORTH],'
        f'AUTHORITY["EPSG","{32600 + zone}"]]'
    )
