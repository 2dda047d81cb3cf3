"""What the notebook saw: the only figures here that come from it, kept for the default seed's default tile.

"Lookup Scene Traceability Information for ARPS data in the Planet Insights Platform" printed dates, NDWI
means, scene values, one header. Each day it saw is a `Sight`; `overlay.py` makes rasters that give these
figures, and whoever asks computes them from the rasters. What it did not print (other scenes, satellites,
shares) is made up.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from stacpull_replicas.sentinelhub.scenes import Cuts, Scene, reach
from stacpull_replicas.sentinelhub.squares import Square
from stacpull_replicas.sentinelhub.swaths import Swath

SQUARE = Square(22, 174)
MONTH = (2023, 11)

PRINTED_BOX, PRINTED_SIZE = (-122.44, 37.75, -122.42293, 37.76989), (497, 739)
"""The box whose figures it prints (west, south, east, north), and its pixels in x and y."""
CODE_BOX, CODE_SIZE = (-122.44, 37.75, -122.39, 37.79), (1459, 1489)
"""The box that stands in its code. Both give the same statistics: pixels outside of the first are clouded."""

_NORTH_OF_BOTH = 1_000_000
"""A place along the strips that lies north of both boxes."""
_EAST_OF_BOTH = 1_600_000
"""A place across the strips that lies east of both boxes."""
_LONG = 3_000_000
_NONE = Scene(29, None)
"""Pixels whose scene the header calls None."""


@dataclass(frozen=True)
class Target:
    """What NDWI has to come to over the valid pixels; None is left open."""

    mean: float
    deviation: float | None = None
    lowest: tuple[int, int] | None = None
    highest: tuple[int, int] | None = None
    """Green and near infrared of the pixel with the least, with the greatest NDWI."""


@dataclass(frozen=True)
class Sight:
    """A day: the scenes in the north and in the south of the boxes and east of them, and the valid pixels."""

    day: int
    south: Scene
    north: Scene = _NONE
    east: Scene = _NONE
    valid: tuple[int, int] = (0, 0)
    """Valid pixels of the north and of the south scene in the printed box."""
    ndwi: Target | None = None
    cut: int = _NORTH_OF_BOTH
    """Where north meets south, along the strips."""
    east_edge: int = 1_800_000
    clear: float = 31.4
    """PERCENTAGE_CLEAR of the tile."""
    created: str | None = None
    etags: tuple[str, str] | None = None
    """ETags of the QA and of the SR file."""

    @property
    def date(self) -> date:
        """The day as a date."""
        return date(*MONTH, self.day)

    def cuts(self) -> Cuts:
        """The scenes of the tile."""
        swath = Swath((900_000, _EAST_OF_BOTH, self.east_edge), (self.cut, 0), (_LONG, 2 * _LONG))
        firsts = tuple(reach(swath, SQUARE, strip)[0] for strip in range(2))
        return Cuts(swath, firsts, ((self.north, self.south), (self.east,)))


def _scene(value: int, text: str, azimuth: float, elevation: float) -> Scene:
    return Scene(value, f"PSScene/202311{text}", azimuth, elevation)


def _unlisted(value: int) -> Scene:
    """A scene whose pixels are there, and which the header does not know."""
    return Scene(value, "PSScene/unknown", listed=False)


SIGHTS = (
    Sight(
        2,
        north=_scene(10, "02_190001_45_2495", 165.3, 25.6),
        south=_scene(233, "02_190003_53_2495", 165.2, 25.7),
        valid=(15_384, 123_605),
        ndwi=Target(-0.30580023709867454, 0.3505539523621675, (413, 3267), (2300, 540)),
        cut=1_150_000,
        clear=24.97,
        created="2024-11-08T17:03:40Z",
        etags=('"9e4f9cbf89e7a024999cfb1af20cf52b"', '"9a33f9fd8defffc0e312a9efdc22f352-23"'),
    ),
    Sight(4, south=_scene(61, "04_184410_12_24b6", 160.1, 26.0), clear=11.62),
    Sight(
        7,
        south=_scene(88, "07_182145_2_24a1", 154.8, 24.4),
        valid=(0, 301_455),
        ndwi=Target(-0.378623),
        clear=83.05,
    ),
    Sight(
        8,
        north=_scene(141, "08_190503_11_247e", 166.9, 24.0),
        south=_scene(3, "08_190505_24_247e", 166.8, 24.1),
        valid=(9_210, 14_032),
        ndwi=Target(0.026967),
        cut=1_190_000,
        clear=7.48,
    ),
    Sight(
        13,
        north=_scene(17, "13_185850_80_2461", 165.9, 22.9),
        south=_unlisted(202),
        valid=(40_126, 187_514),
        ndwi=Target(-0.291144),
        cut=1_150_000,
        clear=66.31,
    ),
    Sight(
        16,
        south=_scene(512, "16_192141_24c4", 170.7, 23.0),
        valid=(0, 71_348),
        ndwi=Target(-0.202325),
        clear=29.90,
    ),
    Sight(
        17,
        north=_scene(340, "17_190155_77_2439", 166.1, 22.0),
        south=_scene(7, "17_190157_85_2439", 166.0, 22.1),
        valid=(30_007, 249_980),
        ndwi=Target(-0.323913),
        cut=1_150_000,
        clear=71.14,
    ),
    Sight(
        18,
        south=_scene(19, "18_190203_41_2486", 166.2, 21.8),
        valid=(0, 320_216),
        ndwi=Target(-0.357332),
        clear=92.77,
    ),
    Sight(19, south=_scene(401, "19_181216_09_24a7", 153.6, 20.9), clear=3.17),
    Sight(21, south=_scene(77, "21_190311_64_2490", 166.4, 21.1), clear=1.05),
    Sight(
        22,
        north=_scene(255, "22_190625_33_241d", 167.2, 20.9),
        south=_scene(256, "22_190627_41_241d", 167.1, 21.0),
        valid=(20_480, 60_175),
        ndwi=Target(-0.189824),
        cut=1_160_000,
        clear=38.22,
    ),
    Sight(
        23,
        south=_scene(599, "23_192230_19_24c8", 171.3, 21.1),
        valid=(0, 264_003),
        ndwi=Target(-0.321991),
        clear=77.93,
    ),
    Sight(24, south=_unlisted(28), valid=(0, 198_771), ndwi=Target(-0.305517), clear=60.48),
    Sight(
        25,
        north=_scene(30, "25_190811_90_2475", 167.5, 20.3),
        south=_unlisted(202),
        valid=(61_904, 122_460),
        ndwi=Target(-0.316208),
        cut=1_165_000,
        clear=55.26,
    ),
    Sight(26, south=_scene(12, "26_184933_55_2442", 162.4, 20.6), clear=0.41),
)
"""The days with a tile. Those without valid pixels gave NaN; on other days of the month there was none."""


def sight_of(square: Square, day: date) -> Sight | None:
    """What the notebook saw of a tile on a day."""
    if square != SQUARE or (day.year, day.month) != MONTH:
        return None
    return next((sight for sight in SIGHTS if sight.day == day.day), None)
