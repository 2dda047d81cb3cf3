"""Asking a source for less: a selection's narrowing and an API's abilities make the first request. Pure.

    Narrowing, Door ─▶ members ─▶ PageRequest

Members are those of item search (STAC API, item search, "Query Parameters"): bbox, datetime, intersects, ids,
filter. They go by GET; by POST where the API offers it and the URL would be long, or where a filter is to go
as JSON. What a door does not take is not asked; `filters` checks it here in any case.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple
from urllib.parse import quote

import orjson

from stacpull.filters.cql2 import filter_text
from stacpull.filters.interval import parse_instant
from stacpull.filters.narrowing import Narrowing, filter_names
from stacpull.filters.properties import Reference
from stacpull.models import Json, PageRequest
from stacpull.sources.conformance import Ability
from stacpull.sources.query import parameters_of
from stacpull.urls import add_parameters, parameters

__all__ = [
    "MOST_IDS",
    "Door",
    "ids_members",
    "items_door",
    "known_members",
    "members",
    "period_of",
    "search_door",
]

MOST_IDS: Final = 500
"""Ids that are asked for by name; more are looked for among all items."""

_LONG_URL: Final = 2000
"""Characters from which a URL is long: many servers and proxies take no more than some thousands."""

_LARGE_AREA: Final = 100_000
"""Bytes of GeoJSON from which the box around an area is asked for instead of the area."""

_PLACES: Final = frozenset({"bbox", "intersects"})
_WIDENED: Final = 1e-4
"""Degrees by which a box without width or height is widened: services make polygons of boxes."""
_NORTH, _EAST = 90.0, 180.0


class Door(NamedTuple):
    """Where a service takes a question, and which members it may have."""

    url: str
    """To be asked by GET, with more parameters."""
    takes: frozenset[str]
    body: Json | None = None
    """What `url` asks, as a body; None if only GET is offered."""
    json_filter: bool = False
    """True if a filter goes as JSON, in a body; else it goes as text."""

    def request(self, asked: Json) -> PageRequest:
        """Return the request with the members `asked`."""
        url = add_parameters(self.url, parameters_of(asked))
        if self.body is None or not (len(url) > _LONG_URL or isinstance(asked.get("filter"), dict)):
            return PageRequest(url)
        return PageRequest(self.url.partition("?")[0], "POST", {**self.body, **asked})

    def fits(self, asked: Json) -> bool:
        """Return True if the members `asked` can be asked for: by POST, or in a URL that is not long."""
        return self.body is not None or len(self.request(asked).url) <= _LONG_URL

    def less(self, url: str) -> Door:
        """Return this door without what the query of `url` asks for already: services take a member once."""
        asked = {p.name for p in parameters(url)}
        taken = asked | (_PLACES if asked & _PLACES else set())
        return self._replace(takes=self.takes - taken if "ids" not in asked else frozenset())


def search_door(root: str, collections: tuple[str, ...], able: Ability) -> Door:
    """Return the item search of the API at `root`, in `collections` (none: in all)."""
    url, body = f"{root}/search", Json()
    if collections:
        url += f"?collections={','.join(quote(one, safe='') for one in collections)}"
        body = {"collections": list(collections)}
    takes = {"bbox", "datetime", "intersects", "ids"}
    as_json = able.post and able.cql2_json
    if as_json or able.cql2_text:
        takes.add("filter")
    return Door(url, frozenset(takes), body if able.post else None, as_json)


def items_door(url: str) -> Door:
    """Return the items of a collection at `url` (OGC API Features, 7.15), less what `url` itself asks for."""
    return Door(url, frozenset({"bbox", "datetime"})).less(url)


def members(narrowing: Narrowing, door: Door) -> Json:
    """Return what of `narrowing` the door takes, as members of a search; its ids apart (`ids_members`)."""
    found = _place(narrowing, door)
    if narrowing.datetime is not None and "datetime" in door.takes:
        found["datetime"] = narrowing.datetime
    if narrowing.condition is not None and "filter" in door.takes:
        filtered = {**found, **_filter(narrowing.condition, door)}
        if door.fits(filtered):
            return filtered
    return found


def ids_members(ids: tuple[str, ...], door: Door) -> Json | None:
    """Return the question for `ids`, None if there are too many of them or the door takes none."""
    asked: Json = {"ids": list(ids)}
    return asked if "ids" in door.takes and 0 < len(ids) <= MOST_IDS and door.fits(asked) else None


def known_members(item: Json, asked: Json, narrowing: Narrowing, door: Door) -> Json | None:
    """Return a question like `asked` that `item` itself answers; None if the item cannot be asked for so.

    A source that gives nothing for it does not do what it says.
    """
    geometry = item.get("geometry")
    answers: Json = {
        "bbox": _box_of(item),
        "intersects": geometry if isinstance(geometry, dict) else None,
        "datetime": period_of(item),
        "ids": [item.get("id")],
    }
    known = {name: answers[name] for name in asked if name in answers}
    if "filter" in asked and narrowing.condition is not None:
        known |= _filter(_truth_of(item, narrowing.condition), door)
    return None if None in known.values() or not known else known


def _place(narrowing: Narrowing, door: Door) -> Json:
    if narrowing.area is not None and "intersects" in door.takes:
        asked: Json = {"intersects": narrowing.area}
        if len(orjson.dumps(asked)) <= _LARGE_AREA and door.fits(asked):
            return asked
    if narrowing.bbox is not None and "bbox" in door.takes:
        return {"bbox": _wide(narrowing.bbox)}
    return {}


def _wide(box: tuple[float, float, float, float]) -> list[float]:
    west, south, east, north = box
    if west == east:
        west, east = max(-_EAST, west - _WIDENED), min(_EAST, east + _WIDENED)
    if south == north:
        south, north = max(-_NORTH, south - _WIDENED), min(_NORTH, north + _WIDENED)
    return [west, south, east, north]


def _filter(condition: Json, door: Door) -> Json:
    if door.json_filter:
        return {"filter": condition, "filter-lang": "cql2-json"}
    return {"filter": filter_text(condition), "filter-lang": "cql2-text"}


def _truth_of(item: Json, condition: Json) -> Json:
    """Return a condition that is true of `item`, on a property that `condition` names if it has one."""
    held = item.get("properties")
    for name in filter_names(condition):
        value = Reference(name).value(item, held if isinstance(held, dict) else {})
        if isinstance(value, bool | int | float) or (isinstance(value, str) and parse_instant(value) is None):
            return {"op": "=", "args": [{"property": name}, value]}
    return {"op": "=", "args": [{"property": "id"}, item.get("id")]}


def _box_of(item: Json) -> list[float] | None:
    """Return the box of an item's geometry, a little wider."""
    geometry = item.get("geometry")
    positions = list(_positions(geometry.get("coordinates"))) if isinstance(geometry, dict) else []
    if not positions:
        return None
    xs, ys = [one[0] for one in positions], [one[1] for one in positions]
    west, east = max(-_EAST, min(xs) - _WIDENED), min(_EAST, max(xs) + _WIDENED)
    south, north = max(-_NORTH, min(ys) - _WIDENED), min(_NORTH, max(ys) + _WIDENED)
    return [west, south, east, north] if west < east and south < north else None


def _positions(coordinates: Any) -> list[tuple[float, float]]:
    if not isinstance(coordinates, list):
        return []
    match coordinates:
        case [int() | float() as x, int() | float() as y, *_]:
            return [(x, y)]
    return [position for part in coordinates for position in _positions(part)]


def period_of(item: Json) -> str | None:
    """Return the instant or the range of an item, as it is asked for; None if it has neither."""
    held = item.get("properties")
    times = held if isinstance(held, dict) else {}
    if isinstance(moment := times.get("datetime"), str):
        return moment.replace(" ", "T")
    start, end = times.get("start_datetime"), times.get("end_datetime")
    return f"{start}/{end}" if isinstance(start, str) and isinstance(end, str) else None
