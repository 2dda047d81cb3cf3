"""Item pages of the hub: limits, cursors, links, and any page of any length without walking there.

In 2022 a cursor is `next:<last id>`, which leads to an index in constant time; in 2021 it is base64 of a time
and a serial number, no page has totals, and the last one leads to an empty one.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from itertools import islice
from typing import Any
from urllib.parse import quote, urlencode

import orjson

from stacpull_replicas.hub_catalog import HubCatalog
from stacpull_replicas.hub_items import HubItems
from stacpull_replicas.hub_place import ANYWHERE, COUNTED, SpaceAndTime
from stacpull_replicas.hub_replies import Refused, written
from stacpull_replicas.wire import Request, Stream, in_parts

MAX_LIMIT = 10_000
_DEFAULT_LIMIT = {"2022": 10, "2021": 30}
_FIRST_SERIAL = 6_000_000


def read_limit(text: str | None, era: str) -> int:
    """The page size that was asked for. Raises Refused."""
    if text is None:
        return _DEFAULT_LIMIT[era]
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_LIMIT:
        message = f"ensure this value is between 1 and {MAX_LIMIT}"
        raise Refused(400, [{"loc": ["query", "limit"], "msg": message, "type": "value_error"}])
    return int(text)


def feature_collection(limit: int, matched: int | None, features: list[bytes], links: Any) -> bytes | Stream:
    """A page of 2022, whose items are JSON already; `matched` is left out where it is None."""
    context = {"limit": limit, "matched": matched, "returned": len(features)}
    if matched is None:
        del context["matched"]
    head = b'{"type":"FeatureCollection","context":%b,"features":[' % orjson.dumps(context)
    return _enclosed(head, features, b'],"links":%b}' % orjson.dumps(links))


def _enclosed(head: bytes, features: list[bytes], tail: bytes) -> bytes | Stream:
    """A page: in one piece if it is small enough for that, otherwise put together while it is sent."""
    parts = [b","] * max(2, 2 * len(features) + 1)
    parts[1:-1:2] = features
    parts[0], parts[-1] = head, tail
    return in_parts(parts)


@dataclass(frozen=True)
class HubPages:
    """Answers `/collections/X/items`. With `echo_key`, `next` repeats every key that came (staging, 2021)."""

    catalog: HubCatalog
    items: HubItems
    key: str
    era: str = "2022"
    echo_key: bool = False

    def page(self, request: Request, collection: str) -> bytes | Stream:
        """The page that was asked for. Raises Refused."""
        limit = read_limit(request.parameter("limit"), self.era)
        found = _Found.of(request, self.items, collection)
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

    def _indices(self, request: Request, found: _Found, limit: int) -> list[int]:
        """Return the indices of the items on the page. Raises Refused."""
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
        self, request: Request, collection: str, indices: list[int], limit: int
    ) -> list[dict[str, Any]]:
        """The `next` of a page that has something: so the last one leads to an empty one."""
        if not indices:
            return []
        query = f"{self._echoed(request)}{_narrowing(request)}next={_cursor(indices[-1])}&limit={limit}"
        href = f"{self.items.base}/collections/{collection}/items?{query}"
        return [{"href": href, "rel": "next", "title": None, "type": "application/json"}]

    def _echoed(self, request: Request) -> str:
        """The keys of the request, as the staging service put them into its links: one more on every page."""
        if not self.echo_key:
            return ""
        return "".join(f"key={quote(value)}&" for name, value in request.query if name == "key")

    def _turns(self, request: Request, found: _Found, indices: list[int]) -> list[dict[str, str]]:
        """The links `next` (without the key) and `previous` (which kept it even in 2022)."""
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
class _Found:
    """The items of a collection that a request asks for."""

    items: HubItems
    collection: str
    place: SpaceAndTime

    @classmethod
    def of(cls, request: Request, items: HubItems, collection: str) -> _Found:
        """Return those that lie in the `bbox` and `datetime` of a request. Raises Refused."""
        bbox = request.parameter("bbox")
        sides = None if bbox is None else bbox.split(",")
        return cls(items, collection, SpaceAndTime.asked(bbox=sides, datetime=request.parameter("datetime")))

    def after(self, index: int, number: int) -> list[int]:
        """Return the next so many indices after one."""
        return self._first(range(index + 1, self.items.count(self.collection)), number)

    def before(self, index: int, number: int) -> list[int]:
        """Return the last so many indices before one, in order."""
        return self._first(range(index - 1, -1, -1), number)[::-1]

    def count(self) -> int | None:
        """Return how many there are; None where that would mean to look at very many."""
        everything = range(self.items.count(self.collection))
        if self.place == ANYWHERE:
            return len(everything)
        return len(self._first(everything, len(everything))) if len(everything) <= COUNTED else None

    def _first(self, indices: range, number: int) -> list[int]:
        if self.place == ANYWHERE:
            return list(indices[:number])
        matching = (index for index in indices if self.place.holds(self.items, self.collection, index))
        return list(islice(matching, number))


def _narrowing(request: Request) -> str:
    """Return the parameters that every page of a request repeats, each with an ampersand behind it."""
    kept = [(name, value) for name, value in request.query if name in {"bbox", "datetime"}]
    return f"{urlencode(kept)}&" if kept else ""


def _cursor(last: int) -> str:
    """The cursor of 2021: base64 of a JSON object with a time and a serial number, unpadded."""
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
