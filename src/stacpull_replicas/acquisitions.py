"""The 125 Sentinel-2 acquisitions from which patches are cut, and UTM coordinates for them.

Tiles are in the ten countries of BigEarthNet. A tile is 109.8 km wide and has 91 columns and 91 rows of
patches of 1.2 km. Dates are from 2017-06-13 to 2018-05-29. As in the real names, some times before ten
o'clock lack their leading zero (`T94033`).

The conversion from UTM on WGS 84 to longitude and latitude is Krüger's series to third order in the third
flattening (Karney 2011, equations 7-11). Its error is well under a centimetre inside a zone.
"""

from __future__ import annotations

from cmath import cos as complex_cos
from cmath import sin as complex_sin
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
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
    return zone * 6 - 183


def to_lonlat(zone: int, easting: float, northing: float) -> tuple[float, float]:
    """Return longitude and latitude in degrees of a point given in metres (northern hemisphere).

    This is optimized, because a page of 10,000 items has 40,000 points: both coordinates are one complex
    number, and sines of multiples are derived from the first (`sin 4z = 2 sin 2z cos 2z`,
    `sin 6z = sin 2z (3 - 4 sin² 2z)`).
    """
    plane = complex(northing, easting - 500000) / _RADIUS
    s, c = complex_sin(2 * plane), complex_cos(2 * plane)
    plane -= s * (_BETA[0] + 2 * _BETA[1] * c + _BETA[2] * (3 - 4 * s * s))
    north, east = plane.real, plane.imag
    conformal = asin(sin(north) / cosh(east))
    sine, cosine = sin(2 * conformal), cos(2 * conformal)
    latitude = conformal + sine * (_DELTA[0] + 2 * _DELTA[1] * cosine + _DELTA[2] * (3 - 4 * sine * sine))
    return central_meridian(zone) + degrees(atan2(sinh(east), cos(north))), degrees(latitude)


def tile_name(zone: int, easting: float, northing: float) -> str:
    """Return the military grid square (such as `T29UPU`) with this lower left corner."""
    column = _COLUMNS[(zone - 1) % 3][round(easting / 100000) - 1]
    row = _ROWS[(round(northing / 100000) + (5 if zone % 2 == 0 else 0)) % 20]
    latitude = to_lonlat(zone, easting + 50000, northing + 50000)[1]
    return f"T{zone:02d}{_BANDS[int((latitude + 80) // 8)]}{column}{row}"


def projection_wkt(zone: int) -> str:
    """Return the coordinate system of a northern zone as well-known text, as in the patches' metadata."""
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


GRID = 91
PATCH_METRES = 1200

_FIRST_DAY = datetime(2017, 6, 13, tzinfo=UTC)
_LAST = 124
_DAYS = 350

_TILES: tuple[tuple[int, int, int, int, int], ...] = (
    # zone, easting and northing of the upper left corner, relative orbit, time of day as HHMMSS
    (33, 499980, 5300040, 22, 101031),  # Austria
    (35, 399960, 7000020, 136, 93021),  # Finland
    (29, 499980, 4300020, 37, 112111),  # Portugal
    (34, 399960, 5000040, 36, 94029),  # Serbia
    (29, 600000, 5900040, 80, 113321),  # Ireland
    (31, 600000, 5600040, 94, 105019),  # Belgium
    (35, 499980, 6800040, 136, 93029),  # Finland
    (34, 600000, 6200040, 79, 95031),  # Lithuania
    (32, 300000, 5300040, 108, 103021),  # Switzerland
    (29, 600000, 4300020, 37, 112431),  # Portugal
    (35, 600000, 7200000, 36, 94033),  # Finland
    (34, 499980, 4800000, 136, 93209),  # Kosovo
    (33, 600000, 5400000, 122, 100319),  # Austria
    (31, 699960, 5500020, 8, 104010),  # Luxembourg
    (34, 499980, 7100040, 22, 101019),  # Finland
    (35, 300000, 6200040, 36, 94019),  # Lithuania
    (34, 499980, 4900020, 136, 93039),  # Serbia
    (29, 600000, 6000000, 123, 115401),  # Ireland
    (35, 300000, 7400040, 122, 100029),  # Finland
    (32, 399960, 5200020, 65, 102021),  # Switzerland
    (29, 499980, 4400040, 137, 112109),  # Portugal
    (35, 499980, 7300020, 122, 100209),  # Finland
    (34, 600000, 6800040, 122, 100159),  # Finland
    (31, 499980, 5600040, 51, 105619),  # Belgium
    (35, 399960, 6100020, 36, 94021),  # Lithuania
)


@dataclass(frozen=True, slots=True)
class Acquisition:
    """One acquisition of one tile: everything that its patches share."""

    platform: str
    moment: datetime
    stamp: str
    zone: int
    easting: int
    northing: int
    tile_source: str
    datetime: bytes
    """The time as in items: `2017-06-13T10:10:31Z`."""

    def ring(self) -> list[list[float]]:
        """Return the closed outline of all its patches in degrees, clockwise from the upper left."""
        side = GRID * PATCH_METRES
        right, bottom = self.easting + side, self.northing - side
        corners = (
            (self.easting, self.northing),
            (right, self.northing),
            (right, bottom),
            (self.easting, bottom),
        )
        ring = [list(to_lonlat(self.zone, x, y)) for x, y in corners]
        return [*ring, ring[0]]

    @property
    def prefix(self) -> str:
        return f"{self.platform}_MSIL2A_{self.stamp}"


def _acquisition(number: int) -> Acquisition:
    zone, easting, northing, orbit, hhmmss = _TILES[number * 8 % len(_TILES)]
    wobble = number % 4 if 0 < number < _LAST else 0
    seconds = hhmmss // 10000 * 3600 + hhmmss // 100 % 100 * 60 + hhmmss % 100 + wobble
    moment = _FIRST_DAY + timedelta(days=number * _DAYS // _LAST, seconds=seconds)
    stamp = moment.strftime("%Y%m%dT%H%M%S")
    if number % 3 == 0:
        stamp = stamp.replace("T0", "T")
    platform = "S2A" if number % 5 < 3 else "S2B"  # noqa: PLR2004
    tile = tile_name(zone, easting, northing - 100000)
    made = (moment + timedelta(seconds=131 + number * 37)).strftime("%Y%m%dT%H%M%S")
    baseline = "N0205" if moment < datetime(2017, 10, 23, tzinfo=UTC) else "N0206"
    source = f"{platform}_MSIL1C_{stamp}_{baseline}_R{orbit:03d}_{tile}_{made}.SAFE"
    written = moment.strftime("%Y-%m-%dT%H:%M:%SZ").encode()
    return Acquisition(platform, moment, stamp, zone, easting, northing, source, written)


ACQUISITIONS: tuple[Acquisition, ...] = tuple(_acquisition(number) for number in range(_LAST + 1))
NUMBER_OF_PREFIX: dict[str, int] = {acquisition.prefix: n for n, acquisition in enumerate(ACQUISITIONS)}
