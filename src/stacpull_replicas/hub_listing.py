"""Item pages and item search of MLHub: limits, cursors, links, and the filters by space and time.

Every page is found in constant time. In 2022, a cursor is `next:<last id>`, which maps to an index. In 2021,
it is base64 of a time and a serial number, pages have no totals, and the last one links to an empty one.

The recorded landing page claims item search (`/search`) and links to it with GET and POST, but no reply was
recorded. Search therefore follows STAC API 1.0.0-beta.3 and the item pages: the same context, `next` as a
link (with POST: the whole body again, with a token), and 400 for invalid requests. Items are in the order of
their collections. `matched` is stated if counting is cheap.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from typing import Any
from urllib.parse import quote, urlencode

import orjson
import shapely
from shapely.errors import ShapelyError
from shapely.geometry import Polygon, shape
from shapely.geometry.base import BaseGeometry

from stacpull_replicas.acquisitions import ACQUISITIONS
from stacpull_replicas.dataset import Ring
from stacpull_replicas.http_messages import RequestInfo, Stream, in_parts
from stacpull_replicas.hub_catalog import LARGE_COLLECTION, HubCatalog, JsonObject
from stacpull_replicas.hub_items import HubItems, bounds
from stacpull_replicas.hub_replies import Refused, written

COUNTED = 20_000
"""The largest data set, in patches, for which matches are counted."""
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE)
_EARLIEST, _LATEST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_BOX_SIZES = (4, 6)
_CURVATURE = 0.1  # degrees: more than the curvature of a tile's edges

QueryBox = tuple[float, float, float, float]


@dataclass(frozen=True)
class SpaceAndTime:
    """A filter by area and time."""

    box: QueryBox | None = None
    interval: tuple[datetime, datetime] = (_EARLIEST, _LATEST)
    geometry: BaseGeometry | None = None

    @classmethod
    def of_query(cls, *, bbox: list[Any] | None, datetime: Any, intersects: Any = None) -> SpaceAndTime:
        """Return the filter in a request."""
        if bbox is not None and intersects is not None:
            raise Refused(400, "Expected bbox or intersects, not both.")
        return cls(_box(bbox), _interval(datetime), _geometry(intersects))

    def holds(self, items: HubItems, collection: str, index: int) -> bool:
        has_no_area = self.box is None and self.geometry is None
        if collection == LARGE_COLLECTION:
            return has_no_area
        if not _may_match(items.dataset.acquisition_of(index), self.interval, self.box):
            return False
        return has_no_area or self._covers(items.dataset.site(index).ring())

    def _covers(self, ring: list[list[float]]) -> bool:
        if self.box is not None and not _boxes_meet(self.box, bounds(ring)):
            return False
        return self.geometry is None or touches(ring, self.geometry)


ANYWHERE = SpaceAndTime()
"""The filter that every item matches."""


@lru_cache(maxsize=4096)
def _may_match(number: int, interval: tuple[datetime, datetime], box: QueryBox | None) -> bool:
    """Return True if a patch of an acquisition may match. This avoids testing each patch."""
    acquisition = ACQUISITIONS[number]
    if not interval[0] <= acquisition.moment <= interval[1]:
        return False
    if box is None:
        return True
    west, south, east, north = bounds(acquisition.ring())
    bounds_with_margin = [west - _CURVATURE, south - _CURVATURE, east + _CURVATURE, north + _CURVATURE]
    return _boxes_meet(box, bounds_with_margin)


def _boxes_meet(box: QueryBox, other: list[float]) -> bool:
    """Return True if two boxes have a point in common; the first may cross the 180th meridian."""
    west, south, east, north = box
    if other[1] > north or other[3] < south:
        return False
    return other[2] >= west and other[0] <= east if west <= east else other[2] >= west or other[0] <= east


def _box(given: list[Any] | None) -> QueryBox | None:
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


def _geometry(given: Any) -> BaseGeometry | None:
    if given is None:
        return None
    try:
        geometry = shape(given if given["type"] != "Feature" else None)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, ShapelyError) as error:
        raise Refused(400, "intersects is not a GeoJSON geometry.") from error
    shapely.prepare(geometry)
    return geometry


def touches(ring: Ring, geometry: BaseGeometry) -> bool:
    """Return True if a geometry and the area within a closed ring have a point in common."""
    return bool(geometry.intersects(Polygon(ring)))


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
    """Return the time in RFC 3339 text, or `unbounded` for an open end."""
    if unbounded is not None and text in {"", ".."}:
        return unbounded
    if _MOMENT.fullmatch(text) is None:
        raise Refused(400, "datetime is not written as RFC 3339 has it.")
    try:
        return datetime.fromisoformat(text.upper())
    except ValueError as error:
        raise Refused(400, "datetime is not a point in time.") from error


MAX_LIMIT = 10_000
_DEFAULT_LIMIT = {"2022": 10, "2021": 30}
_FIRST_SERIAL = 6_000_000


def read_limit(text: str | None, era: str) -> int:
    """Return the requested page size."""
    if text is None:
        return _DEFAULT_LIMIT[era]
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_LIMIT:
        message = f"ensure this value is between 1 and {MAX_LIMIT}"
        raise Refused(400, [{"loc": ["query", "limit"], "msg": message, "type": "value_error"}])
    return int(text)


def feature_collection(limit: int, matched: int | None, features: list[bytes], links: Any) -> bytes | Stream:
    """Return a page of 2022 from items in JSON; `matched` is left out if it is None."""
    context = {"limit": limit, "matched": matched, "returned": len(features)}
    if matched is None:
        del context["matched"]
    head = b'{"type":"FeatureCollection","context":%b,"features":[' % orjson.dumps(context)
    return _enclosed(head, features, b'],"links":%b}' % orjson.dumps(links))


def _enclosed(head: bytes, features: list[bytes], tail: bytes) -> bytes | Stream:
    """Return a page: in one piece if it is small, otherwise a stream that joins it while it is sent."""
    parts = [b","] * max(2, 2 * len(features) + 1)
    parts[1:-1:2] = features
    parts[0], parts[-1] = head, tail
    return in_parts(parts)


@dataclass(frozen=True)
class HubPages:
    """Answers `/collections/X/items`. With `echo_key`, `next` repeats all keys (staging, 2021)."""

    catalog: HubCatalog
    items: HubItems
    key: str
    era: str = "2022"
    echo_key: bool = False

    def page(self, request: RequestInfo, collection: str) -> bytes | Stream:
        limit = read_limit(request.parameter("limit"), self.era)
        found = _MatchedItems.of(request, self.items, collection)
        indices = self._indices(request, found, limit)
        features = [self.items.item(collection, index) for index in indices]
        if self.era == "2021":
            return self._page_2021(features, self._links_2021(request, collection, indices, limit))
        links = [
            *self.catalog.collection_links(collection),
            *self._turns(request, found, indices),
        ]
        return feature_collection(limit, found.count(), features, links)

    def _page_2021(self, features: list[bytes], links: list[dict[str, Any]]) -> bytes | Stream:
        if not features:
            return written({"features": [], "links": [], "type": "FeatureCollection"}, self.era)
        tail = b'],"links":%b,"type":"FeatureCollection"}' % orjson.dumps(links)
        return _enclosed(b'{"features":[', features, tail)

    def _indices(self, request: RequestInfo, found: _MatchedItems, limit: int) -> list[int]:
        if self.era == "2021":
            cursor = request.parameter("next")
            return found.after(-1 if cursor is None else _read_cursor(cursor) - 1, limit)
        token = request.parameter("token")
        if token is None:
            return found.after(-1, limit)
        direction, _, item_id = token.partition(":")
        index = self.items.index_of(found.collection, item_id)
        if index is None or direction not in {"next", "prev"}:
            raise Refused(400, f"Token {token} is not valid.")
        return found.after(index, limit) if direction == "next" else found.before(index, limit)

    def _links_2021(
        self, request: RequestInfo, collection: str, indices: list[int], limit: int
    ) -> list[dict[str, Any]]:
        """Return the `next` link of a page that is not empty; the last page thus links to an empty one."""
        if not indices:
            return []
        query = f"{self._echoed(request)}{_narrowing(request)}next={_cursor(indices[-1])}&limit={limit}"
        href = f"{self.items.base}/collections/{collection}/items?{query}"
        return [{"href": href, "rel": "next", "title": None, "type": "application/json"}]

    def _echoed(self, request: RequestInfo) -> str:
        """Return the keys of the request, which the staging service added to its links on every page."""
        if not self.echo_key:
            return ""
        return "".join(f"key={quote(value)}&" for name, value in request.query if name == "key")

    def _turns(self, request: RequestInfo, found: _MatchedItems, indices: list[int]) -> list[dict[str, str]]:
        """Return the links `next` (without the key) and `previous` (with the key, even in 2022)."""
        collection = found.collection
        base = f"{self.items.base}/collections/{collection}/items?"
        limit = request.parameter("limit")
        kept = (f"limit={limit}&" if limit else "") + _narrowing(request)
        turn = {"type": "application/json", "method": "GET"}
        links = []
        if indices and found.after(indices[-1], 1):
            last = self.items.item_id(collection, indices[-1])
            token = f"token=next:{last}" if self.echo_key else f"token=next%3A{quote(last)}"
            links.append({"rel": "next", **turn, "href": f"{base}{self._echoed(request)}{kept}{token}"})
        if indices and found.before(indices[0], 1):
            first = self.items.item_id(collection, indices[0])
            key = request.parameter("key") or self.key
            links.append(
                {"rel": "previous", **turn, "href": f"{base}{kept}token=prev:{first}&key={quote(key)}"}
            )
        return links


@dataclass(frozen=True)
class _MatchedItems:
    """The items of a collection that match a request."""

    items: HubItems
    collection: str
    place: SpaceAndTime

    @classmethod
    def of(cls, request: RequestInfo, items: HubItems, collection: str) -> _MatchedItems:
        bbox = request.parameter("bbox")
        sides = None if bbox is None else bbox.split(",")
        return cls(
            items, collection, SpaceAndTime.of_query(bbox=sides, datetime=request.parameter("datetime"))
        )

    def after(self, index: int, number: int) -> list[int]:
        return self._first(range(index + 1, self.items.count(self.collection)), number)

    def before(self, index: int, number: int) -> list[int]:
        """Return the last `number` matching indices before `index`, in order."""
        return self._first(range(index - 1, -1, -1), number)[::-1]

    def count(self) -> int | None:
        """Return their number; None if counting would test too many items."""
        everything = range(self.items.count(self.collection))
        if self.place == ANYWHERE:
            return len(everything)
        return len(self._first(everything, len(everything))) if len(everything) <= COUNTED else None

    def _first(self, indices: range, number: int) -> list[int]:
        if self.place == ANYWHERE:
            return list(indices[:number])
        matching = (index for index in indices if self.place.holds(self.items, self.collection, index))
        return list(islice(matching, number))


def _narrowing(request: RequestInfo) -> str:
    """Return the parameters that every page repeats, each followed by an ampersand."""
    kept = [(name, value) for name, value in request.query if name in {"bbox", "datetime"}]
    return f"{urlencode(kept)}&" if kept else ""


def _cursor(last: int) -> str:
    """Return a cursor of 2021: unpadded base64 of a JSON object with a time and a serial number."""
    text = (
        f'{{"timestampAtLeast":"2020-12-02T05:11:23.455819Z","serialIdGreaterThan":{_FIRST_SERIAL + last}}}'
    )
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> int:
    try:
        document = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        return max(0, int(document["serialIdGreaterThan"]) - _FIRST_SERIAL + 1)
    except (binascii.Error, ValueError, KeyError, TypeError) as error:
        raise Refused(400, "The cursor is not valid.") from error


@dataclass(frozen=True)
class _Wanted:
    """The parameters of a search."""

    limit: int
    collections: tuple[str, ...]
    ids: tuple[str, ...] | None = None
    place: SpaceAndTime = ANYWHERE


@dataclass(frozen=True)
class HubSearch:
    """Answers `/search`."""

    catalog: HubCatalog
    items: HubItems

    def page(self, request: RequestInfo) -> bytes | Stream:
        query = _body(request) if request.method == "POST" else _query(request)
        wanted = self._wanted(query)
        start = self._start(query.get("token"), wanted)
        found = list(islice(self._matches(wanted, start), wanted.limit + 1))
        shown = found[: wanted.limit]
        links: list[JsonObject] = [
            {"rel": "root", "type": "application/json", "href": f"{self.items.base}/"},
            {"rel": "self", "type": "application/json", "href": f"{self.items.base}/search"},
        ]
        if len(found) > len(shown):
            links.append(self._next(request, query, self.items.item_id(*shown[-1])))
        features = [self.items.item(collection, index) for collection, index in shown]
        return feature_collection(wanted.limit, self._matched(wanted), features, links)

    def _wanted(self, query: Mapping[str, Any]) -> _Wanted:
        known = self.catalog.collection_ids()
        collections = known
        if query.get("collections"):
            collections = tuple(name for name in known if name in query["collections"])
        limit = query.get("limit")
        return _Wanted(
            limit=read_limit(None if limit is None else str(limit), "2022"),
            collections=collections,
            ids=tuple(query["ids"]) if query.get("ids") else None,
            place=SpaceAndTime.of_query(
                bbox=query.get("bbox"), datetime=query.get("datetime"), intersects=query.get("intersects")
            ),
        )

    def _start(self, token: Any, wanted: _Wanted) -> tuple[int, int]:
        """Return the start of a page: the position of a collection in `wanted`, and an index."""
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
                if wanted.place.holds(self.items, collection, index):
                    yield collection, index

    def _candidates(self, wanted: _Wanted, collection: str, first: int) -> Iterator[int]:
        if wanted.ids is None:
            yield from range(first, self.items.count(collection))
            return
        found = {self.items.index_of(collection, item_id) for item_id in wanted.ids}
        yield from sorted(index for index in found if index is not None and index >= first)

    def _matched(self, wanted: _Wanted) -> int | None:
        """Return the total number of items; None if counting would test too many."""
        if self.items.dataset.items > COUNTED and wanted.ids is None:
            return None
        return sum(1 for _ in self._matches(wanted, (0, 0)))

    def _next(self, request: RequestInfo, query: Mapping[str, Any], last: str) -> JsonObject:
        href = f"{self.items.base}/search"
        link: JsonObject = {"rel": "next", "type": "application/geo+json", "method": request.method}
        if request.method == "POST":
            return link | {"href": href, "body": {**query, "token": f"next:{last}"}}
        kept = [(name, value) for name, value in request.query if name not in {"key", "token"}]
        return link | {"href": f"{href}?{urlencode([*kept, ('token', f'next:{last}')])}"}


def _query(request: RequestInfo) -> dict[str, Any]:
    """Return the parameters of a GET in the form of a POST body."""
    query: dict[str, Any] = dict(request.query)
    for name in ("collections", "ids", "bbox"):
        if name in query:
            query[name] = query[name].split(",")
    if "intersects" in query:
        query["intersects"] = _parsed(query["intersects"])
    return query


def _body(request: RequestInfo) -> dict[str, Any]:
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
