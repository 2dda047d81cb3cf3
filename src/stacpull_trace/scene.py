"""Scene ids: which PlanetScope scene a name stands for, and when that scene was taken.

An id is `YYYYMMDD_HHMMSS[_part]_satellite`, in UTC, perhaps below its item type (`PSScene/…`) and with a
product name behind it (Planet, PSScene: item naming). The optional part is hundredths of a second where it
has two digits, cut off and not rounded; one digit is a counter of scenes within the second. What is no
PlanetScope scene is told by name, never guessed at: reading an id never raises.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

__all__ = ["ITEM_TYPE", "NoScene", "Scene", "read_scene"]

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


@dataclass(frozen=True, slots=True)
class Scene:
    """One PlanetScope scene: the true time lies within `acquired` ± `precision`."""

    id: str
    """Without its item type."""
    acquired: datetime
    """UTC, aware. Where hundredths are stated, the middle of the hundredth that they cut off at."""
    precision: float
    """Seconds: 0.005 where hundredths are stated, else 1."""
    satellite: str

    def __str__(self) -> str:
        return self.id


@dataclass(frozen=True, slots=True)
class NoScene:
    """A name that is no PlanetScope scene, and why in half a sentence."""

    text: str
    reason: str

    def __str__(self) -> str:
        return f"{self.text}: {self.reason}"


def read_scene(text: str) -> Scene | NoScene:
    """Read a scene id, with or without its item type.

    Args:
        text: As a header writes it: `PSScene/20240601_183012_07_24b1`.
    """
    if text == "None":
        return NoScene(text, "the header names no scene")
    found = _ID.fullmatch(text)
    kind, slash, _ = text.partition("/")
    if slash and kind != ITEM_TYPE:
        return NoScene(text, f"{kind} is no PlanetScope scene")
    if found is None:
        reason = "RapidEye is no PlanetScope scene" if "rapideye" in text.lower() else "no scene id"
        return NoScene(text, reason)
    if found["satellite"].startswith(_SKYSAT):
        return NoScene(text, "SkySat is no PlanetScope scene")
    try:
        second = datetime.strptime(found["date"] + found["time"], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return NoScene(text, "its date or time does not exist")
    acquired, precision = _timed(second, found["part"])
    return Scene(text.removeprefix(f"{ITEM_TYPE}/"), acquired, precision, found["satellite"])


def _timed(second: datetime, part: str | None) -> tuple[datetime, float]:
    if part is None or len(part) < _HUNDREDTHS_DIGITS:
        return second, _WHOLE_SECOND
    return second + timedelta(milliseconds=10 * int(part) + 5), _HALF_HUNDREDTH
