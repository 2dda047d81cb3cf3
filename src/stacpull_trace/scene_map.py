"""The scenes of a tile: the scene of each value of its scene mask, and its acquisition time.

The header of a tile's QA file has the tags `SCENE_IDS[LAYER_2_VALUE]`, `SCENE_SOLAR_AZIMUTH[…]` and
`SCENE_SOLAR_ELEVATION[…]`, each also with the prefix `PS_`. Their lines are `value[index]`, where a value may
be the word None. Pixels can have an index that is not in the header; such an index is counted separately. A
line that cannot be read is reported in `problems`, and the others are used.

A scene id is `YYYYMMDD_HHMMSS[_part]_satellite`, in UTC. It may have an item type in front (`PSScene/…`) and
a product name at the end (Planet, PSScene: item naming). If the optional part has two digits, they are
hundredths of a second, truncated and not rounded; one digit counts scenes within the second. Names that are
not PlanetScope scenes are kept as names. Reading an id never raises.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from stacpull.arguments import finite_number

ITEM_TYPE: Final = "PSScene"
"""The item type of PlanetScope scenes."""

_ID: Final = re.compile(
    r"(?:(?P<type>[A-Za-z0-9]+)/)?"
    r"(?P<date>\d{8})_(?P<time>\d{6})(?:_(?P<part>\d{1,2}))?_(?P<satellite>[0-9a-z]{4})(?:_.*)?",
    re.ASCII,
)
_WHOLE_SECOND: Final = 1.0
_HALF_HUNDREDTH: Final = 0.005
_SKYSAT: Final = "ssc"
_HUNDREDTHS_DIGITS: Final = 2


class Scene(msgspec.Struct, frozen=True):
    """One PlanetScope scene: its true time is within `acquired` ± `precision`."""

    id: str
    """Without its item type."""
    acquired: datetime
    """UTC, timezone-aware. If hundredths are stated, the middle of that hundredth."""
    precision: float
    """Seconds: 0.005 if hundredths are stated, otherwise 1."""
    satellite: str

    def __str__(self) -> str:
        return self.id


class NoScene(msgspec.Struct, frozen=True):
    text: str
    reason: str

    def __str__(self) -> str:
        return f"{self.text}: {self.reason}"


def read_scene(text: str) -> Scene | NoScene:
    """Read a scene id, with or without its item type."""
    if text == "None":
        return NoScene(text, "the header names no scene")
    match = _ID.fullmatch(text)
    kind, slash, _ = text.partition("/")
    if slash and kind != ITEM_TYPE:
        return NoScene(text, f"{kind} is not a PlanetScope scene")
    if match is None:
        reason = "RapidEye is not a PlanetScope scene" if "rapideye" in text.lower() else "not a scene id"
        return NoScene(text, reason)
    if match["satellite"].startswith(_SKYSAT):
        return NoScene(text, "SkySat is not a PlanetScope scene")
    try:
        second = datetime.strptime(match["date"] + match["time"], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return NoScene(text, "its date or time does not exist")
    name, part = text.removeprefix(f"{ITEM_TYPE}/"), match["part"] or ""
    if len(part) < _HUNDREDTHS_DIGITS:
        return Scene(name, second, _WHOLE_SECOND, match["satellite"])
    middle = second + timedelta(milliseconds=10 * int(part) + 5)
    return Scene(name, middle, _HALF_HUNDREDTH, match["satellite"])


_LINE: Final = re.compile(r"(?P<value>.*)\[(?P<index>[+-]?\d{1,9})\]", re.ASCII)
_IDS, _AZIMUTH, _ELEVATION = (
    f"{name}[LAYER_2_VALUE]" for name in ("SCENE_IDS", "SCENE_SOLAR_AZIMUTH", "SCENE_SOLAR_ELEVATION")
)
_SHOWN: Final = 60
_NO_IDS: Final = "the header of its QA file has no scene ids"


class OriginKind(enum.StrEnum):
    SCENE = "scene"
    NONE = "none"  # the header states None
    FOREIGN = "foreign"  # a name that is not a PlanetScope scene
    UNMAPPED = "unmapped"  # the header does not have the index
    NO_HEADER = "no-header"  # the QA file, or its tags, are missing
    OUTSIDE = "outside"  # below 0 or above 601, not an index (601 itself counts as 600, `indices.EDGES`)
    MASKED = "masked"  # cloud or no data: not counted as valid


class PixelOrigin(msgspec.Struct, frozen=True):
    """The origin of the pixels of one index: a scene, or the reason why there is none."""

    kind: OriginKind
    name: str
    """The scene's id, or a short reason: `scene index 5 is not in the header`."""
    scene: Scene | None = None
    solar_azimuth: float | None = None
    """Degrees, clockwise from north."""
    solar_elevation: float | None = None
    """Degrees above the horizon."""


class SceneMap(msgspec.Struct, frozen=True):
    origins: Mapping[int, PixelOrigin] = {}
    problems: tuple[str, ...] = ()
    """Lines that could not be read, as parts of sentences."""
    has_ids: bool = True
    """False if the header has no scene ids at all."""

    def origin(self, index: int) -> PixelOrigin:
        if not self.has_ids:
            return PixelOrigin(OriginKind.NO_HEADER, f"index {index}: {_NO_IDS}")
        origin = self.origins.get(index)
        return origin or PixelOrigin(OriginKind.UNMAPPED, f"scene index {index} is not in the header")


def read_scene_map(tags: Mapping[str, str]) -> SceneMap:
    """Return the scene map in the tags of a QA file; without scene ids it is empty, with a problem."""
    problems: list[str] = []
    has_ids = any(name in tags for name in _spellings(_IDS))
    if not has_ids:
        problems.append(_NO_IDS)
    names = _read(tags, _IDS, problems)
    azimuths = _numbers(_read(tags, _AZIMUTH, problems), _AZIMUTH, problems)
    elevations = _numbers(_read(tags, _ELEVATION, problems), _ELEVATION, problems)
    origins = {i: _origin(i, name, azimuths.get(i), elevations.get(i)) for i, name in names.items()}
    return SceneMap(origins, tuple(problems), has_ids)


def _spellings(tag: str) -> tuple[str, str]:
    return tag, f"PS_{tag}"


def _read(tags: Mapping[str, str], tag: str, problems: list[str]) -> dict[int, str]:
    values: dict[int, str] = {}
    for spelling in _spellings(tag):
        for line in filter(None, map(str.strip, tags.get(spelling, "").splitlines())):
            match = _LINE.fullmatch(line)
            if match is None:
                problems.append(f"{spelling} has a line that is not value[index]: {line[:_SHOWN]!r}")
                continue
            value, index = match["value"].strip(), int(match["index"])
            if values.setdefault(index, value) != value:
                problems.append(f"{spelling} has {value!r} for index {index}, but before {values[index]!r}")
    return values


def _numbers(values: Mapping[int, str], tag: str, problems: list[str]) -> dict[int, float]:
    numbers = {}
    for index, value in values.items():
        if value == "None":
            continue
        number = finite_number(value)
        if number is None:
            problems.append(f"{tag} of index {index} is not a number: {value[:_SHOWN]!r}")
        else:
            numbers[index] = number
    return numbers


def _origin(index: int, name: str, azimuth: float | None, elevation: float | None) -> PixelOrigin:
    read = read_scene(name)
    if isinstance(read, Scene):
        return PixelOrigin(OriginKind.SCENE, read.id, read, azimuth, elevation)
    if read.text == "None":
        return PixelOrigin(OriginKind.NONE, f"scene index {index} names no scene in the header")
    return PixelOrigin(OriginKind.FOREIGN, str(read)[: 2 * _SHOWN], None, azimuth, elevation)
