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
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import msgspec
import orjson
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

from stacpull_replicas.dataset import ACQUISITIONS
from stacpull_replicas.http_messages import RequestInfo, Stream, in_parts
from stacpull_replicas.hub_catalog import LARGE_COLLECTION, HubCatalog, JsonObject
from stacpull_replicas.hub_items import HubItems
from stacpull_replicas.hub_replies import Refused, written
from stacpull_replicas.search_parameters import ALWAYS, QueryError, SearchInterval, read_area, read_interval

COUNTED = 20_000
"""The largest data set, in patches, for which matches are counted."""
MAX_LIMIT = 10_000
_DEFAULT_LIMIT = {"2022": 10, "2021": 30}
_FIRST_SERIAL = 6_000_000
_CURVATURE = 0.1  # degrees: more than the curvature of a tile's edges


class _Query(NamedTuple):
    """The items that a request selects."""

    collections: tuple[str, ...]
    area: BaseGeometry | None = None
    interval: SearchInterval = ALWAYS
    ids: tuple[str, ...] | None = None

    @property
    def is_everything(self) -> bool:
        return self.area is None and self.interval == ALWAYS and self.ids is None


@lru_cache(maxsize=4096)
def _may_match(number: int, interval: SearchInterval, bounds: tuple[float, ...] | None) -> bool:
    """Return True if a patch of an acquisition may match. This avoids testing each patch."""
    acquisition = ACQUISITIONS[number]
    if not interval[0] <= acquisition.moment <= interval[1]:
        return False
    if bounds is None:
        return True
    west, south, east, north = Polygon(acquisition.ring()).buffer(_CURVATURE).bounds
    return bool(bounds[0] <= east and bounds[2] >= west and bounds[1] <= north and bounds[3] >= south)


class HubListing(msgspec.Struct, frozen=True):
    """Answers `/collections/X/items` and `/search`. `echo_key` repeats all keys in `next` (staging)."""

    catalog: HubCatalog
    items: HubItems
    era: str = "2022"
    echo_key: bool = False

    def page(self, request: RequestInfo, collection: str) -> bytes | Stream:
        limit = _limit(request.parameter("limit"), self.era)
        bbox = request.parameter("bbox")
        sides = None if bbox is None else bbox.split(",")
        query = _query((collection,), {"bbox": sides, "datetime": request.parameter("datetime")})
        if self.era == "2021":
            return self._page_2021(request, query, limit)
        start = (0, 0)
        if (token := request.parameter("token")) is not None:
            start = self._start(token, query)
        shown, follows = self._found(query, start, limit)
        links: list[Any] = [*self.catalog.collection_links(collection)]
        if follows:
            last = self.items.item_id(*shown[-1])
            token = f"token=next:{last}" if self.echo_key else f"token=next%3A{quote(last)}"
            kept = f"limit={request.parameter('limit')}&" if request.parameter("limit") else ""
            href = f"{self._echoed(request, collection)}{kept}{_narrowing(request)}{token}"
            links.append({"rel": "next", "type": "application/json", "method": "GET", "href": href})
        return self._written(query, limit, shown, links)

    def search(self, request: RequestInfo) -> bytes | Stream:
        given = _body(request) if request.method == "POST" else _parameters(request)
        known = self.catalog.collection_ids()
        asked = given.get("collections") or known
        query = _query(tuple(name for name in known if name in asked), given)
        limit = _limit(None if given.get("limit") is None else str(given["limit"]), "2022")
        start = (0, 0) if given.get("token") is None else self._start(str(given["token"]), query)
        shown, follows = self._found(query, start, limit)
        href = f"{self.items.base}/search"
        links: list[JsonObject] = [
            {"rel": "root", "type": "application/json", "href": f"{self.items.base}/"},
            {"rel": "self", "type": "application/json", "href": href},
        ]
        if follows:
            token = f"next:{self.items.item_id(*shown[-1])}"
            link: JsonObject = {"rel": "next", "type": "application/geo+json", "method": request.method}
            if request.method == "POST":
                links.append(link | {"href": href, "body": {**given, "token": token}})
            else:
                kept = [(name, value) for name, value in request.query if name not in {"key", "token"}]
                links.append(link | {"href": f"{href}?{urlencode([*kept, ('token', token)])}"})
        return self._written(query, limit, shown, links)

    def _written(
        self, query: _Query, limit: int, shown: list[tuple[str, int]], links: list[Any]
    ) -> bytes | Stream:
        """Return a page of 2022; `matched` is left out if counting would test too many items."""
        context = {"limit": limit}
        if query.is_everything:
            context["matched"] = sum(map(self.items.count, query.collections))
        elif self.items.dataset.items <= COUNTED or query.ids is not None:
            context["matched"] = sum(1 for _ in self._matches(query))
        context["returned"] = len(shown)
        head = b'{"type":"FeatureCollection","context":%b,"features":[' % orjson.dumps(context)
        features = [self.items.item(collection, index) for collection, index in shown]
        return _enclosed(head, features, b'],"links":%b}' % orjson.dumps(links))

    def _page_2021(self, request: RequestInfo, query: _Query, limit: int) -> bytes | Stream:
        """Return a page without a total. Each but an empty one has a `next` link."""
        cursor = request.parameter("next")
        shown, _ = self._found(query, (0, 0 if cursor is None else _read_cursor(cursor)), limit)
        if not shown:
            return written({"features": [], "links": [], "type": "FeatureCollection"}, self.era)
        collection, last = shown[-1]
        here = f"{self._echoed(request, collection)}{_narrowing(request)}"
        place = _FIRST_SERIAL + last
        text = f'{{"timestampAtLeast":"2020-12-02T05:11:23.455819Z","serialIdGreaterThan":{place}}}'
        cursor = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
        href = f"{here}next={cursor}&limit={limit}"
        links = [{"href": href, "rel": "next", "title": None, "type": "application/json"}]
        features = [self.items.item(collection, index) for collection, index in shown]
        tail = b'],"links":%b,"type":"FeatureCollection"}' % orjson.dumps(links)
        return _enclosed(b'{"features":[', features, tail)

    def _echoed(self, request: RequestInfo, collection: str) -> str:
        """Return the start of an href. Staging added the keys of the request to its links on every page."""
        keys = [value for name, value in request.query if name == "key"] if self.echo_key else []
        query = "".join(f"key={quote(key)}&" for key in keys)
        return f"{self.items.base}/collections/{collection}/items?{query}"

    def _start(self, token: str, query: _Query) -> tuple[int, int]:
        direction, _, item_id = token.partition(":")
        for place, collection in enumerate(query.collections if direction == "next" else ()):
            index = self.items.index_of(collection, item_id)
            if index is not None:
                return place, index + 1
        raise Refused(400, f"Token {token} is not valid.")

    def _found(self, query: _Query, start: tuple[int, int], limit: int) -> tuple[list[tuple[str, int]], bool]:
        found = list(islice(self._matches(query, *start), limit + 1))
        return found[:limit], len(found) > limit

    def _matches(self, query: _Query, place: int = 0, first: int = 0) -> Iterator[tuple[str, int]]:
        for collection in query.collections[place:]:
            indices: Any = range(first, self.items.count(collection))
            if query.ids is not None:
                named = {self.items.index_of(collection, item_id) for item_id in query.ids}
                indices = sorted(index for index in named if index is not None and index >= first)
            for index in indices:
                if query.is_everything or self._holds(query, collection, index):
                    yield collection, index
            first = 0

    def _holds(self, query: _Query, collection: str, index: int) -> bool:
        if collection == LARGE_COLLECTION:
            return query.area is None
        dataset, area = self.items.dataset, query.area
        bounds = None if area is None else area.bounds
        if not _may_match(dataset.acquisition_of(index), query.interval, bounds):
            return False
        return area is None or bool(area.intersects(Polygon(dataset.site(index).ring())))


def _query(collections: tuple[str, ...], given: Mapping[str, Any]) -> _Query:
    try:
        area = read_area(given.get("bbox"), given.get("intersects"))
        interval = read_interval(given.get("datetime"))
    except QueryError as error:
        raise Refused(400, str(error)) from error
    return _Query(collections, area, interval, tuple(given["ids"]) if given.get("ids") else None)


def _limit(text: str | None, era: str) -> int:
    if text is None:
        return _DEFAULT_LIMIT[era]
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_LIMIT:
        message = f"ensure this value is between 1 and {MAX_LIMIT}"
        raise Refused(400, [{"loc": ["query", "limit"], "msg": message, "type": "value_error"}])
    return int(text)


def _enclosed(head: bytes, features: list[bytes], tail: bytes) -> bytes | Stream:
    """Return a page: in one piece if it is small, otherwise a stream that joins it while it is sent."""
    parts = [b","] * max(2, 2 * len(features) + 1)
    parts[1:-1:2] = features
    parts[0], parts[-1] = head, tail
    return in_parts(parts)


def _narrowing(request: RequestInfo) -> str:
    kept = [(name, value) for name, value in request.query if name in {"bbox", "datetime"}]
    return f"{urlencode(kept)}&" if kept else ""


def _read_cursor(cursor: str) -> int:
    try:
        document = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        return max(0, int(document["serialIdGreaterThan"]) - _FIRST_SERIAL + 1)
    except (binascii.Error, ValueError, KeyError, TypeError) as error:
        raise Refused(400, "The cursor is not valid.") from error


def _parameters(request: RequestInfo) -> dict[str, Any]:
    given: dict[str, Any] = dict(request.query)
    for name in ("collections", "ids", "bbox"):
        if name in given:
            given[name] = given[name].split(",")
    if "intersects" in given:
        given["intersects"] = _parsed(given["intersects"])
    return given


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
