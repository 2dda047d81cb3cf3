"""The scene map of a tile: what each value of its scene mask stands for, as the QA file's header tells it.

A header has the tags `SCENE_IDS[LAYER_2_VALUE]`, `SCENE_SOLAR_AZIMUTH[…]` and `SCENE_SOLAR_ELEVATION[…]`,
each also with the prefix `PS_`: lines `value[index]`, where a value may be the word None. A header may leave
out indices that pixels have: they stay counted under a name of their own. A line that cannot be read is named
in `problems` and never stops the others.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from stacpull_trace.scene import Scene, read_scene

__all__ = ["Kind", "Origin", "SceneMap", "read_scene_map"]

_LINE: Final = re.compile(r"(?P<value>.*)\[(?P<index>[+-]?\d{1,9})\]", re.ASCII)
_IDS, _AZIMUTH, _ELEVATION = (
    f"{name}[LAYER_2_VALUE]" for name in ("SCENE_IDS", "SCENE_SOLAR_AZIMUTH", "SCENE_SOLAR_ELEVATION")
)
_SHOWN: Final = 60
_NO_IDS: Final = "the header of its QA file has no scene ids"


class Kind(enum.StrEnum):
    """What is known of the pixels that have one index."""

    SCENE = "scene"
    NONE = "none"  # the header says None
    FOREIGN = "foreign"  # a name that is no PlanetScope scene
    UNMAPPED = "unmapped"  # the header does not have the index
    NO_HEADER = "no-header"  # the QA file, or its tags, could not be had
    OUTSIDE = "outside"  # a value below 0 or above 601: no index (601 itself counts as 600, `indices.EDGES`)
    MASKED = "masked"  # cloud, no data or outside of the area: not counted as valid


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the pixels of one index come from: a scene, or a name for there being none."""

    kind: Kind
    name: str
    """The scene's id, or a few words: `scene index 5 is not in the header`."""
    scene: Scene | None = None
    solar_azimuth: float | None = None
    """Degrees, clockwise from north."""
    solar_elevation: float | None = None
    """Degrees above the horizon."""


@dataclass(frozen=True, slots=True)
class SceneMap:
    """What a header says of the indices of its tile."""

    origins: Mapping[int, Origin] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    """Lines that could not be read, each in half a sentence."""
    has_ids: bool = True
    """False if the header has no scene ids at all."""

    def origin(self, index: int) -> Origin:
        """Return where the pixels of `index` come from."""
        if not self.has_ids:
            return Origin(Kind.NO_HEADER, f"index {index}: {_NO_IDS}")
        found = self.origins.get(index)
        return found or Origin(Kind.UNMAPPED, f"scene index {index} is not in the header")


def read_scene_map(tags: Mapping[str, str]) -> SceneMap:
    """Read the scene map from the tags of a QA file; one without scene ids maps nothing, and says so."""
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
    """Return the values of a tag by index, of both of its spellings; the first that names an index wins."""
    found: dict[int, str] = {}
    for spelling in _spellings(tag):
        for value, index in _lines(tags.get(spelling, ""), spelling, problems):
            if found.setdefault(index, value) != value:
                problems.append(f"{spelling} says {value!r} of index {index}, before it was {found[index]!r}")
    return found


def _lines(text: str, tag: str, problems: list[str]) -> Iterator[tuple[str, int]]:
    for line in filter(None, (line.strip() for line in text.splitlines())):
        match = _LINE.fullmatch(line)
        if match is None:
            problems.append(f"{tag} has a line that is no value[index]: {line[:_SHOWN]!r}")
        else:
            yield match["value"].strip(), int(match["index"])


def _numbers(values: Mapping[int, str], tag: str, problems: list[str]) -> dict[int, float]:
    numbers = {}
    for index, value in values.items():
        if value == "None":
            continue
        number = _number(value)
        if number is None:
            problems.append(f"{tag} of index {index} is no number: {value[:_SHOWN]!r}")
        else:
            numbers[index] = number
    return numbers


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _origin(index: int, name: str, azimuth: float | None, elevation: float | None) -> Origin:
    read = read_scene(name)
    if isinstance(read, Scene):
        return Origin(Kind.SCENE, read.id, read, azimuth, elevation)
    if read.text == "None":
        return Origin(Kind.NONE, f"scene index {index} names no scene in the header")
    return Origin(Kind.FOREIGN, str(read)[: 2 * _SHOWN], None, azimuth, elevation)
