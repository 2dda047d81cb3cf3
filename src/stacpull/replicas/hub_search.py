"""Item search (`/search`) of the hub of 2022: collections, ids, bbox, datetime, intersects.

The recorded landing page claims the class and links to it with GET and POST; no reply was recorded. So all of
it is inferred, from STAC API 1.0.0-beta.3 and from the item pages: the same context, `next` as a link (with
POST: the whole body again, with a token), 400 for what cannot be understood. Items come in the order of their
collections. `matched` is given where counting is cheap.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from typing import Any
from urllib.parse import urlencode

import orjson

from stacpull.replicas.acquisitions import ACQUISITIONS
from stacpull.replicas.geometry import NotGeometry, intersects, pieces
from stacpull.replicas.hub_catalog import LARGE_COLLECTION, Document, HubCatalog
from stacpull.replicas.hub_items import HubItems, bounds
from stacpull.replicas.hub_pages import feature_collection, read_limit
from stacpull.replicas.hub_replies import Refused
from stacpull.replicas.wire import Request, Stream

_COUNTED = 20_000
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE)
_EARLIEST, _LATEST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_BOX_SIZES = (4, 6)
_BULGE = 0.1  # degrees: more than the straight edges of a tile bend on the globe

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class _Wanted:
    """What a search asks for."""

    limit: int
    collections: tuple[str, ...]
    ids: tuple[str, ...] | None = None
    box: Box | None = None
    interval: tuple[datetime, datetime] = (_EARLIEST, _LATEST)
    geometry: Any = None

    def covers(self, ring: list[list[float]]) -> bool:
        """Whether the place of an item is wanted."""
        if self.box is not None and not _boxes_meet(self.box, bounds(ring)):
            return False
        return self.geometry is None or intersects(ring, self.geometry)


@dataclass(frozen=True)
class HubSearch:
    """Answers `/search`."""

    catalog: HubCatalog
    items: HubItems

    def page(self, request: Request) -> bytes | Stream:
        """The page that was asked for. Raises Refused."""
        asked = _body(request) if request.method == "POST" else _query(request)
        wanted = self._wanted(asked)
        start = self._start(asked.get("token"), wanted)
        found = list(islice(self._matches(wanted, start), wanted.limit + 1))
        shown = found[: wanted.limit]
        links: list[Document] = [
            {"rel": "root", "type": "application/json", "href": f"{self.items.base}/"},
            {"rel": "self", "type": "application/json", "href": f"{self.items.base}/search"},
        ]
        if len(found) > len(shown):
            links.append(self._next(request, asked, self.items.item_id(*shown[-1])))
        features = [self.items.item(collection, index) for collection, index in shown]
        return feature_collection(wanted.limit, self._matched(wanted), features, links)

    def _wanted(self, asked: Mapping[str, Any]) -> _Wanted:
        known = self.catalog.collection_ids()
        collections = known
        if asked.get("collections"):
            collections = tuple(name for name in known if name in asked["collections"])
        if asked.get("bbox") is not None and asked.get("intersects") is not None:
            raise Refused(400, "Expected bbox or intersects, not both.")
        limit = asked.get("limit")
        return _Wanted(
            limit=read_limit(None if limit is None else str(limit), "2022"),
            collections=collections,
            ids=tuple(asked["ids"]) if asked.get("ids") else None,
            box=_box(asked.get("bbox")),
            interval=_interval(asked.get("datetime")),
            geometry=_geometry(asked.get("intersects")),
        )

    def _start(self, token: Any, wanted: _Wanted) -> tuple[int, int]:
        """Where a page begins: the place of a collection among those wanted, and an index."""
        if token is None:
            return 0, 0
        item_id = str(token).removeprefix("next:")
        for place, collection in enumerate(wanted.collections):
            index = self.items.index_of(collection, item_id)
            if index is not None:
                return place, index + 1
        raise Refused(400, f"Token {token} is not valid.")

    def _matches(self, wanted: _Wanted, start: tuple[int, int]) -> Iterator[tuple[str, int]]:
        first_place, first_index = start
        for place, collection in enumerate(wanted.collections[first_place:], first_place):
            first = first_index if place == first_place else 0
            for index in self._candidates(wanted, collection, first):
                if self._matches_item(wanted, collection, index):
                    yield collection, index

    def _candidates(self, wanted: _Wanted, collection: str, first: int) -> Iterator[int]:
        if wanted.ids is None:
            yield from range(first, self.items.count(collection))
            return
        found = {self.items.index_of(collection, item_id) for item_id in wanted.ids}
        yield from sorted(index for index in found if index is not None and index >= first)

    def _matches_item(self, wanted: _Wanted, collection: str, index: int) -> bool:
        if collection == LARGE_COLLECTION:
            return wanted.box is None and wanted.geometry is None
        dataset = self.items.dataset
        if not _seen(dataset.acquisition_of(index), wanted.interval, wanted.box):
            return False
        nowhere = wanted.box is None and wanted.geometry is None
        return nowhere or wanted.covers(dataset.site(index).ring())

    def _matched(self, wanted: _Wanted) -> int | None:
        """How many items there are in all; None where that would mean to look at very many."""
        if self.items.dataset.items > _COUNTED and wanted.ids is None:
            return None
        return sum(1 for _ in self._matches(wanted, (0, 0)))

    def _next(self, request: Request, asked: Mapping[str, Any], last: str) -> Document:
        href = f"{self.items.base}/search"
        link: Document = {"rel": "next", "type": "application/geo+json", "method": request.method}
        if request.method == "POST":
            return link | {"href": href, "body": {**asked, "token": f"next:{last}"}}
        kept = [(name, value) for name, value in request.query if name not in {"key", "token"}]
        return link | {"href": f"{href}?{urlencode([*kept, ('token', f'next:{last}')])}"}


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


def _query(request: Request) -> dict[str, Any]:
    """The parameters of a GET, as POST would have them. Raises Refused."""
    asked: dict[str, Any] = dict(request.query)
    for name in ("collections", "ids", "bbox"):
        if name in asked:
            asked[name] = asked[name].split(",")
    if "intersects" in asked:
        asked["intersects"] = _parsed(asked["intersects"])
    return asked


def _body(request: Request) -> dict[str, Any]:
    document = _parsed(request.body)
    if not isinstance(document, dict):
        raise Refused(400, "The body is not a JSON object.")
    for name in ("collections", "ids", "bbox"):
        if not isinstance(document.get(name) or [], list):
            raise Refused(400, f"{name} is not a list.")
    return document


def _parsed(text: str | bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Refused(400, "This is not JSON.") from error


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
