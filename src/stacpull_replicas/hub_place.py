"""Which items of the hub lie in a place and a time: `bbox`, `datetime` and `intersects` of a request."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from stacpull_replicas.acquisitions import ACQUISITIONS
from stacpull_replicas.geometry import NotGeometry, intersects, pieces
from stacpull_replicas.hub_catalog import LARGE_COLLECTION
from stacpull_replicas.hub_items import HubItems, bounds
from stacpull_replicas.hub_replies import Refused

COUNTED = 20_000
"""Patches of a data set up to which those that match are counted."""
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE)
_EARLIEST, _LATEST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_BOX_SIZES = (4, 6)
_BULGE = 0.1  # degrees: more than the straight edges of a tile bend on the globe

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class SpaceAndTime:
    """A place and a time."""

    box: Box | None = None
    interval: tuple[datetime, datetime] = (_EARLIEST, _LATEST)
    geometry: Any = None

    @classmethod
    def asked(cls, *, bbox: list[Any] | None, datetime: Any, intersects: Any = None) -> SpaceAndTime:
        """Return what a request asks for. Raises Refused."""
        if bbox is not None and intersects is not None:
            raise Refused(400, "Expected bbox or intersects, not both.")
        return cls(_box(bbox), _interval(datetime), _geometry(intersects))

    def holds(self, items: HubItems, collection: str, index: int) -> bool:
        """Return True if an item lies in it."""
        nowhere = self.box is None and self.geometry is None
        if collection == LARGE_COLLECTION:
            return nowhere
        if not _seen(items.dataset.acquisition_of(index), self.interval, self.box):
            return False
        return nowhere or self._covers(items.dataset.site(index).ring())

    def _covers(self, ring: list[list[float]]) -> bool:
        if self.box is not None and not _boxes_meet(self.box, bounds(ring)):
            return False
        return self.geometry is None or intersects(ring, self.geometry)


ANYWHERE = SpaceAndTime()
"""Everywhere, at any time."""


@lru_cache(maxsize=4096)
def _seen(number: int, interval: tuple[datetime, datetime], box: Box | None) -> bool:
    """Whether any patch of an acquisition may be wanted: what spares a look at each of them."""
    acquisition = ACQUISITIONS[number]
    if not interval[0] <= acquisition.moment <= interval[1]:
        return False
    if box is None:
        return True
    west, south, east, north = bounds(acquisition.ring())
    return _boxes_meet(box, [west - _BULGE, south - _BULGE, east + _BULGE, north + _BULGE])


def _boxes_meet(box: Box, other: list[float]) -> bool:
    """Whether two boxes have a point in common; the first may cross the 180th meridian."""
    west, south, east, north = box
    if other[1] > north or other[3] < south:
        return False
    return other[2] >= west and other[0] <= east if west <= east else other[2] >= west or other[0] <= east


def _box(given: list[Any] | None) -> Box | None:
    if given is None:
        return None
    try:
        numbers = [float(edge) for edge in given]
    except (TypeError, ValueError) as error:
        raise Refused(400, "bbox is made of numbers.") from error
    if len(numbers) not in _BOX_SIZES:
        raise Refused(400, "bbox has four or six numbers.")
    half = len(numbers) // 2
    west, south, east, north = *numbers[:2], *numbers[half : half + 2]
    if south > north:
        raise Refused(400, "bbox has its south before its north.")
    return west, south, east, north


def _geometry(given: Any) -> Any:
    if given is not None:
        try:
            list(pieces(given))
        except NotGeometry as error:
            raise Refused(400, "intersects is not a GeoJSON geometry.") from error
    return given


def _interval(text: Any) -> tuple[datetime, datetime]:
    if text is None:
        return _EARLIEST, _LATEST
    ends = str(text).split("/")
    if len(ends) == 1:
        return _moment(ends[0], None), _moment(ends[0], None)
    if len(ends) != 2 or set(ends) <= {"", ".."}:  # noqa: PLR2004
        raise Refused(400, "datetime is a moment or an interval.")
    first, last = _moment(ends[0], _EARLIEST), _moment(ends[1], _LATEST)
    if first > last:
        raise Refused(400, "datetime ends before it begins.")
    return first, last


def _moment(text: str, unbounded: datetime | None) -> datetime:
    """A moment as RFC 3339 writes it, or what stands for an open end. Raises Refused."""
    if unbounded is not None and text in {"", ".."}:
        return unbounded
    if _MOMENT.fullmatch(text) is None:
        raise Refused(400, "datetime is not written as RFC 3339 has it.")
    try:
        return datetime.fromisoformat(text.upper())
    except ValueError as error:
        raise Refused(400, "datetime is no moment.") from error
