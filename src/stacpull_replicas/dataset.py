"""A BigEarthNet of any size up to the real one. It is not stored: patch `i` is a pure function of (seed, i).

Counts of flags are exact, not random. Of 590,326 patches, 61,707 have seasonal snow, 9,280 have cloud or
shadow, and none has both. Of the others, 55 have only classes that the 19-class nomenclature drops, which
leaves the recommended 519,284. Small data sets have a few per cent of each, so that every filter matters.

Names are as in the real set: acquisition, column, row, all unpadded. A permutation maps patches to the
125 x 91 x 91 possible places, so the index of a name, and the name of an index, are found in constant time.
"""

from __future__ import annotations

import json
import re
from bisect import bisect
from cmath import cos as complex_cos
from cmath import sin as complex_sin
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import cached_property, lru_cache
from itertools import accumulate
from math import asin, atan2, cos, cosh, degrees, sin, sinh

import msgspec

from stacpull_replicas.draws import Permutation, fraction, mix
from stacpull_replicas.rasters import band_file

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


class Acquisition(msgspec.Struct, frozen=True):
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


CLASS_WEIGHTS: dict[str, int] = {
    "Continuous urban fabric": 10784,
    "Discontinuous urban fabric": 69872,
    "Industrial or commercial units": 12895,
    "Road and rail networks and associated land": 3384,
    "Port areas": 509,
    "Airports": 979,
    "Mineral extraction sites": 4618,
    "Dump sites": 959,
    "Construction sites": 1174,
    "Green urban areas": 1786,
    "Sport and leisure facilities": 5353,
    "Non-irrigated arable land": 196695,
    "Permanently irrigated land": 13589,
    "Rice fields": 3793,
    "Vineyards": 9567,
    "Fruit trees and berry plantations": 4754,
    "Olive groves": 12538,
    "Pastures": 103554,
    "Annual crops associated with permanent crops": 7022,
    "Complex cultivation patterns": 107786,
    "Land principally occupied by agriculture, with significant areas of natural vegetation": 147095,
    "Agro-forestry areas": 30674,
    "Broad-leaved forest": 150944,
    "Coniferous forest": 211703,
    "Mixed forest": 217119,
    "Natural grassland": 12835,
    "Moors and heathland": 5890,
    "Sclerophyllous vegetation": 11241,
    "Transitional woodland/shrub": 173506,
    "Beaches, dunes, sands": 1578,
    "Bare rock": 3277,
    "Sparsely vegetated areas": 1563,
    "Burnt areas": 328,
    "Inland marshes": 6236,
    "Peatbogs": 23207,
    "Salt marshes": 1562,
    "Salines": 424,
    "Intertidal flats": 1003,
    "Water courses": 10572,
    "Water bodies": 83811,
    "Coastal lagoons": 1498,
    "Estuaries": 1086,
    "Sea and ocean": 81612,
}
"""The 43 CORINE Land Cover level-3 classes with the names of BigEarthNet v1, and its patches with each

(Sumbul et al., IGARSS 2019), so that generated patches are distributed as the real ones.
"""
CLASSES: tuple[str, ...] = tuple(CLASS_WEIGHTS)

DROPPED_BY_19: frozenset[str] = frozenset(
    {
        "Road and rail networks and associated land",
        "Port areas",
        "Airports",
        "Mineral extraction sites",
        "Dump sites",
        "Construction sites",
        "Green urban areas",
        "Sport and leisure facilities",
        "Bare rock",
        "Burnt areas",
        "Intertidal flats",
    }
)
"""Classes that the 19-class nomenclature drops."""

_LABELS_PER_PATCH = (17, 27, 25, 16, 9, 3, 1.5, 0.8, 0.4, 0.2, 0.07, 0.03)
"""Weights of 1, 2, … 12 labels: about 2.9 on average, 95 % at most five."""

_COUNT_STEPS = tuple(accumulate(_LABELS_PER_PATCH))
_ALL_STEPS = tuple(accumulate(CLASS_WEIGHTS.values()))
_KEPT = tuple(name for name in CLASSES if name not in DROPPED_BY_19)
_KEPT_STEPS = tuple(accumulate(CLASS_WEIGHTS[name] for name in _KEPT))
_DROPPED = tuple(name for name in CLASSES if name in DROPPED_BY_19)
_DROPPED_STEPS = tuple(accumulate(CLASS_WEIGHTS[name] for name in _DROPPED))
_RANK = {name: rank for rank, name in enumerate(CLASSES)}


def _pick(names: tuple[str, ...], steps: tuple[float, ...], at: float) -> str:
    return names[bisect(steps, at * steps[-1])]


def draw_labels(word: int, *, only_dropped: bool) -> tuple[str, ...]:
    """Return one to twelve distinct classes in nomenclature order.

    At least one of them is in the 19-class nomenclature. With `only_dropped`, there are one or two, and none
    is in it.
    """
    if only_dropped:
        wanted = 1 + word % 2
        names, steps = _DROPPED, _DROPPED_STEPS
        labels = set[str]()
    else:
        wanted = 1 + bisect(_COUNT_STEPS, fraction(word, 0) * _COUNT_STEPS[-1])
        names, steps = CLASSES, _ALL_STEPS
        labels = {_pick(_KEPT, _KEPT_STEPS, fraction(word, 1))}
    turn = 2
    while len(labels) < wanted:
        labels.add(_pick(names, steps, fraction(word, turn)))
        turn += 1
    return tuple(sorted(labels, key=_RANK.__getitem__))


MAX_ITEMS = 590_326
SNOW, CLOUD, ONLY_DROPPED = 61_707, 9_280, 55
"""Patches of the full set with snow, with cloud or shadow, with no label in the 19-class nomenclature."""

_SMALL = 20_000
_SMALL_SHARES = (0.08, 0.04, 0.01)
_NAME = re.compile(r"(S2[AB]_MSIL2A_\d{8}T\d{5,6})_(0|[1-9]\d?)_(0|[1-9]\d?)", re.ASCII)
_LABELS, _ABSENCE = 11, 13  # purposes of draws

Ring = list[list[float]]


class Flag(Enum):
    """A property of a patch besides its labels."""

    NONE = 0
    SNOW = 1
    CLOUD = 2
    ONLY_DROPPED = 3


class Site(msgspec.Struct, frozen=True):
    """The position and name of one patch of 1.2 km."""

    index: int
    name: str
    acquisition: Acquisition
    column: int
    row: int

    @property
    def corner(self) -> tuple[int, int]:
        return (
            self.acquisition.easting + self.column * PATCH_METRES,
            self.acquisition.northing - self.row * PATCH_METRES,
        )

    def ring(self, *, broken: bool = False) -> Ring:
        """Return the closed outline in degrees, clockwise from the upper left.

        The service of 2021 swapped the axes of the lower right corner before projecting it (`broken`), which
        made the bounding box of a patch as large as a continent.
        """
        left, top = self.corner
        right, bottom = left + PATCH_METRES, top - PATCH_METRES
        third = (bottom, right) if broken else (right, bottom)
        corners = ((left, top), (right, top), third, (left, bottom))
        ring = [list(to_lonlat(self.acquisition.zone, x, y)) for x, y in corners]
        return [*ring, ring[0]]


class Patch(Site, frozen=True):
    """One patch with its labels."""

    labels: tuple[str, ...]
    seasonal_snow: bool
    cloud_and_shadow: bool

    def metadata(self) -> bytes:
        """Return the content of `<patch>_labels_metadata.json`."""
        left, top = self.corner
        corners = {"ulx": left, "uly": top, "lrx": left + PATCH_METRES, "lry": top - PATCH_METRES}
        document = {
            "labels": list(self.labels),
            "coordinates": corners,
            "projection": projection_wkt(self.acquisition.zone),
            "tile_source": self.acquisition.tile_source,
            "acquisition_date": self.acquisition.moment.strftime("%Y-%m-%d %H:%M:%S"),
        }
        return json.dumps(document).encode()


class Dataset(msgspec.Struct, frozen=True, dict=True):
    """`items` patches of `seed`."""

    items: int = 400
    seed: int = 7

    def __post_init__(self) -> None:
        if not 1 <= self.items <= MAX_ITEMS:
            raise ValueError(f"a data set has 1 to {MAX_ITEMS} items, not {self.items}")

    @cached_property
    def _places(self) -> Permutation:
        return Permutation.seeded(len(ACQUISITIONS) * GRID * GRID, self.seed, 1)

    @cached_property
    def _ranks(self) -> Permutation:
        return Permutation.seeded(self.items, self.seed, 2)

    @cached_property
    def _flag_limits(self) -> tuple[int, int, int]:
        if self.items < _SMALL:
            snow, cloud, dropped = (round(self.items * share) for share in _SMALL_SHARES)
        else:
            snow, cloud, dropped = (
                round(self.items * count / MAX_ITEMS) for count in (SNOW, CLOUD, ONLY_DROPPED)
            )
        return snow, snow + cloud, snow + cloud + dropped

    def flag(self, index: int) -> Flag:
        rank = self._ranks.forward(index)
        snow, cloud, dropped = self._flag_limits
        if rank >= dropped:
            return Flag.NONE
        if rank >= cloud:
            return Flag.ONLY_DROPPED
        return Flag.CLOUD if rank >= snow else Flag.SNOW

    def acquisition_of(self, index: int) -> int:
        return self._places.forward(index) // (GRID * GRID)

    def name(self, index: int) -> str:
        """Return the patch name, such as `S2A_MSIL2A_20170613T101031_0_45`."""
        place, row = divmod(self._places.forward(index), GRID)
        number, column = divmod(place, GRID)
        return f"{ACQUISITIONS[number].prefix}_{column}_{row}"

    def index_of(self, name: str) -> int | None:
        """Return the index of the patch with this name; None if the data set has none."""
        match = _NAME.fullmatch(name)
        number = NUMBER_OF_PREFIX.get(match[1]) if match else None
        if match is None or number is None:
            return None
        column, row = int(match[2]), int(match[3])
        if column >= GRID or row >= GRID:
            return None
        index = self._places.backward((number * GRID + column) * GRID + row)
        return index if index < self.items else None

    def site(self, index: int) -> Site:
        if not 0 <= index < self.items:
            raise IndexError(f"patch {index} of {self.items}")
        place, row = divmod(self._places.forward(index), GRID)
        number, column = divmod(place, GRID)
        acquisition = ACQUISITIONS[number]
        return Site(index, f"{acquisition.prefix}_{column}_{row}", acquisition, column, row)

    def patch(self, index: int) -> Patch:
        site = self.site(index)
        flag = self.flag(index)
        return Patch(
            index=index,
            name=site.name,
            acquisition=site.acquisition,
            column=site.column,
            row=site.row,
            labels=self.labels(index, flag),
            seasonal_snow=flag is Flag.SNOW,
            cloud_and_shadow=flag is Flag.CLOUD,
        )

    def patches(self) -> Iterator[Patch]:
        return map(self.patch, range(self.items))

    def flag_properties(self, patch: Patch) -> dict[str, bool]:
        """Return the flags as item properties. A false one may be absent."""
        flags = {"seasonal_snow": patch.seasonal_snow, "cloud_and_shadow": patch.cloud_and_shadow}
        return {
            name: value
            for number, (name, value) in enumerate(flags.items())
            if value or mix(self.seed, patch.index, _ABSENCE, number) % 32
        }

    def has_class_list(self, index: int) -> bool:
        """Return True if the label item has `label:classes`. The first has it; one in 64 others does not."""
        return index == 0 or mix(self.seed, index, _ABSENCE, 2) % 64 != 0

    def band(self, patch: Site, band: str) -> bytes:
        classes = _classes(self, patch.index)
        return band_file(self.seed, patch.index, band, patch.acquisition.zone, patch.corner, classes)

    def labels(self, index: int, flag: Flag) -> tuple[str, ...]:
        return draw_labels(mix(self.seed, index, _LABELS), only_dropped=flag is Flag.ONLY_DROPPED)


@lru_cache(maxsize=256)
def _classes(dataset: Dataset, index: int) -> tuple[int, ...]:
    return tuple(map(CLASSES.index, dataset.labels(index, dataset.flag(index))))
